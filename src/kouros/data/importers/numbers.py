"""Numbers of strangers' files."""

from typing import Any

import numpy as np


def finite(value: Any, *shape: int) -> np.ndarray:
    """Finite float64 numbers of a shape; linear algebra on others need not even end.

    Raises:
        ValueError: there are other numbers, or another number of them.
    """
    array = np.array(value, dtype=np.float64).reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("it has numbers that are not finite")
    return array
