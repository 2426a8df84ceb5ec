"""Keypoints that other detectors wrote: whose file it is, is told by what is in it.

Files come from strangers. What is wrong with one person costs that person (`kouros.detection.usable`); what is no
keypoint file at all is refused with what it looks like and what would be read.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kouros.archives import ArchiveError, read_all_npz
from kouros.body.keypoints import COCO17
from kouros.body.layouts import Layout, layout, usual_layout
from kouros.detection.files import coco, deeplabcut, easymocap, mediapipe, mmpose, openpose, own, yolo
from kouros.detection.files.found import FoundFile, FoundImage, FoundPerson
from kouros.detection.people import DetectedPerson
from kouros.detection.usable import UnusableError, usable_people
from kouros.documents import DocumentError, parse_json
from kouros.notes import note
from kouros.sentences import some

# In this order: a file of ours has people as OpenPose's has, and mmpose's lists have keypoints as COCO's have.
_JSON = (own, easymocap, mmpose, yolo, mediapipe, coco, openpose)
READ = tuple(family.LOOKS_LIKE for family in (openpose, coco, mmpose, yolo, mediapipe, easymocap, deeplabcut, own))
"""What can be read, a line each."""


class NotKeypointsError(ValueError):
    """A file that is no keypoint file of any kind; the message says what it looks like instead."""


@dataclass(frozen=True)
class ImageKeypoints:
    """What a file says of one picture."""

    people: Sequence[DetectedPerson]
    """Left to right."""
    name: str | None = None
    """Of the picture, where the file says so."""
    size: tuple[int, int] | None = None
    """Width and height, pixels: as the file says, else as the caller did."""


def read_keypoints(
    path: str | Path, *, keypoint_set: str | Path | None = None, image_size: tuple[int, int] | None = None
) -> list[ImageKeypoints]:
    """The people of each picture of a keypoint file; pictures of nobody are there as well.

    Args:
        keypoint_set: what the points are, where their number does not tell: a name of `kouros.body.layouts.LAYOUTS`, or
            a .toml or .json file that names them.
        image_size: width and height, pixels, of pictures whose size the file does not say.

    Raises:
        FileNotFoundError: there is no such file.
        NotKeypointsError: it is no file of keypoints.
        ValueError: nobody in it can be used, or something is missing; the message says what.
    """
    path = Path(path)
    given = layout(keypoint_set) if keypoint_set is not None else None
    found, described = _found(path)
    return _usable(path, found, given or described, image_size)


def read_openpose(
    path: str | Path, *, image_size: tuple[int, int] | None = None, min_mean_confidence: float = 0.0
) -> list[DetectedPerson]:
    """People in one of OpenPose's files, left to right; the score is the mean confidence of the points found.

    Args:
        image_size: width, height in pixels, to clip the boxes to; default: the points' own extent.
        min_mean_confidence: leave out people of lower score.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not OpenPose's JSON, or nobody in it can be used; the message says why.
    """
    path = Path(path)
    content = _json(path)
    if not openpose.recognises(content):
        raise NotKeypointsError(f"{path} is no file of OpenPose ({_looks(content)}); expected {openpose.LOOKS_LIKE}.")
    (image,) = _usable(path, openpose.read(content), None, image_size)
    return [person for person in image.people if person.score >= min_mean_confidence]


def read_coco(path: str | Path) -> dict[str, list[DetectedPerson]]:
    """People in a COCO keypoints file, by the images' file names; each image's left to right.

    Every image of the file has an entry. Crowd regions and people without labelled keypoints are left out.
    COCO's visibility becomes the confidence: not labelled 0, labelled but hidden 0.5, visible 1. Its pixel
    coordinates are taken as they are, boxes from ``bbox``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not COCO's JSON, or nobody in it can be used; the message says why.
    """
    path = Path(path)
    content = _json(path)
    if not isinstance(content, dict) or not coco.recognises(content):
        raise NotKeypointsError(f"{path} is no file of COCO ({_looks(content)}); expected {coco.LOOKS_LIKE}.")
    try:
        found = coco.read(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    images = _usable(path, found, layout(COCO17.name) if _has_17(found) else None, None)
    return {image.name or "": list(image.people) for image in images}


def _has_17(found: FoundFile) -> bool:
    return all(len(p.points) == 17 for i in found.images for p in i.people if isinstance(p.points, np.ndarray))


def _found(path: Path) -> tuple[FoundFile, Layout | None]:
    """What the file's family finds in it, and the layout that the file itself describes."""
    data = _bytes(path)
    try:
        if data[:2] == b"PK":
            return _of_arrays(path, data), None
        text = data.decode("utf-8-sig")
        if deeplabcut.recognises(text):
            return deeplabcut.read(text)
        content = _json(path)
        for family in _JSON:
            if family.recognises(content):
                return family.read(content), None
    except NotKeypointsError:
        raise
    except UnicodeDecodeError:
        raise NotKeypointsError(f"{path} is neither JSON, CSV nor NPZ.{_what_is_read()}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    raise NotKeypointsError(f"{path} is no keypoint file that is known: it is {_looks(content)}.{_what_is_read()}")


def _what_is_read() -> str:
    return " Read are " + "; ".join(READ) + "."


def _looks(content: Any) -> str:
    if isinstance(content, dict):
        return f"an object with the keys {some(map(str, content))}" if content else "an empty object"
    if isinstance(content, list):
        if not content:
            return "an empty list"
        inner = f"; the first has the keys {some(map(str, content[0]))}" if isinstance(content[0], dict) else ""
        return f"a list of {len(content)} {type(content[0]).__name__}{inner}"
    return f"a single {type(content).__name__}"


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"There is no keypoint file {path}.")
    return path.read_bytes()


def _json(path: Path) -> Any:
    try:
        return parse_json(_bytes(path))
    except DocumentError as error:
        raise NotKeypointsError(f"{path} is not JSON ({error}); expected keypoints of a detector.") from None


def _of_arrays(path: Path, data: bytes) -> FoundFile:
    try:
        arrays = {name: array for name, array in read_all_npz(io.BytesIO(data)).items() if name in own.NAMES}
    except ArchiveError as error:
        raise NotKeypointsError(f"{path} is no NPZ file that can be read ({error}).") from None
    if not own.recognises_arrays(arrays):
        raise NotKeypointsError(f"{path} is an NPZ file without keypoints of ours; expected {', '.join(own.NAMES)}.")
    return own.read_arrays(arrays)


def _usable(
    path: Path, found: FoundFile, given: Layout | None, image_size: tuple[int, int] | None
) -> list[ImageKeypoints]:
    """The pictures with those people who can be used. One picture's bad people do not take the others."""
    for sentence in found.notes:
        note(f"{path}: {sentence}")
    images, failures = [], []
    for image in found.images:
        size = image.size or image_size
        try:
            people = _people(path, found, image, given, size)
        except ValueError as error:
            failures.append(str(error))
            people = []
        images.append(ImageKeypoints(people, image.name, size))
    if failures and not any(image.people for image in images):
        raise ValueError(failures[0])
    for sentence in failures:
        note(f"left out: {sentence}")
    return images


def _people(
    path: Path, found: FoundFile, image: FoundImage, given: Layout | None, size: tuple[int, int] | None
) -> list[DetectedPerson]:
    """Left to right.

    Raises:
        ValueError: nobody of those in the picture can be used.
    """
    by_layout: dict[Layout | None, list[tuple[str, Any, Any]]] = {}
    for k, person in enumerate(image.people):
        number = k if person.number is None else person.number
        label = f"{path}, {found.person} {number}"
        points, known = _known_points(path, person, given, size)
        by_layout.setdefault(known, []).append((label, points, person.box))
    people: list[DetectedPerson] = []
    problems: list[str] = []
    for known, members in by_layout.items():
        try:
            rows = [(label, points) for label, points, _ in members]
            people += usable_people(rows, known or layout(COCO17.name), size, [box for _, _, box in members])
        except ValueError as error:
            problems.append(str(error))
    if problems and not people:
        raise ValueError(problems[0])
    for sentence in problems:
        note(f"left out: {sentence}")
    return sorted(people, key=lambda person: float(person.box[0] + person.box[2]))


def _known_points(
    path: Path, person: FoundPerson, given: Layout | None, size: tuple[int, int] | None
) -> tuple[np.ndarray | UnusableError, Layout | None]:
    """A person's points in pixels, and what they are."""
    points = person.points
    if isinstance(points, UnusableError):
        return points, None
    if person.scaled:
        if size is None:
            raise ValueError(
                f"{path}: its coordinates are shares of the picture, whose size it does not say; give the image size "
                "(--image-size WIDTH HEIGHT)."
            )
        points = points * (*map(float, size), 1.0)
    try:
        known = given or (layout(person.layout) if person.layout else usual_layout(len(points)))
    except ValueError as error:
        return UnusableError(f"cannot be used: {error}"), None
    if len(known) != len(points):
        return UnusableError(f"has {len(points)} points; {known.name} has {len(known)}."), None
    return points, known
