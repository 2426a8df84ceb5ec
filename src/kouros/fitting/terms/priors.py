"""What else a fit may weigh: priors of parts of the unknowns, and a known depth.

The priors of `kouros.priors` know only their own numbers; `on_body_pose` and `on_betas` say where among the
unknowns those stand. As in `kouros.fitting.terms.keypoints`, costs are negative log-posteriors up to a constant.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from kouros.batched import Batched
from kouros.body.parameters import POSE_SIZE, BodyParameters
from kouros.fitting.linearization import Linearization, Part
from kouros.priors.energy import PriorEnergy

_ORIENT_SIZE = 3


def on_body_pose(energy: PriorEnergy) -> Part:
    """A prior of the 69 numbers of ``body_pose``."""
    return slice(_ORIENT_SIZE, POSE_SIZE), Linearization(energy.energy, energy.residuals, energy.jacobian)


def on_betas(energy: PriorEnergy) -> Part:
    """A prior of the betas."""
    count = energy.jacobian.shape[-1]
    return slice(POSE_SIZE, POSE_SIZE + count), Linearization(energy.energy, energy.residuals, energy.jacobian)


@dataclass(frozen=True)
class KnownDepth(Batched):
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
