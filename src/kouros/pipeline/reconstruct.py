"""The main job: a photo in, people out."""

from pathlib import Path
from typing import Any

import numpy as np

from kouros.body import BodyModel
from kouros.body.keypoints import keypoint_set as find_keypoint_set
from kouros.data.images import Photo, read_image
from kouros.detection import DetectedPerson, PoseDetector, find_people, landmarks_in_boxes
from kouros.detection.people import box_around
from kouros.pipeline.estimate import ImageCamera, estimate
from kouros.pipeline.person import Person


def reconstruct(
    image: str | Path | bytes | np.ndarray | Photo | Any,
    *,
    keypoints: np.ndarray | None = None,
    keypoint_set: str | None = None,
    boxes: np.ndarray | None = None,
    focal_length: float | None = None,
    body: BodyModel | None = None,
    max_people: int | None = None,
    tiles: bool = True,
    detector: PoseDetector | None = None,
) -> list[Person]:
    """Posed and shaped people of a photo, left to right.

    Args:
        image: a file, its bytes, a PIL image or an array (H, W, 3) of RGB.
        keypoints: (N, K, 3) or (K, 3), pixels and confidence, from another detector; nobody is searched then.
        keypoint_set: what they are, such as ``"openpose25"``.
        boxes: (N, 4) or (4,), x0, y0, x1, y1 in pixels: one person is looked for in each; results keep their order.
        focal_length: pixels; default: from EXIF, else the image's diagonal.
        body: default: the free body.
        max_people: keep only the largest.
        tiles: also search overlapping parts of the photo, for small people.
        detector: default: the packaged one.

    Raises:
        ImageError: the photo cannot be read.
        ValueError: keypoints, boxes or numbers are not what is expected; the message says what is.
    """
    photo = read_image(image)
    width, height = photo.size
    camera = ImageCamera.of(width, height, photo.focal_length_px if focal_length is None else focal_length)
    if keypoints is not None:
        if keypoint_set is None:
            raise ValueError('keypoints need keypoint_set="...", the name of their set, such as "coco17".')
        found = people_from_keypoints(keypoints, keypoint_set, (width, height))
    elif boxes is not None:
        wanted = np.atleast_2d(np.asarray(boxes, dtype=np.float64))
        if wanted.ndim != 2 or wanted.shape[1] != 4:
            raise ValueError(f"boxes have shape {np.shape(boxes)}; expected (people, 4): x0, y0, x1, y1 in pixels.")
        found = landmarks_in_boxes(photo.pixels, wanted, detector=detector)
    else:
        found = find_people(photo.pixels, max_people=max_people, tiles=tiles, detector=detector)
    return estimate(found, camera, body)


def fit(
    keypoints_2d: np.ndarray,
    keypoint_set: str,
    *,
    image_size: tuple[int, int],
    focal_length: float | None = None,
    body: BodyModel | None = None,
) -> list[Person]:
    """Bodies from keypoints alone, without a photo.

    Args:
        keypoints_2d: (N, K, 3) or (K, 3), pixels and confidence; confidence 0 means not seen.
        keypoint_set: such as ``"openpose25"``.
        image_size: width and height, pixels.
        focal_length: pixels; default: the image's diagonal.
        body: default: the free body.

    Raises:
        ValueError: the keypoints are not what is expected; the message says what is.
    """
    width, height = image_size
    found = people_from_keypoints(keypoints_2d, keypoint_set, image_size)
    return estimate(found, ImageCamera.of(width, height, focal_length), body)


def people_from_keypoints(keypoints: np.ndarray, set_name: str, image_size: tuple[int, int]) -> list[DetectedPerson]:
    """Keypoints of another detector in the form that the estimate takes.

    Raises:
        ValueError: wrong shape, not finite, negative confidence, or an unknown set.
    """
    try:
        names = find_keypoint_set(set_name)
    except KeyError as error:
        raise ValueError(error.args[0]) from None
    array = np.array(keypoints, dtype=np.float64)  # a copy: confidences are clipped below
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1:] != (len(names), 3):
        raise ValueError(
            f"keypoints have shape {np.shape(keypoints)}; {set_name} needs (people, {len(names)}, 3): x and y in "
            "pixels and a confidence."
        )
    bad = np.argwhere(~np.isfinite(array) | ((array < 0) & (np.arange(3) == 2)))
    if len(bad):
        person, point, column = bad[0].tolist()
        raise ValueError(
            f"keypoint {names.names[point]!r} of person {person} has {('x', 'y', 'confidence')[column]} = "
            f"{array[person, point, column]}; expected finite pixels and a confidence >= 0 (0: not seen)."
        )
    array[..., 2] = array[..., 2].clip(0, 1)
    width, height = image_size
    return [
        DetectedPerson(
            box=box_around(person, float(width), float(height)),
            keypoints_2d=person,
            keypoint_set=set_name,
            score=float(person[:, 2].mean()),
        )
        for person in array
    ]
