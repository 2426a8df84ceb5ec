"""The objective that the package's own schedules minimize, described once: a sum of terms of a batch of persons."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from kouros.batched import Batched
from kouros.body.parameters import BodyParameters
from kouros.fitting.linearization import NormalEquations, Part, add_up_normal
from kouros.fitting.terms.keypoints import Landmarks, Reprojection
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.fitting.terms.priors import KnownDepth, on_betas, on_body_pose
from kouros.priors.gmm import GaussianMixture
from kouros.priors.limits import AnglePrior, JointLimits
from kouros.priors.shape import ShapePrior


@dataclass(frozen=True)
class BodyObjective(Batched):
    """Evidence and priors of a batch of persons: half of a sum of squares, some of them robust.

    Called with unknowns, the normal equations there, by torch's operations; its rows are persons.
    """

    kinematics: KeypointKinematics
    mixture: GaussianMixture
    reprojection: Reprojection | None = None
    landmarks: Landmarks | None = None
    depth: KnownDepth | None = None
    limits: JointLimits | None = None
    mixture_weight: float = 0.0
    """Of the pose prior's energy."""
    shape_weight: float = 0.0
    """Of half the squared betas."""
    angle_weight: float = 0.0
    """Of the energy of `AnglePrior`."""

    def __call__(self, unknowns: Float[Tensor, "batch unknowns"]) -> NormalEquations:
        """Cost, ``J^T J`` and ``J^T r``."""
        return add_up_normal(self.terms(unknowns), unknowns.shape[-1])

    def terms(self, unknowns: Float[Tensor, "batch unknowns"]) -> list[Part]:
        """The terms one by one, each of the unknowns that it concerns."""
        parameters = BodyParameters.from_vector(unknowns)
        body_pose = parameters.pose[:, 3:]
        everything = slice(0, parameters.size)
        keypoints = self.kinematics.linearize(parameters)
        found: list[Part] = [(everything, t(keypoints)) for t in (self.reprojection, self.landmarks) if t is not None]
        if self.depth is not None:
            found.append((everything, self.depth(parameters)))
        if self.mixture_weight > 0:
            found.append(on_body_pose(self.mixture.energy(body_pose).weighted(self.mixture_weight)))
        if self.limits is not None:
            found.append(on_body_pose(self.limits.energy(body_pose)))
        if self.angle_weight > 0:
            found.append(on_body_pose(AnglePrior().energy(body_pose).weighted(self.angle_weight)))
        if self.shape_weight > 0:
            found.append(on_betas(ShapePrior().energy(parameters.betas).weighted(self.shape_weight)))
        return found
