"""How the package's numba kernels are compiled, and shared between threads.

Imports nothing of kouros; loads numba where a kernel is defined.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

_WORTH_A_THREAD = 30_000
"""Matrix-vector products a thread must be given; fewer take less time than starting it."""


_LOG = logging.getLogger("kouros")


def compiled(*, fuse: bool, makes_arrays: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: the function is compiled when first called, and runs without holding Python's lock.

    The machine code is kept on disk where that can be. `logging` tells who waits for it.

    Args:
        fuse: whether a multiplication and an addition may be rounded as one. Nothing is ever reordered or
            assumed finite; without fusing, results are those of plain IEEE arithmetic, to the bit.
        makes_arrays: whether it has arrays of its own, which someone must count and free. That takes long to compile:
            a large kernel rather gets its arrays from whoever calls it.
    """
    import numba  # absent on some training machines, where torch does all

    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": makes_arrays}
    if fuse:
        options["fastmath"] = {"contract"}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            kernel = numba.njit(function, cache=True, **options)
        except RuntimeError:  # numba's, where no folder can be written
            _say_that_nothing_is_kept()
            kernel = numba.njit(function, **options)
        else:
            _forget_what_is_older(kernel)
        _listen().kernels.add(kernel)
        return kernel

    return decorate


def _forget_what_is_older(kernel: Any) -> None:
    """Remove a kernel's machine code on disk that is older than any file beside the kernel's.

    numba looks at the kernel's own file alone, and so would keep what was made of functions and types that stand in
    others; reading names of types that are gone even ends in an exception.
    """
    source = Path(kernel.py_func.__code__.co_filename)
    with suppress(OSError):  # a package that is no folder, files of somebody else
        newest = max(file.stat().st_mtime_ns for file in source.parent.glob("*.py"))
        name = f"{source.stem}.{kernel.py_func.__qualname__}-*.nb[ci]"
        for kept in Path(kernel.stats.cache_path).glob(name):
            if kept.stat().st_mtime_ns < newest:
                kept.unlink(missing_ok=True)


@cache
def _say_that_nothing_is_kept() -> None:
    _LOG.warning(
        "Compiled code cannot be kept: neither the folder of the package nor the user's cache can be written, so every "
        "run compiles anew, which takes many seconds. Set NUMBA_CACHE_DIR to a folder that can be written."
    )


@cache
def _listen() -> Any:
    """Who says, once in a process, that a kernel is being compiled: numba tells of that, not of code read from disk."""
    from numba.core import event

    class Listener(event.Listener):
        def __init__(self) -> None:
            self.kernels: set[Any] = set()
            self.has_said = False

        def on_start(self, event: Any) -> None:
            if not self.has_said and event.data["dispatcher"] in self.kernels:
                self.has_said = True
                _LOG.warning("Compiling the inner loops for this processor, which takes up to half a minute, once.")

        def on_end(self, event: Any) -> None:
            pass

    listener = Listener()
    event.register("numba:compile", listener)
    return listener


def over_batch(kernel: Callable[..., None], products: int, *arrays: Tensor | np.ndarray) -> None:
    """Run ``kernel(first, end, *arrays)`` over the batch, which is the last array's first dimension.

    On as many threads as torch is set to use, if the work (``products`` an item) is worth it: Python threads
    around a kernel that holds no interpreter lock, not numba's own, which end the process when two threads
    enter them at once or after a fork.
    """
    views = _views(arrays)
    count = len(views[-1])
    threads = min(torch.get_num_threads(), count, count * products // _WORTH_A_THREAD)
    if threads <= 1:
        kernel(0, count, *views)
        return
    bounds = [count * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(kernel, *bounds[i : i + 2], *views) for i in range(1, threads)]
        kernel(*bounds[:2], *views)
        for other in others:
            other.result()


def on_this_thread(kernel: Callable[..., None], *arrays: Tensor | np.ndarray) -> None:
    """Run ``kernel(0, batch, *arrays)``; the batch is the last array's first dimension.

    For a kernel right after a product of torch's: torch's own threads keep the other cores busy waiting for more,
    and a second thread then costs more than it gives.
    """
    views = _views(arrays)
    kernel(0, len(views[-1]), *views)


def _views(arrays: Sequence[Tensor | np.ndarray]) -> list[np.ndarray]:
    return [a if isinstance(a, np.ndarray) else a.detach().contiguous().numpy() for a in arrays]
