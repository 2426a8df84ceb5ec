"""How far joints turn: soft limits learned from motion capture, and SMPLify's angle prior.

Each of the 69 numbers of ``body_pose`` has a range. Inside it costs nothing; outside, the excess squared.
A box around the rotation vectors is coarse for shoulders, but its Jacobian is diagonal, it is convex, and for
hinges (knees about x, elbows about y) it is anatomy's own form.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.priors.body_pose import POSE_SIZE, check_body_pose, index
from kouros.priors.energy import PriorEnergy, diagonal, sum_of_squares
from kouros.priors.packaged import FOLDER, read_arrays

DEFAULT_SOFTNESS = 0.1


@dataclass(frozen=True)
class JointLimits:
    """Ranges of the 69 numbers of ``body_pose``, radians."""

    lower: Float[Tensor, " 69"]
    upper: Float[Tensor, " 69"]
    softness: float = DEFAULT_SOFTNESS
    """Excess, radians, that counts as one standard deviation."""

    def to(self, like: Tensor) -> "JointLimits":
        """The same limits with the dtype and device of ``like``."""
        return JointLimits(self.lower.to(like), self.upper.to(like), self.softness)

    def excess(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch 69"]:
        """How far each number is above (positive) or below (negative) its range, radians; 0 inside.

        Raises:
            ValueError: ``body_pose`` is not ``(batch, 69)``.
        """
        check_body_pose(body_pose)
        return body_pose - torch.minimum(torch.maximum(body_pose, self.lower), self.upper)

    def energy(self, body_pose: Float[Tensor, "batch 69"]) -> PriorEnergy:
        """Least-squares form: the excess in units of `softness`."""
        excess = self.excess(body_pose)
        outside = (excess != 0).to(excess) / self.softness
        return sum_of_squares(excess / self.softness, diagonal(outside))

    def log_density(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, " batch"]:
        """Logarithm of the density up to a constant: 0 within the limits; differentiable."""
        return -0.5 * (self.excess(body_pose) / self.softness).square().sum(-1)


@dataclass(frozen=True)
class AnglePrior:
    """SMPLify's ``E_a``: bending knees and elbows the wrong way costs exponentially (Bogo et al. 2016, 3.2).

    The residuals are ``exp(sign * angle)`` of the left elbow's y (bends about -y), the right elbow's y (about
    +y), and both knees' x (about +x); in SMPL's 72 numbers these are 55, 58, 12 and 15, here three less.
    The published implementations add ``weight^2 exp(.)^2``, twice our energy times ``weight^2``.
    """

    numbers: tuple[int, ...] = (
        index("left_elbow", "y"),
        index("right_elbow", "y"),
        index("left_knee", "x"),
        index("right_knee", "x"),
    )
    signs: tuple[float, ...] = (1.0, -1.0, -1.0, -1.0)

    def residuals(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch 4"]:
        """One for each hinge; 1 for a straight limb, less for a bent one.

        Raises:
            ValueError: ``body_pose`` is not ``(batch, 69)``.
        """
        check_body_pose(body_pose)
        return (body_pose[:, list(self.numbers)] * body_pose.new_tensor(self.signs)).exp()

    def energy(self, body_pose: Float[Tensor, "batch 69"]) -> PriorEnergy:
        """Least-squares form."""
        residuals = self.residuals(body_pose)
        jacobian = residuals.new_zeros(len(residuals), len(self.numbers), POSE_SIZE)
        jacobian[:, range(len(self.numbers)), list(self.numbers)] = residuals * residuals.new_tensor(self.signs)
        return sum_of_squares(residuals, jacobian)

    def log_density(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, " batch"]:
        """Logarithm of the (improper) density; differentiable."""
        return -0.5 * self.residuals(body_pose).square().sum(-1)


def read_limits(path: Path, softness: float = DEFAULT_SOFTNESS) -> JointLimits:
    """Limits from a file of `kouros.priors.training`, float32.

    Raises:
        ValueError: not such a file, or a lower limit above its upper one.
    """
    arrays = read_arrays(path, {"lower": (POSE_SIZE,), "upper": (POSE_SIZE,)})
    lower, upper = (torch.from_numpy(arrays[name]).float() for name in ("lower", "upper"))
    if (lower > upper).any():
        raise ValueError(f"{path} has lower limits above upper ones; train the limits again.")
    return JointLimits(lower, upper, softness)


@cache
def load_limits() -> JointLimits:
    """The packaged limits, float32."""
    return read_limits(FOLDER / "limits.npz")
