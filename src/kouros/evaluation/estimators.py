"""What is judged: anything that, shown a person in a photo, answers with a body, with points, or with nothing.

Crop networks, whole pipelines and plain keypoint detectors answer alike, so that one protocol judges them all.
Here are the baselines and the adapter for `kouros.systems.system.Estimator`; the pipeline's, which lies above this
folder, is in the command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kouros.body.keypoints import BLAZEPOSE33, KeypointSet
from kouros.body.model import BodyModel, BodyOutput
from kouros.detection import PoseDetector, landmarks_in_boxes
from kouros.detection.people import DetectedPerson
from kouros.geometry.cameras import (
    SPIN_CROP_SIZE,
    SPIN_FOCAL_LENGTH,
    PerspectiveCamera,
    WeakPerspectiveCamera,
    perspective_translation,
)
from kouros.geometry.rotations import rot6d_to_rotmat
from kouros.networks.estimates import MeanParameters
from kouros.systems.system import Estimator

BOX_FACTOR = 1.2
"""Side of the data sets' square boxes over the longer side of the person, as SPIN's preprocessing has it."""


@dataclass(frozen=True, eq=False)
class PersonInPhoto:
    """What an estimator is shown."""

    image: UInt8[np.ndarray, "height width 3"]
    """The whole photo, RGB."""
    crop_center: Float[np.ndarray, "2"]
    """Of the data set's square around the person, pixels."""
    crop_side: float
    box: Float[np.ndarray, "4"]
    """Tight around the person, x0, y0, x1, y1, pixels: the data set's own, or the square less its margin."""
    intrinsics: Float[np.ndarray, "4"] | None = None
    """fx, fy, cx, cy, pixels, where the data set knows them."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the photo, pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True)
class EstimatedBody:
    """One body in a camera that looks at the whole photo."""

    global_orient: Float[Tensor, "3 3"]
    body_pose: Float[Tensor, "23 3 3"]
    betas: Float[Tensor, " betas"]
    transl: Float[Tensor, "3"]
    camera: PerspectiveCamera
    """Not batched. A crop network's is as narrow as its crop's: it fits the picture, not the lens."""


@dataclass(frozen=True)
class Estimate:
    """An answer: a body, points, or both. Points are in the sets that the estimator names."""

    body: EstimatedBody | None = None
    points_3d: Float[Tensor, "points3d 3"] | None = None
    """Camera axes, metres, relative to anything."""
    points_2d: Float[Tensor, "points2d 2"] | None = None
    """Pixels of the photo."""


@runtime_checkable
class PersonEstimator(Protocol):
    """What protocols judge."""

    @property
    def name(self) -> str:
        """As tables print it."""
        ...

    @property
    def body(self) -> BodyModel | None:
        """Which model its bodies are of; None: it gives points only."""
        ...

    @property
    def points_3d(self) -> KeypointSet | None:
        """The set of `Estimate.points_3d`; None: its body says where points are."""
        ...

    @property
    def points_2d(self) -> KeypointSet | None:
        """The same of `Estimate.points_2d`."""
        ...

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """An answer for each, in order; None for a person whom it did not find."""
        ...


def posed(bodies: Sequence[EstimatedBody], body: BodyModel) -> BodyOutput:
    """Meshes and joints in the photos' cameras."""
    with torch.no_grad():
        return body(**parameters(bodies), pose2rot=False)


def parameters(bodies: Sequence[EstimatedBody]) -> dict[str, Tensor]:
    """The parameters of several bodies as a body model takes them, rotations being matrices."""
    names = ("betas", "body_pose", "global_orient", "transl")
    return {name: torch.stack([getattr(b, name) for b in bodies]) for name in names}


def cameras(bodies: Sequence[EstimatedBody]) -> PerspectiveCamera:
    """Their cameras as a batch."""
    return PerspectiveCamera(
        torch.stack([b.camera.focal_length for b in bodies]), torch.stack([b.camera.principal_point for b in bodies])
    )


class MeanPose:
    """The mean body in the middle of the box, facing the camera: what every method must beat.

    It also stands in for people whom an estimator did not find.
    """

    name = "mean pose"
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, body: BodyModel) -> None:
        self.body: BodyModel | None = body
        mean = MeanParameters.packaged()
        rotations = rot6d_to_rotmat(mean.pose.unflatten(0, (24, 6))).to(body.v_template)
        self._rotations = rotations
        self._betas = body.v_template.new_zeros(body.num_betas)
        self._camera = WeakPerspectiveCamera(mean.camera[0], mean.camera[1:])

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """The same body for each, at HMR's mean camera over the box."""
        return [
            Estimate(in_photo(self._rotations[0], self._rotations[1:], self._betas, self._camera, person))
            for person in people
        ]


class CropNetwork:
    """A network that takes square crops (`kouros.systems.system.Estimator`), shown the data set's squares.

    Args:
        body: the model that its parameters belong to.
    """

    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, network: Estimator, body: BodyModel, name: str) -> None:
        self.network, self.name = network, name
        self.body: BodyModel | None = body

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """All crops in one batch."""
        if not people:
            return []
        crops = np.stack([crop(p, self.network.crop_size) for p in people])
        images = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        bodies = self.network.predict(images)
        return [
            Estimate(
                in_photo(
                    bodies.global_orient[i].cpu(),
                    bodies.body_pose[i].cpu(),
                    bodies.betas[i].cpu(),
                    WeakPerspectiveCamera(bodies.camera.scale[i].cpu(), bodies.camera.translation[i].cpu()),
                    person,
                )
            )
            for i, person in enumerate(people)
        ]


def crop(person: PersonInPhoto, size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The square around a person, black beyond the photo, without augmentation."""
    scale = size / person.crop_side
    # Pixel centres lie at halves here, at whole numbers in OpenCV.
    offset = size / 2 - scale * person.crop_center
    matrix = np.c_[np.eye(2) * scale, offset + 0.5 * scale - 0.5]
    return np.asarray(cv2.warpAffine(person.image, matrix, (size, size), flags=cv2.INTER_LINEAR), dtype=np.uint8)


def in_photo(
    global_orient: Float[Tensor, "3 3"],
    body_pose: Float[Tensor, "23 3 3"],
    betas: Float[Tensor, " betas"],
    camera: WeakPerspectiveCamera,
    person: PersonInPhoto,
) -> EstimatedBody:
    """A body on a crop, with SPIN's narrow pinhole (focal length 5000 on 224 pixels) laid over the photo."""
    unit = person.crop_side / SPIN_CROP_SIZE
    pinhole = PerspectiveCamera(
        focal_length=torch.tensor(SPIN_FOCAL_LENGTH * unit, dtype=betas.dtype),
        principal_point=torch.tensor(person.crop_center.tolist(), dtype=betas.dtype),
    )
    return EstimatedBody(global_orient, body_pose, betas, perspective_translation(camera).to(betas), pinhole)


class BlazePose:
    """The packaged detector alone: its own 3D landmarks and keypoints, no body.

    Args:
        detector: default: the packaged models.
    """

    name = "BlazePose (packaged detector)"
    body: BodyModel | None = None
    points_3d: KeypointSet | None = BLAZEPOSE33
    points_2d: KeypointSet | None = BLAZEPOSE33

    def __init__(self, detector: PoseDetector | None = None) -> None:
        self._detector = detector

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """Its landmarks of the person in each box."""
        return [_of_landmarks(landmarks_in_boxes(p.image, p.box[None], detector=self._detector)[0]) for p in people]


def _of_landmarks(found: DetectedPerson) -> Estimate | None:
    if found.landmarks_3d is None:
        return None
    return Estimate(
        points_3d=torch.from_numpy(np.asarray(found.landmarks_3d, dtype=np.float32)),
        points_2d=torch.from_numpy(np.asarray(found.keypoints_2d[:, :2], dtype=np.float32)),
    )


class MediaPipe:
    """Google's MediaPipe Pose as its package runs it (full model, one picture at a time), on each person's box.

    Raises:
        ImportError: mediapipe is not installed.
    """

    name = "MediaPipe Pose"
    _WIDER = (1.0, 1.5, 2.0)
    body: BodyModel | None = None
    points_3d: KeypointSet | None = BLAZEPOSE33
    points_2d: KeypointSet | None = BLAZEPOSE33

    def __init__(self) -> None:
        try:
            import mediapipe
        except ImportError:
            # Later versions come without models.
            raise ImportError("The baseline `mediapipe` needs MediaPipe: pip install mediapipe==0.10.21.") from None
        self._mediapipe = mediapipe

    @cached_property
    def _pose(self) -> Any:
        return self._mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1)

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """Its landmarks of the most prominent person around each box; None where it sees nobody in the box.

        Its detector wants to see something around people, so that wider squares are tried where the data set's shows
        it nobody.
        """
        return [self._look(person) for person in people]

    def _look(self, person: PersonInPhoto) -> Estimate | None:
        looks = (self._look_at(person, factor * person.crop_side / 2) for factor in self._WIDER)
        return next((look for look in looks if look is not None), None)

    def _look_at(self, person: PersonInPhoto, half: float) -> Estimate | None:
        corner = np.floor(np.maximum(person.crop_center - half, 0)).astype(int)
        end = np.ceil(np.minimum(person.crop_center + half, person.size)).astype(int)
        if not (end > corner).all():
            return None
        piece = np.ascontiguousarray(person.image[corner[1] : end[1], corner[0] : end[0]])
        found = self._pose.process(piece)
        if found.pose_landmarks is None:
            return None
        flat = np.array([(p.x, p.y) for p in found.pose_landmarks.landmark], dtype=np.float32)
        world = np.array([(p.x, p.y, p.z) for p in found.pose_world_landmarks.landmark], dtype=np.float32)
        pixels = (flat * (end - corner) + corner).astype(np.float32)
        middle = pixels[
            [BLAZEPOSE33.index(f"{side}_{part}") for side in ("left", "right") for part in ("hip", "shoulder")]
        ]
        x, y = middle.mean(axis=0).tolist()
        if not (person.box[0] <= x <= person.box[2] and person.box[1] <= y <= person.box[3]):
            return None
        return Estimate(points_3d=torch.from_numpy(world), points_2d=torch.from_numpy(pixels))
