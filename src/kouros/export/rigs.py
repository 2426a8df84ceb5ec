"""Skeletons as animators expect them: bones that point along the limbs, a root on the floor, and names that their tools
know.

A bone's own axes are y along the bone, towards the next joint, and z to the front, as Mixamo, Blender and most
retargeting tools have them; of bones that point to the front (feet), z is up.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from kouros.body.skeleton import JOINT_NAMES, NUM_JOINTS

RigNames = Literal["smpl", "mixamo", "vrm", "unreal"]
"""Whose names bones have: this project's and SMPL's; Mixamo's; VRM 1.0's humanoid; Unreal Engine's mannequin's."""
ROOT = {"smpl": "root", "mixamo": "mixamorig:Root", "vrm": "root", "unreal": "root"}
"""Of the bone on the floor that carries all others."""
_MIXAMO = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2",
    "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
    "LeftForeArm", "RightForeArm", "LeftHand", "RightHand", "LeftHandMiddle1", "RightHandMiddle1",
)  # fmt: skip
_VRM = (
    "hips", "leftUpperLeg", "rightUpperLeg", "spine", "leftLowerLeg", "rightLowerLeg", "chest", "leftFoot", "rightFoot",
    "upperChest", "leftToes", "rightToes", "neck", "leftShoulder", "rightShoulder", "head", "leftUpperArm",
    "rightUpperArm", "leftLowerArm", "rightLowerArm", "leftHand", "rightHand", "leftMiddleProximal",
    "rightMiddleProximal",
)  # fmt: skip
_UNREAL = (
    "pelvis", "thigh_l", "thigh_r", "spine_01", "calf_l", "calf_r", "spine_02", "foot_l", "foot_r", "spine_03",
    "ball_l", "ball_r", "neck_01", "clavicle_l", "clavicle_r", "head", "upperarm_l", "upperarm_r",
    "lowerarm_l", "lowerarm_r", "hand_l", "hand_r", "middle_01_l", "middle_01_r",
)  # fmt: skip
JOINTS: dict[str, tuple[str, ...]] = {
    "smpl": JOINT_NAMES,
    "mixamo": tuple(f"mixamorig:{name}" for name in _MIXAMO),
    "vrm": _VRM,
    "unreal": _UNREAL,
}
"""Of the 24 joints, in their order."""

_TOWARDS = {
    "pelvis": "spine1", "spine1": "spine2", "spine2": "spine3", "spine3": "neck", "neck": "head",
    **{
        f"{side}_{joint}": f"{side}_{following}"
        for side in ("left", "right")
        for joint, following in (
            ("hip", "knee"), ("knee", "ankle"), ("ankle", "foot"),
            ("collar", "shoulder"), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand"),
        )
    },
}  # fmt: skip
"""The joint that each bone points to; of the last ones, where they go on to is said by `_ENDS`."""
_ENDS = {
    "head": (0.0, 1.0, 0.0),
    "left_foot": (0.0, 0.0, 1.0),
    "right_foot": (0.0, 0.0, 1.0),
    "left_hand": (1.0, 0.0, 0.0),
    "right_hand": (-1.0, 0.0, 0.0),
}
"""Directions in the T-pose, body space."""


def bone_axes(rest_joints: Float[np.ndarray, "24 3"]) -> Float[np.ndarray, "24 3 3"]:
    """Axes of each bone in the T-pose, as columns, body space.

    Args:
        rest_joints: of the T-pose, body space.
    """
    axes = np.empty((NUM_JOINTS, 3, 3))
    for joint, name in enumerate(JOINT_NAMES):
        if name in _TOWARDS:
            along = rest_joints[JOINT_NAMES.index(_TOWARDS[name])] - rest_joints[joint]
        else:
            along = np.array(_ENDS[name])
        along = along / np.linalg.norm(along)
        front = np.array([0.0, 0.0, 1.0]) if abs(along[2]) < 0.7 else np.array([0.0, 1.0, 0.0])
        front = front - (front @ along) * along
        front /= np.linalg.norm(front)
        axes[joint] = np.stack([np.cross(along, front), along, front], axis=1)
    return axes
