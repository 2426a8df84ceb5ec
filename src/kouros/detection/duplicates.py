"""Which of several finds show the same person, judged by where their keypoints lie."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from kouros.body.keypoints import BLAZEPOSE33
from kouros.detection.averaging import BODY_POINTS

_BODY_MIRROR = [BODY_POINTS.index(BLAZEPOSE33.mirror[k]) for k in BODY_POINTS]
_SAME_POINT = 0.12
_SAME_PERSON = 0.5
_MIN_CONFIDENCE = 0.3


@dataclass(frozen=True, eq=False)
class Body:
    """Where a find's body points lie."""

    points: Float[np.ndarray, "15 2"]
    """``BODY_POINTS``, pixels."""
    confidence: Float[np.ndarray, " 15"]
    size: float
    """Of the body, pixels."""


def already_found(body: Body, others: list[Body]) -> bool:
    """Whether half of a find's confident points lie on those of another find, or of all others together.

    Together, because the model sometimes joins one person's arms to another's legs. "On" means within 0.12 of
    the smaller body's size; a left point may lie on a right one, since a second find of a person seen from
    behind is often the same skeleton with its sides exchanged.
    """
    if not others:
        return False
    seen = body.confidence >= min(_MIN_CONFIDENCE, float(body.confidence.max()))
    covered = np.any([_points_on(body, other) for other in others], axis=0)
    return bool(covered[seen].mean() >= _SAME_PERSON)


def _points_on(body: Body, other: Body) -> Bool[np.ndarray, " 15"]:
    """Which points lie on the other skeleton's point of the same name, or of the mirrored name."""
    reach = _SAME_POINT * min(body.size, other.size)
    straight = np.linalg.norm(body.points - other.points, axis=1) < reach
    crossed = np.linalg.norm(body.points - other.points[_BODY_MIRROR], axis=1) < reach
    # One exchange for the whole skeleton: a hand on the other person's other hand is no sign of anything.
    return straight if straight.sum() >= crossed.sum() else crossed
