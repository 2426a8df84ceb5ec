"""HoloPose: Holistic 3D Human Reconstruction In-The-Wild.

Güler and Kokkinos, CVPR 2019. In the paper's order: configuration; the network (Sec. 5.1), with heads for 2D and 3D
keypoints, DensePose and features; the regressor whose parts vote (Sec. 2.1, 3); the agreement of body and heads (Sec.
4); losses and the two stages of training (5.1); prediction. What is general lies below: `kouros.networks.part_votes`,
`kouros.networks.deconvolution`, `kouros.priors.rotation_experts`, `kouros.body.surface.charts` and
`kouros.fitting.schedules.synergy`, which says how our refinement differs from the paper's.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy
from torch.optim import Adam, Optimizer

from kouros.batched import Batched
from kouros.body.keypoints import SPIN49, KeypointSet
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.surface.charts import Charts, build_charts, place_points
from kouros.body.surface.parts import DENSEPOSE24
from kouros.data.augment import SPIN_AUGMENTATION, AugmentConfig
from kouros.data.batch import Batch
from kouros.data.dense import Wants
from kouros.fitting.schedules.keypoint_fit import FitConfig
from kouros.fitting.schedules.synergy import Cues, Synergy, SynergyConfig
from kouros.fitting.terms.densepose import evidence_of_iuv
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.keypoints import usable_keypoints
from kouros.geometry.cameras import SPIN_CROP_SIZE, nominal_crop_camera
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.deconvolution import DeconvolutionHead
from kouros.networks.estimates import NUM_BETAS, MeanParameters, Regressed
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.light_head import LightHead
from kouros.networks.localization import expected_points, peaks, values_at
from kouros.networks.movenet import MoveNetTrunk
from kouros.networks.part_pictures import heatmaps
from kouros.networks.part_votes import AngleKind, PartVotes, joints_of_points, neighbourhoods
from kouros.networks.resnet import Depth, ResNet
from kouros.notes import note
from kouros.priors.gmm import load_gmm
from kouros.priors.rotation_experts import load_experts, read_experts
from kouros.render.maps import DenseMaps
from kouros.systems.backbone_weights import begin_backbone
from kouros.systems.estimator import CropEstimator, CropNetwork, Estimate, Estimator, PersonInPhoto
from kouros.systems.layer_maps import LayerMapsSystem
from kouros.systems.losses import (
    ANNOTATED,
    annotated_error_3d,
    betas_loss,
    mean_where,
    regressed_keypoints,
    require_regressable,
    rotation_loss,
    to_crop_coordinates,
)
from kouros.systems.measures import Best, Sum, body_measures
from kouros.systems.pictures import people_sheet
from kouros.systems.recipe import Recipe
from kouros.systems.system import Start, Step

POINTS = KeypointSet("spin24", SPIN49.names[ANNOTATED])
"""The joints of the 2D and 3D heads: those that data sets annotate."""
_PARTS = len(DENSEPOSE24)

# ---- configuration

Cue = Literal["2d", "3d", "dense"]


@dataclass(frozen=True)
class HoloPoseLosses:
    """What each loss weighs; 0 leaves it out. The paper gives no weights."""

    heatmaps: float = 1.0
    """Of the 2D head: squared differences, as shares of what an empty heatmap would have."""
    volumes: float = 5.0
    """Of the 3D head: absolute differences of the expected points, in crop coordinates (Sun et al., Eq. 4)."""
    parts: float = 1.0
    """Of the DensePose head: cross entropy of part and background."""
    uv: float = 2.0
    """Of the DensePose head: absolute differences on the true part's chart."""
    keypoints_2d: float = 5.0
    """Of the body: absolute differences in crop coordinates, like the next three through ``phi`` of Eq. 2."""
    keypoints_3d: float = 10.0
    """Absolute differences, metres."""
    dense: float = 5.0
    """Eq. 4, mean over the points instead of their sum: distances in crop coordinates."""
    beta_bound: float = 0.1
    """``L_beta``: what betas exceed 2 by."""
    rotations: float = 0.0
    """Of rotation matrices, where the true pose is known: the paper learns from points alone."""
    betas: float = 0.0
    """Likewise of the shape."""


@dataclass(frozen=True)
class Agreement:
    """How body and heads are brought to agree (Sec. 4)."""

    iterations: int = 20
    """At most; 0 leaves the single shot as it is."""
    solver: Literal["conjugate_gradients", "levenberg_marquardt"] = "conjugate_gradients"
    """The paper's, or one that is faster where nothing is learned through it."""
    cues: tuple[Cue, ...] = ("2d", "3d", "dense")
    """Which heads the body is to agree with (Table 3)."""
    dense_points: int = 96
    """Pixels of the DensePose head that count."""
    training: int = 0
    """Iterations that training learns through; 0: it learns from the single shot alone, as the paper does."""
    weights: SynergyConfig = field(
        default_factory=lambda: SynergyConfig(
            keypoints=FitConfig(
                keypoint_sigma=0.016, keypoint_outlier=3.0, landmark_sigma=(0.08, 0.08, 0.08), pose_prior=1.5
            ),
            dense_sigma=0.02,
        )
    )
    """How far each head is trusted, and the pose prior: as the small variant's heads deserve."""

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.training < 0 or self.dense_points < 1:
            raise ValueError(
                f"iterations is {self.iterations}, training {self.training} and dense_points {self.dense_points}; "
                "expected 0 or more, 0 or more, and at least 1."
            )
        if not self.cues:
            raise ValueError("There are no cues to agree with; name some of 2d, 3d and dense, or set iterations to 0.")


@dataclass(frozen=True)
class HoloPoseConfig:
    """The published network, where the paper says what it is."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=140_000, batch_size=64)
    """The paper says nothing; Sun et al., whose practices it follows, train about so long."""

    stage: Literal["keypoints", "whole"] = "whole"
    """The first stage of training, with the 2D and 3D heads alone, or the second, with all."""
    first_stage: Path | None = None
    """Of the second: a run of the first to begin with."""
    backbone: Depth | Literal["movenet"] = 50
    """Depth of the ResNet; or MoveNet's trunk, which has seen people: to be held."""
    width: int = 64
    """Of the ResNet's first layer; the others go with it."""
    heads: Literal["deconvolution", "light"] = "deconvolution"
    """As published, or light ones on all of a backbone's maps."""
    head_width: int = 256
    """Channels within the heads."""
    coarse_width: int | None = None
    """Of the heads for volumes and features; default: as of the others."""
    crop_size: int = 256
    """Side of the crops, pixels."""
    stride: int = 4
    """Pixels of the crop to one of the heatmaps and of DensePose, along each side."""
    coarse_stride: int = 4
    """Likewise of volumes and features."""
    depth: int = 64
    """Cells of the volumes along the line of sight."""
    features: int = 256
    """Numbers at each place that parts are regressed from."""
    sigma: float = 1.0
    """Of the Gaussian around each joint, pixels of the heatmaps."""
    threshold: float = 0.4
    """A joint whose heatmap stays below is not seen."""
    regressor: Literal["parts", "whole", "hmr"] = "parts"
    """Parts that vote; one linear layer on the features' mean, with the same experts; or HMR's on that mean."""
    angles: AngleKind = "experts"
    """What parts vote for: weights of experts (Eq. 2), Euler angles, or 6D rotations."""
    experts: Path | None = None
    """File of `kouros train prior experts`; default: the packaged experts."""
    pooled_at: Literal["found", "annotated"] = "found"
    """Where training takes features: at the joints that the 2D head finds, or at the annotated ones."""
    hidden: float = 0.0
    """Share of the joints that training takes for not seen."""
    dense_points: int = 64
    """Points a person that Eq. 4 is learned from."""
    losses: HoloPoseLosses = field(default_factory=HoloPoseLosses)
    agreement: Agreement = field(default_factory=Agreement)
    learning_rate: float = 1e-4
    """Adam's; the paper says nothing."""
    weight_decay: float = 0.0
    """Likewise."""
    imagenet: Path | None = None
    """Torchvision's ImageNet weights of the ResNet to begin with; the paper has them."""
    augment: AugmentConfig = SPIN_AUGMENTATION
    """How training changes crops."""

    def __post_init__(self) -> None:
        self.wants.map_size(self.crop_size)
        Wants(stride=self.coarse_stride).map_size(self.crop_size)
        if self.backbone == "movenet" and self.heads != "light":
            raise ValueError("MoveNet's coarsest map is too coarse for deconvolutions; choose --heads light.")
        if not 0 <= self.hidden < 1 or not 0 < self.threshold < 1:
            raise ValueError(
                f"hidden is {self.hidden} and threshold {self.threshold}; expected shares of at least 0 and below 1, "
                "and between 0 and 1."
            )
        if self.stage == "keypoints" and self.first_stage is not None:
            raise ValueError("first-stage is what the second stage begins with; leave it out of the first.")

    @property
    def wants(self) -> Wants:
        """What it asks of each batch."""
        if self.stage == "keypoints":
            return Wants(stride=self.stride)
        return Wants(maps=("iuv",), stride=self.stride, dense_points=self.dense_points)

    def build(self, body: BodyModel, num_samples: int = 0) -> "HoloPose":
        """The system with fresh weights, from torch's global generator.

        Args:
            body: that estimates are of.
            num_samples: as other systems need it; this one keeps nothing of its samples.

        Raises:
            ValueError: the body cannot be regressed; or the file of experts is none.
        """
        return HoloPose(self, body)


# ---- what the network says of crops


@dataclass(frozen=True)
class Seen(Batched):
    """What the heads say. Points are those of `POINTS`, in crop coordinates from -1 to 1."""

    heatmaps: Float[Tensor, "batch 24 rows columns"]
    joints: Float[Tensor, "batch 24 3"]
    """x and y of each heatmap's maximum, and how high it is."""
    points: Float[Tensor, "batch 24 3"]
    """The 3D head's: x and y, and how far behind the pelvis, in the same unit."""
    parts: Float[Tensor, "batch labels rows columns"]
    """DensePose's scores of the background and each part."""
    uv: Float[Tensor, "batch parts 2 rows columns"]
    """u and v, if that part is what a pixel shows."""
    features: Float[Tensor, "batch channels places_down places_across"]
    """What parts are regressed from."""
    whole: Float[Tensor, "batch numbers"]
    """The coarsest map, averaged over each quarter of the crop."""

    @property
    def iuv(self) -> Float[Tensor, "batch rows columns 3"]:
        """DensePose's answer: the likeliest part, and u and v on its chart."""
        part = self.parts.argmax(1)
        place = (part - 1).clamp(min=0)[:, None, None].expand(-1, 1, 2, -1, -1)
        uv = self.uv.gather(1, place)[:, 0].clamp(0, 1) * (part > 0)[:, None]
        return torch.cat([part[:, None].to(uv), uv], dim=1).permute(0, 2, 3, 1)

    @property
    def certainty(self) -> Float[Tensor, "batch rows columns"]:
        """Of the likeliest part, in [0, 1]."""
        return self.parts.softmax(1).amax(1)


class Heads(nn.Module):
    """The heads of Sec. 5.1 on one backbone's maps: one each as published, or two light ones that share their work.

    Of the light ones, the first draws heatmaps and DensePose, the second volumes and features.
    """

    def __init__(self, config: HoloPoseConfig, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.config, self._strides = config, tuple(strides)
        points, dense = len(POINTS), 1 + 3 * _PARTS
        self._fine, self._coarse = (points, dense), (points * config.depth, config.features)
        fine, coarse = config.head_width, config.coarse_width or config.head_width
        if config.heads == "deconvolution":
            self.heatmaps, self.dense = (DeconvolutionHead(channels[-1], n, fine) for n in self._fine)
            self.volumes, self.features = (DeconvolutionHead(channels[-1], n, coarse) for n in self._coarse)
        else:
            self.fine = self._light(channels, sum(self._fine), config.stride, fine)
            self.coarse = self._light(channels, sum(self._coarse), config.coarse_stride, coarse)
            # Begin by knowing nothing, but for the features, which are to tell something.
            for head, rows in ((self.fine, sum(self._fine)), (self.coarse, self._coarse[0])):
                with torch.no_grad():
                    head.answer.weight[:rows] *= 0.01

    @property
    def appended(self) -> list[nn.Module]:
        """Those that the second stage of training adds."""
        return [self.dense, self.features] if self.config.heads == "deconvolution" else []

    def _light(self, channels: Sequence[int], outputs: int, stride: int, width: int) -> LightHead:
        kept = self._kept(stride)
        return LightHead([channels[i] for i in kept], [self._strides[i] for i in kept], outputs, width)

    def _kept(self, stride: int) -> list[int]:
        """The maps that a light head of that stride stands on: finer ones would cost more than they tell."""
        return [i for i, own in enumerate(self._strides) if own >= stride] or [len(self._strides) - 1]

    def _answers(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Heatmaps, DensePose, volumes, features."""
        fine, coarse = ((self.config.crop_size // s,) * 2 for s in (self.config.stride, self.config.coarse_stride))
        if self.config.heads == "deconvolution":
            return (
                self.heatmaps(maps, fine),
                self.dense(maps, fine),
                self.volumes(maps, coarse),
                self.features(maps, coarse),
            )
        drawn = self.fine([maps[i] for i in self._kept(self.config.stride)], fine)
        rest = self.coarse([maps[i] for i in self._kept(self.config.coarse_stride)], coarse)
        return *drawn.split(self._fine, dim=1), *rest.split(self._coarse, dim=1)

    def forward(self, maps: Sequence[Float[Tensor, "batch _channels _rows _columns"]]) -> Seen:
        """What all heads say."""
        found, dense, volumes, features = (answer.float() for answer in self._answers(maps))
        return Seen(
            heatmaps=found,
            joints=peaks(found),
            points=expected_points(volumes.unflatten(1, (len(POINTS), self.config.depth))),
            parts=dense[:, : 1 + _PARTS],
            uv=dense[:, 1 + _PARTS :].unflatten(1, (_PARTS, 2)),
            features=features,
            whole=adaptive_avg_pool2d(maps[-1].float(), 2).flatten(1),
        )


# ---- from what is seen to a body (Sec. 2.1, 3)


class PartRegressor(nn.Module):
    """Parts vote for angles (`PartVotes`); shape and camera come from the whole crop.

    Args:
        config: which regressor.
        body: whose kinematic tree says which joints vote for what.
        pooled: numbers of the whole crop.
    """

    def __init__(self, config: HoloPoseConfig, body: BodyModel, pooled: int) -> None:
        super().__init__()
        experts = load_experts() if config.experts is None else read_experts(config.experts)
        if config.regressor == "parts":
            rest = body.keypoint_positions(SPIN49.name, betas=body.v_template.new_zeros(1, body.num_betas))
            near = neighbourhoods(joints_of_points(POINTS.names, rest[0, ANNOTATED], body.joint_template))
        else:
            near = torch.ones(24, 1, dtype=torch.bool)  # the whole crop is one point, which votes for everything
        self.by_parts = config.regressor == "parts"
        self.votes = PartVotes(config.features, near, experts, config.angles)
        self.norm = nn.LayerNorm(pooled)
        self.rest = nn.Linear(pooled, NUM_BETAS + 3)
        nn.init.normal_(self.rest.weight, std=0.01)
        nn.init.zeros_(self.rest.bias)
        self.register_buffer("mean_camera", MeanParameters.packaged().camera, persistent=False)

    mean_camera: Tensor

    def forward(self, seen: Seen, points: Float[Tensor, "batch 24 2"], there: Bool[Tensor, "batch 24"]) -> Regressed:
        """Bodies.

        Args:
            seen: with features.
            points: where parts are, crop coordinates.
            there: which of them are seen.
        """
        features, there = self.pooled(seen, points, there)
        rotations = self.votes(features, there).rotations
        # Pictures that are no numbers have the mean's shape and place, as they have the resting pose.
        known = torch.isfinite(seen.whole).all(-1, keepdim=True)
        # Of length 1 for all, or one step of Adam would move the answer by as much as there are inputs.
        pooled = self.norm(torch.where(known, seen.whole, 0.0)) / seen.whole.shape[1] ** 0.5
        numbers = torch.where(known, self.rest(pooled), 0.0)
        # Positive whatever is said, so that nobody stands behind the camera.
        scale = self.mean_camera[:1] * numbers[:, NUM_BETAS : NUM_BETAS + 1].clamp(-2, 2).exp()
        shift = self.mean_camera[1:] + numbers[:, NUM_BETAS + 1 :]
        return Regressed(rotations, numbers[:, :NUM_BETAS], torch.cat([scale, shift], dim=1))

    def pooled(
        self, seen: Seen, points: Float[Tensor, "batch 24 2"], there: Bool[Tensor, "batch 24"]
    ) -> tuple[Float[Tensor, "batch voters channels"], Bool[Tensor, "batch voters"]]:
        """Features of who votes, and whether it does."""
        if self.by_parts:
            return values_at(seen.features, torch.where(there[..., None], points, 0.0)), there
        return seen.features.mean((2, 3))[:, None], torch.ones_like(there[:, :1])


class _HmrOnMean(nn.Module):
    """HMR's regressor on the features' mean, to compare with."""

    def __init__(self, config: HoloPoseConfig) -> None:
        super().__init__()
        self.regressor = HmrRegressor(config.features)

    def forward(self, seen: Seen, points: Float[Tensor, "batch 24 2"], there: Bool[Tensor, "batch 24"]) -> Regressed:
        answer: Regressed = self.regressor(seen.features.mean((2, 3)))[-1]
        # As ours, nobody may stand behind the camera.
        return replace(answer, camera=torch.cat([answer.camera[:, :1].clamp(min=0.1), answer.camera[:, 1:]], dim=1))


# ---- losses (5.1, Eq. 4)


def heatmap_loss(
    found: Float[Tensor, "batch points rows columns"], true: Float[Tensor, "batch points 3"], sigma: float
) -> Float[Tensor, ""]:
    """Squared differences from Gaussians of height 1, as shares of what an empty heatmap would have.

    Args:
        true: x, y in crop coordinates, and confidence: of who has none nothing is learned.
        sigma: of the Gaussians, pixels of the heatmaps.
    """
    size = found.shape[-1]
    wanted = heatmaps(true, size, sigma / size)
    each = (found - wanted).square().sum((2, 3)) / (torch.pi * sigma**2)
    known = true[..., 2] > 0
    return mean_where(each.flatten(), known.flatten())


def crop_scale(
    flat: Float[Tensor, "batch points 3"], space: Float[Tensor, "batch points 4"]
) -> tuple[Float[Tensor, " batch"], Bool[Tensor, " batch"]]:
    """How large a metre is in the crop, by least squares over the points that are known in both, and whether that is.

    Args:
        flat: x, y in crop coordinates, and confidence.
        space: metres, camera axes, and confidence.
    """
    weight = ((flat[..., 2] > 0) & (space[..., 3] > 0)).to(flat)[..., None]
    count = weight.sum(1, keepdim=True).clamp(min=1)
    seen, true = (torch.where(weight > 0, t[..., :2], 0.0) for t in (flat, space))
    seen, true = ((t - t.sum(1, keepdim=True) / count) * weight for t in (seen, true))
    square = true.square().sum((1, 2))
    scale = (seen * true).sum((1, 2)) / square.clamp(min=1e-6)
    return scale, (square > 1e-3) & (scale > 1e-3)


def dense_loss(
    body: BodyModel,
    charts: Charts,
    regressed: Regressed,
    pixels: Float[Tensor, "batch points 2"],
    part: Float[Tensor, "batch points"] | Tensor,
    uv: Float[Tensor, "batch points 2"],
) -> Float[Tensor, ""]:
    """Eq. 4: how far pixels are from where the body has the points of the skin that they show; mean over the points.

    Args:
        body: the charts' own.
        pixels: crop coordinates.
        part: 1 to 24; other points, and those off the charts, are left out.
        uv: on the charts.
    """
    usable = charts.covers(part, uv)
    points = charts.lookup(torch.where(usable, part, 1), torch.where(usable[..., None], uv, 0.5))
    space = place_points(
        body,
        points,
        regressed.betas,
        regressed.rotations[:, 1:],
        regressed.rotations[:, 0],
        regressed.transl,
        pose2rot=False,
    )
    camera = nominal_crop_camera(len(space), space)
    away = to_crop_coordinates(camera.project(space), SPIN_CROP_SIZE) - torch.where(usable[..., None], pixels, 0.0)
    # The root has no slope at zero; a thousandth of the crop is near enough.
    return mean_where((away.square().sum(-1) + 1e-6).sqrt().flatten(), usable.flatten())


def excess_betas(betas: Float[Tensor, "batch betas"], bound: float = 2.0) -> Float[Tensor, ""]:
    """``L_beta = sum_i max(0, |beta_i| - b)``, mean over the batch: the paper's formula has the sign wrong."""
    return (betas.abs() - bound).clamp(min=0).sum(-1).mean()


# ---- the system


class HoloPose(LayerMapsSystem):
    """Network, agreement and losses."""

    judged_by: Sequence[str] = ("keypoints_3d", "keypoints_2d")

    def __init__(self, config: HoloPoseConfig, body: BodyModel) -> None:
        super().__init__()
        require_regressable(body)
        self.config, self.wants, self.augment = config, config.wants, config.augment
        self.points_2d = self.points_3d = POINTS
        self.best_by = (Best("head_pa_mpjpe"), Best("pa_mpjpe"))
        if config.stage == "whole":
            self.best_by = (Best("pa_mpjpe"), Best("keypoints_2d"))
        self.body = copy.deepcopy(body)  # goes where the network goes
        if config.backbone == "movenet":
            self.backbone = MoveNetTrunk()
        else:
            self.backbone = ResNet(config.backbone, width=config.width)
        channels, strides = self.backbone.layer_channels, self.backbone.layer_strides
        self.heads = Heads(config, channels, strides)
        hmr = config.regressor == "hmr"
        self.regressor = _HmrOnMean(config) if hmr else PartRegressor(config, body, 4 * channels[-1])
        if config.stage == "keypoints":
            for module in (*self.heads.appended, self.regressor):
                module.requires_grad_(False)

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        return self.config.crop_size

    @cached_property
    def _built_charts(self) -> Charts:
        return build_charts(self.body)

    @property
    def charts(self) -> Charts:
        """Of its body, where it is; made when they are first asked for, in seconds."""
        device = self.body.v_template.device
        if self._built_charts.rest.device != device:
            self.__dict__["_built_charts"] = self._built_charts.to(device)
        return self._built_charts

    def begin(self, samples: Iterable[Batch] = ()) -> None:
        """Once, before the first step of a new run: read the file that the configuration names, or MoveNet's.

        Raises:
            ValueError: the file is not what it should be.
            OSError: it cannot be read.
        """
        begin_backbone(self.backbone, self.config.imagenet)

    def starts(self) -> Sequence[Start]:
        """All that the first stage has learned; what it has not is as it was in the beginning."""
        return () if self.config.first_stage is None else (Start(self.config.first_stage, {"": ""}),)

    def optimizers(self) -> tuple[Optimizer, ...]:
        """Adam."""
        trained = [p for p in self.parameters() if p.requires_grad]
        return (Adam(trained, lr=self.config.learning_rate, weight_decay=self.config.weight_decay),)

    # ---- the network

    def look(self, maps: Sequence[Float[Tensor, "batch _channels _rows _columns"]]) -> Seen:
        """What the heads say of a backbone's maps."""
        seen: Seen = self.heads(maps)
        return seen

    def found(self, seen: Seen) -> Bool[Tensor, "batch 24"]:
        """Joints that are in the picture (Sec. 3)."""
        return seen.joints[..., 2] >= self.config.threshold

    def regress(
        self,
        seen: Seen,
        points: Float[Tensor, "batch 24 2"] | None = None,
        there: Bool[Tensor, "batch 24"] | None = None,
    ) -> Regressed:
        """The single shot.

        Args:
            points: where features are taken, with ``there``; default: the joints that the 2D head finds.
        """
        points = seen.joints[..., :2] if points is None else points
        answer: Regressed = self.regressor(seen, points, self.found(seen) if there is None else there)
        return answer

    # ---- agreement (Sec. 4)

    def cues(self, seen: Seen, camera: Float[Tensor, "batch 3"]) -> Cues:
        """What the heads say, as evidence in the nominal crop.

        Args:
            camera: the single shot's; its scale is the metre of the 3D head.
        """
        agreement = self.config.agreement
        half = SPIN_CROP_SIZE / 2
        height = seen.joints[..., 2].clamp(min=0)
        confidence = torch.where(self.found(seen), height.clamp(max=1), 0.0)
        pixels = (seen.joints[..., :2] + 1) * half
        space = seen.points / camera[:, :1, None] if "3d" in agreement.cues else None
        evidence = Evidence(
            torch.cat([pixels, confidence[..., None]], dim=-1),
            SPIN49.name,
            nominal_crop_camera(len(camera), camera),
            space,
        )
        dense = None
        if "dense" in agreement.cues:
            square = camera.new_tensor([half, half, SPIN_CROP_SIZE]).expand(len(camera), 3)
            dense = evidence_of_iuv(self.charts, seen.iuv, square, agreement.dense_points, seen.certainty)
        return Cues(evidence, dense)

    @property
    def synergy(self) -> Synergy:
        """What makes body and heads agree, where the body is, as the configuration has it."""
        weights = replace(self.config.agreement.weights, reprojection="2d" in self.config.agreement.cues)
        key = (self.body.v_template.device, weights)
        if self._synergy is None or self._synergy[0] != key:
            points = tuple(range(ANNOTATED.start, len(SPIN49)))
            self._synergy = (key, Synergy(self.body, SPIN49.name, load_gmm(), weights, points))
        return self._synergy[1]

    _synergy: "tuple[tuple[torch.device, SynergyConfig], Synergy] | None" = None

    @torch.no_grad()
    def agreed(self, seen: Seen, shot: Regressed) -> Bodies:
        """The single shot, refined; of whom no joint is seen, as it is."""
        bodies, agreement = shot.bodies, self.config.agreement
        anybody = (
            self.found(seen).any(1) & torch.isfinite(bodies.vector).all(1) & torch.isfinite(seen.points).all((1, 2))
        )
        if not agreement.iterations or not bool(anybody.any()):
            return bodies
        some = seen[anybody]
        start = bodies[anybody]
        refined = self.synergy.refine(
            self.cues(some, shot.camera[anybody]), start, solver=agreement.solver, iterations=agreement.iterations
        ).parameters
        vector = bodies.vector.clone()
        vector[anybody] = refined.vector
        return Bodies.of(BodyParameters.from_vector(vector), bodies.camera)

    def learned_through(self, seen: Seen, shot: Regressed) -> Regressed:
        """The single shot after the agreement's iterations, with gradients to it and to all heads."""
        solution = self.synergy.layer(self.cues(seen, shot.camera), shot.bodies, self.config.agreement.training)
        moved = BodyParameters.from_vector(solution.unknowns)
        # The place as a camera again.
        depth = moved.transl[:, 2:].clamp(min=1.0)
        scale = shot.camera[:, :1] * shot.transl[:, 2:].detach() / depth
        camera = torch.cat([scale, moved.transl[:, :2]], dim=1)
        return Regressed(moved.rotations, moved.betas, camera)

    # ---- training (5.1)

    def training_step(self, batch: Batch) -> Step:
        """Look, and add up the losses of what each sample has."""
        maps = self.seen_maps(batch)
        seen = self.look(maps)
        # Half precision, which a training loop may have switched on, is too coarse for what follows.
        with torch.autocast(batch.image.device.type, enabled=False):
            terms, shot = self._losses(batch, seen)
            weights = self.config.losses
            total = torch.stack([_weight(weights, name) * term for name, term in terms.items()]).sum()
        return Step(
            losses=(total,),
            terms={name: term.detach() for name, term in terms.items()},
            predicted=None if shot is None else Estimate(bodies=shot.detach().bodies),
        )

    def _losses(self, batch: Batch, seen: Seen) -> tuple[dict[str, Float[Tensor, ""]], Regressed | None]:
        flat, space = self._true_points(batch)
        terms = {
            "heatmaps": heatmap_loss(seen.heatmaps, flat, self.config.sigma),
            "volumes": self._volume_loss(seen, flat, space),
        }
        if self.config.stage == "keypoints":
            return terms, None
        terms |= self._dense_head_losses(batch, seen)
        shot = self.regress(seen, *self._pooled_at(seen, flat))
        terms |= self._body_losses(batch, shot)
        if self.config.agreement.training:
            refined = self._body_losses(batch, self.learned_through(seen, shot))
            terms |= {f"refined_{name}": term for name, term in refined.items()}
        return terms, shot

    def _true_points(self, batch: Batch) -> tuple[Float[Tensor, "batch 24 3"], Float[Tensor, "batch 24 4"]]:
        """`POINTS` in crop coordinates, and in space, each with confidences."""
        seen = usable_keypoints(batch.keypoints_2d)[:, ANNOTATED]
        flat = torch.cat([to_crop_coordinates(seen[..., :2], batch.crop_size), seen[..., 2:]], dim=-1)
        known = torch.isfinite(batch.keypoints_3d).all(-1, keepdim=True)
        return flat, torch.where(known, batch.keypoints_3d, 0.0)[:, ANNOTATED]

    def _volume_loss(self, seen: Seen, flat: Tensor, space: Tensor) -> Float[Tensor, ""]:
        """Absolute differences of the expected points; depths of those whose size in the crop is known."""
        inside = (flat[..., :2].abs() < 1).all(-1) & (flat[..., 2] > 0)
        across = (seen.points[..., :2] - flat[..., :2]).abs().sum(-1)
        scale, known = crop_scale(flat, space)
        depth = (seen.points[..., 2] - scale.detach()[:, None] * space[..., 2]).abs()
        told = (space[..., 3] > 0) & known[:, None]
        return mean_where(across.flatten(), inside.flatten()) + mean_where(depth.flatten(), told.flatten())

    def _dense_head_losses(self, batch: Batch, seen: Seen) -> dict[str, Float[Tensor, ""]]:
        """Of maps where they are known, and of annotated points alone where they are not."""
        labels, uv = torch.zeros_like(seen.parts[:, 0], dtype=torch.long), torch.zeros_like(seen.uv[:, 0])
        known = torch.zeros(len(batch), dtype=torch.bool, device=labels.device)
        if batch.dense is not None and batch.dense.iuv is not None:
            known = batch.dense_known.get("iuv", torch.ones_like(known))
            labels = batch.dense.iuv[..., 0].round().long()
            uv = batch.dense.iuv[..., 1:].permute(0, 3, 1, 2)
        each = cross_entropy(seen.parts, labels, reduction="none").mean((1, 2))
        place = (labels - 1).clamp(min=0)[:, None, None].expand(-1, 1, 2, -1, -1)
        apart = (seen.uv.gather(1, place)[:, 0] - uv).abs().sum(1)
        on_body = (labels > 0) & known[:, None, None]
        terms = {"parts": mean_where(each, known), "uv": mean_where(apart.flatten(), on_body.flatten())}
        points = batch.dense_points
        if points is not None and not bool(known.all()):
            # Annotated points say nothing of the background.
            at = to_crop_coordinates(points.pixels, batch.crop_size)
            scores = values_at(seen.parts, at)[..., 1:]
            learned = points.valid & ~known[:, None] & (points.part > 0)
            part = (points.part - 1).clamp(min=0)
            wrong = cross_entropy(scores.flatten(0, 1), part.flatten(), reduction="none")
            told = values_at(seen.uv.flatten(1, 2), at).unflatten(-1, (_PARTS, 2))
            told = told.gather(2, part[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
            away = torch.where(learned[..., None], told - points.uv, 0.0).abs().sum(-1)
            terms["parts"] = terms["parts"] + mean_where(wrong, learned.flatten())
            terms["uv"] = terms["uv"] + mean_where(away.flatten(), learned.flatten())
        return terms

    def _pooled_at(self, seen: Seen, flat: Tensor) -> tuple[Float[Tensor, "batch 24 2"], Bool[Tensor, "batch 24"]]:
        """Where training takes features, and which of the joints it takes for seen."""
        points, there = seen.joints[..., :2], self.found(seen)
        if self.config.pooled_at == "annotated":
            known = (flat[..., 2] > 0) & (flat[..., :2].abs() < 1).all(-1)
            points, there = torch.where(known[..., None], flat[..., :2], points), known | there
        if self.config.hidden:
            there = there & (torch.rand(there.shape, device=there.device) >= self.config.hidden)
        return points, there

    def _body_losses(self, batch: Batch, shot: Regressed) -> dict[str, Float[Tensor, ""]]:
        """Through the body that the parts voted for."""
        weights, keypoints = self.config.losses, regressed_keypoints(self.body, shot)
        flat, _ = self._true_points(batch)
        known = flat[..., 2] > 0
        away = (keypoints.picture[:, ANNOTATED] - flat[..., :2]).abs().sum(-1)
        apart, confidence = annotated_error_3d(keypoints.space, batch.keypoints_3d)
        terms = {
            "keypoints_2d": mean_where(away.flatten(), known.flatten()),
            "keypoints_3d": mean_where(apart.abs().sum(-1).flatten(), confidence.flatten() > 0),
            "beta_bound": excess_betas(shot.betas),
        }
        points = batch.dense_points
        if weights.dense and points is not None:
            part = torch.where(points.valid, points.part, 0)
            at = to_crop_coordinates(points.pixels, batch.crop_size)
            terms["dense"] = dense_loss(self.body, self.charts, shot, at, part, points.uv)
        if weights.rotations:
            true = rotvec_to_rotmat(torch.nan_to_num(batch.pose).unflatten(-1, (24, 3)))
            terms["rotations"] = rotation_loss(shot.rotations, true, batch.has_pose)
        if weights.betas:
            terms["betas"] = betas_loss(shot.betas, batch.betas, batch.has_betas)
        return terms

    # ---- prediction

    @torch.no_grad()
    def seen_of(self, image: Float[Tensor, "batch 3 size size"]) -> Seen:
        """What the heads say of crops, in evaluation mode."""
        training = self.training
        self.eval()
        try:
            return self.look(self.layer_maps(image))
        finally:
            self.train(training)

    @torch.no_grad()
    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """As in `kouros.systems.estimator.CropNetwork`: bodies that agree with the heads, and what the heads say."""
        return self.estimated(self.seen_of(image))

    @torch.no_grad()
    def estimated(self, seen: Seen) -> Estimate:
        """The same from what the heads say."""
        points_2d = (seen.joints[..., :2] + 1) * self.crop_size / 2
        shot = self.regress(seen)
        iuv = seen.iuv
        return Estimate(
            bodies=self.agreed(seen, shot),
            points_3d=seen.points / shot.camera[:, :1, None],
            points_2d=points_2d,
            dense=DenseMaps(mask=iuv[..., 0] > 0, iuv=iuv),
            heatmaps=seen.heatmaps,
        )

    def adapter(self, network: CropNetwork, body: BodyModel, name: str) -> Estimator:
        """Behind one that says whom it has not seen."""
        return HoloPoseEstimator(network, body, name, self.config.threshold)

    def measures(self, batch: Batch) -> Mapping[str, Sum]:
        """Of the single shot and the 3D head, PA-MPJPE of the latter about its own points; and of the parts."""
        seen = self.seen_of(batch.image)
        flat, space = self._true_points(batch)
        found = {"head_pa_mpjpe": _aligned(seen.points, space)}
        found["head_2d"] = Sum.over(
            (seen.joints[..., :2] - flat[..., :2]).norm(dim=-1) * (SPIN_CROP_SIZE / 2),
            (flat[..., 2] > 0) & (flat[..., :2].abs() < 1).all(-1),
            said="2D head {:.1f} px",
        )
        if self.config.stage == "keypoints":
            return found
        if batch.dense is not None and batch.dense.iuv is not None:
            true, said = batch.dense.iuv[..., 0].round().long(), seen.parts.argmax(1)
            on_body = true > 0
            found["parts"] = Sum.over((true == said).float(), on_body, 100.0, "parts {:.1f} %")
        return {**body_measures(self.regress(seen).bodies, batch, self.body), **found}

    @torch.no_grad()
    def pictures(self, batch: Batch, step: Step) -> Mapping[str, UInt8[np.ndarray, "height width 3"]]:
        """The first people, and their predicted bodies."""
        if step.predicted is None or step.predicted.bodies is None:
            return {}
        return {"people": people_sheet(batch.image, step.predicted.bodies, None, self.body)}


def _weight(losses: HoloPoseLosses, name: str) -> float:
    weight: float = getattr(losses, name.removeprefix("refined_"))
    return weight


def _aligned(points: Float[Tensor, "batch 24 3"], space: Float[Tensor, "batch 24 4"]) -> Sum:
    """PA-MPJPE over the points that are known in space, millimetres."""
    from kouros.geometry.alignment import align

    known = space[..., 3] > 0
    enough = known.sum(1) >= 3
    ours, theirs, counted = points[enough], space[enough][..., :3], known[enough]
    moved = align(ours, theirs, counted.to(ours)).apply(ours) if len(ours) else ours
    return Sum.over((moved - theirs).norm(dim=-1), counted, 1e3, "3D head PA-MPJPE {:.1f} mm")


def skin_estimator(system: HoloPose, body: BodyModel) -> Estimator:
    """What HoloPose's heads say of people's skin, for others' fits: its own body is left at the single shot.

    Args:
        body: that fits are of.
    """
    looking = copy.copy(system)
    looking.config = replace(system.config, agreement=replace(system.config.agreement, iterations=0))
    return CropEstimator(looking, body, "HoloPose's DensePose head")


class HoloPoseEstimator(CropEstimator):
    """A `CropEstimator` that says of whom no joint was seen, whose body then only rests.

    Args:
        network: ends with a `HoloPose`.
        threshold: below it a joint is not seen.
    """

    def __init__(self, network: CropNetwork, body: BodyModel, name: str, threshold: float) -> None:
        super().__init__(network, body, name)
        self._threshold = threshold

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """All crops in one batch.

        Raises:
            ValueError: a person comes without the photo.
        """
        answers = super().estimate(people)
        for number, answer in enumerate(answers):
            if answer is not None and answer.heatmaps is not None and bool(answer.heatmaps.amax() < self._threshold):
                note(f"person {number}: no joint was seen in the crop; the body is in the resting pose.")
        return answers
