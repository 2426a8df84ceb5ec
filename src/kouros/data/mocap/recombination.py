"""Human poses without end: motion capture mirrored, recombined limb by limb, jittered, and drawn by rule.

Motion capture has hardly any people sitting, lying, kneeling or folding their arms, and photos are full of them,
so a share of the draws puts limbs into such families of poses, each a few joint angles with ranges inside
the joints' limits. Everything is drawn in batches on the generator's device.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.archives import ArchiveError, read_npz
from kouros.body.skeleton import JOINT_NAMES, MIRROR, NUM_JOINTS
from kouros.geometry.rotations import mirror_rotmat, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.limits import load_limits

_J = {name: index for index, name in enumerate(JOINT_NAMES)}
_SPINE = tuple(_J[n] for n in ("spine1", "spine2", "spine3"))
_HEAD = tuple(_J[n] for n in ("neck", "head"))
_LEGS = tuple(tuple(_J[f"{s}_{n}"] for n in ("hip", "knee", "ankle", "foot")) for s in ("left", "right"))
_ARMS = tuple(
    tuple(_J[f"{s}_{n}"] for n in ("collar", "shoulder", "elbow", "wrist", "hand")) for s in ("left", "right")
)
_LIMBS = (_SPINE, _HEAD, *_LEGS, *_ARMS)


@dataclass(frozen=True)
class PoseConfig:
    """How far drawn poses stray from the recorded ones. Shares are probabilities."""

    recombined: float = 0.4
    """Share of poses some of whose limbs come from other poses."""
    posed_legs: float = 0.25
    """Share of poses with legs of a drawn family (sitting, kneeling, crouching, lying ...)."""
    posed_arms: float = 0.25
    """Share with arms of a drawn family (reaching, folded, on the hips ...)."""
    noise: float = 0.12
    """Largest standard deviation of a joint's jitter, radians; each pose draws its own below it."""
    any_heading: float = 0.1
    """Share of bodies turned any way at all; the others stand as recorded, with a heading drawn."""
    athletic: float = 0.0
    """Share of poses of `athletic_poses`, in place of what they would have been."""


@dataclass(frozen=True)
class PoseBank:
    """Recorded poses to draw from."""

    rotations: Float[Tensor, "poses 24 3 3"]
    """Root in a world with y up, the others relative to their parents."""

    def to(self, device: torch.device | str) -> "PoseBank":
        """The same on a device."""
        return PoseBank(self.rotations.to(device))


def read_bank(path: Path, split: str) -> PoseBank:
    """Poses of one split of ``diverse_frames.npz`` (arrays ``poses`` (N, 72) and ``split``).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or no pose of that split.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There are no motion-capture poses at {path}; pass the path of diverse_frames.npz.")
    try:
        file = read_npz(path, {"poses": ((None, 3 * NUM_JOINTS), "float32"), "split": ((None,), "text")})
        poses = file["poses"][file["split"] == split]
    except (ArchiveError, IndexError) as error:
        raise ValueError(f"{path} holds no motion-capture poses ({error}); pass diverse_frames.npz.") from None
    if not len(poses):
        raise ValueError(f"{path} holds no pose of split {split!r}; its splits are train and val.")
    rotvecs = torch.from_numpy(poses).unflatten(-1, (NUM_JOINTS, 3))
    return PoseBank(rotvec_to_rotmat(rotvecs))


def recorded_poses(bank: PoseBank, count: int, generator: torch.Generator) -> Float[Tensor, "count 24 3 3"]:
    """Poses as recorded, or their mirror images; root in a world with y up, heading drawn uniformly."""
    draw = Draws(count, generator)
    rotations = draw.mirrored(draw.picks(bank))
    return draw.turned(rotations)


def drawn_poses(
    bank: PoseBank, count: int, generator: torch.Generator, config: PoseConfig | None = None
) -> Float[Tensor, "count 24 3 3"]:
    """Poses to train on. Root in a world with y up."""
    config = config or PoseConfig()
    draw = Draws(count, generator)
    rotations = draw.mirrored(draw.picks(bank))
    recombine = draw.chance(config.recombined)
    for limb in _LIMBS:
        other = draw.mirrored(draw.picks(bank))
        take = recombine & draw.chance(0.5)
        rotations[:, limb] = torch.where(take[:, None, None, None], other[:, limb], rotations[:, limb])
    rotations = _posed_legs(rotations, draw, config.posed_legs)
    rotations = _posed_arms(rotations, draw, config.posed_arms)
    spread = draw.uniform(0.0, config.noise)[:, None, None]
    jitter = spread * draw.normal(NUM_JOINTS, 3)
    jitter[:, [_J["left_hand"], _J["right_hand"]]] = 0.0
    rotations = rotations @ rotvec_to_rotmat(jitter)
    rotations = draw.turned(rotations)
    anyhow = draw.chance(config.any_heading)[:, None, None]
    rotations[:, 0] = torch.where(anyhow, draw.rotations(), rotations[:, 0])
    if config.athletic:  # without any, the numbers drawn for a seed stay what they are
        chosen = draw.chance(config.athletic)[:, None, None, None]
        rotations = torch.where(chosen, athletic_poses(draw), rotations)
    return rotations


def athletic_poses(draw: "Draws") -> Float[Tensor, "count 24 3 3"]:
    """Poses as in sports: each limb on its own, the trunk bent and twisted; upright, bent over, or turned any way.

    Within the limits of joints, but limbs may run through each other. Root in a world with y up.
    """
    rotations = torch.eye(3, device=draw.device).repeat(draw.count, NUM_JOINTS, 1, 1)
    bend, twist, sideways = torch.deg2rad(draw.uniform(-15.0, 30.0)), 0.25 * draw.normal(), 0.2 * draw.normal()
    spine = torch.stack([bend, twist, sideways], dim=-1)[:, None] * draw.uniform(0.5, 1.0, 3, 1)
    rotations[:, _SPINE] = rotvec_to_rotmat(spine)
    rotations[:, _HEAD] = rotvec_to_rotmat(0.25 * draw.normal(2, 3))
    rotations = leg_rotations(rotations, draw, _ATHLETIC_LEGS, alike=0.25)
    rotations = arm_rotations(rotations, draw, _ATHLETIC_ARMS, alike=0.35)
    lean = torch.where(draw.chance(0.5), draw.uniform(-15.0, 25.0), draw.uniform(-60.0, 100.0))
    root = about(0, torch.deg2rad(lean)) @ about(2, 0.2 * draw.normal())
    root = about(1, draw.uniform(-math.pi, math.pi)) @ root
    anyhow = draw.chance(0.3)[:, None, None]
    rotations[:, 0] = torch.where(anyhow, draw.rotations(), root)
    return within_limits(rotations)


def within_limits(rotations: Float[Tensor, "count 24 3 3"]) -> Float[Tensor, "count 24 3 3"]:
    """The nearest pose, number by number, that joints allow; the root as it is."""
    pose = rotmat_to_rotvec(rotations[:, 1:]).flatten(1)
    pose = pose - load_limits().to(pose).excess(pose)
    return torch.cat([rotations[:, :1], rotvec_to_rotmat(pose.unflatten(-1, (23, 3)))], dim=1)


class Draws:
    """Random numbers for ``count`` poses, or whatever there are as many of."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator
        self.device = generator.device

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Between two bounds: one a pose, or of a shape for each."""
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of a shape, for each pose."""
        return torch.randn(self.count, *shape, generator=self.generator, device=self.device)

    def chance(self, share: float, *shape: int) -> Tensor:
        """True with a probability."""
        return torch.rand(self.count, *shape, generator=self.generator, device=self.device) < share

    def below(self, bound: int) -> Tensor:
        """Whole numbers from 0."""
        return torch.randint(bound, (self.count,), generator=self.generator, device=self.device)

    def picks(self, bank: PoseBank) -> Tensor:
        """Recorded poses."""
        return bank.rotations[self.below(len(bank.rotations))]

    def rotations(self) -> Tensor:
        """Rotations drawn uniformly."""
        quat = torch.nn.functional.normalize(self.normal(4), dim=-1)
        w, v = quat[:, 0], quat[:, 1:]
        cross = _cross_matrix(v)
        eye = torch.eye(3, device=self.device)
        return eye + 2 * w[:, None, None] * cross + 2 * cross @ cross

    def mirrored(self, rotations: Tensor) -> Tensor:
        """Each pose or, as often, its mirror image."""
        flip = self.chance(0.5)[:, None, None, None]
        return torch.where(flip, mirror_rotmat(rotations[:, list(MIRROR)]), rotations)

    def turned(self, rotations: Tensor) -> Tensor:
        """The root turned about the vertical so that its front faces a direction drawn uniformly."""
        root = rotations[:, 0]
        ahead = torch.atan2(root[:, 0, 2], root[:, 2, 2])
        turn = about(1, self.uniform(-math.pi, math.pi) - ahead)
        return torch.cat([(turn @ root)[:, None], rotations[:, 1:]], dim=1)


def _cross_matrix(v: Tensor) -> Tensor:
    zero = torch.zeros_like(v[:, 0])
    x, y, z = v.unbind(-1)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def about(axis: int, angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation about the x (0), y (1) or z (2) axis, radians."""
    rotvec = torch.zeros(*angle.shape, 3, dtype=angle.dtype, device=angle.device)
    rotvec[..., axis] = angle
    return rotvec_to_rotmat(rotvec)


# Ranges of joint angles, degrees. A leg: flexion of the hip (knee forward and up), abduction (knee outward), turn
# of the thigh about itself (toes outward), flexion of the knee, flexion of the ankle (toes up).
_LEG_FAMILIES = {
    "chair": ((65, 110), (-5, 25), (-15, 20), (50, 115), (-20, 20)),
    "legs_out": ((60, 100), (-5, 35), (-20, 30), (0, 40), (-40, 10)),
    "cross_legged": ((70, 115), (25, 60), (20, 65), (95, 145), (-20, 20)),
    "squat": ((95, 135), (0, 35), (-5, 30), (110, 150), (0, 35)),
    "kneel": ((-15, 25), (-5, 15), (-15, 15), (85, 150), (-55, 10)),
    "on_heels": ((70, 110), (0, 20), (-15, 15), (135, 155), (-55, -20)),
    "lunge": ((40, 105), (-5, 20), (-15, 15), (50, 110), (-10, 25)),
    "straight": ((-15, 25), (-5, 20), (-10, 25), (0, 15), (-30, 10)),
    "raised": ((30, 120), (0, 60), (-20, 40), (0, 90), (-40, 15)),
    "kicking": ((40, 125), (-5, 50), (-25, 35), (0, 40), (-45, 10)),
    "apart": ((-15, 60), (30, 75), (-10, 40), (0, 50), (-40, 15)),
    "backwards": ((-38, 0), (-5, 30), (-20, 30), (0, 110), (-50, 10)),
    "tucked": ((80, 125), (-5, 35), (-15, 30), (90, 150), (-40, 20)),
}
_LEG_RANGES = torch.tensor(list(_LEG_FAMILIES.values()), dtype=torch.float32)
_ATHLETIC_LEGS = ("straight", "lunge", *("kicking", "apart", "backwards") * 2, "tucked")
_EVERYDAY_LEGS = tuple(n for n in _LEG_FAMILIES if n in ("straight", "lunge") or n not in _ATHLETIC_LEGS)
# An arm: elevation of the upper arm from hanging, its azimuth (0 sideways, 90 forward, 120 across the chest), turn
# about itself (positive brings the forearm up), flexion of the elbow.
_ARM_FAMILIES = {
    "hanging": ((0, 25), (-30, 110), (-40, 60), (0, 60)),
    "reaching": ((50, 170), (-20, 115), (-60, 90), (0, 60)),
    "folded": ((15, 50), (70, 115), (-20, 25), (85, 130)),
    "on_hips": ((25, 60), (-30, 30), (-100, -45), (70, 125)),
    "hand_at_head": ((40, 150), (-10, 110), (0, 110), (95, 150)),
    "in_lap": ((5, 50), (20, 95), (-30, 40), (30, 100)),
    "behind": ((10, 60), (-80, -30), (-90, 0), (0, 90)),
    "anywhere": ((0, 175), (-70, 125), (-90, 90), (0, 130)),
    "overhead": ((140, 178), (-20, 110), (-60, 90), (0, 70)),
}
_ARM_RANGES = torch.tensor(list(_ARM_FAMILIES.values()), dtype=torch.float32)
_ATHLETIC_ARMS = ("anywhere", "anywhere", "reaching", "overhead", "hanging", "behind")
_EVERYDAY_ARMS = tuple(n for n in _ARM_FAMILIES if n not in ("anywhere", "overhead"))


def _angles(draw: Draws, ranges: Tensor, family: Tensor) -> Tensor:
    low, high = ranges.to(draw.device)[family].unbind(-1)
    share = torch.rand(low.shape, generator=draw.generator, device=draw.device)
    return torch.deg2rad(low + share * (high - low))


def leg_rotations(
    rotations: Float[Tensor, "count 24 3 3"], draw: Draws, families: tuple[str, ...], alike: float = 0.75
) -> Float[Tensor, "count 24 3 3"]:
    """Legs of one of the families each; with chance ``alike`` both legs are of one."""
    numbers = torch.tensor([list(_LEG_FAMILIES).index(name) for name in families], device=draw.device)
    first, second = numbers[draw.below(len(numbers))], numbers[draw.below(len(numbers))]
    second = torch.where(draw.chance(alike), first, second)
    return _with_legs(rotations, draw, (first, second))


def arm_rotations(
    rotations: Float[Tensor, "count 24 3 3"], draw: Draws, families: tuple[str, ...], alike: float = 0.6
) -> Float[Tensor, "count 24 3 3"]:
    """Arms of one of the families each; with chance ``alike`` both arms are of one."""
    numbers = torch.tensor([list(_ARM_FAMILIES).index(name) for name in families], device=draw.device)
    first, second = numbers[draw.below(len(numbers))], numbers[draw.below(len(numbers))]
    second = torch.where(draw.chance(alike), first, second)
    return _with_arms(rotations, draw, (first, second))


def _with_legs(rotations: Tensor, draw: Draws, families: tuple[Tensor, Tensor]) -> Tensor:
    rotations = rotations.clone()
    for side, (limb, family) in enumerate(zip(_LEGS, families, strict=True)):
        hip, out, turn, knee, ankle = _angles(draw, _LEG_RANGES, family).unbind(-1)
        sign = 1.0 if side == 0 else -1.0
        thigh = about(2, sign * out) @ about(0, -hip) @ about(1, sign * turn)
        rotations[:, limb[:3]] = torch.stack([thigh, about(0, knee), about(0, -ankle)], dim=1)
    return rotations


def _with_arms(rotations: Tensor, draw: Draws, families: tuple[Tensor, Tensor]) -> Tensor:
    rotations = rotations.clone()
    for side, (limb, family) in enumerate(zip(_ARMS, families, strict=True)):
        up, azimuth, turn, elbow = _angles(draw, _ARM_RANGES, family).unbind(-1)
        sign = 1.0 if side == 0 else -1.0
        # From the T-pose (arm along +-x): turn about itself, lower, then swing the arm's plane about the vertical.
        lowered = about(2, sign * (up - math.pi / 2))
        shoulder = about(1, -sign * azimuth) @ lowered @ about(0, -turn)
        rotations[:, limb[1:3]] = torch.stack([shoulder, about(1, -sign * elbow)], dim=1)
    return rotations


def _posed_legs(rotations: Tensor, draw: Draws, share: float) -> Tensor:
    # Mostly both legs of one family, as people sit; else each its own.
    chosen = draw.chance(share)
    posed = leg_rotations(rotations, draw, _EVERYDAY_LEGS, alike=0.7)
    # Sitters lean, liers lie: the pelvis tips back or forward, now and then by a quarter turn.
    lean = draw.normal() * 0.3 + torch.where(draw.chance(0.3), draw.uniform(-1.7, 1.7), draw.uniform(0.0, 0.0))
    upright = about(0, lean) @ about(2, 0.15 * draw.normal())
    posed = torch.cat([upright[:, None], posed[:, 1:]], dim=1)
    return torch.where(chosen[:, None, None, None], posed, rotations)


def _posed_arms(rotations: Tensor, draw: Draws, share: float) -> Tensor:
    chosen = draw.chance(share)
    posed = arm_rotations(rotations, draw, _EVERYDAY_ARMS)
    return torch.where(chosen[:, None, None, None], posed, rotations)
