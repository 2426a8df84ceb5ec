"""Keypoints without the mesh: a sum over skinned vertices, regrouped into few (keypoint, joint) pairs.

A keypoint is ``sum_v r_kv t'_v`` over posed vertices, and a posed vertex is ``sum_j w_vj G'_j t_v`` (SMPL,
Eq. 2). Exchanging the sums leaves, for every keypoint and every joint that moves it, one anchor in that
joint's frame: a hundred points to transform instead of seven thousand, with the same result. A posed joint is
such a sum too, of one pair: its rest position, moved by its own transform.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.body.regressors import KeypointRows


@dataclass(frozen=True)
class KeypointTables:
    """``k = sum_p (R_j(p) (anchor_p + shape_p betas + pose_p vec(R - I)) + weight_p t_j(p))``.

    Summed over the pairs ``p`` of keypoint ``k``; ``R_j x + t_j`` is joint j's transform from the rest pose,
    ``G'_j`` in SMPL's Eq. 2.
    """

    keypoint: Int[Tensor, " pairs"]
    joint: Int[Tensor, " pairs"]
    anchor: Float[Tensor, "pairs 3"]
    shape: Float[Tensor, "pairs 3 betas"]
    pose: Float[Tensor, "pairs 3 features"]
    weight: Float[Tensor, " pairs"]
    num_keypoints: int

    def only(self, points: Sequence[int]) -> "KeypointTables":
        """The tables of some of the keypoints, in the order in which they are named."""
        place = self.keypoint.new_full((self.num_keypoints,), -1)
        place[list(points)] = torch.arange(len(points), device=place.device)
        kept = place[self.keypoint] >= 0
        return KeypointTables(
            keypoint=place[self.keypoint][kept],
            joint=self.joint[kept],
            anchor=self.anchor[kept],
            shape=self.shape[kept],
            pose=self.pose[kept],
            weight=self.weight[kept],
            num_keypoints=len(points),
        )


@dataclass(frozen=True)
class RestBody:
    """The arrays of a body at rest that the tables are made of."""

    v_template: Float[Tensor, "verts 3"]
    shapedirs: Float[Tensor, "verts 3 betas"]
    posedirs: Float[Tensor, "features coordinates"]
    weights: Float[Tensor, "verts joints"]
    joint_template: Float[Tensor, "joints 3"]
    joint_shapedirs: Float[Tensor, "joints 3 betas"]


def regroup(rows: KeypointRows, body: RestBody) -> KeypointTables:
    """Tables of the keypoints that ``rows`` place."""
    used = rows.used
    shares = rows.vertices[:, :, None] * body.weights[used]  # r_kv w_vj
    moved = (shares != 0).any(1) | (rows.joints != 0)
    keypoint, joint = torch.nonzero(moved, as_tuple=True)
    share = shares[keypoint, :, joint]
    joint_share = rows.joints[keypoint, joint]
    blend_shapes = body.posedirs.unflatten(-1, (-1, 3))[:, used]
    by_shape = torch.einsum("pv,vcb->pcb", share, body.shapedirs[used])
    return KeypointTables(
        keypoint=keypoint,
        joint=joint,
        anchor=share @ body.v_template[used] + joint_share[:, None] * body.joint_template[joint],
        shape=by_shape + joint_share[:, None, None] * body.joint_shapedirs[joint],
        pose=torch.einsum("pv,fvc->pcf", share, blend_shapes),
        weight=share.sum(-1) + joint_share,
        num_keypoints=len(rows.joints),
    )


def place_keypoints(
    tables: KeypointTables,
    betas: Float[Tensor, "batch betas"],
    pose_feature: Float[Tensor, "batch features"],
    transforms: Float[Tensor, "batch joints 3 4"],
) -> Float[Tensor, "batch points 3"]:
    """Keypoints of posed bodies.

    Args:
        tables: of the set.
        betas: shape coefficients.
        pose_feature: ``vec(R - I)`` of the joints but the root.
        transforms: of the joints, from the rest pose to the posed body.
    """
    offsets = betas @ tables.shape.flatten(0, 1).T + pose_feature @ tables.pose.flatten(0, 1).T
    anchors = tables.anchor + offsets.unflatten(-1, (-1, 3))
    moving = transforms[:, tables.joint]
    moved = (moving[..., :3] @ anchors[..., None])[..., 0] + tables.weight[:, None] * moving[..., 3]
    result = moved.new_zeros(len(moved), tables.num_keypoints, 3)
    return result.index_add(1, tables.keypoint, moved)
