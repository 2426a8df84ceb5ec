"""Square boxes around people, by the rules that SPIN's preprocessing set for each data set."""

import numpy as np


def box_around(points: np.ndarray, factor: float = 1.2) -> tuple[np.ndarray, float]:
    """Centre and side (pixels) of the square about (n, 2) points, its side ``factor`` times the longer
    extent.

    Raises:
        ValueError: there are no points, or they coincide.
    """
    if not len(points):
        raise ValueError("no annotated point to put a box around")
    low, high = points.min(axis=0), points.max(axis=0)
    return box_of_corners(low, high, factor)


def box_of_corners(low: np.ndarray, high: np.ndarray, factor: float = 1.2) -> tuple[np.ndarray, float]:
    """Centre and side of the square about a box given by two corners.

    Raises:
        ValueError: the box has no extent.
    """
    side = factor * float((high - low).max())
    if not side > 0:
        raise ValueError(f"the box from {low} to {high} has no extent")
    return (low + high) / 2, side
