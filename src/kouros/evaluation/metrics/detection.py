"""Finders of people, judged: who is found, missed, found twice or in vain, and how far the keypoints lie off.

Plain numpy on pixels. People and finds carry COCO's 17 points, whatever points the finder has; lengths are measured
against each person's size, the longer side of the true box.

A find *shows* a person where at least half of the points that both know lie within a fifth of the person's size of
the true ones, left and right perhaps exchanged (who is found, and how well the limbs are told apart, are two
questions). Visible points decide; where fewer than three are known to both, all points do, and for people that are
known by their box alone, boxes do (intersection over union). Finds and people are then paired one to one, as many
as possible, and among those pairings the one whose points lie nearest is taken.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import linear_sum_assignment

from kouros.body.keypoints import COCO17, KEYPOINT_SETS

LIMBS = tuple(name for name in COCO17.names if name.endswith(("shoulder", "elbow", "wrist", "hip", "knee", "ankle")))
"""The twelve points by which keypoints are judged: faces are judged by whether the person is found."""
CORRECT_WITHIN = 0.1
"""Of the head-to-hip length: a keypoint that lies no further off is correct."""
_LIMBS = [COCO17.index(name) for name in LIMBS]
_ENDS = [COCO17.index(name) for name in LIMBS if not name.endswith(("shoulder", "hip"))]
_MIRROR = list(COCO17.mirror)
_SAME_WITHIN, _SAME_SHARE = 0.2, 0.5
_SAME_BOX = 0.3
_INSIDE = 0.6
_FEWEST_POINTS = 3
# Ratios of COCO's points on the free body's template; head is the middle of the ears.
_HEAD_TO_HIP_OVER_TRUNK, _HEAD_TO_HIP_OVER_NECK, _HEAD_TO_HIP_OVER_HEIGHT = 1.32, 4.09, 0.38
_FORESHORTENED = 0.3


@dataclass(frozen=True, eq=False)
class TruePerson:
    """Somebody in a picture, pixels."""

    box: Float[np.ndarray, " 4"]
    """x0, y0, x1, y1: around what is seen."""
    keypoints: Float[np.ndarray, "17 2"]
    """COCO's; NaN where unknown."""
    visible: Bool[np.ndarray, " 17"]
    """Known, in the picture, and nothing before them."""
    counts: bool = True
    """Whether missing this person is a fault; finding somebody who does not count is none either."""
    tags: tuple[str, ...] = ()
    """What the person is an example of, for counts by kind."""

    @property
    def size(self) -> float:
        """The longer side of the box."""
        return float((self.box[2:] - self.box[:2]).max())


@dataclass(frozen=True, eq=False)
class FoundPerson:
    """What a finder says, pixels."""

    box: Float[np.ndarray, " 4"]
    keypoints: Float[np.ndarray, "17 2"]
    """COCO's; NaN where the finder has no such point."""
    confidence: Float[np.ndarray, " 17"]
    """Of each point, in [0, 1]; NaN as above."""
    score: float


def unknown_points() -> Float[np.ndarray, "17 2"]:
    """Seventeen points of which nothing is known."""
    return np.full((len(COCO17), 2), np.nan)


def on_coco17(points: Float[np.ndarray, "keypoints dim"], keypoint_set: str) -> Float[np.ndarray, "17 dim"]:
    """The points of a set by their names in COCO's order, NaN where the set lacks one.

    Raises:
        KeyError: no such keypoint set.
        ValueError: the points are not as many as the set's.
    """
    names = KEYPOINT_SETS[keypoint_set].names
    if len(points) != len(names):
        raise ValueError(f"{len(points)} points are given, but {keypoint_set} has {len(names)}.")
    placed = np.full((len(COCO17), points.shape[1]), np.nan)
    for k, name in enumerate(COCO17.names):
        if name in names:
            placed[k] = points[names.index(name)]
    return placed


def head_to_hip(person: TruePerson) -> float:
    """The length that tells near from far for a person's keypoints, pixels.

    From the middle of the ears (or of what is known of the face) to the middle of the hips; where one of them is
    unknown, from the trunk's or the neck's length, else from the box, by the proportions of the free body. A trunk
    that points at the camera looks short: the length is at least 0.3 of the person's size.
    """
    ears, shoulders, hips = (_middle(person.keypoints[k : k + 2]) for k in (3, 5, 11))
    head = ears if np.isfinite(ears).all() else _middle(person.keypoints[:3])
    lengths = (
        float(np.linalg.norm(head - hips)),
        _HEAD_TO_HIP_OVER_TRUNK * float(np.linalg.norm(shoulders - hips)),
        _HEAD_TO_HIP_OVER_NECK * float(np.linalg.norm(head - shoulders)),
        _HEAD_TO_HIP_OVER_HEIGHT * person.size,
    )
    return max(next(length for length in lengths if math.isfinite(length)), _FORESHORTENED * person.size)


def _middle(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, " 2"]:
    """Of the known ones; NaN where there is none."""
    known = np.isfinite(points).all(axis=1)
    return points[known].mean(axis=0) if known.any() else np.full(2, np.nan)


@dataclass(frozen=True)
class Likeness:
    """Whether a find shows a person, and how closely, in [0, 1]."""

    same: bool
    closeness: float


def likeness(person: TruePerson, found: FoundPerson) -> Likeness:
    """How a find compares with a person; the module says what counts as the same."""
    known = np.isfinite(person.keypoints).all(axis=1) & np.isfinite(found.keypoints).all(axis=1)
    use = known & person.visible
    if use.sum() < _FEWEST_POINTS:
        use = known
    if use.sum() < _FEWEST_POINTS:
        overlap = box_iou(person.box, found.box)
        return Likeness(overlap >= _SAME_BOX, overlap)
    ways = []
    for points in (found.keypoints, found.keypoints[_MIRROR]):
        away = np.linalg.norm(points - person.keypoints, axis=1)[use & np.isfinite(points).all(axis=1)]
        if not len(away):
            continue
        share = float((away <= _SAME_WITHIN * person.size).mean())
        ways.append((share, float(np.exp(-0.5 * (away / (0.5 * _SAME_WITHIN * person.size)) ** 2).mean())))
    share, closeness = max(ways)
    return Likeness(share >= _SAME_SHARE, closeness)


def box_iou(a: Float[np.ndarray, " 4"], b: Float[np.ndarray, " 4"]) -> float:
    """Intersection over union; 0 where both are empty."""
    union = _area(a) + _area(b) - _shared(a, b)
    return _shared(a, b) / union if union > 0 else 0.0


def _area(box: Float[np.ndarray, " 4"]) -> float:
    return float(np.prod(np.clip(box[2:] - box[:2], 0, None)))


def _shared(a: Float[np.ndarray, " 4"], b: Float[np.ndarray, " 4"]) -> float:
    return float(np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None)))


@dataclass(frozen=True)
class Matching:
    """Who is found by what, as places in the two lists."""

    pairs: tuple[tuple[int, int], ...]
    """(person, find), people that do not count among them."""
    missed: tuple[int, ...]
    """People that count and have no find."""
    duplicates: tuple[int, ...]
    """Finds without a person of their own that show one who counts, or lie inside that person's box where boxes are
    all that is known."""
    false: tuple[int, ...]
    """Finds that show nobody."""
    aside: tuple[int, ...]
    """Finds without a person of their own that show one who does not count."""


def match(people: Sequence[TruePerson], finds: Sequence[FoundPerson]) -> Matching:
    """Pair finds with people, one to one."""
    alike = [[likeness(person, found) for found in finds] for person in people]
    weight = np.array([[(1000.0 + a.closeness) * a.same for a in row] for row in alike]).reshape(
        len(people), len(finds)
    )
    rows, columns = linear_sum_assignment(weight, maximize=True)
    pairs = tuple((int(i), int(j)) for i, j in zip(rows, columns, strict=True) if alike[i][j].same)
    taken, paired = {i for i, _ in pairs}, {j for _, j in pairs}
    duplicates, false, aside = [], [], []
    for j, found in enumerate(finds):
        if j in paired:
            continue
        shown = [person for person, row in zip(people, alike, strict=True) if row[j].same or _within(found, person)]
        if not shown:
            false.append(j)
        elif any(person.counts for person in shown):
            duplicates.append(j)
        else:
            aside.append(j)
    missed = tuple(i for i, person in enumerate(people) if person.counts and i not in taken)
    return Matching(pairs, missed, tuple(duplicates), tuple(false), tuple(aside))


def _within(found: FoundPerson, person: TruePerson) -> bool:
    """Whether a find lies inside the box of somebody of whom only the box is known."""
    if np.isfinite(person.keypoints).all(axis=1).sum() >= _FEWEST_POINTS:
        return False
    return _shared(found.box, person.box) >= _INSIDE * max(_area(found.box), 1e-9)


def point_distances(person: TruePerson, found: FoundPerson) -> Float[np.ndarray, " 17"]:
    """How far each visible point lies off, pixels: NaN where it is not visible, infinity where the find lacks it."""
    away = np.linalg.norm(found.keypoints - person.keypoints, axis=1)
    return np.where(person.visible, np.where(np.isfinite(away), away, np.inf), np.nan)


def sides_exchanged(person: TruePerson, found: FoundPerson) -> bool:
    """Whether the find's limbs fit the person's better with left and right exchanged, by the median over points."""
    use = [k for k in _LIMBS if person.visible[k] and np.isfinite(found.keypoints[[k, _MIRROR[k]]]).all()]
    if len(use) < _FEWEST_POINTS:
        return False
    straight = np.linalg.norm(found.keypoints[use] - person.keypoints[use], axis=1)
    crossed = np.linalg.norm(found.keypoints[_MIRROR][use] - person.keypoints[use], axis=1)
    return bool(np.median(crossed) < np.median(straight))


def limbs_on_neighbours(people: Sequence[TruePerson], which: int, found: FoundPerson) -> Bool[np.ndarray, " 17"]:
    """Which elbows, wrists, knees and ankles of a person's find lie on somebody else's.

    On another's: correct as that person's point of the same name or its mirror image, not correct as the person's own
    (either side's, and wherever it is), and nearer to the other's than to the person's own.
    """
    person = people[which]
    taken = np.zeros(len(COCO17), dtype=bool)
    for k in _ENDS:
        if not person.visible[k] or not np.isfinite(found.keypoints[k]).all():
            continue
        point = found.keypoints[k]
        own = _nearest(point, person, k)
        if own <= CORRECT_WITHIN * head_to_hip(person):
            continue
        for j, other in enumerate(people):
            if j != which and _nearest(point, other, k) <= min(own, CORRECT_WITHIN * head_to_hip(other)):
                taken[k] = True
    return taken


def _nearest(point: Float[np.ndarray, " 2"], person: TruePerson, k: int) -> float:
    """Distance to the person's point ``k`` or its mirror image; infinity where both are unknown."""
    away = np.linalg.norm(person.keypoints[[k, _MIRROR[k]]] - point, axis=1)
    return float(np.min(away, initial=np.inf, where=np.isfinite(away)))


@dataclass(frozen=True, eq=False)
class KeypointScore:
    """How the keypoints of one find compare with its person's."""

    error: Float[np.ndarray, " 17"]
    """Of visible points, in the person's size: NaN where not visible, infinity where the find lacks the point."""
    correct: Bool[np.ndarray, " 17"]
    """Within `CORRECT_WITHIN` of the head-to-hip length of where the point is, be it seen there or not."""
    judged: Bool[np.ndarray, " 17"]
    """The visible limb points."""
    known: Bool[np.ndarray, " 17"]
    """The limb points of which it is known where they are, hidden ones and those outside the picture among them."""
    exchanged: bool
    on_neighbours: Bool[np.ndarray, " 17"]


def keypoint_score(people: Sequence[TruePerson], which: int, found: FoundPerson) -> KeypointScore:
    """Judge the find of the person ``which`` among all that are in the picture."""
    person = people[which]
    limbs = np.isin(np.arange(len(COCO17)), _LIMBS)
    away = np.linalg.norm(found.keypoints - person.keypoints, axis=1)
    return KeypointScore(
        error=point_distances(person, found) / person.size,
        correct=away <= CORRECT_WITHIN * head_to_hip(person),
        judged=person.visible & limbs,
        known=np.isfinite(person.keypoints).all(axis=1) & limbs,
        exchanged=sides_exchanged(person, found),
        on_neighbours=limbs_on_neighbours(people, which, found),
    )
