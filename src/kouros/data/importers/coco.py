"""COCO keypoints, 2014 and 2017, and the run-length masks of its annotation format.

Format: the data set's own page (cocodataset.org, "Data format") and its API. Keypoints are indices of pixels,
so half a pixel is added to reach their centres; boxes are already measured from the corner of the image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from kouros.body.keypoints import COCO17
from kouros.body.layouts import layout
from kouros.data.images import MAX_PIXELS
from kouros.data.importers.boxes import box_of_corners
from kouros.data.importers.running import ImportReport, require, row_blocks, run_import
from kouros.data.schema import DatasetError, RunLengths, Sample, TableInfo
from kouros.documents import read_json

_LIMBS = slice(5, 17)
_FOLDERS = ("train2017", "val2017", "train2014", "val2014")
_TRIED = 20
"""Pictures looked for to tell whether a folder is theirs."""


def import_coco(
    source: Path,
    out: Path,
    *,
    split: str | None = None,
    images: Path | None = None,
    keypoint_set: str | None = None,
    complete_limbs: bool = False,
    check_images: bool = True,
) -> ImportReport:
    """Import the people of COCO that have keypoints, or of a file in its form.

    Args:
        source: the folder with ``annotations/person_keypoints_<split>.json`` and ``<split>/``, or such a JSON
            file.
        out: folder for the table; made where it is missing.
        split: train2017 (default), val2017 or the like; of a JSON file, the table's name for it (default: the file's).
        images: folder of the images; default: ``<split>`` in the source; of a JSON file, its own folder or, where
            that holds none of them, a ``train2017`` or the like beside it or above it.
        keypoint_set: what the points are, where they are not COCO's 17: a name such as crowdpose14, or a .toml or .json
            file that names them by ours. They come into the set of ours that has most of them.
        complete_limbs: keep only people whose twelve limb keypoints are all labelled, as SPIN does.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the file is missing or is no COCO annotation file.
        ValueError: there is no such keypoint set.
    """
    points = layout(keypoint_set or COCO17.name)
    if split is None:
        split = source.stem if source.is_file() else "train2017"
    if source.is_file():
        file = source
        content = read_coco_json(file)
        folder = images or _beside(file, content)
    else:
        file = require("COCO", source, f"annotations/person_keypoints_{split}.json")
        # Detectron's divisions of val2014 have no folders of their own.
        inside = ("val2014",) if split in ("minival2014", "valminusminival2014") else ()
        folder = images or require("COCO", source, split, *inside)
        content = read_coco_json(file)
    pictures = {picture["id"]: picture for picture in content["images"]}

    def convert(annotation: dict[str, Any]) -> Sample | None:
        given = np.array(annotation.get("keypoints", []), dtype=np.float64)
        if not given.size:
            return None
        if given.size != 3 * len(points):
            raise ValueError(f"{given.size / 3:g} keypoints; {points.name} has {len(points)}: name the set they are of")
        keypoints = points.placed(given.reshape(-1, 3))
        if not (keypoints[:, 2] > 0).any():
            return None
        if complete_limbs and not all(keypoints[points.target.index(name), 2] > 0 for name in COCO17.names[_LIMBS]):
            return None
        return coco_person(annotation, pictures[annotation["image_id"]], keypoints)

    info = TableInfo(
        dataset="coco",
        split=split,
        image_root=str(folder.resolve()),
        keypoints_2d=points.target,
        provenance={
            "importer": "coco",
            "source": str(file.resolve()),
            **({} if keypoint_set is None else {"keypoint_set": keypoint_set}),
            "complete_limbs": complete_limbs,
            "keypoint_offset_px": 0.5,
        },
    )
    people = [a for a in content["annotations"] if a.get("category_id", 1) == 1]
    units = row_blocks("people", people, convert, lambda a: f"annotation {a.get('id')}")
    return run_import(out, info, units, check_images=check_images)


def _beside(file: Path, content: dict[str, Any]) -> Path:
    """The folder near an annotation file that holds its pictures; the file's own where none is found."""
    some = [str(picture.get("file_name")) for picture in content["images"][:_TRIED]]
    folders = [file.parent] + [
        above / name for above in (file.parent, file.parent.parent) for name in _FOLDERS if name in file.stem
    ]
    return next((f for f in folders if any((f / name).is_file() for name in some)), file.parent)


def read_coco_json(file: Path) -> dict[str, Any]:
    """The content of a COCO annotation file.

    Raises:
        DatasetError: it is missing or something else.
    """
    try:
        content = read_json(file)
    except FileNotFoundError:
        raise DatasetError(f"{file}: there is no such file; expected COCO annotations (JSON).") from None
    except (ValueError, OSError) as error:
        raise DatasetError(f"{file}: this is no readable JSON file ({error}).") from None
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise DatasetError(f"{file}: expected COCO annotations with the lists `images` and `annotations`.")
    return content


def coco_person(annotation: dict[str, Any], picture: dict[str, Any], keypoints: np.ndarray | None) -> Sample:
    """The sample of one annotation.

    Args:
        keypoints: (points, 3) x, y, flag: 0 not labelled, 1 labelled but hidden, 2 visible.
    """
    x, y, width, height = annotation["bbox"]
    low, high = np.array([x, y], dtype=np.float64), np.array([x + width, y + height], dtype=np.float64)
    center, size = box_of_corners(low, high)
    labelled = None if keypoints is None else keypoints[:, 2] > 0
    image_size = (int(picture["width"]), int(picture["height"]))
    segmentation = annotation.get("segmentation")
    return Sample(
        image_path=picture["file_name"],
        image_size=image_size,
        box_center=center,
        box_size=size,
        bbox=np.concatenate([low, high]),
        keypoints_2d=None
        if keypoints is None or labelled is None
        else np.where(labelled[:, None], np.c_[keypoints[:, :2] + 0.5, labelled], 0.0),
        visible=None if keypoints is None else keypoints[:, 2] == 2,
        mask=coco_mask(segmentation, image_size) if segmentation else None,
        person=str(annotation["id"]),
    )


def coco_mask(segmentation: Any, image_size: tuple[int, int]) -> RunLengths:
    """A mask from COCO's polygons or run lengths (plain or compressed).

    Polygons are filled by OpenCV, whose outline may differ from COCO's own tool by a pixel.
    """
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        counts = segmentation["counts"]
        return mask_runs(decompress_counts(counts) if isinstance(counts, str) else counts, height, width)
    width, height = image_size
    _check_size(width, height)
    canvas = np.zeros((height, width), dtype=np.uint8)
    for polygon in segmentation:
        corners = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        # 4 fractional bits; OpenCV's integers are pixel centres.
        cv2.fillPoly(canvas, [np.round((corners - 0.5) * 16).astype(np.int32)], [1], shift=4)
    return RunLengths.encode(canvas)


def _check_size(width: int, height: int) -> None:
    """Before a mask of this size is made, which no picture may have."""
    if min(width, height) < 1 or width * height > MAX_PIXELS:
        raise ValueError(f"a mask of {width:,} x {height:,} pixels exceeds the limit of {MAX_PIXELS:,}, or is empty")


def mask_runs(counts: Sequence[int], height: int, width: int) -> RunLengths:
    """COCO's run lengths, which alternate between background and foreground and start with background."""
    _check_size(int(width), int(height))
    lengths = np.array(counts, dtype=np.int64)
    if (lengths < 0).any():
        raise ValueError("run lengths of a mask are negative")
    if lengths.sum() != int(height) * int(width):
        raise ValueError(f"run lengths of a mask cover {lengths.sum():,} pixels of {height} x {width}")
    lengths = lengths.astype(np.int32)
    labels = (np.arange(len(lengths)) % 2).astype(np.uint8)
    return RunLengths(int(height), int(width), labels[lengths > 0], lengths[lengths > 0])


def decompress_counts(text: str) -> list[int]:
    """Run lengths from COCO's compressed form.

    Each number is written in groups of five bits, lowest first, as characters from code 48; bit 32 says that
    more follow, bit 16 of the last is the sign. From the fourth on, numbers are differences to the one two
    before.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise ValueError(f"{character!r} is no character of compressed run lengths")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the compressed run lengths end in the middle of a number")
    return counts
