"""How a system's batches are made: by step and without end to learn from, by rows to be judged by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from kouros.data.augment import AugmentConfig
from kouros.data.batch import Batch
from kouros.data.dense import Wants
from kouros.data.sources import Source
from kouros.data.stream import StreamConfig, TrainingStream, plain_batch


@runtime_checkable
class Stream(Protocol):
    """Batches without end."""

    def __getitem__(self, step: int) -> Any:
        """This rank's share of the step's batch: the same whenever it is asked for."""
        ...


@runtime_checkable
class Batches(Protocol):
    """A small value, which is sent to the processes that make batches.

    A batch is a `kouros.data.batch.Batch`, or any value with a length and a method ``to(device)``. One with ``index``,
    the numbers of its samples among all samples of the run, is named by them when something is wrong with it. To be
    learned from in parts (`--accumulate`), it must give rows by slices.
    """

    def stream(
        self,
        sources: Sequence[Source],
        ratios: Sequence[float] | None,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> Stream:
        """To learn from; a batch follows from the seed and the step.

        Args:
            sources: mixed in every batch.
            ratios: shares of the sources in a batch; None: as the system has it.
            batch_size: of all ranks together.
            rank: which of the ``world`` equal shares of every batch is made.

        Raises:
            ValueError: numbers that do not fit together, or sources that nothing can be learned from.
        """
        ...

    def plain(self, source: Source, rows: Sequence[int], *, pictures: bool = True) -> Any:
        """Samples as they are, in order: to be judged by and to begin with.

        Args:
            pictures: off, all but the pictures, where that is faster.
        """
        ...


def drawn_of_step(
    shares: Float[np.ndarray, " sources"], batch_size: int, seed: int, step: int, rank: int, world: int, each: int = 1
) -> tuple[Int[np.ndarray, " share"], Float[np.ndarray, "share {each}"]]:
    """Of one rank's part of a step's batch: from which source each sample is, and where in it, in [0, 1).

    Args:
        shares: of the sources; they add up to 1.
        each: places for every sample.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, step]))
    count = batch_size // world
    mine = slice(rank * count, (rank + 1) * count)
    chosen = rng.choice(len(shares), batch_size, p=shares)[mine]
    return chosen, rng.random((batch_size, each))[mine]


@dataclass(frozen=True)
class CropBatches:
    """Crops of people in photos, as `kouros.data.stream` makes them."""

    crop_size: int
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    wants: Wants = field(default_factory=Wants)
    """What batches carry beside what they always do."""

    def stream(
        self,
        sources: Sequence[Source],
        ratios: Sequence[float] | None,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> TrainingStream:
        """As in `Batches`; without ratios, sources count by their numbers of samples."""
        config = StreamConfig(self.crop_size, self.augment, self.wants, seed)
        return TrainingStream(sources, ratios, batch_size, config, rank=rank, world=world)

    def plain(self, source: Source, rows: Sequence[int], *, pictures: bool = True) -> Batch:
        """As in `Batches`."""
        return plain_batch(source, rows, self.crop_size, self.wants if pictures else Wants(image=False))
