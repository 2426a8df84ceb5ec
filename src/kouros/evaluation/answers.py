"""What protocols read off estimates: meshes, keypoints and cameras, whichever way an estimator gives them.

Meshes and joints that an estimate brings itself count before those that its parameters make.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.batched import stack
from kouros.body.model import BodyModel, BodyOutput
from kouros.body.parameters import Bodies
from kouros.geometry.cameras import PerspectiveCamera
from kouros.systems.estimator import Estimate


def bodies_of(estimates: Sequence[Estimate]) -> Bodies:
    """The parameters of single estimates as a batch; all must have them."""
    bodies = [e.bodies for e in estimates if e.bodies is not None]
    assert len(bodies) == len(estimates)
    return stack(bodies)


def has_mesh(estimate: Estimate) -> bool:
    """Whether there is a mesh, by itself or by parameters."""
    return estimate.bodies is not None or (estimate.vertices is not None and estimate.joints is not None)


def meshes_of(estimates: Sequence[Estimate], body: BodyModel) -> BodyOutput:
    """Meshes and skeletons in the space of the estimates' cameras; all estimates must have a mesh."""
    made = [i for i, e in enumerate(estimates) if e.vertices is None or e.joints is None]
    posed = bodies_of([estimates[i] for i in made]).posed_by(body) if made else None
    vertices, joints = [e.vertices for e in estimates], [e.joints for e in estimates]
    for k, i in enumerate(made):
        assert posed is not None
        vertices[i], joints[i] = posed.vertices[k], posed.joints[k]
    return BodyOutput(
        torch.stack([v for v in vertices if v is not None]), torch.stack([j for j in joints if j is not None])
    )


def keypoints_of(estimates: Sequence[Estimate], body: BodyModel, keypoint_set: str) -> Float[Tensor, "people points 3"]:
    """Points of a set in the space of the estimates' cameras; all estimates must have a mesh."""
    if all(e.vertices is None for e in estimates):
        return bodies_of(estimates).keypoints_by(body, keypoint_set)
    return body.keypoints_3d(meshes_of(estimates, body), keypoint_set)


def cameras_of(estimates: Sequence[Estimate]) -> PerspectiveCamera:
    """The cameras that see the meshes, as a batch."""
    cameras = [e.seen_by for e in estimates if e.seen_by is not None]
    assert len(cameras) == len(estimates)
    return stack(cameras)


def through_window(camera: PerspectiveCamera, corner: Tensor, scale: Tensor | float = 1.0) -> PerspectiveCamera:
    """Cameras that see only a part of their pictures, whose first pixel's corner is ``corner``, ``scale`` times as
    large."""
    scale = torch.as_tensor(scale, dtype=camera.focal_length.dtype)
    return replace(
        camera,
        focal_length=camera.focal_length * scale,
        principal_point=(camera.principal_point - corner) * scale[..., None],
    )
