"""Poses of synthetic people: recorded or drawn from the packaged prior, recombined, or of a family drawn by rule.

Motion capture and the prior hardly sit, lie, kneel or crouch, so a share of people take one of those families, each
with a rule for how gravity holds it. Several candidates are drawn for everyone at once; the first whose limbs stay
out of its trunk, head and other limbs is taken (distances between bones, not meshes: a few microseconds each).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body import BodyModel
from kouros.body.skeleton import JOINT_NAMES
from kouros.data.mocap.recombination import (
    Draws,
    PoseBank,
    PoseConfig,
    about,
    arm_rotations,
    athletic_poses,
    drawn_poses,
    leg_rotations,
    recorded_poses,
    within_limits,
)
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.priors.draws import draw_categories
from kouros.priors.gmm import load_gmm
from kouros.priors.limits import load_limits

FAMILIES = ("recorded", "recombined", "standing", "seated", "on_floor", "kneeling", "crouching", "lying", "athletic")
"""What a person does; a scene stores the index."""
_SHARES = (0.38, 0.17, 0.10, 0.12, 0.06, 0.06, 0.05, 0.06)
"""Of all but the last, whose share is asked for."""
_CANDIDATES = 6
_J = {name: index for index, name in enumerate(JOINT_NAMES)}
_LEGS = {
    "standing": ("straight",),
    "seated": ("chair",),
    "on_floor": ("legs_out", "cross_legged"),
    "kneeling": ("kneel", "on_heels"),
    "crouching": ("squat", "lunge"),
    "lying": ("straight", "straight", "raised", "lunge"),
}
_ARMS = {
    "standing": ("hanging", "reaching", "folded", "on_hips", "hand_at_head", "behind"),
    "seated": ("in_lap", "in_lap", "folded", "reaching", "hand_at_head"),
    "on_floor": ("in_lap", "in_lap", "reaching", "hand_at_head"),
    "kneeling": ("in_lap", "hanging", "reaching", "hand_at_head", "on_hips"),
    "crouching": ("in_lap", "reaching", "hanging"),
    "lying": ("hanging", "folded", "reaching", "hand_at_head"),
}
_LEANS = {
    "standing": (-6.0, 12.0),
    "seated": (-20.0, 12.0),
    "on_floor": (-20.0, 15.0),
    "kneeling": (-8.0, 20.0),
    "crouching": (0.0, 0.0),
    "lying": (0.0, 0.0),
}
"""Degrees that the pelvis tips forward, low and high."""
_BONES = (
    ("left_elbow", "left_wrist", 0.04), ("right_elbow", "right_wrist", 0.04),
    ("left_wrist", "left_hand", 0.035), ("right_wrist", "right_hand", 0.035),
    ("left_shoulder", "left_elbow", 0.045), ("right_shoulder", "right_elbow", 0.045),
    ("left_hip", "left_knee", 0.07), ("right_hip", "right_knee", 0.07),
    ("left_knee", "left_ankle", 0.05), ("right_knee", "right_ankle", 0.05),
    ("pelvis", "spine2", 0.12), ("spine2", "neck", 0.11), ("neck", "head", 0.07),
)  # fmt: skip
"""Ends and radius (metres, a little less than the flesh's) of what may not run through each other."""
_PAIRS = (
    (0, 10), (0, 11), (0, 12), (1, 10), (1, 11), (1, 12), (2, 10), (2, 11), (2, 12), (3, 10), (3, 11), (3, 12),
    (0, 1), (2, 3), (0, 3), (1, 2), (0, 5), (1, 4), (0, 6), (0, 7), (1, 6), (1, 7), (2, 6), (2, 7), (3, 6), (3, 7),
    (0, 8), (0, 9), (1, 8), (1, 9), (8, 9), (6, 9), (7, 8), (6, 11), (7, 11),
)  # fmt: skip


@dataclass(frozen=True)
class DrawnPoses:
    """People's poses in a world with y up."""

    rotations: Float[Tensor, "people 24 3 3"]
    """Root in the world, the others relative to their parents."""
    family: tuple[str, ...]


def draw_people(
    count: int,
    bank: PoseBank | None,
    body: BodyModel,
    generator: torch.Generator,
    *,
    recorded_only: bool = False,
    athletic: float = 0.0,
    families: tuple[str, ...] | None = None,
) -> DrawnPoses:
    """Poses of people who each do something, drawn.

    Args:
        bank: motion capture; None draws from the packaged mixture instead.
        recorded_only: only recorded poses and their mirror images.
        athletic: share of people, instead of what they would do, with limbs and trunk anywhere that joints allow, as
            in sports, half of them not upright.
        families: what each person does, of `FAMILIES`; None draws it.
    """
    if families is None:
        shares = torch.eye(len(_SHARES))[0] if recorded_only else torch.tensor(_SHARES)
        chosen = draw_categories(shares, count, generator).tolist()
        families = tuple(FAMILIES[k] for k in chosen)
        if athletic:  # nothing is drawn where nobody is, so that pictures of a seed stay what they are
            leaps = (torch.rand(count, generator=generator) < athletic).tolist()
            families = tuple("athletic" if leap else f for f, leap in zip(families, leaps, strict=True))
    candidates = torch.stack([_candidates(name, bank, generator) for name in families]).flatten(0, 1)
    depth, joints = _interpenetration(candidates, body)
    candidates, joints = _balanced(candidates, joints, [f for f in families for _ in range(_CANDIDATES)])
    depth = depth + _floating(joints, [f for f in families for _ in range(_CANDIDATES)])
    rows = []
    for person in range(count):
        mine = depth[person * _CANDIDATES : (person + 1) * _CANDIDATES]
        free = torch.nonzero(mine < 0.015)[:, 0]
        rows.append(person * _CANDIDATES + int(free[0] if len(free) else mine.argmin()))
    return DrawnPoses(candidates[rows], families)


def interpenetration(rotations: Float[Tensor, "poses 24 3 3"], body: BodyModel) -> Float[Tensor, " poses"]:
    """How deep limbs run into the trunk, the head and each other at worst, metres, by capsules around bones."""
    return _interpenetration(rotations, body)[0]


def _candidates(family: str, bank: PoseBank | None, generator: torch.Generator) -> Tensor:
    if family in ("recorded", "recombined"):
        source = bank or PoseBank(_prior_poses(4 * _CANDIDATES, generator))
        if family == "recorded":
            return recorded_poses(source, _CANDIDATES, generator)
        mild = PoseConfig(recombined=0.6, posed_legs=0.0, posed_arms=0.35, noise=0.08, any_heading=0.0)
        return within_limits(drawn_poses(source, _CANDIDATES, generator, mild))
    draw = Draws(_CANDIDATES, generator)
    if family == "athletic":
        return athletic_poses(draw)
    rotations = torch.eye(3).expand(_CANDIDATES, 24, 3, 3).clone()
    spine = 0.1 * draw.normal(3, 3)
    if family in ("seated", "on_floor", "crouching"):
        spine[..., 0] += torch.deg2rad(draw.uniform(-2.0, 10.0))[:, None]
    rotations[:, [_J["spine1"], _J["spine2"], _J["spine3"]]] = rotvec_to_rotmat(spine)
    rotations[:, [_J["neck"], _J["head"]]] = rotvec_to_rotmat(0.15 * draw.normal(2, 3))
    rotations = leg_rotations(rotations, draw, _LEGS[family])
    rotations = arm_rotations(rotations, draw, _ARMS[family])
    low, high = _LEANS[family]
    root = about(0, torch.deg2rad(draw.uniform(low, high))) @ about(2, 0.04 * draw.normal())
    if family == "lying":
        root = _lying(draw)
    rotations[:, 0] = about(1, draw.uniform(-math.pi, math.pi)) @ root
    return rotations


def _lying(draw: Draws) -> Tensor:
    """On the back, the belly or a side."""
    turn = draw.uniform(0.0, 1.0)
    around = torch.where(turn < 0.5, draw.uniform(-0.3, 0.3), draw.uniform(-0.2, 0.2) + math.pi)
    around = torch.where(turn > 0.75, math.pi / 2 * torch.where(draw.chance(0.5), 1.0, -1.0), around)
    return about(0, torch.full_like(turn, -math.pi / 2)) @ about(1, around)


def _prior_poses(count: int, generator: torch.Generator) -> Tensor:
    """Upright poses of the packaged mixture, inside the packaged limits."""
    limits = load_limits()
    pose = load_gmm().sample(count, generator)
    pose = (pose - limits.excess(pose)).unflatten(-1, (23, 3))
    root = rotvec_to_rotmat(0.08 * torch.randn(count, 1, 3, generator=generator))
    return torch.cat([root, rotvec_to_rotmat(pose)], dim=1)


def _interpenetration(rotations: Tensor, body: BodyModel) -> tuple[Tensor, Tensor]:
    joints = body.joint_positions(body_pose=rotations[:, 1:], global_orient=rotations[:, 0], pose2rot=False)
    first, second = [_J[bone[0]] for bone in _BONES], [_J[bone[1]] for bone in _BONES]
    radius = torch.tensor([bone[2] for bone in _BONES])
    share = torch.linspace(0, 1, 6)[:, None]
    # The first point is left out where bones start at one joint.
    points = joints[:, first, None] * (1 - share) + joints[:, second, None] * share
    a, b = ([pair[k] for pair in _PAIRS] for k in (0, 1))
    apart = torch.cdist(points[:, a], points[:, b]).flatten(2).amin(-1)
    return (radius[a] + radius[b] - apart).clamp(min=0).amax(-1), joints


def _balanced(rotations: Tensor, joints: Tensor, families: list[str]) -> tuple[Tensor, Tensor]:
    """Crouching and kneeling people turned as a whole so that they stay over their feet or knees."""
    held = torch.tensor([f in ("crouching", "kneeling", "standing") for f in families])
    feet = joints[:, [_J[f"{s}_{n}"] for s in ("left", "right") for n in ("ankle", "foot")]]
    knees = joints[:, [_J["left_knee"], _J["right_knee"]]]
    kneels = torch.tensor([f == "kneeling" for f in families])[:, None]
    support = torch.where(kneels, 0.6 * knees.mean(1) + 0.4 * feet.mean(1), feet.mean(1))
    middle = joints[:, [_J[n] for n in ("pelvis", "spine1", "spine3", "neck", "left_knee", "right_knee")]].mean(1)
    up = torch.nn.functional.normalize(middle - support, dim=-1)
    axis = torch.linalg.cross(up, torch.tensor([0.0, 1.0, 0.0]).expand_as(up))
    sine = axis.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, up[:, 1:2]).clamp(max=0.7)
    turn = rotvec_to_rotmat(torch.where(held[:, None], axis / sine.clamp(min=1e-6) * angle, 0.0))
    pelvis = joints[:, :1]
    turned = ((joints - pelvis) @ turn.mT) + pelvis
    return torch.cat([(turn @ rotations[:, 0])[:, None], rotations[:, 1:]], dim=1), turned


def _floating(joints: Tensor, families: list[str]) -> Tensor:
    """Metres by which what should rest on the floor does not."""
    height = joints[..., 1] - joints[..., 1].amin(dim=1, keepdim=True)
    trunk = height[:, [_J["pelvis"], _J["spine3"]]].amax(dim=1)
    excess = []
    for k, family in enumerate(families):
        if family == "lying":
            excess.append((trunk[k] - 0.22).clamp(min=0))
        elif family == "on_floor":
            excess.append((height[k, 0] - 0.2).clamp(min=0))
        elif family == "seated":  # feet, not hands, are lowest, and below the seat
            feet = height[k, [_J["left_foot"], _J["right_foot"]]].amin()
            excess.append(feet + (0.3 - height[k, 0]).clamp(min=0))
        else:
            excess.append(height.new_zeros(()))
    return torch.stack(excess)
