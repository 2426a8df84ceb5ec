"""From the source's rest pose (arms lowered, elbows bent, legs apart) to the free body's T-pose.

Every limb bone is turned exactly onto its axis: arms along +-x, legs along -y, palms down, feet forward,
which is the zero pose of the motion-capture data. The turns are global rotations of the source's bones
and depend on the person, because the directions of the bones do.
"""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from kouros.body.free.source import People, Source
from kouros.body.skeleton import JOINT_NAMES, PARENTS

CLAVICLE_ELEVATION = np.radians(12.0)
"""Raising the arm from the source's pose by 50 degrees lifts the collar bone about a quarter of that."""

FOREARM_TWIST = {"lowerarm01": 1 / 3, "lowerarm02": 2 / 3}
"""Share of the hand's turn about the forearm that each forearm bone takes."""


def t_pose_rotations(source: Source, people: People) -> Float[np.ndarray, "people bones 3 3"]:
    """Global rotation of every bone, from the source's rest pose to the T-pose."""
    heads = {bone: people.bone_heads[:, k] for k, bone in enumerate(source.bones)}
    turns: dict[str, np.ndarray] = {"root": np.broadcast_to(np.eye(3), (len(people.vertices), 3, 3))}
    for side, sign in (("L", 1.0), ("R", -1.0)):
        turns |= _arm(heads, side, sign) | _leg(heads, side)
    result: list[np.ndarray] = []
    for bone, parent in zip(source.bones, source.bone_parents, strict=True):
        result.append(turns[bone] if bone in turns else result[parent])
    return np.stack(result, axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _frame(first: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Right-handed frames (columns): ``first``, the part of ``towards`` square to it, their cross product."""
    first, towards = np.broadcast_arrays(_unit(first), towards)
    second = _unit(towards - (towards * first).sum(-1, keepdims=True) * first)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def _arm(heads: dict[str, np.ndarray], side: str, sign: float) -> dict[str, np.ndarray]:
    outward = np.array([sign, 0.0, 0.0])
    upper = heads[f"lowerarm01.{side}"] - heads[f"upperarm01.{side}"]
    fore = heads[f"wrist.{side}"] - heads[f"lowerarm01.{side}"]
    hand = heads[f"finger3-1.{side}"] - heads[f"wrist.{side}"]
    hinge = np.cross(upper, fore) * sign
    # The elbow's hinge ends up vertical: the left one flexes about -y.
    hinge_axis = np.array([0.0, -1.0, 0.0])
    across = heads[f"finger2-1.{side}"] - heads[f"finger5-1.{side}"]
    upper_turn = _frame(outward, hinge_axis) @ np.swapaxes(_frame(upper, hinge), -1, -2)
    fore_turn = _frame(outward, hinge_axis) @ np.swapaxes(_frame(fore, hinge), -1, -2)
    hand_turn = _frame(outward, np.array([0.0, 0.0, 1.0])) @ np.swapaxes(_frame(hand, across), -1, -2)
    lift = Rotation.from_rotvec([0.0, 0.0, sign * CLAVICLE_ELEVATION]).as_matrix()
    turns = {
        f"clavicle.{side}": np.broadcast_to(lift, upper_turn.shape),
        f"upperarm01.{side}": upper_turn,
        f"wrist.{side}": hand_turn,
    }
    # Turn of the hand against the forearm about the forearm, spread over the forearm's bones.
    roll = twist_about(hand_turn @ np.swapaxes(fore_turn, -1, -2), outward)
    for bone, share in FOREARM_TWIST.items():
        turns[f"{bone}.{side}"] = Rotation.from_rotvec(share * roll).as_matrix() @ fore_turn
    return turns


def _leg(heads: dict[str, np.ndarray], side: str) -> dict[str, np.ndarray]:
    down = np.array([0.0, -1.0, 0.0])
    thigh = heads[f"lowerleg01.{side}"] - heads[f"upperleg01.{side}"]
    shank = heads[f"foot.{side}"] - heads[f"lowerleg01.{side}"]
    foot = heads[f"toe2-1.{side}"] - heads[f"foot.{side}"]
    yaw = np.arctan2(-foot[:, 0], foot[:, 2])
    return {
        f"upperleg01.{side}": shortest_turn(thigh, down),
        f"lowerleg01.{side}": shortest_turn(shank, down),
        f"foot.{side}": Rotation.from_rotvec(yaw[:, None] * [0.0, 1.0, 0.0]).as_matrix(),
    }


def shortest_turn(start: Float[np.ndarray, "n 3"], end: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "n 3 3"]:
    """The smallest rotation that takes each direction to ``end``."""
    start, end = _unit(start), np.broadcast_to(_unit(end), start.shape)
    axis = np.cross(start, end)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    angle = np.arctan2(sine, (start * end).sum(-1, keepdims=True))
    return Rotation.from_rotvec(axis / np.maximum(sine, 1e-12) * angle).as_matrix()


def twist_about(rotations: Float[np.ndarray, "*n 3 3"], axis: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "*n 3"]:
    """Rotation vector of each rotation's twist about ``axis`` (swing-twist decomposition, twist first)."""
    quat = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat()
    angle = 2 * np.arctan2(quat[:, :3] @ axis, quat[:, 3])
    angle = (angle + np.pi) % (2 * np.pi) - np.pi
    return (angle[:, None] * axis).reshape(*rotations.shape[:-2], 3)


def chain_positions(
    source: Source,
    heads: Float[np.ndarray, "n bones 3"],
    rotations: Float[np.ndarray, "n bones 3 3"],
    joints: Float[np.ndarray, "n 24 3"],
) -> Float[np.ndarray, "n bones 3"]:
    """Positions of the bones' heads, the 24 joints given, each other bone carried by its parent.

    Args:
        heads: in the pose from which the rotations are taken.
        rotations: global.
    """
    place = dict(zip(source.primary_bones, range(len(JOINT_NAMES)), strict=True))
    result: list[np.ndarray] = []
    for bone, parent in enumerate(source.bone_parents):
        if bone in place:
            result.append(joints[:, place[bone]])
        elif parent < 0:
            result.append(heads[:, bone])
        else:
            bone_vector = heads[:, bone] - heads[:, parent]
            result.append(result[parent] + (rotations[:, parent] @ bone_vector[..., None])[..., 0])
    return np.stack(result, axis=1)


def to_t_pose(
    source: Source, people: People, verts: np.ndarray
) -> tuple[Float[np.ndarray, "people kept 3"], Float[np.ndarray, "people bones 3"]]:
    """Vertices and bone heads of the people in the T-pose.

    Args:
        verts: the source vertices wanted.
    """
    rotations = t_pose_rotations(source, people)
    primary = list(source.primary_bones)
    heads, turns = people.bone_heads[:, primary], rotations[:, primary]
    joints = heads.copy()
    for joint, parent in enumerate(PARENTS[1:], start=1):
        bone_vector = heads[:, joint] - heads[:, parent]
        joints[:, joint] = joints[:, parent] + (turns[:, parent] @ bone_vector[..., None])[..., 0]
    positions = chain_positions(source, people.bone_heads, rotations, joints)
    return source.skin(people, rotations, positions, verts), positions


AXES = {
    "left_knee": (0.0, -1.0, 0.0), "left_ankle": (0.0, -1.0, 0.0), "right_knee": (0.0, -1.0, 0.0),
    "right_ankle": (0.0, -1.0, 0.0), "left_elbow": (1.0, 0.0, 0.0), "left_wrist": (1.0, 0.0, 0.0),
    "left_hand": (1.0, 0.0, 0.0), "right_elbow": (-1.0, 0.0, 0.0), "right_wrist": (-1.0, 0.0, 0.0),
    "right_hand": (-1.0, 0.0, 0.0),
}  # fmt: skip
"""Direction in the T-pose of the bone that ends in each of these joints."""
