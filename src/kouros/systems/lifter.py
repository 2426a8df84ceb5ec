"""A learned start: from one person's keypoints to a body, in a millisecond.

A small network takes 2D keypoints with confidences and, where given, noisy 3D landmarks, and answers with
``global_orient``, ``body_pose``, ``betas`` and ``transl``. It has seen millions of poses through random cameras
with all that detectors do to keypoints, so it tolerates them; a fit refines its answer. From top to bottom:
configuration, what the network sees, the network, its answers, losses, prediction.

**The camera is taken out of the input.** Pixels become rays; a virtual camera is turned to look at the middle
of the person; the picture is divided by the person's angular size. Where in the photo somebody stands and how far
the lens zooms leaves no trace but the strength of perspective, which is an input of its own. The network's
orientation is the one that the virtual camera sees, and is turned back.

**One network for all keypoint sets.** BlazePose's 33 points are the slots; another set fills those slots that
mean the same point and leaves the others absent.

**Several answers.** A pose is not determined by its picture: a forearm may point to the camera or away. Answer 0
is trained on every sample and is the best single guess; of the others only the one nearest to the truth
learns from a sample, so they spread over what else it may be (Guzman-Rivera et al., NIPS 2012). A fit
started from each, judged by its own objective, chooses.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kouros.archives import ArchiveError
from kouros.batched import Batched, stack
from kouros.body.files import FREE_BODY
from kouros.body.keypoints import BLAZEPOSE33, COCO17, KeypointSet, keypoint_set
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS
from kouros.fitting.terms.calibration import detector_tables
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rot6d_to_rotmat, rotmat_to_rotvec
from kouros.network_files import read_network, write_network
from kouros.networks.perceptron import ResidualLayer
from kouros.sentences import first_line
from kouros.systems.estimator import Estimate, PersonInPhoto, by_keypoint_set

# --- Configuration ---------------------------------------------------------------------------------------------

NUM_SLOTS = len(BLAZEPOSE33)
NUM_DEPTHS = len(COCO17)
NUM_BETAS = 10
PACKAGED_WEIGHTS = Path(__file__).with_suffix(".npz")
UNDERSTATED = 1.15
"""How far joints lie from the truth after the fit over how far the network expects: it has learned what it expects from
people of whom it knew much. 1.16 on 734 dressed renders of poses that it has not seen, 1.15 on 796 others by this
measure (`benchmarks/uncertainty.py`)."""
_WIDEST = 16384


@dataclass(frozen=True)
class LifterConfig:
    """Size of the network."""

    width: int = 768
    blocks: int = 3
    answers: int = 4


@dataclass(frozen=True)
class LossWeights:
    """Weights of the losses; positions are metres, so 1 is a metre's."""

    joints: float = 6.0
    keypoints: float = 3.0
    rotations: float = 1.0
    reprojection: float = 1.0
    placement: float = 0.3
    betas: float = 0.02
    spread: float = 0.05


# --- What the network sees -------------------------------------------------------------------------------------

_BODY_POINTS = tuple(
    BLAZEPOSE33.index(n)
    for n in (
        "nose", *(f"{s}_{p}" for s in ("left", "right") for p in (
            "shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    )
)  # fmt: skip
_MINOR_WEIGHT = 0.02
"""Of points other than `_BODY_POINTS`, in the person's middle and size: they matter where only a face is seen."""
_LEAST_SIZE = 1e-4
"""Radians: a person smaller than this has no size."""


@dataclass(frozen=True)
class View(Batched):
    """One person seen by the virtual camera that looks at their middle."""

    points: Float[Tensor, "batch 33 2"]
    """On the plane at depth 1, divided by ``size``; 0 where absent."""
    confidence: Float[Tensor, "batch 33"]
    """In [0, 1]; 0 where absent."""
    present: Float[Tensor, "batch 33"]
    """1 where the keypoint set has the point and a position was given."""
    size: Float[Tensor, " batch"]
    """Root mean square angle between the points and their middle, as a tangent."""
    rotation: Float[Tensor, "batch 3 3"]
    """From the camera to the virtual camera."""
    landmarks: Float[Tensor, "batch 33 3"]
    """Metres, relative to the middle of the hips; 0 where absent. The axes are the virtual camera's: a detector that
    looks at a crop sees the person as that camera does, wherever in the photo the crop lies."""
    has_landmarks: Float[Tensor, " batch"]
    """1 where there are 3D landmarks."""
    depths: Float[Tensor, "batch 17 2"]
    """How far beyond the middle of the hips the picture shows COCO's points, along the virtual camera's axis, and the
    expected error, both over the hips' distance and over ``size``; 0 where absent."""
    has_depths: Float[Tensor, " batch"]
    """1 where there are depths."""


def to_slots(
    keypoints: Float[Tensor, "batch given 3"], set_name: str
) -> tuple[Float[Tensor, "batch 33 3"], Float[Tensor, " slots"]]:
    """Keypoints (x, y, confidence) of any set in the 33 slots; and which slots the set fills (1 or 0)."""
    source, slot = _slot_indices(set_name)
    slots = keypoints.new_zeros(len(keypoints), NUM_SLOTS, 3)
    slots[:, list(slot)] = keypoints[:, list(source)]
    filled = keypoints.new_zeros(NUM_SLOTS)
    filled[list(slot)] = 1.0
    return slots, filled


_SAME_POINT = {
    "left_hip_lsp": "left_hip",
    "right_hip_lsp": "right_hip",
    "left_big_toe": "left_foot_index",
    "right_big_toe": "right_foot_index",
}
"""Points of other sets that lie within a few centimetres of a slot's: better than none."""


@cache
def _slot_indices(set_name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    names = keypoint_set(set_name).names
    pairs: dict[int, int] = {}
    for index, name in enumerate(names):
        name = name.replace("openpose_", "")
        slot = _SAME_POINT.get(name, name)
        if slot not in BLAZEPOSE33.names:
            continue
        # The exact name wins over a neighbour, the first over a repeat.
        if BLAZEPOSE33.index(slot) not in pairs or slot == names[index]:
            pairs[BLAZEPOSE33.index(slot)] = index
    return tuple(pairs.values()), tuple(pairs)


def view_of(
    rays: Float[Tensor, "batch 33 2"],
    confidence: Float[Tensor, "batch 33"],
    present: Float[Tensor, "batch 33"],
    landmarks: Float[Tensor, "batch 33 3"] | None = None,
    has_landmarks: Float[Tensor, " batch"] | None = None,
    depths: Float[Tensor, "batch 17 2"] | None = None,
) -> View:
    """What the virtual camera sees.

    Turning the camera about its centre changes neither the middle nor the size, both taken over directions; the
    virtual camera is reached by the smallest rotation that looks at the middle.

    Args:
        rays: x and y at depth 1, in the axes of the camera.
        confidence: in [0, 1].
        present: 1 where there is a point at all.
        landmarks: as in `View`, metres.
        depths: of COCO's points relative to the middle of the hips, and their expected errors, over the hips' distance;
            expected errors of 0: there are none.
    """
    finite = torch.isfinite(rays).all(-1) & torch.isfinite(confidence)
    rays = torch.where(finite[..., None], rays, 0.0).clamp(-50.0, 50.0)
    confidence = torch.where(finite, confidence, 0.0).clamp(0.0, 1.0)
    present = present * finite
    directions = nn.functional.normalize(torch.cat([rays, torch.ones_like(rays[..., :1])], -1), dim=-1)
    weight = torch.full_like(confidence, _MINOR_WEIGHT)
    weight[:, list(_BODY_POINTS)] = 1.0
    # A floor, for people all of whose points are doubted.
    weight = (weight * (confidence + 1e-3) * present)[..., None]
    middle = nn.functional.normalize((weight * directions).sum(1) + directions.new_tensor([0, 0, 1e-9]), dim=-1)
    rotation = look_at(middle)
    turned = directions @ rotation.mT
    seen = turned[..., :2] / turned[..., 2:].clamp(min=0.05)
    size = ((weight * seen.square()).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1e-9)).sqrt().clamp(min=_LEAST_SIZE)
    if landmarks is None:
        landmarks = rays.new_zeros(*rays.shape[:2], 3)
        has_landmarks = rays.new_zeros(len(rays))
    elif has_landmarks is None:
        has_landmarks = rays.new_ones(len(rays))
    if depths is None:
        depths = rays.new_zeros(len(rays), NUM_DEPTHS, 2)
    deep = torch.isfinite(depths).all(-1).all(-1) & (depths[..., 1] > 0).all(-1)
    depths = torch.where(deep[:, None, None], depths / size[:, None, None], 0.0).clamp(-8.0, 8.0)
    whole = torch.isfinite(landmarks).all(-1).all(-1)
    has_landmarks = has_landmarks * whole
    landmarks = torch.where(has_landmarks[:, None, None] > 0, landmarks, 0.0).clamp(-3.0, 3.0)
    return View(
        points=(seen / size[:, None, None]).clamp(-8.0, 8.0) * present[..., None],
        confidence=confidence * present,
        present=present,
        size=size,
        rotation=rotation,
        landmarks=landmarks,
        has_landmarks=has_landmarks,
        depths=depths,
        has_depths=deep.to(rays),
    )


def look_at(direction: Float[Tensor, "batch 3"]) -> Float[Tensor, "batch 3 3"]:
    """The smallest rotation that takes a unit direction, in front of the camera, to the z axis."""
    x, y, z = direction.unbind(-1)
    z = z.clamp(min=-0.99)
    # Rodrigues' formula for the axis (y, -x, 0).
    k = 1 / (1 + z)
    rows = [1 - k * x * x, -k * x * y, -x, -k * x * y, 1 - k * y * y, -y, x, y, z]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


NUM_FEATURES = 4 * NUM_SLOTS + 3 * NUM_SLOTS + 2 * NUM_DEPTHS + 3


def features(view: View) -> Float[Tensor, "batch features"]:
    """A view as the network's input."""
    confidence = view.confidence * view.present
    return torch.cat(
        [
            view.points.flatten(1),
            confidence,
            view.present,
            2.0 * view.landmarks.flatten(1),
            view.has_landmarks[:, None],
            view.size.log()[:, None] / 2 + 1,
            view.depths.flatten(1),
            view.has_depths[:, None],
        ],
        dim=-1,
    )


# --- The network -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answers(Batched):
    """What the network says, in the virtual camera; bodies are not placed yet."""

    rotations: Float[Tensor, "batch answers 24 3 3"]
    """The root's in the virtual camera (y down), the others relative to their parents."""
    betas: Float[Tensor, "batch answers 10"]
    placement: Float[Tensor, "batch answers 3"]
    """The pelvis: its x and y on the plane at depth 1 over ``View.size``, and the logarithm of depth times size."""
    spread: Float[Tensor, "batch 24"]
    """Expected distance of answer 0's joints from the truth, relative to the pelvis, metres."""


class Lifter(nn.Module):
    """A residual perceptron from a view to answers."""

    def __init__(self, config: LifterConfig | None = None) -> None:
        super().__init__()
        self.config = config or LifterConfig()
        width = self.config.width
        self.first = nn.Linear(NUM_FEATURES, width)
        self.blocks = nn.ModuleList(ResidualLayer(width) for _ in range(self.config.blocks))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, self.config.answers * _ANSWER + NUM_JOINTS)
        with torch.no_grad():
            self.last.weight *= 0.3

    def forward(self, view: View) -> Answers:
        """Answers for each person."""
        x = self.first(features(view))
        for block in self.blocks:
            x = block(x)
        out = self.last(self.norm(x))
        # Rotations must not be rounded to what mixed precision multiplies in.
        with torch.autocast(out.device.type, enabled=False):
            return self._answers(out.float())

    def _answers(self, out: Float[Tensor, "batch numbers"]) -> Answers:
        answers = out[:, :-NUM_JOINTS].unflatten(-1, (self.config.answers, _ANSWER))
        six, betas, placement = answers.split((6 * NUM_JOINTS, NUM_BETAS, 3), dim=-1)
        # From where a standing person faces the camera, so that an untrained network already answers with one.
        return Answers(
            rotations=rot6d_to_rotmat(six.unflatten(-1, (NUM_JOINTS, 6)) + _upright_rot6d(six)),
            betas=3.0 * torch.tanh(betas / 3.0),
            placement=placement,
            spread=torch.exp(out[:, -NUM_JOINTS:].clamp(-4.0, 3.0) - 3.0),
        )


_ANSWER = 6 * NUM_JOINTS + NUM_BETAS + 3


def _upright_rot6d(like: Tensor) -> Tensor:
    six = like.new_tensor([1.0, 0, 0, 1, 0, 0]).repeat(NUM_JOINTS, 1)
    six[0] = like.new_tensor([1.0, 0, 0, -1, 0, 0])
    return six


# --- Bodies without meshes -------------------------------------------------------------------------------------


class BodyPoints(nn.Module):
    """Joints and BlazePose's keypoints of a body, by its `KeypointTables`: what training needs of it, on a device.

    Joints of equal depth in the tree are turned together, nine steps instead of twenty-three.
    """

    rest: Float[Tensor, "24 3"]
    rest_shape: Float[Tensor, "24 3 10"]
    joint: Int[Tensor, " pairs"]
    anchor: Float[Tensor, "pairs 3"]
    shape: Float[Tensor, "pairs 3 10"]
    pose: Float[Tensor, "207 pairs_by_3"]
    weight: Float[Tensor, " pairs"]
    gather: Float[Tensor, "33 pairs"]
    _order: Int[Tensor, " 24"]
    _parents: Int[Tensor, " 24"]

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        tables = detector_tables(body.keypoint_tables(BLAZEPOSE33.name), BLAZEPOSE33.name)
        self.register_buffer("rest", body.joint_template.clone(), persistent=False)
        self.register_buffer("rest_shape", body.joint_shapedirs[..., :NUM_BETAS].clone(), persistent=False)
        for name in ("keypoint", "joint", "anchor", "weight"):
            self.register_buffer(name, getattr(tables, name).clone(), persistent=False)
        self.register_buffer("shape", tables.shape[..., :NUM_BETAS].clone(), persistent=False)
        self.register_buffer("pose", tables.pose.flatten(0, 1).T.clone(), persistent=False)
        gather = torch.zeros(NUM_SLOTS, len(tables.joint))
        gather[tables.keypoint, torch.arange(len(tables.joint))] = 1.0
        self.register_buffer("gather", gather, persistent=False)
        levels = [[0]]
        while children := [j for j in range(NUM_JOINTS) if PARENTS[j] in levels[-1]]:
            levels.append(children)
        for k in range(1, len(levels)):
            above = [levels[k - 1].index(PARENTS[j]) for j in levels[k]]
            self.register_buffer(f"_level_{k}", torch.tensor(levels[k]), persistent=False)
            self.register_buffer(f"_above_{k}", torch.tensor(above), persistent=False)
        order = [j for level in levels for j in level]
        self.register_buffer("_order", torch.tensor([order.index(j) for j in range(NUM_JOINTS)]), persistent=False)
        self.register_buffer("_parents", torch.tensor([0, *PARENTS[1:]]), persistent=False)
        self._depth = len(levels)

    def forward(
        self, rotations: Float[Tensor, "batch 24 3 3"], betas: Float[Tensor, "batch 10"]
    ) -> tuple[Float[Tensor, "batch 24 3 3"], Float[Tensor, "batch 24 3"], Float[Tensor, "batch 33 3"]]:
        """Global rotations, joints and keypoints, metres, relative to the pelvis joint."""
        rest = self.rest + torch.einsum("jcb,nb->njc", self.rest_shape, betas)
        rest = rest - rest[:, :1]
        bones = (rest - rest[:, self._parents])[..., None]
        turned, placed = [rotations[:, :1]], [torch.zeros_like(rest[:, :1])]
        for k in range(1, self._depth):
            level, above = getattr(self, f"_level_{k}"), getattr(self, f"_above_{k}")
            parent = turned[-1][:, above]
            placed.append(placed[-1][:, above] + (parent @ bones[:, level])[..., 0])
            turned.append(parent @ rotations[:, level])
        frames, joints = torch.cat(turned, 1)[:, self._order], torch.cat(placed, 1)[:, self._order]
        # The tables count from where the template stands, the joints above from the pelvis.
        pelvis = self.rest[:1] + torch.einsum("jcb,nb->njc", self.rest_shape[:1], betas)
        eye = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        feature = (rotations[:, 1:] - eye).flatten(1)
        local = self.anchor + torch.einsum("pcb,nb->npc", self.shape, betas)
        local = local + (feature @ self.pose).unflatten(-1, (-1, 3)) - self.weight[:, None] * pelvis
        shift = joints - (frames @ rest[..., None])[..., 0]
        pairs = (frames[:, self.joint] @ local[..., None])[..., 0] + self.weight[:, None] * shift[:, self.joint]
        return frames, joints, torch.einsum("kp,npc->nkc", self.gather, pairs)


# --- Losses ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth(Batched):
    """The true body of each view, in the virtual camera."""

    rotations: Float[Tensor, "batch 24 3 3"]
    betas: Float[Tensor, "batch 10"]
    placement: Float[Tensor, "batch 3"]
    """As in `Answers`."""
    joints: Float[Tensor, "batch 24 3"]
    """Relative to the pelvis, metres; so are the keypoints."""
    frames: Float[Tensor, "batch 24 3 3"]
    keypoints: Float[Tensor, "batch 33 3"]


def truth_of(
    rotations: Float[Tensor, "batch 24 3 3"],
    betas: Float[Tensor, "batch 10"],
    placement: Float[Tensor, "batch 3"],
    points: BodyPoints,
) -> Truth:
    """The truth with the positions that follow from it."""
    frames, joints, keypoints = points(rotations, betas)
    return Truth(rotations, betas, placement, joints, frames, keypoints)


LIMB_JOINTS = tuple(
    JOINT_NAMES.index(f"{s}_{j}")
    for s in ("left", "right")
    for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
"""The twelve joints of the limbs, which all datasets share."""


def losses(
    answers: Answers,
    truth: Truth,
    view: View,
    points: BodyPoints,
    weights: LossWeights | None = None,
    *,
    others: float = 0.5,
) -> tuple[Float[Tensor, ""], Float[Tensor, "batch answers"]]:
    """The loss of a batch; and each answer's mean distance from the true limb joints, metres.

    Args:
        others: weight of the answers besides the first, of which the nearest one learns.
    """
    weights = weights or LossWeights()
    count = answers.rotations.shape[1]

    def again(x: Tensor) -> Tensor:
        return x[:, None]

    frames, joints, keypoints = (
        x.unflatten(0, (-1, count)) for x in points(answers.rotations.flatten(0, 1), answers.betas.flatten(0, 1))
    )
    apart = (joints - again(truth.joints)).norm(dim=-1)
    limbs = apart[..., list(LIMB_JOINTS)].mean(-1)
    keypoint_error = (keypoints - again(truth.keypoints)).norm(dim=-1).mean(-1)
    rotation_error = (answers.rotations - again(truth.rotations)).abs().mean((-1, -2, -3))
    rotation_error = rotation_error + (frames - again(truth.frames)).abs().mean((-1, -2, -3))
    placement_error = (answers.placement - again(truth.placement)).abs().mean(-1)
    reprojected = normalised_image(keypoints, answers.placement, view.size[:, None])
    there = normalised_image(truth.keypoints, truth.placement, view.size)
    reprojection = (reprojected - again(there)).abs().clamp(max=4.0).mean((-1, -2))
    each = (
        weights.joints * (0.5 * apart.mean(-1) + 0.5 * limbs)
        + weights.keypoints * keypoint_error
        + weights.rotations * rotation_error
        + weights.placement * placement_error
        + weights.reprojection * reprojection
        + weights.betas * (answers.betas - again(truth.betas)).square().mean(-1)
    )
    first = each[:, 0].mean()
    spread = answers.spread
    # Laplace's likelihood of the distance that answer 0 really has.
    likelihood = (apart[:, 0].detach() / spread + spread.log()).mean()
    total = first + weights.spread * likelihood
    if count > 1:
        rest = each[:, 1:]
        nearest = rest.min(1).values
        # A trickle to all of them, or those that never win never learn.
        total = total + others * (0.95 * nearest + 0.05 * rest.mean(1)).mean()
    return total, limbs


def normalised_image(
    points: Float[Tensor, "*#batch points 3"], placement: Float[Tensor, "*#batch 3"], size: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch points 2"]:
    """Where points relative to the pelvis appear to the virtual camera, over the person's size."""
    pelvis = pelvis_of(placement, size)
    moved = points + pelvis[..., None, :]
    return moved[..., :2] / moved[..., 2:].clamp(min=0.2) / size[..., None, None]


def pelvis_of(placement: Float[Tensor, "*#batch 3"], size: Float[Tensor, "*#batch"]) -> Float[Tensor, "*batch 3"]:
    """Position of the pelvis, metres, axes of the virtual camera."""
    depth = torch.exp(placement[..., 2].clamp(-5.0, 4.0)) / size
    xy = placement[..., :2] * (size * depth)[..., None]
    return torch.cat([xy, depth[..., None]], dim=-1)


def placement_of(pelvis: Float[Tensor, "*batch 3"], size: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3"]:
    """Inverse of `pelvis_of`."""
    depth = pelvis[..., 2]
    xy = pelvis[..., :2] / (size * depth)[..., None]
    return torch.cat([xy, (depth * size).log()[..., None]], dim=-1)


# --- Prediction ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lifted(Batched):
    """Bodies to start a fit from, in the camera that the keypoints were seen by."""

    answers: BodyParameters
    """(batch, answers): best guess first."""
    spread: Float[Tensor, "batch 24"]
    """How far answer 0's joints are expected from the truth, relative to the pelvis, metres."""
    usable: Bool[Tensor, " batch"]
    """False where fewer than three points were seen; the answer is then the network's habit."""


@torch.no_grad()
def predict(
    network: Lifter,
    body: BodyModel,
    keypoints_2d: Float[Tensor, "batch given 3"],
    set_name: str,
    camera: PerspectiveCamera,
    landmarks_3d: Float[Tensor, "batch 33 3"] | None = None,
    depths: Float[Tensor, "batch 17 2"] | None = None,
    *,
    mirrored_too: bool = True,
) -> Lifted:
    """Bodies from keypoints (x, y in pixels, confidence) of any set.

    NaN and infinite keypoints count as absent, confidences are clamped to [0, 1], landmarks that hold a NaN are not
    used. Nothing raises, and nothing is NaN, whatever the values.

    Args:
        landmarks_3d: BlazePose's 33 points, camera axes, metres, relative to the middle of the hips.
        depths: of COCO's points, as `kouros.detection.DetectedPerson` has them; expected errors of 0: there are none.
        mirrored_too: also look at each person in a mirror and average answer 0: exactly mirrored keypoints then
            give exactly mirrored bodies. Twice the work.
    """
    slots, filled = to_slots(keypoints_2d.float(), set_name)
    rays = camera.rays(slots[..., :2])[..., :2]
    present = filled * (slots[..., 2] > 0)
    if depths is not None:
        depths = depths / camera.focal_length[..., None, None]
    view = view_of(rays, slots[..., 2], present, landmarks_3d, depths=depths)
    answers = network(view)
    if mirrored_too:
        answers = _averaged(answers, mirrored_answers(network(mirrored_view(view))))
    back = view.rotation.mT[:, None]
    pelvis = (back @ pelvis_of(answers.placement, view.size[:, None])[..., None])[..., 0]
    shape = body.joint_shapedirs[0, :, :NUM_BETAS].to(pelvis)
    rest_pelvis = body.joint_template[0].to(pelvis) + answers.betas[..., : shape.shape[-1]] @ shape.T
    rotations = torch.cat([back[..., None, :, :] @ answers.rotations[:, :, :1], answers.rotations[:, :, 1:]], dim=2)
    return Lifted(
        answers=BodyParameters(rotmat_to_rotvec(rotations).flatten(-2), answers.betas, pelvis - rest_pelvis),
        spread=UNDERSTATED * answers.spread,
        usable=view.present.sum(-1) >= 3,
    )


class LearnedStart:
    """The packaged network as an estimator of people, best answers only.

    Args:
        body: of its answers. The network's betas are the free body's: another body is answered with at its mean shape.
        network: default: the packaged weights.
        name: as tables print it.
    """

    needs_keypoints = True
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, body: BodyModel, network: Lifter | None = None, name: str = "learned start") -> None:
        self.name = name
        self.body: BodyModel | None = body
        self._network = network or load_weights()

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """From keypoints of any set, and 3D landmarks where all people of a set have them."""
        return [answers[0] if answers else None for answers in self._answers(people, range(1))]

    def others(self, people: Sequence[PersonInPhoto]) -> list[list[Estimate]]:
        """As in `kouros.systems.estimator.SeveralAnswers`: all but the best single guess."""
        return self._answers(people, range(1, self._network.config.answers))

    def _answers(self, people: Sequence[PersonInPhoto], which: range) -> list[list[Estimate]]:
        """Some of the network's answers of each person, in its order; none of whom nobody has detected."""
        answers: list[list[Estimate]] = [[] for _ in people]
        for set_name, members in by_keypoint_set(people).items():
            chosen = [people[i] for i in members]
            for i, several in zip(members, self._lifted(chosen, set_name, which), strict=True):
                answers[i] = several
        return answers

    def _lifted(self, people: Sequence[PersonInPhoto], set_name: str, which: range) -> list[list[Estimate]]:
        assert self.body is not None
        cameras = stack([p.camera for p in people])
        landmarks = [p.detected.landmarks_3d for p in people if p.detected and p.detected.landmarks_3d is not None]
        none = np.zeros((NUM_DEPTHS, 2))
        depths = [none if p.detected is None or p.detected.depths is None else p.detected.depths for p in people]
        lifted = predict(
            self._network,
            self.body,
            torch.stack([p.keypoints for p in people]),
            set_name,
            cameras,
            torch.from_numpy(np.stack(landmarks)).float() if len(landmarks) == len(people) else None,
            torch.from_numpy(np.stack(depths)).float(),
        )
        estimates = []
        for k in which:
            answer = lifted.answers[:, k]
            if self.body.origin != FREE_BODY:
                answer = replace(answer, betas=answer.betas.new_zeros(len(people), self.body.num_betas))
            estimates.append(Estimate(bodies=Bodies.of(answer, cameras), uncertainty=lifted.spread))
        return [[estimate[i] for estimate in estimates] for i in range(len(people))]


def mirrored_view(view: View) -> View:
    """The view in a mirror: left becomes right, in position and in name."""
    order = list(BLAZEPOSE33.mirror)
    flip = view.points.new_tensor([-1.0, 1.0, 1.0])
    return replace(
        view,
        points=view.points[:, order] * flip[:2],
        confidence=view.confidence[:, order],
        present=view.present[:, order],
        landmarks=view.landmarks[:, order] * flip,
        depths=view.depths[:, list(COCO17.mirror)],
    )


def mirrored_answers(answers: Answers) -> Answers:
    """The answers in a mirror."""
    from kouros.body.skeleton import MIRROR
    from kouros.geometry.rotations import mirror_rotmat

    order = list(MIRROR)
    return Answers(
        rotations=mirror_rotmat(answers.rotations[:, :, order]),
        betas=answers.betas,
        placement=answers.placement * answers.placement.new_tensor([-1.0, 1.0, 1.0]),
        spread=answers.spread[:, order],
    )


def _averaged(one: Answers, other: Answers) -> Answers:
    """Answer 0 averaged; of the further answers every second one of each."""

    def mean(a: Tensor, b: Tensor) -> Tensor:
        half = 0.5 * (a[:, :1] + b[:, :1])
        pick = torch.arange(1, a.shape[1], device=a.device)
        return torch.cat([half, torch.where(_alternating(a, pick), a[:, 1:], b[:, 1:])], dim=1)

    rotations = mean(one.rotations, other.rotations)
    rotations = rot6d_to_rotmat(rotations[..., :2].flatten(-2))
    return Answers(
        rotations=rotations,
        betas=mean(one.betas, other.betas),
        placement=mean(one.placement, other.placement),
        spread=0.5 * (one.spread + other.spread),
    )


def _alternating(like: Tensor, pick: Int[Tensor, " rest"]) -> Tensor:
    return (pick % 2 == 1).view(1, -1, *(1,) * (like.ndim - 2))


# --- Weights ---------------------------------------------------------------------------------------------------


def save_weights(path: Path, network: Lifter) -> None:
    """Write a network's weights as float16, whole or not at all: the form that comes with kouros.

    Raises:
        OSError: the file cannot be written.
    """
    config = network.config
    write_network(path, network, (config.width, config.blocks, config.answers))


def load_weights(path: Path | None = None) -> Lifter:
    """The network in a file that `save_weights` wrote; default: the packaged one. Float32, for evaluation.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    path = path or PACKAGED_WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"There are no weights at {path}; train some with `kouros train lifter`.")
    try:
        return read_network(path, lambda *sizes: Lifter(LifterConfig(*sizes)), sizes=3, largest=_WIDEST)
    except ArchiveError as error:
        raise ValueError(
            f"{path} holds no lifter's weights ({first_line(error)}); train some with `kouros train lifter`."
        ) from None
