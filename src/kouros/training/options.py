"""How to train, whatever the system: steps, batches, devices, and what is kept. Also the options of ``kouros train``.

Imports nothing heavy, so that commands can show them at once.
"""

import math
from dataclasses import dataclass
from typing import Literal


class TrainingError(RuntimeError):
    """A run that cannot go on; the message says why, and that the last good checkpoint is still there."""


@dataclass(frozen=True)
class EngineOptions:
    """What does not depend on the system."""

    max_steps: int
    """Stop after so many steps."""
    batch_size: int = 64
    """People a step, over all devices together."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """Numbers of the networks' insides; the mixed ones are for GPUs."""
    accelerator: Literal["cpu", "gpu"] = "cpu"
    """Where to train."""
    devices: int = 1
    """Devices (on a CPU: processes) of each node; torchrun's own number where torchrun starts us."""
    nodes: int = 1
    """Machines."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on: it stays, as published, or falls to zero at the last step along half a cosine."""
    warmup: int = 0
    """Steps in which the learning rate rises to what it is to be."""
    clip: float = 0.0
    """Largest norm of each optimizer's gradient; 0 leaves gradients as they are."""
    ema: float = 0.0
    """Decay of the running average of the weights, such as 0.999, that is then what is saved and judged; 0 for none."""
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
        for name in ("max_steps", "batch_size", "devices", "nodes", "checkpoint_every", "keep", "validate_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        _require(self.log_every >= 1, "log_every", self.log_every, "at least 1")
        for name in ("clip", "warmup", "workers", "pictures_every"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(0 <= self.ema < 1, "ema", self.ema, "at least 0 and below 1")
        _require(0 <= self.seed < 2**63, "seed", self.seed, "0 or more, and below 2^63")
        if self.precision == "16-mixed" and self.accelerator == "cpu":
            raise ValueError("--precision 16-mixed needs --accelerator gpu; CPUs have bf16-mixed.")

    def learning_rate_share(self, step: int) -> float:
        """Of the system's learning rate, what one step takes; steps count from 0."""
        rising = min(1.0, (step + 1) / (self.warmup + 1))
        falling = 1.0 if self.schedule == "constant" else (1 + math.cos(math.pi * step / self.max_steps)) / 2
        return rising * falling


def _require(fine: bool, name: str, value: object, expected: str) -> None:
    if not fine:
        raise ValueError(f"--{name.replace('_', '-')} must be {expected}, not {value}.")
