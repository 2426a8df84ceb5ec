"""Watches a system while it trains, by its own measures, on data that it does not learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist

from kouros.data.sources import Source
from kouros.systems.measures import Best, Sum
from kouros.systems.system import System
from kouros.training.options import TrainingError
from kouros.training.steps import plain_batches


@dataclass(frozen=True)
class Scores:
    """What a system's measures come to over a data set."""

    sums: Mapping[str, Sum]

    @property
    def values(self) -> dict[str, float]:
        """By name; without those that the data set has no answer to."""
        return {name: value for name, s in self.sums.items() if (value := s.value) is not None}

    def decisive(self, best_by: Sequence[Best]) -> tuple[Best, float] | None:
        """The first measure that the data set has an answer to, and the answer."""
        values = self.values
        return next(((best, values[best.name]) for best in best_by if best.name in values), None)

    def __str__(self) -> str:
        told = {name: self.sums[name].said or f"{name} {{:.4g}}" for name in self.values}
        return ", ".join(told[name].format(value) for name, value in self.values.items())


@torch.no_grad()
def judge(
    system: System, source: Source, device: torch.device, batch_size: int, workers: int, rank: int = 0, world: int = 1
) -> Scores:
    """Scores of a system: every process judges its share, and all learn the scores of the whole.

    All processes must call this equally often.

    Raises:
        TrainingError: a score is not finite.
        ValueError: a batch cannot be made.
    """
    training = system.training
    system.eval()
    sums: dict[str, Sum] = {}
    try:
        rows = range(rank, len(source), world)
        for batch in plain_batches(system.batches, source, rows, batch_size, workers):
            _add(sums, system.measures(batch.to(device)))
    finally:
        system.train(training)
    if world > 1:
        parts: list[dict[str, Sum]] = [{} for _ in range(world)]
        dist.all_gather_object(parts, {name: Sum(s.total.cpu(), s.count.cpu(), s.said) for name, s in sums.items()})
        sums = {}
        for part in parts:  # in the order of their ranks, so that all come to the same bits
            _add(sums, part)
    scores = Scores(sums)
    for name, value in scores.values.items():
        if not abs(value) < float("inf"):
            raise TrainingError(
                f"the validation's {name} is not finite, though the weights are; lower the learning rate or clip "
                "gradients (--clip 1), and go on from the last checkpoint with --resume."
            )
    return scores


def _add(sums: dict[str, Sum], more: Mapping[str, Sum]) -> None:
    for name, part in more.items():
        sums[name] = sums[name] + part if name in sums else part
