"""Batches of crops from mixed sources: for training without end, for evaluation row by row.

A batch holds the points and parameters that are known, and what else a system asks for (`kouros.data.dense.Wants`):
pictures, dense maps, DensePose points, heatmaps.

A batch follows from the seed and the step alone. Every sample has a generator of its own, so that neither the number of
worker processes, nor where a run resumes, nor how a batch is shared among ranks changes it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.utils.data import Dataset, get_worker_info

from kouros.body.keypoints import SPIN49, keypoint_set
from kouros.data.augment import AugmentConfig, Change, coloured, mirror_rows
from kouros.data.batch import Batch
from kouros.data.crops import person_square
from kouros.data.dense import DensePoints, Heatmaps, Look, Wants, gathered, seen_points
from kouros.data.dense_annotated import annotated_keypoints, annotated_maps, annotated_points, crop_keypoints
from kouros.data.images import ImageError
from kouros.data.occlusion import DEGREES, SHAPES, Occluder
from kouros.data.schema import Sample, TableInfo
from kouros.data.sources import DrawnSource, Source, source_name
from kouros.data.spin_joints import from_pelvis, spin49_slots, to_spin49
from kouros.fitting.schedules.fits_store import Augmentation
from kouros.render.maps import DenseMaps

_STEPS = 1 << 40
_MAX_UNREADABLE = 0.01
_MANY = 1000
"""Pictures after which the share of the unreadable ones means something."""
_TRIES = 100
"""Pictures of one source in a row that may fail before it is given up."""


@dataclass(frozen=True)
class StreamConfig:
    """How training's crops are made."""

    crop_size: int = 224
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    wants: Wants = field(default_factory=Wants)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.crop_size < 1 or self.seed < 0:
            raise ValueError(
                f"crop_size is {self.crop_size} and seed {self.seed}; expected a size of 1 or more and a seed of 0 "
                "or more."
            )
        self.wants.map_size(self.crop_size)


class TrainingStream(Dataset[Batch]):
    """Training's batches by step.

    Each sample's source is drawn by the ratios, as in SPIN, and its row uniformly. 2D keypoints that the crop cuts
    off keep their confidence, also as in SPIN. A picture that cannot be used gives way to another of its source,
    with one warning a file (in each process); training stops where it is more than one in a hundred.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        ratios: Sequence[float] | None,
        batch_size: int,
        config: StreamConfig,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Mix sources.

        Args:
            sources: in the order in which `Batch.index` counts through their samples.
            ratios: of the sources in a batch, of any sum; by default their sizes.
            batch_size: of all ranks together.
            rank: which of the ``world`` equal shares of every batch is made.

        Raises:
            ValueError: numbers that do not fit together, or keypoints without a place among SPIN's.
        """
        if not 0 <= rank < world:
            raise ValueError(f"There is no rank {rank} of {world}.")
        if batch_size < 1 or batch_size % world:
            raise ValueError(f"A batch of {batch_size} cannot be shared equally among {world} processes.")
        self._sources = tuple(sources)
        sizes = [len(s) for s in self._sources]
        self._firsts = np.cumsum([0, *sizes])
        self._drawn = tuple(isinstance(s, DrawnSource) for s in self._sources)
        self._until = _shares(self._sources, sizes, ratios)
        self._config = config
        share = batch_size // world
        self._places = range(rank * share, (rank + 1) * share)
        self._trouble = _Trouble()
        for source in self._sources:
            for points in (source.info.keypoints_2d, source.info.keypoints_3d):
                if points is not None:
                    spin49_slots(points)
        self.num_samples = int(self._firsts[-1])

    def __len__(self) -> int:
        return _STEPS

    def __getitem__(self, step: int) -> Batch:
        """This rank's share of a step's batch.

        Raises:
            ImageError: too many pictures cannot be used.
        """
        if not 0 <= step < _STEPS:
            raise IndexError(f"There is no step {step}; they count from 0.")
        if get_worker_info() is not None:
            cv2.setNumThreads(1)  # the processes are many already
        people = [self._person(step, place) for place in self._places]
        return _collated(people, self._sources, self._config.wants)

    def _person(self, step: int, place: int) -> "_Person":
        rng = np.random.default_rng(np.random.SeedSequence([self._config.seed, step, place]))
        number = int(np.searchsorted(self._until, rng.random(), side="right"))
        source = self._sources[number]
        for _ in range(_TRIES):
            row = int(rng.integers(len(source)))
            index = int(self._firsts[number]) + row
            try:
                seen = _Seen.of(source, row, self._config.wants, self._drawn[number])
                person = _augmented(seen, self._config, rng, index, number)
                person = _with_annotations(person, self._config.wants)
            except ImageError as error:
                self._trouble.failed(source, error)
                continue
            self._trouble.worked()
            return person
        raise ImageError(
            f"{source_name(source)}: {_TRIES} samples drawn one after the other cannot be used; look at the data set "
            "with `kouros data info`, and restore its pictures."
        )


def plain_batch(source: Source, rows: Sequence[int], crop_size: int, wants: Wants | None = None) -> Batch:
    """Crops as photographed, of the person's own square: for evaluation and first fits.

    `Batch.index` is the row. Of a picture that cannot be used the crop is black and nothing is known (confidences
    0, flags false), with a warning.

    Args:
        wants: default: pictures, and nothing dense. Without pictures all else is known at a fraction of the time.
    """
    if not rows:
        raise ValueError("A batch needs at least one row.")
    wants = wants or Wants()
    people = []
    for row in rows:
        try:
            person = _crop(_Seen.of(source, row, wants, isinstance(source, DrawnSource)), crop_size, Change(), row, 0)
            people.append(_with_annotations(person, wants))
        except ImageError as error:
            warnings.warn(f"{error} It is left black, without annotations.", stacklevel=2)
            nothing = np.zeros((crop_size, crop_size, 3), np.uint8) if wants.image else None
            seen = _Seen(Sample("unreadable"), source.info, None, nothing, np.full(2, crop_size / 2), float(crop_size))
            people.append(_crop(seen, crop_size, Change(), row, 0))
    return _collated(people, [source], wants)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A sample, its picture and the person's square there."""

    sample: Sample
    info: TableInfo
    row: int | None
    """None of a sample that stands in for one that cannot be used."""
    pixels: UInt8[np.ndarray, "height width 3"] | None
    """None where nobody asks for colours."""
    center: Float[np.ndarray, "2"]
    side: float
    drawn: bool = False
    """Whether the source draws maps."""

    @staticmethod
    def of(source: Source, row: int, wants: Wants, drawn: bool) -> "_Seen":
        sample = source.sample(row)
        center, side = person_square(sample)
        return _Seen(sample, source.info, row, source.image(row) if wants.image else None, center, side, drawn)


@dataclass(frozen=True, eq=False)
class _Person:
    """One row of a batch."""

    seen: _Seen
    image: UInt8[np.ndarray, "size size 3"] | None
    index: int
    source: int
    keypoints_2d: Float[np.ndarray, "49 3"]
    keypoints_3d: Float[np.ndarray, "49 4"]
    pose: Float[np.ndarray, "72"]
    has_pose: bool
    betas: Float[np.ndarray, "10"]
    has_betas: bool
    look: Look
    seed: int = 0
    """Of what is still drawn for it."""
    annotated: DenseMaps = field(default_factory=DenseMaps)
    """What is known of its maps without drawing them."""


def _augmented(seen: _Seen, config: StreamConfig, rng: np.random.Generator, index: int, source: int) -> _Person:
    person = _crop(seen, config.crop_size, config.augment.draw(rng), index, source)
    hidden = rng.random() < config.augment.occluded
    known = np.flatnonzero(person.keypoints_2d[:, 2] > 0)
    if hidden and len(known):
        x, y = person.keypoints_2d[rng.choice(known), :2].tolist()
        shape, degree = SHAPES[rng.integers(len(SHAPES))], int(rng.choice(DEGREES))
        occluder = Occluder.at((x, y), shape, degree, rng.integers(1 << 31, size=2).tolist())
        covered = None if person.image is None else occluder.cover(person.image)
        person = replace(person, image=covered, look=replace(person.look, occluder=occluder))
    return replace(person, seed=int(rng.integers(1 << 62)))


def _crop(seen: _Seen, size: int, change: Change, index: int, source: int) -> _Person:
    crop = change.crop(seen.center, seen.side, size)
    sample, info = seen.sample, seen.info
    points, space = np.zeros((len(SPIN49), 3)), np.zeros((len(SPIN49), 4))
    if sample.keypoints_2d is not None and info.keypoints_2d is not None:
        points = to_spin49(sample.keypoints_2d, info.keypoints_2d)
        placed = np.column_stack([crop.points(points[:, :2]), points[:, 2]])
        points = np.where(points[:, 2:] > 0, placed, 0.0)
    if sample.keypoints_3d is not None and info.keypoints_3d is not None:
        space = from_pelvis(to_spin49(sample.keypoints_3d, info.keypoints_3d), info.keypoints_3d_origin == "root")
        space = np.column_stack([crop.directions(space[:, :3]), space[:, 3]])
    if change.flipped:
        points, space = mirror_rows(points, SPIN49.mirror), mirror_rows(space, SPIN49.mirror)
    # Betas of the women's and men's bodies mean other shapes than those of the body that systems learn.
    has_betas = sample.betas is not None and sample.gender in (None, "neutral")
    return _Person(
        seen=seen,
        image=None if seen.pixels is None else coloured(crop.image(seen.pixels), change.colour),
        index=index,
        source=source,
        keypoints_2d=points,
        keypoints_3d=space,
        pose=np.zeros(72) if sample.pose is None else np.asarray(sample.pose, dtype=np.float64),
        has_pose=sample.pose is not None,
        betas=np.asarray(sample.betas, dtype=np.float64) if has_betas else np.zeros(10),
        has_betas=has_betas,
        look=Look(crop, sample.image_size if seen.pixels is None else (seen.pixels.shape[1], seen.pixels.shape[0])),
    )


def _with_annotations(person: _Person, wants: Wants) -> _Person:
    """With the maps that pictures of labels tell; those of people who are drawn are drawn all at once."""
    if not wants.dense or person.seen.drawn:
        return person
    return replace(person, annotated=annotated_maps(person.seen.sample, person.seen.info, person.look, wants))


def _collated(people: Sequence[_Person], sources: Sequence[Source], wants: Wants) -> Batch:
    def numbers(values: Sequence[object]) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values, dtype=np.float32))

    def flags(values: Sequence[bool]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.bool)

    augmentation = Augmentation(
        numbers([p.look.crop.rotation for p in people]), flags([p.look.crop.flipped for p in people])
    )
    pose = torch.from_numpy(np.stack([p.pose for p in people]))
    # One by one: a row's last bit must not depend on how many rows a rank has.
    poses = [
        Augmentation(augmentation.rotation[i : i + 1].double(), augmentation.flipped[i : i + 1]).apply(pose[i : i + 1])
        if person.has_pose
        else pose[i : i + 1]
        for i, person in enumerate(people)
    ]
    size = people[0].look.crop.size
    if wants.image:
        pixels = torch.from_numpy(np.stack([p.image for p in people if p.image is not None]))
        image = pixels.permute(0, 3, 1, 2).contiguous().float() / 255
    else:
        image = torch.zeros(()).expand(len(people), 3, size, size)  # takes no memory
    batch = Batch(
        image=image,
        index=torch.tensor([p.index for p in people]),
        source=torch.tensor([p.source for p in people]),
        keypoints_2d=numbers([p.keypoints_2d for p in people]),
        keypoints_3d=numbers([p.keypoints_3d for p in people]),
        pose=torch.cat(poses).float(),
        has_pose=flags([p.has_pose for p in people]),
        betas=numbers([p.betas for p in people]),
        has_betas=flags([p.has_betas for p in people]),
        augmentation=augmentation,
        crop_center=numbers([p.look.crop.center for p in people]),
        crop_side=numbers([p.look.crop.side for p in people]),
    )
    return _with_pixels(batch, people, sources, wants)


def _with_pixels(batch: Batch, people: Sequence[_Person], sources: Sequence[Source], wants: Wants) -> Batch:
    """A batch and what is wanted of its pixels."""
    size = wants.map_size(batch.crop_size)
    parts: list[tuple[Sequence[int], DenseMaps]] = []
    points = [np.zeros((0, 5)) for _ in people]
    heat = wants.heatmaps
    keypoints = np.zeros((len(people), 0 if heat is None else len(keypoint_set(heat.points)), 3))
    for number, source in enumerate(sources):
        places = [i for i, p in enumerate(people) if p.source == number and p.seen.row is not None]
        if places and isinstance(source, DrawnSource):
            rows, looks = [people[i].seen.row or 0 for i in places], [people[i].look for i in places]
            if wants.dense or wants.dense_points:
                more = wants.maps if "iuv" in wants.maps or not wants.dense_points else (*wants.maps, "iuv")
                maps = source.maps(rows, looks, replace(wants, maps=more))
                parts.append((places, maps))
                if wants.dense_points:
                    for i, iuv in zip(places, maps.need("iuv").numpy(), strict=True):
                        points[i] = seen_points(iuv, wants.stride)
            if heat is not None:
                keypoints[places] = source.points(rows, keypoint_set(heat.points))
            continue
        for i in places:
            sample, info, look = people[i].seen.sample, people[i].seen.info, people[i].look
            parts.append(([i], people[i].annotated))
            if wants.dense_points:
                points[i] = annotated_points(sample, info, look)
            if heat is not None:
                keypoints[i] = annotated_keypoints(sample, info, keypoint_set(heat.points))
    if wants.dense:
        maps, known = gathered(len(people), size, wants, parts)
        batch = replace(batch, dense=maps, dense_known=known)
    if wants.dense_points:
        seeds = [p.seed for p in people]
        batch = replace(batch, dense_points=DensePoints.chosen(points, wants.dense_points, seeds))
    if heat is not None:
        crops = [person.look.at(size).crop for person in people]
        placed = [crop_keypoints(k, keypoint_set(heat.points), c) for k, c in zip(keypoints, crops, strict=True)]
        batch = replace(batch, heatmaps=Heatmaps.of(heat, placed, size))
    return batch


def _shares(sources: Sequence[Source], sizes: Sequence[int], ratios: Sequence[float] | None) -> np.ndarray:
    """For each source where its part of [0, 1) ends."""
    if not sum(sizes):
        raise ValueError("There is no sample to learn from; name at least one data set that has some.")
    given = np.asarray(sizes if ratios is None else ratios, dtype=np.float64)
    if given.shape != (len(sources),):
        raise ValueError(f"There are {given.size} ratios for {len(sources)} data sets; give one each.")
    if not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
        raise ValueError(f"The ratios are {given.tolist()}; expected numbers of 0 or more, not all 0.")
    for source, size, ratio in zip(sources, sizes, given, strict=True):
        if ratio > 0 and not size:
            raise ValueError(f"{source_name(source)} has no samples to make up {ratio:g} of the ratios; leave it out.")
    return np.cumsum(given) / given.sum()


class _Trouble:
    """Pictures that could not be used, of one process."""

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._tries = self._failures = 0

    def worked(self) -> None:
        self._tries += 1

    def failed(self, source: Source, error: ImageError) -> None:
        self._tries += 1
        self._failures += 1
        if str(error) not in self._named:
            self._named.add(str(error))
            warnings.warn(f"{error} Another sample of {source_name(source)} takes its place.", stacklevel=2)
        if self._tries >= _MANY and self._failures > _MAX_UNREADABLE * self._tries:
            raise ImageError(
                f"{self._failures} of {self._tries} pictures could not be used, more than {_MAX_UNREADABLE:.0%}; the "
                f"last: {error} Restore them, or import the data set again, which leaves them out."
            )
