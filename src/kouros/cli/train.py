"""``kouros train``: the priors and the learned start, anew from motion capture, and systems from pictures."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Union, runtime_checkable

import tyro

from kouros.cli.usage import UsageError
from kouros.systems.table import SYSTEMS, SystemEntry


@dataclass(frozen=True)
class Prior:
    """Train a prior of poses; same seed, same file."""

    name: Annotated[Literal["gmm", "limits", "rotation_experts", "vae"], tyro.conf.Positional]
    """Which: Gaussian mixture, joint limits, rotation experts, or the variational autoencoder (minutes)."""
    mocap: Path
    """Motion-capture folder: sequences/*.npz (kouros import amass), diverse_frames.npz (kouros import pose-bank) and,
    for the autoencoder, rest_skeleton.npz."""
    out: Path
    """The .npz file to write."""
    credit: str | None = None
    """What the motions' owners ask to be said; kept in the file."""
    seed: int = 0
    """Of everything random."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        from kouros.priors.training.commands import TRAINERS

        if not self.mocap.is_dir():
            raise UsageError(f"--mocap {self.mocap}: there is no such folder.")
        try:
            TRAINERS[self.name](self.mocap, self.out, seed=self.seed, credit=self.credit)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"wrote {self.out}")
        return 0


@dataclass(frozen=True)
class Lifter:
    """Train the learned start: keypoints in, pose and shape out."""

    mocap: Path
    """Poses: diverse_frames.npz."""
    out: Path
    """Folder for the weights (lifter.npz) and the log."""
    minutes: float | None = None
    """How long to train; the learning rate follows it. Without it, the default of `TrainConfig`, as below."""
    max_steps: int | None = None
    """Stop after so many steps."""
    batch: int | None = None
    """People a step."""
    learning_rate: float | None = None
    """At its highest."""
    ema: float | None = None
    """Decay of the running average of the weights, which is what is written."""
    enough_measured: int | None = None
    """Measured detections from which on half of a batch is theirs; with fewer, less."""
    seed: int | None = None
    """Of everything random."""
    shards: Path | None = None
    """Folder of measured detections, read as they appear."""
    start: Path | None = None
    """Weights to go on from."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to train."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        import torch

        from kouros.systems.lifter import LifterConfig
        from kouros.training.lifter import TrainConfig, train

        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: torch finds no CUDA device; leave it out to train on the CPU.")
        names = ("minutes", "max_steps", "batch", "learning_rate", "ema", "enough_measured", "seed")
        given: dict[str, Any] = {n: getattr(self, n) for n in names if getattr(self, n) is not None}
        for name, value in given.items():
            if name != "seed" and not value > 0:
                raise UsageError(f"--{name.replace('_', '-')} must be positive, not {value}.")
        if self.ema is not None and self.ema >= 1:
            raise UsageError(f"--ema must be below 1, not {self.ema}.")
        config = replace(TrainConfig(), **given)
        device = torch.device(self.device)
        try:
            train(self.mocap, self.out, self.shards, config, device, LifterConfig(), self.start)
        except (OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print(f"wrote {self.out / 'lifter.npz'}")
        return 0


@runtime_checkable
class _Command(Protocol):
    """What a sub-command that is loaded late looks like."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        ...


def _subcommand(entry: SystemEntry) -> Any:
    """``kouros train NAME``, whose options are those of the system itself.

    Systems bring torch along, so they are looked at only where somebody asks for `kouros train`.
    """

    stand_in = type(entry.config, (_Command,), {})

    def load() -> type:
        from kouros.cli.train_systems import command_for

        return command_for(entry, stand_in)

    about = tyro.conf.subcommand(
        entry.name, description=f"Train {entry.title}: {entry.summary}.", constructor_factory=load
    )
    return Annotated[stand_in, about]


# An operator cannot join what is not known beforehand.
_What: Any = Union[
    Annotated[Prior, tyro.conf.subcommand("prior")],
    Annotated[Lifter, tyro.conf.subcommand("lifter")],
    *map(_subcommand, SYSTEMS.values()),
]


@dataclass(frozen=True)
class Train:
    """Train priors and networks."""

    what: Annotated[_What, tyro.conf.arg(name="")]
    """What to train."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        return self.what.run()
