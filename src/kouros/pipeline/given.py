"""Keypoints that somebody else detected."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kouros.body.layouts import layout
from kouros.detection import DetectedPerson
from kouros.detection.usable import UnusableError, usable_people


def people_from_keypoints(
    keypoints: np.ndarray | Sequence[np.ndarray], set_name: str | Path, image_size: tuple[int, int]
) -> list[DetectedPerson]:
    """Keypoints of another detector in the form that the estimate takes.

    Args:
        keypoints: (people, K, 3) or (K, 3), or one (K, 3) a person: pixels and confidence.
        set_name: what they are: a name of `kouros.body.layouts.LAYOUTS`, or a file that names the points.

    Raises:
        ValueError: wrong shape, an unknown set, or nobody who can be used; the message says what is the matter.
    """
    known = layout(set_name)
    try:
        array = np.array(keypoints, dtype=np.float64)
        given = list(array[None] if array.ndim == 2 else array)
        right = array.ndim in (2, 3) and array.shape[-2:] == (len(known), 3)
        if not right and array.size:
            raise ValueError(
                f"keypoints have shape {np.shape(array)}; {known.name} needs (people, {len(known)}, 3): x and y in "
                "pixels and a confidence."
            )
        rows = given if right else []
    except (TypeError, ValueError) as error:
        if "keypoints have shape" in str(error) or not isinstance(keypoints, Sequence):
            raise
        rows = list(keypoints)  # people of different numbers of points: what is wrong with one is said of it
    return usable_people(
        [(f"person {k} of keypoints", _points(row, len(known))) for k, row in enumerate(rows)], known, image_size
    )


def _points(row: np.ndarray, count: int) -> np.ndarray | UnusableError:
    try:
        points = np.asarray(row, dtype=np.float64)
    except (TypeError, ValueError) as error:
        return UnusableError(f"has points that are no numbers ({error}).")
    if not points.size:
        return UnusableError("has no points.")
    if points.shape != (count, 3):
        return UnusableError(f"has keypoints of shape {points.shape}; expected ({count}, 3).")
    return points
