"""``kouros train``: priors, anew from motion capture, and systems, each from the data that it learns from."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Union, runtime_checkable

import tyro

from kouros.cli.usage import UsageError
from kouros.sentences import explained
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
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        print(f"wrote {self.out}")
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
        entry.trained_as or entry.name, description=f"Train {entry.title}: {entry.summary}.", constructor_factory=load
    )
    return Annotated[stand_in, about]


# An operator cannot join what is not known beforehand.
_What: Any = Union[
    Annotated[Prior, tyro.conf.subcommand("prior")],
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
