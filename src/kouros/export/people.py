"""What a person must offer to be exported, and the axes that 3D files use."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

from kouros.body import BodyModel
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.person import Reprojection
from kouros.render.shading import PERSON_COLOURS, Colour


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
    def distance_spread(self) -> float | None:
        """Standard deviation of the distance from the camera, as a share of it; None: unknown."""

    @property
    def reprojection(self) -> Reprojection | None:
        """How far the body is from ``keypoints_detected``; None: not known."""

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


CAMERA_TO_FILE = np.diag([1.0, -1.0, -1.0])
"""From camera space (y down, z forward) to the axes of our 3D files, which are glTF's: x right, y up, z
backward, so that the photo's camera sits at the origin and looks along -z. A half turn about x: handedness
stays."""


def colour_of(person: int) -> Colour:
    """sRGB colour, [0, 1], of the person of that number: the same in meshes and pictures."""
    return PERSON_COLOURS[person % len(PERSON_COLOURS)]


def require_people(people: Sequence[PosedPerson]) -> None:
    """Raises ValueError where there is nobody to export."""
    if not people:
        raise ValueError("There is no person to export; expected at least one.")
