"""Keypoints that others wrote: OpenPose's JSON (one file an image) and COCO's (one a dataset).

Files come from strangers, so everything is checked, and an error says which file, person and key is wrong.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from kouros.body.keypoints import COCO17, OPENPOSE25, KeypointSet
from kouros.detection.people import DetectedPerson, box_around


def read_openpose(
    path: str | Path, *, image_size: tuple[int, int] | None = None, min_mean_confidence: float = 0.0
) -> list[DetectedPerson]:
    """People in one of OpenPose's files (BODY_25), left to right.

    Points not found (0, 0, 0) keep confidence 0. People without a single point are left out. The score is the
    mean confidence of the points found.

    Args:
        image_size: width, height in pixels, to clip the boxes to; default: the points' own extent.
        min_mean_confidence: leave out people of lower score.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not OpenPose's JSON; the message says which person and key, and what was expected.
    """
    where = str(path)
    people = _entry(_read_json(path), "people", list, where)
    found = []
    for k, person in enumerate(people):
        label = f"{where}, person {k}"
        numbers = _entry(person, "pose_keypoints_2d", list, label)
        keypoints = _keypoints(numbers, OPENPOSE25, "pose_keypoints_2d", label)
        if (keypoints[:, 2] > 1).any() or (keypoints[:, 2] < 0).any():
            raise ValueError(f"{label}: a confidence in pose_keypoints_2d is outside [0, 1].")
        keypoints[keypoints[:, 2] == 0] = 0
        if (keypoints[:, 2] > 0).any():
            found.append(_person(keypoints, OPENPOSE25, image_size))
    return _left_to_right([person for person in found if person.score >= min_mean_confidence])


def read_coco(path: str | Path) -> dict[str, list[DetectedPerson]]:
    """People in a COCO keypoints file, by the images' file names; each image's left to right.

    Every image of the file has an entry. Crowd regions and people without labelled keypoints are left out.
    COCO's visibility becomes the confidence: not labelled 0, labelled but hidden 0.5, visible 1. Its pixel
    coordinates are taken as they are, boxes from ``bbox``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not COCO's JSON; the message says which annotation and key, and what was expected.
    """
    where = str(path)
    content = _read_json(path)
    names: dict[Any, str] = {}
    for k, image in enumerate(_entry(content, "images", list, where)):
        label = f"{where}, image {k}"
        names[_entry(image, "id", (int, str), label)] = _entry(image, "file_name", str, label)
    found: dict[str, list[DetectedPerson]] = {name: [] for name in names.values()}
    for k, annotation in enumerate(_entry(content, "annotations", list, where)):
        label = f"{where}, annotation {k}"
        image_id = _entry(annotation, "image_id", (int, str), label)
        if image_id not in names:
            raise ValueError(f"{label}: image_id {image_id!r} is not among the file's images.")
        if annotation.get("iscrowd", 0) or "keypoints" not in annotation:
            continue
        keypoints = _keypoints(_entry(annotation, "keypoints", list, label), COCO17, "keypoints", label)
        if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
            raise ValueError(f"{label}: a visibility in keypoints is not 0, 1 or 2.")
        keypoints[:, 2] /= 2
        if (keypoints[:, 2] > 0).any():
            box = _box(annotation, label) if "bbox" in annotation else None
            found[names[image_id]].append(_person(keypoints, COCO17, None, box))
    return {name: _left_to_right(people) for name, people in found.items()}


def _read_json(path: str | Path) -> Any:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no keypoint file {path}.")
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); expected keypoints of OpenPose or COCO.") from None


def _entry(value: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """``value[key]``, which must be of that kind."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join({list: "a list", str: "a text", int: "a whole number"}[k] for k in kinds)
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object with the key {key!r}, found {type(value).__name__}.")
    if key not in value:
        raise ValueError(f"{where}: the key {key!r} is missing; expected {wanted}.")
    if not isinstance(value[key], kinds) or isinstance(value[key], bool):
        raise ValueError(f"{where}: {key!r} is {type(value[key]).__name__}; expected {wanted}.")
    return value[key]


def _keypoints(numbers: list[Any], keypoint_set: KeypointSet, key: str, where: str) -> Float[np.ndarray, "keypoints 3"]:
    expected = 3 * len(keypoint_set)
    if len(numbers) != expected:
        raise ValueError(
            f"{where}: {key!r} has {len(numbers)} numbers; expected {expected} "
            f"(x, y, confidence of the {len(keypoint_set)} points of {keypoint_set.name})."
        )
    return _finite(numbers, key, where).reshape(-1, 3)


def _box(annotation: dict[str, Any], where: str) -> Float[np.ndarray, " 4"]:
    numbers = _entry(annotation, "bbox", list, where)
    if len(numbers) != 4:
        raise ValueError(f"{where}: 'bbox' has {len(numbers)} numbers; expected 4 (x, y, width, height).")
    x, y, width, height = _finite(numbers, "bbox", where).tolist()
    if width <= 0 or height <= 0:
        raise ValueError(f"{where}: 'bbox' is {width} x {height} pixels; expected a positive size.")
    return np.array([x, y, x + width, y + height])


def _finite(numbers: list[Any], key: str, where: str) -> Float[np.ndarray, " n"]:
    for k, number in enumerate(numbers):
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e9:
            raise ValueError(f"{where}: number {k} of {key!r} is {number!r}; expected a finite number.")
    return np.array(numbers, dtype=np.float64)


def _person(
    keypoints: Float[np.ndarray, "keypoints 3"],
    keypoint_set: KeypointSet,
    image_size: tuple[int, int] | None,
    box: Float[np.ndarray, " 4"] | None = None,
) -> DetectedPerson:
    seen = keypoints[:, 2] > 0
    if box is None:
        width, height = image_size or (np.inf, np.inf)
        box = box_around(keypoints, float(width), float(height), min_confidence=1e-6)
    score = float(keypoints[seen, 2].mean())
    return DetectedPerson(box, keypoints, keypoint_set.name, min(score, 1.0))


def _left_to_right(people: list[DetectedPerson]) -> list[DetectedPerson]:
    return sorted(people, key=lambda person: float(person.box[0] + person.box[2]))
