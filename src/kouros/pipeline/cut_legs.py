"""Legs that the picture's edge cuts off: of somebody whose trunk is upright they stand.

No keypoint tells of such legs, and a regressor answers with the mean of all that they may be: between standing and
sitting, a squat that hardly anybody holds. Whether people who are cut at the waist stand or sit does not show in what
is seen of them (`benchmarks/cut_people.py`); most people before cameras stand. What is hidden within the picture, by a
table say, is left as it was estimated, and so is all that is seen.
"""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.skeleton import JOINT_NAMES, forward_kinematics
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.geometry.tilt import tilt_of_up, up_of_tilt
from kouros.pipeline.person import Person
from kouros.pipeline.upright import inside_picture, packaged_tilt_network
from kouros.pipeline.visibility import SEEN, by_confidence

_J = {name: joint for joint, name in enumerate(JOINT_NAMES)}
_TRUNK_SPREAD = math.radians(13)
"""Of the trunk of somebody whose hips are cut off, against what is really up: measured on drawn people."""
_UPRIGHT = 2.0
"""So many standard deviations (of trunks and cameras together) from cameras' usual tilt, a trunk belongs to somebody
who bends over, or lies."""
_STANDING_THIGH = math.radians(50)
"""From straight down; a thigh that is seen to point elsewhere is no standing person's."""
_KNEE = math.radians(6)
"""Flexion of somebody who stands at ease."""
_MOST_KNEE = math.radians(70)


def with_standing_legs(person: Person) -> Person:
    """The same person; legs that the picture's edge cuts off hang straight below an upright trunk.

    A thigh whose hip is seen stays. Nothing changes for who has a mesh of the system's own, which no parameters make.
    """
    unseen = _unseen_legs(person)
    if not unseen or person.estimate.vertices is not None:
        return person
    with torch.no_grad():
        pose = person.parameters.pose.detach().reshape(24, 3)
        rotations = rotvec_to_rotmat(pose)
        rest = person.body.joint_positions(person.betas[None])[0]
        turned, joints = forward_kinematics(rotations, rest)
        trunk = torch.nn.functional.normalize(joints[_J["neck"]] - joints[_J["pelvis"]], dim=0)
        up = _likely_up(trunk)
        if up is None:
            return person
        for side in unseen:
            hip_seen = float(person.visibility[_J[f"{side}_hip"]]) >= SEEN
            legs = _hanging(turned, up, side, keep_thigh=hip_seen)
            if legs is None:
                continue
            changed = rotations.clone()
            for name, rotation in legs.items():
                changed[_J[f"{side}_{name}"]] = rotation
            if _is_cut(person, changed, rest, side):
                rotations = changed
        pose_then = rotmat_to_rotvec(rotations)
        same = torch.isclose(rotations, rotvec_to_rotmat(pose)).all(-1).all(-1)
        if bool(same.all()):
            return person
        pose_then = torch.where(same[:, None], pose, pose_then)
    return person.moved(replace(person.parameters, pose=pose_then.flatten()))


def _unseen_legs(person: Person) -> list[str]:
    """Sides whose ankle is neither in the picture nor where a detector would have seen it."""
    confidence = by_confidence(person.keypoints_detected, person.keypoint_set)
    seen = torch.maximum(person.visibility, confidence) >= SEEN
    return [side for side in ("left", "right") if not bool(seen[_J[f"{side}_ankle"]])]


def _likely_up(trunk: Float[Tensor, "3"]) -> Float[Tensor, "3"] | None:
    """What an upright trunk and the habits of photographers say together, camera space; None: it is not upright."""
    prior = packaged_tilt_network().prior
    towards, weight = tilt_of_up(trunk), prior[1] ** -2
    apart = (towards - prior[0]) / (prior[1].square() + _TRUNK_SPREAD**2).sqrt()
    if float(apart.norm()) > _UPRIGHT:
        return None
    said = _TRUNK_SPREAD**-2
    return up_of_tilt((said * towards + weight * prior[0]) / (said + weight))


def _hanging(
    turned: Float[Tensor, "24 3 3"], up: Float[Tensor, "3"], side: str, *, keep_thigh: bool
) -> dict[str, Float[Tensor, "3 3"]] | None:
    """Rotations of knee, ankle, foot and, where it may move, hip, relative to their parents, of a leg that carries;
    None: it cannot.

    Args:
        turned: global rotations, camera space.
        keep_thigh: it is known how the thigh points.
    """
    legs = {"foot": torch.eye(3).to(turned)}
    if keep_thigh:
        thigh = turned[_J[f"{side}_hip"]]
        down = thigh.T @ -up  # in the thigh, which points along -y
        if float(-down[1]) < math.cos(_STANDING_THIGH):
            return None
        bend = min(max(math.atan2(-float(down[2]), -float(down[1])), _KNEE), _MOST_KNEE)
    else:
        pelvis = turned[_J["pelvis"]]
        thigh, bend = _facing(pelvis[:, 2], up) @ _about_x(-_KNEE / 2), _KNEE
        legs["hip"] = pelvis.T @ thigh
    legs["knee"] = _about_x(bend)
    shank = thigh @ legs["knee"]
    return legs | {"ankle": shank.T @ _facing(shank[:, 2], up)}


def _facing(ahead: Float[Tensor, "3"], up: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """Body space to camera space, of somebody upright who looks that way."""
    front = torch.nn.functional.normalize(ahead - (ahead @ up) * up, dim=0)
    return torch.stack([torch.linalg.cross(up, front), up, front], dim=1)


def _about_x(angle: float) -> Float[Tensor, "3 3"]:
    return rotvec_to_rotmat(torch.tensor([angle, 0.0, 0.0]))


def _is_cut(person: Person, rotations: Float[Tensor, "24 3 3"], rest: Float[Tensor, "24 3"], side: str) -> bool:
    """Whether the ankle, and the knee where nobody saw it, would lie beyond the picture's edge."""
    joints = forward_kinematics(rotations, rest)[1] + person.transl
    inside = inside_picture(joints, person.camera, person.image_size)
    knee_seen = float(person.visibility[_J[f"{side}_knee"]]) >= SEEN
    return not bool(inside[_J[f"{side}_ankle"]]) and (knee_seen or not bool(inside[_J[f"{side}_knee"]]))
