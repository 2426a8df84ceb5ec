"""Two networks' keypoints of one person as one set, and how sure each is.

MoveNet Thunder places limbs better and is calm about how a person is turned; BlazePose knows hands, feet and depth.
Where they agree the points are mixed, where they do not the likelier one is taken; how far they are apart is the best
sign of how sure a point is. The numbers here were found on renders (`benchmarks/finder_calibration.py`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kouros.body.keypoints import BLAZEPOSE33, COCO17

SHARED = np.array([BLAZEPOSE33.index(name) for name in COCO17.names])
"""Where COCO's points stand among BlazePose's."""
BODY = np.array([k for k, name in enumerate(COCO17.names) if not name.endswith(("eye", "ear"))])
"""The nose and the limbs' twelve points, of COCO's."""
AGREE_WITHIN = 0.08
"""Of the person's size: at this distance between the two networks' points, agreement is 1/e."""
_NEAR, _BLAZEPOSE_SHARE = 0.09, 0.4
_TRUSTED, _SWITCH = 0.5, 0.7
"""A BlazePose confidence is worth half as much as one of Thunder's; it must outweigh it by 7 to 3 to be believed where
the two contradict each other."""

_UNSEEN = 0.2
"""Below this confidence Thunder puts points anywhere in its square, while BlazePose imagines the rest of the body."""

# How far Thunder's points lie from BlazePose's own idea of the same joints: towards the other side's point, and along
# the trunk from the hips to the shoulders (ankles: along the shank to the knee), as shares of those vectors.
_TOWARDS_OTHER = {"ear": 0.16, "shoulder": 0.04, "hip": 0.02}
_ALONG_TRUNK = {"shoulder": -0.026, "hip": -0.05}
_ALONG_SHANK = {"ankle": 0.02}

# Probability of a point to lie within a tenth of the head-to-hip length: of Thunder's confidence, of BlazePose's, of
# how well they agree, and a constant; by kind of point.
_CALIBRATION = {
    "nose": (4.4, 0.2, 2.2, -2.7),
    "eye": (4.4, 0.2, 2.2, -2.7),
    "ear": (4.4, 0.2, 2.2, -2.7),
    "shoulder": (4.0, 0.2, 1.8, -2.9),
    "elbow": (3.7, 1.0, 1.9, -3.2),
    "wrist": (3.9, 1.2, 2.0, -3.3),
    "hip": (2.1, 0.8, 2.3, -3.6),
    "knee": (2.7, 1.8, 2.3, -3.5),
    "ankle": (3.6, 1.2, 1.7, -3.4),
}
_KIND = [name.rpartition("_")[2] for name in COCO17.names]
_WEIGHTS = np.array([_CALIBRATION[kind] for kind in _KIND])

# The points that BlazePose alone has go where their neighbour goes, and are no surer than it.
_FOLLOWS = {
    "pinky": "wrist", "index": "wrist", "thumb": "wrist", "heel": "ankle", "foot_index": "ankle",
    "eye_inner": "eye", "eye_outer": "eye",
}  # fmt: skip


def _leader(name: str) -> int:
    side, _, part = name.partition("_")
    if part in _FOLLOWS:
        return BLAZEPOSE33.index(f"{side}_{_FOLLOWS[part]}")
    return BLAZEPOSE33.index("nose") if name.startswith("mouth") else BLAZEPOSE33.index(name)


_LEADERS = np.array([_leader(name) for name in BLAZEPOSE33.names])


@dataclass(frozen=True, eq=False)
class Fused:
    """BlazePose's 33 points, as two networks have them together."""

    points: Float[np.ndarray, "33 2"]
    """Pixels."""
    confidence: Float[np.ndarray, " 33"]
    """The probability of lying within a tenth of the head-to-hip length of where the joint is, seen or hidden."""


def fuse(
    thunder: Float[np.ndarray, "17 2"],
    thunder_confidence: Float[np.ndarray, " 17"],
    blazepose: Float[np.ndarray, "33 2"],
    blazepose_confidence: Float[np.ndarray, " 33"],
) -> Fused:
    """One set of points of both, and their calibrated confidences."""
    mine, theirs = as_blazepose(thunder), blazepose[SHARED]
    sure = blazepose_confidence[SHARED]
    size = person_size(mine, thunder_confidence)
    apart = np.linalg.norm(mine - theirs, axis=1) / size
    believed = _TRUSTED * sure / np.maximum(thunder_confidence + _TRUSTED * sure, 1e-9) > _SWITCH
    imagined = thunder_confidence < _UNSEEN
    share = np.where(apart < _NEAR, _BLAZEPOSE_SHARE, (believed | imagined).astype(float))[:, None]
    evidence = np.column_stack([thunder_confidence, sure, closeness(apart), np.ones(len(sure))])
    probability = 1 / (1 + np.exp(-(evidence * _WEIGHTS).sum(axis=1)))

    points, confidence = blazepose.copy(), blazepose_confidence.copy()
    moved = np.zeros_like(points)
    moved[SHARED] = share * theirs + (1 - share) * mine - theirs
    confidence[SHARED] = probability
    return Fused(points + moved[_LEADERS], np.minimum(confidence, confidence[_LEADERS]))


def agreement(
    thunder: Float[np.ndarray, "17 2"],
    thunder_confidence: Float[np.ndarray, " 17"],
    blazepose: Float[np.ndarray, "33 2"],
) -> float:
    """In [0, 1]: how well two networks that know nothing of each other see the same body, sides perhaps exchanged.

    Two networks draw different skeletons into what is nobody.
    """
    mine, theirs = as_blazepose(thunder), blazepose[SHARED]
    size = person_size(mine, thunder_confidence)
    weight = thunder_confidence[BODY] / max(float(thunder_confidence[BODY].sum()), 1e-9)
    ways = (theirs, theirs[list(COCO17.mirror)])
    return max(float(weight @ closeness(np.linalg.norm(mine - way, axis=1)[BODY] / size)) for way in ways)


def person_size(points: Float[np.ndarray, "17 2"], confidence: Float[np.ndarray, " 17"]) -> float:
    """The longer extent of the points that are seen, pixels; of all, where hardly any is."""
    seen = confidence > 0.2
    return max(1e-6, float(np.ptp(points[seen] if seen.sum() > 2 else points, axis=0).max()))


def as_blazepose(points: Float[np.ndarray, "17 2"]) -> Float[np.ndarray, "17 2"]:
    """Thunder's points where BlazePose would mark the same joints: it has hips lower, shoulders and ears nearer to the
    middle."""
    moved = points.copy()
    trunk = (points[5:7].mean(axis=0)) - (points[11:13].mean(axis=0))
    for k, kind in enumerate(_KIND):
        if kind in _TOWARDS_OTHER:
            moved[k] += _TOWARDS_OTHER[kind] * (points[COCO17.mirror[k]] - points[k])
        if kind in _ALONG_TRUNK:
            moved[k] += _ALONG_TRUNK[kind] * trunk
        if kind in _ALONG_SHANK:
            moved[k] += _ALONG_SHANK[kind] * (points[k - 2] - points[k])
    return moved


def closeness(apart: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """In [0, 1], of the distances between two networks' points over the person's size."""
    return np.exp(-((apart / AGREE_WITHIN) ** 2))
