"""Estimators that start from keypoints, for who has photos only: a detector looks first.

A benchmark says where people are; `Detecting` looks there, `Searching` finds them itself.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from kouros.detection import DetectedPerson, PoseDetector, find_people, landmarks_in_boxes
from kouros.detection.usable import MINIMUM_KEYPOINTS
from kouros.systems.estimator import Estimate, Estimator, PersonInPhoto

LEAST_OVERLAP = 0.3
"""Intersection over union of a found box and the asked one, from which on a found person is the one asked for."""


class Detecting:
    """An estimator, told by the detector what is seen in each person's box.

    Whose box lies outside the photo, or who shows too few keypoints, is not found.
    """

    needs_keypoints = False

    def __init__(self, estimator: Estimator, detector: PoseDetector) -> None:
        self.estimator, self.detector = estimator, detector
        self.name, self.body = estimator.name, estimator.body
        self.points_3d, self.points_2d = estimator.points_3d, estimator.points_2d

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """The estimator's answers."""
        seen = [replace(p, detected=self._detected(p)) if p.detected is None else p for p in people]
        answers: list[Estimate | None] = [None] * len(people)
        enough = [i for i, p in enumerate(seen) if _enough(p.detected)]
        for i, answer in zip(enough, self.estimator.estimate([seen[i] for i in enough]), strict=True):
            answers[i] = answer
        return answers

    def _detected(self, person: PersonInPhoto) -> DetectedPerson | None:
        if person.image is None:
            return None
        try:
            return landmarks_in_boxes(person.image, person.box[None], detector=self.detector)[0]
        except ValueError:  # the box lies outside the photo
            return None


class Searching(Detecting):
    """The same, finding people itself: who overlaps the asked box most, by at least `LEAST_OVERLAP`, is meant."""

    def __init__(self, estimator: Estimator, detector: PoseDetector) -> None:
        super().__init__(estimator, detector)
        self.name = f"{estimator.name}, finding people itself"

    def _detected(self, person: PersonInPhoto) -> DetectedPerson | None:
        if person.image is None:
            return None
        found = find_people(person.image, detector=self.detector)
        nearest = max(found, key=lambda one: overlap(one.box, person.box), default=None)
        return nearest if nearest is not None and overlap(nearest.box, person.box) >= LEAST_OVERLAP else None


def overlap(a: Float[np.ndarray, "4"], b: Float[np.ndarray, "4"]) -> float:
    """Intersection over union of two boxes, x0, y0, x1, y1."""
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (a, b))
    return shared / (areas - shared) if shared else 0.0


def _enough(person: DetectedPerson | None) -> bool:
    return person is not None and int((person.keypoints_2d[:, 2] > 0).sum()) >= MINIMUM_KEYPOINTS
