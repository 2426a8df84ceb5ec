"""Trains a system on Lightning: devices, precision, several processes, checkpoints, log and validation around its
steps.

A run is a function of its configuration, data and seed: the batches and random numbers of a step depend on the
step alone, so that a run that was killed and goes on ends with the weights of one that was not (on one machine's
CPU to the last bit; GPUs add in an order of their own).
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from kouros.body.model import BodyModel
from kouros.data.sources import Source, require_fields
from kouros.sentences import first_line
from kouros.systems.batches import Batches
from kouros.systems.system import CropSystem, System, SystemConfig
from kouros.systems.table import system_name
from kouros.training.averaging import WeightAverage
from kouros.training.checkpoints import CheckpointKeeper, WholeFiles
from kouros.training.config_json import to_json
from kouros.training.features import Look, cached, repeated
from kouros.training.judging import Scores
from kouros.training.lightning_import import (
    DDPStrategy,
    SLURMEnvironment,
    TensorBoardLogger,
    TorchElasticEnvironment,
    Trainer,
    quiet,
)
from kouros.training.module import SystemModule
from kouros.training.options import EngineOptions, TrainingError
from kouros.training.reporting import Reporter, Validation
from kouros.training.runs import (
    RunFolder,
    note_environment,
    read_config,
    read_run_state,
    write_config,
)
from kouros.training.starting import Taken, read_starts, start_from
from kouros.training.steps import NumberedBatch, plain_batches, step_batches
from kouros.training.weights import load_archive, save_archive

_UNCHANGED_OPTIONS = (
    "batch_size", "accumulate", "precision", "schedule", "warmup", "clip", "ema", "hold_backbone", "seed"
)  # fmt: skip
"""Those that a run's outcome depends on; the others may change when it goes on."""
_SAVE_FITS_EVERY = 60.0
"""Seconds between saves of the first fits."""


@dataclass(frozen=True)
class TrainingData:
    """What to learn from, and what to be judged by."""

    sources: Sequence[Source]
    ratios: Sequence[float] | None = None
    """Share of each source in every batch; None: as the system has it, mostly by their numbers of samples."""
    validation: Mapping[str, Source] = field(default_factory=dict)
    """Sets to be judged by, by name; the best weights are chosen by the first."""
    names: Sequence[str] = ()
    """Where the sources are from, for the run's configuration: paths."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    loss: float
    """Of the last step logged; NaN where none was."""
    seconds: float
    """Of this start."""
    scores: Mapping[str, Scores]
    """The last ones, by validation set."""
    best_score: float | None


def train(
    config: SystemConfig,
    body: BodyModel,
    data: TrainingData,
    out: str | Path,
    options: EngineOptions,
    *,
    start: str | Path | None = None,
    resume: bool = False,
    body_path: str | Path | None = None,
) -> Outcome:
    """Train a system into the folder of a run.

    Args:
        config: which system, and how it is made.
        body: that it is of.
        out: the run's folder; see `kouros.training.runs`.
        start: a run, or its weights, of the same configuration, to begin with.
        resume: go on where a run in ``out`` stopped; where there is none, begin one.
        body_path: where the body is from, if it is not the packaged one.

    Raises:
        ValueError: options or data that do not fit, a folder that holds another run.
        TrainingError: the run cannot go on: a loss that is not finite, no room for a checkpoint.
        OSError: a file cannot be read or written.
        KeyboardInterrupt: it was interrupted; the last checkpoint is there.
    """
    options.check()
    quiet()
    run = RunFolder(Path(out))
    torch.manual_seed(options.seed)
    system = config.build(body, sum(len(s) for s in data.sources))
    _require_fields(system, data)
    if options.accumulate > 1 and options.precision == "16-mixed" and len(system.optimizers()) > 1:
        raise ValueError("--accumulate in 16-mixed precision is for systems of one optimizer; choose bf16-mixed.")
    if options.hold_backbone:
        if not isinstance(system, CropSystem):
            raise ValueError(f"{type(system).__name__} looks at no crops, so it has no backbone to hold.")
        system.hold_backbone()
    name = system_name(type(config))
    described = _described(data, options, start, body_path)
    checkpoint = _newest_of_this(run, config, described, resume)
    taken: list[Taken] = []
    if checkpoint is None:
        taken = read_starts(system, None if start is None else Path(start))
    _write_folder(run, config, described, taken)
    steps_done = 0 if checkpoint is None else read_run_state(checkpoint, name)["steps"]
    if steps_done >= options.max_steps:
        return Outcome(steps_done, float("nan"), 0.0, {}, read_run_state(run.last, name)["best_score"])

    module = RunModule(system, name, options, data, run, taken)
    reporter, files = Reporter(), WholeFiles()
    callbacks: list[Any] = [reporter, CheckpointKeeper(run, files)]
    validation = Validation(data.validation, reporter)
    if data.validation:
        callbacks.insert(1, validation)
    trainer = _trainer(run, options, len(system.optimizers()), callbacks, files, steps_done)
    began = time.monotonic()
    with _interrupts_pass(trainer), _failures_explained(), contextlib.closing(reporter):
        trainer.fit(module, ckpt_path=None if checkpoint is None else str(checkpoint))
    return Outcome(module.steps_done, reporter.loss, time.monotonic() - began, validation.scores, module.best_score)


class RunModule(SystemModule):
    """A system with the data of its run."""

    def __init__(
        self,
        system: System,
        name: str,
        options: EngineOptions,
        data: TrainingData,
        run: RunFolder,
        taken: Sequence[Taken],
    ) -> None:
        super().__init__(system, name, options)
        self._data = data
        self._run = run
        self._taken = taken

    def train_dataloader(self) -> Iterable[NumberedBatch]:
        """Batches from the step that is next."""
        options, place = self.options, {"rank": self.global_rank, "world": self.trainer.world_size}
        batches, sources = self.system.batches, self._data.sources
        if options.cache_features is not None:
            batches = self._cached(options.cache_features)
        stream = batches.stream(sources, self._data.ratios, options.batch_size, options.seed, **place)
        return step_batches(stream, self.steps_done, options.max_steps, options.workers)

    def _cached(self, folder: Path) -> Batches:
        options, sources = self.options, self._data.sources
        if options.cached_batches:
            look = Look(options.batch_size, options.seed, self._data.ratios, self.global_rank, self.trainer.world_size)
            return repeated(self.system, sources, folder, options.cached_batches, look, self.device, options.workers)
        return cached(self.system, sources, folder, self.device, options.batch_size, options.workers)

    def on_fit_start(self) -> None:
        """Let a system that wants to prepare itself see the samples, before the first step of a new run."""
        super().on_fit_start()
        self._hear_who_asks_to_leave()
        if self.trainer.ckpt_path is not None:
            return
        self.system.begin(self._samples())
        start_from(self.system, self._taken)  # which counts more than what the system begins with by itself
        self._taken = ()
        self.begun = self.system.best_fits is not None  # first fits are worth a checkpoint
        if self.average:
            self.average = WeightAverage(self.system, self.options.ema)

    def _hear_who_asks_to_leave(self) -> None:
        """Not Lightning's way, which talks to the other processes in the middle of what they are saying."""

        def heard(sign: int, _: object) -> None:
            launcher = self.trainer.strategy.launcher
            if launcher is not None and not self.asked_to_leave:
                launcher.kill(sign)  # passes it on to the processes that it has started
            self.asked_to_leave = True

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, heard)

    def on_train_start(self) -> None:
        """Lightning has put its own way of hearing in place after `on_fit_start`."""
        self._hear_who_asks_to_leave()

    def _samples(self) -> Iterator[Any]:
        """This process's share of all samples, without their pictures, in as many batches as every other's.

        What the system has made of them is saved from time to time, and a run that was broken off goes on from there.
        """
        first, number, rank, world = 0, 0, self.global_rank, self.trainer.world_size
        size = max(1, self.options.batch_size // world)
        done, saved = self._begun_before(size * world), time.monotonic()
        if self.trainer.is_global_zero:
            total = sum(len(s) for s in self._data.sources)
            print(f"looking at all {total} samples before the first step", file=sys.stderr, flush=True)
        for source in self._data.sources:
            share = -(-len(source) // world)
            # The last process goes round to the first samples again: all must bring equally many batches.
            rows = [i % len(source) for i in range(rank * share, (rank + 1) * share)]
            skipped = min(max(0, done - number), -(-share // size))
            number += skipped
            batches = plain_batches(
                self.system.batches, source, rows[skipped * size :], size, self.options.workers, pictures=False
            )
            for batch in batches:
                yield _numbered_from(batch.to(self.device), first)
                number += 1
                leaving = self._all_leave()
                if self.trainer.is_global_zero and (leaving or time.monotonic() - saved > _SAVE_FITS_EVERY):
                    self._save_beginning(number, size * world)
                    saved = time.monotonic()
                if leaving:
                    raise SystemExit(128 + signal.SIGTERM)
            first += len(source)

    def _begun_before(self, people: int) -> int:
        """Batches of so many people that a run which was broken off in here has seen; takes over what it made."""
        fits = self.system.best_fits
        if fits is None or not self._run.beginning.exists():
            return 0
        state = load_archive(self._run.beginning)
        if state["people"] != people:  # other batches: what is fitted stays fitted, but all are looked at
            state["batches"] = 0
        fits.load_state_dict(state["best_fits"])
        return int(state["batches"])

    def _save_beginning(self, batches: int, people: int) -> None:
        fits = self.system.best_fits
        if fits is not None:
            state = {"batches": batches, "people": people, "best_fits": fits.state_dict()}
            save_archive(self._run.beginning, state)

    def _all_leave(self) -> bool:
        """Whether anybody has been asked to."""
        if self.trainer.world_size == 1:
            return self.asked_to_leave
        asked = torch.tensor(self.asked_to_leave, dtype=torch.float32, device=self.device)
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return bool(asked)


def _numbered_from(batch: Any, first: int) -> Any:
    """A source's batch, its samples counted among those of the run; where they have numbers."""
    return replace(batch, index=batch.index + first) if hasattr(batch, "index") else batch


def _trainer(
    run: RunFolder, options: EngineOptions, optimizers: int, callbacks: list[Any], files: WholeFiles, steps_done: int
) -> Trainer:
    devices, nodes = options.devices, options.nodes
    plugins: list[Any] = [files]
    if TorchElasticEnvironment.detect():
        # torchrun has decided already.
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif SLURMEnvironment.detect():
        # Jobs that are queued again go on with --resume; Lightning's own files for that would be in the way.
        plugins.append(SLURMEnvironment(auto_requeue=False))
    if options.batch_size % (devices * nodes * options.accumulate):
        parts = f" in {options.accumulate} parts" if options.accumulate > 1 else ""
        raise ValueError(
            f"--batch-size {options.batch_size} cannot be shared equally among {devices * nodes} processes{parts}; "
            "choose a multiple."
        )
    strategy: Any = "auto"
    if devices * nodes > 1:
        # Buffers differ only where running statistics do, of which the first process's are kept and judged.
        strategy = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    logger = TensorBoardLogger(run.path, name="", version="logs", default_hp_metric=False, purge_step=steps_done + 1)
    return Trainer(
        accelerator=options.accelerator,
        devices=devices,
        num_nodes=nodes,
        precision=options.precision if options.precision != "32" else "32-true",
        strategy=strategy,
        # Lightning counts the steps of all optimizers.
        max_steps=options.max_steps * optimizers,
        max_epochs=-1,
        default_root_dir=run.path,
        logger=logger,
        callbacks=callbacks,
        plugins=plugins,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _require_fields(system: System, data: TrainingData) -> None:
    if not data.sources:
        raise ValueError("there is nothing to train on; name at least one data set.")
    names = data.names or [f"data set {i}" for i in range(len(data.sources))]
    require_fields(data.sources, system.needs, names, type(system).__name__)
    for name, source in data.validation.items():
        require_fields([source], (), [name])
        if not any(source.has(field) for field in system.judged_by):
            raise ValueError(f"{name} has neither {' nor '.join(system.judged_by)}; nothing can be judged by it.")


def _described(
    data: TrainingData, options: EngineOptions, start: str | Path | None, body_path: str | Path | None
) -> dict[str, Any]:
    """All that a run was told, but for its system, as JSON."""
    return {
        "data": {
            "sources": [str(n) for n in data.names],
            "samples": [len(s) for s in data.sources],
            "ratios": None if data.ratios is None else [float(r) for r in data.ratios],
            "validation": list(data.validation),
        },
        "body": None if body_path is None else str(body_path),
        "start": None if start is None else str(start),
        "options": to_json(options),
    }


def _newest_of_this(run: RunFolder, config: SystemConfig, described: dict[str, Any], resume: bool) -> Path | None:
    """The checkpoint to go on from, if there is one."""
    checkpoint = run.newest()
    begun = checkpoint is not None or run.beginning.exists()
    if begun and not resume:
        raise ValueError(f"{run.path} holds a run already; add --resume to go on with it, or choose another --out.")
    if begun:
        _require_same(run, config, described)
    elif run.weights.exists():
        raise ValueError(
            f"{run.path} holds weights without checkpoints, which nothing can go on from; choose another --out, and "
            f"begin with them by --start {run.weights}."
        )
    return checkpoint


def _write_folder(run: RunFolder, config: SystemConfig, described: dict[str, Any], taken: Sequence[Taken]) -> None:
    """Write what the run was told, and what it begins with."""
    if first_process():
        run.path.mkdir(parents=True, exist_ok=True)
        run.tidy()
        began = [t.described for t in taken]
        if not began and run.config.exists():
            began = read_config(run).get("began_with", [])
        write_config(run, config, described | {"began_with": began})
        note_environment(run)
        for each in taken:
            print(each, file=sys.stderr, flush=True)


def _require_same(run: RunFolder, config: SystemConfig, described: dict[str, Any]) -> None:
    before = read_config(run)
    unchanged = [*_UNCHANGED_OPTIONS, *(["max_steps"] if described["options"]["schedule"] != "constant" else [])]
    pairs = [("system", before["system"], system_name(type(config))), ("body", before["body"], described["body"])]
    # Runs of an earlier kouros had fewer options.
    options_before = asdict(EngineOptions(max_steps=0)) | before["options"]
    pairs += [(f"--{k.replace('_', '-')}", options_before[k], described["options"][k]) for k in unchanged]
    pairs += _differences("config", before["config"], to_json(config))
    # Runs of an earlier kouros told of their crops there, which are in the system's own configuration now.
    learned = ({k: v for k, v in d["data"].items() if k not in ("validation", "crops")} for d in (before, described))
    pairs += _differences("data", *learned)
    for name, old, new in pairs:
        if old != new:
            raise ValueError(
                f"{run.path} was trained with {name} {old}, now asked for {new}; repeat the options that it began "
                "with, or choose another --out."
            )


def _differences(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(old.keys() | new.keys())
        return [d for k in keys for d in _differences(f"{name}.{k}", old.get(k), new.get(k))]
    return [] if old == new else [(name, old, new)]


def first_process() -> bool:
    """Whether this is the process that writes, also before Lightning has counted them."""
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"))


@contextlib.contextmanager
def _failures_explained() -> Iterator[None]:
    """What users can do something about, of all that torch reports as a failure at run time."""
    remedies = {
        "out of memory": "choose a smaller --batch-size or --crop-size, or --precision bf16-mixed",
        "DataLoader worker": "choose fewer --workers; in a container, give it more shared memory",
    }
    try:
        yield
    except RuntimeError as error:
        remedy = next((remedies[sign] for sign in remedies if sign in str(error)), None)
        if remedy is None or isinstance(error, TrainingError):
            raise
        raise TrainingError(
            f"{first_line(error)} To go on, {remedy}; --resume takes up the last checkpoint."
        ) from error


@contextlib.contextmanager
def _interrupts_pass(trainer: Trainer) -> Iterator[None]:
    """Lightning turns an interrupt into an exit, which whoever called `train` may want to do something about. What is
    done on signals afterwards is what was done before."""
    handler, leaving = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as left:
        if trainer.interrupted and left.code == 1:
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, leaving)


__all__ = ["EngineOptions", "Outcome", "TrainingData", "TrainingError", "first_process", "train"]
