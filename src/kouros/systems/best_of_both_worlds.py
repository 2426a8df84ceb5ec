"""The Best of Both Worlds: Combining Model-based and Nonparametric Approaches for 3D Human Body Estimation.

Wang, Yang and Fowlkes, 2022. In the paper's order: configuration; the UV image that everything meets in; the dense map
prediction module, DMP (Sec. 3.1); inverse kinematics, IK (3.2); the UV inpainting module, UVI (3.3). Each is a system,
trained one after the other (3.4): the second may learn from the first's answers, the third holds both and is the whole.
Their networks are `kouros.networks.light_head`, `kouros.networks.inverse_kinematics` and `kouros.networks.unet`.

Places are metres from the pelvis, in the axes of the crop's camera.
"""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    avg_pool2d,
    binary_cross_entropy_with_logits,
    cross_entropy,
    normalize,
    one_hot,
)
from torch.optim import Adam, Optimizer
from torch.utils.data import Dataset

from kouros.batched import Batched
from kouros.body.keypoints import LSP14, SMPL24, KeypointSet, keypoint_set
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.surface.atlas import UvAtlas, UvSampler, joint_assignment, texel_centers, uv_atlas, uv_sampler
from kouros.body.surface.symmetry import MeshMirror, mesh_mirror
from kouros.data.augment import AugmentConfig
from kouros.data.batch import Batch
from kouros.data.dense import Wants
from kouros.data.mocap.recombination import Draws, PoseBank, drawn_poses
from kouros.data.mocap.source import MocapSource
from kouros.data.sources import Source
from kouros.data.stream import StreamConfig, TrainingStream
from kouros.fitting.schedules.joints_fit import FEWEST, known_joints, placed_at
from kouros.fitting.terms.keypoints import usable_keypoints
from kouros.geometry.alignment import align
from kouros.geometry.cameras import WeakPerspectiveCamera, nominal_crop_camera, perspective_translation
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.networks.inverse_kinematics import GikNet, IkSizes, JointRefiner
from kouros.networks.light_head import LightHead
from kouros.networks.movenet import MoveNetTrunk
from kouros.networks.part_joints import PartJoints
from kouros.networks.resnet import Depth, ResNet
from kouros.networks.unet import LightUNet
from kouros.notes import note
from kouros.render.maps import DenseMaps, ImageMap, splat_to_uv, uv_to_image
from kouros.systems.backbone_weights import begin_backbone
from kouros.systems.batches import CropBatches, drawn_of_step
from kouros.systems.estimator import CropEstimator, CropNetwork, Estimate, Estimator, PersonInPhoto
from kouros.systems.lifter_samples import drawn_betas, in_camera_axes
from kouros.systems.losses import ANNOTATED, mean_where, require_regressable, to_crop_coordinates
from kouros.systems.measures import Best, Sum
from kouros.systems.pictures import sheet
from kouros.systems.recipe import Recipe
from kouros.systems.system import CropSystem, Start, Step

# ---- configuration

WARPED = 64
"""Side of the UV images that are inpainted, texels (3.4)."""
INPAINTED = 128
"""Side of those that come out."""
OCCLUDED = AugmentConfig(occluded=0.5)
"""Scaled, turned, mirrored, other colours, and half of the crops with something before them: the paper gives kinds and
no numbers, so they are SPIN's."""


@dataclass(frozen=True)
class DmpLosses:
    """What each term of Eq. 1 and 2 weighs; the paper gives no weights."""

    mask: float = 1.0
    """Binary cross entropy."""
    part: float = 0.2
    """Of the correspondence in parts: cross entropy."""
    uv: float = 1.0
    location: float = 1.0
    joint: float = 1.0
    displacement: float = 1.0
    pooled: float = 1.0
    """Of the parts' joints that are told from all of them, seen or not; metres."""
    camera: float = 1.0
    """Of true joints, projected by the camera that is told from the global feature; crop coordinates. The paper learns
    its camera in the last module; here the first one's answers can be drawn too."""


@dataclass(frozen=True)
class DmpConfig:
    """The first module, from pictures to dense maps: the published size."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=100_000, batch_size=64)
    """The paper gives neither."""

    joints: Literal["lsp14", "smpl24"] = "lsp14"
    """Which joints the surface is assigned to; 24 are the paper's ablation (Fig. 7)."""
    backbone: Depth | Literal["movenet"] = 50
    """Depth of the ResNet; or the trunk of MoveNet, which has seen people: to be held."""
    width: int = 256
    """Of the decoder, and so of the local feature; ours, as its layers are."""
    crop_size: int = 224
    """Side of the crops, pixels."""
    stride: int = 4
    """Pixels of the crop to one of the maps, along each side."""
    correspondence: Literal["continuous", "parts"] = "continuous"
    """Two numbers a pixel, as the paper has it; or, ours, the part of ``A_uv``, and two numbers for each: where an
    atlas has islands, a network that is unsure between two of them names a place on neither."""
    pooled: int = 0
    """Ours, with parts: width of a perceptron (`kouros.networks.part_joints`) that says where each part's joint is,
    from all of them; pixels say what their joint and location differ by. 0: as published, each pixel by itself."""
    decoder: Path | None = None
    """A run of the other correspondence whose backbone and decoder to begin with."""
    drawn: Path | None = None
    """A run of HoloPose, packed or not, on the trunk of MoveNet, with light heads of the same width, the first of which
    to begin with: it has learned to draw DensePose's parts."""
    losses: DmpLosses = field(default_factory=DmpLosses)
    learning_rate: float = 2.5e-4
    """Adam's."""
    imagenet: Path | None = None
    """Torchvision's ImageNet weights of the ResNet, to begin with; the paper has them."""
    augment: AugmentConfig = OCCLUDED
    """How training changes crops."""

    def __post_init__(self) -> None:
        self.wants.map_size(self.crop_size)
        if self.pooled and self.correspondence != "parts":
            raise ValueError("pooled says where parts' joints are; choose --correspondence parts, or leave it at 0.")
        if self.decoder is not None and self.drawn is not None:
            raise ValueError("decoder and drawn both say what the decoder begins with; name one of them.")

    @property
    def wants(self) -> Wants:
        """What it asks of each batch."""
        return Wants(maps=("mask", "uv", "location", "joint", "displacement"), stride=self.stride, joints=self.joints)

    def build(self, body: BodyModel, num_samples: int = 0) -> "Dmp":
        """The system with fresh weights, from torch's global generator.

        Args:
            body: whose UV image and joints it is of.
            num_samples: as other systems need it; this one keeps nothing of its samples.

        Raises:
            ValueError: the body has no symmetric mesh, or cannot be regressed.
        """
        return Dmp(self, body)


@dataclass(frozen=True)
class IkLosses:
    """What each term of Eq. 3 weighs, all of them mean absolute differences; the paper gives no weights."""

    theta: float = 1.0
    """``L_theta``: of rotations as they are regressed, rotation vectors or matrices."""
    betas: float = 0.1
    joints: float = 10.0
    """``L_ji``: of refined joints, metres."""
    vertices: float = 10.0
    """``L_vi``: of the posed mesh, metres."""


@dataclass(frozen=True)
class IkConfig:
    """The second module, from joints to a body: the published size."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=100_000, batch_size=256)
    """The paper gives neither."""

    network: IkSizes = field(default_factory=IkSizes)
    noise: float = 0.03
    """Deviation of what is added to each coordinate of motion capture's joints, metres."""
    moved: float = 0.03
    """The same of all joints of a person together: where the root is, is known no better."""
    masked: float = 0.3
    """Of their joints, which share is missing."""
    surface: Literal["mesh", "points"] = "mesh"
    """What ``L_vi`` compares: all vertices, or 82 points that cost a tenth."""
    maps: DmpConfig = field(default_factory=DmpConfig)
    """The first module, where its answers are learned from."""
    first: Path | None = None
    """Its run; without one only motion capture teaches."""
    recorded: Path | None = None
    """A run of this module, such as one of motion capture alone, to begin with."""
    pictured: float = 0.25
    """Share of the steps that learn from its answers, where there are pictures to give some. With 1, whole batches are
    of crops, whose features can be kept (--hold-backbone --cache-features)."""
    losses: IkLosses = field(default_factory=IkLosses)
    learning_rate: float = 5e-4
    """Adam's."""

    def __post_init__(self) -> None:
        if not (0 <= self.masked < 1 and 0 <= self.pictured <= 1):
            raise ValueError(f"masked is {self.masked} and pictured {self.pictured}; expected shares from 0 to 1.")
        if not (0 <= self.noise < math.inf and 0 <= self.moved < math.inf):
            raise ValueError(f"noise is {self.noise} and moved {self.moved}; expected metres, 0 or more.")

    def build(self, body: BodyModel, num_samples: int = 0) -> "Ik":
        """As `DmpConfig.build`."""
        return Ik(self, body)


@dataclass(frozen=True)
class UviLosses:
    """What each term of Eq. 8 weighs; the paper gives no weights."""

    maps: float = 1.0
    """``l_map``, Eq. 4, of locations, joints and displacements each."""
    joints_3d: float = 1.0
    """Eq. 5."""
    joints_2d: float = 1.0
    """Eq. 6, crop coordinates."""
    symmetry: float = 1.0
    """``l_dismag``, Eq. 7."""
    consistency: float = 1.0
    """``l_con``: the surface, projected, lies where the picture's IUV has it; crop coordinates."""


@dataclass(frozen=True)
class UviConfig:
    """The third module, which holds the first two, and so the whole: the published size."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=100_000, batch_size=64)
    """The paper gives neither."""

    maps: DmpConfig = field(default_factory=DmpConfig)
    ik: IkSizes = field(default_factory=IkSizes)
    width: int = 64
    """Of the U-Net's finest level."""
    local: int = 32
    """Numbers that the local feature is narrowed to before it is warped."""
    see_maps: bool = True
    """Whether the first module's maps and features are among what is aggregated (Table 4: "w/o DMP-14")."""
    see_ik: bool = True
    """The same of the second module's joints and mesh ("w/o IK-14")."""
    first: Path | None = None
    """Run of the first module."""
    second: Path | None = None
    """Run of the second."""
    losses: UviLosses = field(default_factory=UviLosses)
    learning_rate: float = 5e-4
    """Adam's."""

    def __post_init__(self) -> None:
        if self.maps.joints != "lsp14":
            raise ValueError(f"The first module's joints are {self.maps.joints}; inpainting is of lsp14's.")
        if not (self.see_maps or self.see_ik):
            raise ValueError("With neither maps nor inverse kinematics there is nothing to inpaint; keep one.")

    @property
    def wants(self) -> Wants:
        """What it asks of each batch."""
        return Wants(
            maps=("mask", "uv", "uv_location", "uv_joint", "uv_displacement"),
            stride=self.maps.stride,
            uv_size=INPAINTED,
        )

    def build(self, body: BodyModel, num_samples: int = 0) -> "Uvi":
        """As `DmpConfig.build`."""
        return Uvi(self, body)


# ---- the UV image (3.1, B)

_LEAST = 0.5
"""Texels of a part that must be seen, or its joint counts as hidden: less is a stray pixel."""


class UvSpace(nn.Module):
    """A body's UV image of one size, and ``A_uv``, which assigns its texels to joints.

    Weights are of one UV image: they carry the assignment that they were trained with.
    """

    assignment: Tensor
    mirror: Tensor
    trained: Tensor

    def __init__(self, body: BodyModel, joints: str, size: int) -> None:
        super().__init__()
        self.points = keypoint_set(joints)
        self.sampler, assignment = _uv_image(body, joints, size)
        self.register_buffer("assignment", assignment, persistent=False)
        self.register_buffer("mirror", self.sampler.mirror, persistent=False)
        self.register_buffer("trained", assignment.to(torch.int16))

    @property
    def valid(self) -> Bool[Tensor, "size size"]:
        """Texels on the map."""
        return self.assignment >= 0

    def require_own(self) -> None:
        """Stop weights of another body.

        Raises:
            ValueError: they were trained on another UV image.
        """
        if not torch.equal(self.trained.long(), self.assignment):
            raise ValueError(
                "These weights were trained on the UV image of another body; use the body that they are of, or train "
                "some for this one."
            )

    def joints(
        self, uv_joint: Float[Tensor, "batch size size 3"], weight: Float[Tensor, "batch size size"]
    ) -> tuple[Float[Tensor, "batch joints 3"], Bool[Tensor, "batch joints"]]:
        """``J_initial`` (3.2): of each joint the mean over the texels of its part that are seen; and whether any is.

        The root's place, 0, for joints of which nothing is seen.

        Args:
            weight: how much of each texel is seen; above 1 counts as 1.
        """
        parts = one_hot(self.assignment.clamp(min=0), len(self.points)) * self.valid[..., None]
        share = (weight.clamp(max=1)[..., None] * parts).flatten(1, 2)
        total = share.sum(1)
        seen = total > _LEAST
        mean = torch.einsum("btj,btc->bjc", share, uv_joint.flatten(1, 2)) / total.clamp(min=_LEAST)[..., None]
        return torch.where(seen[..., None], mean, 0.0), seen

    def spread(self, joints: Float[Tensor, "batch joints 3"]) -> Float[Tensor, "batch size size 3"]:
        """``UV_j``: every texel of a part has its joint; 0 off the map."""
        return joints[:, self.assignment.clamp(min=0)] * self.valid[..., None]

    def part_of(self, uv: Float[Tensor, "*pixels 2"]) -> Int[Tensor, "*pixels"]:
        """Number of the part that has the texel at each place; -1 off the map."""
        return self.assignment.flatten()[self._texel(uv)]

    def within(self, part: Int[Tensor, "*pixels"], uv: Float[Tensor, "*pixels 2"]) -> Float[Tensor, "*pixels 2"]:
        """The same places, where they lie in a part; else the middle of its nearest texel."""
        there = self._texel(uv)
        size = self.sampler.size
        texel = self.nearest[part, there]
        row, column = torch.div(texel, size, rounding_mode="floor"), texel % size
        middle = torch.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], dim=-1)
        return torch.where((texel == there)[..., None], uv, middle)

    def _texel(self, uv: Float[Tensor, "*pixels 2"]) -> Int[Tensor, "*pixels"]:
        size = self.sampler.size
        column, row = ((size * t).long().clamp(0, size - 1) for t in (uv[..., 0], 1 - uv[..., 1]))
        return row * size + column

    @cached_property
    def nearest(self) -> Int[Tensor, "parts texels"]:
        """Of each part, the texel that is nearest to any."""
        places = torch.from_numpy(texel_centers(self.sampler.size)).float()
        own = [(self.assignment.cpu().flatten() == part).nonzero()[:, 0] for part in range(len(self.points))]
        found = [texels[torch.cdist(places, places[texels]).argmin(dim=1)] for texels in own]
        return torch.stack(found).to(self.assignment.device)

    @cached_property
    def middles(self) -> Float[Tensor, "parts 2"]:
        """Of the parts' texels, u and v."""
        places = torch.from_numpy(texel_centers(self.sampler.size)).float()
        own = self.assignment.cpu().flatten()
        middles = [places[own == part].mean(0) for part in range(len(self.points))]
        return torch.stack(middles).to(self.assignment.device)

    def visible_joints(
        self, weight: Float[Tensor, "batch size size"], body: BodyModel, rows: int
    ) -> Float[Tensor, "batch 24"]:
        """How much is seen of the skin that follows each joint of the skeleton; 1 where it is half of it or more,
        because the other half is always turned away.

        Args:
            rows: of the image maps: a pixel of coarse ones sees more than the texel that it falls on.
        """
        reach = self.sampler.size // (2 * rows)
        if reach:
            side = 2 * reach + 1
            weight = side**2 * avg_pool2d(weight[:, None], side, stride=1, padding=reach)[:, 0] * self.valid
        seen = self.sampler.to_vertices((weight > _LEAST).to(weight)[..., None])[..., 0]
        skin = body.weights / body.weights.sum(0).clamp(min=1e-9)
        return (seen @ skin / 0.5).clamp(max=1)


@lru_cache(maxsize=8)
def _uv_image(body: BodyModel, joints: str, size: int) -> tuple[UvSampler, Int[Tensor, "{size} {size}"]]:
    atlas, mirror = _atlas(body)
    sampler = uv_sampler(atlas, mirror, size)
    return sampler, joint_assignment(body, sampler, joints)


@lru_cache(maxsize=2)
def _atlas(body: BodyModel) -> tuple[UvAtlas, MeshMirror]:
    mirror = mesh_mirror(body)
    return uv_atlas(body, None, mirror), mirror


# ---- what all three learn from


def _posed(body: BodyModel, rotations: Float[Tensor, "batch 24 3 3"], betas: Float[Tensor, "batch betas"]) -> "Posed":
    out = body(betas=betas, global_orient=rotations[:, 0], body_pose=rotations[:, 1:], pose2rot=False)
    root = out.joints[:, :1]
    return Posed(out.vertices - root, out.joints - root)


@dataclass(frozen=True)
class Posed(Batched):
    """A mesh and its skeleton."""

    vertices: Float[Tensor, "batch verts 3"]
    joints: Float[Tensor, "batch 24 3"]


def _joints_of(
    body: BodyModel, joints: str, rotations: Float[Tensor, "batch 24 3 3"], betas: Float[Tensor, "batch betas"]
) -> Float[Tensor, "batch joints 3"]:
    """Points of a set, without the mesh."""
    root, others = rotations[:, 0], rotations[:, 1:]
    skeleton = body.joint_positions(betas, others, root, pose2rot=False)
    if joints == SMPL24.name:
        return skeleton - skeleton[:, :1]
    return body.keypoint_positions(joints, betas, others, root, pose2rot=False) - skeleton[:, :1]


def _truth(batch: Batch) -> tuple[Float[Tensor, "batch 24 3 3"], Float[Tensor, "batch 10"], Bool[Tensor, " batch"]]:
    """Rotations and betas, zeros where they are not known; and whose both are."""
    rotations = rotvec_to_rotmat(torch.nan_to_num(batch.pose).unflatten(-1, (24, 3)))
    return rotations, torch.nan_to_num(batch.betas), batch.has_pose & batch.has_betas


def _seen_lsp(batch: Batch) -> Float[Tensor, "batch 14 3"]:
    """LSP's points in crop coordinates, and confidences."""
    seen = usable_keypoints(batch.keypoints_2d)[:, ANNOTATED][:, : len(LSP14)]
    return torch.cat([to_crop_coordinates(seen[..., :2], batch.crop_size), seen[..., 2:]], dim=-1)


def joints_2d_loss(
    joints: Float[Tensor, "batch 14 3"], camera: Float[Tensor, "batch 3"], seen: Float[Tensor, "batch 14 3"]
) -> Float[Tensor, " batch"]:
    """Eq. 6, of each person: mean absolute difference in the crop, by confidence."""
    apart = (_weak(camera).project(joints) - seen[..., :2]).abs().mean(-1)
    return (apart * seen[..., 2]).sum(1) / seen[..., 2].sum(1).clamp(min=1e-6)


def _weak(camera: Float[Tensor, "batch 3"]) -> WeakPerspectiveCamera:
    return WeakPerspectiveCamera(camera[:, 0], camera[:, 1:])


def _pixels(maps: Float[Tensor, "batch rows columns *more"]) -> Float[Tensor, "rows columns 2"]:
    """Crop coordinates of the centres of a map's pixels: x, y."""
    rows, columns = ((2 * torch.arange(n, device=maps.device) + 1) / n - 1 for n in maps.shape[1:3])
    return torch.stack(torch.broadcast_tensors(columns[None, :], rows[:, None]), dim=-1)


def fitted_camera(
    location: Float[Tensor, "batch rows columns 3"],
    mask: Bool[Tensor, "batch rows columns"],
    otherwise: Float[Tensor, "batch 3"],
) -> Float[Tensor, "batch 3"]:
    """The weak perspective by which points of the surface lie nearest to the pixels that see them, in squares.

    Args:
        location: at each pixel of a square crop, the point that it sees.
        otherwise: for those of whom fewer than 20 pixels are seen, or whose scale would not be positive.
    """
    weight = mask.to(location).flatten(1)[..., None]
    count = weight.sum(1).clamp(min=1)
    points, pixels = location[..., :2].flatten(1, 2), _pixels(location).flatten(0, 1)[None]
    middle, there = (points * weight).sum(1) / count, (pixels * weight).sum(1) / count
    x, p = (points - middle[:, None]) * weight, (pixels - there[:, None]) * weight
    scale = (x * p).sum((1, 2)) / x.square().sum((1, 2)).clamp(min=1e-6)
    usable = (count[:, 0] >= 20) & (scale > 0.05)
    safe = torch.where(usable, scale, 1.0)[:, None]
    return torch.where(usable[:, None], torch.cat([safe, there / safe - middle], dim=1), otherwise)


def _bodies(
    body: BodyModel,
    rotations: Float[Tensor, "batch 24 3 3"],
    betas: Float[Tensor, "batch 10"],
    camera: Float[Tensor, "batch 3"],
) -> Bodies:
    """In the nominal crop's space, with the root where the camera has it."""
    rest = body.joint_positions(betas=betas)[:, 0]
    transl = perspective_translation(_weak(camera)) - rest
    return Bodies.from_rotations(rotations, betas, transl, nominal_crop_camera(len(betas), betas))


# ---- the first module: dense maps (3.1)

_MAPS: tuple[ImageMap, ...] = ("uv", "location", "joint", "displacement")
_MEAN_CAMERA = (0.9, 0.0, 0.0)
_DRAWN = 8
"""People in pictures for the log."""


@dataclass(frozen=True)
class Seen(Batched):
    """What the first module says of crops."""

    mask: Float[Tensor, "batch rows columns"]
    """Logits."""
    part: Float[Tensor, "batch parts rows columns"]
    """Logits of ``A_uv``'s parts; of none, where the correspondence is continuous."""
    part_uv: Float[Tensor, "batch rows columns places 2"]
    """The place on each part; of one, where the correspondence is continuous."""
    uv: Float[Tensor, "batch rows columns 2"]
    """The place on the part that is likeliest."""
    location: Float[Tensor, "batch rows columns 3"]
    """``M_l``."""
    joint: Float[Tensor, "batch rows columns 3"]
    """``M_j``."""
    displacement: Float[Tensor, "batch rows columns 3"]
    """``M_d``."""
    pooled: Float[Tensor, "batch pooled_parts 3"]
    """Each part's joint, from all of them; of none, where pixels speak for themselves."""
    local: Float[Tensor, "batch features rows columns"]
    """For the last module."""
    overall: Float[Tensor, "batch numbers"]
    """The global feature."""
    camera: Float[Tensor, "batch 3"]
    """Scale and offset over the crop, from the global feature."""

    @property
    def person(self) -> Bool[Tensor, "batch rows columns"]:
        """Pixels that see somebody."""
        return self.mask > 0

    @property
    def maps(self) -> DenseMaps:
        """As everybody has them: 0 on the background."""
        person = self.person
        there = {name: getattr(self, name) * person[..., None] for name in _MAPS}
        return DenseMaps(mask=person, **there)


@dataclass(frozen=True)
class Warped(Batched):
    """Incomplete maps in UV space (Fig. 4); 0 where no pixel sees the texel."""

    location: Float[Tensor, "batch size size 3"]
    joint: Float[Tensor, "batch size size 3"]
    displacement: Float[Tensor, "batch size size 3"]
    more: Float[Tensor, "batch size size features"]
    weight: Float[Tensor, "batch size size"]
    """Pixels that see each texel."""


def warped(maps: DenseMaps, space: UvSpace, more: Float[Tensor, "batch rows columns features"] | None = None) -> Warped:
    """Image maps taken to UV space by the correspondence that they name themselves."""
    mask, uv = maps.need("mask"), maps.need("uv")
    values = [maps.need("location"), maps.need("joint"), maps.need("displacement")]
    if more is not None:
        values.append(more)
    # What is said to lie off the image lies on its border.
    image, weight = splat_to_uv(torch.cat(values, dim=-1), uv.clamp(0, 1), mask, space.sampler.size)
    image, weight = image * space.valid[..., None], weight * space.valid
    location, joint, displacement, others = image.split([3, 3, 3, image.shape[-1] - 9], dim=-1)
    return Warped(location, joint, displacement, others, weight)


class Dmp(CropSystem):
    """Pictures in, dense maps out."""

    needs = ("pose",)
    judged_by = ("pose",)
    best_by = (Best("mpjpe"),)

    def __init__(self, config: DmpConfig, body: BodyModel) -> None:
        super().__init__()
        require_regressable(body)
        self.config, self.wants, self.augment = config, config.wants, config.augment
        self.space = UvSpace(body, config.joints, WARPED)
        self.body = copy.deepcopy(body)
        self.points_3d: KeypointSet | None = self.space.points
        self.backbone: ResNet | MoveNetTrunk
        self.backbone = MoveNetTrunk() if config.backbone == "movenet" else ResNet(config.backbone)
        channels, strides = self.backbone.layer_channels, self.backbone.layer_strides
        self.parts = len(self.space.points) if config.correspondence == "parts" else 0
        # Finer maps than the answer's cost more than they tell.
        self._kept = [place for place, own in enumerate(strides) if own >= config.stride] or [len(strides) - 1]
        kept_channels, kept_strides = ([numbers[place] for place in self._kept] for numbers in (channels, strides))
        self.head = LightHead(kept_channels, kept_strides, sum(self._outputs), config.width)
        self.pool: PartJoints | None = None
        if config.pooled:
            self.pool = PartJoints(self.parts, config.width, 4 * channels[-1], config.pooled)
            with torch.no_grad():  # pixels begin by agreeing with their part
                for numbers in self.head.answer.parameters():
                    numbers[-9:] *= 0.01
        self.camera = nn.Linear(4 * channels[-1], 3)
        nn.init.zeros_(self.camera.weight)
        with torch.no_grad():
            self.camera.bias.copy_(torch.tensor(_MEAN_CAMERA))

    @property
    def _outputs(self) -> tuple[int, ...]:
        """Numbers of each pixel: the mask, parts, places on them, and three maps."""
        return (1, self.parts, 2 * max(1, self.parts), 3, 3, 3)

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        return self.config.crop_size

    def starts(self) -> Sequence[Start]:
        """What a run of the other correspondence, or of HoloPose, has in common with this one."""
        if self.config.drawn is not None:
            kept = {f"head.narrow.{own}.": f"heads.fine.narrow.{place}." for own, place in enumerate(self._kept)}
            levels = [f"refine.{level}." for level in range(len(self.head.levels))]
            drawn = {f"head.{name}": f"heads.fine.{name}" for name in (*levels, "draw.")}
            return (Start(self.config.drawn, kept | drawn),)
        names = ("backbone.", "head.narrow.", "head.refine.", "head.draw.", "camera.")
        run = self.config.decoder
        return () if run is None else (Start(run, {name: name for name in names}),)

    def begin(self, samples: Iterable[Batch] = ()) -> None:
        """Once, before the first step of a new run: read the backbone's published weights.

        Raises:
            ValueError: the file is not what it should be.
            OSError: it cannot be read.
        """
        begin_backbone(self.backbone, self.config.imagenet)

    def optimizers(self) -> tuple[Optimizer, ...]:
        """Adam."""
        return (Adam((p for p in self.parameters() if p.requires_grad), lr=self.config.learning_rate),)

    # ---- looking

    def forward(self, image: Float[Tensor, "batch 3 size size"]) -> Seen:
        """What crops show."""
        return self.read(self._layer_maps(image), image.shape[-1])

    def features(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch numbers"]:
        """The maps that the decoder stands on, one after the other."""
        return torch.cat([seen.flatten(1) for seen in self._layer_maps(image)], dim=1)

    def look(self, batch: Batch) -> Seen:
        """At a batch to learn from, which may bring its features."""
        if batch.features is None:
            return self(batch.image)
        sides = [-(-self.crop_size // stride) for stride in self.backbone.layer_strides]
        shapes = [(c, side, side) for c, side in zip(self.backbone.layer_channels, sides, strict=True)]
        flat = batch.features.split([math.prod(shape) for shape in shapes], dim=1)
        return self.read([f.unflatten(1, shape) for f, shape in zip(flat, shapes, strict=True)], self.crop_size)

    def read(self, layer_maps: Sequence[Float[Tensor, "batch _ _ _"]], crop_size: int) -> Seen:
        """What the backbone's maps of crops of so many pixels tell."""
        side = self.wants.map_size(crop_size)
        drawn = self.head.drawn([layer_maps[place] for place in self._kept], (side, side))
        numbers = self.head.answer(drawn).float().permute(0, 2, 3, 1)
        mask, part, part_uv, location, joint, displacement = numbers.split(self._outputs, dim=-1)
        part_uv = part_uv.unflatten(-1, (-1, 2))
        if self.parts:
            part_uv = part_uv + self.space.middles
            likeliest = part.argmax(dim=-1)
            uv = part_uv.gather(-2, likeliest[..., None, None].expand(*likeliest.shape, 1, 2))[..., 0, :]
            uv = self.space.within(likeliest, uv)
        else:
            part_uv = part_uv + 0.5  # the atlas's middle is where nothing is known yet
            uv = part_uv[..., 0, :]
        # The coarsest map over each quarter of the crop: the global feature must say where people are. Backbones'
        # features differ in size by orders of magnitude; here all are of length 1, or Adam would throw cameras about.
        overall = normalize(adaptive_avg_pool2d(layer_maps[-1], 2).flatten(1))
        camera = self.camera(overall).float()
        part = part.permute(0, 3, 1, 2)
        pooled = joint.new_zeros(len(joint), 0, 3)
        if self.pool is not None:
            likely = part.softmax(dim=1)
            pooled = self.pool(drawn, likely * mask[..., 0].sigmoid()[:, None], overall).float()
            here = torch.einsum("bprc,bpx->brcx", likely.detach(), pooled)
            location, joint = here + displacement + location, here + joint
        seen = (mask[..., 0], part, part_uv, uv, location, joint, displacement)
        return Seen(*seen, pooled, drawn, overall, camera)

    def _layer_maps(self, image: Float[Tensor, "batch 3 size size"]) -> list[Tensor]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.held):
            return self.backbone.layer_maps(image)

    # ---- learning

    def training_step(self, batch: Batch) -> Step:
        """Eq. 1, mean over the people of whom each map is known; maps count where the person is seen."""
        seen = self.look(batch)
        with torch.autocast(batch.image.device.type, enabled=False):
            terms = self.losses(batch, seen)
            weights = self.config.losses
            total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return Step(losses=(total,), terms={name: term.detach() for name, term in terms.items()})

    def losses(self, batch: Batch, seen: Seen) -> dict[str, Float[Tensor, ""]]:
        """The unweighted terms of Eq. 1 and 2.

        Raises:
            ValueError: the batch has no such maps.
        """
        if batch.dense is None:
            raise ValueError("The batch has no dense maps; its source must draw them.")
        true = batch.dense
        mask = true.need("mask")
        each = binary_cross_entropy_with_logits(seen.mask, mask.to(seen.mask), reduction="none").mean((1, 2))
        terms = {"mask": mean_where(each, _known(batch, "mask"))}
        count = mask.sum((1, 2))
        found = {"location": seen.location, "joint": seen.joint, "displacement": seen.displacement}
        found["uv"] = seen.part_uv[..., 0, :]
        if self.parts:
            # Texels at a border's other side are of no part; -1 is left out.
            part = torch.where(mask, self.space.part_of(true.need("uv")), -1)
            each = cross_entropy(seen.part, part, ignore_index=-1, reduction="none").sum((1, 2))
            each = each / (part >= 0).sum((1, 2)).clamp(min=1)
            terms["part"] = mean_where(each, _known(batch, "uv") & (count > 0))
            own = part.clamp(min=0)[..., None, None].expand(*part.shape, 1, 2)
            found["uv"] = seen.part_uv.gather(-2, own)[..., 0, :]
        for name in _MAPS:
            apart = (found[name] - true.need(name)).abs().mean(-1)
            each = (apart * mask).sum((1, 2)) / count.clamp(min=1)
            terms[name] = mean_where(each, _known(batch, name) & (count > 0))
        rotations, betas, known = _truth(batch)
        if self.pool is not None:
            joints = _joints_of(self.body, self.space.points.name, rotations, betas)
            terms["pooled"] = mean_where((seen.pooled - joints).abs().mean((1, 2)), known)
        points = _seen_lsp(batch)
        joints = _joints_of(self.body, LSP14.name, rotations, betas)
        each = joints_2d_loss(joints, seen.camera, points)
        terms["camera"] = mean_where(each, known & (points[..., 2] > 0).any(1))
        return terms

    # ---- answering

    @torch.no_grad()
    def answer(self, crops: Float[Tensor, "batch 3 size size"] | Batch) -> Seen:
        """What crops show, in evaluation mode; those of a batch, which may bring its features.

        Raises:
            ValueError: the weights are of another body.
        """
        self.space.require_own()
        training = self.training
        self.eval()
        try:
            return self.look(crops) if isinstance(crops, Batch) else self(crops)
        finally:
            self.train(training)

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """Maps, joints, and what is seen of them: no bodies. A joint of a part that is hidden is at the root."""
        maps = self.answer(image).maps
        there = warped(maps, self.space)
        joints, _ = self.space.joints(there.joint, there.weight)
        seen = self.space.visible_joints(there.weight, self.body, len(maps.need("mask")[0]))
        return Estimate(dense=maps, points_3d=joints, visibility=seen)

    def measures(self, batch: Batch) -> Mapping[str, Sum]:
        """Errors of ``J_initial``, of all joints and of those that are seen; how well the mask fits."""
        seen = self.answer(batch)
        there = warped(seen.maps, self.space)
        joints, found = self.space.joints(there.joint, there.weight)
        rotations, betas, known = _truth(batch)
        true = _joints_of(self.body, self.space.points.name, rotations, betas)
        apart, aligned = ((points - true).norm(dim=-1) for points in (joints, _aligned(joints, true)))
        all_known = known[:, None].expand_as(found)
        sums = {
            "mpjpe": Sum.over(apart, all_known, 1e3, "MPJPE {:.1f} mm"),
            "pa_mpjpe": Sum.over(aligned, all_known, 1e3, "PA-MPJPE {:.1f} mm"),
            "seen_mpjpe": Sum.over(apart, all_known & found, 1e3, "of seen joints {:.1f} mm"),
            "seen": Sum.over(found.float(), all_known, 100.0, "{:.0f} % seen"),
        }
        if batch.dense is not None:
            whose = _known(batch, "mask")
            ours, theirs = seen.person[whose], batch.dense.need("mask")[whose]
            sums["iou"] = Sum(100 * (ours & theirs).sum(), (ours | theirs).sum(), "IoU {:.1f} %")
            if self.parts:
                part = torch.where(theirs, self.space.part_of(batch.dense.need("uv")[whose]), -1)
                right = seen.part[whose].argmax(1) == part
                sums["parts"] = Sum.over(right.float(), part >= 0, 100.0, "parts {:.1f} %")
        return sums

    @torch.no_grad()
    def pictures(self, batch: Batch, step: Step) -> Mapping[str, UInt8[np.ndarray, "height width 3"]]:
        """The first people, and their true and found correspondence and location."""
        if batch.features is not None or batch.dense is None:
            return {}
        first = batch[:_DRAWN]
        assert first.dense is not None
        rows = [first.image]
        for maps in (first.dense, self.answer(first.image).maps):
            mask = maps.need("mask")[:, None]
            uv = torch.cat([maps.need("uv"), torch.zeros_like(maps.need("uv")[..., :1])], dim=-1)
            rows += [(v.permute(0, 3, 1, 2) * mask).clamp(0, 1) for v in (uv, maps.need("location") + 0.5)]
        return {"maps": sheet(rows)}


def _aligned(
    points: Float[Tensor, "batch joints 3"], joints: Float[Tensor, "batch joints 3"]
) -> Float[Tensor, "batch joints 3"]:
    """The best similarity of points; where nothing is seen, all are at the root, and go to the joints' middle."""
    nothing = (points == points[:, :1]).flatten(1).all(1)
    return torch.where(nothing[:, None, None], joints.mean(1, keepdim=True), align(points, joints).apply(points))


def _known(batch: Batch, name: str) -> Bool[Tensor, " batch"]:
    return batch.dense_known.get(name, torch.ones_like(batch.has_pose))


# ---- the second module: inverse kinematics (3.2)

_TO_CHOOSE_FROM = 2
"""Recorded poses for each person whose pose is recombined from those of the whole batch."""
_PEOPLE_A_CROP = 8
"""Poses of motion capture for each crop that is looked at: looking costs more."""
_ON_SKIN = ("spin49", "blazepose33")
"""Sets whose 82 points stand for the mesh."""


@dataclass(frozen=True)
class IkAnswer(Batched):
    """What the second module says."""

    joints: Float[Tensor, "batch 14 3"]
    """``J_refine``."""
    numbers: Float[Tensor, "batch 24 coding"]
    """Rotations as they are regressed."""
    rotations: Float[Tensor, "batch 24 3 3"]
    """Of the joints against their parents; the first against the camera."""
    betas: Float[Tensor, "batch 10"]


class IkNetwork(nn.Module):
    """Both networks, one behind the other (Fig. 6)."""

    def __init__(self, sizes: IkSizes) -> None:
        super().__init__()
        joints = len(LSP14)
        self.refiner = JointRefiner(joints, sizes.refiner_width, sizes.refiner_blocks, sizes.dropout)
        self.gik = GikNet(joints, sizes.width, sizes.blocks, sizes.coding)

    def forward(self, joints: Float[Tensor, "batch 14 3"], known: Bool[Tensor, "batch 14"]) -> IkAnswer:
        """Of LSP's joints, metres from the root; what is not known may be anything."""
        refined = self.refiner(joints, known).float()
        return IkAnswer(refined, *self.gik(refined))


@dataclass(frozen=True)
class RecordedPoses(Batched):
    """Of each person some recorded poses, of which one is made."""

    index: Int[Tensor, " batch"]
    poses: Float[Tensor, "batch some 72"]
    """Rotation vectors, the root's in a world with y up."""

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class IkBatches:
    """As `kouros.systems.batches.Batches`: each batch is of motion capture, or of crops, of which it has fewer."""

    crops: CropBatches
    pictured: float

    def stream(
        self,
        sources: Sequence[Source],
        ratios: Sequence[float] | None,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> "IkStream":
        """As in `kouros.systems.batches.Batches`; ratios count among sources of one kind."""
        shares = np.array([len(s) for s in sources] if ratios is None else ratios, dtype=np.float64)
        recorded = np.array([isinstance(s, MocapSource) for s in sources], dtype=bool)
        if batch_size % world:
            raise ValueError(f"A batch of {batch_size} cannot be shared equally among {world} processes.")
        if not (shares[recorded] > 0).any():
            raise ValueError("inverse kinematics learns from motion capture at least; name diverse_frames.npz.")
        mocap = tuple(s for s in sources if isinstance(s, MocapSource))
        looked_at = [(s, share) for s, share in zip(sources, shares, strict=True) if not isinstance(s, MocapSource)]
        crops, share = None, 0.0
        if looked_at and self.pictured:
            each = max(1, batch_size // _PEOPLE_A_CROP // world) * world
            config = StreamConfig(self.crops.crop_size, self.crops.augment, self.crops.wants, seed)
            pictures, theirs = zip(*looked_at, strict=True)
            crops = TrainingStream(pictures, list(theirs), each, config, rank=rank, world=world)
            share = self.pictured
        own = shares[recorded] / shares[recorded].sum()
        return IkStream(mocap, own, crops, share, batch_size, seed, rank, world)

    def plain(self, source: Source, rows: Sequence[int], *, pictures: bool = True) -> "Batch | RecordedPoses":
        """As in `kouros.systems.batches.Batches`."""
        if isinstance(source, MocapSource):
            poses = torch.from_numpy(source.poses(rows)).float()[:, None]
            return RecordedPoses(torch.as_tensor(list(rows)), poses)
        return self.crops.plain(source, rows, pictures=pictures)


@dataclass(frozen=True)
class IkStream(Dataset["Batch | RecordedPoses"]):
    """Batches by step."""

    mocap: tuple[MocapSource, ...]
    shares: Float[np.ndarray, " sources"]
    crops: TrainingStream | None
    pictured: float
    batch_size: int
    seed: int
    rank: int
    world: int

    def __getitem__(self, step: int) -> "Batch | RecordedPoses":
        if self.crops is not None:
            # The same on all ranks.
            dice = np.random.default_rng(np.random.SeedSequence([self.seed, step, 1]))
            if dice.random() < self.pictured:
                return self.crops[step]
        place = (self.batch_size, self.seed, step, self.rank, self.world)
        chosen, places = drawn_of_step(self.shares, *place, _TO_CHOOSE_FROM)
        firsts = np.cumsum([0, *(len(source) for source in self.mocap)])
        poses = np.zeros((len(chosen), _TO_CHOOSE_FROM, 72), dtype=np.float32)
        index = np.zeros(len(chosen), dtype=np.int64)
        for number, source in enumerate(self.mocap):
            mine = chosen == number
            rows = (places[mine] * len(source)).astype(np.int64)
            poses[mine] = source.poses(rows.ravel().tolist()).reshape(*rows.shape, 72)
            index[mine] = firsts[number] + rows[:, 0]
        return RecordedPoses(torch.from_numpy(index), torch.from_numpy(poses))


@dataclass(frozen=True)
class IkSample(Batched):
    """What the second module is given, and the truth."""

    joints: Float[Tensor, "batch 14 3"]
    known: Bool[Tensor, "batch 14"]
    true_joints: Float[Tensor, "batch 14 3"]
    rotations: Float[Tensor, "batch 24 3 3"]
    betas: Float[Tensor, "batch 10"]


class _Later(CropSystem):
    """A module behind others, which stay as they are: not trained, and in evaluation mode."""

    @property
    def fixed(self) -> tuple[nn.Module, ...]:
        """The others."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> "_Later":
        """As every module's, but for those."""
        super().train(mode)
        for module in self.fixed:
            module.eval()
        return self


class Ik(_Later):
    """Joints in, a body out."""

    needs = ("pose",)
    judged_by = ("pose",)
    best_by = (Best("mpjpe"),)

    def __init__(self, config: IkConfig, body: BodyModel) -> None:
        super().__init__()
        require_regressable(body)
        self.config = config
        self.wants, self.augment = Wants(), config.maps.augment
        self.space = UvSpace(body, LSP14.name, WARPED)
        self.maps = None if config.first is None else config.maps.build(body).requires_grad_(False).eval()
        self.body = copy.deepcopy(body)
        self.network = IkNetwork(config.network)

    @property
    def fixed(self) -> tuple[nn.Module, ...]:
        """The first module, where there is one."""
        return () if self.maps is None else (self.maps,)

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        return self.config.maps.crop_size

    @property
    def backbone(self) -> nn.Module:
        """The first module's; it stays as it is anyway.

        Raises:
            AttributeError: there is none.
        """
        if self.maps is None:
            raise AttributeError("there is no first module")
        return self.maps.backbone

    def features(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch numbers"]:
        """The first module's."""
        assert self.maps is not None
        return self.maps.features(image)

    @property
    def batches(self) -> IkBatches | CropBatches:
        """Of motion capture, and of crops where their maps can be had; or of crops alone."""
        crops = CropBatches(self.crop_size, self.augment, self.wants)
        if self.maps is not None and self.config.pictured == 1:
            return crops
        return IkBatches(crops, 0.0 if self.maps is None else self.config.pictured)

    def begin(self, samples: Iterable[Batch | RecordedPoses] = ()) -> None:
        """Nothing is read."""

    def starts(self) -> Sequence[Start]:
        """The first module's weights, and those of a run of this one."""
        first, recorded = self.config.first, self.config.recorded
        maps = () if first is None else (Start(first, {"maps.": ""}),)
        return maps if recorded is None else (*maps, Start(recorded, {"network.": "network."}))

    def optimizers(self) -> tuple[Optimizer, ...]:
        """Adam."""
        return (Adam(self.network.parameters(), lr=self.config.learning_rate),)

    # ---- learning

    def training_step(self, batch: Batch | RecordedPoses) -> Step:
        """Eq. 3, of joints that were spoiled, or of those that the first module finds."""
        with torch.no_grad():
            sample = self.sample(batch)
        if len(sample.joints) < 2:  # of whom alone normalisation can say nothing
            return Step((torch.stack([0 * p.sum() for p in self.network.parameters()]).sum(),), {})
        answer = self.network(sample.joints, sample.known)
        terms = self.losses(answer, sample)
        total = torch.stack([getattr(self.config.losses, name) * term for name, term in terms.items()]).sum()
        apart = (answer.joints - sample.true_joints).norm(dim=-1)
        told = {"refined_mm": 1000 * apart.mean(), "missing": 1 - sample.known.float().mean()}
        return Step((total,), {name: term.detach() for name, term in (terms | told).items()})

    def sample(self, batch: Batch | RecordedPoses, generator: torch.Generator | None = None) -> IkSample:
        """What is learned from a batch.

        Args:
            generator: of what is drawn; default: seeded from torch's global one.

        Raises:
            ValueError: crops, and no first module that says what they show.
        """
        if isinstance(batch, Batch):
            return self._pictured(batch)
        if generator is None:
            generator = torch.Generator(batch.poses.device).manual_seed(int(torch.randint(2**62, ())))
        count, draw = len(batch), Draws(len(batch), generator)
        if batch.poses.shape[1] > 1:
            bank = PoseBank(rotvec_to_rotmat(batch.poses.flatten(0, 1).unflatten(-1, (24, 3))))
            rotations = drawn_poses(bank, count, generator)
        else:
            rotations = draw.turned(rotvec_to_rotmat(batch.poses[:, 0].unflatten(-1, (24, 3))))
        root = in_camera_axes(rotations[:, 0], draw)
        rotations = torch.cat([root[:, None], rotations[:, 1:]], dim=1)
        betas = drawn_betas(draw)
        true = _joints_of(self.body, LSP14.name, rotations, betas)
        spoiled = true + self.config.noise * draw.normal(len(LSP14), 3) + self.config.moved * draw.normal(1, 3)
        return IkSample(spoiled, ~draw.chance(self.config.masked, len(LSP14)), true, rotations, betas)

    def _pictured(self, batch: Batch) -> IkSample:
        if self.maps is None:
            raise ValueError("crops teach inverse kinematics what the first module makes of them; name its run.")
        there = warped(self.maps.look(batch).maps, self.space)
        joints, seen = self.space.joints(there.joint, there.weight)
        rotations, betas, known = _truth(batch)
        sample = IkSample(joints, seen, _joints_of(self.body, LSP14.name, rotations, betas), rotations, betas)
        return sample[known & seen.any(1)]

    def losses(self, answer: IkAnswer, sample: IkSample) -> dict[str, Float[Tensor, ""]]:
        """The unweighted terms of Eq. 3."""
        gik = self.network.gik
        theirs = gik.from_upright(sample.rotations)
        if gik.coding == "rotvec":
            theta = (answer.numbers - rotmat_to_rotvec(theirs)).abs()
        else:
            theta = (answer.rotations - sample.rotations).abs()
        ours, true = (self._surface(x.rotations, x.betas) for x in (answer, sample))
        return {
            "theta": _mean(theta),
            "betas": _mean((answer.betas - sample.betas).abs()),
            "joints": _mean((answer.joints - sample.true_joints).abs()),
            "vertices": _mean((ours - true).abs()),
        }

    def _surface(self, rotations: Float[Tensor, "batch 24 3 3"], betas: Tensor) -> Float[Tensor, "batch points 3"]:
        if self.config.surface == "mesh":
            return _posed(self.body, rotations, betas).vertices
        return torch.cat([_joints_of(self.body, name, rotations, betas) for name in _ON_SKIN], dim=1)

    # ---- answering

    @torch.no_grad()
    def answer(self, joints: Float[Tensor, "batch 14 3"], known: Bool[Tensor, "batch 14"]) -> IkAnswer:
        """Of LSP's joints, metres from the root, in evaluation mode."""
        training = self.training
        self.eval()
        try:
            return self.network(joints, known)
        finally:
            self.train(training)

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """Bodies, by the first module's answers.

        Raises:
            ValueError: it was trained without one.
        """
        if self.maps is None:
            raise ValueError(
                "This network sees joints, not pictures: give it joints (kouros fit joints.npz), choose "
                "best-of-both-worlds, which finds them, or chain it behind a run of the maps (kouros models chain)."
            )
        return self.go_on(image, self.maps.predict(image))

    def go_on(self, image: Float[Tensor, "batch 3 size size"], estimate: Estimate) -> Estimate:
        """Bodies, of crops whose dense maps the stage before this one has found.

        Raises:
            ValueError: it has found none; or the weights are of another body.
        """
        self.space.require_own()
        maps = estimate.dense
        if maps is None or maps.joint is None or maps.uv is None or maps.location is None or maps.mask is None:
            raise ValueError("This network goes on from dense maps, and the stage before it found none.")
        there = warped(maps, self.space)
        answer = self.answer(*self.space.joints(there.joint, there.weight))
        mean = image.new_tensor(_MEAN_CAMERA).expand(len(image), 3)
        camera = fitted_camera(maps.location, maps.mask, mean)
        return replace(estimate, bodies=_bodies(self.body, answer.rotations, answer.betas, camera))

    @torch.no_grad()
    def measures(self, batch: Batch | RecordedPoses) -> Mapping[str, Sum]:
        """Errors of the joints as they are refined, and of the posed body's, over all and over missing ones; of its
        surface."""
        generator = torch.Generator(self.network.gik.upright.device).manual_seed(int(batch.index[0]))
        sample = self.sample(batch, generator)
        answer = self.answer(sample.joints, sample.known)
        refined = (answer.joints - sample.true_joints).norm(dim=-1)
        posed = _joints_of(self.body, LSP14.name, answer.rotations, answer.betas)
        apart = (posed - sample.true_joints).norm(dim=-1)
        skin = self._surface(answer.rotations, answer.betas) - self._surface(sample.rotations, sample.betas)
        given = (sample.joints - sample.true_joints).norm(dim=-1)
        return {
            "mpjpe": Sum.over(apart, None, 1e3, "MPJPE {:.1f} mm"),
            "refined_mpjpe": Sum.over(refined, None, 1e3, "refined {:.1f} mm"),
            "given_mpjpe": Sum.over(given, sample.known, 1e3, "given {:.1f} mm"),
            "missing_mpjpe": Sum.over(apart, ~sample.known, 1e3, "missing ones {:.1f} mm"),
            "pve": Sum.over(skin.norm(dim=-1), None, 1e3, "surface {:.1f} mm"),
        }


def _mean(values: Tensor) -> Float[Tensor, ""]:
    """Of nobody, 0."""
    return values.sum() / max(1, values.numel())


class JointsToBodies:
    """The second module alone: joints of any keypoint set, some of which may be missing, to bodies.

    Joints go to LSP's by their names. What a set does not have (the neck of COCO's) is inpainted like any other that is
    missing. Where the root is, which no set marks as the body has it, is found with the pose, in a few rounds.
    """

    _ROUNDS = 3

    def __init__(self, network: IkNetwork, body: BodyModel) -> None:
        self.network, self.body = network.eval(), body
        with torch.no_grad():
            rest = body.keypoint_positions(LSP14.name) - body.joint_template[0]
        self._rest = rest[0]

    @torch.no_grad()
    def __call__(self, set_name: str, joints: Float[Tensor, "people points 3"]) -> BodyParameters:
        """Pose, shape and place.

        Args:
            joints: metres, camera axes, NaN where they are not known.

        Raises:
            ValueError: as `kouros.fitting.schedules.joints_fit.known_joints`; or somebody has no joint that is among
                LSP's.
        """
        known_joints(joints, set_name)
        given = joints.new_full((len(joints), len(LSP14), 3), torch.nan)
        ours, theirs = zip(*lsp_places(set_name), strict=True)
        given[:, list(ours)] = joints[:, list(theirs)]
        known = given.isfinite().all(dim=-1)
        few = (known.sum(dim=1) < FEWEST).nonzero()[:, 0].tolist()
        if few:
            raise ValueError(
                f"Person {few[0]} has {int(known[few[0]].sum())} joints that the network knows: hips, knees, ankles, "
                f"shoulders, elbows, wrists, neck and head; at least {FEWEST} are needed."
            )
        weight = known.to(given)
        seen = torch.where(known[..., None], given, 0.0)
        moved = align(self._rest.expand_as(seen), seen, weight, with_scale=False).translation
        hips = known[:, _LSP_HIPS].all(dim=1)[:, None]
        root = torch.where(hips, seen[:, _LSP_HIPS].mean(dim=1), moved)
        answer = self.network(seen - root[:, None], known)
        for _ in range(self._ROUNDS - 1):
            off = (weight[..., None] * (seen - root[:, None] - answer.joints)).sum(1) / weight.sum(1, keepdim=True)
            root = root + off
            answer = self.network(seen - root[:, None], known)
        pose = rotmat_to_rotvec(answer.rotations).flatten(1)
        return placed_at(self.body, set_name, joints, BodyParameters(pose, answer.betas, torch.zeros_like(root)))


_LSP_HIPS = [LSP14.index(f"{side}_hip_lsp") for side in ("left", "right")]
_ALSO_CALLED = {"neck": ("neck_3dhp", "thorax_h36m"), "head_top": ("head_top_h36m",)}


def lsp_places(set_name: str) -> list[tuple[int, int]]:
    """Which of LSP's joints another set has by name: places in LSP's, and in the set."""
    there = {name.removesuffix("_lsp"): place for place, name in enumerate(keypoint_set(set_name).names)}
    found = []
    for place, name in enumerate(LSP14.names):
        plain = name.removesuffix("_lsp")
        same = next((n for n in (plain, *_ALSO_CALLED.get(plain, ())) if n in there), None)
        if same is not None:
            found.append((place, there[same]))
    return found


# ---- the third module: inpainting in UV space (3.3)


def symmetry_loss(
    displacement: Float[Tensor, "batch size size 3"], mirror: Int[Tensor, "size size"]
) -> Float[Tensor, " batch"]:
    """``l_dismag``, Eq. 7, of each person: how far the surface is from its joint, against the other side.

    Args:
        mirror: as `kouros.body.surface.atlas.UvSampler.mirror`; the flip, of an atlas that is symmetric.
    """
    length = displacement.norm(dim=-1).flatten(1)
    there = (mirror >= 0).flatten()
    apart = (length - length[:, mirror.flatten().clamp(min=0)]).abs() * there
    return apart.sum(1) / there.sum().clamp(min=1)


def consistency_loss(
    uv_location: Float[Tensor, "batch size size 3"],
    valid: Bool[Tensor, "size size"],
    uv: Float[Tensor, "batch rows columns 2"],
    mask: Bool[Tensor, "batch rows columns"],
    camera: Float[Tensor, "batch 3"],
) -> Float[Tensor, " batch"]:
    """``l_con`` of each person (DecoMR, Zeng et al. 2020): the point that a pixel sees, projected, lies in the pixel.

    Mean absolute difference, crop coordinates.

    Args:
        valid: texels on the map.
        uv, mask: the picture's correspondence.
    """
    points = uv_to_image(uv_location, uv, mask, valid)
    seen = _weak(camera).project(points.flatten(1, 2)).unflatten(1, uv.shape[1:3])
    apart = (seen - _pixels(uv)).abs().mean(-1) * mask
    return apart.sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)


@dataclass(frozen=True)
class Aggregated(Batched):
    """What the first two modules say, in UV space: the "best of both worlds"."""

    image: Float[Tensor, "batch channels 64 64"]
    """What the U-Net sees."""
    base: Float[Tensor, "batch 9 128 128"]
    """The second module's maps, or zeros, which the answer is added to."""
    posed: Posed
    """The second module's mesh."""
    initial: Float[Tensor, "batch 14 3"]
    """``J_initial``."""
    known: Bool[Tensor, "batch 14"]
    ik: IkAnswer
    weight: Float[Tensor, "batch 64 64"]
    """Pixels that see each texel."""
    camera: Float[Tensor, "batch 3"]


@dataclass(frozen=True)
class Inpainted(Batched):
    """What the third module says."""

    location: Float[Tensor, "batch 128 128 3"]
    """``UV_l``; this and the next two mean nothing off the map."""
    joint: Float[Tensor, "batch 128 128 3"]
    displacement: Float[Tensor, "batch 128 128 3"]
    joints: Float[Tensor, "batch 14 3"]
    """``J_3d``: of ``UV_j`` by ``A_uv``."""
    changed: Float[Tensor, "batch 128 128 3"]
    """How far ``UV_l`` is from the second module's."""


class Uvi(_Later):
    """The whole: pictures in; maps, a body, and what both together say of mesh and joints out.

    Ours: the U-Net's answer is added to the second module's maps, and a mesh is that module's mesh, moved by what its
    map was changed by, so that nothing is lost that 128 x 128 texels cannot hold.
    """

    needs = ("pose",)
    judged_by = ("pose",)
    best_by = (Best("mpjpe"),)

    def __init__(self, config: UviConfig, body: BodyModel) -> None:
        super().__init__()
        self.config, self.wants, self.augment = config, config.wants, config.maps.augment
        self.maps = config.maps.build(body)
        self.space = self.maps.space
        self.finer = UvSpace(body, LSP14.name, INPAINTED)
        self.ik = IkNetwork(config.ik)
        self.body = copy.deepcopy(body)
        self.narrow = nn.Conv2d(config.maps.width, config.local, 1)
        inputs = 1 + config.see_maps * (1 + 9 + config.local) + config.see_ik * 9
        self.network = LightUNet(inputs, 9, config.width)
        self.camera = nn.Linear(self.maps.camera.in_features, 3)
        nn.init.zeros_(self.camera.weight)
        nn.init.zeros_(self.camera.bias)
        for module in self.fixed:
            module.requires_grad_(False).eval()

    @property
    def fixed(self) -> tuple[nn.Module, ...]:
        """The first two modules (3.4)."""
        return (self.maps, self.ik)

    @property
    def backbone(self) -> nn.Module:
        """The first module's; it stays as it is anyway."""
        return self.maps.backbone

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        return self.maps.crop_size

    def begin(self, samples: Iterable[Batch] = ()) -> None:
        """Once, before the first step of a new run.

        Raises:
            ValueError: the configuration does not name the runs of the first two modules.
        """
        if self.config.first is None or self.config.second is None:
            raise ValueError("Inpainting goes on from two runs: name that of the maps by --first, of IK by --second.")

    def starts(self) -> Sequence[Start]:
        """The first two modules' weights."""
        first, second = self.config.first, self.config.second
        maps = () if first is None else (Start(first, {"maps.": ""}),)
        return maps if second is None else (*maps, Start(second, {"ik.": "network."}))

    def optimizers(self) -> tuple[Optimizer, ...]:
        """Adam."""
        return (Adam((p for p in self.parameters() if p.requires_grad), lr=self.config.learning_rate),)

    def features(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch numbers"]:
        """The first module's."""
        return self.maps.features(image)

    # ---- both worlds

    def aggregated(self, seen: Seen) -> Aggregated:
        """What the first two modules say of crops."""
        own = self.narrow(seen.local).permute(0, 2, 3, 1)
        there = warped(seen.maps, self.space, own)
        with torch.no_grad():
            initial, known = self.space.joints(there.joint, there.weight)
            answer = self.ik(initial, known)
            posed = _posed(self.body, answer.rotations, answer.betas)
        shown = [self.space.valid.to(own)[..., None].expand(len(own), -1, -1, -1)]
        if self.config.see_maps:
            shown += [there.weight.clamp(max=1)[..., None], there.location, there.joint, there.displacement, there.more]
        base = own.new_zeros(len(own), INPAINTED, INPAINTED, 9)
        if self.config.see_ik:
            shown.append(_three(self.space, posed.vertices, answer.joints))
            base = _three(self.finer, posed.vertices, answer.joints)
        image = torch.cat(shown, dim=-1).permute(0, 3, 1, 2)
        camera = seen.camera + self.camera(seen.overall)
        return Aggregated(image, base.permute(0, 3, 1, 2), posed, initial, known, answer, there.weight, camera)

    def inpaint(self, both: Aggregated) -> Inpainted:
        """The U-Net's answer."""
        changed = self.network(both.image).float()
        maps = (both.base + changed).permute(0, 2, 3, 1)
        location, joint, displacement = maps.split(3, dim=-1)
        joints, _ = self.finer.joints(joint, self.finer.valid.to(joint).expand(len(joint), -1, -1))
        return Inpainted(location, joint, displacement, joints, changed[:, :3].permute(0, 2, 3, 1))

    def mesh(self, both: Aggregated, answer: Inpainted) -> Posed:
        """Mesh and skeleton, which moves with the skin that its regressor looks at."""
        if self.config.see_ik:
            moved = self.finer.sampler.to_vertices(answer.changed)
            return Posed(both.posed.vertices + moved, both.posed.joints + self.body.joint_regressor @ moved)
        vertices = self.finer.sampler.to_vertices(answer.location)
        return Posed(vertices, self.body.joint_regressor @ vertices)

    # ---- learning

    def training_step(self, batch: Batch) -> Step:
        """Eq. 8, mean over the people of whom each is known."""
        with torch.no_grad():
            seen = self.maps.look(batch)
        with torch.autocast(batch.image.device.type, enabled=False):
            both = self.aggregated(seen)
            terms = self.losses(batch, self.inpaint(both), both.camera, seen)
            weights = self.config.losses
            total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return Step(losses=(total,), terms={name: term.detach() for name, term in terms.items()})

    def losses(
        self, batch: Batch, answer: Inpainted, camera: Float[Tensor, "batch 3"], seen: Seen
    ) -> dict[str, Float[Tensor, ""]]:
        """The unweighted terms of Eq. 8.

        Args:
            seen: whose correspondence the surface is held to, where the true one is not known.

        Raises:
            ValueError: the batch has no maps in UV space.
        """
        if batch.dense is None:
            raise ValueError("The batch has no maps in UV space; its source must draw them.")
        valid, maps = self.finer.valid, []
        for name in ("location", "joint", "displacement"):
            apart = (getattr(answer, name) - batch.dense.need(f"uv_{name}")).abs().mean(-1)  # type: ignore[arg-type]
            each = (apart * valid).sum((1, 2)) / valid.sum()
            maps.append(mean_where(each, _known(batch, f"uv_{name}")))
        rotations, betas, known = _truth(batch)
        joints, points = _joints_of(self.body, LSP14.name, rotations, betas), _seen_lsp(batch)
        mask = torch.where(_known(batch, "mask")[:, None, None], batch.dense.need("mask"), seen.person)
        uv = torch.where(_known(batch, "uv")[:, None, None, None], batch.dense.need("uv"), seen.uv.clamp(0, 1))
        consistent = consistency_loss(answer.location, valid, uv, mask, camera)
        return {
            "maps": torch.stack(maps).sum(),
            "joints_3d": mean_where((answer.joints - joints).abs().mean((1, 2)), known),
            "joints_2d": mean_where(joints_2d_loss(answer.joints, camera, points), (points[..., 2] > 0).any(1)),
            "symmetry": symmetry_loss(answer.displacement, self.finer.mirror).mean(),
            "consistency": mean_where(consistent, mask.any(2).any(1)),
        }

    # ---- answering

    @torch.no_grad()
    def answer(self, crops: Float[Tensor, "batch 3 size size"] | Batch) -> tuple[Seen, Aggregated, Inpainted]:
        """What each module says of crops, in evaluation mode; those of a batch, which may bring its features.

        Raises:
            ValueError: the weights are of another body.
        """
        self.finer.require_own()
        training = self.training
        self.eval()
        try:
            seen = self.maps.answer(crops)
            both = self.aggregated(seen)
            return seen, both, self.inpaint(both)
        finally:
            self.train(training)

    @torch.no_grad()
    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """Meshes and skeletons, and what is seen of them; no parameters.

        The camera is the one that makes ``l_con`` least, in squares; the network's own where hardly anybody is seen.
        """
        seen, both, answer = self.answer(image)
        maps, posed = seen.maps, self.mesh(both, answer)
        mask = maps.need("mask")
        points = uv_to_image(answer.location, maps.need("uv").clamp(0, 1), mask, self.finer.valid)
        camera = fitted_camera(points, mask, both.camera)
        place = perspective_translation(_weak(camera))[:, None]
        valid = self.finer.valid[..., None]
        inpainted = {f"uv_{n}": getattr(answer, n) * valid for n in ("location", "joint", "displacement")}
        return Estimate(
            vertices=posed.vertices + place,
            joints=posed.joints + place,
            camera=nominal_crop_camera(len(image), place),
            visibility=self.space.visible_joints(both.weight, self.body, mask.shape[1]),
            dense=replace(maps, **inpainted),
        )

    def adapter(self, network: CropNetwork, body: BodyModel, name: str) -> Estimator:
        """Says nothing of people of whom nothing is seen."""
        return BestOfBothWorlds(network, body, name)

    def errors(self, batch: Batch) -> Mapping[str, Float[Tensor, "batch _"]]:
        """Table 4's measures of each person, metres; NaN where the truth is not known.

        Returns:
            Distances of the 14 joints after each module, the pelvis in the same place: ``dmp`` (``J_initial``, hidden
            joints at the root), ``dmp_seen`` (NaN for those), ``refined`` (``J_refine``), ``ik`` (the posed body's) and
            ``uvi`` (``J_3d``); ``pa_``: the same after the best similarity; ``ik_mesh`` and ``uvi_mesh``: of vertices.
        """
        _, both, answer = self.answer(batch)
        rotations, betas, known = _truth(batch)
        true, posed = _posed(self.body, rotations, betas), self.mesh(both, answer)
        joints = _joints_of(self.body, LSP14.name, rotations, betas)
        found = {
            "dmp": both.initial,
            "refined": both.ik.joints,
            "ik": _joints_of(self.body, LSP14.name, both.ik.rotations, both.ik.betas),
            "uvi": answer.joints,
        }
        errors = {name: (points - joints).norm(dim=-1) for name, points in found.items()}
        errors |= {f"pa_{n}": (_aligned(p, joints) - joints).norm(dim=-1) for n, p in found.items()}
        errors["dmp_seen"] = torch.where(both.known, errors["dmp"], torch.nan)
        errors["ik_mesh"] = (both.posed.vertices - true.vertices).norm(dim=-1)
        errors["uvi_mesh"] = (posed.vertices - true.vertices).norm(dim=-1)
        return {name: torch.where(known[:, None], values, torch.nan) for name, values in errors.items()}

    def measures(self, batch: Batch) -> Mapping[str, Sum]:
        """Means of `errors`."""
        said = {
            "uvi": "MPJPE {:.1f} mm", "pa_uvi": "PA-MPJPE {:.1f} mm", "uvi_mesh": "MPVE {:.1f} mm",
            "ik": "IK {:.1f} mm", "pa_ik": "PA {:.1f} mm", "ik_mesh": "MPVE {:.1f} mm",
            "dmp": "DMP {:.1f} mm", "pa_dmp": "PA {:.1f} mm", "dmp_seen": "of seen joints {:.1f} mm",
        }  # fmt: skip
        errors = self.errors(batch)
        sums = {name: Sum.over(errors[name], ~errors[name].isnan(), 1e3, text) for name, text in said.items()}
        return {"mpjpe": sums.pop("uvi"), "pa_mpjpe": sums.pop("pa_uvi"), **sums}


def _three(
    space: UvSpace, vertices: Float[Tensor, "batch verts 3"], joints: Float[Tensor, "batch 14 3"]
) -> Float[Tensor, "batch size size 9"]:
    """A mesh and joints as ``UV_l``, ``UV_j`` and ``UV_d``."""
    location, joint = space.sampler.to_image(vertices), space.spread(joints)
    return torch.cat([location, joint, location - joint], dim=-1)


class BestOfBothWorlds:
    """The whole as an `kouros.systems.estimator.Estimator` of people in photos."""

    needs_keypoints = False
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, network: CropNetwork, body: BodyModel, name: str) -> None:
        self.body: BodyModel | None = body
        self.name = name
        self._crops = CropEstimator(network, body, name)

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """All crops in one batch; None, and a note, for those in whose squares nobody is seen.

        Raises:
            ValueError: a person comes without the photo.
        """
        answers = self._crops.estimate(people)
        nobody = sum(answer is not None and not _anybody(answer) for answer in answers)
        if nobody:
            note(f"{self.name} sees nobody in {nobody} of {len(people)} squares, and says nothing of them.")
        return [answer if answer is not None and _anybody(answer) else None for answer in answers]


def _anybody(estimate: Estimate) -> bool:
    return estimate.dense is None or bool(estimate.dense.need("mask").any())
