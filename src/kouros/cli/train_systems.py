"""``kouros train SYSTEM``: systems, by the engine.

Loaded only where somebody asks for them, because the systems' own dataclasses are their options.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kouros.cli.outputs import check_out
from kouros.cli.sources import open_source
from kouros.cli.usage import Flag, UsageError
from kouros.sentences import explained
from kouros.systems.system import SystemConfig
from kouros.systems.table import SystemEntry
from kouros.training.options import EngineOptions, TrainingError

if TYPE_CHECKING:
    from kouros.training.engine import Outcome


@dataclass(frozen=True)
class _TrainSystem:
    """What all systems are told."""

    data: tuple[Path, ...]
    """Annotation tables (.parquet), folders of synthetic people, motion capture; mixed in every batch."""
    out: Path
    """Folder of the run."""
    ratios: tuple[float, ...] = ()
    """Share of each data set in every batch; without them, by their numbers of samples."""
    val: tuple[Path, ...] = ()
    """Tables or folders to be judged by; must not be learned from. The best weights are kept by the first."""
    resume: Flag = False
    """Go on where the run in --out stopped; begin one where there is none."""
    start: Path | None = None
    """A run of the same configuration, packed or not, or its weights.pt, to begin with."""
    body: Path | None = None
    """A licensed SMPL file (.pkl or .npz); without it the free body."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        config: SystemConfig = self.system  # type: ignore[attr-defined]
        engine: EngineOptions = self.engine  # type: ignore[attr-defined]
        if self.ratios and len(self.ratios) != len(self.data):
            raise UsageError(f"--ratios has {len(self.ratios)} numbers for {len(self.data)} data sets; give one each.")
        if self.ratios and not (min(self.ratios) >= 0 and 0 < math.fsum(self.ratios) < math.inf):
            raise UsageError("--ratios must be 0 or more, and not all 0.")
        if engine.accelerator == "gpu":
            import torch

            found = torch.cuda.device_count()
            if not found:
                raise UsageError("--accelerator gpu: torch finds no GPU; leave it out to train on the CPU.")
            if engine.devices > found:
                raise UsageError(f"--devices {engine.devices}: torch finds {found} here.")
        try:
            engine.check()
        except ValueError as error:
            raise UsageError(str(error)) from None
        check_out(self.out)
        from kouros.training.engine import first_process

        try:
            outcome = self._run(config, engine)
        except (OSError, ValueError, ImportError, TrainingError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        if first_process():
            print(_summary(outcome, self.out))
        return 0

    def _run(self, config: SystemConfig, engine: EngineOptions) -> "Outcome":
        from kouros.body.files import load_body
        from kouros.training.engine import TrainingData, train

        data = TrainingData(
            sources=[open_source(path) for path in self.data],
            ratios=self.ratios or None,
            validation=dict(zip(_names(self.val), [open_source(path, "val") for path in self.val], strict=True)),
            names=[str(path) for path in self.data],
        )
        body_path = self.body and self.body.resolve()
        return train(
            config, load_body(self.body), data, self.out, engine,
            start=self.start, resume=self.resume, body_path=body_path,
        )  # fmt: skip


def command_for(entry: SystemEntry, stand_in: type) -> type[_TrainSystem]:
    """The command that trains a system: its own configuration beside what all systems are told.

    Args:
        stand_in: the class that has the command's place while nobody asks for it.
    """
    config = entry.config_type
    engine = EngineOptions(**asdict(config.recipe))
    flat = tyro.conf.arg(name="")
    options = [
        ("engine", Annotated[EngineOptions, flat], field(default=engine)),
        ("system", Annotated[config, flat], field(default_factory=config)),
    ]
    made = make_dataclass(
        f"Train{entry.config.removesuffix('Config')}",
        options,
        bases=(_TrainSystem, stand_in),
        frozen=True,
        kw_only=True,
    )
    made.__doc__ = f"Train {entry.title}: {entry.summary}."
    return made


def _names(paths: Sequence[Path]) -> list[str]:
    """Short names of validation sets, where they tell them apart."""
    short = [path.stem for path in paths]
    return short if len(set(short)) == len(short) else [str(path) for path in paths]


def _summary(outcome: "Outcome", out: Path) -> str:
    parts = [f"{outcome.steps} steps in {outcome.seconds / 60:.1f} min" if outcome.seconds else "was complete already"]
    if math.isfinite(outcome.loss):
        parts.append(f"loss {outcome.loss:.4g}")
    for name, scores in outcome.scores.items():
        parts.append(str(scores) if len(outcome.scores) == 1 else f"{name}: {scores}")
    return f"trained: {', '.join(parts)}; wrote {out / 'weights.pt'}"
