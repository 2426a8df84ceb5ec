"""Other starts that explain the same picture: turned bodies, and bodies with limbs flipped in depth.

A picture does not say whether a bone points towards the camera or away from it, so every fit has neighbours with some
of its bones reflected in the image plane (Sminchisescu and Triggs, "Kinematic Jump Processes for Monocular 3D Human
Tracking", CVPR 2003). No descent gets from one to the other. Here they are written down in closed form, so that a fit
can go on from each and the full objective can judge.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.body.skeleton import JOINT_NAMES, PARENTS, forward_kinematics
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat

Flip = Literal["body", "left_arm", "right_arm", "left_leg", "right_leg",
               "left_forearm", "right_forearm", "left_shank", "right_shank"]  # fmt: skip
"""What is reflected: ``body`` is the trunk with all limbs, a limb both of its bones."""
FLIPS: tuple[Flip, ...] = (
    "body", "left_arm", "right_arm", "left_leg", "right_leg",
    "left_forearm", "right_forearm", "left_shank", "right_shank",
)  # fmt: skip

_ARM, _LEG = ("shoulder", "elbow", "wrist"), ("hip", "knee", "ankle")
_STRAIGHT = 0.02
"""Sine of the bend below which a limb's hinge, not its bend, says in which plane it lies."""

FitStarts = Callable[[Int[Tensor, " starts"], BodyParameters], tuple[BodyParameters, Float[Tensor, " starts"]]]
"""A fit of some persons, by their places in the batch (which may repeat), each from a start: bodies and costs."""


def turned(parameters: BodyParameters, angle: float) -> BodyParameters:
    """The same bodies, turned about their own upright axis through the pelvis; radians, to their left."""
    turn = rotvec_to_rotmat(parameters.pose.new_tensor([0.0, angle, 0.0]))
    orient = rotmat_to_rotvec(rotvec_to_rotmat(parameters.pose[:, :3]) @ turn)
    return replace(parameters, pose=torch.cat([orient, parameters.pose[:, 3:]], dim=-1))


def flipped(body: BodyModel, parameters: BodyParameters, flip: Flip) -> BodyParameters:
    """The same bodies with some bones reflected in the plane across the line of sight; camera space.

    Knees and elbows keep bending the way they do. What lies beyond a limb (hand, foot) turns along with it; so do
    neck and head with the trunk.
    """
    local = rotvec_to_rotmat(parameters.pose.unflatten(-1, (24, 3)))
    shape = torch.einsum("jcs,bs->bjc", body.joint_shapedirs, parameters.betas)
    rest = (body.joint_template + shape).expand(len(local), -1, -1)
    frames, joints = forward_kinematics(local, rest)
    joints = joints + parameters.transl[:, None]
    local = local.clone()
    if flip == "body":
        mirror = _across(joints[:, 0])
        trunk = mirror @ _across(_trunk_normal(joints))
        local[:, 0] = trunk @ frames[:, 0]
        for side in ("left", "right"):
            for names in (_ARM, _LEG):
                _flip_limb(local, frames, joints, _joints(side, names), mirror, trunk, whole=True)
    else:
        side, _, part = flip.partition("_")
        limb = _joints(side, _ARM if part in ("arm", "forearm") else _LEG)
        mirror = _across(joints[:, limb[0]])
        _flip_limb(local, frames, joints, limb, mirror, torch.eye(3).to(mirror), whole=part in ("arm", "leg"))
    return replace(parameters, pose=rotmat_to_rotvec(local).flatten(1))


def several_starts(
    body: BodyModel,
    parameters: BodyParameters,
    *,
    turns: Sequence[float] = (torch.pi,),
    flips: Sequence[Flip] = FLIPS,
) -> BodyParameters:
    """The given starts and others like them, person by person: the given one, turned ones, flipped ones.

    Args:
        turns: about the upright axis, radians.
        flips: of the given one, one at a time.

    Returns:
        ``batch * (1 + turns + flips)`` starts.
    """
    found = [parameters, *(turned(parameters, t) for t in turns), *(flipped(body, parameters, f) for f in flips)]
    stacked = torch.stack([p.vector for p in found], dim=1)
    return BodyParameters.from_vector(stacked.flatten(0, 1))


def fit_from_several(
    fit: FitStarts,
    body: BodyModel,
    start: BodyParameters,
    *,
    turns: Sequence[float] = (torch.pi,),
    flips: Sequence[Flip] = FLIPS,
    rounds: int = 2,
) -> tuple[BodyParameters, Float[Tensor, " batch"]]:
    """Fit from a start and its alternatives; then from the winner's flips, as long as that helps somebody.

    Args:
        fit: the full objective, which also judges.
        turns: of the start, in the first round.
        flips: in every round.
        rounds: at most so many.

    Returns:
        The best body of each person, and its cost; never worse than the fit from the start alone.
    """
    persons = torch.arange(len(start.pose), device=start.pose.device)
    best, cost = _best(fit, persons, several_starts(body, start, turns=turns, flips=flips))
    waiting = persons
    for _ in range(rounds - 1):
        others = several_starts(body, best[waiting], turns=(), flips=flips)
        found, found_cost = _best(fit, waiting, others)
        better = found_cost < cost[waiting] * (1 - 1e-3)
        if not bool(better.any()):
            break
        waiting = waiting[better]
        vector = best.vector.index_copy(0, waiting, found[better].vector)
        best, cost = BodyParameters.from_vector(vector), cost.index_copy(0, waiting, found_cost[better])
    return best, cost


def _best(fit: FitStarts, persons: Tensor, starts: BodyParameters) -> tuple[BodyParameters, Tensor]:
    each = len(starts.pose) // len(persons)
    bodies, costs = fit(persons.repeat_interleave(each), starts)
    lowest, winner = costs.view(-1, each).min(-1)
    return bodies[torch.arange(len(persons), device=winner.device) * each + winner], lowest


def _joints(side: str, limb: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(JOINT_NAMES.index(f"{side}_{name}") for name in limb)


def _across(normal: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """Reflection in the plane through the origin with this normal, of any length."""
    unit = torch.nn.functional.normalize(normal, dim=-1)
    return torch.eye(3).to(unit) - 2 * unit[:, :, None] * unit[:, None]


def _trunk_normal(joints: Float[Tensor, "batch 24 3"]) -> Float[Tensor, "batch 3"]:
    """Of the plane of spine and hips."""
    up = joints[:, JOINT_NAMES.index("neck")] - joints[:, 0]
    across = joints[:, JOINT_NAMES.index("left_hip")] - joints[:, JOINT_NAMES.index("right_hip")]
    return torch.linalg.cross(up, across)


def _flip_limb(
    local: Float[Tensor, "batch 24 3 3"],
    frames: Float[Tensor, "batch 24 3 3"],
    joints: Float[Tensor, "batch 24 3"],
    limb: tuple[int, ...],
    mirror: Float[Tensor, "batch 3 3"],
    carrier: Float[Tensor, "*batch 3 3"],
    whole: bool,
) -> None:
    """Write the rotations of a limb's first two joints into ``local``.

    A bone with its hinge axis is a frame; the limb turns each bone's frame onto the wanted one.

    Args:
        carrier: how what carries the limb has turned.
        whole: reflect both bones, else the lower one.
    """
    first, second, end = limb
    upper = torch.nn.functional.normalize(joints[:, second] - joints[:, first], dim=-1)
    lower = torch.nn.functional.normalize(joints[:, end] - joints[:, second], dim=-1)
    # Elbows bend about the body's upright axis, knees about the one across.
    hinge = frames[:, first, :, 1 if JOINT_NAMES[first].endswith("shoulder") else 0]
    hinge = _STRAIGHT * torch.nn.functional.normalize(hinge - (hinge * upper).sum(-1, keepdim=True) * upper, dim=-1)
    new_lower = (mirror @ lower[..., None])[..., 0]
    new_upper, new_hinge = upper, hinge
    if whole:
        new_upper = (mirror @ upper[..., None])[..., 0]
        new_hinge = -(mirror @ hinge[..., None])[..., 0]
    normal = torch.linalg.cross(upper, lower)
    # The hinge's own sense: a limb that is bent backwards a little must not have its frame turned over.
    normal = normal + torch.where((normal * hinge).sum(-1, keepdim=True) < 0, -hinge, hinge)
    new_normal = torch.linalg.cross(new_upper, new_lower)
    new_normal = new_normal + torch.where((new_normal * new_hinge).sum(-1, keepdim=True) < 0, -new_hinge, new_hinge)
    upper_turn = _frame(new_upper, new_normal) @ _frame(upper, normal).mT
    lower_turn = _frame(new_lower, new_normal) @ _frame(lower, normal).mT
    above = carrier @ frames[:, PARENTS[first]]
    local[:, first] = above.mT @ upper_turn @ frames[:, first]
    local[:, second] = (upper_turn @ frames[:, first]).mT @ lower_turn @ frames[:, second]


def _frame(along: Float[Tensor, "batch 3"], normal: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """Right-handed frame whose first axis lies along a bone and whose third is nearest to a normal."""
    across = torch.nn.functional.normalize(torch.linalg.cross(normal, along), dim=-1)
    return torch.stack([along, across, torch.linalg.cross(along, across)], dim=-1)
