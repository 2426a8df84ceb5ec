"""Square pieces of an image, turned and perhaps mirrored, and the way between them and the image.

Both networks look at squares: the detector at upright ones that cover the image, the landmark model at one
per person, turned so that the body stands upright in it.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8


@dataclass(frozen=True)
class Region:
    """A square of an image: where it lies, how it is turned, and whether it is looked at in a mirror.

    Crop coordinates run from (0, 0) at the square's first corner to (1, 1) at the opposite one. A crop of N
    pixels samples them at 0/N, 1/N, ... (N-1)/N: MediaPipe's networks were made for that, and a shift of half
    a crop pixel moves their 3D landmarks by one or two centimetres.
    """

    x: float
    """Centre, pixels of the image."""
    y: float
    size: float
    """Side, pixels of the image."""
    angle: float = 0.0
    """Radians; the crop's x axis points along (cos, sin) in the image (y down: clockwise as seen)."""
    mirrored: bool = False

    @property
    def axes(self) -> Float[np.ndarray, "2 2"]:
        """Columns: the crop's x and y axes as unit vectors of the image."""
        c, s = math.cos(self.angle), math.sin(self.angle)
        sign = -1.0 if self.mirrored else 1.0
        return np.array([[sign * c, -s], [sign * s, c]])

    def to_image(self, points: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels of points given in crop coordinates."""
        return (points - 0.5) @ (self.size * self.axes.T) + np.array([self.x, self.y])

    def to_crop(self, points: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Crop coordinates of points given in pixels."""
        return (points - np.array([self.x, self.y])) @ (self.axes / self.size) + 0.5

    def corners(self) -> Float[np.ndarray, "4 2"]:
        """The square's corners, pixels."""
        return self.to_image(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))

    def varied(self, scale: float = 1.0, turn: float = 0.0, mirrored: bool = False) -> "Region":
        """The same place looked at differently: ``scale`` times the side, turned by ``turn`` radians."""
        return Region(self.x, self.y, self.size * scale, self.angle + turn, mirrored != self.mirrored)


REGION_MARGIN = 1.25
"""Side of a person's region over the diameter of the circle around the body, as the models expect it."""


def upright_region(center: Float[np.ndarray, " 2"], above: Float[np.ndarray, " 2"]) -> Region:
    """The region of a body with its hips at ``center``, turned so that ``above`` is straight up in it.

    MediaPipe's alignment points: ``above`` lies on the circle around the whole body, pixels.
    """
    dx, dy = (above - center).tolist()
    angle = math.pi / 2 - math.atan2(-dy, dx)
    angle -= 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi))
    return Region(float(center[0]), float(center[1]), 2 * REGION_MARGIN * math.hypot(dx, dy), angle)


class Pyramid:
    """An image with its halved copies, made when first asked for.

    MediaPipe samples the full image bilinearly, which skips most pixels where a crop is shrunk a lot. From a
    fourfold shrinking on we sample halved copies instead, which bounds the cost on huge images; below that
    our crops are MediaPipe's own.
    """

    def __init__(self, image: UInt8[np.ndarray, "height width 3"]) -> None:
        self._levels = [image]

    @property
    def full(self) -> UInt8[np.ndarray, "height width 3"]:
        """The image itself."""
        return self._levels[0]

    @property
    def width(self) -> int:
        """Pixels of the full image."""
        return self._levels[0].shape[1]

    @property
    def height(self) -> int:
        """Pixels of the full image."""
        return self._levels[0].shape[0]

    def _level(self, shrink: float) -> UInt8[np.ndarray, "height width 3"]:
        wanted = max(0, math.floor(math.log2(max(shrink, 1.0))) - 1)
        while len(self._levels) <= wanted and min(self._levels[-1].shape[:2]) >= 2:
            last = self._levels[-1]
            half = (last.shape[1] // 2, last.shape[0] // 2)
            self._levels.append(cv2.resize(last, half, interpolation=cv2.INTER_AREA))
        return self._levels[min(wanted, len(self._levels) - 1)]

    def crop(self, region: Region, size: int, *, replicate_border: bool) -> UInt8[np.ndarray, "size size 3"]:
        """Pixels of a region, ``size`` a side.

        Args:
            replicate_border: continue the image's edge beyond it; else black.
        """
        level = self._level(region.size / size)
        ratio = np.array([level.shape[1] / self.width, level.shape[0] / self.height])
        origin, right, down = region.to_image(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) * ratio
        linear = np.stack([right - origin, down - origin], axis=1) / size
        return cv2.warpAffine(
            level,
            np.column_stack([linear, origin - 0.5]),  # OpenCV counts from the first pixel's centre
            (size, size),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE if replicate_border else cv2.BORDER_CONSTANT,
        )


def covering_regions(width: int, height: int, levels: int = 3, min_side: float = 48.0) -> list[Region]:
    """Upright squares that cover an image: the whole of it first, then overlapping tiles, larger ones first.

    The tiles of level k have sides of ``1.35 / k`` of the image's longer side and overlap by at least half. A
    picture longer than twice its height (or the reverse) is walked along in squares of twice its short side
    instead, since a person in a panorama shrunk to one square is a few pixels high.

    Args:
        levels: 1 gives no tiles.
        min_side: tiles smaller than this, pixels, are left out: there is nothing to see in them.
    """
    long_side, short_side = float(max(width, height)), float(min(width, height))
    reach = max(min(long_side, 2 * short_side), long_side / 8)
    # MediaPipe counts from the first pixel's centre, so its middle of the image lies half a pixel further on.
    regions = [Region(width / 2 + 0.5, height / 2 + 0.5, long_side)]
    sides = [reach] if reach < long_side else []
    sides += [1.35 / level * reach for level in range(2, levels + 1)] if levels > 1 else []
    for side in sides:
        if side >= min_side and levels > 1:
            regions += [Region(x, y, side) for y in _tile_centers(height, side) for x in _tile_centers(width, side)]
    return regions


def _tile_centers(length: int, side: float) -> list[float]:
    if side >= length:
        return [length / 2]
    count = math.ceil((length - side) / (side / 2)) + 1
    return np.linspace(side / 2, length - side / 2, count).tolist()
