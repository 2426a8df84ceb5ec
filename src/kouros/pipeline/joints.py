"""Bodies from 3D joints of other systems and of motion capture, some of which may be missing: no photo, no camera."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.archives import ArchiveError, npz_names, read_all_npz
from kouros.body import BodyModel
from kouros.body.keypoints import KEYPOINT_SETS
from kouros.body.parameters import Bodies, BodyParameters
from kouros.fitting.schedules.joints_fit import fit_to_joints
from kouros.geometry.cameras import PerspectiveCamera
from kouros.notes import note
from kouros.pipeline.misfit import with_reprojection
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import default_body
from kouros.systems.table import SYSTEMS
from kouros.training.runs import load_run

if TYPE_CHECKING:
    from kouros.systems.best_of_both_worlds import JointsToBodies

JOINTS = "joints_3d"
"""The array of an NPZ file of joints."""
_USUAL = {14: "lsp14", 24: "smpl24", 25: "openpose25", 33: "blazepose33", 49: "spin49"}
"""Sets that a number of joints tells."""
_PICTURE = 1000
"""Side of the picture that people are placed in, pixels."""
_NEAREST, _DISTANCE = 0.3, 4.0
"""Metres: who has a joint nearer to the camera is moved so far away."""


class JointsError(ValueError):
    """A file of joints that cannot be used; the message is one sentence."""


@dataclass(frozen=True)
class Joints:
    """Of some people."""

    keypoint_set: str
    points: Float[Tensor, "people points 3"]
    """Metres, camera axes (x right, y down, z forward); NaN where they are not known."""


def holds_joints(path: Path) -> bool:
    """Whether a file is an NPZ of 3D joints and not of 2D keypoints."""
    try:
        names = npz_names(path)
    except (ArchiveError, OSError):
        return False
    return JOINTS in names and "keypoints_2d" not in names


def read_joints(path: Path, keypoint_set: str | None = None) -> Joints:
    """Joints of an NPZ file: ``joints_3d`` (people, points, 3) or (points, 3), metres, NaN where they are not known;
    and, if it says so itself, ``keypoint_set``, the name of their set.

    Args:
        keypoint_set: counts more than what the file says.

    Raises:
        JointsError: it holds something else, or does not say what the joints are.
        OSError: it cannot be read.
    """
    try:
        arrays = read_all_npz(path)
    except ArchiveError as error:
        raise JointsError(f"{path} is no NPZ file that can be read ({error}).") from None
    points = arrays.get(JOINTS)
    if points is None or points.dtype.kind not in "fiu" or points.ndim not in (2, 3) or points.shape[-1] != 3:
        raise JointsError(f"{path} holds no joints; expected {JOINTS} of shape (people, joints, 3), metres.")
    points = points[None] if points.ndim == 2 else points
    if not len(points) or np.isinf(points).any() or (np.abs(np.nan_to_num(points)) > 1e4).any():
        raise JointsError(f"{path}: {JOINTS} must be of one person at least, in metres, with NaN for missing joints.")
    said = arrays.get("keypoint_set")
    name = keypoint_set or (str(said) if said is not None and said.ndim == 0 else _USUAL.get(points.shape[1]))
    if name not in KEYPOINT_SETS or len(KEYPOINT_SETS[name]) != points.shape[1]:
        fitting = [n for n, s in KEYPOINT_SETS.items() if len(s) == points.shape[1]]
        names = " or ".join(fitting) if fitting else f"a set of these: {', '.join(KEYPOINT_SETS)}"
        raise JointsError(
            f"{path} has {points.shape[1]} joints a person, and {name or 'nothing'} says which; name them by "
            f"--keypoint-set: {names}."
        )
    return Joints(name, torch.from_numpy(points.astype(np.float32)))


def people_from_joints(joints: Joints, body: BodyModel | None = None) -> list[Person]:
    """Bodies that have these joints: inverse kinematics tells where to begin, and a fit goes on from there.

    Who is before the camera stays there; others are moved before it, all alike. Everybody is seen in a picture of 1,000
    x 1,000 pixels whose focal length is its side.

    Args:
        body: default: the free body. Of another one, only the fit is used.

    Raises:
        ValueError: somebody has too few joints, or the body has no such set.
    """
    own = body is None
    body = body or default_body()
    points = joints.points
    if joints.keypoint_set not in body.keypoint_sets:
        raise ValueError(f"This body cannot place {joints.keypoint_set}; it has {', '.join(body.keypoint_sets)}.")
    if float(points[..., 2].nan_to_num(_DISTANCE).min()) < _NEAREST:
        points = points - points.nanmean(dim=(0, 1)) + points.new_tensor([0.0, 0.0, _DISTANCE])
        note(f"people stand about the camera, not before it; all were moved {_DISTANCE:.0f} m away from it.")
    start = _begin(Joints(joints.keypoint_set, points), body) if own else None
    found = fit_to_joints(body, joints.keypoint_set, points, start)
    return [_person(found[i], points[i], joints.keypoint_set, body) for i in range(len(points))]


def _begin(joints: Joints, body: BodyModel) -> BodyParameters | None:
    """None: the network knows too few of the joints."""
    try:
        return _packaged_ik()(joints.keypoint_set, joints.points)
    except ValueError:
        return None


@lru_cache(maxsize=1)
def _packaged_ik() -> "JointsToBodies":
    from kouros.systems.best_of_both_worlds import Ik, JointsToBodies  # systems are loaded where they are asked for

    folder = SYSTEMS["best-of-both-worlds-ik"].packaged
    assert folder is not None
    system = load_run(folder, default_body())
    assert isinstance(system, Ik)
    return JointsToBodies(system.network, default_body())


def _person(
    parameters: BodyParameters, points: Float[Tensor, "points 3"], keypoint_set: str, body: BodyModel
) -> Person:
    camera = PerspectiveCamera(torch.tensor(float(_PICTURE)), torch.tensor([_PICTURE / 2, _PICTURE / 2]))
    known = points.isfinite().all(dim=-1)
    flat = torch.where(known[:, None], camera.project(points), 0.0)
    box = torch.cat([flat[known].amin(0), flat[known].amax(0)])
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max() / 2
    return with_reprojection(
        Person(
            parameters=Bodies.of(parameters, camera),
            crop_box=torch.cat([middle - half, middle + half]),
            box=box,
            score=1.0,
            keypoints_detected=torch.cat([flat, known[:, None].to(flat)], dim=1),
            keypoint_set=keypoint_set,
            image_size=(_PICTURE, _PICTURE),
            body=body,
        )
    )
