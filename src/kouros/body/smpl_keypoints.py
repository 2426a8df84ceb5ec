"""The keypoint sets on SMPL's mesh, of which its files say nothing: the field's conventions.

SPIN (Kolotouros et al. 2019) takes keypoints from the 24 joints, from picked vertices (smplx's list), and
from nine rows of its `J_regressor_extra.npy`; Human3.6M's points come from `J_regressor_h36m.npy`. All of
this is for SMPL's mesh of 6,890 vertices.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.keypoints import (
    H36M17,
    KEYPOINT_SETS,
    LSP14,
    MPI_INF_3DHP17,
    MPII16,
    SMPL24,
    SPIN49,
    KeypointSet,
)
from kouros.body.regressors import KeypointRows, keypoint_rows
from kouros.body.skeleton import JOINT_NAMES

NUM_VERTICES = 6890
EXTRA_REGRESSOR, H36M_REGRESSOR = "J_regressor_extra.npy", "J_regressor_h36m.npy"
"""Names that SPIN and those after it keep the files by."""

PICKED_VERTICES = {
    "nose": 332, "right_eye": 6260, "left_eye": 2800, "right_ear": 4071, "left_ear": 583,
    "left_big_toe": 3216, "left_small_toe": 3226, "left_heel": 3387,
    "right_big_toe": 6617, "right_small_toe": 6624, "right_heel": 6787,
}  # fmt: skip

EXTRA_ROWS = {
    "right_hip_lsp": 0, "left_hip_lsp": 1, "neck_lsp": 2, "upper_neck_mpii": 2, "head_top": 3,
    "pelvis_mpii": 4, "thorax_mpii": 5, "spine_h36m": 6, "jaw_h36m": 7, "head_h36m": 8,
}  # fmt: skip
"""Rows of SPIN's `J_regressor_extra.npy`; MPII's upper neck is LSP's neck there."""

H36M_ROWS = {
    "pelvis_h36m": 0, "left_hip": 1, "left_knee": 2, "left_ankle": 3, "right_hip": 4, "right_knee": 5,
    "right_ankle": 6, "spine_h36m": 7, "thorax_h36m": 8, "jaw_h36m": 9, "head_top_h36m": 10,
    "left_shoulder": 11, "left_elbow": 12, "left_wrist": 13, "right_shoulder": 14, "right_elbow": 15,
    "right_wrist": 16,
    # MPI-INF-3DHP's points, as SPIN evaluates on them: the same rows.
    "pelvis_3dhp": 0, "spine_3dhp": 7, "neck_3dhp": 8, "head_3dhp": 9, "head_top": 10,
}  # fmt: skip
"""Rows of `J_regressor_h36m.npy`."""

_JOINTS = {name: index for index, name in enumerate(JOINT_NAMES)} | {"mid_hip": 0}
# OpenPose's neck lies between the shoulders, at the joint that SMPL calls neck.

_FROM_H36M = (H36M17, MPI_INF_3DHP17)
_NEEDS_EXTRA = (LSP14, MPII16, SPIN49)


def smpl_keypoint_rows(
    extra: Float[np.ndarray, "nine verts"] | None,
    h36m: Float[np.ndarray, "seventeen verts"] | None,
    num_vertices: int,
    dtype: torch.dtype,
) -> tuple[dict[str, KeypointRows], dict[str, str]]:
    """What places the sets, and for those that cannot be placed, what to do.

    Args:
        extra: SPIN's nine rows, if the user has them.
        h36m: Human3.6M's seventeen rows, if the user has them.
        num_vertices: of the body; only SMPL's own mesh has the picked vertices.
        dtype: of the result.
    """
    placed, missing = {}, {}
    for name, keypoints in KEYPOINT_SETS.items():
        if keypoints is SMPL24:
            placed[name] = joints_only(num_vertices, dtype)
        elif num_vertices != NUM_VERTICES:
            missing[name] = f"The others are known only on SMPL's mesh of {NUM_VERTICES} vertices."
        elif keypoints in _FROM_H36M and h36m is None:
            missing[name] = f"Put {H36M_REGRESSOR} beside the body file, or pass h36m_regressor= to load_body."
        elif keypoints in _NEEDS_EXTRA and extra is None:
            missing[name] = f"Put SPIN's {EXTRA_REGRESSOR} beside the body file, or pass extra_regressor= to load_body."
        elif any(_source(keypoints, k) is None for k in keypoints.names):
            unknown = ", ".join(k for k in keypoints.names if _source(keypoints, k) is None)
            missing[name] = f"No one has published where these lie on SMPL's mesh: {unknown}. Use the free body."
        else:
            placed[name] = _rows(keypoints, {"extra": extra, "h36m": h36m}, num_vertices, dtype)
    return placed, missing


def joints_only(num_vertices: int, dtype: torch.dtype) -> KeypointRows:
    """`SMPL24`: the kinematic joints themselves."""
    count = len(JOINT_NAMES)
    return keypoint_rows(torch.eye(count, dtype=dtype), torch.zeros(count, num_vertices, dtype=dtype))


def _source(keypoints: KeypointSet, keypoint: str) -> tuple[str, int] | None:
    """Where a keypoint comes from: ("joint" | "vertex" | "extra" | "h36m", index)."""
    name = keypoint.replace("openpose_", "")
    if keypoints in _FROM_H36M:
        return ("h36m", H36M_ROWS[name])
    for kind, places in (("vertex", PICKED_VERTICES), ("extra", EXTRA_ROWS), ("joint", _JOINTS)):
        if name in places:
            return (kind, places[name])
    return None


def _rows(
    keypoints: KeypointSet, regressors: Mapping[str, np.ndarray | None], num_vertices: int, dtype: torch.dtype
) -> KeypointRows:
    joints = torch.zeros(len(keypoints), len(JOINT_NAMES), dtype=dtype)
    vertices: Tensor = torch.zeros(len(keypoints), num_vertices, dtype=dtype)
    for row, keypoint in enumerate(keypoints.names):
        source = _source(keypoints, keypoint)
        assert source is not None
        kind, index = source
        if kind == "joint":
            joints[row, index] = 1.0
        elif kind == "vertex":
            vertices[row, index] = 1.0
        else:
            regressor = regressors[kind]
            assert regressor is not None
            vertices[row] = torch.from_numpy(regressor[index].copy()).to(dtype)
    return keypoint_rows(joints, vertices)
