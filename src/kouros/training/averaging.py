"""A running average of the weights (Polyak and Juditsky 1992), which predicts better than the last step's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from kouros.training.weights import learned_state


class WeightAverage:
    """The exponential moving average of all that a system learned, running statistics included."""

    def __init__(self, system: nn.Module, decay: float) -> None:
        self._decay = decay
        self.tensors = {k: v.clone() for k, v in learned_state(system).items()}

    @torch.no_grad()
    def update(self, system: nn.Module, steps: int) -> None:
        """Take in the weights after so many steps; the first ones are forgotten sooner."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        current = learned_state(system)
        floats = [k for k, v in current.items() if v.is_floating_point()]
        ours = [self.tensors[k] for k in floats]
        torch._foreach_lerp_(ours, [current[k] for k in floats], 1 - decay)
        for k, v in current.items():
            if not v.is_floating_point():
                self.tensors[k].copy_(v)

    def to(self, device: torch.device) -> None:
        """Move to another device."""
        self.tensors = {k: v.to(device) for k, v in self.tensors.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from a saved average."""
        for k, v in self.tensors.items():
            v.copy_(tensors[k])

    @contextmanager
    def in_place(self, system: nn.Module) -> Iterator[None]:
        """The system with the average as its weights, for as long as the block lasts."""
        current = learned_state(system)
        kept = {k: v.clone() for k, v in current.items()}
        for k, v in current.items():
            v.copy_(self.tensors[k])
        try:
            yield
        finally:
            for k, v in current.items():
                v.copy_(kept[k])
