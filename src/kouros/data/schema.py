"""What is known of one person in one image: the sample, the description of a table of samples, and their
checks.

Every data set becomes rows of this one form, whatever its own files look like. Every field but the image's
path may be absent, and absent is `None`, never zeros. Pixels have (0, 0) at the top-left corner of the
top-left pixel; space is the camera's (x right, y down, z forward), metres; rotations are rotation vectors.
"""

from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np

from kouros.body.keypoints import KeypointSet

SCHEMA_VERSION = 1
"""Raised when a column changes its meaning; a table of another version is refused."""

GENDERS = ("female", "male", "neutral")

Origin = Literal["camera", "root"]

OWN_CHARTS = "free body"
"""A table's ``provenance["surface"]`` where IUV and dense points lie on the free body's charts, not on DensePose's."""


@dataclass(frozen=True)
class RunLengths:
    """A label map, as runs of equal labels down the columns, from left to right (COCO's order)."""

    height: int
    width: int
    labels: np.ndarray
    """(runs,) uint8; a mask's are 0 and 1."""
    counts: np.ndarray
    """(runs,) int32, pixels."""

    @staticmethod
    def encode(label_map: np.ndarray) -> "RunLengths":
        """Runs of a (height, width) map of labels below 256."""
        flat = label_map.astype(np.uint8).ravel(order="F")
        starts = np.flatnonzero(np.r_[len(flat) > 0, flat[1:] != flat[:-1]])
        counts = np.diff(np.r_[starts, len(flat)]).astype(np.int32)
        return RunLengths(label_map.shape[0], label_map.shape[1], flat[starts], counts)

    def decode(self) -> np.ndarray:
        """The (height, width) uint8 map."""
        return np.repeat(self.labels, self.counts).reshape((self.height, self.width), order="F")


@dataclass(frozen=True, eq=False)
class Sample:
    """One person in one image. Arrays are numpy, float32 once read from a table."""

    image_path: str
    """Relative to the table's image root, with ``/``; of a video, `frame` says which picture."""
    image_size: tuple[int, int] | None = None
    """Width and height, pixels."""
    box_center: np.ndarray | None = None
    """(2,), pixels: centre of the square box around the person."""
    box_size: float | None = None
    """Its side, pixels; 200 times the ``scale`` of SPIN, MPII and EFT."""
    bbox: np.ndarray | None = None
    """(4,) x0, y0, x1, y1, pixels: the data set's own tight box."""
    head_box: np.ndarray | None = None
    """(4,) x0, y0, x1, y1, pixels."""
    keypoints_2d: np.ndarray | None = None
    """(points, 3) x, y in pixels and confidence in [0, 1]; 0 marks a point without annotation."""
    visible: np.ndarray | None = None
    """(points,) bool; annotated points that nothing hides."""
    keypoints_3d: np.ndarray | None = None
    """(points, 4) X, Y, Z and confidence; see the table's ``keypoints_3d_origin``."""
    keypoints_3d_universal: np.ndarray | None = None
    """(points, 4), as above, on the skeleton of universal height that MPI-INF-3DHP's metrics use."""
    pose: np.ndarray | None = None
    """(72,) SMPL rotation vectors, the first in the camera's frame."""
    betas: np.ndarray | None = None
    """(10,); of the model of `gender`."""
    transl: np.ndarray | None = None
    """(3,) SMPL translation in the camera's frame."""
    gender: str | None = None
    """female, male or neutral: which body model pose and betas belong to."""
    intrinsics: np.ndarray | None = None
    """(4,) fx, fy, cx, cy, pixels."""
    world_to_camera: np.ndarray | None = None
    """(3, 4) rotation and translation."""
    mask_path: str | None = None
    """Picture of the foreground; like the next two, relative to the image root, or to the root that the
    table's provenance names ``mask_root``."""
    parts_path: str | None = None
    """Picture of part labels of the table's `TableInfo.part_set`; 255 where nothing is said."""
    iuv_path: str | None = None
    """Picture of parts and their coordinates as DensePose's own tool writes it: red, green and blue are V and U in
    255ths, and the part."""
    mask: RunLengths | None = None
    """Foreground of the whole image."""
    parts: RunLengths | None = None
    """Part labels over `bbox`, stretched to the map's size; of the table's `TableInfo.part_set`."""
    dense_points: np.ndarray | None = None
    """(points, 5), those of DensePose; x, y in pixels, patch I of 1 to 24, U, V in [0, 1]."""
    subject: str | None = None
    action: str | None = None
    sequence: str | None = None
    camera: str | None = None
    frame: int | None = None
    """Number of the picture in its sequence or video, from 0."""
    person: str | None = None
    """The data set's identifier of the person or annotation."""

    def has(self, name: str) -> bool:
        """Whether a field is known."""
        return getattr(self, name) is not None


SAMPLE_FIELDS = tuple(f.name for f in fields(Sample))


@dataclass(frozen=True)
class TableInfo:
    """What holds for all rows of a table, and where they come from."""

    dataset: str
    split: str
    image_root: str
    """Folder that image paths are relative to; the images stay there."""
    keypoints_2d: KeypointSet | None = None
    keypoints_3d: KeypointSet | None = None
    keypoints_3d_origin: Origin | None = None
    """``camera``: absolute, in the camera's frame; ``root``: relative to the set's root, camera axes."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """What it was made from and how: source, importer, options, terms; anything JSON can hold."""
    part_set: str | None = None
    """Name of the set (`kouros.body.surface.parts.PART_SETS`) of all part labels."""


class DatasetError(ValueError):
    """A folder or file that is not the data set asked for; the message says what was expected where."""


class SampleError(ValueError):
    """A row that breaks the schema; the message says which field, what it holds and what was expected."""


_LARGEST_SIZE = 1e9
"""Pixels; more than any picture's, and well within float32."""


def check_sample(sample: Sample, info: TableInfo) -> None:
    """Stop a row that breaks the schema.

    Raises:
        SampleError: with the image, the field, what it holds and what was expected.
    """
    try:
        _check_fields(sample, info)
    except SampleError as error:
        raise SampleError(f"{sample.image_path or 'a row without image'}: {error}") from None


def _check_fields(sample: Sample, info: TableInfo) -> None:
    path = PurePosixPath(sample.image_path)
    if not sample.image_path or path.is_absolute() or "\\" in sample.image_path or ".." in path.parts:
        raise SampleError(
            f"image_path is {sample.image_path!r}; expected a path below the image root, with / between folders."
        )
    shapes = array_shapes(info)
    for name, shape in shapes.items():
        value = getattr(sample, name)
        if value is not None:
            _check_array(name, np.asarray(value), shape)
    for name in ("keypoints_2d", "keypoints_3d", "keypoints_3d_universal", "visible"):
        if sample.has(name) and name not in shapes:
            raise SampleError(f"{name} is given, but the table names no keypoint set for it.")
    for name in ("keypoints_2d", "keypoints_3d", "keypoints_3d_universal"):
        value = getattr(sample, name)
        if value is not None and not ((value[:, -1] >= 0) & (value[:, -1] <= 1)).all():
            raise SampleError(f"{name} has confidences outside [0, 1].")
    if sample.box_size is not None and not (0 < sample.box_size < _LARGEST_SIZE):
        raise SampleError(f"box_size is {sample.box_size}; expected a positive number of pixels.")
    if sample.gender is not None and sample.gender not in GENDERS:
        raise SampleError(f"gender is {sample.gender!r}; expected one of {', '.join(GENDERS)}.")
    if sample.image_size is not None and min(sample.image_size) < 1:
        raise SampleError(f"image_size is {sample.image_size}; expected a width and height of at least 1.")
    if sample.mask is not None and sample.image_size is not None:
        size = (sample.mask.width, sample.mask.height)
        if size != sample.image_size:
            raise SampleError(f"mask is {size[0]}x{size[1]}, but the image {sample.image_size}.")
    for name in ("mask", "parts"):
        runs = getattr(sample, name)
        if runs is not None and int(runs.counts.sum()) != runs.width * runs.height:
            raise SampleError(
                f"{name} has runs of {int(runs.counts.sum())} pixels, expected {runs.width}x{runs.height}."
            )


def array_shapes(info: TableInfo) -> dict[str, tuple[int, ...]]:
    """Shape of each array field in this table; -1 is free. Fields that the table cannot hold are left out."""
    shapes: dict[str, tuple[int, ...]] = {
        "box_center": (2,),
        "bbox": (4,),
        "head_box": (4,),
        "pose": (72,),
        "betas": (10,),
        "transl": (3,),
        "intrinsics": (4,),
        "world_to_camera": (3, 4),
        "dense_points": (-1, 5),
    }
    if info.keypoints_2d is not None:
        shapes["keypoints_2d"] = (len(info.keypoints_2d), 3)
        shapes["visible"] = (len(info.keypoints_2d),)
    if info.keypoints_3d is not None:
        shapes["keypoints_3d"] = (len(info.keypoints_3d), 4)
        shapes["keypoints_3d_universal"] = (len(info.keypoints_3d), 4)
    return shapes


def _check_array(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    fits = value.ndim == len(shape) and all(e in (-1, a) for a, e in zip(value.shape, shape, strict=True))
    if not fits:
        expected = tuple("any" if e == -1 else e for e in shape)
        raise SampleError(f"{name} has shape {value.shape}; expected {expected}.")
    with np.errstate(over="ignore"):
        stored = value.astype(np.float32)  # as the table has it, where 1e39 would be infinite
    if not np.isfinite(stored).all():
        index = tuple(int(i) for i in np.argwhere(~np.isfinite(stored))[0])
        raise SampleError(f"{name} is {value[index]} at {index}; expected finite numbers.")
