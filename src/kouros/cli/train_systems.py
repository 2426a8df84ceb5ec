"""``kouros train SYSTEM``: systems from pictures, by the engine.

Loaded only where somebody asks for them, because the systems' own dataclasses are their options.
"""

import math
import sys
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kouros.cli.sources import open_source
from kouros.cli.usage import Flag, UsageError
from kouros.data.augment import AugmentConfig
from kouros.systems.system import SystemConfig
from kouros.systems.table import SystemEntry
from kouros.training.options import EngineOptions, TrainingError

if TYPE_CHECKING:
    from kouros.training.engine import Outcome


@dataclass(frozen=True)
class _TrainSystem:
    """What all systems are told."""

    data: tuple[Path, ...]
    """Annotation tables (.parquet) and folders of synthetic people, mixed in every batch."""
    out: Path
    """Folder of the run."""
    engine: Annotated[EngineOptions, tyro.conf.arg(name="")]
    """Steps, devices, and what is kept."""
    ratios: tuple[float, ...] = ()
    """Share of each data set in every batch; without them, by their numbers of samples."""
    val: Path | None = None
    """Table or folder to be judged by; must not be learned from."""
    resume: Flag = False
    """Go on where the run in --out stopped; begin one where there is none."""
    start: Path | None = None
    """Weights (weights.pt) to begin with."""
    body: Path | None = None
    """A licensed SMPL file (.pkl or .npz); without it the free body."""

    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How crops are changed; as SPIN does."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        config: SystemConfig = self.system  # type: ignore[attr-defined]
        if self.ratios and len(self.ratios) != len(self.data):
            raise UsageError(f"--ratios has {len(self.ratios)} numbers for {len(self.data)} data sets; give one each.")
        if self.ratios and not (min(self.ratios) >= 0 and 0 < math.fsum(self.ratios) < math.inf):
            raise UsageError("--ratios must be 0 or more, and not all 0.")
        if self.engine.accelerator == "gpu":
            import torch

            found = torch.cuda.device_count()
            if not found:
                raise UsageError("--accelerator gpu: torch finds no GPU; leave it out to train on the CPU.")
            if self.engine.devices > found:
                raise UsageError(f"--devices {self.engine.devices}: torch finds {found} here.")
        try:
            self.engine.check()
        except ValueError as error:
            raise UsageError(str(error)) from None
        from kouros.training.engine import first_process

        try:
            outcome = self._run(config)
        except (OSError, ValueError, ImportError, TrainingError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        if first_process():
            print(_summary(outcome, self.out))
        return 0

    def _run(self, config: SystemConfig) -> "Outcome":
        from kouros.body.files import load_body
        from kouros.data.stream import StreamConfig
        from kouros.training.engine import TrainingData, train

        data = TrainingData(
            sources=[open_source(path) for path in self.data],
            ratios=self.ratios or None,
            validation=open_source(self.val) if self.val else None,
            names=[str(path) for path in self.data],
            validation_name=str(self.val) if self.val else None,
        )
        body = load_body(self.body)
        given = {
            "stream": StreamConfig(augment=self.augment),
            "start": self.start,
            "resume": self.resume,
            "body_path": self.body and self.body.resolve(),
        }
        return train(config, body, data, self.out, self.engine, **given)  # type: ignore[arg-type]


def command_for(entry: SystemEntry, stand_in: type) -> type[_TrainSystem]:
    """The command that trains a system: its own configuration beside what all systems are told.

    Args:
        stand_in: the class that has the command's place while nobody asks for it.
    """
    config = entry.config_type
    system = field(default_factory=config)
    options = [("system", Annotated[config, tyro.conf.arg(name="")], system)]
    made = make_dataclass(
        f"Train{entry.config.removesuffix('Config')}",
        options,
        bases=(_TrainSystem, stand_in),
        frozen=True,
        kw_only=True,
    )
    made.__doc__ = f"Train {entry.title}: {entry.summary}."
    return made


def _summary(outcome: "Outcome", out: Path) -> str:
    parts = [f"{outcome.steps} steps in {outcome.seconds / 60:.1f} min" if outcome.seconds else "was complete already"]
    if math.isfinite(outcome.loss):
        parts.append(f"loss {outcome.loss:.4g}")
    if outcome.scores is not None:
        parts.append(str(outcome.scores))
    return f"trained: {', '.join(parts)}; wrote {out / 'weights.pt'}"
