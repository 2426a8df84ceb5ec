"""Square boxes around people, by the rules that SPIN's preprocessing set for each data set."""

import numpy as np

from kouros.data.crops import BOX_MARGIN, square_around


def box_around(points: np.ndarray, factor: float = BOX_MARGIN) -> tuple[np.ndarray, float]:
    """Centre and side (pixels) of the square about (n, 2) points, its side ``factor`` times the longer
    extent.

    Raises:
        ValueError: there are no points, or they coincide.
    """
    if not len(points):
        raise ValueError("no annotated point to put a box around")
    return box_of_corners(points.min(axis=0), points.max(axis=0), factor)


def box_of_corners(low: np.ndarray, high: np.ndarray, factor: float = BOX_MARGIN) -> tuple[np.ndarray, float]:
    """Centre and side of the square about a box given by two corners.

    Raises:
        ValueError: the box has no extent.
    """
    center, side = square_around(np.stack([low, high]), factor)
    if not side > 0:
        raise ValueError(f"the box from {low} to {high} has no extent")
    return center, side
