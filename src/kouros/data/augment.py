"""From a photo to a square crop of one person, and the changes by which training sees each person anew.

A crop is the square of some side around a centre, turned about it, then mirrored: one affine map, known exactly
both ways, that pictures, labels, keypoints and poses follow. Pixel centres are at halves throughout.

The paper of SPIN is silent on its ranges; they are those of its code (``train/train_options.py`` and
``datasets/base_dataset.py``): turned by N(0, 30 degrees) up to twice that, but not at all in 3 of 5 cases;
scaled by N(1, 0.25) up to 0.25; each colour channel times 0.6 to 1.4; mirrored half the time. Neural Body Fitting
(Omran et al. 2018, supplement) calls "random jitter and scaling" critical: scales 0.9 to 1.1, turns up to 45
degrees, mirror images; it does not say how far it moves the crop.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Integer, UInt8

from kouros.body.surface.parts import DENSEPOSE24


@dataclass(frozen=True)
class Spread:
    """A random number around 0."""

    limit: float
    """How far from 0 it may be; what is drawn beyond is moved here."""
    deviation: float | None = None
    """Standard deviation of a normal number; without it all numbers up to the limit are equally likely."""

    def __post_init__(self) -> None:
        numbers = (self.limit, 0.0 if self.deviation is None else self.deviation)
        if not all(0 <= n < math.inf for n in numbers):
            raise ValueError(
                f"A spread has a limit and a deviation of 0 or more, not {self.limit} and {self.deviation}."
            )

    def draw(self, dice: np.random.Generator) -> float:
        """One such number."""
        if self.deviation is None:
            return float(dice.uniform(-self.limit, self.limit))
        return float(np.clip(self.deviation * dice.standard_normal(), -self.limit, self.limit))


@dataclass(frozen=True)
class AugmentConfig:
    """What training changes, how often and how much. The numbers given here are SPIN's."""

    flipped: float = 0.5
    """Share of mirrored crops."""
    turned: float = 0.4
    """Share of turned crops."""
    rotation: Spread = Spread(60.0, 30.0)
    """Degrees."""
    scale: Spread = Spread(0.25, 0.25)
    """What is added to 1, by which the side is multiplied: the person gets smaller where it is above."""
    shift: Spread = Spread(0.0)
    """Of the crop's centre, along each axis, in sides."""
    colour: float = 0.4
    """Each channel is multiplied by a number that differs from 1 by at most this."""
    occluded: float = 0.0
    """Share of crops with a bar, circle or rectangle over one joint (`kouros.data.occlusion`). SPIN has none, and
    HKMR only in tests."""

    def __post_init__(self) -> None:
        for name in ("flipped", "turned", "occluded", "colour"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number from 0 to 1.")
        if self.scale.limit >= 1:
            raise ValueError(f"scale may change by {self.scale.limit}; expected less than 1, or crops vanish.")

    def draw(self, dice: np.random.Generator) -> "Change":
        """The changes of one crop."""
        # All numbers are drawn whether they are used or not: an option changes nothing but its own part.
        flipped, turned = dice.random(2)
        rotation, scale = self.rotation.draw(dice), 1 + self.scale.draw(dice)
        shift = (self.shift.draw(dice), self.shift.draw(dice))
        red, green, blue = dice.uniform(1 - self.colour, 1 + self.colour, 3).tolist()
        return Change(
            rotation=math.radians(rotation) if turned < self.turned else 0.0,
            flipped=bool(flipped < self.flipped),
            scale=scale,
            shift=shift,
            colour=(red, green, blue),
        )


SPIN_AUGMENTATION = AugmentConfig()
NBF_AUGMENTATION = AugmentConfig(
    turned=1.0, rotation=Spread(45.0), scale=Spread(0.1), shift=Spread(0.1), colour=0.0
)  # fmt: skip
"""The shift of up to a tenth of the side is ours: the paper gives none."""


@dataclass(frozen=True)
class Change:
    """How one crop differs from the plain one."""

    rotation: float = 0.0
    """Of the content, radians, clockwise as seen (`kouros.fitting.schedules.fits_store.Augmentation`)."""
    flipped: bool = False
    scale: float = 1.0
    """Of the square's side."""
    shift: tuple[float, float] = (0.0, 0.0)
    """Of the square's centre, x and y, in unchanged sides, along the photo's axes."""
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class CropTransform:
    """The way from the photo's pixels to a square crop's, and back."""

    center: Float[np.ndarray, "2"]
    """Of the square, pixels of the photo."""
    side: float
    """Of the square, pixels of the photo."""
    size: int
    """Of the crop, pixels."""
    rotation: float = 0.0
    """Of the content about the centre, radians, clockwise as seen."""
    flipped: bool = False
    """Mirrored left to right, after the turn."""

    def __post_init__(self) -> None:
        if not (0 < self.side < math.inf and np.isfinite(self.center).all() and self.size > 0):
            raise ValueError(
                f"A crop of {self.size} pixels around {self.center.tolist()} with a side of {self.side} cannot be "
                "made; expected finite numbers and positive sizes."
            )

    @staticmethod
    def changed(center: Float[np.ndarray, "2"], side: float, size: int, change: Change) -> "CropTransform":
        """The crop of a person whose plain square is known."""
        moved = center + side * np.array(change.shift)
        return CropTransform(moved, side * change.scale, size, change.rotation, change.flipped)

    @property
    def matrix(self) -> Float[np.ndarray, "2 3"]:
        """Affine map of the photo's pixels to the crop's."""
        linear = self.size / self.side * self._turn()
        return np.c_[linear, self.size / 2 - linear @ self.center]

    @property
    def inverse(self) -> Float[np.ndarray, "2 3"]:
        """Affine map of the crop's pixels to the photo's."""
        linear = self.side / self.size * self._turn().T  # a turn and a mirror are undone by their transpose
        return np.c_[linear, self.center - linear @ np.full(2, self.size / 2)]

    def points(self, xy: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Where points of the photo lie in the crop. Their order stays: `mirror_rows` exchanges left and right."""
        return xy @ self.matrix[:, :2].T + self.matrix[:, 2]

    def points_back(self, xy: Float[np.ndarray, "*points 2"]) -> Float[np.ndarray, "*points 2"]:
        """Where points of the crop lie in the photo."""
        return xy @ self.inverse[:, :2].T + self.inverse[:, 2]

    def directions(self, xyz: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """Points in the photo's camera axes, relative to the body, in the crop's. Their order stays."""
        return np.concatenate([xyz[..., :2] @ self._turn().T, xyz[..., 2:]], axis=-1)

    def directions_back(self, xyz: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """Inverse of `directions`."""
        return np.concatenate([xyz[..., :2] @ self._turn(), xyz[..., 2:]], axis=-1)

    def image(self, pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "size size 3"]:
        """The crop, black beyond the photo; where it is much smaller than the square, pixels are averaged first."""
        return _resampled(pixels, self.matrix, self.size)

    def labels(self, labels: Integer[np.ndarray, "height width"]) -> Integer[np.ndarray, "size size"]:
        """The crop of a label map by nearest neighbours, 0 beyond the photo. Labels stay: see `mirror_labels`."""
        return nearest(labels, self.inverse, (self.size, self.size))

    def labels_back(
        self, labels: Integer[np.ndarray, "size size"], width: int, height: int
    ) -> Integer[np.ndarray, "height width"]:
        """A crop's label map laid back into a photo of that size by nearest neighbours, 0 around it."""
        return nearest(labels, self.matrix, (width, height))

    def _turn(self) -> Float[np.ndarray, "2 2"]:
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        mirror = -1.0 if self.flipped else 1.0
        return np.array([[mirror * cos, -mirror * sin], [sin, cos]])


def mirror_rows(
    values: Float[np.ndarray, "points columns"], mirror: Sequence[int]
) -> Float[np.ndarray, "points columns"]:
    """Keypoints with left and right exchanged by a set's `KeypointSet.mirror`; what they measure stays."""
    return values[list(mirror)]


def mirror_labels(
    labels: Integer[np.ndarray, "height width"], mirror: Sequence[int]
) -> Integer[np.ndarray, "height width"]:
    """Part labels with left and right exchanged by a set's `PartSet.mirror`; pixels stay where they are.

    Raises:
        IndexError: a label that the set has not.
    """
    return np.asarray(mirror, dtype=labels.dtype)[labels]


def mirror_iuv(iuv: Float[np.ndarray, "height width 3"]) -> Float[np.ndarray, "height width 3"]:
    """Part, u and v of the mirror images of the points that a map names; pixels stay where they are.

    For this project's charts (`kouros.body.surface.charts`), where the mirror image of (part, u, v) is (mirror
    part, 1 - u, v). DensePose's own are not symmetric.
    """
    part = np.array(DENSEPOSE24.mirror)[iuv[..., 0].astype(np.int64)]
    u = np.where(part > 0, 1 - iuv[..., 1], iuv[..., 1])
    return np.stack([part, u, iuv[..., 2]], axis=-1).astype(iuv.dtype)


def coloured(
    crop: UInt8[np.ndarray, "size size 3"], factors: tuple[float, float, float]
) -> UInt8[np.ndarray, "size size 3"]:
    """A picture whose channels are multiplied, and cut off at white."""
    if factors == (1.0, 1.0, 1.0):
        return crop
    table = np.rint(np.clip(np.arange(256.0)[:, None] * np.array(factors), 0, 255)).astype(np.uint8)
    return np.asarray(cv2.LUT(crop, table[None]), dtype=np.uint8)


def nearest(
    labels: Integer[np.ndarray, "height width"], to_source: Float[np.ndarray, "2 3"], size: tuple[int, int]
) -> Integer[np.ndarray, "new_height new_width"]:
    """A label map of ``size`` (width, height): each pixel has the label of the pixel that its centre falls into.

    Args:
        to_source: affine map of the new map's pixels to the old one's; beyond it is 0.
    """
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    column, row = (np.floor(a * x + b * y + c).astype(np.int64) for a, b, c in to_source)
    inside = (column >= 0) & (column < labels.shape[1]) & (row >= 0) & (row < labels.shape[0])
    return np.where(inside, labels[row.clip(0, labels.shape[0] - 1), column.clip(0, labels.shape[1] - 1)], 0).astype(
        labels.dtype
    )


def _resampled(pixels: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The affine image of a photo, from only that part of it which the crop shows."""
    corners = np.array([[0, 0], [size, 0], [0, size], [size, size]], dtype=np.float64)
    linear, offset = matrix[:, :2], matrix[:, 2]
    seen = np.linalg.solve(linear, (corners - offset).T).T
    # Blocks of `shrink` x `shrink` pixels are averaged: bilinear lookups alone would pass over most pixels.
    shrink = max(1, min(int(1e-6 + 1 / math.sqrt(abs(np.linalg.det(linear)))), *pixels.shape[:2]))
    shape = np.array([pixels.shape[1], pixels.shape[0]])
    low = np.clip(np.floor(seen.min(axis=0)) - 2 * shrink, 0, shape).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0)) + 2 * shrink, 0, shape).astype(int)
    if (high <= low).any():
        return np.zeros((size, size, 3), dtype=np.uint8)
    part = pixels[low[1] : high[1], low[0] : high[0]]
    if shrink > 1:
        below, right = (-part.shape[0] % shrink, -part.shape[1] % shrink)
        part = cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_CONSTANT)
        part = cv2.resize(part, (part.shape[1] // shrink, part.shape[0] // shrink), interpolation=cv2.INTER_AREA)
    # Of the part's pixels to the crop's; then with pixel centres at whole numbers, as OpenCV has them.
    from_part = np.c_[linear * shrink, offset + linear @ low]
    from_part[:, 2] += from_part[:, :2] @ [0.5, 0.5] - 0.5
    return np.asarray(cv2.warpAffine(part, from_part, (size, size), flags=cv2.INTER_LINEAR), dtype=np.uint8)
