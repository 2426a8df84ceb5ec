"""The unknowns of a fit, as one flat vector per person.

A fit moves ``x = [pose (72), betas, transl (3)]``: rotation vectors of the 24 joints (the first is
``global_orient``), shape coefficients, and the translation added after posing, metres. Updates are additive.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat

POSE_SIZE = 72


@dataclass(frozen=True)
class BodyParameters:
    """Pose, shape and place of a batch of bodies; camera space when fitted to a picture."""

    pose: Float[Tensor, "batch 72"]
    """Rotation vectors, radians, ``global_orient`` first."""
    betas: Float[Tensor, "batch betas"]
    transl: Float[Tensor, "batch 3"]

    @property
    def vector(self) -> Float[Tensor, "batch unknowns"]:
        """The unknowns side by side."""
        return torch.cat([self.pose, self.betas, self.transl], dim=-1)

    @staticmethod
    def from_vector(vector: Float[Tensor, "batch unknowns"]) -> "BodyParameters":
        """Inverse of `vector`."""
        return BodyParameters(vector[:, :POSE_SIZE], vector[:, POSE_SIZE:-3], vector[:, -3:])

    @property
    def size(self) -> int:
        """Number of unknowns a person."""
        return POSE_SIZE + self.betas.shape[-1] + 3

    def __getitem__(self, items: Tensor) -> "BodyParameters":
        """The chosen persons, by indices or a mask."""
        return BodyParameters(self.pose[items], self.betas[items], self.transl[items])

    def canonical(self) -> "BodyParameters":
        """The same rotations with every rotation vector at most pi long."""
        rotvecs = self.pose.unflatten(-1, (24, 3))
        return BodyParameters(rotmat_to_rotvec(rotvec_to_rotmat(rotvecs)).flatten(-2), self.betas, self.transl)


def concatenate(parts: list[BodyParameters]) -> BodyParameters:
    """Batches one after the other."""
    return BodyParameters(
        torch.cat([p.pose for p in parts]),
        torch.cat([p.betas for p in parts]),
        torch.cat([p.transl for p in parts]),
    )
