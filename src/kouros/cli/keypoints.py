"""Keypoint files as the commands take them, OpenPose or COCO by what is inside: people of one image, or of a video."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kouros.cli.batch import JobError

if TYPE_CHECKING:
    import numpy as np

    from kouros.detection import DetectedPerson
    from kouros.pipeline.sequence import VideoFrame


def read_keypoints(path: Path, *, image_name: str | None = None) -> "tuple[np.ndarray, str]":
    """Keypoints (people, K, 3) of one image in an OpenPose or COCO JSON file, and the name of their set.

    Args:
        image_name: which image of a COCO file; without it, the file must hold a single one.

    Raises:
        JobError: the file cannot be used, or holds nobody.
    """
    import numpy as np

    with _one_sentence(path):
        people = _read_people(path, image_name)
    if not people:
        raise JobError(f"{path}: the file holds no person's keypoints.")
    return np.stack([person.keypoints_2d for person in people]), people[0].keypoint_set


def is_video(path: Path) -> bool:
    """Whether this is a folder of frames, or one file with the keypoints of several images."""
    return path.is_dir() or (path.is_file() and len(_coco_images(path)) > 1)


def read_video(source: Path | Sequence[Path]) -> "list[VideoFrame]":
    """The frames of a video: a folder of JSON files, one a frame; such files; or a COCO file of several images.

    Frames are in the order of the last number in their names, and missing numbers are missing frames; where
    not every name has a number of its own, the order is that of the names and no frame is missing.

    Raises:
        JobError: a file cannot be used, or there is no frame.
    """
    from kouros.pipeline.sequence import VideoFrame

    found: dict[str, list[DetectedPerson]] = {}
    if isinstance(source, Path) and not source.is_dir():
        from kouros.detection import read_coco

        with _one_sentence(source):
            found = read_coco(source)
    else:
        files = sorted(p for p in source.iterdir() if p.suffix == ".json") if isinstance(source, Path) else source
        if not files:
            raise JobError(f"{source}: the folder holds no JSON file; expected one of OpenPose's a frame.")
        for path in files:
            if path.name in found:
                raise JobError(f"{path}: there are two frames of this name; a video's frames need names of their own.")
            with _one_sentence(path):
                found[path.name] = _read_people(path, None)
    numbers = {name: _frame_number(name) for name in found}
    if None in numbers.values() or len(set(numbers.values())) < len(numbers):
        numbers = {name: k for k, name in enumerate(sorted(found, key=_natural))}
    return [VideoFrame(name, numbers[name] or 0, found[name]) for name in sorted(found, key=lambda n: numbers[n] or 0)]


def _frame_number(name: str) -> int | None:
    """The last number in a file's name: 12 of ``walk2_000000000012_keypoints.json``."""
    digits = re.findall(r"\d+", Path(name).stem)
    return int(digits[-1]) if digits else None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts ``2`` before ``10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


@contextmanager
def _one_sentence(path: Path) -> Iterator[None]:
    """What goes wrong with a file, as one sentence that names it."""
    try:
        yield
    except FileNotFoundError:
        raise JobError(f"{path}: there is no such keypoint file.") from None
    except OSError as error:
        raise JobError(f"{path}: this file cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        text = str(error)
        raise JobError(text if str(path) in text else f"{path}: {text}") from None


def _read_people(path: Path, image_name: str | None) -> "list[DetectedPerson]":
    from kouros.detection import read_coco, read_openpose

    if not _is_coco(path):
        return read_openpose(path)
    images = read_coco(path)
    if image_name is not None:
        matching = [people for name, people in images.items() if Path(name).name == image_name]
        if not matching:
            raise ValueError(f"the file has keypoints of {len(images)} images, but none is called {image_name}.")
        return matching[0]
    if len(images) != 1:
        raise ValueError(f"the file holds {len(images)} images; expected keypoints of one.")
    return next(iter(images.values()))


def _is_coco(path: Path) -> bool:
    """Whether a file looks like COCO's; whatever else is wrong with it, its reader says."""
    return _coco_content(path) is not None


def _coco_images(path: Path) -> list[object]:
    images = (_coco_content(path) or {}).get("images")
    return images if isinstance(images, list) else []


def _coco_content(path: Path) -> dict[str, object] | None:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) and "annotations" in content and "people" not in content else None
