"""Which of several finds show the same person, judged by where their keypoints lie."""

import numpy as np
from jaxtyping import Bool, Float

from kouros.body.keypoints import BLAZEPOSE33
from kouros.detection.averaging import BODY_POINTS
from kouros.detection.regions import Region

_BODY_MIRROR = [BODY_POINTS.index(BLAZEPOSE33.mirror[k]) for k in BODY_POINTS]
_SAME_POINT = 0.12
_SAME_PERSON = 0.5
_MIN_CONFIDENCE = 0.3


def same_place(a: Region, b: Region) -> bool:
    """Whether two regions are so alike that the landmark model would see the same person in both."""
    apart = float(np.hypot(a.x - b.x, a.y - b.y))
    turned = abs((a.angle - b.angle + np.pi) % (2 * np.pi) - np.pi)
    return (
        apart < 0.1 * min(a.size, b.size)
        and max(a.size, b.size) < 1.35 * min(a.size, b.size)
        and turned < 0.5
    )


def distinct_regions(regions: list[Region]) -> list[Region]:
    """Those regions, in order, that are not in the same place as an earlier one."""
    kept: list[Region] = []
    for region in regions:
        if region.size > 0 and not any(same_place(region, other) for other in kept):
            kept.append(region)
    return kept


def distinct_people(
    keypoints: Float[np.ndarray, "people 15 3"],
    sizes: Float[np.ndarray, " people"],
    quality: Float[np.ndarray, " people"],
) -> list[int]:
    """Indices of the people that remain when every person is kept once, best ``quality`` first.

    A find is dropped when half of its confident points lie on those of a better find, or of all better finds
    together (a skeleton with one person's arms and another's legs). "On" means within 0.12 of the smaller
    body's size; a left point may lie on a right one, since a second find of a person seen from behind is often
    the same skeleton with its sides exchanged.

    Args:
        keypoints: x, y in pixels, confidence; the ``BODY_POINTS`` only.
        sizes: of the bodies, pixels.
    """
    kept: list[int] = []
    for k in np.argsort(-quality, kind="stable").tolist():
        seen = keypoints[k, :, 2] >= min(_MIN_CONFIDENCE, float(np.median(keypoints[k, :, 2])))
        taken = [_points_on(keypoints[k], keypoints[other], min(sizes[k], sizes[other])) for other in kept]
        covered = np.any(taken, axis=0) if taken else np.zeros(len(seen), dtype=bool)
        if covered[seen].mean() < _SAME_PERSON:
            kept.append(k)
    return kept


def _points_on(
    points: Float[np.ndarray, "15 3"], other: Float[np.ndarray, "15 3"], size: float
) -> Bool[np.ndarray, " 15"]:
    """Which points lie on the other skeleton's point of the same name, or of the mirrored name."""
    apart = np.linalg.norm(points[:, :2] - other[:, :2], axis=1)
    exchanged = np.linalg.norm(points[:, :2] - other[_BODY_MIRROR, :2], axis=1)
    # One exchange for the whole skeleton: a hand on the other person's other hand is no sign of anything.
    straight, crossed = apart < _SAME_POINT * size, exchanged < _SAME_POINT * size
    return straight if straight.sum() >= crossed.sum() else crossed
