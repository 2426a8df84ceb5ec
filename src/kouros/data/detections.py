"""What the packaged detector says of synthetic people, whose pose is known: a folder of it, as a source.

A folder of synthetic people may hold ``detections/`` (`kouros synthesize --detections`), one file for each of its
shards, of everybody in its table whom the detector does not miss.
"""

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8
from torch import Tensor

from kouros.archives import map_npy
from kouros.batched import Batched, stack
from kouros.data.images import ImageError
from kouros.data.mocap.motion import load_arrays
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.documents import read_json
from kouros.files import npy_bytes, npz_bytes, write_files

FOLDER, ABOUT, FEATURES = "detections", "detections.json", "features"
_VERSION = 2
_SHAPES = {
    "pose": (72,),
    "betas": (10,),
    "pelvis": (3,),
    "keypoints": (33, 3),
    "landmarks": (33, 3),
    "region": (3,),
    "depths": (17, 2),
}


@dataclass(frozen=True)
class Detections(Batched):
    """People and what was seen of them."""

    pose: Float[Tensor, "*people 72"]
    """Rotation vectors, the root's in camera space."""
    betas: Float[Tensor, "*people 10"]
    pelvis: Float[Tensor, "*people 3"]
    """The joint, metres, camera space."""
    keypoints: Float[Tensor, "*people 33 3"]
    """BlazePose's points: x and y at depth 1, and confidence."""
    landmarks: Float[Tensor, "*people 33 3"]
    """The same points in space, metres, relative to the middle of the hips."""
    region: Float[Tensor, "*people 3"]
    """The square that Thunder saw: x and y of its middle, and its side, at depth 1."""
    depths: Float[Tensor, "*people 17 2"]
    """Of COCO's points beyond the middle of the hips, and their expected errors, over the hips' distance; where nobody
    looked, errors of 0 are expected."""

    @staticmethod
    def nobody(count: int) -> "Detections":
        """So many rows of zeros."""
        return Detections(**{name: torch.zeros(count, *shape) for name, shape in _SHAPES.items()})


class DetectionSource:
    """The detections of a folder, as samples without pictures: ``pose``, ``betas`` and ``transl`` of the free body.

    Raises:
        DatasetError: the folder holds no detections, or broken ones.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder)
        try:
            about = read_json(self.path / ABOUT)
            self._split = str(about["split"])
            version = about["version"]
        except (OSError, ValueError, KeyError, TypeError):
            raise DatasetError(f"{self.path} holds no detections; make some: kouros synthesize --detections.") from None
        if version != _VERSION:
            raise DatasetError(f"{self.path} holds detections of version {version}, this kouros reads {_VERSION}.")
        if not len(self):
            raise DatasetError(f"{self.path} holds no detections yet; let kouros synthesize --detections finish.")

    def __reduce__(self) -> tuple[type["DetectionSource"], tuple[Path]]:
        return DetectionSource, (self.path,)

    @property
    def info(self) -> TableInfo:
        """What holds for all of them."""
        return TableInfo("detections of synthetic people", self._split, str(self.path))

    def __len__(self) -> int:
        """People."""
        return len(self.all.betas)

    def has(self, name: str) -> bool:
        """Whether people know a field."""
        return name in ("pose", "betas")

    @property
    def has_features(self) -> bool:
        """Whether what the detector's network made of people was kept too."""
        return (self.path / FEATURES).is_dir()

    def features(self, rows: Sequence[int]) -> Float16[np.ndarray, "rows 16 16 421"]:
        """Of some people, as `kouros.detection.movenet.packed_features` has them."""
        parts = [self._features[bisect_right(self._firsts, row) - 1] for row in rows]
        firsts = [self._firsts[bisect_right(self._firsts, row) - 1] for row in rows]
        return np.stack([part[row - first] for part, row, first in zip(parts, rows, firsts, strict=True)])

    @cached_property
    def _features(self) -> list[np.ndarray]:
        """Of each file that has any."""
        files = sorted((self.path / FEATURES).glob("*.npy"))
        return [map_npy(file) for file in files]

    @cached_property
    def _firsts(self) -> list[int]:
        """Which row each of those files begins with."""
        return np.cumsum([0, *(len(part) for part in self._features)])[:-1].tolist()

    @cached_property
    def all(self) -> Detections:
        """Everybody, in the order of the files."""
        files = [load_arrays(file, tuple(_SHAPES)) for file in sorted(self.path.glob("*.npz"))]
        arrays = ([np.zeros((0, *shape)), *(f[name] for f in files)] for name, shape in _SHAPES.items())
        return Detections(*(torch.from_numpy(np.concatenate(a).astype(np.float32)) for a in arrays))

    def rows(self, rows: Sequence[int]) -> Detections:
        """Some of them."""
        return self.all[torch.tensor(rows, dtype=torch.long)]

    def sample(self, row: int) -> Sample:
        """What is known of one person; `Sample.image_path` is empty."""
        person = self.all[row]
        return Sample("", pose=person.pose.numpy(), betas=person.betas.numpy())

    def image(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """There is none.

        Raises:
            ImageError: always.
        """
        raise ImageError(f"{self.path}: detections have no pictures; those are in the folder of the people.")


# ---- making them


def detections_file(out: Path, number: int) -> Path:
    """Of a shard, below a folder of synthetic people."""
    return out / FOLDER / f"{number:06d}.npz"


def features_file(out: Path, number: int) -> Path:
    """The same of what the detector's network made of them."""
    return out / FOLDER / FEATURES / f"{number:06d}.npy"


def has_detections(out: Path, number: int, *, features: bool) -> bool:
    """Whether a shard's are there and undamaged, and those features too, if they are to be."""
    try:
        people = len(load_arrays(detections_file(out, number), tuple(_SHAPES))["betas"])
        return not features or len(map_npy(features_file(out, number))) == people
    except (OSError, ValueError):
        return False


def write_detections(
    out: Path,
    number: int,
    split: str,
    people: Sequence[Detections],
    features: Sequence[Float16[np.ndarray, "16 16 421"]] | None = None,
) -> None:
    """Write those of one shard, and what the folder holds.

    Args:
        features: of the same people, where they are to be kept.

    Raises:
        OSError: a file cannot be written.
    """
    about = json.dumps({"version": _VERSION, "split": split, "detector": "packaged"}).encode()
    arrays = {name: np.zeros((0, *shape), np.float32) for name, shape in _SHAPES.items()}
    if people:
        arrays = {name: getattr(stack(people), name).numpy() for name in _SHAPES}
    files: dict[Path, bytes | memoryview] = {
        out / FOLDER / ABOUT: about,
        detections_file(out, number): npz_bytes(arrays),
    }
    if features is not None:
        files[features_file(out, number)] = npy_bytes(
            np.stack(features) if features else np.zeros((0, 16, 16, 421), "f2")
        )
    write_files(files)
