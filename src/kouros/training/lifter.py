"""Trains the learned start: poses without end, through random cameras, spoiled as detectors spoil keypoints.

    kouros train lifter --mocap diverse_frames.npz --out runs/lifter --minutes 18

Samples are drawn on the training device, none twice. Shards that `kouros.training.detections` has written, or is
writing, to ``--shards`` are read as they appear and make up to half of each batch: there the spoiling is the real
detector's. Length is wall-clock time; the learning rate follows it, so that a run always ends annealed. The log is
JSON lines; errors are over the twelve limb keypoints, millimetres.
"""

import copy
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body import load_body
from kouros.body.keypoints import BLAZEPOSE33
from kouros.data.mocap.recombination import PoseBank, about, drawn_poses, read_bank, recorded_poses
from kouros.geometry.alignment import align
from kouros.geometry.rotations import mirror_rotmat, rotvec_to_rotmat
from kouros.systems.lifter import (
    NUM_BETAS,
    NUM_SLOTS,
    Answers,
    BodyPoints,
    Lifter,
    LifterConfig,
    Truth,
    View,
    load_weights,
    look_at,
    losses,
    placement_of,
    save_weights,
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


class Dice:
    """Random numbers, one row per sample."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator, self.device = count, generator, generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Between two numbers."""
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal."""
        return torch.randn(self.count, *shape, generator=self.generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """True with a probability."""
        return torch.rand(self.count, *shape, generator=self.generator, device=self.device) < share


# --- People before cameras -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
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


def seen_through_cameras(
    rotations: Float[Tensor, "batch 24 3 3"], betas: Float[Tensor, "batch 10"], points: BodyPoints, dice: Dice
) -> tuple[Seen, Float[Tensor, "batch 33 3"]]:
    """People given in a world with y up, through random cameras, with exact keypoints; and their 3D keypoints
    relative to the middle of the hips, in the axes of a camera that looks at them.

    All headings (the front more often), camera from 30 degrees below to 60 above the horizon, some of them
    rolled, 1.2 to 25 metres away, up to 35 degrees off the optical axis.
    """
    root = rotations[:, 0]
    heading = torch.atan2(root[:, 0, 2], root[:, 2, 2])
    frontal = about(1, dice.normal() * 0.6 - heading) @ root
    root = torch.where(dice.chance(0.3)[:, None, None], frontal, root)
    pitch = torch.deg2rad((dice.normal() * 15 + 8).clamp(-30, 60))
    pitch = torch.where(dice.chance(0.2), torch.deg2rad(dice.uniform(-30.0, 60.0)), pitch)
    roll = torch.where(dice.chance(0.08), dice.uniform(-math.pi, math.pi), 0.09 * dice.normal())
    flip = torch.diag(root.new_tensor([1.0, -1.0, -1.0]))
    root = about(2, roll) @ about(0, pitch) @ flip @ root
    off, around = dice.uniform(0.0, 1.0).square() * math.radians(35), dice.uniform(-math.pi, math.pi)
    direction = torch.stack([off.sin() * around.cos(), 0.6 * off.sin() * around.sin(), off.cos()], -1)
    direction = torch.nn.functional.normalize(direction, dim=-1)
    distance = torch.exp(dice.uniform(math.log(1.2), math.log(25.0)))
    rotations = torch.cat([root[:, None], rotations[:, 1:]], 1)
    _, _, keypoints = points(rotations, betas)
    pelvis = direction * distance[:, None]
    nearest = (keypoints + pelvis[:, None])[..., 2].amin(1)
    pelvis = pelvis + direction * (0.35 - nearest).clamp(min=0)[:, None]
    there = keypoints + pelvis[:, None]
    hips = keypoints[:, [_INDEX["left_hip"], _INDEX["right_hip"]]].mean(1, keepdim=True)
    ones = torch.ones_like(there[..., 0])
    seen = Seen(rotations, betas, pelvis, there[..., :2] / there[..., 2:], ones, ones, keypoints - hips, ones[:, 0])
    return seen, keypoints - hips


# --- What detectors do to keypoints ----------------------------------------------------------------------------


def spoiled(seen: Seen, points: BodyPoints, dice: Dice) -> Seen:
    """Exact keypoints as a detector might report them: 2D first, then 3D landmarks."""
    seen, exchanged = _spoiled_keypoints(seen, dice)
    return _spoiled_landmarks(seen, exchanged, points, dice)


def _spoiled_keypoints(seen: Seen, dice: Dice) -> tuple[Seen, Tensor]:
    """Spoiled, and (batch,) where left and right were exchanged throughout."""
    xy = seen.rays
    middle = xy.mean(1, keepdim=True)
    size = (xy - middle).square().sum(-1).mean(1).sqrt()[:, None, None]
    xy = (xy - middle) / size
    # One pixel of a person 200 pixels tall is about 0.02 of their size.
    sigma = torch.exp(dice.uniform(math.log(0.008), math.log(0.12)))[:, None]
    confidence = 1 - 0.15 * dice.uniform(0.0, 1.0, NUM_SLOTS).square()
    hidden = dice.chance(0.04, NUM_SLOTS) & dice.chance(0.7)[:, None]
    shift = torch.zeros_like(xy)
    for group in _LIMB_GROUPS:
        hit = dice.chance(0.07)[:, None]
        hidden[:, group] |= hit
        shift[:, group] += 0.25 * dice.normal(1, 2) * hit[..., None]
    doubt = dice.uniform(0.0, 1.0, NUM_SLOTS)
    confidence = torch.where(hidden, confidence * doubt, confidence)
    spread = sigma * (1 + 5 * (1 - confidence)) + 0.15 * hidden * (1 - confidence)
    # Small systematic shifts: where one detector's hip or ear is need not be where another's is.
    xy = xy + spread[..., None] * dice.normal(NUM_SLOTS, 2) + shift + 0.02 * dice.normal(NUM_SLOTS, 2)
    xy = xy * (1 + 0.03 * dice.normal(1, 2))

    def swap(left: list[int], right: list[int], share: float) -> None:
        hit = dice.chance(share)[:, None]
        for array in (xy, confidence):
            one, two = array[:, left], array[:, right]
            wide = hit[..., None] if array.ndim == 3 else hit
            array[:, left], array[:, right] = torch.where(wide, two, one), torch.where(wide, one, two)

    pairs = ((_ARM_POINTS, 0.03), (_LEG_POINTS, 0.05), (_FOREARM_POINTS, 0.02), (_SHANK_POINTS, 0.03))
    for (left, right), share in pairs:
        swap(left, right, share)
        # Both limbs found at one of the two.
        fallen, onto = (left, right) if left[0] % 2 else (right, left)
        hit = dice.chance(0.02)[:, None]
        xy[:, fallen] = torch.where(hit[..., None], xy[:, onto] + 0.05 * dice.normal(len(onto), 2), xy[:, fallen])
        confidence[:, fallen] = torch.where(
            hit, confidence[:, fallen] * dice.uniform(0.3, 1.0, 1), confidence[:, fallen]
        )
    everything = dice.chance(0.02)
    exchanged = everything[:, None]
    xy = torch.where(everything[:, None, None], xy[:, _MIRROR], xy)
    confidence = torch.where(exchanged, confidence[:, _MIRROR], confidence)

    xy, confidence, present = _truncated(xy, confidence, dice)
    # Some detectors' confidences mean little, some users give none at all.
    confidence = torch.where(dice.chance(0.08)[:, None], torch.ones_like(confidence), confidence)
    confidence = torch.where(
        dice.chance(0.08)[:, None],
        confidence * dice.uniform(0.2, 1.0, 1) * dice.uniform(0.7, 1.0, NUM_SLOTS),
        confidence,
    )
    return replace(seen, rays=xy * size + middle, confidence=confidence, present=present), everything


def _truncated(xy: Tensor, confidence: Tensor, dice: Dice) -> tuple[Tensor, Tensor, Tensor]:
    """Cut by the picture's border on one side, mostly the lower one; points beyond are guessed or missing."""
    angle = torch.where(
        dice.chance(0.65),
        torch.full_like(xy[:, 0, 0], math.pi / 2),
        (dice.uniform(0.0, 4.0).floor() * math.pi / 2),
    )
    along = xy[..., 0] * angle.cos()[:, None] + xy[..., 1] * angle.sin()[:, None]
    low, high = along.amin(1), along.amax(1)
    border = low + (high - low) * dice.uniform(0.25, 1.0)
    beyond = (along - border[:, None]).clamp(min=0) * dice.chance(0.3)[:, None]
    out = beyond > 0
    guessed = xy + 0.5 * beyond[..., None] * dice.normal(NUM_SLOTS, 2)
    # Guesses huddle near the border.
    normal = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    guessed = guessed - normal * (beyond * dice.uniform(0.0, 0.7, 1))[..., None]
    xy = torch.where(out[..., None], guessed, xy)
    confidence = torch.where(out, confidence * 0.5 * dice.uniform(0.0, 1.0, NUM_SLOTS).square(), confidence)
    missing = out & dice.chance(0.3)[:, None]
    return xy, confidence, 1.0 - missing.to(xy.dtype)


def _spoiled_landmarks(seen: Seen, exchanged: Tensor, points: BodyPoints, dice: Dice) -> Seen:
    """BlazePose's typical errors: tilted as a whole, wrong depth, limbs turned, flipped towards or away, garbage."""
    wrong = dice.uniform(0.0, 1.0)[:, None, None] * dice.normal(24, 3) * 0.3
    wrong[:, 0] = dice.normal(3) * dice.uniform(0.0, 1.0, 1) * wrong.new_tensor([0.3, 0.2, 0.12])
    wrong[:, [3, 6, 9, 12, 13, 14]] *= 0.4
    rotations = seen.rotations @ rotvec_to_rotmat(wrong)
    rotations[:, 0] = rotvec_to_rotmat(wrong[:, 0]) @ seen.rotations[:, 0]
    _, _, keypoints = points(rotations, seen.betas + dice.normal(NUM_BETAS) * 0.5)
    hips = keypoints[:, [_INDEX["left_hip"], _INDEX["right_hip"]]].mean(1, keepdim=True)
    found = keypoints - hips
    found = torch.where(exchanged[:, None, None], found[:, _MIRROR], found)
    found = found * (0.95 * torch.exp(0.1 * dice.normal(1, 1)))
    depth = torch.exp((0.25 * dice.normal() - 0.1).clamp(-0.8, 0.5))
    found = found * torch.stack([torch.ones_like(depth), torch.ones_like(depth), depth], -1)[:, None]
    for anchor, group in _FLIPPABLE:
        hit = dice.chance(0.03)[:, None]
        z = found[:, group, 2]
        found[:, group, 2] = torch.where(hit, 2 * found[:, anchor, None, 2] - z, z)
    found = found + dice.uniform(0.0, 0.03, 1, 1) * dice.normal(NUM_SLOTS, 3)
    found = torch.where(dice.chance(0.02)[:, None, None], found.roll(1, 0), found)
    return replace(seen, landmarks=found)


def as_other_sets(seen: Seen, dice: Dice) -> Seen:
    """Some people come with another keypoint set, without 3D landmarks, or lack points anywhere."""
    present, has = seen.present, seen.has_landmarks
    choice = dice.uniform(0.0, 1.0)
    low = 0.65
    for name, share in (("coco17", 0.15), ("openpose25", 0.12), ("lsp14", 0.08)):
        _, filled = to_slots(present.new_zeros(1, len(_names(name)), 3), name)
        taken = (choice >= low) & (choice < low + share)
        present = torch.where(taken[:, None], present * filled, present)
        low += share
    has = has * (choice < 0.65) * (~dice.chance(0.2))
    lost = dice.chance(0.15)[:, None] & dice.chance(0.2, NUM_SLOTS)
    present = present * (~lost)
    return replace(
        seen,
        present=present,
        confidence=seen.confidence * present,
        has_landmarks=has,
        landmarks=seen.landmarks * has[:, None, None],
    )


def _names(set_name: str) -> tuple[str, ...]:
    from kouros.body.keypoints import keypoint_set

    return keypoint_set(set_name).names


def to_training(seen: Seen, points: BodyPoints, focal_error: Float[Tensor, " batch"]) -> tuple[View, Truth]:
    """The network's input and what it should answer.

    Args:
        focal_error: assumed focal length over the true one. The truth is then the pose relative to the line of
            sight, at the distance that gives the size seen.
    """
    assumed = view_of(
        seen.rays / focal_error[:, None, None], seen.confidence, seen.present, seen.landmarks, seen.has_landmarks
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


def _focal_errors(dice: Dice) -> Tensor:
    return torch.where(dice.chance(0.5), torch.exp(0.25 * dice.normal()), torch.ones_like(dice.uniform(0.0, 1.0)))


def artificial_batch(bank: PoseBank, points: BodyPoints, count: int, generator: torch.Generator) -> tuple[View, Truth]:
    """Samples with artificial corruption, from poses drawn without end."""
    dice = Dice(count, generator)
    rotations = drawn_poses(bank, count, generator)
    seen, _ = seen_through_cameras(rotations, _betas(dice), points, dice)
    return to_training(as_other_sets(spoiled(seen, points, dice), dice), points, _focal_errors(dice))


def _betas(dice: Dice) -> Tensor:
    return (dice.normal(NUM_BETAS)).clamp(-2.5, 2.5)


# --- Measured detections ---------------------------------------------------------------------------------------


class Shards:
    """Detections of rendered people that another process writes; read as they appear."""

    def __init__(self, folder: Path | None, prefix: str, device: torch.device) -> None:
        self._folder, self._prefix, self._device = folder, prefix, device
        self._read: set[Path] = set()
        self._parts: list[Seen] = []
        self.seen: Seen | None = None

    def look(self) -> int:
        """Read what is new; how many samples there are."""
        if self._folder is not None:
            for path in sorted(self._folder.glob(f"{self._prefix}*.npz")):
                if path not in self._read:
                    self._read.add(path)
                    self._parts.append(_read_shard(path, self._device))
            if self._parts:
                self.seen = _joined(self._parts)
                self._parts = [self.seen]
        return 0 if self.seen is None else len(self.seen.betas)


def _read_shard(path: Path, device: torch.device) -> Seen:
    with np.load(path) as file:
        arrays = {k: torch.from_numpy(file[k].astype(np.float32)).to(device) for k in file.files}
    rotations = rotvec_to_rotmat(arrays["pose"].unflatten(-1, (24, 3)))
    confidence = arrays["keypoints"][..., 2]
    return Seen(
        rotations,
        arrays["betas"],
        arrays["pelvis"],
        arrays["keypoints"][..., :2],
        confidence,
        torch.ones_like(confidence),
        arrays["landmarks"],
        torch.ones_like(confidence[:, 0]),
    )


def _joined(parts: list[Seen]) -> Seen:
    return Seen(*(torch.cat([getattr(p, f) for p in parts]) for f in Seen.__dataclass_fields__))


def _rows(seen: Seen, rows: Tensor) -> Seen:
    return Seen(*(getattr(seen, f)[rows] for f in Seen.__dataclass_fields__))


def measured_batch(stored: Seen, points: BodyPoints, count: int, generator: torch.Generator) -> tuple[View, Truth]:
    """Stored detections, mirrored, rolled, a little noisier, some points lost."""
    dice = Dice(count, generator)
    rows = torch.randint(len(stored.betas), (count,), generator=generator, device=generator.device)
    seen = _rows(stored, rows)
    seen = _mirrored_where(seen, dice.chance(0.5))
    turn = about(2, torch.where(dice.chance(0.15), dice.uniform(-0.8, 0.8), 0.05 * dice.normal()))
    rotations = torch.cat([(turn @ seen.rotations[:, 0])[:, None], seen.rotations[:, 1:]], 1)
    rays = seen.rays @ turn[:, :2, :2].mT
    size = (rays - rays.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt()[:, None, None]
    noise = torch.where(dice.chance(0.5), dice.uniform(0.0, 0.05), torch.zeros_like(dice.uniform(0.0, 1.0)))
    rays = rays + size * noise[:, None, None] * dice.normal(NUM_SLOTS, 2)
    landmarks = seen.landmarks @ turn.mT
    wrong = rotvec_to_rotmat(0.15 * dice.normal(3) * dice.chance(0.4)[:, None])
    landmarks = landmarks @ wrong.mT + 0.01 * dice.normal(NUM_SLOTS, 3)
    seen = replace(
        seen,
        rotations=rotations,
        pelvis=(turn @ seen.pelvis[..., None])[..., 0],
        rays=rays,
        landmarks=landmarks,
    )
    return to_training(as_other_sets(seen, dice), points, _focal_errors(dice))


def _mirrored_where(seen: Seen, where: Tensor) -> Seen:
    from kouros.body.skeleton import MIRROR

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
    )


# --- Judging ---------------------------------------------------------------------------------------------------


def limb_errors(
    found: Float[Tensor, "batch 12 3"], true: Float[Tensor, "batch 12 3"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Mean distance after moving centroids together, and after the best similarity (PA-MPJPE), millimetres."""
    moved = found - found.mean(1, keepdim=True) + true.mean(1, keepdim=True)
    plain = (moved - true).norm(dim=-1).mean(-1)
    fit = align(found, true)
    aligned = fit.apply(found)
    return 1000 * plain, 1000 * (aligned - true).norm(dim=-1).mean(-1)


@torch.no_grad()
def judge(network: Lifter, view: View, truth: Truth, points: BodyPoints) -> dict[str, float]:
    """Errors of answer 0, of the best answer, and of the landmarks given."""
    answers: Answers = network(view)
    count = answers.rotations.shape[1]
    _, _, keypoints = points(answers.rotations.flatten(0, 1), answers.betas.flatten(0, 1))
    keypoints = keypoints.unflatten(0, (-1, count))[:, :, LIMB_KEYPOINTS]
    true = truth.keypoints[:, LIMB_KEYPOINTS]
    errors = [limb_errors(keypoints[:, k], true) for k in range(count)]
    plain, aligned = (torch.stack(kind) for kind in zip(*errors, strict=True))
    result = {
        "mpjpe": float(plain[0].mean()),
        "pa_mpjpe": float(aligned[0].mean()),
        "best_mpjpe": float(plain.amin(0).mean()),
        "best_pa_mpjpe": float(aligned.amin(0).mean()),
    }
    given = view.has_landmarks > 0
    if bool(given.any()):
        plain, aligned = limb_errors(view.landmarks[given][:, LIMB_KEYPOINTS], true[given])
        result |= {"landmarks_mpjpe": float(plain.mean()), "landmarks_pa_mpjpe": float(aligned.mean())}
    return result


def validation_sets(
    bank: PoseBank, points: BodyPoints, measured: Seen | None, count: int = 4096, seed: int = 99
) -> dict[str, tuple[View, Truth]]:
    """Held-out people: recorded poses of unseen sequences."""
    device = points.rest.device
    generator = torch.Generator(device).manual_seed(seed)
    dice = Dice(count, generator)
    seen, _ = seen_through_cameras(recorded_poses(bank, count, generator), _betas(dice), points, dice)
    one = torch.ones_like(seen.has_landmarks)
    noisy = spoiled(seen, points, dice)
    sets = {
        "clean_2d": to_training(replace(seen, has_landmarks=0 * one, landmarks=0 * seen.landmarks), points, one),
        "noisy_2d": to_training(replace(noisy, has_landmarks=0 * one, landmarks=0 * seen.landmarks), points, one),
        "noisy_2d_3d": to_training(noisy, points, one),
    }
    if measured is not None:
        ones = torch.ones_like(measured.has_landmarks)
        sets["detector"] = to_training(measured, points, ones)
        bare = replace(measured, has_landmarks=0 * ones, landmarks=0 * measured.landmarks)
        sets["detector_2d"] = to_training(bare, points, ones)
    return sets


# --- Training --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast."""

    minutes: float = 18.0
    batch: int = 8192
    learning_rate: float = 1.2e-3
    warmup_steps: int = 500
    weight_decay: float = 1e-3
    ema: float = 0.9995
    most_measured: float = 0.5
    """Largest share of a batch taken from measured detections, reached with `enough_measured` of them."""
    enough_measured: int = 60_000
    report_seconds: float = 45.0
    max_steps: int = 10**9
    seed: int = 0


def train(
    mocap: Path,
    out: Path,
    shards: Path | None,
    config: TrainConfig,
    device: torch.device,
    network_config: LifterConfig | None = None,
    start: Path | None = None,
) -> Lifter:
    """Train, writing ``out/lifter.npz`` (the running average of the weights) and ``out/log.jsonl``."""
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    generator = torch.Generator(device).manual_seed(config.seed)
    points = BodyPoints(load_body()).to(device)
    train_bank, val_bank = (read_bank(mocap, split).to(device) for split in ("train", "val"))
    network = load_weights(start).train().requires_grad_(True) if start else Lifter(network_config)
    network = network.to(device)
    average = copy.deepcopy(network).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98)
    )
    measured, held_out = Shards(shards, "train", device), Shards(shards, "val", device)
    begin = reported = time.monotonic()
    step, samples, loss_sum = 0, 0, torch.zeros((), device=device)
    stored = measured.look()
    while True:
        passed = (time.monotonic() - begin) / (60 * config.minutes)
        done = passed >= 1 or step >= config.max_steps
        if done or time.monotonic() - reported > config.report_seconds:
            held_out.look()
            stored = measured.look()
            sets = validation_sets(val_bank, points, held_out.seen)
            line = {
                "step": step,
                "seconds": round(time.monotonic() - begin, 1),
                "samples": samples,
                "loss": float(loss_sum) / max(step, 1),
                "measured": stored,
                **{name: judge(average, *pair, points) for name, pair in sets.items()},
            }
            with (out / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            save_weights(out / "lifter.npz", average)
            reported = time.monotonic()
        if done:
            (out / "done").touch()
            return average
        # Linear warm-up, then a cosine over the time there is.
        rate = 0.5 * (1 + math.cos(math.pi * min(1.0, passed))) * min(1.0, (step + 1) / config.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * max(rate, 1e-3)
        with torch.no_grad():
            share = config.most_measured * min(1.0, stored / config.enough_measured)
            real = int(config.batch * share)
            view, truth = artificial_batch(train_bank, points, config.batch - real, generator)
            if real and measured.seen is not None:
                view, truth = _both((view, truth), measured_batch(measured.seen, points, real, generator))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            answers = network(view)
        loss, _ = losses(answers, truth, view, points)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            decay = min(config.ema, (1 + step) / (10 + step))
            ours: list[Tensor] = list(average.parameters())
            torch._foreach_lerp_(ours, list(network.parameters()), 1 - decay)
            loss_sum = loss.detach() if step == 0 else loss_sum + loss.detach()
        step += 1
        samples += config.batch


def _both(one: tuple[View, Truth], other: tuple[View, Truth]) -> tuple[View, Truth]:
    view = View(*(torch.cat([getattr(one[0], f), getattr(other[0], f)]) for f in View.__dataclass_fields__))
    truth = Truth(*(torch.cat([getattr(one[1], f), getattr(other[1], f)]) for f in Truth.__dataclass_fields__))
    return view, truth
