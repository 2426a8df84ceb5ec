"""From detected keypoints to bodies: the evidence of several people, fitted together, as `Person` values."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body import BodyModel, load_body
from kouros.body.keypoints import BLAZEPOSE33, OPENPOSE25
from kouros.detection import DetectedPerson
from kouros.fitting.parameters import BodyParameters
from kouros.fitting.schedules.keypoint_fit import Evidence, FitConfig, KeypointFitter
from kouros.geometry.cameras import PerspectiveCamera, WeakPerspectiveCamera, weak_perspective_of
from kouros.geometry.rotations import rotmat_to_rotvec
from kouros.pipeline.person import Person
from kouros.priors.gmm import load_gmm
from kouros.systems.lifter import LiftedBodies, Lifter, load_weights, predict

MINIMUM_KEYPOINTS = 4
"""A body cannot be placed by fewer."""
OUTSIDE_TRUST = 0.3
"""Share of its confidence that a keypoint outside the picture keeps: detectors guess those."""
BOX_MARGIN = 1.2
"""Side of a person's square crop over the longer side of its box."""


DETECTED = FitConfig(keypoint_sigma=0.016, keypoint_outlier=3.0, landmark_sigma=(0.03, 0.03, 0.03))
"""Trust in a detector's keypoints and in what the learned start makes of them, measured on renders: see
docs/results/learned_start.md."""


@dataclass(frozen=True)
class ImageCamera:
    """The camera of a whole image."""

    focal_length: float
    """Pixels."""
    width: int
    height: int

    @staticmethod
    def of(width: int, height: int, focal_length: float | None) -> "ImageCamera":
        """The camera of an image; an unknown focal length is taken as the image's diagonal.

        That is a lens of 43 mm on 35 mm film, a normal view: phones are somewhat wider, portraits longer.

        Raises:
            ValueError: the focal length or the image's size is not positive.
        """
        if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
            raise ValueError(f"the image's size must be a positive width and height in pixels, got {width} x {height}.")
        if focal_length is None:
            return ImageCamera(math.hypot(width, height), width, height)
        if not (math.isfinite(focal_length) and focal_length > 0):
            raise ValueError(f"focal_length must be a positive number of pixels, got {focal_length}.")
        return ImageCamera(float(focal_length), width, height)

    def batch(self, count: int) -> PerspectiveCamera:
        """The pinhole, once per person; the principal point is the image's centre."""
        return PerspectiveCamera(
            focal_length=torch.full((count,), self.focal_length),
            principal_point=torch.tensor([self.width / 2, self.height / 2]).expand(count, 2),
        )


@lru_cache(maxsize=1)
def default_body() -> BodyModel:
    """The free body, read once."""
    return load_body()


@lru_cache(maxsize=1)
def learned_start() -> Lifter:
    """The packaged network, read once."""
    return load_weights()


def estimate(found: list[DetectedPerson], camera: ImageCamera, body: BodyModel | None = None) -> list[Person]:
    """Bodies of the people found in one image, in the same order.

    Raises:
        ValueError: a person has fewer than `MINIMUM_KEYPOINTS` keypoints, or the body model lacks the set.
    """
    if not found:
        return []
    body = body or default_body()
    people: dict[int, Person] = {}
    for set_name in sorted({p.keypoint_set for p in found}):
        members = [i for i, p in enumerate(found) if p.keypoint_set == set_name]
        people |= zip(members, _estimate_set([found[i] for i in members], set_name, camera, body), strict=True)
    return [people[i] for i in range(len(found))]


def _estimate_set(found: list[DetectedPerson], set_name: str, camera: ImageCamera, body: BodyModel) -> list[Person]:
    keypoints = torch.stack([trusted_keypoints(p, camera) for p in found])
    seen = (keypoints[..., 2] > 0).sum(-1)
    if bool((seen < MINIMUM_KEYPOINTS).any()):
        which = int(torch.nonzero(seen < MINIMUM_KEYPOINTS)[0])
        raise ValueError(
            f"person {which} has {int(seen[which])} visible keypoints; at least {MINIMUM_KEYPOINTS} are needed "
            "to place a body."
        )
    cameras = camera.batch(len(found))
    landmarks = [p.landmarks_3d for p in found if p.landmarks_3d is not None]
    lifted = predict(
        learned_start(),
        body,
        keypoints,
        set_name,
        cameras,
        torch.from_numpy(np.stack(landmarks)).float() if len(landmarks) == len(found) else None,
    )
    fitted_set, evidence_keypoints = on_keypoints_of(keypoints, set_name, body)
    fitter = fitter_for(body, fitted_set)
    start = _as_parameters(lifted, body)
    # The network has weighed the detector's landmarks; what it makes of them is the better evidence of depth.
    evidence = Evidence(evidence_keypoints, fitted_set, cameras, fitter.kinematics.points(start))
    fitted = fitter.fit(evidence, start)
    boxes = torch.from_numpy(np.stack([p.box for p in found])).float()
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    side = BOX_MARGIN * (boxes[:, 2:] - boxes[:, :2]).amax(-1)
    weak = weak_perspective_of(fitted.parameters.transl, cameras, centre, side)
    crops = torch.cat([centre - side[:, None] / 2, centre + side[:, None] / 2], dim=-1)
    return [
        Person(
            betas=fitted.parameters.betas[i],
            global_orient=fitted.parameters.pose[i, :3],
            body_pose=fitted.parameters.pose[i, 3:],
            transl=fitted.parameters.transl[i],
            camera=PerspectiveCamera(cameras.focal_length[i], cameras.principal_point[i]),
            weak_camera=WeakPerspectiveCamera(weak.scale[i], weak.translation[i]),
            crop_box=crops[i],
            box=boxes[i],
            score=float(person.score),
            keypoints_detected=keypoints[i],
            keypoint_set=set_name,
            image_size=(camera.width, camera.height),
            body=body,
        )
        for i, person in enumerate(found)
    ]


def _as_parameters(lifted: LiftedBodies, body: BodyModel) -> BodyParameters:
    """The network's best answer, as unknowns of a fit of this body.

    The network's betas are the free body's; another body starts at its mean shape.
    """
    rotations = torch.cat([lifted.global_orient[:, :1], lifted.body_pose[:, 0]], dim=1)
    betas = lifted.betas[:, 0]
    if body is not default_body():
        betas = betas.new_zeros(len(betas), body.num_betas)
    return BodyParameters(rotmat_to_rotvec(rotations).flatten(1), betas, lifted.transl[:, 0])


def on_keypoints_of(
    keypoints: Float[Tensor, "people points 3"], set_name: str, body: BodyModel
) -> tuple[str, Float[Tensor, "people fitted 3"]]:
    """The keypoints in a set that the body has: SMPL files know no BlazePose, so its points go by name."""
    if set_name in body.keypoint_sets or set_name != BLAZEPOSE33.name:
        return set_name, keypoints
    moved = keypoints.new_zeros(len(keypoints), len(OPENPOSE25), 3)
    for place, name in enumerate(OPENPOSE25.names):
        same = name.replace("big_toe", "foot_index")
        if same in BLAZEPOSE33.names:
            moved[:, place] = keypoints[:, BLAZEPOSE33.index(same)]
    return OPENPOSE25.name, moved


def trusted_keypoints(person: DetectedPerson, camera: ImageCamera) -> Float[Tensor, "points 3"]:
    """Keypoints whose confidence says how far to trust the position."""
    keypoints = torch.from_numpy(np.asarray(person.keypoints_2d, dtype=np.float32)).clone()
    inside = (keypoints[:, 0] >= 0) & (keypoints[:, 0] <= camera.width)
    inside &= (keypoints[:, 1] >= 0) & (keypoints[:, 1] <= camera.height)
    keypoints[:, 2] *= torch.where(inside, 1.0, OUTSIDE_TRUST)
    return keypoints


@lru_cache(maxsize=8)
def fitter_for(body: BodyModel, set_name: str) -> KeypointFitter:
    """The fit of a body to a keypoint set with the packaged prior, prepared once."""
    return KeypointFitter(body=body, set_name=set_name, prior=load_gmm(), config=DETECTED)
