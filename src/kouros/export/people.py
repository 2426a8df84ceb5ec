"""What a person must offer to be exported, and in which space files have people."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.body import BodyModel
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.person import Reprojection
from kouros.pipeline.upright import World, world_of
from kouros.pipeline.visibility import SEEN
from kouros.render.shading import PERSON_COLOURS, Colour

Space = Literal["world", "camera"]
"""Of 3D files: an upright world with its floor at height 0, or the photo's camera at the origin, looking along -z."""


def world_in(space: Space, people: Sequence["PosedPerson"]) -> World:
    """Where files have people.

    Raises:
        ValueError: there is nobody.
    """
    require_people(people)
    return world_of(people) if space == "world" else World.of_camera(len(people))


@runtime_checkable
class PosedPerson(Protocol):
    """A posed body in a photo's camera; `kouros.Person` is one. Camera space is OpenCV's, metres."""

    @property
    def betas(self) -> Float[Tensor, " betas"]:
        """Coefficients of the body's shape."""

    @property
    def global_orient(self) -> Float[Tensor, "3"]:
        """Rotation vector from body space to camera space."""

    @property
    def body_pose(self) -> Float[Tensor, "69"]:
        """Rotation vectors of joints 1 to 23."""

    @property
    def transl(self) -> Float[Tensor, "3"]:
        """Added after the pose."""

    @property
    def camera(self) -> PerspectiveCamera:
        """Of the whole image."""

    @property
    def box(self) -> Float[Tensor, "4"]:
        """x0, y0, x1, y1, pixels."""

    @property
    def score(self) -> float:
        """In [0, 1]."""

    @property
    def keypoints_detected(self) -> Float[Tensor, "keypoints 3"]:
        """x, y in pixels, confidence."""

    @property
    def keypoint_set(self) -> str:
        """Of ``keypoints_detected``."""

    @property
    def height_known(self) -> bool:
        """Whether somebody has said how tall the person is."""

    @property
    def distance_spread(self) -> float | None:
        """Standard deviation of the distance from the camera, as a share of it; None: unknown."""

    @property
    def reprojection(self) -> Reprojection | None:
        """How far the body is from ``keypoints_detected``; None: not known."""

    @property
    def visibility(self) -> Float[Tensor, " 24"]:
        """In [0, 1], of each joint: that it is seen; what is not was completed."""

    @property
    def vertices_seen(self) -> Float[Tensor, " vertices"]:
        """The same of each vertex."""

    @property
    def uncertainty(self) -> Float[Tensor, " 24"] | None:
        """Expected distance of each joint from the truth, metres; None: the system does not say."""

    @property
    def crop_box(self) -> Float[Tensor, "4"]:
        """The square around the person: x0, y0, x1, y1, pixels."""

    def to_dict(self) -> dict[str, Any]:
        """All numbers by name, as `kouros.Person.to_dict` has them."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height, pixels."""

    @property
    def body(self) -> BodyModel:
        """The model that the parameters belong to."""

    @property
    def vertices(self) -> Float[Tensor, "vertices 3"]:
        """Camera space."""

    @property
    def joints(self) -> Float[Tensor, "24 3"]:
        """Camera space."""


def colour_of(person: int) -> Colour:
    """sRGB colour, [0, 1], of the person of that number: the same in pictures and in PLY."""
    return PERSON_COLOURS[person % len(PERSON_COLOURS)]


def require_people(people: Sequence[PosedPerson]) -> None:
    """Raises ValueError where there is nobody to export."""
    if not people:
        raise ValueError("There is no person to export; expected at least one.")


def faces_shown(person: PosedPerson, only_seen: bool) -> Bool[np.ndarray, " faces"]:
    """Which of the body's faces a mesh is to have: all, or those that the photo shows.

    A mesh without faces is none: whoever is not seen at all has all of them.
    """
    faces = person.body.faces.numpy(force=True)
    seen = person.vertices_seen.numpy(force=True)[faces].min(axis=1) >= SEEN
    return seen if only_seen and seen.any() else np.ones(len(faces), dtype=bool)
