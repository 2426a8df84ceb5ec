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
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kouros.body.model import BodyModel
from kouros.data.batch import Batch
from kouros.data.dense import Wants
from kouros.data.sources import Source
from kouros.data.stream import StreamConfig
from kouros.data.table_source import require_fields
from kouros.sentences import first_line
from kouros.systems.system import System
from kouros.training.averaging import WeightAverage
from kouros.training.checkpoints import CheckpointKeeper, WholeFiles
from kouros.training.config_json import to_json
from kouros.training.judging import Judge, Scores
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
    SystemConfig,
    note_environment,
    read_config,
    read_run_state,
    system_name,
    write_config,
)
from kouros.training.steps import MakeStream, Mixed, NumberedBatch, plain_batches, step_batches
from kouros.training.weights import load_learned, read_weights

_JUDGED_BY = ("keypoints_3d", "keypoints_2d")
_UNCHANGED_OPTIONS = ("batch_size", "precision", "schedule", "warmup", "clip", "ema", "seed")
"""Those that a run's outcome depends on; the others may change when it goes on."""


@dataclass(frozen=True)
class TrainingData:
    """What to learn from, and what to be judged by."""

    sources: Sequence[Source]
    ratios: Sequence[float] | None = None
    """Share of each source in every batch; None: by their numbers of samples."""
    validation: Source | None = None
    names: Sequence[str] = ()
    """Where the sources are from, for the run's configuration: paths."""
    validation_name: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    steps: int
    loss: float
    """Of the last step logged; NaN where none was."""
    seconds: float
    """Of this start."""
    scores: Scores | None
    best_score: float | None


def train(
    config: SystemConfig,
    body: BodyModel,
    data: TrainingData,
    out: str | Path,
    options: EngineOptions,
    *,
    stream: StreamConfig | None = None,
    make_stream: MakeStream | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    body_path: str | Path | None = None,
) -> Outcome:
    """Train a system into the folder of a run.

    Args:
        config: which system, and how it is made.
        body: that it is of.
        out: the run's folder; see `kouros.training.runs`.
        stream: how crops are made; default: as SPIN makes them. Crop size and seed are the system's and the engine's.
        make_stream: makes batches in place of `kouros.data.stream`'s.
        start: weights to begin with, of the same configuration.
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
    name = system_name(type(config))
    crops = replace(stream or StreamConfig(), crop_size=system.crop_size, seed=options.seed)
    make_stream = make_stream or Mixed(data.ratios, options.batch_size, crops)
    described = _described(data, crops, options, start, body_path)
    checkpoint = _prepare_folder(run, config, described, resume)
    steps_done = 0 if checkpoint is None else read_run_state(checkpoint, name)["steps"]
    begin_with = None
    if start is not None and checkpoint is None:
        begin_with = read_weights(Path(start)).tensors
        load_learned(system, begin_with, str(start))
    if steps_done >= options.max_steps:
        return Outcome(steps_done, float("nan"), 0.0, None, read_run_state(run.last, name)["best_score"])

    module = RunModule(system, name, options, data, make_stream, begin_with)
    reporter, files = Reporter(body), WholeFiles()
    callbacks: list[Any] = [reporter, CheckpointKeeper(run, files)]
    validation = None
    if data.validation is not None:
        judge = Judge(data.validation, body, system.crop_size, options.batch_size, options.workers)
        validation = Validation(judge, reporter)
        callbacks.insert(1, validation)
    trainer = _trainer(run, options, len(system.optimizers()), callbacks, files, steps_done)
    began = time.monotonic()
    with _interrupts_pass(trainer), _failures_explained(), contextlib.closing(reporter):
        trainer.fit(module, ckpt_path=None if checkpoint is None else str(checkpoint))
    scores = validation.scores if validation else None
    return Outcome(module.steps_done, reporter.loss, time.monotonic() - began, scores, module.best_score)


class RunModule(SystemModule):
    """A system with the data of its run."""

    def __init__(
        self,
        system: System,
        name: str,
        options: EngineOptions,
        data: TrainingData,
        make_stream: MakeStream,
        begin_with: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(system, name, options)
        self._data = data
        self._make_stream = make_stream
        self._begin_with = begin_with

    def train_dataloader(self) -> Iterable[NumberedBatch]:
        """Batches from the step that is next."""
        stream = self._make_stream(self._data.sources, self.global_rank, self.trainer.world_size)
        return step_batches(stream, self.steps_done, self.options.max_steps, self.options.workers)

    def on_fit_start(self) -> None:
        """Let a system that wants to prepare itself see the samples, before the first step of a new run."""
        super().on_fit_start()
        if self.trainer.ckpt_path is not None:
            return
        self.system.begin(self._samples())
        if self._begin_with is not None:  # they count more than what the system begins with by itself
            load_learned(self.system, self._begin_with, "the weights to begin with")
            self._begin_with = None
        self.begun = self.system.best_fits is not None  # first fits are worth a checkpoint
        if self.average:
            self.average = WeightAverage(self.system, self.options.ema)

    def _samples(self) -> Iterator[Batch]:
        """This process's share of all samples, without their pictures, in as many batches as every other's."""
        first, rank, world = 0, self.global_rank, self.trainer.world_size
        if self.trainer.is_global_zero:
            total = sum(len(s) for s in self._data.sources)
            print(f"looking at all {total} samples before the first step", file=sys.stderr, flush=True)
        size = max(1, self.options.batch_size // world)
        for source in self._data.sources:
            share = -(-len(source) // world)
            # The last process goes round to the first samples again: all must bring equally many batches.
            rows = [i % len(source) for i in range(rank * share, (rank + 1) * share)]
            crop_size, workers = self.system.crop_size, self.options.workers
            for batch in plain_batches(source, rows, crop_size, size, workers, Wants(image=False)):
                yield _numbered_from(batch.to(self.device), first)
            first += len(source)


def _numbered_from(batch: Batch, first: int) -> Batch:
    return replace(batch, index=batch.index + first)


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
    if options.batch_size % (devices * nodes):
        raise ValueError(
            f"--batch-size {options.batch_size} cannot be shared equally among {devices * nodes} processes; "
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
    if data.validation is not None:
        name = data.validation_name or "the validation set"
        require_fields([data.validation], (), [name])
        if not any(data.validation.has(field) for field in _JUDGED_BY):
            raise ValueError(f"{name} has neither {' nor '.join(_JUDGED_BY)}; nothing can be judged by it.")


def _described(
    data: TrainingData,
    crops: StreamConfig,
    options: EngineOptions,
    start: str | Path | None,
    body_path: str | Path | None,
) -> dict[str, Any]:
    """All that a run was told, but for its system, as JSON."""
    return {
        "data": {
            "sources": [str(n) for n in data.names],
            "samples": [len(s) for s in data.sources],
            "ratios": None if data.ratios is None else [float(r) for r in data.ratios],
            "validation": data.validation_name,
            "crops": to_json(crops),
        },
        "body": None if body_path is None else str(body_path),
        "start": None if start is None else str(start),
        "options": asdict(options),
    }


def _prepare_folder(run: RunFolder, config: SystemConfig, described: dict[str, Any], resume: bool) -> Path | None:
    """Write what the run was told; returns the checkpoint to go on from, if there is one."""
    checkpoint = run.newest()
    if checkpoint is not None and not resume:
        raise ValueError(f"{run.path} holds a run already; add --resume to go on with it, or choose another --out.")
    if checkpoint is not None:
        _require_same(run, config, described)
    elif run.weights.exists():
        raise ValueError(
            f"{run.path} holds weights without checkpoints, which nothing can go on from; choose another --out, and "
            f"begin with them by --start {run.weights}."
        )
    if first_process():
        run.path.mkdir(parents=True, exist_ok=True)
        run.tidy()
        write_config(run, config, described)
        note_environment(run)
    return checkpoint


def _require_same(run: RunFolder, config: SystemConfig, described: dict[str, Any]) -> None:
    before = read_config(run)
    unchanged = [*_UNCHANGED_OPTIONS, *(["max_steps"] if described["options"]["schedule"] != "constant" else [])]
    pairs = [("system", before["system"], system_name(type(config))), ("body", before["body"], described["body"])]
    # Runs of an earlier kouros had fewer options.
    options_before = asdict(EngineOptions(max_steps=0)) | before["options"]
    pairs += [(f"--{k.replace('_', '-')}", options_before[k], described["options"][k]) for k in unchanged]
    pairs += _differences("config", before["config"], to_json(config))
    without_validation = ({k: v for k, v in d["data"].items() if k != "validation"} for d in (before, described))
    pairs += _differences("data", *without_validation)
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
    """Lightning turns an interrupt into an exit, which whoever called `train` may want to do something about; and
    what ends a process into an exit that looks like success."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM) from None
        if trainer.interrupted:
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
        raise


__all__ = ["EngineOptions", "Outcome", "TrainingData", "TrainingError", "first_process", "train"]
