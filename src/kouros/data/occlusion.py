"""Synthetic occluders over one joint at a time: Sarandi et al. 2018 (arXiv:1808.09316) in HKMR's settings.

HKMR (Georgakis et al. 2020, "Robustness to Degree of Occlusions") puts bars, circles and rectangles over test
pictures. From degree 1 to 5 the bar is 10 to 50 pixels wide, the circle's radius is 10 to 50 pixels and the
rectangle's area 3,000 to 15,000, evenly spaced; here that is of a 224-pixel crop, and scaled with others. The
paper says neither colour, nor the bar's direction and length, nor the rectangle's sides. Chosen here: grey,
the middle of the range; a bar from edge to edge in any direction; an upright rectangle whose sides are in a
ratio of 1:2 to 2:1.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, UInt8

from kouros.geometry.cameras import SPIN_CROP_SIZE

Shape = Literal["bar", "circle", "rectangle"]
SHAPES: tuple[Shape, ...] = get_args(Shape)
DEGREES = (1, 2, 3, 4, 5)
FILL = (128, 128, 128)
"""RGB."""

_BAR_WIDTH, _CIRCLE_RADIUS, _RECTANGLE_AREA = 10.0, 10.0, 3000.0  # of a 224-pixel crop, a degree
_MAX_ASPECT = 2.0


@dataclass(frozen=True)
class Occluder:
    """One shape over a square crop."""

    shape: Shape
    degree: int
    center: tuple[float, float]
    """x, y, pixels."""
    angle: float = 0.0
    """Of a bar's length from the x axis, radians; ignored by the others."""
    aspect: float = 1.0
    """Width over height of a rectangle; ignored by the others."""

    def __post_init__(self) -> None:
        if self.degree not in DEGREES:
            raise ValueError(f"The degree of occlusion is {self.degree}; expected a whole number from 1 to 5.")

    @staticmethod
    def at(center: tuple[float, float], shape: Shape, degree: int, seed: Sequence[int]) -> "Occluder":
        """An occluder in a direction, or of sides, that only ``seed`` decides: the degree changes its size alone.

        Args:
            center: x, y, pixels.
            seed: numbers of 0 or more, such as those of the sample and the joint.
        """
        rng = np.random.default_rng(np.random.SeedSequence(list(seed)))
        angle = float(rng.uniform(0.0, math.pi))
        aspect = float(_MAX_ASPECT ** rng.uniform(-1.0, 1.0))
        return Occluder(shape, degree, center, angle, aspect)

    def mask(self, size: int) -> Bool[np.ndarray, "{size} {size}"]:
        """Pixels of a crop of that size whose centres the shape covers."""
        unit = size / SPIN_CROP_SIZE
        centres = np.arange(size) + 0.5
        x, y = centres[None, :] - self.center[0], centres[:, None] - self.center[1]
        if self.shape == "bar":
            across = np.abs(y * math.cos(self.angle) - x * math.sin(self.angle))
            return across <= self.degree * _BAR_WIDTH * unit / 2
        if self.shape == "circle":
            return x**2 + y**2 <= (self.degree * _CIRCLE_RADIUS * unit) ** 2
        height = math.sqrt(self.degree * _RECTANGLE_AREA / self.aspect) * unit
        return (np.abs(x) <= self.aspect * height / 2) & (np.abs(y) <= height / 2)

    def cover(
        self, crop: UInt8[np.ndarray, "size size 3"], fill: tuple[int, int, int] = FILL
    ) -> UInt8[np.ndarray, "size size 3"]:
        """The crop with the shape over it; the crop itself stays as it is."""
        covered = crop.copy()
        covered[self.mask(len(crop))] = fill
        return covered


def each_joint(
    points: Float[np.ndarray, "points 3"], shape: Shape, degree: int, seed: Sequence[int]
) -> Iterator[tuple[int, Occluder]]:
    """HKMR's test: the number of each known joint in turn, with an occluder centred on it.

    Args:
        points: x, y in pixels of the crop, and confidence; those of confidence 0 are passed over.
        seed: of the sample; the same gives the same occluders.
    """
    for joint in np.flatnonzero(points[:, 2] > 0).tolist():
        x, y = points[joint, :2].tolist()
        yield joint, Occluder.at((x, y), shape, degree, [*seed, joint])
