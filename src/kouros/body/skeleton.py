"""The 24-joint kinematic tree that SMPL made the field's standard: names, parents, left-right mirror."""

import torch
from jaxtyping import Float
from torch import Tensor

JOINT_NAMES = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hand", "right_hand",
)  # fmt: skip
NUM_JOINTS = len(JOINT_NAMES)
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""Parent of each joint; every parent comes before its children, the root's is -1."""


def mirror_permutation(names: tuple[str, ...]) -> tuple[int, ...]:
    """For each name the index of its mirror image: ``left_`` and ``right_`` exchanged.

    Raises:
        ValueError: a ``left_`` name has no ``right_`` partner.
    """
    swap = {"left_": "right_", "right_": "left_"}
    result = []
    for name in names:
        side = next((s for s in swap if name.startswith(s)), None)
        partner = name if side is None else swap[side] + name.removeprefix(side)
        result.append(names.index(partner))
    return tuple(result)


MIRROR = mirror_permutation(JOINT_NAMES)


def forward_kinematics(
    rotations: Float[Tensor, "*batch joints 3 3"],
    rest_joints: Float[Tensor, "*batch joints 3"],
    parents: tuple[int, ...] = PARENTS,
) -> tuple[Float[Tensor, "*batch joints 3 3"], Float[Tensor, "*batch joints 3"]]:
    """Global rotations and positions of the joints.

    Args:
        rotations: of each joint relative to its parent; the root's is global.
        rest_joints: joint positions in the rest pose, metres.

    Returns:
        Rotation of each joint's frame in body space, and its position, metres; the root stays where it rests.
    """
    global_rotations = [rotations[..., 0, :, :]]
    positions = [rest_joints[..., 0, :]]
    for joint, parent in enumerate(parents[1:], start=1):
        bone = rest_joints[..., joint, :] - rest_joints[..., parent, :]
        turned = (global_rotations[parent] @ bone[..., None])[..., 0]
        positions.append(positions[parent] + turned)
        global_rotations.append(global_rotations[parent] @ rotations[..., joint, :, :])
    return torch.stack(global_rotations, dim=-3), torch.stack(positions, dim=-2)
