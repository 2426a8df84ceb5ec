"""A motion: the rotations of the 24 joints and the place of the pelvis, frame by frame; and its file.

The file is an ``.npz`` with AMASS-like names: ``poses`` (F, 72), ``trans`` (F, 3), ``mocap_framerate``, and
where known ``valid`` (F,), ``betas``, and the texts ``gender label subject split source license``. Unlike
AMASS's, the world has y up and ``trans`` is the pelvis joint itself.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.archives import ArchiveError, as_wanted, read_all_npz
from kouros.data.schema import DatasetError
from kouros.files import npz_bytes, write_file

ORIGIN = "import"
"""Key under which an imported file says what it was made from."""
_TEXTS = ("gender", "label", "subject", "split", "source", "license")


@dataclass(frozen=True, eq=False)
class Motion:
    """One clip."""

    poses: np.ndarray
    """(frames, 72) float32 rotation vectors, each joint relative to its parent, the first to the world."""
    trans: np.ndarray
    """(frames, 3) float32: the pelvis in the world, metres, y up."""
    frame_rate: float
    valid: np.ndarray | None = None
    """(frames,) bool: False where the capture jumped or is impossible."""
    betas: np.ndarray | None = None
    """(10,); of the body model of `gender`."""
    gender: str | None = None
    label: str | None = None
    subject: str | None = None
    split: str | None = None
    source: str | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        frames = len(self.poses)
        if self.poses.shape != (frames, 72) or self.trans.shape != (frames, 3):
            raise DatasetError(
                f"A motion has poses of shape {self.poses.shape} and trans of {self.trans.shape}; expected "
                f"(frames, 72) and (frames, 3)."
            )
        if self.betas is not None and self.betas.ndim != 1:
            raise DatasetError(f"A motion has betas of shape {self.betas.shape}; expected one row of them.")
        for numbers in (self.poses, self.trans, self.betas):
            if numbers is not None and not (numbers.dtype.kind == "f" and np.isfinite(numbers).all()):
                raise DatasetError("A motion has numbers that are not finite.")
        if not (np.isfinite(self.frame_rate) and self.frame_rate > 0):
            raise DatasetError(f"A motion has a frame rate of {self.frame_rate}; expected a positive number.")
        if self.valid is not None and self.valid.shape != (frames,):
            raise DatasetError(f"A motion has valid of shape {self.valid.shape}; expected ({frames},).")

    def every(self, stride: int) -> "Motion":
        """Every ``stride``-th frame, beginning with the first."""
        return replace(
            self,
            poses=self.poses[::stride],
            trans=self.trans[::stride],
            valid=None if self.valid is None else self.valid[::stride],
            frame_rate=self.frame_rate / stride,
        )

    def between(self, first: int, end: int) -> "Motion":
        """Frames from ``first`` up to ``end``."""
        return replace(
            self,
            poses=self.poses[first:end],
            trans=self.trans[first:end],
            valid=None if self.valid is None else self.valid[first:end],
        )

    def at_most(self, frame_rate: float) -> "Motion":
        """Thinned to the lowest rate, by leaving out whole frames, that is not below ``frame_rate``."""
        return self.every(max(1, int(self.frame_rate / frame_rate + 1e-6)))


def read_motion(path: Path) -> Motion:
    """Read a motion's file.

    Raises:
        DatasetError: the file is missing or something else; AMASS's files are told from these by their 156
            numbers.
    """
    arrays = load_arrays(path, ("poses", "trans", "mocap_framerate"))
    texts = {key: str(arrays[key]) for key in _TEXTS if key in arrays}
    try:
        return Motion(
            poses=as_wanted(arrays["poses"], (None, "float32"), name="poses"),
            trans=as_wanted(arrays["trans"], (None, "float32"), name="trans"),
            frame_rate=float(as_wanted(arrays["mocap_framerate"], ((), "float64"), name="mocap_framerate")),
            valid=as_wanted(arrays["valid"], (None, "bool"), name="valid") if "valid" in arrays else None,
            betas=as_wanted(arrays["betas"], (None, "float32"), name="betas") if "betas" in arrays else None,
            **texts,
        )
    except (DatasetError, ArchiveError) as error:
        raise DatasetError(f"{path}: {error}") from None


def write_motion(path: Path, motion: Motion, *, origin: str | None = None) -> None:
    """Write a motion's file, whole or not at all; ``origin`` is noted in it."""
    arrays: dict[str, np.ndarray] = {
        "poses": motion.poses.astype(np.float32),
        "trans": motion.trans.astype(np.float32),
        "mocap_framerate": np.array(motion.frame_rate),
    }
    for key in ("valid", "betas", *_TEXTS):
        value = getattr(motion, key)
        if value is not None:
            arrays[key] = np.asarray(value)
    if origin is not None:
        arrays[ORIGIN] = np.asarray(origin)
    write_file(path, npz_bytes(arrays))


def load_arrays(path: Path, required: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` without pickled objects; keys that hold some are left out.

    Raises:
        DatasetError: it is missing, something else, or lacks a key.
    """
    try:
        arrays = read_all_npz(path)
    except FileNotFoundError:
        raise DatasetError(f"{path}: there is no such file.") from None
    except (OSError, ArchiveError) as error:
        raise DatasetError(f"{path}: this is no .npz of plain arrays ({error}).") from None
    missing = [key for key in required if key not in arrays]
    if missing:
        raise DatasetError(f"{path}: the file has no {', '.join(missing)}; it has {', '.join(arrays)}.")
    return arrays


def turn_upright(poses: np.ndarray, trans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (F, 72) and places (F, 3) of a world with z up in one with y up."""
    turn = Rotation.from_euler("x", -90, degrees=True)
    poses = poses.copy()
    poses[:, :3] = (turn * Rotation.from_rotvec(poses[:, :3])).as_rotvec()
    return poses, turn.apply(trans)
