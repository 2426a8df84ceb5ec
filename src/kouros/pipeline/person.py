"""One person of one photo: the body's parameters, the camera that sees it, and what follows from the two."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body import BodyModel
from kouros.body.model import BodyOutput
from kouros.geometry.cameras import PerspectiveCamera, WeakPerspectiveCamera


@dataclass(frozen=True, eq=False)
class Person:
    """A posed and shaped body, float32 on the CPU; camera space is OpenCV's, metres.

    What is computed from the parameters (`vertices`, `joints`) is computed on first use and kept.
    """

    betas: Float[Tensor, " betas"]
    """Coefficients of the body's shape, each of unit variance over adults."""
    global_orient: Float[Tensor, "3"]
    """Rotation vector from body space to camera space."""
    body_pose: Float[Tensor, "69"]
    """Rotation vectors of joints 1 to 23, each relative to its parent."""
    transl: Float[Tensor, "3"]
    """Added after the pose: as in smplx the body turns about its pelvis, which stays where it rests."""
    camera: PerspectiveCamera
    """Of the whole image, pixels."""
    weak_camera: WeakPerspectiveCamera
    """Of the square crop ``crop_box``."""
    crop_box: Float[Tensor, "4"]
    """x0, y0, x1, y1, pixels of the whole image."""
    box: Float[Tensor, "4"]
    """Around the person as it was found: x0, y0, x1, y1, pixels."""
    score: float
    """In [0, 1]: that there is a person."""
    keypoints_detected: Float[Tensor, "keypoints 3"]
    """What the body was fitted to: x, y in pixels, confidence."""
    keypoint_set: str
    """Of ``keypoints_detected``."""
    image_size: tuple[int, int]
    """Width and height, pixels."""
    body: BodyModel = field(repr=False)
    """The model that the parameters belong to."""

    @cached_property
    def posed(self) -> BodyOutput:
        """The body model's output for this person alone (a batch of one)."""
        with torch.no_grad():
            return self.body(
                betas=self.betas[None],
                body_pose=self.body_pose[None],
                global_orient=self.global_orient[None],
                transl=self.transl[None],
            )

    @property
    def vertices(self) -> Float[Tensor, "vertices 3"]:
        """Of the mesh ``body.faces``, camera space."""
        return self.posed.vertices[0]

    @property
    def joints(self) -> Float[Tensor, "24 3"]:
        """Of the skeleton (`kouros.body.skeleton.JOINT_NAMES`), camera space."""
        return self.posed.joints[0]

    def keypoints_3d(self, keypoint_set: str) -> Float[Tensor, "keypoints 3"]:
        """Points of a set in `kouros.body.keypoints`, camera space.

        Raises:
            KeyError: there is no such set, or the body has no regressor for it.
        """
        return self.body.keypoints_3d(self.posed, keypoint_set)[0]

    def keypoints_2d(self, keypoint_set: str) -> Float[Tensor, "keypoints 2"]:
        """The same points in the photo, pixels.

        Raises:
            KeyError: there is no such set, or the body has no regressor for it.
        """
        return self.camera.project(self.keypoints_3d(keypoint_set))
