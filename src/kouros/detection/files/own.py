"""What kouros itself writes: the JSON and the NPZ beside each photo's meshes (`kouros.export.results`)."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kouros.body.keypoints import KEYPOINT_SETS
from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson, as_size, box_of, triples
from kouros.detection.usable import UnusableError

LOOKS_LIKE = "kouros: its own .json and .npz of results"
NAMES = ("keypoints_2d", "keypoint_set", "boxes", "image_size")
"""Arrays of an NPZ that are read."""


def recognises(content: Any) -> bool:
    """People with a keypoint set of ours."""
    people = content.get("people") if isinstance(content, dict) else None
    return isinstance(people, list) and any(isinstance(p, dict) and "keypoint_set" in p for p in people)


def read(content: Any) -> FoundFile:
    """The people as they were detected."""
    size = content.get("image_size")
    wide = as_size(size.get("width"), size.get("height")) if isinstance(size, dict) else None
    return FoundFile([FoundImage([_person(person) for person in content["people"]], None, wide)])


def _person(person: Any) -> FoundPerson:
    if not isinstance(person, dict) or person.get("keypoint_set") not in KEYPOINT_SETS:
        return FoundPerson(UnusableError("has no keypoint_set that is known."))
    points = triples(person.get("keypoints_2d"))
    return FoundPerson(points, box=box_of(person.get("box"), corners=True), layout=person["keypoint_set"])


def recognises_arrays(arrays: Mapping[str, np.ndarray]) -> bool:
    """A photo's NPZ of ours."""
    return set(NAMES) <= set(arrays)


def read_arrays(arrays: Mapping[str, np.ndarray]) -> FoundFile:
    """The same of an NPZ.

    Raises:
        ValueError: its arrays do not go together.
    """
    keypoints, sets, size = arrays["keypoints_2d"], arrays["keypoint_set"], arrays["image_size"]
    if keypoints.ndim != 3 or keypoints.shape[2] != 3 or sets.shape != keypoints.shape[:1] or size.shape != (2,):
        raise ValueError("its keypoints_2d, keypoint_set and image_size do not go together.")
    people = []
    for rows, name, box in zip(keypoints.astype(np.float64), map(str, sets), arrays["boxes"], strict=True):
        known = KEYPOINT_SETS.get(name)
        points = UnusableError(f"has the unknown keypoint set {name!r}.") if known is None else rows[: len(known)]
        people.append(FoundPerson(points, box=box_of(np.asarray(box).tolist(), corners=True), layout=name))
    return FoundFile([FoundImage(people, None, as_size(int(size[0]), int(size[1])))])
