"""Keypoints without the mesh: a sum over skinned vertices, regrouped exactly into few (keypoint, joint) pairs.

A keypoint is ``sum_v r_kv t'_v`` over posed vertices, and a posed vertex is ``sum_j w_vj G'_j t_v`` (SMPL, Eq. 2).
Exchanging the sums leaves, for every keypoint and every joint that moves it, one anchor in that joint's frame:
a hundred points to transform instead of seven thousand, with the same result.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class KeypointTables:
    """``k = sum_p (R_j(p) (anchor_p + shape_p betas + pose_p vec(R - I)) + weight_p t_j(p))`` over the pairs
    ``p`` of keypoint ``k``; ``R_j x + t_j`` is joint j's transform from the rest pose, ``G'_j`` in SMPL's Eq. 2.
    """

    keypoint: Int[Tensor, " pairs"]
    joint: Int[Tensor, " pairs"]
    anchor: Float[Tensor, "pairs 3"]
    shape: Float[Tensor, "pairs 3 betas"]
    pose: Float[Tensor, "pairs 3 features"]
    weight: Float[Tensor, " pairs"]
    num_keypoints: int


def regroup(
    regressor: Float[Tensor, "keypoints verts"],
    weights: Float[Tensor, "verts joints"],
    v_template: Float[Tensor, "verts 3"],
    shapedirs: Float[Tensor, "verts 3 betas"],
    posedirs: Float[Tensor, "features coordinates"],
) -> KeypointTables:
    """Tables of the keypoints that ``regressor`` places. Only the vertices it uses are touched."""
    used = torch.nonzero((regressor != 0).any(0)).flatten()
    shares = regressor[:, used, None] * weights[used]  # r_kv w_vj
    keypoint, joint = torch.nonzero((shares != 0).any(1), as_tuple=True)
    share = shares[keypoint, :, joint]
    moved_by_pose = posedirs.unflatten(-1, (-1, 3))[:, used]
    return KeypointTables(
        keypoint=keypoint,
        joint=joint,
        anchor=share @ v_template[used],
        shape=torch.einsum("pv,vcb->pcb", share, shapedirs[used]),
        pose=torch.einsum("pv,fvc->pcf", share, moved_by_pose),
        weight=share.sum(-1),
        num_keypoints=len(regressor),
    )
