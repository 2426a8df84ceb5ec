"""Linear blend skinning and what it needs, in SMPL's form (Loper et al. 2015): the formulas, in plain torch.

They run on any device, in any floating dtype, and can be differentiated any number of times.
`kouros.body.posing` calls them where `kouros.body.cpu_kernels`, faster forms of the same, do not apply.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def pose_feature(rotations: Float[Tensor, "*batch joints 3 3"]) -> Float[Tensor, "*batch features"]:
    """``R - I`` of every joint but the root, row-major (SMPL, Eq. 9)."""
    eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
    return (rotations[..., 1:, :, :] - eye).flatten(-3)


def rest_to_posed(
    global_rotations: Float[Tensor, "*batch joints 3 3"],
    positions: Float[Tensor, "*batch joints 3"],
    rest_joints: Float[Tensor, "*batch joints 3"],
) -> Float[Tensor, "*batch joints 3 4"]:
    """``G'``: what takes a point that is fixed to a joint from the rest pose to the posed body (SMPL, Eq. 4).

    Args:
        global_rotations: of the posed joints.
        positions: of the posed joints.
        rest_joints: positions of the joints at rest.
    """
    translations = positions[..., None] - global_rotations @ rest_joints[..., None]
    return torch.cat([global_rotations, translations], dim=-1)


def linear_blend_skinning(
    vertices: Float[Tensor, "*batch verts 3"],
    transforms: Float[Tensor, "*batch joints 3 4"],
    weights: Float[Tensor, "verts joints"],
) -> Float[Tensor, "*batch verts 3"]:
    """Move each rest-pose vertex by the weighted mean of its joints' rigid transforms (SMPL, Eq. 2).

    Args:
        vertices: in the rest pose.
        transforms: from the rest pose to the posed body, see `rest_to_posed`.
        weights: each row sums to 1.
    """
    blended = (weights @ transforms.flatten(-2)).unflatten(-1, (3, 4))
    return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
