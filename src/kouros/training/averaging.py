"""Averages of weights: running ones (Polyak and Juditsky 1992), which predict better than the last step's, and of two
runs.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from kouros.files import write_file
from kouros.training.runs import RunFolder, read_config
from kouros.training.weights import Weights, learned_state, read_weights, save_weights


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


def average_runs(first: Path, second: Path, share: float, out: Path) -> None:
    """Write a run whose weights lie between those of two.

    Args:
        first: folder of a run; so is the second.
        share: of the second, 0 to 1. What is no floating-point number is the second's.
        out: folder of the run to make.

    Raises:
        ValueError: they are no runs of one system and configuration, or ``out`` holds a run already.
        OSError: a file cannot be read or written.
    """
    made = RunFolder(out)
    if made.config.exists():
        raise ValueError(f"{out} holds a run already; choose another --out.")
    told = [read_config(RunFolder(folder)) for folder in (first, second)]
    for key in ("system", "config", "body"):
        one, two = (content.get(key) for content in told)
        if one != two:
            raise ValueError(f"{first} and {second} differ in their {key}; only runs of one configuration average.")
    one, two = (read_weights(RunFolder(folder).weights) for folder in (first, second))
    if one.tensors.keys() != two.tensors.keys():
        raise ValueError(f"{first} and {second} hold other weights; only runs of one configuration average.")
    tensors = {
        name: one.tensors[name].lerp(tensor, share) if tensor.is_floating_point() else tensor
        for name, tensor in two.tensors.items()
    }
    save_weights(made.weights, Weights(two.system, two.steps, tensors))
    kept = {key: told[1].get(key) for key in ("version", "kouros", "system", "config", "body")}
    content = kept | {"averaged": {"runs": [str(first), str(second)], "share": share}}
    write_file(made.config, (json.dumps(content, indent=1) + "\n").encode())
