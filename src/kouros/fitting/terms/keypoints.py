"""What a body is fitted to: keypoints in the picture, 3D landmarks, and the priors, as least-squares terms.

Each term is a small frozen object that turns unknowns into a `Linearization`: residuals with an analytic
Jacobian. Residuals are in units of their standard deviation, so that the sum of all terms is a negative
log-posterior up to a constant.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.batched import Batched
from kouros.fitting.linearization import Linearization
from kouros.fitting.terms.kinematics import LinearKeypoints
from kouros.geometry.cameras import PerspectiveCamera

FARTHEST_PIXEL = 1e6
"""Keypoints farther from the picture's corner than this, pixels, are taken for mistakes."""
NEAREST_DEPTH = 0.1
"""Keypoints closer to the camera's plane than this, metres, are not projected."""


@dataclass(frozen=True)
class GemanMcClure:
    """``rho(r^2) = scale^2 r^2 / (scale^2 + r^2)``: quadratic near zero, at most ``scale^2``.

    SMPLify's robust penalty (Bogo et al. 2016, Sec. 3.2), minimized by iteratively reweighted least squares.
    """

    scale: float

    def cost(self, squared: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """``rho`` of a squared residual."""
        return self.scale**2 * squared / (self.scale**2 + squared)

    def weight(self, squared: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """``d rho / d r^2``: weight of the equivalent least-squares term."""
        return (self.scale**2 / (self.scale**2 + squared)) ** 2


@dataclass(frozen=True)
class Reprojection(Batched):
    """Keypoints seen in the picture."""

    observed: Float[Tensor, "batch points 2"]
    """Pixels."""
    precision: Float[Tensor, "batch points"]
    """1 / standard deviation, per pixel; 0 leaves a keypoint out."""
    camera: PerspectiveCamera
    robust: GemanMcClure
    weight: Float[Tensor, "batch points"] | None = None
    """Of each keypoint's robust cost; default: all 1."""
    per_coordinate: bool = False
    """Whether the penalty is of x and y apart, as SMPLify and SPIN have it, or of their distance."""

    def __call__(self, keypoints: LinearKeypoints) -> Linearization:
        """Reprojection errors and their derivatives."""
        points = keypoints.points
        depth = points[..., 2]
        visible = depth > NEAREST_DEPTH
        precision = torch.where(visible, self.precision, 0.0)
        safe = torch.where(visible, depth, 1.0)
        focal = self.camera.focal_length[:, None] / safe
        normalised = points[..., :2] / safe[..., None]
        pixels = focal[..., None] * points[..., :2] + self.camera.principal_point[:, None]
        error = (pixels - self.observed) * precision[..., None]
        squared = error * error
        if not self.per_coordinate:
            squared = squared.sum(-1, keepdim=True)
        # Behind the camera nothing can be seen: charge the most that an outlier costs.
        most = self.robust.scale**2 * (self.precision > 0).to(squared)[..., None]
        charge = torch.where(visible[..., None], self.robust.cost(squared), most)
        root = self.robust.weight(squared).sqrt()
        if self.weight is not None:
            charge = charge * self.weight[..., None]
            root = root * self.weight.sqrt()[..., None]
        scaled = ((focal * precision)[..., None] * root)[..., None]
        jacobian = keypoints.jacobian
        by_pixel = scaled * (jacobian[..., :2, :] - normalised[..., None] * jacobian[..., 2:, :])
        return Linearization(
            cost=0.5 * charge.sum((1, 2)),
            residuals=(error * root).flatten(1),
            jacobian=by_pixel.flatten(1, 2),
        )


@dataclass(frozen=True)
class Landmarks(Batched):
    """3D landmarks known up to a translation (and, where asked, a scale), in camera axes.

    Both sides are centred on the weighted mean of the landmarks, so no single landmark is the origin.
    """

    observed: Float[Tensor, "batch points 3"]
    """Metres."""
    precision: Float[Tensor, "batch points 3"]
    """1 / standard deviation, per metre and axis; 0 leaves a landmark out."""
    robust: GemanMcClure
    scale_range: tuple[float, float] = (1.0, 1.0)
    """The landmarks are scaled by the best factor in this range (variable projection, Golub and Pereyra 1973)."""

    def __call__(self, keypoints: LinearKeypoints) -> Linearization:
        """Errors of the centred landmarks and their derivatives."""
        weight = self.precision.mean(-1)
        weight = weight / weight.sum(-1, keepdim=True).clamp(min=1e-12)
        points = keypoints.points - (weight[..., None] * keypoints.points).sum(1, keepdim=True)
        centred = self.observed - (weight[..., None] * self.observed).sum(1, keepdim=True)
        jacobian = keypoints.jacobian
        jacobian = jacobian - torch.einsum("bk,bkcn->bcn", weight, jacobian)[:, None]
        weighted = centred * self.precision.square()
        square = (weighted * centred).sum((1, 2)).clamp(min=1e-12)
        best = (weighted * points).sum((1, 2)) / square
        scale = best.clamp(*self.scale_range)
        # Where it is free, the scale follows the points.
        by_scale = torch.einsum("bkc,bkcn->bn", weighted, jacobian) * ((scale == best) / square)[:, None]
        jacobian = jacobian - centred[..., None] * by_scale[:, None, None]
        error = (points - scale[:, None, None] * centred) * self.precision
        squared = (error * error).sum(-1)
        root = self.robust.weight(squared).sqrt()
        return Linearization(
            cost=0.5 * self.robust.cost(squared).sum(-1),
            residuals=(error * root[..., None]).flatten(1),
            jacobian=((self.precision * root[..., None])[..., None] * jacobian).flatten(1, 2),
        )


def usable_keypoints(keypoints_2d: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
    """The same keypoints, with confidence 0 (and finite numbers) where there is nothing to be seen.

    That is where a coordinate or the confidence is not finite, the confidence is not positive, or the place
    is absurdly far from the picture. Confidences above 1 become 1.
    """
    finite = torch.isfinite(keypoints_2d).all(-1)
    sensible = finite & (keypoints_2d[..., :2].abs() < FARTHEST_PIXEL).all(-1)
    seen = sensible & (keypoints_2d[..., 2] > 0)
    cleaned = torch.where(seen[..., None], keypoints_2d, 0.0)
    return torch.cat([cleaned[..., :2], cleaned[..., 2:].clamp(max=1.0)], dim=-1)
