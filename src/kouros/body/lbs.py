"""Linear blend skinning and what it needs, in SMPL's form (Loper et al. 2015)."""

import torch
from jaxtyping import Float
from torch import Tensor


def pose_feature(rotations: Float[Tensor, "*batch joints 3 3"]) -> Float[Tensor, "*batch features"]:
    """``R - I`` of every joint but the root, row-major (SMPL, Eq. 9)."""
    eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[..., 1:, :, :] - eye).flatten(-3)


def linear_blend_skinning(
    vertices: Float[Tensor, "batch verts 3"],
    rotations: Float[Tensor, "batch joints 3 3"],
    translations: Float[Tensor, "batch joints 3"],
    weights: Float[Tensor, "verts joints"],
) -> Float[Tensor, "batch verts 3"]:
    """Move each rest-pose vertex by the weighted mean of its joints' rigid transforms (SMPL, Eq. 2).

    Args:
        vertices: in the rest pose.
        rotations: of each joint's transform from the rest pose.
        translations: of the same transforms.
        weights: each row sums to 1.
    """
    transforms = torch.cat([rotations.flatten(-2), translations], dim=-1)
    blended = weights @ transforms
    rotated = blended[..., :9].unflatten(-1, (3, 3)) @ vertices[..., None]
    return rotated[..., 0] + blended[..., 9:]
