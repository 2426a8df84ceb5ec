"""From an image to the people in it: detect, look twice, sort out, look again from several crops, average."""

import math
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from kouros.body.keypoints import BLAZEPOSE33
from kouros.detection import landmark_model, person_detector
from kouros.detection.averaging import BODY_POINTS, MAX_CROPS, Averaged, average, crop_variations
from kouros.detection.duplicates import Body, already_found, distinct_places
from kouros.detection.landmark_model import Landmarks
from kouros.detection.model_files import detector_network, landmark_network, packaged_models, read_task_file
from kouros.detection.people import DetectedPerson, PersonMask, box_around
from kouros.detection.person_detector import Candidate
from kouros.detection.regions import REGION_MARGIN, Pyramid, Region, covering_regions

DEFAULT_CROPS = 6
"""Landmarks of one crop lie 58 mm from the median of sixty, those of a crop with its mirror image 32, of four
29, of six 18, of twelve 19 (14 people on ten photos)."""
_MIN_VISIBLE_POINTS = 4
_MIN_VISIBLE_PART = 0.1
"""Least extent of the points seen, over the size of the body that the model imagines around them."""
_ECHO_WITHIN, _ECHO_WORSE = 0.75, 0.8
_BODY = list(BODY_POINTS)
_BELOW_HEAD = [k for k, point in enumerate(BODY_POINTS) if point >= BLAZEPOSE33.index("left_shoulder")]


@dataclass(frozen=True, eq=False)
class Find:
    """A person looked at twice: where a guess pointed, and in a mirror where that first look pointed."""

    first: Landmarks
    mirrored: Landmarks
    pair: Averaged
    body: Body


_SURE = 0.75
"""Certainty of a find from which on other candidates in its place are not looked at."""


def same_person_at(region: Region, found: Landmarks) -> bool:
    """Whether a candidate's region is the one where a person was found, up to the detector's usual scatter."""
    place = found.next_region
    apart = math.hypot(region.x - place.x, region.y - place.y)
    return apart < 0.12 * place.size and 1 / 1.5 < region.size / place.size < 1.5


class PoseDetector:
    """MediaPipe Pose's two networks, loaded once.

    May be used by several threads at once.

    Args:
        model: a ``.task`` bundle of MediaPipe's Pose Landmarker; default: the models inside the package.
        threads: CPU threads of the networks; default: as many as there are cores, at most 4.

    Raises:
        FileNotFoundError: there is no such bundle.
        ValueError: the file is no such bundle.
    """

    def __init__(self, model: str | Path | None = None, *, threads: int | None = None) -> None:
        files = packaged_models() if model is None else read_task_file(model)
        threads = threads or min(4, os.cpu_count() or 1)
        self._detector = detector_network(files, threads)
        self._landmarks = landmark_network(files, threads)

    def find_candidates(self, image: Pyramid, *, tiles: bool = True, min_score: float = 0.5) -> list[Candidate]:
        """What the person detector sees in the whole image and in its tiles, best first; with repetitions."""
        found: list[Candidate] = []
        for square in covering_regions(image.width, image.height, levels=3 if tiles else 1):
            found += self.detect(image, square, min_score)
        return sorted(found, key=lambda candidate: -candidate.score)

    def detect(self, image: Pyramid, square: Region, min_score: float = 0.5) -> list[Candidate]:
        """What the person detector sees in one upright square, best first."""
        return person_detector.detect(self._detector, image, square, min_score)

    def look(self, image: Pyramid, region: Region) -> Landmarks:
        """The landmarks of the person in one region."""
        return landmark_model.look(self._landmarks, image, region)

    def look_again(self, image: Pyramid, first: Landmarks) -> Find:
        """Compare a look with a mirrored one at the better centred region that it gives."""
        mirrored = self.look(image, first.next_region.varied(mirrored=True))
        pair = average([first, mirrored])
        return Find(first, mirrored, pair, _body(pair.points, pair.confidence, pair.size))

    def look_closely(self, image: Pyramid, find: Find, crops: int) -> DetectedPerson:
        """Look at a person from several crops and average."""
        regions = crop_variations(find.first.next_region, crops)
        # The second variation is the mirror image of the first, which the find holds.
        looks = [find.mirrored if k == 1 else self.look(image, region) for k, region in enumerate(regions)]
        averaged = average(looks)
        certainty = averaged.certainty if crops > 1 else find.pair.certainty
        keypoints = np.column_stack([averaged.points, averaged.confidence])
        return DetectedPerson(
            box=box_around(keypoints, float(image.width), float(image.height)),
            keypoints_2d=keypoints,
            keypoint_set="blazepose33",
            score=averaged.flag * certainty,
            landmarks_3d=averaged.metric,
            spread_2d=averaged.spread_2d if crops > 1 else None,
            spread_3d=averaged.spread_3d if crops > 1 else None,
            mask=PersonMask.from_logits(looks[0].mask_logits, looks[0].region),
        )


@cache
def default_detector() -> PoseDetector:
    """The detector with the packaged models, loaded when first asked for."""
    return PoseDetector()


def find_people(
    image: Shaped[np.ndarray, "..."],
    *,
    max_people: int | None = None,
    tiles: bool = True,
    crops: int = DEFAULT_CROPS,
    min_score: float = 0.5,
    detector: PoseDetector | None = None,
) -> list[DetectedPerson]:
    """People in an RGB image, left to right.

    Args:
        image: (height, width, 3), uint8.
        max_people: keep the largest ones only.
        tiles: also search overlapping tiles, for people too small to be seen in the whole image.
        crops: how many crops of each person to average, 1 to 12.
        min_score: least score of a find, in [0, 1]: the model's flag times the agreement of the crops.
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
    finds: list[tuple[float, Find]] = []
    for candidate in distinct_places(detector.find_candidates(pyramid, tiles=tiles)):
        # The tiles see the same person many times; one sure find of them is enough.
        if any(find.pair.certainty > _SURE and same_person_at(candidate.region, find.first) for _, find in finds):
            continue
        first = detector.look(pyramid, candidate.region)
        if first.flag >= min_score:
            find = detector.look_again(pyramid, first)
            finds.append((candidate.score * first.flag * find.pair.certainty, find))
    people: list[DetectedPerson] = []
    bodies: list[Body] = []
    for _, find in sorted(finds, key=lambda scored: -scored[0]):
        if already_found(find.body, bodies):
            continue
        person = detector.look_closely(pyramid, find, crops)
        size = find.first.next_region.size
        body = _body(person.keypoints_2d[:, :2], person.keypoints_2d[:, 2], size)
        doubtful = already_found(body, bodies) or any(_echoes(body, person, other) for other in people)
        if person.score >= min_score and _plausible(body, pyramid) and not doubtful:
            people.append(person)
            bodies.append(body)
    if max_people is not None:
        largest = np.argsort([-body.size for body in bodies], kind="stable")[:max_people]
        people = [people[k] for k in largest]
    return sorted(people, key=lambda person: float(person.box[0] + person.box[2]))


def landmarks_in_boxes(
    image: Shaped[np.ndarray, "..."],
    boxes: Float[np.ndarray, "people 4"],
    *,
    crops: int = DEFAULT_CROPS,
    detector: PoseDetector | None = None,
) -> list[DetectedPerson]:
    """The person in each box, in the order of the boxes; every box gives one, whatever its score.

    The landmark model wants bodies upright. The person detector, run on the box, says how the body is turned;
    where it sees nobody, or an upright look agrees better with its mirror image, the upright one counts.

    Args:
        image: (height, width, 3), RGB, uint8.
        boxes: x0, y0, x1, y1, pixels of the image; one person each.
        crops: how many crops of each person to average, 1 to 12.
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
    return [detector.look_closely(pyramid, _in_box(detector, pyramid, box), crops) for box in boxes.tolist()]


def _in_box(detector: PoseDetector, image: Pyramid, box: list[float]) -> Find:
    x0, y0, x1, y1 = box
    square = Region((x0 + x1) / 2, (y0 + y1) / 2, 1.25 * max(x1 - x0, y1 - y0))
    seen = detector.detect(image, square)
    regions = [square, *(candidate.region for candidate in seen if _inside(candidate, box))]
    finds = [detector.look_again(image, detector.look(image, region)) for region in regions]
    return max(finds, key=lambda find: find.first.flag * find.pair.certainty)


def _inside(candidate: Candidate, box: list[float]) -> bool:
    x, y = candidate.points[0]
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3] and candidate.region.size > 0)


def _checked_image(image: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "height width 3"]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(
            f"The image has shape {image.shape} and type {image.dtype}; expected RGB, (height, width, 3), uint8."
        )
    return np.ascontiguousarray(image)


def _check_crops(crops: int) -> None:
    if not 1 <= crops <= MAX_CROPS:
        raise ValueError(f"crops must be 1 to {MAX_CROPS}, not {crops}.")


def _plausible(body: Body, image: Pyramid) -> bool:
    """Whether enough of a body is to be seen to call it a person: more than a face, and not a mere speck."""
    inside = ((body.points >= 0) & (body.points <= [image.width, image.height])).all(axis=1)
    seen = inside & (body.confidence > 0.5)
    if seen.sum() < _MIN_VISIBLE_POINTS or seen[_BELOW_HEAD].sum() < 2:
        return False
    return float(np.ptp(body.points[seen], axis=0).max()) > max(4.0, _MIN_VISIBLE_PART * body.size)


def _echoes(body: Body, person: DetectedPerson, other: DetectedPerson) -> bool:
    """Whether a find is a second, worse skeleton drawn into another person's silhouette."""
    seen = body.confidence > 0.5
    if other.mask is None or not seen.any():
        return False
    within = other.mask.covers(body.points[seen]).mean()
    return bool(within >= _ECHO_WITHIN) and person.score < _ECHO_WORSE * other.score


def _body(points: Float[np.ndarray, "33 2"], confidence: Float[np.ndarray, " 33"], region_size: float) -> Body:
    return Body(points[_BODY], confidence[_BODY], region_size / REGION_MARGIN)
