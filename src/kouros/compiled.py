"""How the package's numba kernels are compiled. Imports nothing of kouros; loads numba."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(*, fuse: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: the function is compiled when first called, and runs without holding Python's lock.

    The machine code is kept on disk where that can be.

    Args:
        fuse: whether a multiplication and an addition may be rounded as one. Nothing is ever reordered or
            assumed finite; without fusing, results are those of plain IEEE arithmetic, to the bit.
    """
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    if fuse:
        options["fastmath"] = {"contract"}

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(function, cache=True, **options)
        except RuntimeError:  # neither the package's folder nor the user's cache folder can be written
            return numba.njit(function, **options)

    return decorate
