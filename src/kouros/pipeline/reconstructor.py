"""The main job: a photo in, people out, by any detector and any estimator."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kouros.body import BodyModel
from kouros.body.files import shared_body
from kouros.body.keypoints import OPENPOSE25
from kouros.data.calibration import Calibration, KnownFrom
from kouros.data.calibration_files import as_calibration
from kouros.data.images import Photo, read_image
from kouros.detection import DetectedPerson, PoseDetector, default_detector, find_people, landmarks_in_boxes
from kouros.detection.find import DEFAULT_CROPS
from kouros.detection.usable import MINIMUM_KEYPOINTS
from kouros.pipeline.cut_legs import with_standing_legs
from kouros.pipeline.distances import distance_spread
from kouros.pipeline.given import people_from_keypoints
from kouros.pipeline.heights import with_heights
from kouros.pipeline.misfit import note_misfits, with_reprojection
from kouros.pipeline.person import Person
from kouros.pipeline.straightening import straightened_boxes, straightened_people, straightened_photo
from kouros.systems.estimator import Estimator, PersonInPhoto, assumed_camera, in_photo_camera
from kouros.systems.lifter import LearnedStart
from kouros.systems.refined import DETECTED, Refined

CameraGiven = Calibration | Sequence[Any] | np.ndarray | str | Path
"""fx, fy, cx, cy or a 3 x 3 matrix, in pixels; a calibration, or a file with one."""

Heights = float | int | Sequence[float | int | None] | None
"""Of each person, metres; None or NaN where it is not known."""


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
        camera: CameraGiven | None = None,
        height: Heights = None,
        max_people: int | None = None,
        tiles: bool = True,
        fast: bool = False,
    ) -> list[Person]:
        """As `kouros.reconstruct`; ``detected`` are people whom somebody else found, in place of ``keypoints``."""
        photo = read_image(image)
        lens = lens_of(camera, photo.size, focal_length, photo.focal_length_px)
        seen = self.see(
            photo,
            keypoints=keypoints,
            keypoint_set=keypoint_set,
            detected=detected,
            boxes=boxes,
            camera=lens,
            max_people=max_people,
            tiles=tiles,
            fast=fast,
        )
        people = self._placed(seen, lens, height)
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
        camera: CameraGiven | None = None,
        height: Heights = None,
    ) -> list[Person]:
        """As `kouros.fit`."""
        lens = lens_of(camera, image_size, focal_length)  # a wrong size is to be named as such
        found = people_from_keypoints(keypoints_2d, keypoint_set, image_size)
        return self.fit_detected(found, image_size=image_size, camera=lens, height=height)

    def fit_detected(
        self,
        people: Sequence[DetectedPerson],
        *,
        image_size: tuple[int, int],
        focal_length: float | None = None,
        camera: CameraGiven | None = None,
        height: Heights = None,
    ) -> list[Person]:
        """The same of people whom somebody else found."""
        lens = lens_of(camera, image_size, focal_length)
        straight = straightened_people(people, lens)
        seen = [PersonInPhoto.found(person, None, image_size, lens.pinhole) for person in straight]
        found = self._placed(seen, lens, height)
        self._doubt(found)
        return found

    def _placed(self, seen: Sequence[PersonInPhoto], lens: Calibration, height: Heights) -> list[Person]:
        """People of the heights that are known, and how well that tells their distance."""
        people = [person for person in self.people(seen) if person is not None]
        placed = []
        for tall, person in zip(with_heights(people, height), people, strict=True):
            spread = distance_spread(lens.known_from, height_known=tall.height_known)
            placed.append(replace(tall if tall is person else with_reprojection(tall), distance_spread=spread))
        return placed

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
        camera: CameraGiven | None = None,
        max_people: int | None = None,
        tiles: bool = True,
        fast: bool = False,
    ) -> list[PersonInPhoto]:
        """The first half of `reconstruct`: who is in the photo, and where."""
        photo = read_image(image)
        width, height = photo.size
        crops = None if fast else DEFAULT_CROPS
        lens = lens_of(camera, (width, height), focal_length, photo.focal_length_px)
        photo = straightened_photo(photo, lens)
        if detected is not None:
            found = straightened_people(detected, lens)
        elif keypoints is not None:
            if keypoint_set is None:
                raise ValueError('keypoints need keypoint_set="...", the name of their set, such as "coco17".')
            found = straightened_people(people_from_keypoints(keypoints, keypoint_set, (width, height)), lens)
        elif boxes is not None:
            wanted = np.atleast_2d(np.asarray(boxes, dtype=np.float64))
            if wanted.ndim != 2 or wanted.shape[1] != 4:
                raise ValueError(f"boxes have shape {np.shape(boxes)}; expected (people, 4): x0, y0, x1, y1 in pixels.")
            straight = straightened_boxes(wanted, lens)
            found = landmarks_in_boxes(photo.pixels, straight, crops=crops, detector=self.detector)
        else:
            found = find_people(
                photo.pixels, max_people=max_people, tiles=tiles and not fast, crops=crops, detector=self.detector
            )
        return [PersonInPhoto.found(person, photo.pixels, (width, height), lens.pinhole) for person in found]

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
        people: list[Person | None] = []
        for answer, person in zip(answers, seen, strict=True):
            made = None if answer is None else Person.of(in_photo_camera(answer, person), person, self.body)
            if made is not None and isinstance(self.estimator, Refined):
                made = with_standing_legs(made)
            people.append(None if made is None else with_reprojection(made))
        return people


def lens_of(
    camera: CameraGiven | None,
    image_size: tuple[int, int],
    focal_length: float | None = None,
    known_focal_length: float | None = None,
) -> Calibration:
    """The camera that took a picture of that size.

    Args:
        camera: as people give it.
        focal_length: pixels, in its place: the axis then goes through the picture's middle.
        known_focal_length: what the picture says of itself; without all three, the diagonal is assumed.

    Raises:
        ValueError: it is no camera, both are given, or it is one of pictures of another shape.
    """
    if camera is not None and focal_length is not None:
        raise ValueError("camera and focal_length both say how long the lens is; give one of them.")
    assumed = assumed_camera(*image_size, known_focal_length if focal_length is None else focal_length)
    if camera is not None:
        return as_calibration(camera).of_size(*image_size)
    known_from: KnownFrom = "given" if focal_length is not None else "in the file" if known_focal_length else "assumed"
    focal, (x, y) = float(assumed.focal_length), assumed.principal_point.tolist()
    return Calibration((focal, focal), (x, y), (), (int(image_size[0]), int(image_size[1])), known_from)


def default_estimator(body: BodyModel) -> Refined:
    """What kouros does unless it is told otherwise: the learned start, fitted to the keypoints.

    Raises:
        UnknownSetError: the body cannot place the points that are fitted to.
    """
    body.keypoint_tables(OPENPOSE25.name)
    return Refined(LearnedStart(body), DETECTED, name="kouros default")


def default_body() -> BodyModel:
    """The free body, read once."""
    return shared_body()


@lru_cache(maxsize=4)
def default_reconstructor(body: BodyModel | None = None) -> Reconstructor:
    """The packaged detector and the default estimator, loaded once for each body (default: the free one)."""
    body = body or default_body()
    return Reconstructor(default_detector(), default_estimator(body), body)
