"""Calibrated cameras: what OpenCV's calibration knows of a lens, and pictures as a pinhole would have taken them.

The rest of kouros knows pinholes with square pixels. A lens that distorts is dealt with at the door: points and
pictures are straightened, so that everything after it, overlays too, is of the straightened picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from kouros.geometry.cameras import LONGEST_FOCAL_LENGTH, PerspectiveCamera, check_focal_length

_COUNTS = (0, 4, 5, 8, 12, 14)
"""Numbers of coefficients that OpenCV's models of distortion have."""
_SAME_SHAPE = 0.01
"""Relative difference of aspect ratios up to which a picture counts as a scaled one of the calibrated size."""

_STEPS = 20

KnownFrom = Literal["given", "in the file", "assumed"]


@dataclass(frozen=True)
class Calibration:
    """Intrinsics of one camera, in the pixels of its pictures ((0, 0) is the corner of the top-left pixel)."""

    focal_length: tuple[float, float]
    """Along x and y, pixels."""
    principal_point: tuple[float, float]
    """x and y, pixels."""
    distortion: tuple[float, ...] = ()
    """In OpenCV's order: k1, k2, p1, p2, k3, ...; none: a pinhole."""
    image_size: tuple[int, int] | None = None
    """Width and height of the pictures that it was calibrated on, pixels; None: those it is used for."""
    known_from: KnownFrom = "given"
    """Who says how long the lens is: people, the picture's file, or nobody."""

    def __post_init__(self) -> None:
        numbers = (*self.focal_length, *self.principal_point, *self.distortion)
        if not all(map(math.isfinite, numbers)):
            raise ValueError(
                f"a camera needs finite numbers, in pixels; got fx, fy = "
                f"{self.focal_length}, cx, cy = {self.principal_point}, distortion {self.distortion}."
            )
        for focal_length in self.focal_length:
            check_focal_length(focal_length, "a camera's focal length")
        if max(map(abs, self.principal_point)) > LONGEST_FOCAL_LENGTH:
            raise ValueError(
                f"the principal point {self.principal_point} is too far from any picture's middle, pixels."
            )
        if not 0.2 < self.focal_length[0] / self.focal_length[1] < 5:
            raise ValueError(f"focal lengths of {self.focal_length} pixels are of no camera: they differ too much.")
        if len(self.distortion) not in _COUNTS:
            raise ValueError(
                f"{len(self.distortion)} coefficients of distortion are given; OpenCV's models have "
                f"{', '.join(map(str, _COUNTS[1:]))}."
            )

    @staticmethod
    def of_numbers(numbers: object, distortion: Sequence[float] = ()) -> "Calibration":
        """From fx, fy, cx, cy or a 3 x 3 matrix.

        Raises:
            ValueError: neither of the two, or no camera.
        """
        try:
            array = np.asarray(numbers, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.shape == (3, 3):
            if abs(array[0, 1]) > 1e-3 * abs(array[0, 0]) or np.abs(array[[1, 2, 2], [0, 0, 1]]).max() > 1e-6:
                raise ValueError(f"the camera matrix {array.tolist()} is not [[fx, 0, cx], [0, fy, cy], [0, 0, 1]].")
            array = array[[0, 1, 0, 1], [0, 1, 2, 2]] / (array[2, 2] or 1.0)
        if array.shape != (4,):
            raise ValueError(f"a camera is fx, fy, cx, cy or a 3 x 3 matrix, in pixels; got {numbers!r}.")
        fx, fy, cx, cy = (float(number) for number in array)
        return Calibration((fx, fy), (cx, cy), tuple(float(d) for d in distortion))

    def of_size(self, width: int, height: int) -> "Calibration":
        """The same camera with pictures of another size.

        Raises:
            ValueError: pictures of that shape are no scaled ones of the calibrated size.
        """
        if self.image_size is None or self.image_size == (width, height):
            return replace(self, image_size=(width, height))
        across, down = width / self.image_size[0], height / self.image_size[1]
        if abs(across / down - 1) > _SAME_SHAPE:
            raise ValueError(
                f"the camera was calibrated for pictures of {self.image_size[0]} x {self.image_size[1]} pixels, but "
                f"this one has {width} x {height}, which is no scaled version of them. Is it cropped or turned?"
            )
        (fx, fy), (cx, cy) = self.focal_length, self.principal_point
        return replace(
            self,
            focal_length=(fx * across, fy * down),
            principal_point=(cx * across, cy * down),
            image_size=(width, height),
        )

    @property
    def ideal(self) -> "Calibration":
        """Of the straightened picture."""
        return replace(self, focal_length=(self._focal, self._focal), distortion=())

    @property
    def pinhole(self) -> PerspectiveCamera:
        """The camera of the straightened picture: square pixels, the same principal point."""
        return PerspectiveCamera(torch.tensor(self._focal), torch.tensor(self.principal_point))

    @property
    def is_pinhole(self) -> bool:
        """Whether pictures are straight as they are."""
        fx, fy = self.focal_length
        return not any(self.distortion) and abs(fx / fy - 1) < 1e-4

    def straightened(self, points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
        """Where the ideal camera sees what this one sees at ``points``, pixels."""
        if self.is_pinhole or not len(points):
            return points
        seen = points.astype(np.float64)
        rays = cv2.undistortPoints(seen[:, None], self._matrix(), self._coefficients())[:, 0]
        # OpenCV stops after five steps; corners of wide lenses need more.
        for _ in range(_STEPS):
            flat = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
            again, _ = cv2.projectPoints(flat, np.zeros(3), np.zeros(3), self._matrix(), self._coefficients())
            rays = rays + (seen - again[:, 0]) / np.array(self.focal_length)
        return (rays * self._focal + np.array(self.principal_point)).astype(points.dtype)

    def straightened_picture(self, pixels: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """The picture as the ideal camera would have taken it; what it did not see is black."""
        if self.is_pinhole:
            return pixels
        height, width = pixels.shape[:2]
        return cv2.remap(pixels, *_maps(self, width, height), cv2.INTER_LINEAR)

    @property
    def _focal(self) -> float:
        return math.sqrt(self.focal_length[0] * self.focal_length[1])

    def _matrix(self, focal: tuple[float, float] | None = None, shift: float = 0.0) -> np.ndarray:
        (fx, fy), (cx, cy) = focal or self.focal_length, self.principal_point
        return np.array([[fx, 0, cx - shift], [0, fy, cy - shift], [0, 0, 1]], dtype=np.float64)

    def _coefficients(self) -> np.ndarray | None:
        return np.array(self.distortion, dtype=np.float64) if self.distortion else None


@lru_cache(maxsize=2)
def _maps(camera: Calibration, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the ideal camera's picture lies in the camera's own; of a film, computed once."""
    # OpenCV's pixels have their centres at whole numbers.
    ideal, own = (camera._matrix(focal, 0.5) for focal in ((camera._focal, camera._focal), None))
    return cv2.initUndistortRectifyMap(own, camera._coefficients(), None, ideal, (width, height), cv2.CV_32FC1)
