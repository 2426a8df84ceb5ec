"""What a calibrated lens shows, as a pinhole would have shown it: photos, found people and boxes."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from kouros.data.calibration import Calibration
from kouros.data.images import Photo
from kouros.detection import DetectedPerson

_ALONG_A_SIDE = 16
"""Points of a box's side that are straightened: straight sides become curves."""


def straightened_photo(photo: Photo, lens: Calibration) -> Photo:
    """The photo; what the ideal camera sees beyond it is black."""
    return photo if lens.is_pinhole else replace(photo, pixels=lens.straightened_picture(photo.pixels))


def straightened_people(people: Sequence[DetectedPerson], lens: Calibration) -> list[DetectedPerson]:
    """People whom somebody found in the photo as it was taken. Masks, which are of that photo, are left out."""
    if lens.is_pinhole:
        return list(people)
    straight = []
    for person in people:
        keypoints = person.keypoints_2d.copy()
        seen = keypoints[:, 2] > 0
        keypoints[seen, :2] = lens.straightened(keypoints[seen, :2])
        box = straightened_boxes(person.box[None], lens)[0]
        straight.append(replace(person, keypoints_2d=keypoints, box=box, mask=None))
    return straight


def straightened_boxes(boxes: Float[np.ndarray, "boxes 4"], lens: Calibration) -> Float[np.ndarray, "boxes 4"]:
    """Boxes around what was in the boxes."""
    if lens.is_pinhole:
        return boxes
    share = np.linspace(0, 1, _ALONG_A_SIDE)
    around = [np.stack([share, np.full_like(share, end)], 1) for end in (0.0, 1.0)]
    border = np.concatenate([*around, *(side[:, ::-1] for side in around)])
    outlines = [lens.straightened(box[:2] + border * (box[2:] - box[:2])) for box in boxes]
    return np.stack([np.concatenate([line.min(0), line.max(0)]) for line in outlines]).astype(boxes.dtype)
