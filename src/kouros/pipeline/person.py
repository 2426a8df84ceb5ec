"""One person of one photo: what was estimated, the camera that sees it, and what follows from the two."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body import BodyModel
from kouros.body.model import BodyOutput
from kouros.body.parameters import Bodies
from kouros.fitting.schedules.mesh import fit_to_mesh
from kouros.geometry.cameras import PerspectiveCamera, WeakPerspectiveCamera, weak_perspective_of
from kouros.pipeline.visibility import by_confidence, inside
from kouros.render.maps import DenseMaps
from kouros.systems.estimator import Estimate, PersonInPhoto


@dataclass(frozen=True)
class Reprojection:
    """How far a body's points lie from the keypoints seen, by their confidences."""

    pixels: float
    """Mean distance."""
    share: float
    """The same, of the person's size in the picture (about the height of somebody standing)."""


@dataclass(frozen=True, eq=False)
class Person:
    """A posed and shaped body, float32 on the CPU; camera space is OpenCV's, metres.

    What is computed from the parameters (`vertices`, `joints`) is computed on first use and kept.
    """

    parameters: Bodies
    """Pose, shape, place, and the camera of the whole image that they were estimated in."""
    crop_box: Float[Tensor, "4"]
    """The square around the person: x0, y0, x1, y1, pixels of the whole image."""
    box: Float[Tensor, "4"]
    """Around the person as it was found: x0, y0, x1, y1, pixels."""
    score: float
    """In [0, 1]: that there is a person."""
    keypoints_detected: Float[Tensor, "keypoints 3"]
    """As detected: x, y in pixels, confidence."""
    keypoint_set: str
    """Of ``keypoints_detected``."""
    image_size: tuple[int, int]
    """Width and height, pixels."""
    body: BodyModel = field(repr=False)
    """The model that the parameters belong to."""
    estimate: Estimate = field(repr=False, default=Estimate())
    """What else the system said of the person: maps, heatmaps, visibility, uncertainty, a mesh of its own."""
    reprojection: Reprojection | None = None
    """How far the body is from ``keypoints_detected``; None: its model has no such points."""
    distance_spread: float | None = None
    """Standard deviation of the distance from the camera, as a share of it, by what is known of lens and height
    (`kouros.pipeline.distances`); None: nobody has said what is known."""

    @staticmethod
    def of(estimate: Estimate, seen: PersonInPhoto, body: BodyModel) -> "Person":
        """The person of whom that is the estimate. A mesh without parameters gets those that come nearest to it.

        Raises:
            ValueError: nothing was detected of the person, or the estimate has neither parameters nor a mesh.
        """
        parameters = estimate.bodies or _of_mesh(estimate, body)
        if seen.detected is None or parameters is None:
            raise ValueError("a person is made of a detection and an estimate with parameters or a mesh.")
        half = seen.crop_side / 2
        center = torch.tensor(seen.crop_center.tolist())
        return Person(
            parameters=parameters,
            crop_box=torch.cat([center - half, center + half]),
            box=torch.from_numpy(seen.box).float(),
            score=float(seen.detected.score),
            keypoints_detected=seen.keypoints,
            keypoint_set=seen.detected.keypoint_set,
            image_size=seen.size,
            body=body,
            estimate=estimate,
        )

    def moved(self, parameters: Bodies) -> "Person":
        """The same person with other parameters, which make the mesh."""
        estimate = replace(self.estimate, bodies=parameters, vertices=None, joints=None)
        return replace(self, parameters=parameters, estimate=estimate, reprojection=None)

    def explaining(self, reprojection: Reprojection | None) -> "Person":
        """The same person, with what is known of how well the keypoints are explained."""
        return replace(self, reprojection=reprojection)

    @property
    def reprojection_error(self) -> float | None:
        """Mean distance of the body's points from the keypoints, pixels."""
        return None if self.reprojection is None else self.reprojection.pixels

    @property
    def betas(self) -> Float[Tensor, " betas"]:
        """Coefficients of the body's shape, each of unit variance over adults."""
        return self.parameters.betas

    @property
    def global_orient(self) -> Float[Tensor, "3"]:
        """Rotation vector from body space to camera space."""
        return self.parameters.global_orient

    @property
    def body_pose(self) -> Float[Tensor, "69"]:
        """Rotation vectors of joints 1 to 23, each relative to its parent."""
        return self.parameters.body_pose

    @property
    def transl(self) -> Float[Tensor, "3"]:
        """Added after the pose: as in smplx the body turns about its pelvis, which stays where it rests."""
        return self.parameters.transl

    @property
    def camera(self) -> PerspectiveCamera:
        """Of the whole image, pixels."""
        return self.parameters.camera

    @property
    def weak_camera(self) -> WeakPerspectiveCamera:
        """Of the square crop ``crop_box``."""
        center = (self.crop_box[:2] + self.crop_box[2:]) / 2
        return weak_perspective_of(self.transl, self.camera, center, self.crop_box[2] - self.crop_box[0])

    @cached_property
    def visibility(self) -> Float[Tensor, " 24"]:
        """In [0, 1], of each joint: that it is in the picture and nothing hides it. What is not seen was completed.

        Of systems that do not say it, by the confidences of ``keypoints_detected``.
        """
        said = self.estimate.visibility
        if said is None:
            said = by_confidence(self.keypoints_detected, self.keypoint_set)
        return said * inside(self.camera.project(self.joints), self.image_size)

    @property
    def vertices_seen(self) -> Float[Tensor, " vertices"]:
        """The same of each vertex: by the joints that it follows."""
        return self.body.weights @ self.visibility

    @property
    def uncertainty(self) -> Float[Tensor, " 24"] | None:
        """Expected distance of each joint from the truth, relative to the pelvis, metres; None: likewise."""
        return self.estimate.uncertainty

    @property
    def dense(self) -> DenseMaps | None:
        """What each pixel of ``estimate.square`` shows of the person, by systems that draw such maps."""
        return self.estimate.dense

    @cached_property
    def posed(self) -> BodyOutput:
        """The system's own mesh and skeleton where it gives them, else the body model's; a batch of one."""
        own = self.estimate
        if own.vertices is not None and own.joints is not None:
            return BodyOutput(own.vertices[None], own.joints[None])
        return self.parameters.map(lambda t: t[None]).posed_by(self.body)

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


def _of_mesh(estimate: Estimate, body: BodyModel) -> Bodies | None:
    if estimate.vertices is None or estimate.joints is None or estimate.camera is None:
        return None
    return Bodies.of(fit_to_mesh(body, estimate.vertices[None], estimate.joints[None])[0], estimate.camera)
