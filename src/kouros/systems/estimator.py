"""What every estimator of people is: shown people in photos, it answers with what it sees of each of them.

The default, trained systems, converted checkpoints, baselines and detectors of points answer alike, so that one road
makes people of all of them and one protocol judges them all. Networks that look at square crops get there by one
adapter, `CropEstimator`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kouros.batched import Batched
from kouros.body.keypoints import KeypointSet
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.crops import CropTransform, square_around
from kouros.detection.people import DetectedPerson
from kouros.fitting.schedules.mesh import fit_to_mesh
from kouros.geometry.cameras import (
    SPIN_CROP_SIZE,
    SPIN_FOCAL_LENGTH,
    PerspectiveCamera,
    check_focal_length,
    full_image_translation,
    weak_perspective_of,
)
from kouros.render.maps import DenseMaps

# --- What is shown ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class PersonInPhoto:
    """A person whose place in a photo is known."""

    image: UInt8[np.ndarray, "height width 3"] | None
    """The whole photo, RGB; None where only keypoints are known."""
    size: tuple[int, int]
    """Width and height of the photo, pixels."""
    crop_center: Float[np.ndarray, "2"]
    """Of the square around the person, pixels: the data set's own, or `square_around` the box."""
    crop_side: float
    box: Float[np.ndarray, "4"]
    """Tight around the person: x0, y0, x1, y1, pixels."""
    known_camera: PerspectiveCamera | None = None
    """Of the whole photo, where it is known."""
    detected: DetectedPerson | None = None
    """What a detector saw of the person."""

    @staticmethod
    def found(
        detected: DetectedPerson,
        image: UInt8[np.ndarray, "height width 3"] | None,
        size: tuple[int, int],
        known_camera: PerspectiveCamera | None = None,
    ) -> "PersonInPhoto":
        """A person whom a detector found."""
        box = np.asarray(detected.box, dtype=np.float64)
        center, side = square_around(box.reshape(2, 2))
        return PersonInPhoto(image, size, center, side, box, known_camera, detected)

    @property
    def camera(self) -> PerspectiveCamera:
        """Of the whole photo; where it is not known, `assumed_camera`."""
        return assumed_camera(*self.size) if self.known_camera is None else self.known_camera

    @property
    def keypoints(self) -> Float[Tensor, "points 3"]:
        """What was detected: pixels, and confidences that say how far to trust the position.

        Raises:
            ValueError: nothing was detected.
        """
        if self.detected is None:
            raise ValueError("this system starts from keypoints, and none were detected of this person.")
        return torch.from_numpy(self.detected.trusted_keypoints(*self.size).astype(np.float32))


def by_keypoint_set(people: Sequence[PersonInPhoto]) -> dict[str, list[int]]:
    """Who was detected by the points of which set, as places in ``people``; people of no detection are left out."""
    members: dict[str, list[int]] = {}
    for i, person in enumerate(people):
        if person.detected is not None:
            members.setdefault(person.detected.keypoint_set, []).append(i)
    return members


def assumed_camera(width: int, height: int, focal_length: float | None = None) -> PerspectiveCamera:
    """The camera of an image of which nothing more is known: its axis goes through the middle.

    An unknown focal length is taken as the image's diagonal: a lens of 43 mm on 35 mm film, a normal view. Phones are
    somewhat wider, portraits longer.

    Raises:
        ValueError: the focal length or the image's size is not positive.
    """
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise ValueError(f"the image's size must be a positive width and height in pixels, got {width} x {height}.")
    if focal_length is None:
        focal_length = math.hypot(width, height)
    check_focal_length(focal_length, "focal_length")
    return PerspectiveCamera(torch.tensor(float(focal_length)), torch.tensor([width / 2, height / 2]))


# --- What is answered ------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Estimate(Batched):
    """What is seen of people. Whatever an estimator does not give is None.

    A network that looks at crops answers for a batch, in the space of the nominal crop's camera
    (`kouros.geometry.cameras.nominal_crop_camera`) and in pixels of the crop; everybody else answers for one person,
    in the space of a camera that looks at the whole photo, and in its pixels.
    """

    bodies: Bodies | None = None
    """Parameters and camera. A crop network's camera is as narrow as its crop: it fits the picture, not the lens."""
    vertices: Float[Tensor, "*people verts 3"] | None = None
    """Of the body's mesh, metres, camera space: from systems whose meshes no parameters made."""
    joints: Float[Tensor, "*people 24 3"] | None = None
    """Of the skeleton, likewise."""
    camera: PerspectiveCamera | None = None
    """That vertices and joints are seen by; None: the bodies'."""
    points_3d: Float[Tensor, "*people points3d 3"] | None = None
    """Of the estimator's own set: camera axes, metres, relative to anything."""
    points_2d: Float[Tensor, "*people points2d 2"] | None = None
    """Of the estimator's own set: pixels."""
    visibility: Float[Tensor, "*people 24"] | None = None
    """In [0, 1], of each joint: that it is in the picture and nothing hides it."""
    uncertainty: Float[Tensor, "*people 24"] | None = None
    """Expected distance of each joint from the truth, relative to the pelvis, metres."""
    dense: DenseMaps | None = None
    """What each pixel of the square shows."""
    heatmaps: Float[Tensor, "*people points2d rows columns"] | None = None
    """Where in the square each of ``points_2d`` may be."""
    square: Float[Tensor, "*people 3"] | None = None
    """The square of ``dense`` and ``heatmaps``: centre x, y and side, pixels of the photo; None: the crop."""

    @property
    def seen_by(self) -> PerspectiveCamera | None:
        """The camera of bodies or meshes; None where there are neither."""
        return self.camera if self.bodies is None else self.bodies.camera


def parameters_of(estimate: Estimate, body: BodyModel) -> Bodies | None:
    """One person's parameters and camera; of a mesh without any, those by which the body model comes nearest to it.

    None: there is neither.
    """
    if estimate.bodies is not None:
        return estimate.bodies
    if estimate.vertices is None or estimate.joints is None or estimate.camera is None:
        return None
    return Bodies.of(fit_to_mesh(body, estimate.vertices[None], estimate.joints[None])[0], estimate.camera)


@runtime_checkable
class Estimator(Protocol):
    """People seen in photos in, estimates out."""

    @property
    def name(self) -> str:
        """As tables print it."""
        ...

    @property
    def body(self) -> BodyModel | None:
        """Which model its bodies and meshes are of; None: it gives neither."""
        ...

    @property
    def points_3d(self) -> KeypointSet | None:
        """The set of `Estimate.points_3d`; None: its body says where points are."""
        ...

    @property
    def points_2d(self) -> KeypointSet | None:
        """The same of `Estimate.points_2d`."""
        ...

    @property
    def needs_keypoints(self) -> bool:
        """Whether it can do nothing without `PersonInPhoto.detected`; else it can do nothing without the image."""
        ...

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """An answer for each, in order; None for a person of whom it can say nothing."""
        ...


@runtime_checkable
class SeveralAnswers(Protocol):
    """What an estimator is that also says what else people may be doing."""

    def others(self, people: Sequence[PersonInPhoto]) -> list[list[Estimate]]:
        """Of each person the same number of answers beside that of `Estimator.estimate`; none of whom it has none."""
        ...


# --- Networks that look at crops -------------------------------------------------------------------------------


@runtime_checkable
class CropNetwork(Protocol):
    """Square crops in, one estimate for all of them out."""

    @property
    def crop_size(self) -> int:
        """Side of the crops that it takes, pixels."""
        ...

    @property
    def points_3d(self) -> KeypointSet | None:
        """As in `Estimator`."""
        ...

    @property
    def points_2d(self) -> KeypointSet | None:
        """As in `Estimator`."""
        ...

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """Of the people in the middle of RGB crops in [0, 1], without gradients, in evaluation mode."""
        ...


class CropEstimator:
    """A crop network as an `Estimator`.

    Args:
        body: the model that its answers are of.
        name: as tables print it.
    """

    needs_keypoints = False

    def __init__(self, network: CropNetwork, body: BodyModel, name: str) -> None:
        self.network, self.name = network, name
        self.body: BodyModel | None = body
        self.points_3d, self.points_2d = network.points_3d, network.points_2d

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """All crops in one batch.

        Raises:
            ValueError: a person comes without the photo.
        """
        if not people:
            return []
        answer = self.network.predict(torch.stack([_crop(p, self.network.crop_size) for p in people])).to("cpu")
        return [in_photo(answer[i], person, self.network.crop_size) for i, person in enumerate(people)]


def _crop(person: PersonInPhoto, size: int) -> Float[Tensor, "3 size size"]:
    if person.image is None:
        raise ValueError("this system looks at pictures; keypoints alone tell it nothing. Give it the photo.")
    pixels = CropTransform(person.crop_center, person.crop_side, size).image(person.image)
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def crop_camera(person: PersonInPhoto) -> PerspectiveCamera:
    """The nominal crop's pinhole laid over a person's square, in pixels of the photo."""
    focal_length = SPIN_FOCAL_LENGTH * person.crop_side / SPIN_CROP_SIZE
    return PerspectiveCamera(torch.tensor(focal_length), torch.tensor(person.crop_center.tolist()))


def in_photo(row: Estimate, person: PersonInPhoto, crop_size: int) -> Estimate:
    """One answer of a network that looks at crops of so many pixels, laid over the photo."""
    narrow = crop_camera(person)
    center = narrow.principal_point
    points_2d = row.points_2d
    if points_2d is not None:
        points_2d = (points_2d - crop_size / 2) * (person.crop_side / crop_size) + center
    return replace(
        row,
        bodies=None if row.bodies is None else replace(row.bodies, camera=narrow),
        camera=narrow,
        points_2d=points_2d,
        square=torch.cat([center, torch.tensor([person.crop_side])]),
    )


def in_photo_camera(estimate: Estimate, person: PersonInPhoto) -> Estimate:
    """The same people where the photo's own camera sees them as large and in the same place.

    A crop network's camera is another for each person and far away; people of one photo stand in one space.
    """
    own, other = person.camera, estimate.seen_by
    if other is None or _same(own, other):
        return estimate
    bodies, joints = estimate.bodies, estimate.joints
    assert bodies is not None or joints is not None
    origin = bodies.transl if bodies is not None else joints[0]  # type: ignore[index]
    center, side = torch.tensor(person.crop_center.tolist()), torch.tensor(person.crop_side)
    moved = full_image_translation(weak_perspective_of(origin, other, center, side), own, center, side) - origin
    return replace(
        estimate,
        bodies=None if bodies is None else replace(bodies, transl=bodies.transl + moved, camera=own),
        vertices=None if estimate.vertices is None else estimate.vertices + moved,
        joints=None if joints is None else joints + moved,
        camera=own,
    )


def _same(one: PerspectiveCamera, other: PerspectiveCamera) -> bool:
    return torch.equal(one.focal_length, other.focal_length) and torch.equal(one.principal_point, other.principal_point)
