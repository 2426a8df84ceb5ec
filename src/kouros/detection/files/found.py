"""What a family's reader finds in a file, before it is known whose points are usable; how numbers become points.

A family is a module with ``LOOKS_LIKE`` (one line: what its files are), ``recognises(content)`` and ``read(content)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from kouros.detection.usable import UnusableError


@dataclass(frozen=True)
class FoundPerson:
    """Somebody's points as the file has them."""

    points: Float[np.ndarray, "points 3"] | UnusableError
    """x, y, confidence; or why there are none."""
    scaled: bool = False
    """Whether x and y are shares of the picture's width and height, as the family is known to write them."""
    box: Float[np.ndarray, " 4"] | None = None
    """x0, y0, x1, y1, pixels."""
    layout: str | None = None
    """What the points are, where the file says so."""
    number: int | None = None
    """In the file, if it is not the place in the image."""


@dataclass(frozen=True)
class FoundImage:
    """One picture of a file."""

    people: Sequence[FoundPerson]
    name: str | None = None
    size: tuple[int, int] | None = None
    """Width and height, pixels, where the file says so."""


@dataclass(frozen=True)
class FoundFile:
    """A whole file."""

    images: Sequence[FoundImage]
    person: str = "person"
    """What a message calls one of them, before the number."""
    notes: tuple[str, ...] = field(default=())


def triples(numbers: Any, scores: Any = None) -> Float[np.ndarray, "points 3"] | UnusableError:
    """Points of a flat list x, y, c, x, y, c, ..., of a list of triples, or of pairs with their scores apart.

    ``None`` among the numbers is NaN: not seen.
    """
    if not isinstance(numbers, list) or not numbers:
        return UnusableError("has no points.")
    rows = numbers if isinstance(numbers[0], list) else None
    try:
        if rows is None:
            if len(numbers) % 3:
                return UnusableError(f"has {len(numbers)} numbers; expected x, y and confidence of each point.")
            return np.array([_number(n) for n in numbers]).reshape(-1, 3)
        if isinstance(scores, list):
            if len(scores) != len(rows):
                return UnusableError(f"has {len(rows)} points, but {len(scores)} scores.")
            rows = [[*row[:2], _single(score)] for row, score in zip(rows, scores, strict=True)]
        if {len(row) for row in rows} == {2}:  # pairs alone: all of them were seen
            rows = [[*row, 1.0] for row in rows]
        if {len(row) for row in rows} != {3}:
            return UnusableError("has points that are not x, y and confidence each.")
        return np.array([[_number(n) for n in row] for row in rows])
    except (TypeError, ValueError, OverflowError, KeyError) as error:
        return UnusableError(f"has points that are no numbers ({error}).")


def _single(score: Any) -> Any:
    return score[0] if isinstance(score, list) and len(score) == 1 else score


def _number(value: Any) -> float:
    if value is None:
        return float("nan")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{str(value)[:20]!r}")
    return float(value)


def as_size(width: Any, height: Any) -> tuple[int, int] | None:
    """A picture's size, where both are positive whole numbers (floats with nothing after the point, too)."""
    for value in (width, height):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6 or value != int(value):
            return None
    return int(width), int(height)


def box_of(numbers: Any, *, corners: bool) -> Float[np.ndarray, " 4"] | None:
    """A box of two corners, or of a corner and a size; None where it is none, and the points say where somebody is."""
    while isinstance(numbers, list) and len(numbers) == 1:
        numbers = numbers[0]
    try:
        x0, y0, a, b = (_number(n) for n in numbers[:4])
    except (TypeError, ValueError, OverflowError):
        return None
    box = np.array([x0, y0, a, b]) if corners else np.array([x0, y0, x0 + a, y0 + b])
    return box if np.isfinite(box).all() and (box[2:] > box[:2]).all() and np.abs(box).max() < 1e7 else None
