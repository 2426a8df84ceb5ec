"""How to train, whatever the system: devices, and what is kept, beside its recipe; options of ``kouros train`` too.

Imports nothing heavy, so that commands can show them at once.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kouros.systems.recipe import Recipe


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why, and that the last good checkpoint is still there."""


@dataclass(frozen=True)
class EngineOptions(Recipe):
    """How to train, and where."""

    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """Numbers of the networks' insides; the mixed ones are for GPUs."""
    accelerator: Literal["cpu", "gpu"] = "cpu"
    """Where to train."""
    devices: int = 1
    """Devices (on a CPU: processes) of each node; torchrun's own number where torchrun starts us."""
    nodes: int = 1
    """Machines."""
    accumulate: int = 1
    """Parts in which each device learns from its share of a batch, one after the other, in less memory."""
    hold_backbone: bool = False
    """Leave the backbone as it begins, and train the rest."""
    cache_features: Path | None = None
    """Folder for what a held backbone makes of each crop, which is then looked at once; for crops that nothing
    changes, or with --cached-batches. Several runs may share it."""
    cached_batches: int = 0
    """Of crops that change: so many batches are looked at, and come again in another order until the last step."""
    seed: int = 0
    """Of everything random."""
    workers: int = 2
    """Processes on each device that make batches; 0 makes them in the training process. Results are the same."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints kept; the best one by validation is kept besides."""
    validate_every: int = 1000
    """Steps between validations."""
    log_every: int = 50
    """Steps between entries of the log."""
    pictures_every: int = 500
    """Steps between pictures in the log; 0 for none."""

    def check(self) -> None:
        """Stop options that make no sense.

        Raises:
            ValueError: which, and what was expected.
        """
        counts = ("max_steps", "batch_size", "accumulate", "devices", "nodes", "checkpoint_every", "keep")
        for name in (*counts, "validate_every", "log_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("clip", "warmup", "workers", "pictures_every"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(0 <= self.ema < 1, "ema", self.ema, "at least 0 and below 1")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "0 or more, and below 2^63")
        if self.cache_features is not None and not self.hold_backbone:
            raise ValueError("--cache-features is for a backbone that stays as it is; add --hold-backbone.")
        _require(self.cached_batches >= 0, "cached_batches", self.cached_batches, "0 or more")
        if self.cached_batches and self.cache_features is None:
            raise ValueError("--cached-batches need a folder; name one by --cache-features.")
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            raise ValueError("--precision 16-mixed needs --accelerator gpu; CPUs have bf16-mixed.")

    def learning_rate_share(self, step: int) -> float:
        """Of the system's learning rate, what one step takes; steps count from 0."""
        rising = min(1.0, (step + 1) / (self.warmup + 1))
        done = step / self.max_steps
        falling = {"constant": 1.0, "cosine": (1 + math.cos(math.pi * done)) / 2, "polynomial": (1 - done) ** 0.9}
        return rising * falling[self.schedule]


def _require(fine: bool, name: str, value: object, expected: str) -> None:
    if not fine:
        raise ValueError(f"--{name.replace('_', '-')} must be {expected}, not {value}.")
