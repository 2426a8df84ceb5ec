"""The square crops that everything which looks at one person is shown: whose square, and the way there and back.

A crop is the square of some side around a centre, turned about it, then mirrored: one affine map, known exactly
both ways, that pictures, labels, keypoints and poses follow. Pixel centres are at halves throughout.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Float, Integer, UInt8

from kouros.data.images import ImageError
from kouros.data.schema import Sample

BOX_MARGIN = 1.2
"""Side of a person's square over the longer side of the box or the keypoints, as SPIN's preprocessing has it."""


def square_around(
    corners: Float[np.ndarray, "points 2"], margin: float = BOX_MARGIN
) -> tuple[Float[np.ndarray, "2"], float]:
    """Centre and side, pixels, of the square around a box's corners or a person's points; 0 where they coincide."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    return (low + high) / 2, margin * float((high - low).max())


def person_square(sample: Sample) -> tuple[Float[np.ndarray, "2"], float]:
    """Centre and side, pixels, of the square around a person: its own, or else by box or 2D keypoints.

    Raises:
        ImageError: nothing says where in the picture the person is.
    """
    if sample.box_center is not None and sample.box_size is not None:
        return np.asarray(sample.box_center, dtype=np.float64), float(sample.box_size)
    corners = np.zeros((0, 2))
    if sample.bbox is not None:
        corners = np.asarray(sample.bbox, dtype=np.float64).reshape(2, 2)
    elif sample.keypoints_2d is not None:
        corners = np.asarray(sample.keypoints_2d[sample.keypoints_2d[:, 2] > 0, :2], dtype=np.float64)
    if len(corners):
        center, side = square_around(corners)
        if side > 0:
            return center, side
    raise ImageError(f"{sample.image_path}: neither a box nor keypoints say where the person is.")


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

    @cached_property
    def matrix(self) -> Float[np.ndarray, "2 3"]:
        """Affine map of the photo's pixels to the crop's."""
        linear = self.size / self.side * self._turn()
        return np.column_stack([linear, self.size / 2 - linear @ self.center])

    @cached_property
    def inverse(self) -> Float[np.ndarray, "2 3"]:
        """Affine map of the crop's pixels to the photo's."""
        linear = self.side / self.size * self._turn().T  # a turn and a mirror are undone by their transpose
        return np.column_stack([linear, self.center - linear @ np.full(2, self.size / 2)])

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
