"""What says how a body is posed, shaped and placed, and which camera sees it: the one value that estimates, fits,
training targets and results are made of.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.batched import Batched
from kouros.body.model import BodyModel, BodyOutput
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat

POSE_SIZE = 72


@dataclass(frozen=True)
class PosedShape(Batched):
    """Pose and shape of bodies that stand anywhere; in camera axes, if a picture is what they explain."""

    pose: Float[Tensor, "*people 72"]
    """Rotation vectors of the 24 joints, radians, ``global_orient`` first."""
    betas: Float[Tensor, "*people betas"]


@dataclass(frozen=True)
class BodyParameters(PosedShape):
    """Pose, shape and place of bodies; in camera space, if a picture is what they explain.

    Also the unknowns of a fit, which moves ``vector`` by additive steps.
    """

    transl: Float[Tensor, "*people 3"]
    """Added after posing, metres."""

    @property
    def global_orient(self) -> Float[Tensor, "*people 3"]:
        """Rotation vector from body space."""
        return self.pose[..., :3]

    @property
    def body_pose(self) -> Float[Tensor, "*people 69"]:
        """Rotation vectors of joints 1 to 23, each relative to its parent."""
        return self.pose[..., 3:]

    @property
    def rotations(self) -> Float[Tensor, "*people 24 3 3"]:
        """The pose as matrices."""
        return rotvec_to_rotmat(self.pose.unflatten(-1, (24, 3)))

    @property
    def vector(self) -> Float[Tensor, "*people unknowns"]:
        """All numbers side by side."""
        return torch.cat([self.pose, self.betas, self.transl], dim=-1)

    @staticmethod
    def from_vector(vector: Float[Tensor, "*people unknowns"]) -> "BodyParameters":
        """Inverse of `vector`."""
        return BodyParameters(vector[..., :POSE_SIZE], vector[..., POSE_SIZE:-3], vector[..., -3:])

    @property
    def size(self) -> int:
        """Number of unknowns a person."""
        return POSE_SIZE + self.betas.shape[-1] + 3

    def canonical(self) -> "BodyParameters":
        """The same rotations with every rotation vector at most pi long."""
        return BodyParameters(rotmat_to_rotvec(self.rotations).flatten(-2), self.betas, self.transl)

    def posed_by(self, body: BodyModel) -> BodyOutput:
        """Meshes and joints of a batch, without gradients.

        Raises:
            ValueError: the number of betas is not the body's.
        """
        with torch.no_grad():
            return body(
                betas=self.betas, body_pose=self.body_pose, global_orient=self.global_orient, transl=self.transl
            )

    def keypoints_by(self, body: BodyModel, keypoint_set: str) -> Float[Tensor, "people points 3"]:
        """Points of a set, without meshes and gradients.

        Raises:
            KeyError: the body has no regressor for the set.
        """
        with torch.no_grad():
            return body.keypoint_positions(
                keypoint_set,
                betas=self.betas,
                body_pose=self.body_pose,
                global_orient=self.global_orient,
                transl=self.transl,
            )


@dataclass(frozen=True)
class Bodies(BodyParameters):
    """Bodies in the space of the cameras that see them."""

    camera: PerspectiveCamera
    """One a person, pixels: of the whole picture, or of a crop."""

    @staticmethod
    def of(parameters: BodyParameters, camera: PerspectiveCamera) -> "Bodies":
        """Parameters and the camera that sees them."""
        return Bodies(parameters.pose, parameters.betas, parameters.transl, camera)

    @staticmethod
    def from_rotations(
        rotations: Float[Tensor, "*people 24 3 3"],
        betas: Float[Tensor, "*people betas"],
        transl: Float[Tensor, "*people 3"],
        camera: PerspectiveCamera,
    ) -> "Bodies":
        """The same from rotation matrices, as networks have them."""
        return Bodies(rotmat_to_rotvec(rotations).flatten(-2), betas, transl, camera)
