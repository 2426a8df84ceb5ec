"""What a held backbone makes of crops: computed once, kept on disk, read in place of pictures.

Crops that never change are numbered by their samples: a folder ``features-KEY`` holds numbered files, each of so many
samples' features in float16. The key follows from the backbone's weights, the crops' size, and of each sample its
picture's path and the square that the crop shows. Of crops that change, the first batches of the stream are kept, one
file each (``batches-KEY``; how they change, and by which random numbers, belongs to the key), and come again and again.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import Dataset

from kouros.archives import map_npy
from kouros.data.batch import Batch
from kouros.data.crops import person_square
from kouros.data.dense import Wants
from kouros.data.images import ImageError
from kouros.data.sources import Source
from kouros.files import npy_bytes, write_file
from kouros.systems.batches import CropBatches, Stream
from kouros.systems.system import CropSystem, System
from kouros.training.steps import made_ahead, plain_batches

_PER_FILE = 1024


@dataclass(frozen=True)
class StoredFeatures:
    """Features of all samples of a run, by their numbers."""

    folder: Path
    count: int

    def file(self, number: int) -> Path:
        """One of the files."""
        return self.folder / f"{number:06d}.npy"

    def __getitem__(self, index: Int[Tensor, " batch"]) -> Float[Tensor, "batch *features"]:
        """Of some samples."""
        rows = [self._opened(int(i) // _PER_FILE)[int(i) % _PER_FILE] for i in index]
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def _opened(self, number: int) -> np.ndarray:
        return map_npy(self.file(number))

    def over(self, stream: Stream, seed: int) -> Stream:
        """The stream's batches with their samples' features."""
        return _Featured(stream, self)


@dataclass(frozen=True)
class FeatureBatches:
    """Batches to learn from with features in place of pictures."""

    crops: CropBatches
    stored: "StoredFeatures | RepeatedFeatures"

    def stream(
        self,
        sources: Sequence[Source],
        ratios: Sequence[float] | None,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> Stream:
        """As in `kouros.systems.batches.Batches`."""
        unseen = replace(self.crops, wants=replace(self.crops.wants, image=False))
        return self.stored.over(unseen.stream(sources, ratios, batch_size, seed, rank=rank, world=world), seed)

    def plain(self, source: Source, rows: Sequence[int], *, pictures: bool = True) -> Batch:
        """As in `kouros.systems.batches.Batches`: with pictures, since the system has seen none of them before."""
        return self.crops.plain(source, rows, pictures=pictures)


class _Featured(Dataset[Batch]):
    def __init__(self, stream: Stream, stored: StoredFeatures) -> None:
        self._stream, self._stored = stream, stored

    def __getitem__(self, step: int) -> Batch:
        batch: Batch = self._stream[step]
        return replace(batch, features=self._stored[batch.index])


@dataclass(frozen=True)
class Look:
    """Which batches a process of a run sees."""

    batch_size: int
    seed: int
    ratios: Sequence[float] | None
    rank: int
    world: int


@dataclass(frozen=True)
class RepeatedFeatures:
    """Features of the first batches of a run, which come round after round in another order."""

    folder: Path
    count: int

    def file(self, step: int) -> Path:
        """Of one batch."""
        return self.folder / f"{step:06d}.npy"

    def over(self, stream: Stream, seed: int) -> Stream:
        """The stream's first batches with their features, without end."""
        return _Repeated(stream, self, seed)


class _Repeated(Dataset[Batch]):
    def __init__(self, stream: Stream, stored: RepeatedFeatures, seed: int) -> None:
        self._stream, self._stored, self._seed = stream, stored, seed

    def __getitem__(self, step: int) -> Batch:
        turn, place = divmod(step, self._stored.count)
        order = np.random.default_rng([self._seed, turn]).permutation(self._stored.count)
        number = int(order[place])
        batch: Batch = self._stream[number]
        features = map_npy(self._stored.file(number)).astype(np.float32)
        return replace(batch, features=torch.from_numpy(features))


@torch.no_grad()
def repeated(
    system: System, sources: Sequence[Source], folder: Path, count: int, look: Look, device: torch.device, workers: int
) -> FeatureBatches:
    """The first ``count`` batches with features from a folder, where those that are missing are made now.

    Raises:
        ValueError: the system does not look at crops.
        OSError: a file cannot be written.
    """
    crops = system.batches
    if not isinstance(system, CropSystem) or not isinstance(crops, CropBatches):
        raise ValueError("--cached-batches are for systems that look at crops; leave it out.")
    digest = _about(system, crops, sources)
    digest.update(f"{crops.augment} {look}".encode())
    stored = RepeatedFeatures(folder / f"batches-{digest.hexdigest()[:16]}", count)
    missing = [step for step in range(count) if not stored.file(step).exists()]
    if missing:
        print(f"looking at {len(missing)} batches through the backbone, once", file=sys.stderr, flush=True)
        stored.folder.mkdir(parents=True, exist_ok=True)
    place = {"rank": look.rank, "world": look.world}
    stream = replace(crops, wants=Wants()).stream(sources, look.ratios, look.batch_size, look.seed, **place)
    for step, batch in zip(missing, made_ahead(stream, missing, workers), strict=True):
        write_file(stored.file(step), npy_bytes(_half(system, batch, device)))
    return FeatureBatches(crops, stored)


def cached(
    system: System, sources: Sequence[Source], folder: Path, device: torch.device, batch_size: int, workers: int
) -> FeatureBatches:
    """The system's batches with features from a folder, where those that are missing are made now.

    In a distributed job all processes call this, make a share each, and see the same folder.

    Raises:
        ValueError: crops are changed, so that no feature serves twice; or a crop is black.
        OSError: a file cannot be written.
    """
    crops = system.batches
    if not isinstance(system, CropSystem) or not isinstance(crops, CropBatches) or not crops.augment.still:
        raise ValueError(
            "--cache-features is for crops that nothing changes: switch off --augment.flipped, --augment.turned, "
            "--augment.colour, --augment.occluded (all 0) and --augment.scale.limit 0, or say by --cached-batches how "
            "many batches are to come again and again."
        )
    count = sum(len(source) for source in sources)
    stored = StoredFeatures(folder / f"features-{_key(system, crops, sources)}", count)
    together = dist.is_available() and dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if together else (0, 1)
    numbers = range(-(-count // _PER_FILE))
    missing = [n for n in numbers if not stored.file(n).exists()]
    if missing and rank == 0:
        print(f"looking at {count} crops through the backbone, once", file=sys.stderr, flush=True)
    if together:
        dist.barrier()  # so that all have seen the same files missing
    firsts = np.cumsum([0, *(len(source) for source in sources)])
    for number in missing[rank::world]:
        rows = range(number * _PER_FILE, min(count, (number + 1) * _PER_FILE))
        parts = []
        for source, first in zip(sources, firsts.tolist(), strict=False):
            own = [i - first for i in rows if 0 <= i - first < len(source)]
            parts += _features(system, crops, source, own, device, batch_size, workers, first)
        stored.folder.mkdir(parents=True, exist_ok=True)
        write_file(stored.file(number), npy_bytes(np.concatenate(parts)))
    if together:
        dist.barrier()
    return FeatureBatches(crops, stored)


@torch.no_grad()
def _features(
    system: CropSystem,
    crops: CropBatches,
    source: Source,
    rows: list[int],
    device: torch.device,
    batch_size: int,
    workers: int,
    first: int,
) -> list[np.ndarray]:
    parts = []
    for batch in plain_batches(replace(crops, wants=Wants()), source, rows, batch_size, workers):
        black = ~batch.image.flatten(1).any(dim=1)
        if bool(black.any()):
            raise ValueError(
                f"the crop of sample {first + int(batch.index[black][0])} is black, as where a picture is missing; "
                "restore it, or leave --cache-features out."
            )
        parts.append(_half(system, batch, device))
    return parts


def _half(system: CropSystem, batch: Batch, device: torch.device) -> np.ndarray:
    """What the backbone makes of a batch's crops, in half precision."""
    return system.features(batch.image.to(device)).cpu().numpy().astype(np.float16)


def _key(system: CropSystem, crops: CropBatches, sources: Sequence[Source]) -> str:
    return _about(system, crops, sources).hexdigest()[:16]


def _about(system: CropSystem, crops: CropBatches, sources: Sequence[Source]) -> Any:
    digest = hashlib.sha256(str(crops.crop_size).encode())
    for name, tensor in sorted(system.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for source in sources:
        digest.update(f"{source.info.dataset} {source.info.split} {source.info.image_root} {len(source)}".encode())
        for row in range(len(source)):
            sample = source.sample(row)
            try:
                center, side = person_square(sample)
            except ImageError:
                center, side = np.zeros(2), 0.0
            digest.update(f"{sample.image_path} {sample.person}".encode() + np.array([*center, side]).tobytes())
    return digest
