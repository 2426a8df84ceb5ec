"""The main job: a photo in, people out, by any detector and any estimator."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kouros.body import BodyModel, load_body
from kouros.data.images import Photo, read_image
from kouros.detection import DetectedPerson, PoseDetector, default_detector, find_people, landmarks_in_boxes
from kouros.detection.usable import MINIMUM_KEYPOINTS
from kouros.pipeline.given import people_from_keypoints
from kouros.pipeline.misfit import note_misfits, with_reprojection
from kouros.pipeline.person import Person
from kouros.systems.estimator import Estimator, PersonInPhoto, assumed_camera, in_photo_camera
from kouros.systems.lifter import LearnedStart
from kouros.systems.refined import DETECTED, Refined


@dataclass(frozen=True, eq=False)
class Reconstructor:
    """Who finds people and who says how they stand: made once, used for many photos."""

    detector: PoseDetector
    estimator: Estimator
    body: BodyModel
    """Of the people that it makes."""

    def reconstruct(
        self,
        image: str | Path | bytes | np.ndarray | Photo | Any,
        *,
        keypoints: np.ndarray | Sequence[np.ndarray] | None = None,
        keypoint_set: str | Path | None = None,
        detected: Sequence[DetectedPerson] | None = None,
        boxes: np.ndarray | None = None,
        focal_length: float | None = None,
        max_people: int | None = None,
        tiles: bool = True,
    ) -> list[Person]:
        """As `kouros.reconstruct`; ``detected`` are people whom somebody else found, in place of ``keypoints``."""
        seen = self.see(
            image,
            keypoints=keypoints,
            keypoint_set=keypoint_set,
            detected=detected,
            boxes=boxes,
            focal_length=focal_length,
            max_people=max_people,
            tiles=tiles,
        )
        people = [person for person in self.people(seen) if person is not None]
        if keypoints is not None or detected is not None:
            self._doubt(people)
        return people

    def fit(
        self,
        keypoints_2d: np.ndarray | Sequence[np.ndarray],
        keypoint_set: str | Path,
        *,
        image_size: tuple[int, int],
        focal_length: float | None = None,
    ) -> list[Person]:
        """As `kouros.fit`."""
        assumed_camera(*image_size, focal_length)  # a wrong size is to be named as such
        found = people_from_keypoints(keypoints_2d, keypoint_set, image_size)
        return self.fit_detected(found, image_size=image_size, focal_length=focal_length)

    def fit_detected(
        self, people: Sequence[DetectedPerson], *, image_size: tuple[int, int], focal_length: float | None = None
    ) -> list[Person]:
        """The same of people whom somebody else found."""
        camera = assumed_camera(*image_size, focal_length)
        seen = [PersonInPhoto.found(person, None, image_size, camera) for person in people]
        found = [person for person in self.people(seen) if person is not None]
        self._doubt(found)
        return found

    def _doubt(self, people: Sequence[Person]) -> None:
        """Note whose body does not explain the keypoints that were given, where it was to explain them at all."""
        if isinstance(self.estimator, Refined):
            note_misfits(people)

    def see(
        self,
        image: str | Path | bytes | np.ndarray | Photo | Any,
        *,
        keypoints: np.ndarray | Sequence[np.ndarray] | None = None,
        keypoint_set: str | Path | None = None,
        detected: Sequence[DetectedPerson] | None = None,
        boxes: np.ndarray | None = None,
        focal_length: float | None = None,
        max_people: int | None = None,
        tiles: bool = True,
    ) -> list[PersonInPhoto]:
        """The first half of `reconstruct`: who is in the photo, and where."""
        photo = read_image(image)
        width, height = photo.size
        camera = assumed_camera(width, height, photo.focal_length_px if focal_length is None else focal_length)
        if detected is not None:
            found = list(detected)
        elif keypoints is not None:
            if keypoint_set is None:
                raise ValueError('keypoints need keypoint_set="...", the name of their set, such as "coco17".')
            found = people_from_keypoints(keypoints, keypoint_set, (width, height))
        elif boxes is not None:
            wanted = np.atleast_2d(np.asarray(boxes, dtype=np.float64))
            if wanted.ndim != 2 or wanted.shape[1] != 4:
                raise ValueError(f"boxes have shape {np.shape(boxes)}; expected (people, 4): x0, y0, x1, y1 in pixels.")
            found = landmarks_in_boxes(photo.pixels, wanted, detector=self.detector)
        else:
            found = find_people(photo.pixels, max_people=max_people, tiles=tiles, detector=self.detector)
        return [PersonInPhoto.found(person, photo.pixels, (width, height), camera) for person in found]

    def people(self, seen: Sequence[PersonInPhoto]) -> list[Person | None]:
        """The second half: what the estimator makes of detected people, in the same order; None where nothing.

        Raises:
            ValueError: a person has fewer than `MINIMUM_KEYPOINTS` keypoints, the body model lacks their set, or the
                estimator cannot do without the photo.
        """
        for which, person in enumerate(seen):
            count = int((person.keypoints[:, 2] > 0).sum())
            if count < MINIMUM_KEYPOINTS:
                raise ValueError(
                    f"person {which} has {count} visible keypoints; at least {MINIMUM_KEYPOINTS} are needed to place a "
                    "body."
                )
        answers = self.estimator.estimate(seen) if seen else []
        return [
            None if answer is None else with_reprojection(Person.of(in_photo_camera(answer, person), person, self.body))
            for answer, person in zip(answers, seen, strict=True)
        ]


def default_estimator(body: BodyModel) -> Refined:
    """What kouros does unless it is told otherwise: the learned start, fitted to the keypoints."""
    return Refined(LearnedStart(body), DETECTED, name="kouros default")


@lru_cache(maxsize=1)
def default_body() -> BodyModel:
    """The free body, read once."""
    return load_body()


@lru_cache(maxsize=4)
def default_reconstructor(body: BodyModel | None = None) -> Reconstructor:
    """The packaged detector and the default estimator, loaded once for each body (default: the free one)."""
    body = body or default_body()
    return Reconstructor(default_detector(), default_estimator(body), body)
