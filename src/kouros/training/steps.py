"""Batches by step: any run, wherever it resumes and however many processes make its batches, sees the same ones."""

import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from kouros.data.sources import Source
from kouros.systems.batches import Batches, Stream


@dataclass(frozen=True)
class NumberedBatch:
    """A batch, and the step that it is for."""

    step: int
    batch: Any


class _Numbered(Dataset):
    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __getitem__(self, step: int) -> NumberedBatch:
        return NumberedBatch(step, self._stream[step])


class _PlainBatches(Dataset):
    def __init__(self, batches: Batches, source: Source, rows: Sequence[Sequence[int]], pictures: bool) -> None:
        self._batches, self._source, self._rows, self._pictures = batches, source, rows, pictures

    def __getitem__(self, number: int) -> Any:
        return self._batches.plain(self._source, self._rows[number], pictures=self._pictures)


class _Told(Dataset):
    """Answers with errors as values: raised in another process, they would come back with its traceback as text."""

    def __init__(self, batches: Dataset | Stream) -> None:
        self._batches = batches

    def __getitem__(self, number: int) -> Any:
        try:
            return self._batches[number]
        except (OSError, ValueError) as error:
            return _Failed(str(error))


@dataclass(frozen=True)
class _Failed:
    message: str


class _Ahead:
    """Batches in an order, made ahead by so many processes; 0 makes them when asked for.

    It has no length: Lightning would compare that with the steps of the whole run.
    """

    def __init__(self, batches: Dataset | Stream, order: Sequence[int], workers: int) -> None:
        context = None
        if workers:
            # Processes forked from this one, which has threads of OpenMP's and Lightning's, may hang.
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload(["kouros.data.batch"])
        self._loader = DataLoader(
            _Told(batches), None, sampler=order, num_workers=workers, multiprocessing_context=context
        )

    def __iter__(self) -> Iterator[Any]:
        for item in self._loader:
            if isinstance(item, _Failed):
                raise ValueError(item.message)
            yield item


def step_batches(stream: Stream, first: int, end: int, workers: int) -> Iterable[NumberedBatch]:
    """The numbered batches of the steps from ``first`` up to ``end``, made ahead by so many processes.

    Raises:
        ValueError: on the way: a batch cannot be made.
    """
    return _Ahead(_Numbered(stream), range(first, end), workers)


def made_ahead(stream: Stream, steps: Sequence[int], workers: int) -> Iterable[Any]:
    """Batches of some steps, made ahead by so many processes.

    Raises:
        ValueError: on the way: a batch cannot be made.
    """
    return _Ahead(stream, steps, workers)


def plain_batches(
    batches: Batches, source: Source, rows: Sequence[int], batch_size: int, workers: int, *, pictures: bool = True
) -> Iterable[Any]:
    """Samples as they are, in order, made ahead by so many processes; see `kouros.systems.batches.Batches.plain`.

    Raises:
        ValueError: on the way: a batch cannot be made.
    """
    parts = [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return _Ahead(_PlainBatches(batches, source, parts, pictures), range(len(parts)), workers)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch's global generators for one step of one process."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]))
