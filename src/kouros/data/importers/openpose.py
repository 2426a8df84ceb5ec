"""Joining what OpenPose saw to a table's annotated people, as SPIN's training files have it.

SPIN learns from 49 points: OpenPose's 25 and the 24 that people annotated. OpenPose was run beforehand and left a file
for each picture, ``<picture>_keypoints.json`` (`kouros.detection.keypoint_files`); here each person gets the
detection whose arms and legs are nearest to the annotated ones (SPIN's preprocessing, ``read_openpose.py``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kouros.body.keypoints import OPENPOSE25, SPIN49, KeypointSet
from kouros.data.importers.running import ImportReport, Problem, Unit, run_import, table_path
from kouros.data.schema import DatasetError, Sample
from kouros.data.spin_joints import to_spin49
from kouros.data.tables import AnnotationTable
from kouros.detection.keypoint_files import read_openpose
from kouros.notes import collected

_DETECTED = len(OPENPOSE25)
_BLOCK = 4096
_LIMBS = tuple(
    f"{side}_{name}" for side in ("right", "left") for name in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
)
_SEEN = [OPENPOSE25.index(name) for name in _LIMBS]
_ANNOTATED = [SPIN49.index(name if "hip" not in name else f"{name}_lsp") for name in _LIMBS]
_FEWEST = 4
"""Annotated limb joints without which nobody is recognised."""
_FARTHEST = 0.1
"""Mean distance of the limbs' joints, as a share of the person's extent, beyond which a detection is somebody else."""
_SPIN_PIXELS = {"mpii": 30.0, "coco": 10.0}
"""SPIN refuses far detections only where they are nearer than this, that is of small people; elsewhere never."""


def join_openpose(
    source: Path, out: Path, *, detections: Path, like_spin: bool = False, check_images: bool = False
) -> ImportReport:
    """Write a table anew with SPIN's 49 keypoints: OpenPose's 25 of the matching detection, and the annotated ones.

    People whom no detection fits keep their annotated points alone. Pictures without a file are listed; their people
    are kept as well.

    Args:
        source: the table, ``.parquet``.
        out: folder for the new one.
        detections: folder of ``<picture>_keypoints.json``, flat or with the pictures' own folders.
        like_spin: SPIN's own rule: all twelve limb joints must be annotated, and of MPII and COCO people far
            detections are refused only where the people are small, elsewhere never.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the table has no 2D keypoints, the new one would be the old one, or there are no detections.
    """
    table = AnnotationTable(source)
    points = table.info.keypoints_2d
    if points is None:
        raise DatasetError(f"{source}: the table has no 2D keypoints to which detections could be joined.")
    if source.resolve() == table_path(out, table.info).resolve():
        raise DatasetError(f"{source} itself would be written over; name another folder (--out) or --name.")
    if not detections.is_dir() or not any(detections.rglob("*_keypoints.json")):
        raise DatasetError(f"OpenPose: expected <picture>_keypoints.json in {detections}, which has none.")
    limit = _SPIN_PIXELS.get(table.info.dataset, 0.0) if like_spin else np.inf

    def rows(block: range) -> Iterator[Sample | Problem]:
        for row in block:
            sample = table[row]
            with collected() as notes:
                try:
                    people = _people(detections, sample.image_path)
                except (OSError, ValueError) as error:
                    yield Problem(f"{sample.image_path} (row {row} is kept without detection)", str(error))
                    people = []
            yield from (Problem(f"{sample.image_path} (row {row} is kept)", said) for said in notes)
            yield _joined(sample, points, people, limit=limit, all_limbs=like_spin)

    info = replace(
        table.info,
        keypoints_2d=SPIN49,
        provenance={
            **table.info.provenance,
            "joined": "openpose",
            "table": str(source.resolve()),
            "detections": str(detections.resolve()),
            "like_spin": like_spin,
        },
    )
    blocks = (range(start, min(start + _BLOCK, len(table))) for start in range(0, len(table), _BLOCK))
    units = (Unit(f"rows:{block.start}", partial(rows, block)) for block in blocks)
    return run_import(out, info, units, check_images=check_images)


def _joined(
    sample: Sample, points: KeypointSet, people: Sequence[np.ndarray], *, limit: float, all_limbs: bool
) -> Sample:
    annotated = np.zeros((len(points), 3)) if sample.keypoints_2d is None else sample.keypoints_2d.astype(np.float64)
    seen = None if sample.visible is None else to_spin49(sample.visible[:, None].astype(np.float64), points)[:, 0] > 0
    keypoints = to_spin49(annotated, points)
    match = match_detection(people, keypoints, limit=limit, all_limbs=all_limbs)
    if match is not None:
        keypoints[:_DETECTED] = match
        if seen is not None:
            seen[:_DETECTED] = match[:, 2] > 0
    known = bool((keypoints[:, 2] > 0).any())
    return replace(sample, keypoints_2d=keypoints if known else None, visible=seen if known else None)


def match_detection(
    found: Sequence[Float[np.ndarray, "25 3"]],
    keypoints: Float[np.ndarray, "49 3"],
    *,
    limit: float = np.inf,
    all_limbs: bool = False,
) -> Float[np.ndarray, "25 3"] | None:
    """The detection nearest to the annotated limbs; None where none is near.

    Args:
        found: detections; those that lack one of the limbs' joints in question do not count.
        keypoints: the person's annotated points among SPIN's 49.
        limit: pixels; a detection farther than `_FARTHEST` of the person's extent is refused only if nearer than this.
        all_limbs: only people whose twelve limb joints are all annotated are matched, instead of any four.
    """
    known = np.flatnonzero(keypoints[_ANNOTATED, 2] > 0)
    if len(known) < (len(_LIMBS) if all_limbs else _FEWEST):
        return None
    limbs = keypoints[_ANNOTATED, :2][known]
    annotated = keypoints[_DETECTED:][keypoints[_DETECTED:, 2] > 0, :2]
    extent = float((annotated.max(axis=0) - annotated.min(axis=0)).max())
    distances = [
        float(np.linalg.norm(person[_SEEN][known, :2] - limbs, axis=1).mean())
        if (person[_SEEN, 2] > 0).all()
        else np.inf
        for person in found
    ]
    nearest = int(np.argmin(distances)) if distances else -1
    if nearest < 0 or distances[nearest] == np.inf:
        return None
    if distances[nearest] > _FARTHEST * extent and distances[nearest] < limit:
        return None
    return found[nearest]


def _people(detections: Path, image: str) -> list[np.ndarray]:
    """What OpenPose saw in a picture.

    Raises:
        FileNotFoundError: there is no file of it.
    """
    picture = Path(image)
    name = f"{picture.stem}_keypoints.json"
    nested = detections / picture.parent / name
    people = read_openpose(nested if nested.is_file() else detections / name)
    return [person.keypoints_2d for person in people if person.keypoint_set == OPENPOSE25.name]
