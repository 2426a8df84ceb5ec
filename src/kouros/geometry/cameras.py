"""Cameras: full perspective in the whole image, weak perspective on a square crop, and the way between them.

Camera space is OpenCV's (x right, y down, z forward, metres); pixels have (0, 0) at the top-left corner of
the top-left pixel, whose centre is (0.5, 0.5).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.batched import Batched

SPIN_FOCAL_LENGTH = 5000.0
"""Focal length, pixels, that SPIN and its successors assume on their 224-pixel crop."""
SPIN_CROP_SIZE = 224
LONGEST_FOCAL_LENGTH = 10_000_000
"""Pixels: more than any telescope's on the largest picture that is read."""


def check_focal_length(focal_length: float, named: str) -> None:
    """Raises ValueError, which begins with what it is ``named``, where that is no focal length in pixels."""
    if not 1 <= focal_length <= LONGEST_FOCAL_LENGTH:  # NaN too
        raise ValueError(f"{named} must be 1 to {LONGEST_FOCAL_LENGTH:,} pixels, not {focal_length}.")


@dataclass(frozen=True)
class PerspectiveCamera(Batched):
    """A pinhole: ``(u, v) = focal_length * (X, Y) / Z + principal_point``, pixels."""

    focal_length: Float[Tensor, "*batch"]
    principal_point: Float[Tensor, "*batch 2"]

    def project(self, points: Float[Tensor, "*batch points 3"]) -> Float[Tensor, "*batch points 2"]:
        """Pixels of points in camera space. Points on the camera's plane give infinities, as they should."""
        scaled = self.focal_length[..., None, None] * points[..., :2] / points[..., 2:]
        return scaled + self.principal_point[..., None, :]

    def scaled(self, factor: float) -> "PerspectiveCamera":
        """Of the same picture, ``factor`` times as large."""
        return PerspectiveCamera(self.focal_length * factor, self.principal_point * factor)

    def rays(self, pixels: Float[Tensor, "*batch points 2"]) -> Float[Tensor, "*batch points 3"]:
        """Points at depth 1 that project to ``pixels``."""
        xy = (pixels - self.principal_point[..., None, :]) / self.focal_length[..., None, None]
        return torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)


@dataclass(frozen=True)
class WeakPerspectiveCamera(Batched):
    """A distant body's image on a square crop: ``(u, v) = scale * (x + tx, y + ty)``, each in [-1, 1]."""

    scale: Float[Tensor, "*batch"]
    translation: Float[Tensor, "*batch 2"]

    def project(self, points: Float[Tensor, "*batch points 3"]) -> Float[Tensor, "*batch points 2"]:
        """Normalised crop coordinates in [-1, 1] of points in camera axes relative to the body's origin."""
        return self.scale[..., None, None] * (points[..., :2] + self.translation[..., None, :])


def perspective_translation(
    camera: WeakPerspectiveCamera,
    focal_length: float = SPIN_FOCAL_LENGTH,
    crop_size: int = SPIN_CROP_SIZE,
) -> Float[Tensor, "*batch 3"]:
    """Body translation, metres, for which a pinhole over the crop (pixels) agrees with ``camera``."""
    # HMR's paper scales, then translates; its code, like SPIN's and HMR 2.0's, translates first.
    depth = 2 * focal_length / (crop_size * camera.scale)
    return torch.cat([camera.translation, depth[..., None]], dim=-1)


def nominal_crop_camera(count: int, like: Tensor) -> PerspectiveCamera:
    """SPIN's pinhole over its 224-pixel crop, ``count`` times, with the dtype and device of ``like``.

    Whatever their size, crops count as this one: bodies in its space mean the same for all of them.
    """
    middle = like.new_full((count, 2), SPIN_CROP_SIZE / 2)
    return PerspectiveCamera(like.new_full((count,), SPIN_FOCAL_LENGTH), middle)


def weak_perspective_of(
    transl: Float[Tensor, "*batch 3"],
    camera: PerspectiveCamera,
    box_center: Float[Tensor, "*batch 2"],
    box_size: Float[Tensor, "*batch"],
) -> WeakPerspectiveCamera:
    """The weak-perspective camera on a square crop that sees the body's origin where ``camera`` sees it.

    Args:
        transl: the body's origin in ``camera``'s space, metres; in front of the camera.
        box_center: of the crop, pixels of the whole image.
        box_size: side of the crop, pixels of the whole image.
    """
    depth = transl[..., 2]
    scale = 2 * camera.focal_length / (box_size * depth)
    # Where the crop's centre sits at the body's depth; the crop's camera looks straight through it.
    center = (box_center - camera.principal_point) * (depth / camera.focal_length)[..., None]
    return WeakPerspectiveCamera(scale=scale, translation=transl[..., :2] - center)


def full_image_translation(
    weak: WeakPerspectiveCamera,
    camera: PerspectiveCamera,
    box_center: Float[Tensor, "*batch 2"],
    box_size: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch 3"]:
    """Inverse of `weak_perspective_of`: the body's translation, metres, in the whole image's camera."""
    depth = 2 * camera.focal_length / (box_size * weak.scale)
    center = (box_center - camera.principal_point) * (depth / camera.focal_length)[..., None]
    return torch.cat([weak.translation + center, depth[..., None]], dim=-1)
