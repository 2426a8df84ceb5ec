"""How a system is trained unless somebody says otherwise: the numbers that belong to it, and not to a machine.

Imports nothing heavy, so that commands can show them at once.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Steps, batches and learning rates over time."""

    max_steps: int
    """Stop after so many steps."""
    batch_size: int = 64
    """People a step, over all devices together."""
    schedule: Literal["constant", "cosine", "polynomial"] = "constant"
    """How the learning rate goes on: it stays, or falls to zero at the last step along half a cosine, or along the
    share of the steps that are left to the power of 0.9 (DeepLab's "poly")."""
    warmup: int = 0
    """Steps in which the learning rate rises to what it is to be."""
    clip: float = 0.0
    """Largest norm of each optimizer's gradient; 0 leaves gradients as they are."""
    ema: float = 0.0
    """Decay of the running average of the weights, such as 0.999, that is then what is saved and judged; 0 for none."""
