"""Neural Body Fitting: Unifying Deep Learning and Model-Based Human Pose and Shape Estimation.

Omran, Lassner, Pons-Moll, Gehler and Schiele, 3DV 2018. In the order in which a photo goes through it: configuration;
the first stage, from pictures to body parts (Sec. 4.2, B); the second stage's network, to 216 + 10 numbers and the
rotations that are nearest to them (3.2, 3.3); losses (3.3); larger and smaller people (B); the second stage as a
system, with all that it may be shown (4.3, Table 1); both stages as one. The camera that never moves (4.2, "Scale
ambiguity") is `kouros.networks.fixed_camera`.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim import Adam, Optimizer

from kouros.batched import Batched
from kouros.body.keypoints import LSP14, SMPL24, SPIN49, KeypointSet
from kouros.body.model import BodyModel
from kouros.body.surface.landmarks import surface_landmarks
from kouros.body.surface.parts import part_set
from kouros.data.augment import NBF_AUGMENTATION, AugmentConfig, Spread
from kouros.data.batch import Batch
from kouros.data.crops import CropTransform
from kouros.data.dense import Wants
from kouros.data.parts_files import read_parts
from kouros.fitting.terms.keypoints import usable_keypoints
from kouros.geometry.rotations import angle_between, rot6d_to_rotmat, rotvec_to_rotmat
from kouros.networks.backbone import BackboneNetwork
from kouros.networks.backbones import Backbone, build_backbone
from kouros.networks.deeplab import AtrousPyramid
from kouros.networks.estimates import NUM_BETAS, MeanParameters, Regressed
from kouros.networks.fixed_camera import FixedCamera, Placement, unplaced
from kouros.networks.light_head import LightHead
from kouros.networks.movenet import MoveNetTrunk
from kouros.networks.part_pictures import (
    coloured_labels,
    heatmaps,
    in_colours,
    joint_colours,
    label_shares,
    part_colours,
)
from kouros.networks.refinenet import RefineNet
from kouros.networks.resnet import Depth, ResNet
from kouros.networks.vgg import AtrousVgg16
from kouros.render.maps import DenseMaps
from kouros.systems.backbone_weights import begin_backbone
from kouros.systems.chain import Chain
from kouros.systems.estimator import CropEstimator, CropNetwork, Estimate, Estimator, PersonInPhoto, in_photo
from kouros.systems.layer_maps import LayerMapsSystem
from kouros.systems.losses import ANNOTATED, HIPS, mean_where, require_regressable, to_crop_coordinates
from kouros.systems.measures import Best, Sum
from kouros.systems.pictures import people_sheet, sheet
from kouros.systems.recipe import Recipe
from kouros.systems.system import CropSystem, Step

# ---- configuration

PartsName = Literal["parts1", "parts3", "parts6", "parts12", "parts24"]
Shown = Literal["rgb", "parts1", "parts3", "parts6", "parts12", "parts24", "joints14", "joints24"]
"""The rows of Table 1."""


@dataclass(frozen=True)
class PartsConfig:
    """The first stage, from pictures to parts: the published numbers."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=22_800, batch_size=5, schedule="polynomial")
    """20 epochs of UP-3D's 5,703 training pictures."""

    parts: PartsName = "parts12"
    """Into which parts bodies are divided; the background comes beside them."""
    network: Literal["refinenet", "deeplab", "deeplab-vgg16", "light"] = "refinenet"
    """RefineNet on a ResNet; DeepLab on one, or on VGG-16 (Table 2's three); or a light head."""
    backbone: Depth | Literal["movenet"] = 101
    """Depth of the ResNet; or, for a light head, the trunk of MoveNet, which has seen people: to be held."""
    width: int = 64
    """Of the ResNet's first layer; the others go with it."""
    crop_size: int = 512
    """Side of the crops, pixels."""
    stride: int = 1
    """Pixels of the crop to one of the answer, along each side; a light head answers for every second."""
    learning_rate: float = 2e-5
    """Adam's."""
    weight_decay: float = 1e-4
    """Likewise."""
    imagenet: Path | None = None
    """Torchvision's ImageNet weights of the ResNet, or of VGG-16, to begin with."""
    augment: AugmentConfig = NBF_AUGMENTATION
    """How training changes crops."""

    def __post_init__(self) -> None:
        self.wants.map_size(self.crop_size)
        if self.backbone == "movenet" and self.network != "light":
            raise ValueError(f"{self.network} stands on ResNet or VGG-16; for movenet choose --network light.")

    @property
    def wants(self) -> Wants:
        """What it asks of each batch."""
        return Wants(parts=(self.parts,), stride=self.stride)

    def build(self, body: BodyModel, num_samples: int = 0) -> "Parts":
        """The system with fresh weights, from torch's global generator; neither body nor samples matter to it."""
        return Parts(self)


@dataclass(frozen=True)
class NbfLosses:
    """What each of Eq. 6 to 8 weighs; 0 leaves it out (Table 3)."""

    parameters: float = 1.0
    """``L_lat``, Eq. 6: absolute differences, summed up over a person's 216 + 10 numbers."""
    points_3d: float = 100.0
    """``L_3D``, Eq. 7. The paper gives neither weights nor units: this is as if its squares were of decimetres."""
    points_2d: float = 100.0
    """``L_2D``, Eq. 8, likewise: decimetres where the person is, in the picture's plane."""

    def __post_init__(self) -> None:
        weights = (self.parameters, self.points_3d, self.points_2d)
        if not all(0 <= w < math.inf for w in weights) or not sum(weights):
            raise ValueError(f"The losses weigh {weights}; expected numbers of 0 or more, not all 0.")


@dataclass(frozen=True)
class Jitter:
    """By how much training moves and scales what the second stage sees (B); the shift's size is ours."""

    scale: float = 0.1
    """What is at most added to 1 or taken from it. It changes betas: nothing else says how large somebody is."""
    shift: float = 0.1
    """Along each axis, in sides of the picture."""


_IN_PLACE = replace(NBF_AUGMENTATION, scale=Spread(0.0), shift=Spread(0.0))


@dataclass(frozen=True)
class NbfConfig:
    """The second stage, from parts to a body: the published numbers."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=171_000, batch_size=5, schedule="polynomial")
    """75 epochs of UP-3D's 5,703 training pictures and their mirror images."""

    shown: Shown = "parts12"
    """What the network sees."""
    coding: Literal["colours", "numbers"] = "colours"
    """Parts and joints as colours (4.2), or one number for each part and the background, or joint (Fig. 2)."""
    backbone: Backbone = 50
    """Depth of the ResNet; or, for pictures, a small trunk that has seen real people."""
    width: int = 64
    """Of the ResNet's first layer; the others go with it."""
    input_size: int = 224
    """Side of what it sees, pixels."""
    crop_size: int = 256
    """Side of the crops that pictures and part maps come in, pixels; those of a first stage come in its own."""
    points: Literal["joints24", "landmarks91"] = "joints24"
    """What ``L_3D`` and ``L_2D`` compare, of people whose bodies are known (4.3)."""
    share_3d: float = 1.0
    """Of the samples, from how many 3D is learned; of the others only 2D, whatever is known (Table 4)."""
    losses: NbfLosses = field(default_factory=NbfLosses)
    jitter: Jitter = field(default_factory=Jitter)
    learning_rate: float = 4e-5
    """Adam's."""
    weight_decay: float = 1e-4
    """Likewise."""
    imagenet: Path | None = None
    """Torchvision's ImageNet weights of the ResNet to begin with; the paper has them."""
    augment: AugmentConfig = _IN_PLACE
    """How training changes crops beside the jitter, which takes the place of their own scale and middle."""

    def __post_init__(self) -> None:
        if not 0 <= self.share_3d <= 1:
            raise ValueError(f"share_3d is {self.share_3d}; expected a number from 0 to 1.")
        if self.shown == "rgb" and self.coding == "numbers":
            raise ValueError("rgb pictures are shown as they are; leave coding at colours.")
        if self.shown != "rgb" and not isinstance(self.backbone, int):
            raise ValueError(f"{self.backbone} looks at pictures, not at {self.shown}; choose a ResNet's depth.")
        if self.imagenet is not None and (self.coding == "numbers" or self.width != NbfConfig.width):
            raise ValueError("ImageNet's weights are of a ResNet of width 64 that sees colours; leave imagenet out.")

    @property
    def wants(self) -> Wants:
        """What it asks of each batch: nobody draws colours for who does not look at them."""
        return Wants(image=self.shown == "rgb", parts=(self.shown,) if self.shown.startswith("parts") else ())

    def build(self, body: BodyModel, num_samples: int = 0) -> "Nbf":
        """The system with fresh weights, from torch's global generator.

        Args:
            body: that estimates are of.
            num_samples: as other systems need it; this one keeps nothing of its samples.

        Raises:
            ValueError: the body cannot be regressed.
        """
        return Nbf(self, body)


# ---- first stage: parts (4.2, B)

_DRAWN = 8
"""People in pictures for the log."""


class Parts(LayerMapsSystem):
    """Pictures in, body parts out."""

    needs = ()
    judged_by = ("pose", "parts_path", "parts")
    best_by = (Best("iou", "most"),)

    def __init__(self, config: PartsConfig) -> None:
        super().__init__()
        self.config, self.wants, self.augment = config, config.wants, config.augment
        self.parts = part_set(config.parts)
        outputs = 1 + len(self.parts)
        self.backbone: ResNet | AtrousVgg16 | MoveNetTrunk
        self.head: RefineNet | AtrousPyramid | LightHead
        if config.network == "deeplab-vgg16":
            self.backbone = AtrousVgg16()
            self.head = AtrousPyramid(self.backbone.layer_channels[-1], outputs, hidden=True)
        elif config.backbone == "movenet":
            self.backbone = MoveNetTrunk()
            self.head = LightHead(self.backbone.layer_channels, self.backbone.layer_strides, outputs)
        elif config.network == "deeplab":
            self.backbone = ResNet(config.backbone, output_stride=8, width=config.width)
            self.head = AtrousPyramid(self.backbone.num_features, outputs, hidden=False)
        else:
            self.backbone = ResNet(config.backbone, width=config.width)
            channels, strides = self.backbone.layer_channels, self.backbone.layer_strides
            light = config.network == "light"
            self.head = LightHead(channels, strides, outputs) if light else RefineNet(channels, outputs)

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        return self.config.crop_size

    def begin(self, samples: Iterable[Batch] = ()) -> None:
        """Once, before the first step of a new run: read the file that the configuration names, or MoveNet's.

        Raises:
            ValueError: the file is not what it should be.
            OSError: it cannot be read.
        """
        begin_backbone(self.backbone, self.config.imagenet)

    def optimizers(self) -> tuple[Optimizer, ...]:
        """Adam with weight decay (B)."""
        return (Adam(self.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay),)

    def forward(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch labels rows columns"]:
        """Scores of the background and each part."""
        side = self.wants.map_size(image.shape[-1])
        return self.head(self.layer_maps(image), (side, side))

    def _scores(self, batch: Batch) -> Float[Tensor, "batch labels rows columns"]:
        """Of a batch to learn from, which may bring its features."""
        side = self.wants.map_size(self.crop_size)
        return self.head(self.seen_maps(batch), (side, side))

    def training_step(self, batch: Batch) -> Step:
        """Cross entropy, mean over all pixels of those whose parts are known."""
        labels, known = true_labels(batch, self.parts.name)
        each = cross_entropy(self._scores(batch), labels, reduction="none").mean((1, 2))
        loss = mean_where(each, known)
        return Step(losses=(loss,), terms={"cross_entropy": loss.detach()})

    @torch.no_grad()
    def probabilities(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch labels rows columns"]:
        """Of the background and each part, in evaluation mode."""
        training = self.training
        self.eval()
        try:
            return self(image).softmax(1)
        finally:
            self.train(training)

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """Part labels alone: no bodies."""
        labels = self.probabilities(image).argmax(1)
        return Estimate(dense=DenseMaps(mask=labels > 0, labels={self.parts.name: labels}))

    @torch.no_grad()
    def measures(self, batch: Batch) -> Mapping[str, Sum]:
        """IoU and F1, percent, means over the parts: of all pixels of all people."""
        labels, known = true_labels(batch, self.parts.name)
        true, found = (one_hot(t[known], 1 + len(self.parts))[..., 1:] for t in (labels, self(batch.image).argmax(1)))
        hits, true, found = ((t.flatten(0, -2).sum(0)) for t in (true * found, true, found))
        return {
            "iou": Sum(100 * hits, true + found - hits, "IoU {:.1f} %"),
            "f1": Sum(200 * hits, true + found, "F1 {:.1f} %"),
        }

    @torch.no_grad()
    def pictures(self, batch: Batch, step: Step) -> Mapping[str, UInt8[np.ndarray, "height width 3"]]:
        """The first people, their true parts, and those that are found."""
        first = batch[:_DRAWN]
        true, found = true_labels(first, self.parts.name)[0], self.probabilities(first.image).argmax(1)
        return {"parts": sheet([first.image, *(coloured_labels(t, self.parts) for t in (true, found))])}


def true_labels(batch: Batch, parts: str) -> tuple[Int[Tensor, "batch rows columns"], Bool[Tensor, " batch"]]:
    """Labels of a part set, and of whom they are known.

    Raises:
        ValueError: the batch has none of that set.
    """
    if batch.dense is None or parts not in batch.dense.labels:
        raise ValueError(f"The batch has no labels of {parts}; its source must draw them, or have files of them.")
    labels = batch.dense.labels[parts].long()
    return labels, batch.dense_known.get(parts, torch.ones_like(batch.has_pose))


# ---- the second stage's network (3.2, 3.3)

_POSE = 24 * 9


def nearest_rotations(matrices: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The rotations that are nearest to matrices (by their singular value decomposition); differentiable.

    Where several are nearest, one of them, and the gradient stays finite.
    """
    return roma.special_procrustes(matrices)


class NbfNetwork(nn.Module):
    """A backbone, and one linear layer to the nine numbers of each rotation and the betas.

    The linear layer begins at the mean pose and shape, of which the paper says nothing: matrices of small random
    numbers are as near to one rotation as to any other.

    Args:
        backbone: from what is seen to a vector of features.
    """

    def __init__(self, backbone: BackboneNetwork) -> None:
        super().__init__()
        self.backbone = backbone
        self.answer = nn.Linear(self.backbone.num_features, _POSE + NUM_BETAS)
        nn.init.xavier_uniform_(self.answer.weight, gain=0.01)
        mean = MeanParameters.packaged()
        rotations = rot6d_to_rotmat(mean.pose.unflatten(0, (24, 6)))
        with torch.no_grad():
            self.answer.bias.copy_(torch.cat([rotations.flatten(), mean.betas]))

    def forward(
        self, seen: Float[Tensor, "batch inputs size size"]
    ) -> tuple[Float[Tensor, "batch 24 3 3"], Float[Tensor, "batch 10"]]:
        """Rotations and betas."""
        numbers = self.answer(self.backbone(seen)).float()
        matrices, betas = numbers.split([_POSE, NUM_BETAS], dim=-1)
        return nearest_rotations(matrices.unflatten(-1, (24, 3, 3))), betas


# ---- losses (3.3)


@dataclass(frozen=True)
class Answer(Batched):
    """What the second stage answers with, and learns from."""

    rotations: Float[Tensor, "batch 24 3 3"]
    """Of the joints against their parents; the first against the camera."""
    betas: Float[Tensor, "batch 10"]


def parameter_loss(
    predicted: Answer,
    true: Answer,
    has_pose: Bool[Tensor, " batch"],
    has_betas: Bool[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """``L_lat``, Eq. 6, of each person; 0 for what is not known."""
    pose = (predicted.rotations - true.rotations).abs().sum((1, 2, 3))
    betas = (predicted.betas - true.betas).abs().sum(1)
    return torch.where(has_pose, pose, 0.0) + torch.where(has_betas, betas, 0.0)


def point_loss(
    predicted: Float[Tensor, "batch points axes"],
    true: Float[Tensor, "batch points axes"],
    weight: Float[Tensor, "batch points"],
) -> Float[Tensor, " batch"]:
    """``L_3D`` and ``L_2D``, Eq. 7 and 8, of each person: squared distances, summed up; 0 where the weight is."""
    return (weight * (predicted - true).square().sum(-1)).sum(-1)


def _about_root(points: Float[Tensor, "batch points axes"]) -> Float[Tensor, "batch others axes"]:
    """All but the first, relative to it."""
    return points[:, 1:] - points[:, :1]


def _annotated(points: Float[Tensor, "batch 49 axes"]) -> Float[Tensor, "batch 24 axes"]:
    """SPIN's annotated points, relative to the middle of the hips."""
    return points[:, ANNOTATED] - points[:, HIPS].mean(1, keepdim=True)


def _about_hips(known: Float[Tensor, "batch 49 columns"]) -> Float[Tensor, "batch 24 columns"]:
    """Likewise, of points with a confidence: none where a hip is not known."""
    confidence = known[..., -1:] * (known[:, HIPS, -1:] > 0).all(1, keepdim=True)
    return torch.cat([_annotated(known[..., :-1]), confidence[:, ANNOTATED]], dim=-1)


# ---- larger and smaller people (B)

_TRUST = 1e-5
"""How much a beta's square weighs against square metres of a vertex: of a body a tenth larger the vertices are then off
by 7 mm in the mean and betas change by 1.6 at most; for another millimetre one would change by 2.5."""


def _growth(body: BodyModel) -> Float[Tensor, " betas"]:
    """The betas whose body, added to the mean body, is most like the mean body itself: of twice its size."""
    template = (body.v_template - body.joint_template[0]).flatten().double()
    directions = (body.shapedirs - body.joint_shapedirs[0]).flatten(0, 1).double()
    count = len(body.v_template)
    square = directions.T @ directions / count + _TRUST * torch.eye(body.num_betas, dtype=torch.double)
    return torch.linalg.solve(square, directions.T @ template / count).float()


def grown(
    betas: Float[Tensor, "batch betas"], larger: Float[Tensor, " batch"], growth: Float[Tensor, " betas"]
) -> Float[Tensor, "batch betas"]:
    """Betas of bodies ``larger`` times as large, as nearly as betas can say it."""
    return larger[:, None] * betas + (larger[:, None] - 1) * growth


# ---- second stage


class Nbf(CropSystem):
    """Parts in, a body out."""

    judged_by = ("pose",)
    best_by = (Best("joints"),)

    def __init__(self, config: NbfConfig, body: BodyModel) -> None:
        super().__init__()
        require_regressable(body)
        self.config, self.wants, self.augment = config, config.wants, config.augment
        self.body = copy.deepcopy(body)
        self.fixed_camera = FixedCamera(body)
        self.parts = part_set(config.shown) if config.shown.startswith("parts") else None
        colours = _colours(config.shown)
        self.register_buffer("colours", colours, persistent=False)
        self.register_buffer("growth", _growth(body), persistent=False)
        landmarks = surface_landmarks(body) if config.points == "landmarks91" else torch.zeros(0, dtype=torch.long)
        self.register_buffer("landmarks", landmarks, persistent=False)
        if isinstance(config.backbone, int):
            inputs = 3 if config.coding == "colours" else len(colours)
            self.network = NbfNetwork(ResNet(config.backbone, inputs=inputs, width=config.width))
        else:
            self.network = NbfNetwork(build_backbone(config.backbone))

    colours: Tensor
    growth: Tensor
    landmarks: Tensor

    @property
    def backbone(self) -> nn.Module:
        """What may be held."""
        return self.network.backbone

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        return self.config.crop_size

    def begin(self, samples: Iterable[Batch] = ()) -> None:
        """Once, before the first step of a new run: read the backbone's published weights.

        Raises:
            ValueError: the file is not what it should be.
            OSError: it cannot be read.
        """
        begin_backbone(self.network.backbone, self.config.imagenet)

    def optimizers(self) -> tuple[Optimizer, ...]:
        """Adam with weight decay (B)."""
        return (Adam(self.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay),)

    # ---- what it is shown

    def shown(
        self,
        batch: Batch,
        placement: Placement,
        probabilities: Float[Tensor, "batch labels rows columns"] | None = None,
    ) -> Float[Tensor, "batch inputs size size"]:
        """A batch's people as the network sees them.

        Args:
            probabilities: of parts in the crops, from the first stage; None: the true ones.

        Raises:
            ValueError: the batch lacks what is to be shown.
        """
        size = self.config.input_size
        if self.config.shown == "rgb":
            return placement.picture(batch.image, size)
        if self.parts is None:
            return self.coded(heatmaps(self._joints(batch, placement), size))
        if probabilities is not None:
            return self.shown_parts(probabilities, placement)
        labels = true_labels(batch, self.parts.name)[0][:, None].to(batch.keypoints_2d)
        placed = placement.picture(labels, size, labels=True)[:, 0].long()
        return self.coded(label_shares(placed, self.parts))

    def shown_parts(
        self, probabilities: Float[Tensor, "batch labels rows columns"], placement: Placement
    ) -> Float[Tensor, "batch inputs size size"]:
        """Parts that the first stage finds, as the network sees them: the likeliest in colours, or all in numbers.

        Raises:
            ValueError: they are of another part set.
        """
        if self.parts is None or probabilities.shape[1] != 1 + len(self.parts):
            raise ValueError(
                f"This network was made for {self.config.shown}; it cannot use a map of {probabilities.shape[1]} "
                "labels, the background's among them."
            )
        if self.config.coding == "colours":
            labels = probabilities.argmax(1, keepdim=True).to(probabilities)
            placed = placement.picture(labels, self.config.input_size, labels=True)[:, 0].long()
            return self.coded(label_shares(placed, self.parts))
        placed = placement.picture(probabilities, self.config.input_size)
        # Beyond the crop is background.
        background = placed[:, :1] + (1 - placed.sum(1, keepdim=True)).clamp(min=0)
        return torch.cat([background, placed[:, 1:]], dim=1)

    def coded(self, shares: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch inputs size size"]:
        """In colours, or as they are."""
        return in_colours(shares, self.colours) if self.config.coding == "colours" else shares

    def _joints(self, batch: Batch, placement: Placement) -> Float[Tensor, "batch points 3"]:
        """In the fixed picture: LSP's 14 as annotated, or the 24 of the true body."""
        seen = self._in_crop(batch)
        if self.config.shown == "joints14":
            return placement.keypoints(seen[:, ANNOTATED][:, : len(LSP14)])
        plain = self.placement(batch)
        true = self._true(batch, torch.ones_like(plain.scale))
        space = self._skeleton(true)[..., :2] + self._where_seen(seen, plain, true)[:, None]
        flat = placement.points(plain.points_back(self.fixed_camera.per_metre * space))
        known = (batch.has_pose & batch.has_betas).to(flat)
        return torch.cat([flat, known[:, None, None].expand(-1, flat.shape[1], 1)], dim=-1)

    # ---- training

    def training_step(self, batch: Batch) -> Step:
        """Look, and add up the losses of what each sample has (Eq. 9)."""
        return self.step(batch)

    def step(self, batch: Batch, probabilities: Float[Tensor, "batch labels rows columns"] | None = None) -> Step:
        """As `training_step`, of what the first stage finds in the crops (Table 2); None: of the true parts."""
        # Half precision, which a training loop may have switched on, is too coarse for all but the network.
        with torch.autocast(batch.image.device.type, enabled=False):
            placement, larger = self.jittered(self.placement(batch))
            shown = self.shown(batch, placement, probabilities)
        predicted = Answer(*self.network(shown))
        with torch.autocast(batch.image.device.type, enabled=False):
            terms = self.losses(batch, placement, larger, predicted)
            weights = self.config.losses
            total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
        return Step(
            losses=(total,),
            terms={name: term.detach() for name, term in terms.items()},
            predicted=self._answer(predicted.detach(), placement, self._in_crop(batch)),
        )

    def placement(self, batch: Batch) -> Placement:
        """Where crops belong in the fixed picture: by the true bodies where they are known, else as at test time."""
        seen = self._in_crop(batch)
        true = self._true(batch, torch.ones_like(seen[:, 0, 0]))
        by_body = self.fixed_camera.by_body(seen[:, ANNOTATED], self._keypoints(true)[:, ANNOTATED])
        by_limbs = self.fixed_camera.by_keypoints(seen, SPIN49.name)
        known = batch.has_pose & batch.has_betas
        return Placement(
            torch.where(known, by_body.scale, by_limbs.scale),
            torch.where(known[:, None], by_body.offset, by_limbs.offset),
        )

    def jittered(self, placement: Placement) -> tuple[Placement, Float[Tensor, " batch"]]:
        """Moved and scaled at random, and how much larger that makes each person."""
        jitter = self.config.jitter
        like = placement.scale
        larger = 1 + jitter.scale * (2 * torch.rand_like(like) - 1)
        # A side is two crop coordinates.
        shift = 2 * jitter.shift * (2 * torch.rand_like(placement.offset) - 1)
        return Placement(like * larger, placement.offset * larger[:, None] + shift), larger

    def losses(
        self, batch: Batch, placement: Placement, larger: Float[Tensor, " batch"], predicted: Answer
    ) -> dict[str, Float[Tensor, ""]]:
        """Unweighted terms, means over the batch: each sample counts with what it has, and with 0 for what it has not.
        Who is not shown, because nobody knows the parts, counts with nothing.

        Points are relative to the root, since no number of the answer moves the body: of those whose bodies are known
        the skeleton's, of others the middle of the hips.
        """
        shown = batch.dense_known.get(self.config.shown, torch.ones_like(batch.has_pose))
        learned, wanted = shown & self._learned_in_3d(batch.index), self.config.losses
        whole, true = batch.has_pose & batch.has_betas, self._true(batch, larger)
        terms = {}
        if wanted.parameters:
            known = (batch.has_pose & learned, batch.has_betas & learned)
            terms["parameters"] = parameter_loss(predicted, true, *known).mean()
        if wanted.points_3d:
            scaled = larger[:, None, None] * batch.keypoints_3d[..., :3]
            space = torch.nan_to_num(torch.cat([scaled, batch.keypoints_3d[..., 3:]], dim=-1))
            terms["points_3d"] = self._points_apart(
                predicted, true, space, lambda p: p, whole & learned, ~whole & learned
            )
        if wanted.points_2d:
            # In metres: at the body's distance all crop coordinates are equally many.
            camera = self.fixed_camera
            seen = placement.keypoints(self._in_crop(batch))
            flat = torch.cat([seen[..., :2] / camera.per_metre, seen[..., 2:]], dim=-1)

            def project(points: Tensor) -> Tensor:
                return camera.project(points) / camera.per_metre

            terms["points_2d"] = self._points_apart(predicted, true, flat, project, whole & shown, ~whole & shown)
        return terms

    def _points_apart(
        self,
        predicted: Answer,
        true: Answer,
        annotated: Float[Tensor, "batch 49 columns"],
        look: Callable[[Tensor], Tensor],
        by_body: Bool[Tensor, " batch"],
        by_keypoints: Bool[Tensor, " batch"],
    ) -> Float[Tensor, ""]:
        """`point_loss`, mean over the batch.

        Args:
            annotated: SPIN's keypoints and their confidences.
            look: from points in space to what is compared with each other.
            by_body: whose points are compared with the true body's, ``by_keypoints`` with the annotated ones.
        """
        ours, theirs = _about_root(look(self._points(predicted))), _about_root(look(self._points(true)))
        body = point_loss(ours, theirs, by_body.to(ours)[:, None].expand(ours.shape[:2]))
        known = _about_hips(annotated)
        found = _annotated(look(self._keypoints(predicted)))
        return (body + point_loss(found, known[..., :-1], known[..., -1] * by_keypoints[:, None])).mean()

    def _learned_in_3d(self, index: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """Who belongs to the share of samples whose 3D is learned from: the same ones in every step and run."""
        golden = (math.sqrt(5) - 1) / 2  # multiples of it fill [0, 1) evenly
        return torch.frac(index.double() * golden) < self.config.share_3d

    # ---- bodies

    def _true(self, batch: Batch, larger: Float[Tensor, " batch"]) -> Answer:
        """The true bodies, of persons so much larger; unknown numbers are zeros."""
        rotations = rotvec_to_rotmat(torch.nan_to_num(batch.pose).unflatten(-1, (24, 3)))
        betas = torch.nan_to_num(batch.betas)
        return Answer(rotations, grown(betas, larger, self.growth))

    def _skeleton(self, of: Answer) -> Float[Tensor, "batch 24 3"]:
        return self.body.joint_positions(
            betas=of.betas, global_orient=of.rotations[:, 0], body_pose=of.rotations[:, 1:], pose2rot=False
        )

    def _points(self, of: Answer) -> Float[Tensor, "batch points 3"]:
        """The root joint, and the points that losses compare."""
        if not len(self.landmarks):
            joints = self._skeleton(of)
            return torch.cat([joints[:, :1], joints], dim=1)
        posed = self.body(
            betas=of.betas, global_orient=of.rotations[:, 0], body_pose=of.rotations[:, 1:], pose2rot=False
        )
        return torch.cat([posed.joints[:, :1], posed.vertices[:, self.landmarks]], dim=1)

    def _keypoints(self, of: Answer) -> Float[Tensor, "batch 49 3"]:
        return self.body.keypoint_positions(
            SPIN49.name,
            betas=of.betas,
            global_orient=of.rotations[:, 0],
            body_pose=of.rotations[:, 1:],
            pose2rot=False,
        )

    def _in_crop(self, batch: Batch) -> Float[Tensor, "batch 49 3"]:
        """2D keypoints in crop coordinates; confidence 0 where there is nothing to be seen."""
        seen = usable_keypoints(batch.keypoints_2d)
        return torch.cat([to_crop_coordinates(seen[..., :2], batch.crop_size), seen[..., 2:]], dim=-1)

    def _where_seen(
        self, seen: Float[Tensor, "batch 49 3"], placement: Placement, of: Answer
    ) -> Float[Tensor, "batch 2"]:
        """How far, metres, bodies stand from the fixed camera's axis, by where keypoints are seen.

        Who has none stands so that the box around the body's keypoints is in the middle, as crops are made.
        """
        ours = self._keypoints(of)[:, ANNOTATED, :2]
        weight = seen[:, ANNOTATED, 2:]
        theirs = placement.points(seen[:, ANNOTATED, :2]) / self.fixed_camera.per_metre
        total = weight.sum(1)
        moved = (weight * (theirs - ours)).sum(1) / total.clamp(min=1e-6)
        middle = (ours.amin(1) + ours.amax(1)) / 2
        return torch.where(total > 0, moved, -middle)

    def _answer(self, of: Answer, placement: Placement, seen: Float[Tensor, "batch 49 3"]) -> Estimate:
        """Bodies in the nominal crop."""
        camera = placement.camera(self.fixed_camera.per_metre, self._where_seen(seen, placement, of))
        return Estimate(bodies=Regressed(of.rotations, of.betas, camera).bodies)

    # ---- prediction

    @torch.no_grad()
    def answer(self, shown: Float[Tensor, "batch inputs size size"]) -> Answer:
        """What the network says, in evaluation mode."""
        training = self.training
        self.eval()
        try:
            return Answer(*self.network(shown))
        finally:
            self.train(training)

    def estimate(self, shown: Float[Tensor, "batch inputs size size"], placement: Placement) -> Estimate:
        """Bodies in the middle of the nominal crop, without gradients, in evaluation mode."""
        return self._answer(self.answer(shown), placement, shown.new_zeros(len(shown), len(SPIN49), 3))

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """Of RGB crops, as in `kouros.systems.estimator.CropNetwork`.

        Raises:
            ValueError: the network does not look at colours: see `kouros.systems.chain`.
        """
        if self.config.shown != "rgb":
            raise ValueError(
                f"This network sees {self.config.shown}, not pictures: chain it behind one that finds them (kouros "
                "models chain), or train one with --shown rgb."
            )
        placement = unplaced(image)
        return self.estimate(placement.picture(image, self.config.input_size), placement)

    def go_on(self, image: Float[Tensor, "batch 3 size size"], estimate: Estimate) -> Estimate:
        """Bodies, of crops whose parts the stage before this one has found.

        Raises:
            ValueError: it has found none, or those of another set.
        """
        placement = unplaced(image)
        return replace(
            estimate, bodies=self.estimate(self.shown_parts(self._found(estimate), placement), placement).bodies
        )

    def _found(self, estimate: Estimate) -> Float[Tensor, "batch labels rows columns"]:
        labels = {} if estimate.dense is None else estimate.dense.labels
        if self.parts is None or self.parts.name not in labels:
            raise ValueError(
                f"This network sees {self.config.shown}, but the stage before it found "
                f"{', '.join(labels) or 'no parts'}; take two that were trained for the same."
            )
        return label_shares(labels[self.parts.name], self.parts)

    def adapter(self, network: CropNetwork, body: BodyModel, name: str) -> Estimator:
        """As the paper shows people to it."""
        return NbfEstimator(network, body, name)

    def body_of_parts(self, labels: Int[Tensor, "batch rows columns"]) -> Estimate:
        """Bodies, of crops of part maps that somebody else has made, in labels of `parts`.

        Raises:
            ValueError: the network does not look at parts; or a label that the set has not.
        """
        if self.parts is None:
            raise ValueError(f"This network sees {self.config.shown}, not parts; take one that was trained for them.")
        shares = label_shares(labels, self.parts)
        return replace(
            self.estimate(self.shown_parts(shares, unplaced(shares)), unplaced(shares)),
            dense=DenseMaps(mask=labels > 0, labels={self.parts.name: labels}),
        )

    def measures(self, batch: Batch) -> Mapping[str, Sum]:
        """Those of Table 3."""
        said = {
            "joints": (1e3, "joints3D {:.1f} mm"),
            "rotations": (1.0, "quat {:.3f} rad"),
            "pckh": (100.0, "PCKh {:.1f} %"),
        }
        return {name: Sum.over(values, ~values.isnan(), *said[name]) for name, values in self.errors(batch).items()}

    def pictures(self, batch: Batch, step: Step) -> Mapping[str, UInt8[np.ndarray, "height width 3"]]:
        """The first people as the network saw them, but for the jitter, and their predicted bodies."""
        first = batch[:_DRAWN]
        seen = (
            first.image if self.parts is None else coloured_labels(true_labels(first, self.parts.name)[0], self.parts)
        )
        if step.predicted is None or step.predicted.bodies is None:
            return {}
        return {"people": people_sheet(seen, step.predicted.bodies[:_DRAWN], None, self.body)}

    def errors(
        self, batch: Batch, probabilities: Float[Tensor, "batch labels rows columns"] | None = None
    ) -> Mapping[str, Float[Tensor, " batch"]]:
        """Table 3's measures of each person; NaN where the truth is not known.

        Crops are placed by the true bodies, as the paper's are; points are relative to the root.

        Args:
            probabilities: of parts in the crops, from the first stage; None: the true ones.

        Returns:
            ``joints``: mean distance of the 24 joints, metres; ``rotations``: mean angle, radians; ``pckh``: share of
            LSP's 14 points within half of the head's length, from the neck to its top.
        """
        placement = self.placement(batch)
        predicted = self.answer(self.shown(batch, placement, probabilities))
        true = self._true(batch, torch.ones_like(placement.scale))
        ours, theirs = self._skeleton(predicted), self._skeleton(true)
        joints = ((ours - ours[:, :1]) - (theirs - theirs[:, :1])).norm(dim=-1).mean(1)
        angles = angle_between(predicted.rotations, true.rotations).mean(1)
        # LSP's points are the first that are annotated.
        known = _about_hips(placement.keypoints(self._in_crop(batch)))[:, : len(LSP14)]
        flat = _annotated(self.fixed_camera.project(self._keypoints(predicted)))[:, : len(LSP14)]
        neck, top = LSP14.index("neck_lsp"), LSP14.index("head_top")
        head = (known[:, top, :2] - known[:, neck, :2]).norm(dim=-1)
        valid = known[..., 2] > 0
        correct = (flat - known[..., :2]).norm(dim=-1) <= 0.5 * head[:, None]
        share = (correct & valid).sum(1) / valid.sum(1).clamp(min=1)
        return {
            "joints": torch.where(batch.has_pose & batch.has_betas, joints, torch.nan),
            "rotations": torch.where(batch.has_pose, angles, torch.nan),
            "pckh": torch.where(valid[:, neck] & valid[:, top] & (head > 0), share, torch.nan),
        }


def _colours(shown: Shown) -> Float[Tensor, "channels 3"]:
    """Of each channel that is shown: the background and the parts, or the joints; of pictures their own."""
    if shown == "rgb":
        return torch.eye(3)
    if shown.startswith("joints"):
        return joint_colours(LSP14 if shown == "joints14" else SMPL24)
    return part_colours(part_set(shown))


# ---- both stages


class NbfEstimator:
    """A network that ends with an `Nbf` as an `kouros.systems.estimator.Estimator` of people in photos.

    As the paper does at test time, each person's square is made anew from detected keypoints, so that a standing person
    would be `STANDING` of it high, whatever the posture. Who comes without keypoints keeps the square. Where in it the
    body stands is also told by the keypoints.
    """

    needs_keypoints = False
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, network: CropNetwork, body: BodyModel, name: str) -> None:
        self.body: BodyModel | None = body
        self.name, self.network = name, network
        self._body, self._camera = body, FixedCamera(body)
        self._crops: Estimator = CropEstimator(network, body, name)

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """All people in one batch.

        Raises:
            ValueError: a person comes without the photo.
        """
        answers = self._crops.estimate([self.squared(person) for person in people])
        return [self._moved(answer, person) for answer, person in zip(answers, people, strict=True)]

    def on_parts(self, path: Path, format_name: str, size: tuple[int, int]) -> "NbfEstimator":
        """The second stage behind a part map that another parser made of a photo.

        Args:
            path: the map, a picture of the photo's size.
            format_name: how it numbers the parts, of `kouros.data.parts_files.FORMATS`.
            size: the photo's width and height, pixels.

        Raises:
            PartsError: the map cannot be used.
            ValueError: the last stage does not look at parts.
            OSError: the map cannot be read.
        """
        stage = self.network.stages[-1] if isinstance(self.network, Chain) else self.network
        if not isinstance(stage, Nbf) or stage.parts is None:
            raise ValueError(f"{self.name} does not look at parts; choose a run of nbf that was trained for them.")
        labels = read_parts(path, format_name, stage.parts.name, size)
        other = NbfEstimator(self.network, self._body, self.name)
        other._crops = _PartMap(stage, labels, self._body, self.name)
        return other

    def squared(self, person: PersonInPhoto) -> PersonInPhoto:
        """The person with the square that the fixed camera sees."""
        if person.detected is None or person.detected.keypoint_set not in self._body.keypoint_sets:
            return person
        half = person.crop_side / 2
        middle = torch.from_numpy(np.asarray(person.crop_center, dtype=np.float32))
        seen = usable_keypoints(person.keypoints[None])
        seen = torch.cat([(seen[..., :2] - middle) / half, seen[..., 2:]], dim=-1)
        placement = self._camera.by_keypoints(seen, person.detected.keypoint_set)
        scale, offset = float(placement.scale[0]), placement.offset[0]
        return replace(
            person, crop_center=(middle - half * offset / scale).double().numpy(), crop_side=person.crop_side / scale
        )

    def _moved(self, answer: Estimate | None, person: PersonInPhoto) -> Estimate | None:
        """The body where its keypoints are seen, at the distance that it has."""
        if answer is None or answer.bodies is None or person.detected is None:
            return answer
        name, bodies = person.detected.keypoint_set, answer.bodies
        if name not in self._body.keypoint_sets:
            return answer
        points = bodies.map(lambda t: t[None]).keypoints_by(self._body, name)
        seen = usable_keypoints(person.keypoints[None])
        weight = seen[..., 2:] / seen[..., 2].sum().clamp(min=1e-6)
        missed = (weight * (seen[..., :2] - bodies.camera.project(points[0]))).sum((0, 1))
        moved = bodies.transl.clone()
        moved[:2] += missed * bodies.transl[2] / bodies.camera.focal_length
        return replace(answer, bodies=replace(bodies, transl=moved))


class _PartMap:
    """A photo's part map and the second stage, in the place of networks that look at crops."""

    needs_keypoints = False
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, stage: Nbf, labels: Int[np.ndarray, "height width"], body: BodyModel, name: str) -> None:
        self.body: BodyModel | None = body
        self.name = name
        self._stage, self._labels = stage, labels

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """None of those in whose squares the map shows nobody."""
        return [self._of(person) for person in people]

    def _of(self, person: PersonInPhoto) -> Estimate | None:
        size = self._stage.crop_size
        seen = CropTransform(person.crop_center, person.crop_side, size).labels(self._labels)
        if not seen.any():
            return None
        return in_photo(self._stage.body_of_parts(torch.from_numpy(seen)[None])[0], person, size)
