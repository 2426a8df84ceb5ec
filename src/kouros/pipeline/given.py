"""Keypoints that somebody else detected."""

import numpy as np

from kouros.body.keypoints import keypoint_set as find_keypoint_set
from kouros.detection import DetectedPerson
from kouros.detection.people import box_around


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
