"""What else a fit may weigh: priors of parts of the unknowns, depth, neighbouring frames.

The priors of `kouros.priors` know only their own numbers; `on_body_pose` and `on_betas` say where among the
unknowns those stand. As in `kouros.fitting.residuals`, costs are negative log-posteriors up to a constant.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.fitting.parameters import POSE_SIZE, BodyParameters
from kouros.fitting.solver import Linearization
from kouros.priors.energy import PriorEnergy

FARTHEST_PIXEL = 1e6
"""Keypoints farther from the picture's corner than this, pixels, are taken for mistakes."""
_ORIENT_SIZE = 3


Part = tuple[slice, Linearization]
"""A term of a range of the unknowns, for `add_up_normal`."""


def on_body_pose(energy: PriorEnergy) -> Part:
    """A prior of the 69 numbers of ``body_pose``."""
    return slice(_ORIENT_SIZE, POSE_SIZE), Linearization(energy.energy, energy.residuals, energy.jacobian)


def on_betas(energy: PriorEnergy) -> Part:
    """A prior of the betas."""
    count = energy.jacobian.shape[-1]
    return slice(POSE_SIZE, POSE_SIZE + count), Linearization(energy.energy, energy.residuals, energy.jacobian)


def on_all(part: Part, size: int) -> Linearization:
    """The same term of all ``size`` unknowns, for `add_up`."""
    where, at = part
    jacobian = torch.nn.functional.pad(at.jacobian, (where.start, size - where.stop))
    return Linearization(at.cost, at.residuals, jacobian)


@dataclass(frozen=True)
class KnownDepth:
    """A distance from the camera that is roughly known: the regulariser of SMPLify's camera stage."""

    depth: Float[Tensor, " batch"]
    """Metres."""
    precision: float
    """1 / standard deviation, per metre."""

    def __call__(self, parameters: BodyParameters) -> Linearization:
        """Error of the translation's third number."""
        residuals = (parameters.transl[:, 2:] - self.depth[:, None]) * self.precision
        jacobian = residuals.new_zeros(len(residuals), 1, parameters.size)
        jacobian[:, :, -1] = self.precision
        return Linearization(0.5 * residuals.square().sum(-1), residuals, jacobian)


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
