"""What systems are compared with: the mean pose, and detectors that give points and no bodies."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kouros.body.keypoints import BLAZEPOSE33, KeypointSet
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.detection.people import DetectedPerson
from kouros.geometry.cameras import WeakPerspectiveCamera, perspective_translation
from kouros.geometry.rotations import rot6d_to_rotmat, rotmat_to_rotvec
from kouros.networks.estimates import MeanParameters
from kouros.systems.estimator import Estimate, PersonInPhoto, crop_camera


class MeanPose:
    """The mean body in the middle of the box, facing the camera: what every method must beat.

    It also stands in for people whom an estimator did not find.
    """

    name = "mean pose"
    needs_keypoints = False
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, body: BodyModel) -> None:
        self.body: BodyModel | None = body
        mean = MeanParameters.packaged()
        rotations = rot6d_to_rotmat(mean.pose.unflatten(0, (24, 6))).to(body.v_template)
        self._pose = rotmat_to_rotvec(rotations).flatten()
        self._betas = body.v_template.new_zeros(body.num_betas)
        self._transl = perspective_translation(WeakPerspectiveCamera(mean.camera[0], mean.camera[1:]))

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """The same body for each, at HMR's mean camera over the box."""
        return [
            Estimate(bodies=Bodies(self._pose, self._betas, self._transl, crop_camera(person))) for person in people
        ]


class BlazePose:
    """The packaged detector alone: its own 3D landmarks and keypoints, no body."""

    name = "BlazePose (packaged detector)"
    needs_keypoints = True
    body: BodyModel | None = None
    points_3d: KeypointSet | None = BLAZEPOSE33
    points_2d: KeypointSet | None = BLAZEPOSE33

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """What was detected of each."""
        return [None if p.detected is None else _of_landmarks(p.detected) for p in people]


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
    needs_keypoints = False
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
        assert person.image is not None
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
