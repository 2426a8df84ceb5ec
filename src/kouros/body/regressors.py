"""What places a keypoint set on a body: each keypoint a weighted sum of joints and vertices.

SMPL's community takes some keypoints from the kinematic joints (a knee) and others from the skin (a heel);
a row may therefore name both. Only the vertices that a set uses are kept.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class KeypointRows:
    """``keypoint = sum_j joints_kj joint_j + sum_v vertices_kv vertex_v``; rows usually sum to 1."""

    joints: Float[Tensor, "points joints"]
    vertices: Float[Tensor, "points used"]
    used: Int[Tensor, " used"]
    """The vertices that the columns of ``vertices`` stand for."""


def keypoint_rows(joints: Float[Tensor, "points joints"], vertices: Float[Tensor, "points verts"]) -> KeypointRows:
    """Rows from dense matrices over all joints and all vertices."""
    used = torch.nonzero((vertices != 0).any(dim=0)).flatten()
    return KeypointRows(joints, vertices[:, used].contiguous(), used)


class KeypointRegressor(nn.Module):
    """Holds `KeypointRows` as buffers, so that they follow the body to its device and dtype."""

    joints: Tensor
    vertices: Tensor
    used: Tensor

    def __init__(self, rows: KeypointRows) -> None:
        super().__init__()
        self.register_buffer("joints", rows.joints, persistent=False)
        self.register_buffer("vertices", rows.vertices, persistent=False)
        self.register_buffer("used", rows.used, persistent=False)

    @property
    def rows(self) -> KeypointRows:
        """The buffers as a value."""
        return KeypointRows(self.joints, self.vertices, self.used)

    def forward(
        self, joints: Float[Tensor, "batch joints 3"], vertices: Float[Tensor, "batch verts 3"]
    ) -> Float[Tensor, "batch points 3"]:
        """Keypoints of posed bodies."""
        return self.joints @ joints + self.vertices @ vertices[:, self.used]
