"""Jobs in several processes, each with one thread: two that share the cores' threads wait for each other."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

_S = TypeVar("_S")
_T = TypeVar("_T")

_ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def in_processes(
    work: Callable[[_S], _T], sources: Sequence[_S], workers: int, lost: Callable[[_S], _T]
) -> Iterator[_T]:
    """What ``work`` makes of each source, in their order.

    Args:
        work: of which a copy is sent to every process, with every source; so it must be picklable, and quick to send.
        lost: what is answered for sources whose process ended, such as one that the system stopped for its memory.
    """
    with _environment(_ONE_THREAD):
        pool = ProcessPoolExecutor(min(workers, len(sources)), mp_context=get_context("spawn"), initializer=_begin)
        futures: list[Future[_T]] = [pool.submit(work, source) for source in sources]
    try:
        for source, future in zip(sources, futures, strict=True):
            try:
                yield future.result()
            except BrokenProcessPool:
                yield lost(source)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin() -> None:
    """In each process: Ctrl-C is the parent's to hear."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
