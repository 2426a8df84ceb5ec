"""What the learned start is shown in training: people in poses without end, through random cameras, with their
keypoints spoiled as detectors spoil them; and people as the packaged detector saw them, changed a little.

Everything is drawn in batches on the generator's device.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.batched import Batched
from kouros.body.keypoints import BLAZEPOSE33, COCO17, keypoint_set
from kouros.body.skeleton import MIRROR
from kouros.data.detections import Detections
from kouros.data.mocap.recombination import Draws, PoseBank, PoseConfig, about, drawn_poses
from kouros.detection.fusion import SHARED
from kouros.geometry.rotations import mirror_rotmat, rotvec_to_rotmat
from kouros.systems.lifter import (
    NUM_BETAS,
    NUM_DEPTHS,
    NUM_SLOTS,
    BodyPoints,
    Truth,
    View,
    look_at,
    placement_of,
    to_slots,
    truth_of,
    view_of,
)

_INDEX = {name: index for index, name in enumerate(BLAZEPOSE33.names)}
_MIRROR = list(BLAZEPOSE33.mirror)
_SIDES = ("left", "right")


def _points(side: str, *parts: str) -> list[int]:
    return [_INDEX[f"{side}_{part}"] for part in parts]


_HAND = ("pinky", "index", "thumb")
_ARM_POINTS = [_points(s, "elbow", "wrist", *_HAND) for s in _SIDES]
_LEG_POINTS = [_points(s, "knee", "ankle", "heel", "foot_index") for s in _SIDES]
_FOREARM_POINTS = [_points(s, "wrist", *_HAND) for s in _SIDES]
_SHANK_POINTS = [_points(s, "ankle", "heel", "foot_index") for s in _SIDES]
_FACE = list(range(11))
_LIMB_GROUPS = [*_ARM_POINTS, *_LEG_POINTS, *_FOREARM_POINTS, *_SHANK_POINTS, _FACE]
_FLIPPABLE = [
    *((_INDEX[f"{s}_shoulder"], p) for s, p in zip(_SIDES, _ARM_POINTS, strict=True)),
    *((_INDEX[f"{s}_elbow"], p) for s, p in zip(_SIDES, _FOREARM_POINTS, strict=True)),
    *((_INDEX[f"{s}_hip"], p) for s, p in zip(_SIDES, _LEG_POINTS, strict=True)),
    *((_INDEX[f"{s}_knee"], p) for s, p in zip(_SIDES, _SHANK_POINTS, strict=True)),
]
LIMB_KEYPOINTS = [i for s in _SIDES for i in _points(s, "shoulder", "elbow", "wrist", "hip", "knee", "ankle")]


# --- People before cameras -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen(Batched):
    """People in camera space, and what a detector says of them."""

    rotations: Float[Tensor, "batch 24 3 3"]
    betas: Float[Tensor, "batch 10"]
    pelvis: Float[Tensor, "batch 3"]
    """Metres, camera space."""
    rays: Float[Tensor, "batch 33 2"]
    confidence: Float[Tensor, "batch 33"]
    present: Float[Tensor, "batch 33"]
    landmarks: Float[Tensor, "batch 33 3"]
    has_landmarks: Float[Tensor, " batch"]
    depths: Float[Tensor, "batch 17 2"]
    """As in `kouros.data.detections.Detections`."""


def in_camera_axes(root: Float[Tensor, "batch 3 3"], draw: Draws) -> Float[Tensor, "batch 3 3"]:
    """Roots given in a world with y up, as cameras see them: all headings (the front more often), from 30 degrees below
    to 60 above the horizon, some rolled."""
    heading = torch.atan2(root[:, 0, 2], root[:, 2, 2])
    frontal = about(1, draw.normal() * 0.6 - heading) @ root
    root = torch.where(draw.chance(0.3)[:, None, None], frontal, root)
    pitch = torch.deg2rad((draw.normal() * 15 + 8).clamp(-30, 60))
    pitch = torch.where(draw.chance(0.2), torch.deg2rad(draw.uniform(-30.0, 60.0)), pitch)
    roll = torch.where(draw.chance(0.08), draw.uniform(-math.pi, math.pi), 0.09 * draw.normal())
    flip = torch.diag(root.new_tensor([1.0, -1.0, -1.0]))
    return about(2, roll) @ about(0, pitch) @ flip @ root


def seen_through_cameras(
    rotations: Float[Tensor, "batch 24 3 3"], betas: Float[Tensor, "batch 10"], points: BodyPoints, draw: Draws
) -> tuple[Seen, Float[Tensor, "batch 33 3"]]:
    """People given in a world with y up, through random cameras, with exact keypoints; and their 3D keypoints
    relative to the middle of the hips, in the axes of a camera that looks at them.

    All headings (the front more often), camera from 30 degrees below to 60 above the horizon, some of them
    rolled, 1.2 to 25 metres away, up to 35 degrees off the optical axis.
    """
    root = in_camera_axes(rotations[:, 0], draw)
    off, around = draw.uniform(0.0, 1.0).square() * math.radians(35), draw.uniform(-math.pi, math.pi)
    direction = torch.stack([off.sin() * around.cos(), 0.6 * off.sin() * around.sin(), off.cos()], -1)
    direction = torch.nn.functional.normalize(direction, dim=-1)
    distance = torch.exp(draw.uniform(math.log(1.2), math.log(25.0)))
    rotations = torch.cat([root[:, None], rotations[:, 1:]], 1)
    _, _, keypoints = points(rotations, betas)
    pelvis = direction * distance[:, None]
    nearest = (keypoints + pelvis[:, None])[..., 2].amin(1)
    pelvis = pelvis + direction * (0.35 - nearest).clamp(min=0)[:, None]
    there = keypoints + pelvis[:, None]
    hips = keypoints[:, [_INDEX["left_hip"], _INDEX["right_hip"]]].mean(1, keepdim=True)
    ones = torch.ones_like(there[..., 0])
    rays, depths = there[..., :2] / there[..., 2:], _depths_along(there[:, SHARED], direction)
    seen = Seen(rotations, betas, pelvis, rays, ones, ones, keypoints - hips, ones[:, 0], depths)
    return seen, keypoints - hips


def _depths_along(points: Float[Tensor, "batch 17 3"], direction: Float[Tensor, "batch 3"]) -> Tensor:
    """Depths of COCO's points over that of the middle of their hips, as if hardly an error were expected."""
    depth = (points * direction[:, None]).sum(-1)
    hips = depth[:, [COCO17.index("left_hip"), COCO17.index("right_hip")]].mean(1, keepdim=True)
    relative = depth / hips.clamp(min=0.1) - 1
    return torch.stack([relative, torch.full_like(relative, 1e-4)], -1)


# --- What detectors do to keypoints ----------------------------------------------------------------------------


def spoiled(seen: Seen, points: BodyPoints, draw: Draws) -> Seen:
    """Exact keypoints as a detector might report them: 2D first, then 3D landmarks."""
    seen, exchanged = _spoiled_keypoints(seen, draw)
    return _spoiled_depths(_spoiled_landmarks(seen, exchanged, points, draw), exchanged, draw)


def _spoiled_keypoints(seen: Seen, draw: Draws) -> tuple[Seen, Tensor]:
    """Spoiled, and (batch,) where left and right were exchanged throughout."""
    xy = seen.rays
    middle = xy.mean(1, keepdim=True)
    size = (xy - middle).square().sum(-1).mean(1).sqrt()[:, None, None]
    xy = (xy - middle) / size
    # One pixel of a person 200 pixels tall is about 0.02 of their size.
    sigma = torch.exp(draw.uniform(math.log(0.008), math.log(0.12)))[:, None]
    confidence = 1 - 0.15 * draw.uniform(0.0, 1.0, NUM_SLOTS).square()
    hidden = draw.chance(0.04, NUM_SLOTS) & draw.chance(0.7)[:, None]
    shift = torch.zeros_like(xy)
    for group in _LIMB_GROUPS:
        hit = draw.chance(0.07)[:, None]
        hidden[:, group] |= hit
        shift[:, group] += 0.25 * draw.normal(1, 2) * hit[..., None]
    doubt = draw.uniform(0.0, 1.0, NUM_SLOTS)
    confidence = torch.where(hidden, confidence * doubt, confidence)
    spread = sigma * (1 + 5 * (1 - confidence)) + 0.15 * hidden * (1 - confidence)
    # Small systematic shifts: where one detector's hip or ear is need not be where another's is.
    xy = xy + spread[..., None] * draw.normal(NUM_SLOTS, 2) + shift + 0.02 * draw.normal(NUM_SLOTS, 2)
    xy = xy * (1 + 0.03 * draw.normal(1, 2))

    def swap(left: list[int], right: list[int], share: float) -> None:
        hit = draw.chance(share)[:, None]
        for array in (xy, confidence):
            one, two = array[:, left], array[:, right]
            wide = hit[..., None] if array.ndim == 3 else hit
            array[:, left], array[:, right] = torch.where(wide, two, one), torch.where(wide, one, two)

    pairs = ((_ARM_POINTS, 0.03), (_LEG_POINTS, 0.05), (_FOREARM_POINTS, 0.02), (_SHANK_POINTS, 0.03))
    for (left, right), share in pairs:
        swap(left, right, share)
        # Both limbs found at one of the two.
        fallen, onto = (left, right) if left[0] % 2 else (right, left)
        hit = draw.chance(0.02)[:, None]
        xy[:, fallen] = torch.where(hit[..., None], xy[:, onto] + 0.05 * draw.normal(len(onto), 2), xy[:, fallen])
        confidence[:, fallen] = torch.where(
            hit, confidence[:, fallen] * draw.uniform(0.3, 1.0, 1), confidence[:, fallen]
        )
    everything = draw.chance(0.02)
    exchanged = everything[:, None]
    xy = torch.where(everything[:, None, None], xy[:, _MIRROR], xy)
    confidence = torch.where(exchanged, confidence[:, _MIRROR], confidence)

    xy, confidence, present = _truncated(xy, confidence, draw)
    # Some detectors' confidences mean little, some users give none at all.
    confidence = torch.where(draw.chance(0.08)[:, None], torch.ones_like(confidence), confidence)
    confidence = torch.where(
        draw.chance(0.08)[:, None],
        confidence * draw.uniform(0.2, 1.0, 1) * draw.uniform(0.7, 1.0, NUM_SLOTS),
        confidence,
    )
    return replace(seen, rays=xy * size + middle, confidence=confidence, present=present), everything


def _truncated(xy: Tensor, confidence: Tensor, draw: Draws) -> tuple[Tensor, Tensor, Tensor]:
    """Cut by the picture's border on one side, mostly the lower one; points beyond are guessed or missing."""
    angle = torch.where(
        draw.chance(0.65),
        torch.full_like(xy[:, 0, 0], math.pi / 2),
        (draw.uniform(0.0, 4.0).floor() * math.pi / 2),
    )
    along = xy[..., 0] * angle.cos()[:, None] + xy[..., 1] * angle.sin()[:, None]
    low, high = along.amin(1), along.amax(1)
    border = low + (high - low) * draw.uniform(0.25, 1.0)
    beyond = (along - border[:, None]).clamp(min=0) * draw.chance(0.3)[:, None]
    out = beyond > 0
    guessed = xy + 0.5 * beyond[..., None] * draw.normal(NUM_SLOTS, 2)
    # Guesses huddle near the border.
    normal = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    guessed = guessed - normal * (beyond * draw.uniform(0.0, 0.7, 1))[..., None]
    xy = torch.where(out[..., None], guessed, xy)
    confidence = torch.where(out, confidence * 0.5 * draw.uniform(0.0, 1.0, NUM_SLOTS).square(), confidence)
    missing = out & draw.chance(0.3)[:, None]
    return xy, confidence, 1.0 - missing.to(xy.dtype)


def _spoiled_landmarks(seen: Seen, exchanged: Tensor, points: BodyPoints, draw: Draws) -> Seen:
    """BlazePose's typical errors: tilted as a whole, wrong depth, limbs turned, flipped towards or away, garbage."""
    wrong = draw.uniform(0.0, 1.0)[:, None, None] * draw.normal(24, 3) * 0.3
    wrong[:, 0] = draw.normal(3) * draw.uniform(0.0, 1.0, 1) * wrong.new_tensor([0.3, 0.2, 0.12])
    wrong[:, [3, 6, 9, 12, 13, 14]] *= 0.4
    rotations = seen.rotations @ rotvec_to_rotmat(wrong)
    rotations[:, 0] = rotvec_to_rotmat(wrong[:, 0]) @ seen.rotations[:, 0]
    _, _, keypoints = points(rotations, seen.betas + draw.normal(NUM_BETAS) * 0.5)
    hips = keypoints[:, [_INDEX["left_hip"], _INDEX["right_hip"]]].mean(1, keepdim=True)
    found = keypoints - hips
    found = torch.where(exchanged[:, None, None], found[:, _MIRROR], found)
    found = found * (0.95 * torch.exp(0.1 * draw.normal(1, 1)))
    depth = torch.exp((0.25 * draw.normal() - 0.1).clamp(-0.8, 0.5))
    found = found * torch.stack([torch.ones_like(depth), torch.ones_like(depth), depth], -1)[:, None]
    for anchor, group in _FLIPPABLE:
        hit = draw.chance(0.03)[:, None]
        z = found[:, group, 2]
        found[:, group, 2] = torch.where(hit, 2 * found[:, anchor, None, 2] - z, z)
    found = found + draw.uniform(0.0, 0.03, 1, 1) * draw.normal(NUM_SLOTS, 3)
    found = torch.where(draw.chance(0.02)[:, None, None], found.roll(1, 0), found)
    return replace(seen, landmarks=found)


def _spoiled_depths(seen: Seen, exchanged: Tensor, draw: Draws) -> Seen:
    """Depths as the head reads them: flattened, tilted, and off by about what it expects."""
    middle = seen.rays.mean(1, keepdim=True)
    size = (seen.rays - middle).square().sum(-1).mean(1).sqrt()[:, None]
    depth = seen.depths[..., 0]
    expected = size * torch.exp(draw.uniform(math.log(0.06), math.log(0.5), 1) + 0.3 * draw.normal(NUM_DEPTHS))
    upright = (seen.rays[:, SHARED] - middle)[..., 1]
    depth = depth * torch.exp(0.15 * draw.normal(1) - 0.05) + 0.15 * draw.normal(1) * upright
    depth = depth + 0.7 * expected * draw.normal(NUM_DEPTHS) * torch.exp(0.4 * draw.normal(1))
    depth = torch.where(exchanged[:, None], depth[:, list(COCO17.mirror)], depth)
    return replace(seen, depths=torch.stack([depth, expected], -1))


def as_other_sets(seen: Seen, draw: Draws) -> Seen:
    """Some people come with another keypoint set, without 3D landmarks, or lack points anywhere."""
    present, has = seen.present, seen.has_landmarks
    choice = draw.uniform(0.0, 1.0)
    low = 0.65
    for name, share in (("coco17", 0.15), ("openpose25", 0.12), ("lsp14", 0.08)):
        _, filled = to_slots(present.new_zeros(1, len(keypoint_set(name)), 3), name)
        taken = (choice >= low) & (choice < low + share)
        present = torch.where(taken[:, None], present * filled, present)
        low += share
    has = has * (choice < 0.65) * (~draw.chance(0.2))
    deep = (choice < 0.65) & ~draw.chance(0.2)
    lost = draw.chance(0.15)[:, None] & draw.chance(0.2, NUM_SLOTS)
    present = present * (~lost)
    return replace(
        seen,
        present=present,
        confidence=seen.confidence * present,
        has_landmarks=has,
        landmarks=seen.landmarks * has[:, None, None],
        depths=seen.depths * deep[:, None, None],
    )


def to_training(seen: Seen, points: BodyPoints, focal_error: Float[Tensor, " batch"]) -> tuple[View, Truth]:
    """The network's input and what it should answer.

    Args:
        focal_error: assumed focal length over the true one. The truth is then the pose relative to the line of
            sight, at the distance that gives the size seen.
    """
    assumed = view_of(
        seen.rays / focal_error[:, None, None],
        seen.confidence,
        seen.present,
        seen.landmarks,
        seen.has_landmarks,
        seen.depths / focal_error[:, None, None],
    )
    middle = assumed.rotation[:, 2]
    true_middle = torch.cat([middle[:, :2] * focal_error[:, None], middle[:, 2:]], -1)
    look = _towards(true_middle)
    rotations = torch.cat([(look @ seen.rotations[:, 0])[:, None], seen.rotations[:, 1:]], 1)
    pelvis = (look @ seen.pelvis[..., None])[..., 0]
    pelvis = torch.stack([pelvis[:, 0], pelvis[:, 1], pelvis[:, 2].clamp(min=0.2) * focal_error], -1)
    return assumed, truth_of(rotations, seen.betas, placement_of(pelvis, assumed.size), points)


def _towards(direction: Tensor) -> Tensor:
    return look_at(torch.nn.functional.normalize(direction, dim=-1))


def _focal_errors(draw: Draws) -> Tensor:
    return torch.where(draw.chance(0.5), torch.exp(0.25 * draw.normal()), torch.ones_like(draw.uniform(0.0, 1.0)))


def artificial_batch(
    bank: PoseBank, points: BodyPoints, count: int, generator: torch.Generator, athletic: float = 0.0
) -> tuple[View, Truth]:
    """Samples with artificial corruption, from poses drawn without end.

    Args:
        athletic: share of them in poses as in sports, drawn by rule.
    """
    draw = Draws(count, generator)
    rotations = drawn_poses(bank, count, generator, PoseConfig(athletic=athletic))
    seen, _ = seen_through_cameras(rotations, drawn_betas(draw), points, draw)
    return to_training(as_other_sets(spoiled(seen, points, draw), draw), points, _focal_errors(draw))


def drawn_betas(draw: Draws) -> Float[Tensor, "batch 10"]:
    """Shapes, none far from the mean."""
    return draw.normal(NUM_BETAS).clamp(-2.5, 2.5)


# --- Measured detections ---------------------------------------------------------------------------------------


def seen_of(detections: Detections) -> Seen:
    """Detections as they are."""
    confidence = detections.keypoints[..., 2]
    return Seen(
        rotations=rotvec_to_rotmat(detections.pose.unflatten(-1, (24, 3))),
        betas=detections.betas,
        pelvis=detections.pelvis,
        rays=detections.keypoints[..., :2],
        confidence=confidence,
        present=torch.ones_like(confidence),
        landmarks=detections.landmarks,
        has_landmarks=torch.ones_like(confidence[:, 0]),
        depths=detections.depths,
    )


def measured_batch(seen: Seen, points: BodyPoints, generator: torch.Generator) -> tuple[View, Truth]:
    """Detections, mirrored, rolled, a little noisier, some points lost."""
    draw = Draws(len(seen.betas), generator)
    seen = _mirrored_where(seen, draw.chance(0.5))
    turn = about(2, torch.where(draw.chance(0.15), draw.uniform(-0.8, 0.8), 0.05 * draw.normal()))
    rotations = torch.cat([(turn @ seen.rotations[:, 0])[:, None], seen.rotations[:, 1:]], 1)
    rays = seen.rays @ turn[:, :2, :2].mT
    size = (rays - rays.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt()[:, None, None]
    noise = torch.where(draw.chance(0.5), draw.uniform(0.0, 0.05), torch.zeros_like(draw.uniform(0.0, 1.0)))
    rays = rays + size * noise[:, None, None] * draw.normal(NUM_SLOTS, 2)
    landmarks = seen.landmarks @ turn.mT
    wrong = rotvec_to_rotmat(0.15 * draw.normal(3) * draw.chance(0.4)[:, None])
    landmarks = landmarks @ wrong.mT + 0.01 * draw.normal(NUM_SLOTS, 3)
    seen = replace(
        seen,
        rotations=rotations,
        pelvis=(turn @ seen.pelvis[..., None])[..., 0],
        rays=rays,
        landmarks=landmarks,
    )
    return to_training(as_other_sets(seen, draw), points, _focal_errors(draw))


def _mirrored_where(seen: Seen, where: Tensor) -> Seen:
    flip = seen.pelvis.new_tensor([-1.0, 1.0, 1.0])

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(where.view(-1, *(1,) * (a.ndim - 1)), b, a)

    return Seen(
        choose(seen.rotations, mirror_rotmat(seen.rotations[:, list(MIRROR)])),
        seen.betas,
        choose(seen.pelvis, seen.pelvis * flip),
        choose(seen.rays, seen.rays[:, _MIRROR] * flip[:2]),
        choose(seen.confidence, seen.confidence[:, _MIRROR]),
        choose(seen.present, seen.present[:, _MIRROR]),
        choose(seen.landmarks, seen.landmarks[:, _MIRROR] * flip),
        seen.has_landmarks,
        choose(seen.depths, seen.depths[:, list(COCO17.mirror)]),
    )
