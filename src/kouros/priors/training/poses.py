"""Body poses of a motion-capture folder, with their mirror images.

The folder holds ``sequences/KEY.npz`` (``poses`` (F, 72) rotation vectors, y up; ``valid`` (F,); ``split``)
and ``diverse_frames.npz`` (``poses``, ``split``), single frames picked for variety.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.priors.body_pose import JOINTS, MIRROR_ORDER, MIRROR_SIGN, POSE_SIZE

CREDIT = "Trained on motion capture from mocap.cs.cmu.edu. The database was created with funding from NSF EIA-0196217."


@dataclass(frozen=True)
class MocapPoses:
    """Poses of one split."""

    frames: Float[np.ndarray, "frames 69"]
    """Every valid frame of the sequences."""
    sequence: Int[np.ndarray, " frames"]
    """Which sequence each frame is of."""
    names: tuple[str, ...]
    """Of the sequences."""
    diverse: Float[np.ndarray, "picked 69"]
    """Frames picked for variety: rare poses count as much as common ones."""


def read_poses(folder: Path, split: str) -> MocapPoses:
    """Poses of one split, ``"train"`` or ``"val"``, float64, without mirror images.

    Raises:
        ValueError: the folder has no sequences of the split, or a file holds something else.
    """
    frames, sequence = [], []
    names: list[str] = []
    for path in sorted((folder / "sequences").glob("*.npz")):
        with np.load(path, allow_pickle=False) as clip:
            if str(clip["split"]) != split:
                continue
            poses = clip["poses"][clip["valid"]]
        frames.append(_body_poses(poses, path))
        sequence.append(np.full(len(poses), len(names)))
        names.append(path.stem)
    if not names:
        raise ValueError(f"{folder} has no motion capture of the split {split!r}; expected sequences/*.npz there.")
    path = folder / "diverse_frames.npz"
    with np.load(path, allow_pickle=False) as picked:
        diverse = _body_poses(picked["poses"][picked["split"] == split], path)
    return MocapPoses(np.concatenate(frames), np.concatenate(sequence), tuple(names), diverse)


def read_rest_joints(folder: Path) -> Float[Tensor, "24 3"]:
    """Joints of the skeleton that the rotations refer to, in its T-pose, metres."""
    with np.load(folder / "rest_skeleton.npz", allow_pickle=False) as skeleton:
        return torch.from_numpy(skeleton["joints"]).float()


def _body_poses(poses: np.ndarray, path: Path) -> Float[np.ndarray, "frames 69"]:
    if poses.ndim != 2 or poses.shape[1] != POSE_SIZE + 3 or not np.isfinite(poses).all():
        raise ValueError(f"`poses` of {path} is not (frames, 72) finite rotation vectors; convert the file first.")
    return poses[:, 3:].astype(np.float64)


def mirrored(poses: Float[np.ndarray, "*batch 69"]) -> Float[np.ndarray, "*batch 69"]:
    """The poses in a mirror."""
    return poses[..., list(MIRROR_ORDER)] * np.array(MIRROR_SIGN)


def with_mirror_images(poses: Float[np.ndarray, "frames 69"]) -> Float[np.ndarray, "twice 69"]:
    """The poses, then their mirror images."""
    return np.concatenate([poses, mirrored(poses)])


LIMBS = (
    ("left_hip", "left_knee", "left_ankle", "left_foot"),
    ("right_hip", "right_knee", "right_ankle", "right_foot"),
    ("left_collar", "left_shoulder", "left_elbow", "left_wrist", "left_hand"),
    ("right_collar", "right_shoulder", "right_elbow", "right_wrist", "right_hand"),
    ("neck", "head"),
)
"""Joints that move together; those left over are the torso."""


def recombined(
    poses: Float[np.ndarray, "frames 69"], count: int, rng: np.random.Generator
) -> Float[np.ndarray, "count 69"]:
    """Poses whose limbs come from different frames: possible, though nobody was recorded in them."""
    result = poses[rng.integers(len(poses), size=count)]
    for limb in LIMBS:
        numbers = [3 * JOINTS.index(joint) + axis for joint in limb for axis in range(3)]
        result[:, numbers] = poses[rng.integers(len(poses), size=count)][:, numbers]
    return result
