"""One rule for keypoints that strangers bring: what a bad part of them costs, and when it is said.

A point that is not finite, or has no confidence, is a point not seen. Confidences above 1 are clipped. Whoever then has
too few points, or points that cannot be pixels of a person in the picture, is left out by name; the others go on. Only
where nobody is left, the input is refused.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from kouros.body.layouts import Layout
from kouros.detection.people import DetectedPerson, box_around
from kouros.notes import note

MINIMUM_KEYPOINTS = 4
"""A body cannot be placed by fewer."""
SMALLEST_PERSON = 8.0
"""Pixels that a person's points span at least: below, nothing of a posture shows, and no lens makes them a person."""
_LARGEST_SCALED = 1.5
"""Coordinates that were scaled to 0..1 or -1..1 lie below, points somewhat outside the picture included."""
_FARTHEST = 1e7
"""No pixel lies beyond."""
_MOST_OUTSIDE = 0.5
"""Of a person's confidence, by points outside the picture."""


class UnusableError(ValueError):
    """Somebody whose points say nothing; the message is what is the matter, without a subject."""


def usable_people(
    given: Iterable[tuple[str, Float[np.ndarray, "points 3"] | UnusableError]],
    layout: Layout,
    image_size: tuple[int, int] | None,
    boxes: Sequence[Float[np.ndarray, " 4"] | None] | None = None,
) -> list[DetectedPerson]:
    """Those of the people given who can be used, in their order; what was wrong is noted.

    Args:
        given: what each is called, and the points in the layout's order or why there are none.
        image_size: width and height, pixels, where it is known.
        boxes: around them; default: around their points.

    Raises:
        ValueError: somebody is given, but nobody can be used.
    """
    found: list[DetectedPerson] = []
    left_out: list[str] = []
    clipped = broken = 0
    for k, (label, points) in enumerate(given):
        try:
            if isinstance(points, UnusableError):
                raise points
            clipped += bool((points[:, 2] > 1).any())
            placed = layout.placed(usable_points(points, image_size))
            _require_enough(placed)
            broken += bool(_claimed_nowhere(points).any())
        except UnusableError as problem:
            left_out.append(f"{label} {problem}")
            continue
        box = boxes[k] if boxes is not None else None
        found.append(detected(placed, layout.target.name, image_size, box))
    if left_out and not found:
        more = f" So it is with all {len(left_out)}." if len(left_out) > 1 else ""
        raise ValueError(f"{left_out[0]}{more}")
    for sentence in left_out:
        note(f"left out: {sentence}")
    if clipped:
        note(f"confidences above 1 were taken as 1 ({clipped} {'person' if clipped == 1 else 'people'}).")
    if broken:
        what = "points without a finite place, or with a confidence below 0, count as not seen"
        note(f"{what} ({broken} {'person' if broken == 1 else 'people'}).")
    return found


def _claimed_nowhere(points: Float[np.ndarray, "points 3"]) -> Bool[np.ndarray, " points"]:
    """Which points claim to have been seen, but cannot have been; what has a confidence of 0 or none claims nothing."""
    confidence = np.where(np.isfinite(points[:, 2]), points[:, 2], 0.0)
    return (confidence < 0) | ((confidence > 0) & ~np.isfinite(points[:, :2]).all(axis=1))


def usable_points(
    keypoints: Float[np.ndarray, "points 3"], image_size: tuple[int, int] | None
) -> Float[np.ndarray, "points 3"]:
    """The points, with zeros where nothing was seen and confidences in [0, 1].

    Raises:
        UnusableError: too few are seen, or they are no pixels of a person in the picture.
    """
    points = np.array(keypoints, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        seen = np.isfinite(points).all(axis=1) & (points[:, 2] > 0) & (np.abs(points[:, :2]) < _FARTHEST).all(axis=1)
    points[~seen] = 0
    points[:, 2] = points[:, 2].clip(0, 1)
    _require_enough(points)
    xy, confidence = points[seen, :2], points[seen, 2]
    if (np.abs(xy) <= _LARGEST_SCALED).all():
        raise UnusableError(
            f"has coordinates between {xy.min():.2f} and {xy.max():.2f}, which were scaled to the picture (OpenPose's "
            "keypoint_scale 3 or 4, or normalised output); expected pixels: multiply by its width and height."
        )
    if image_size is not None:
        outside = ((xy < 0) | (xy > np.array(image_size))).any(axis=1)
        share = float(confidence[outside].sum() / confidence.sum())
        if share > _MOST_OUTSIDE:
            raise UnusableError(
                f"has {100 * share:.0f} % of the points outside the picture of {image_size[0]} x {image_size[1]} "
                f"pixels (they reach from {xy.min(axis=0).round()} to {xy.max(axis=0).round()}); is that its size?"
            )
    span = float((xy.max(axis=0) - xy.min(axis=0)).max())
    if span < SMALLEST_PERSON:
        raise UnusableError(
            f"spans {span:.1f} pixels, which no lens makes a person of; expected at least {SMALLEST_PERSON:.0f}. Are "
            "the coordinates pixels?"
        )
    return points


def _require_enough(points: Float[np.ndarray, "points 3"]) -> None:
    count = int((points[:, 2] > 0).sum())
    if count < MINIMUM_KEYPOINTS:
        raise UnusableError(f"has {count} usable points; a body needs {MINIMUM_KEYPOINTS}.")


def detected(
    keypoints: Float[np.ndarray, "keypoints 3"],
    set_name: str,
    image_size: tuple[int, int] | None,
    box: Float[np.ndarray, " 4"] | None = None,
) -> DetectedPerson:
    """A person by usable points; the score is the mean confidence of those seen."""
    if box is None:
        width, height = image_size or (np.inf, np.inf)
        box = box_around(keypoints, float(width), float(height), min_confidence=1e-6)
    seen = keypoints[:, 2] > 0
    return DetectedPerson(box, keypoints, set_name, float(min(keypoints[seen, 2].mean(), 1.0)))
