"""Body poses of a motion-capture folder, with their mirror images.

The folder holds ``sequences/KEY.npz`` (``poses`` (F, 72) rotation vectors, y up; where known ``valid`` (F,) and
``split``), as ``kouros import amass``, ``aist`` and ``cmu`` write them, and ``diverse_frames.npz`` (``poses``,
``split``), single frames picked for variety: ``kouros import pose-bank FOLDER/sequences --out FOLDER``. Of sequences
that do not say their split, that file does (``keys``, ``splits``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.archives import ArchiveError, read_all_npz, read_npz
from kouros.priors.body_pose import JOINTS, MIRROR_ORDER, MIRROR_SIGN, POSE_SIZE


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
    path = folder / "diverse_frames.npz"
    if not path.is_file():
        raise ValueError(f"there is no {path}; make it with `kouros import pose-bank`.")
    picked = _arrays(path, "poses", "split")
    try:
        diverse = _body_poses(picked["poses"][picked["split"] == split], path)
        splits = (
            dict(zip(picked["keys"].tolist(), picked["splits"].tolist(), strict=True)) if "splits" in picked else {}
        )
    except (IndexError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: its arrays do not belong together ({error}); make it anew.") from None
    frames, sequence = [], []
    names: list[str] = []
    for path in sorted((folder / "sequences").rglob("*.npz")):
        name = path.relative_to(folder / "sequences").with_suffix("").as_posix()
        clip = _arrays(path, "poses")
        if _split_of(clip, path, splits.get(name)) != split:
            continue
        try:
            poses = clip["poses"][clip["valid"]] if "valid" in clip else clip["poses"]
        except IndexError as error:
            raise ValueError(f"{path}: `valid` does not belong to `poses` ({error}); convert the file first.") from None
        frames.append(_body_poses(poses, path))
        sequence.append(np.full(len(poses), len(names)))
        names.append(name)
    if not names:
        raise ValueError(f"{folder} has no motion capture of the split {split!r}; expected sequences/*.npz there.")
    return MocapPoses(np.concatenate(frames), np.concatenate(sequence), tuple(names), diverse)


def _split_of(clip: Mapping[str, np.ndarray], path: Path, divided: str | None) -> str:
    if "split" in clip:
        return str(clip["split"])
    if divided is None:
        raise ValueError(
            f"{path} does not say its split, nor does diverse_frames.npz; make that anew: "
            "`kouros import pose-bank FOLDER/sequences --out FOLDER`."
        )
    return divided


def read_rest_joints(folder: Path) -> Float[Tensor, "24 3"]:
    """Joints of the skeleton that the rotations refer to, in its T-pose, metres.

    Raises:
        ValueError: the folder does not hold it.
    """
    if not (folder / "rest_skeleton.npz").is_file():
        raise ValueError(
            f"there is no {folder / 'rest_skeleton.npz'}; it holds `joints` (24, 3), metres: in a T-pose, the skeleton "
            "that the rotations refer to, such as `joint_template` of the body that they were fitted with."
        )
    try:
        skeleton = read_npz(folder / "rest_skeleton.npz", {"joints": ((24, 3), "float32")})
    except ArchiveError as error:
        raise ValueError(f"{folder / 'rest_skeleton.npz'} holds no skeleton ({error}).") from None
    return torch.from_numpy(skeleton["joints"])


def _arrays(path: Path, *required: str) -> dict[str, np.ndarray]:
    try:
        arrays = read_all_npz(path)
    except ArchiveError as error:
        raise ValueError(f"{path} holds no motion capture ({error}); import it again.") from None
    if missing := [name for name in required if name not in arrays]:
        raise ValueError(f"{path} holds no {', '.join(missing)}; import it again.")
    return arrays


def _body_poses(poses: np.ndarray, path: Path) -> Float[np.ndarray, "frames 69"]:
    if poses.dtype.kind != "f" or poses.ndim != 2 or poses.shape[1] != POSE_SIZE + 3 or not np.isfinite(poses).all():
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
