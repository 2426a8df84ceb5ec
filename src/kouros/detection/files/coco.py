"""COCO's JSON: annotations of many pictures, or a list of results; COCO-WholeBody's and CrowdPose's have the same form.

Format: https://cocodataset.org/#format-data and #format-results; COCO-WholeBody's
https://github.com/jin-s13/COCO-WholeBody/blob/master/data_format.md. AlphaPose's results
(https://github.com/MVIG-SJTU/AlphaPose/blob/master/docs/output.md) and OpenPifPaf's are lists of this form, with a
file's name in place of ``image_id`` or none at all.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson, as_size, box_of, triples
from kouros.detection.usable import UnusableError

LOOKS_LIKE = 'COCO: {"images": [...], "annotations": [...]}; COCO, AlphaPose: [{"image_id": ..., "keypoints": [...]}]'


def recognises(content: Any) -> bool:
    """An object with annotations, or a list of objects with flat or nested keypoints."""
    if isinstance(content, dict):
        return "annotations" in content and "people" not in content
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(row, dict) for row in content)
        and any(isinstance(row.get("keypoints"), list) and "keypoint_scores" not in row for row in content)
    )


def read(content: Any) -> FoundFile:
    """Everybody, by picture; crowds and people without labelled points are left out, as COCO means them.

    Raises:
        ValueError: the file's lists are none, or an annotation is of an image that the file does not have.
    """
    if isinstance(content, list):
        return _results(content)
    pictures = _list(content, "images")
    annotations = _list(content, "annotations")
    names: dict[Any, tuple[str, tuple[int, int] | None]] = {}
    for k, image in enumerate(pictures):
        if not isinstance(image, dict) or "id" not in image:
            raise ValueError(f"image {k} has no 'id'; expected id, file_name, width and height.")
        name = image.get("file_name", str(image["id"]))
        names[_key(image["id"])] = (str(name), as_size(image.get("width"), image.get("height")))
    rows: dict[Any, list[FoundPerson]] = {key: [] for key in names}
    people = [(k, row) for k, row in enumerate(annotations) if _is_person(row)]
    flags = _are_flags([row for _, row in people])
    strays: list[int] = []
    for k, row in people:
        person = _person(row, k, flags)
        if flags and not isinstance(person.points, UnusableError) and not (person.points[:, 2] > 0).any():
            continue  # a box alone
        key = _key(row.get("image_id"))
        if key in rows:
            rows[key].append(person)
        else:
            strays.append(k)
    if strays and not any(rows.values()):
        raise ValueError(f"annotation {strays[0]}: its image_id is not among the file's images.")
    notes = (f"{len(strays)} annotations are of images that the file does not list; left out.",) if strays else ()
    images = [FoundImage(rows[key], *names[key]) for key in names]
    return FoundFile(images, "annotation", notes)


def _results(content: list[Any]) -> FoundFile:
    rows: dict[Any, list[FoundPerson]] = {}
    people = [(k, row) for k, row in enumerate(content) if _is_person(row)]
    flags = _are_flags([row for _, row in people], results=True)
    for k, row in people:
        rows.setdefault(_key(row.get("image_id")), []).append(_person(row, k, flags))
    return FoundFile([FoundImage(found, None if key is None else str(key)) for key, found in rows.items()], "result")


def _list(content: dict[str, Any], key: str) -> list[Any]:
    if not isinstance(content.get(key), list):
        raise ValueError(f"the key {key!r} is missing or no list; expected images and annotations.")
    return content[key]


def _is_person(row: Any) -> bool:
    return isinstance(row, dict) and not row.get("iscrowd", 0) and "keypoints" in row and row.get("category_id", 1) == 1


def _key(number: Any) -> Any:
    """Numbers are the same with and without a point."""
    if isinstance(number, float) and number == int(number):
        return int(number)
    return number if isinstance(number, str | int | None) else repr(number)


def _are_flags(people: Sequence[dict[str, Any]], *, results: bool = False) -> bool:
    """Whether the third numbers are COCO's visibility (0: not labelled, 1: hidden, 2: visible) and no confidences.

    Results are by a detector: there only a 2 tells that it is one.
    """
    largest = 0.0
    for row in people:
        points = triples(row["keypoints"])
        if isinstance(points, UnusableError):
            continue
        if not np.isin(points[:, 2], (0, 1, 2)).all():
            return False
        largest = max(largest, float(points[:, 2].max()))
    return largest == 2 or not results


def _person(row: dict[str, Any], number: int, flags: bool) -> FoundPerson:
    points = triples(row["keypoints"])
    feet = triples(row["foot_kpts"]) if "foot_kpts" in row else None
    if isinstance(feet, np.ndarray) and isinstance(points, np.ndarray) and (len(points), len(feet)) == (17, 6):
        points = np.concatenate([points, feet])
    if flags and isinstance(points, np.ndarray):
        points = points * (1.0, 1.0, 0.5)
    box = box_of(row.get("bbox", row.get("box")), corners=False)
    return FoundPerson(points, box=box, number=number)
