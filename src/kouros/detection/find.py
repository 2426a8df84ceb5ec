"""From an image to the people in it: two detectors propose places, two networks look at each, and three questions are
answered one by one.

Is somebody there? Detectors' scores, the networks' own confidence, and whether two networks that know nothing of each
other draw the same body (`presence`). Where are the keypoints? Both networks' together (`kouros.detection.fusion`). How
sure is each? A calibrated probability (there too). That a pose is uncertain is not that nobody is there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped, UInt8

from kouros.body.keypoints import BLAZEPOSE33
from kouros.detection import landmark_model, person_detector
from kouros.detection.averaging import BODY_POINTS, MAX_CROPS, average, crop_variations
from kouros.detection.depths import joint_depths, packaged_depth_head
from kouros.detection.duplicates import Body, already_found
from kouros.detection.fusion import BODY, Fused, agreement, fuse, person_size
from kouros.detection.landmark_model import Landmarks
from kouros.detection.model_files import detector_network, landmark_network, packaged_models, read_task_file
from kouros.detection.movenet import MultiPose, SeenKeypoints, Thunder
from kouros.detection.people import DetectedPerson, PersonMask, box_around
from kouros.detection.person_detector import Candidate
from kouros.detection.places import (
    KEYPOINT_MARGIN,
    Place,
    box_of,
    landmark_region,
    places_of,
    region_around,
    shows,
)
from kouros.detection.regions import REGION_MARGIN, Pyramid, Region, covering_regions

DEFAULT_CROPS = 6
"""BlazePose's landmarks of one crop lie 58 mm from the median of sixty, those of a crop with its mirror image 32, of
four 29, of six 18, of twelve 19 (14 people on ten photos): its depth is what they are averaged for."""
MIN_PRESENCE = 0.5
_MULTIPOSE_SIDE, _CLOSER_SIDE = 320, 576
"""Pixels of a picture's longer side: the larger one shows small people, the smaller one those who fill the picture."""
_SIX, _SURE_OF_SIX = 6, 0.2
"""MultiPose tells six people at most. Where it is that sure of six, there may be more: it looks at parts."""
LEVELS, _MOST_LEVELS = 2, 3
"""Of tiles for the person detector (`covering_regions`), and where nobody was found by these. The third finds few
others, for as much time again as all the rest takes (docs/results/detection.md)."""
_LEAST_MULTIPOSE, _LEAST_DETECTOR = 0.05, 0.4
"""Scores from which on a place is looked at; most are nobody."""
_SECOND_LOOK_GAINS, _AT_WORST = 0.05, 0.2
"""What a place is given the benefit of before it is given up: so much more confidence by a second look, and an
agreement of the networks as the least sure finds have it. None of the 368 people who are found in 320 renders is lost
by it (docs/results/detection.md)."""
_SAME_POINT, _SAME_SHARE = 0.1, 0.7
_ALREADY = 0.85
"""Probability of a find from which on other proposals in its place are not looked at."""
_BODY = list(BODY_POINTS)
_MIN_VISIBLE_POINTS, _SEEN = 4, 0.3

_PRESENCE = {"multipose": 3.1, "agreement": 3.7, "thunder": 8.0, "flag": 0.84}
_PRESENCE_CONSTANT = -3.0


def presence(multipose: float, agreement: float, thunder: float, flag: float) -> float:
    """The probability that somebody is there.

    Logistic, fitted to people and nobody in renders (`benchmarks/finder_calibration.py`).

    Args:
        multipose: MultiPose's score of the place; 0 where it proposed nobody there.
        agreement: of Thunder's and BlazePose's skeletons; see `kouros.detection.fusion.agreement`.
        thunder: mean confidence of Thunder's nose and limbs.
        flag: BlazePose's own, which is high for much that is nobody.
    """
    weighted = (
        _PRESENCE["multipose"] * multipose
        + _PRESENCE["agreement"] * agreement
        + _PRESENCE["thunder"] * thunder
        + _PRESENCE["flag"] * flag
    )
    return 1 / (1 + math.exp(-weighted - _PRESENCE_CONSTANT))


@dataclass(frozen=True, eq=False)
class Find:
    """A place looked at by both networks."""

    place: Place
    seen: SeenKeypoints
    """Thunder's second look, at the region that the first one gave."""
    look: Landmarks
    """BlazePose's."""
    fused: Fused
    presence: float

    @property
    def body(self) -> Body:
        """What duplicates are told by."""
        size = self.look.next_region.size / REGION_MARGIN
        return Body(self.fused.points[_BODY], self.fused.confidence[_BODY], size)

    def is_of(self, place: Place) -> bool:
        """Whether a place is the one where somebody was found, up to the detectors' usual scatter."""
        for known in (self.place.region, self.seen.region, self.look.next_region):
            apart = math.hypot(place.region.x - known.x, place.region.y - known.y)
            if apart < 0.15 * known.size and 1 / 1.5 < place.region.size / known.size < 1.5:
                return True
        return False

    def is_plausible(self, image: Pyramid) -> bool:
        """Whether enough of a body is to be seen to call it a person, and not a mere speck."""
        body = self.body
        inside = ((body.points >= 0) & (body.points <= [image.width, image.height])).all(axis=1)
        seen = inside & (body.confidence > _SEEN)
        return bool(seen.sum() >= _MIN_VISIBLE_POINTS) and float(np.ptp(body.points[seen], axis=0).max()) > 6.0


class PoseDetector:
    """The four networks that find people, loaded once: MediaPipe Pose's two, MoveNet MultiPose and Thunder.

    May be used by several threads.

    Args:
        model: a ``.task`` bundle of MediaPipe's Pose Landmarker, in place of the packaged detector and landmark model.
        threads: CPU threads of the networks; default: as many as torch uses, at most 4.

    Raises:
        FileNotFoundError: there is no such bundle.
        ValueError: the file is no such bundle.
    """

    def __init__(self, model: str | Path | None = None, *, threads: int | None = None) -> None:
        files = packaged_models() if model is None else read_task_file(model)
        threads = threads or min(4, torch.get_num_threads())
        self._detector = detector_network(files, threads)
        self._landmarks = landmark_network(files, threads)
        self._thunder, self._multipose = Thunder(threads=threads), MultiPose(threads=threads)

    def find_places(self, image: Pyramid, *, tiles: bool = True) -> list[Place]:
        """Where somebody may be, the likelier first.

        Args:
            tiles: look closer, for small people: MultiPose at a larger picture and, where it is full, at parts; the
                person detector at tiles.
        """
        people = self._multipose.find(image, _MULTIPOSE_SIDE)
        if tiles:
            closer = self._multipose.find(image, _CLOSER_SIDE)
            people += closer
            if sum(person.score > _SURE_OF_SIX for person in closer) >= _SIX:
                for square in covering_regions(image.width, image.height, levels=LEVELS)[1:]:
                    people += self._multipose.find_in(image, square, _MULTIPOSE_SIDE)
        likely = [person for person in people if person.score > _LEAST_MULTIPOSE]
        return places_of(likely, self.find_candidates(image, tiles=tiles, min_score=_LEAST_DETECTOR))

    def find_smaller_places(self, image: Pyramid) -> list[Place]:
        """What the person detector proposes in smaller tiles than `find_places` looks at, the likelier first."""
        larger = covering_regions(image.width, image.height, levels=LEVELS)
        squares = covering_regions(image.width, image.height, levels=_MOST_LEVELS)[len(larger) :]
        return places_of([], self._in_squares(image, squares, _LEAST_DETECTOR))

    def find_candidates(self, image: Pyramid, *, tiles: bool = True, min_score: float = 0.5) -> list[Candidate]:
        """What MediaPipe's person detector sees in the whole image and in its tiles, best first; with repetitions."""
        squares = covering_regions(image.width, image.height, levels=LEVELS if tiles else 1)
        return self._in_squares(image, squares, min_score)

    def _in_squares(self, image: Pyramid, squares: Sequence[Region], min_score: float) -> list[Candidate]:
        found = [candidate for square in squares for candidate in self.detect(image, square, min_score)]
        return sorted(found, key=lambda candidate: -candidate.score)

    def detect(self, image: Pyramid, square: Region, min_score: float = 0.5) -> list[Candidate]:
        """What MediaPipe's person detector sees in one upright square, best first."""
        return person_detector.detect(self._detector, image, square, min_score)

    def look(self, image: Pyramid, region: Region) -> Landmarks:
        """BlazePose's landmarks of the person in one region."""
        return landmark_model.look(self._landmarks, image, region)

    def look_at(
        self,
        image: Pyramid,
        place: Place,
        min_presence: float = 0.0,
        known: Sequence["Find"] = (),
        within: Float[np.ndarray, " 4"] | None = None,
    ) -> "Find | None":
        """Both networks at a place: Thunder twice, the second time where the first look points; then BlazePose at the
        body that Thunder sees.

        None as soon as ``min_presence`` cannot be reached any more, or Thunder sees somebody who is known already.

        Args:
            within: x0, y0, x1, y1: Thunder is shown nothing beyond.
        """
        seen = self._thunder.look(image, place.region, within)
        if place.person is not None and not shows(seen.points, place.person):
            within = box_of(place.person)  # a neighbour has drawn the look away
            seen = self._thunder.look(image, place.region, within)
        around = region_around(seen.points, seen.confidence)
        if _at_best(place, seen, _SECOND_LOOK_GAINS) < min_presence or any(_alike(seen, f.seen) for f in known):
            return None
        if around is not None:
            seen = self._thunder.look(image, around, within)
            if _at_best(place, seen, 0.0) < min_presence or any(_alike(seen, f.seen) for f in known):
                return None
        region = landmark_region(seen.points, seen.confidence)
        return _judged(place, seen, self.look(image, place.region if region is None else region))

    def look_on(self, image: Pyramid, place: Place) -> Find:
        """Both networks once, where somebody known should be: for the next frame of a film."""
        seen = self._thunder.look(image, place.region)
        region = landmark_region(seen.points, seen.confidence)
        return _judged(place, seen, self.look(image, place.region if region is None else region))

    def look_closely(self, image: Pyramid, find: Find, crops: int) -> DetectedPerson:
        """A find as a person: BlazePose's landmarks from several crops, averaged, with Thunder's keypoints.

        With no crops the find's own look is what there is.
        """
        looks = [self.look(image, region) for region in crop_variations(find.look.next_region, crops)] or [find.look]
        averaged = average(looks)
        fused = fuse(find.seen.points, find.seen.confidence, averaged.points, averaged.confidence)
        keypoints = np.column_stack([fused.points, fused.confidence])
        return DetectedPerson(
            box=box_around(keypoints, float(image.width), float(image.height), min_confidence=_SEEN),
            keypoints_2d=keypoints,
            keypoint_set=BLAZEPOSE33.name,
            score=find.presence,
            landmarks_3d=averaged.metric,
            spread_2d=averaged.spread_2d if crops > 1 else None,
            spread_3d=averaged.spread_3d if crops > 1 else None,
            mask=PersonMask.from_logits(looks[0].mask_logits, looks[0].region),
            depths=joint_depths(packaged_depth_head(), find.seen),
        )


def _at_best(place: Place, seen: SeenKeypoints, gain: float) -> float:
    """The presence that a place may come to yet, by a second look and BlazePose's."""
    return presence(place.multipose, _AT_WORST, float(seen.confidence[BODY].mean()) + gain, 1.0)


def _alike(seen: SeenKeypoints, other: SeenKeypoints) -> bool:
    """Whether two looks show the same person: the points that the first is sure of lie on the other's."""
    size = min(person_size(s.points, s.confidence) for s in (seen, other))
    weight = seen.confidence[BODY]
    near = np.linalg.norm(seen.points - other.points, axis=1)[BODY] < _SAME_POINT * size
    return bool(weight @ near > _SAME_SHARE * weight.sum())


def _judged(place: Place, seen: SeenKeypoints, look: Landmarks) -> Find:
    alike = agreement(seen.points, seen.confidence, look.points)
    likely = presence(place.multipose, alike, float(seen.confidence[BODY].mean()), look.flag)
    return Find(place, seen, look, fuse(seen.points, seen.confidence, look.points, look.confidence), likely)


@cache
def default_detector() -> PoseDetector:
    """The detector with the packaged models, loaded when first asked for."""
    return PoseDetector()


def find_people(
    image: Shaped[np.ndarray, "..."],
    *,
    max_people: int | None = None,
    tiles: bool = True,
    crops: int | None = DEFAULT_CROPS,
    min_score: float = MIN_PRESENCE,
    detector: PoseDetector | None = None,
) -> list[DetectedPerson]:
    """People in an RGB image, left to right.

    Args:
        image: (height, width, 3), uint8.
        max_people: keep the largest ones only.
        tiles: search closer, also in overlapping parts, for people too small to be seen in the whole image.
        crops: how many crops of each person BlazePose's landmarks are averaged over, 1 to 12; None: the look by
            which they were found.
        min_score: least probability that somebody is there, in [0, 1].
        detector: default: the packaged models.

    Raises:
        ValueError: the image is not RGB uint8, or a number is out of its range.
    """
    pyramid = Pyramid(_checked_image(image))
    _check_crops(crops)
    if not 0 <= min_score <= 1:
        raise ValueError(f"min_score must be in [0, 1], not {min_score}.")
    if max_people is not None and max_people < 1:
        raise ValueError(f"max_people must be at least 1, not {max_people}; None keeps everybody.")
    detector = detector or default_detector()
    kept = _found_at(detector.find_places(pyramid, tiles=tiles), pyramid, detector, min_score)
    if tiles and not kept:
        kept = _found_at(detector.find_smaller_places(pyramid), pyramid, detector, min_score)
    if max_people is not None:
        kept = sorted(kept, key=lambda find: -find.body.size)[:max_people]
    people = [detector.look_closely(pyramid, find, crops or 0) for find in kept]
    return sorted(people, key=lambda person: float(person.box[0] + person.box[2]))


def _found_at(places: Sequence[Place], image: Pyramid, detector: PoseDetector, min_score: float) -> list[Find]:
    """Who is at the places, each once, the surest first."""
    finds: list[Find] = []
    for place in places:
        # Detectors propose the same person many times; one sure find of them is enough.
        if any(find.presence > _ALREADY and find.is_of(place) for find in finds):
            continue
        find = detector.look_at(image, place, min_score, [f for f in finds if f.presence > _ALREADY])
        if find is not None:
            finds.append(find)
    kept: list[Find] = []
    for find in sorted(finds, key=lambda find: -find.presence):
        others = [other.body for other in kept]
        if find.presence >= min_score and find.is_plausible(image) and not already_found(find.body, others):
            kept.append(find)
    return kept


def landmarks_in_boxes(
    image: Shaped[np.ndarray, "..."],
    boxes: Float[np.ndarray, "people 4"],
    *,
    crops: int | None = DEFAULT_CROPS,
    detector: PoseDetector | None = None,
) -> list[DetectedPerson]:
    """The person in each box, in the order of the boxes; every box gives one, whatever its score.

    Thunder looks at the box in four turns, and where MediaPipe's detector sees a body inside it, at that; the look
    counts in which the networks agree best.

    Args:
        image: (height, width, 3), RGB, uint8.
        boxes: x0, y0, x1, y1, pixels of the image; one person each.
        crops: how many crops of each person BlazePose's landmarks are averaged over, 1 to 12; None: the look by
            which they were found.
        detector: default: the packaged models.

    Raises:
        ValueError: a box is empty, outside the image or not finite, or the image is not RGB uint8.
    """
    pyramid = Pyramid(_checked_image(image))
    _check_crops(crops)
    detector = detector or default_detector()
    for k, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        if not np.isfinite([x0, y0, x1, y1]).all() or x1 <= x0 or y1 <= y0:
            raise ValueError(f"Box {k} is ({x0}, {y0}, {x1}, {y1}); expected finite x0 < x1 and y0 < y1, pixels.")
        if x1 <= 0 or y1 <= 0 or x0 >= pyramid.width or y0 >= pyramid.height:
            raise ValueError(f"Box {k} lies outside the image of {pyramid.width} x {pyramid.height} pixels.")
    return [detector.look_closely(pyramid, _in_box(detector, pyramid, box), crops or 0) for box in boxes.tolist()]


_BOX_ROOM = 0.15
"""Of a box's longer side, around it: boxes are rarely drawn around all of a person."""
_TURNS = (0.0, math.pi / 2, math.pi, -math.pi / 2)
_CALM = 0.35
"""Mean confidence of Thunder's upright look from which on no other turns are tried."""


def _in_box(detector: PoseDetector, image: Pyramid, box: list[float]) -> Find:
    x0, y0, x1, y1 = box
    square = Region((x0 + x1) / 2, (y0 + y1) / 2, KEYPOINT_MARGIN * 0.9 * max(x1 - x0, y1 - y0))
    room = _BOX_ROOM * max(x1 - x0, y1 - y0)
    within = np.array([x0 - room, y0 - room, x1 + room, y1 + room])
    upright = detector.look_at(image, Place(square))
    assert upright is not None
    finds = [upright]
    if float(upright.seen.confidence[BODY].mean()) < _CALM or not _mostly_inside(upright, box):
        seen = detector.detect(image, square, _LEAST_DETECTOR)
        regions = [replace(square, angle=angle) for angle in _TURNS[1:]]
        regions += [c.region for c in seen if c.region.size > 0 and _holds(box, c.points[0])]
        finds += [f for region in regions if (f := detector.look_at(image, Place(region))) is not None]
        alone = detector.look_at(image, Place(square), within=within)
        finds += [] if alone is None else [alone]
    return max(finds, key=lambda find: find.presence * (0.2 + _share_inside(find, box)))


def _share_inside(find: Find, box: Sequence[float]) -> float:
    """Of the points that count, how many lie in the box."""
    points, weight = find.seen.points[BODY], find.seen.confidence[BODY]
    inside = ((points >= box[:2]) & (points <= box[2:])).all(axis=1)
    return float((weight * inside).sum() / max(float(weight.sum()), 1e-9))


def _mostly_inside(find: Find, box: Sequence[float]) -> bool:
    return _share_inside(find, box) > 0.7


def _holds(box: Sequence[float], point: Float[np.ndarray, "2"]) -> bool:
    x, y = point.tolist()
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def _checked_image(image: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "height width 3"]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f"The image has shape {image.shape} and type {image.dtype}; expected RGB, (height, width, 3), uint8."
        )
    return np.ascontiguousarray(image)


def _check_crops(crops: int | None) -> None:
    if crops is not None and not 1 <= crops <= MAX_CROPS:
        raise ValueError(f"crops must be 1 to {MAX_CROPS}, not {crops}.")
