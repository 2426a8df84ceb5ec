"""Where in an image people may be: what two detectors propose, and the regions in which keypoint networks look.

MediaPipe's person detector says where hips and head are and so how the body is turned; MoveNet MultiPose says where 17
keypoints are. Each misses people that the other sees.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from kouros.body.keypoints import COCO17
from kouros.detection.movenet import SeenPerson
from kouros.detection.person_detector import Candidate
from kouros.detection.regions import REGION_MARGIN, Region

_SHOULDERS = [COCO17.index(f"{side}_shoulder") for side in ("left", "right")]
_HIPS = [COCO17.index(f"{side}_hip") for side in ("left", "right")]
_SEEN = 0.2
"""Confidence of MoveNet's from which on a point says where the body is."""
_FEWEST = 3
KEYPOINT_MARGIN = 1.4
"""Side of the square that Thunder looks at over the extent of the keypoints, which lie inside the body."""
_OTHER = 0.2
"""Of a person's size: keypoints that lie further off are somebody else's."""
_ROOM = 0.12
_FLESH = 1.12
"""How far a body reaches beyond its keypoints, from the hips: crown and soles."""


@dataclass(frozen=True)
class Place:
    """A square with somebody in it, perhaps."""

    region: Region
    """Turned so that the head is up, as far as that is known."""
    multipose: float = 0.0
    """MultiPose's score; 0 where it sees nobody here."""
    detector: float = 0.0
    """The person detector's."""
    person: SeenPerson | None = None
    """Whom MultiPose sees here."""


def places_of(people: Sequence[SeenPerson], candidates: Sequence[Candidate]) -> list[Place]:
    """What the two detectors propose, the likelier first; places that are the same are one, with both scores."""
    places: list[Place] = []
    for person in people:
        region = region_around(person.points, person.confidence)
        if region is not None:
            places = _with(places, Place(region, multipose=person.score, person=person))
    for candidate in candidates:
        if candidate.region.size > 0:
            places = _with(places, Place(candidate.region, detector=candidate.score))
    return sorted(places, key=lambda place: -(place.multipose + place.detector))


def _with(places: list[Place], new: Place) -> list[Place]:
    for k, place in enumerate(places):
        if _same(place.region, new.region):
            kept = new if new.multipose + new.detector > place.multipose + place.detector else place
            both = max(place.multipose, new.multipose), max(place.detector, new.detector)
            person = place.person or new.person
            kept = replace(kept, multipose=both[0], detector=both[1], person=person)
            return [*places[:k], kept, *places[k + 1 :]]
    return [*places, new]


def _same(a: Region, b: Region) -> bool:
    apart = math.hypot(a.x - b.x, a.y - b.y)
    return apart < 0.15 * min(a.size, b.size) and max(a.size, b.size) < 1.5 * min(a.size, b.size)


def region_around(
    points: Float[np.ndarray, "17 2"], confidence: Float[np.ndarray, " 17"], margin: float = KEYPOINT_MARGIN
) -> Region | None:
    """The square around COCO's keypoints of a person, turned so that the trunk is upright; None: too few are seen."""
    seen = confidence > _SEEN
    if seen.sum() < _FEWEST:
        return None
    angle = trunk_angle(points, confidence)
    axes = Region(0.0, 0.0, 1.0, angle).axes
    turned = points[seen] @ axes
    low, high = turned.min(axis=0), turned.max(axis=0)
    side = float((high - low).max())
    if side <= 0:
        return None
    x, y = (axes @ ((low + high) / 2)).tolist()
    return Region(x, y, margin * side, angle)


def shows(points: Float[np.ndarray, "17 2"], person: SeenPerson) -> bool:
    """Whether keypoints are those of somebody whom MultiPose sees, and not of a neighbour."""
    seen = person.confidence > _SEEN
    if seen.sum() < _FEWEST:
        return True
    size = float(np.ptp(person.points[seen], axis=0).max())
    return float(np.median(np.linalg.norm(points - person.points, axis=1)[seen])) < _OTHER * size


def box_of(person: SeenPerson) -> Float[np.ndarray, " 4"]:
    """x0, y0, x1, y1 around somebody whom MultiPose sees, with room for what lies beyond the keypoints."""
    seen = person.confidence > _SEEN
    points = person.points[seen] if seen.sum() >= _FEWEST else person.points
    low, high = points.min(axis=0), points.max(axis=0)
    room = _ROOM * float((high - low).max())
    return np.concatenate([low - room, high + room])


def landmark_region(points: Float[np.ndarray, "17 2"], confidence: Float[np.ndarray, " 17"]) -> Region | None:
    """The region that BlazePose wants of a person of whom COCO's keypoints are known: the circle around the body,
    about the hips, trunk upright; None: too few are seen."""
    seen = confidence > _SEEN
    if seen.sum() < _FEWEST:
        return None
    angle = trunk_angle(points, confidence)
    hips = confidence[_HIPS] > _SEEN
    center = points[_HIPS][hips].mean(axis=0) if hips.any() else points[_HIPS].mean(axis=0)
    radius = _FLESH * float(np.linalg.norm(points[seen] - center, axis=1).max())
    if radius <= 0:
        return None
    return Region(float(center[0]), float(center[1]), 2 * REGION_MARGIN * radius, angle)


def trunk_angle(points: Float[np.ndarray, "17 2"], confidence: Float[np.ndarray, " 17"]) -> float:
    """By how much the trunk is turned from upright, radians, as `Region.angle`; 0 where it is not seen or has no
    length in the picture."""
    shoulders, hips = (confidence[ids] > _SEEN for ids in (_SHOULDERS, _HIPS))
    if not (shoulders.any() and hips.any()):
        return 0.0
    above = points[_SHOULDERS][shoulders].mean(axis=0) - points[_HIPS][hips].mean(axis=0)
    extent = float(np.ptp(points[confidence > _SEEN], axis=0).max())
    if float(np.hypot(*above)) < 0.1 * extent:
        return 0.0
    return math.atan2(float(above[0]), -float(above[1]))
