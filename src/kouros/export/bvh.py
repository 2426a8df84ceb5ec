"""BVH: a skeleton in the T-pose and the angles of its joints at a constant rate, which every animation tool reads.

Metres, y up, facing +z at rest. Channels are Z, Y, X rotations in degrees: ``R = Rz Ry Rx``, as the format multiplies
them; the first joint has its place as well.
"""

from typing import Literal

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.export.motions import Motion
from kouros.export.rigs import JOINTS

BvhNames = Literal["smpl", "mixamo", "cmu", "vrm", "unreal"]
"""Whose names joints have: as the bones of a GLB, or those of the CMU motion capture database's BVH files."""
_CMU = (
    "Hips", "LeftUpLeg", "RightUpLeg", "LowerBack", "LeftLeg", "RightLeg", "Spine", "LeftFoot", "RightFoot", "Spine1",
    "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
    "LeftForeArm", "RightForeArm", "LeftHand", "RightHand", "LeftFingerBase", "RightFingerBase",
)  # fmt: skip
_ENDS = {"head": (0.0, 0.18, 0.0), "left_foot": (0.0, 0.0, 0.08), "right_foot": (0.0, 0.0, 0.08)}
_FINGER = 0.08
"""Metres from the last joint of a hand to its end."""


def joint_names(names: BvhNames) -> tuple[str, ...]:
    """What the 24 joints are called, in their order."""
    return _CMU if names == "cmu" else JOINTS[names]


def bvh_text(motion: Motion, frame_rate: float, names: BvhNames = "smpl") -> str:
    """A BVH file of one person's motion, put at a constant rate."""
    even = motion.even(frame_rate)
    called = joint_names(names)
    offsets = motion.rest.copy()
    offsets[1:] -= motion.rest[list(PARENTS[1:])]
    offsets[0] = 0
    order: list[int] = []
    lines = ["HIERARCHY", *_joint(0, 0, offsets, called, order)]
    angles = Rotation.from_matrix(even.turns[:, order].reshape(-1, 3, 3)).as_euler("ZYX", degrees=True)
    rows = np.concatenate([even.pelvis, angles.reshape(len(even.turns), -1)], axis=1)
    lines += ["MOTION", f"Frames: {len(rows)}", f"Frame Time: {1 / frame_rate:.8f}"]
    lines += [" ".join(f"{value:.6f}" for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def _joint(joint: int, depth: int, offsets: np.ndarray, names: tuple[str, ...], order: list[int]) -> list[str]:
    order.append(joint)
    pad, inner = "  " * depth, "  " * (depth + 1)
    place = "Xposition Yposition Zposition " if joint == 0 else ""
    channels = f"{6 if joint == 0 else 3} {place}Zrotation Yrotation Xrotation"
    kind = "ROOT" if joint == 0 else "JOINT"
    lines = [f"{pad}{kind} {names[joint]}", f"{pad}{{"]
    lines += [f"{inner}OFFSET {_three(offsets[joint])}", f"{inner}CHANNELS {channels}"]
    children = [child for child, parent in enumerate(PARENTS) if parent == joint]
    for child in children:
        lines += _joint(child, depth + 1, offsets, names, order)
    if not children:
        side = np.sign(offsets[joint][0])
        end = _ENDS.get(JOINT_NAMES[joint], (side * _FINGER, 0.0, 0.0))
        lines += [f"{inner}End Site", f"{inner}{{", f"{inner}  OFFSET {_three(end)}", f"{inner}}}"]
    return [*lines, f"{pad}}}"]


def _three(values: np.ndarray | tuple[float, ...]) -> str:
    return " ".join(f"{float(value):.6f}" for value in values)
