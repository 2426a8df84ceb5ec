"""Keypoint files as the commands take them: OpenPose or COCO by what is inside, one image's people out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kouros.cli.batch import JobError

if TYPE_CHECKING:
    import numpy as np

    from kouros.detection import DetectedPerson


def read_keypoints(path: Path, *, image_name: str | None = None) -> "tuple[np.ndarray, str]":
    """Keypoints (people, K, 3) of one image in an OpenPose or COCO JSON file, and the name of their set.

    Args:
        image_name: which image of a COCO file; without it, the file must hold a single one.

    Raises:
        JobError: the file cannot be used, or holds nobody.
    """
    import numpy as np

    try:
        people = _read_people(path, image_name)
    except FileNotFoundError:
        raise JobError(f"{path}: there is no such keypoint file.") from None
    except OSError as error:
        raise JobError(f"{path}: this file cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        text = str(error)
        raise JobError(text if str(path) in text else f"{path}: {text}") from None
    if not people:
        raise JobError(f"{path}: the file holds no person's keypoints.")
    return np.stack([person.keypoints_2d for person in people]), people[0].keypoint_set


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
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "annotations" in content and "people" not in content
