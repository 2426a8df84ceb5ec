"""Motion capture as a source of samples without pictures: a bank of single poses, or every frame of clips."""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from kouros.archives import ArchiveError, npz_names
from kouros.data.images import ImageError
from kouros.data.mocap.motion import Motion, load_arrays, read_motion
from kouros.data.schema import DatasetError, Sample, TableInfo

BANK_NAME = "diverse_frames.npz"
_HELD_OUT = 0.1
"""Share of the people whose poses validate, where the motions do not say who does."""
_REMEMBERED = 16
"""Clips kept open."""
_FIELDS = ("pose", "sequence", "frame")


class MocapSource:
    """Poses of one split: of a bank (``diverse_frames.npz``), or of all valid frames of motions.

    Samples know their ``pose``, its root in a world with y up, and of motions the ``sequence`` and ``frame``; and they
    have no pictures. Pickled, it is only a path: every process opens the files for itself.

    Args:
        path: a bank, a motion's file, or a folder with a bank or with motions.
        split: train or val. Motions without a split of their own are divided by their people.

    Raises:
        DatasetError: there is no motion capture, a file is broken, or nothing of the split.
    """

    def __init__(self, path: str | Path, split: str = "train") -> None:
        self.path, self.split = Path(path), split
        self._open: OrderedDict[Path, Motion] = OrderedDict()
        bank = self.path / BANK_NAME if self.path.is_dir() else self.path
        self._bank = bank if bank.is_file() and _is_bank(bank) else None
        if not len(self):
            raise DatasetError(f"{self.path} holds no poses of the split {split!r}; make them with `kouros import`.")

    def __reduce__(self) -> tuple[type["MocapSource"], tuple[Path, str]]:
        return MocapSource, (self.path, self.split)

    @property
    def info(self) -> TableInfo:
        """What holds for all poses."""
        return TableInfo("motion capture", self.split, str(self.path))

    def __len__(self) -> int:
        """Poses."""
        return len(self._poses) if self._bank else int(self._firsts[-1])

    def has(self, name: str) -> bool:
        """Whether a pose knows a field."""
        return name in (_FIELDS[:1] if self._bank else _FIELDS)

    def poses(self, rows: Sequence[int]) -> Float[np.ndarray, "rows 72"]:
        """Rotation vectors of some poses, the root's in a world with y up."""
        if self._bank:
            return self._poses[list(rows)]
        return np.stack([self._motion(clip).poses[frame] for clip, frame in map(self._place, rows)])

    def sample(self, row: int) -> Sample:
        """One pose; `Sample.image_path` is empty."""
        pose = self.poses([row])[0]
        if self._bank:
            return Sample("", pose=pose)
        clip, frame = self._place(row)
        motion = self._motion(clip)
        return Sample(
            "", pose=pose, betas=motion.betas, gender=motion.gender, subject=motion.subject,
            sequence=self._clips[clip].stem, frame=frame,
        )  # fmt: skip

    def image(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """There is none.

        Raises:
            ImageError: always.
        """
        raise ImageError(f"{self.path}: motion capture has no pictures.")

    def clip(self, row: int, frames: int) -> Motion | None:
        """So many frames of a motion, the first being a row's; None where they are not all there, or of a bank."""
        if self._bank:
            return None
        number, frame = self._place(row)
        motion, span = self._motion(number), slice(frame, frame + frames)
        valid = motion.valid is None or bool(motion.valid[span].all())
        return motion.between(frame, frame + frames) if frame + frames <= len(motion.poses) and valid else None

    # ---- a bank

    @cached_property
    def _poses(self) -> Float[np.ndarray, "poses 72"]:
        assert self._bank is not None
        arrays = load_arrays(self._bank, ("poses", "split"))
        return arrays["poses"][arrays["split"] == self.split].astype(np.float32)

    # ---- motions

    @cached_property
    def _clips(self) -> list[Path]:
        files = sorted(self.path.rglob("*.npz")) if self.path.is_dir() else [self.path]
        if not files:
            raise DatasetError(f"{self.path}: expected {BANK_NAME} or <motion>.npz (made by `kouros import amass`).")
        told = []
        for file in files:
            arrays = load_arrays(file, ("poses", "mocap_framerate"))
            who = str(arrays["subject"]) if "subject" in arrays else file.stem
            told.append((str(file), who, str(arrays["split"]) if "split" in arrays else None))
        return [file for file, split in zip(files, splits_of(told), strict=True) if split == self.split]

    @cached_property
    def _frames(self) -> list[np.ndarray]:
        """Of each clip its valid frames."""
        frames = []
        for file in self._clips:
            arrays = load_arrays(file, ("poses",))
            valid = arrays["valid"] if "valid" in arrays else np.ones(len(arrays["poses"]), dtype=bool)
            frames.append(np.flatnonzero(valid))
        return frames

    @cached_property
    def _firsts(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self._frames)])

    def _place(self, row: int) -> tuple[int, int]:
        clip = int(np.searchsorted(self._firsts, row, side="right")) - 1
        return clip, int(self._frames[clip][row - self._firsts[clip]])

    def _motion(self, clip: int) -> Motion:
        file = self._clips[clip]
        if file not in self._open:
            self._open[file] = read_motion(file)
            while len(self._open) > _REMEMBERED:
                self._open.popitem(last=False)
        return self._open[file]


def _is_bank(path: Path) -> bool:
    """By its arrays: a bank has a split for each pose, and no frame rate."""
    try:
        names = npz_names(path)
    except (OSError, ArchiveError) as error:
        raise DatasetError(f"{path}: this is no .npz of plain arrays ({error}).") from None
    return "split" in names and "mocap_framerate" not in names


def splits_of(motions: list[tuple[str, str, str | None]]) -> list[str]:
    """Of each motion (its key, person, own split): its own split, or train or val by person."""
    open_ones = [(key, person) for key, person, split in motions if split is None]
    by_person = len({person for _, person in open_ones}) > 1
    groups = sorted({person if by_person else key for key, person in open_ones}, key=_shuffled)
    held_out = set(groups[: max(1, round(_HELD_OUT * len(groups)))]) if len(groups) > 1 else set()
    return [
        split or ("val" if (person if by_person else key) in held_out else "train") for key, person, split in motions
    ]


def _shuffled(name: str) -> str:
    """A key that sorts names in no order of theirs, the same every time."""
    return hashlib.sha256(name.encode()).hexdigest()
