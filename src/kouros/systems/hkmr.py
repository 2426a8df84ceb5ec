"""HKMR: Hierarchical Kinematic Human Mesh Recovery.

Georgakis, Li, Karanam, Chen, Kosecka and Wu, ECCV 2020. In the paper's order: configuration, network, losses of each
outer iteration, pose prior (all Sec. 3.2), their sum (Sec. 3.3), prediction. The variant in the loop (Sec. 3.4) is
`kouros.systems.spin.SpinConfig` with ``regressor="hkmr"``.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.optim import Adam, Optimizer

from kouros.archives import ArchiveError, Wanted, read_npz
from kouros.batched import concatenate
from kouros.body.keypoints import SPIN49
from kouros.body.model import BodyModel
from kouros.data.augment import SPIN_AUGMENTATION, AugmentConfig
from kouros.data.batch import Batch
from kouros.fitting.terms.keypoints import usable_keypoints
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.backbones import VectorBackbone
from kouros.networks.estimates import NUM_BETAS, Regressed
from kouros.networks.frozen import frozen_copy
from kouros.networks.kinematic_regressor import KinematicConfig
from kouros.networks.pose_discriminator import PoseDiscriminator, adversarial_loss, discriminator_loss
from kouros.priors.body_pose import POSE_SIZE
from kouros.priors.gmm import load_gmm
from kouros.priors.vae import load_vae
from kouros.systems.backbone_weights import begin_backbone
from kouros.systems.estimator import Estimate
from kouros.systems.joint_crops import VectorSystem
from kouros.systems.losses import (
    ANNOTATED,
    annotated_error_3d,
    betas_loss,
    mean_where,
    predicted,
    require_regressable,
    rotation_loss,
    to_crop_coordinates,
)
from kouros.systems.recipe import Recipe
from kouros.systems.system import Step

# ---- configuration


@dataclass(frozen=True)
class HkmrWeights:
    """The lambdas of Eq. 3, which the paper does not give: HMR's, whose experiments it follows, where HMR has them."""

    parameters: float = 60.0
    """Of rotations and betas."""
    keypoints_3d: float = 60.0
    """Metres."""
    keypoints_2d: float = 60.0
    """Crop coordinates, -1 to 1."""
    kl: float = 0.01
    """Nats. Motion capture has some 50, and 90 with three tenths of a radian of noise: 50 more cost as much as
    keypoints that are a pixel off in a crop of 224, enough to choose among poses that the keypoints allow."""
    adversarial: float = 1.0
    """Of the discriminator's loss, where it is the prior."""


@dataclass(frozen=True)
class HkmrStart:
    """Files that training begins with. A run that goes on, or is loaded, needs none of them."""

    backbone: Path | None = None
    """Torchvision's, of ImageNet; HKMR begins with them, as HMR. BlazePose's are in the package, unless this is
    another MediaPipe ``.task`` bundle."""


@dataclass(frozen=True)
class HkmrConfig:
    """The full model; the rows of Tables 2 and 3 are ``pose_prior`` and options of the regressor."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=250_000, batch_size=64)
    crop_size: int = 224
    """Side of the crops, pixels."""
    backbone: VectorBackbone = 50
    """Depth of the ResNet; or a packaged network, whose weights may be used commercially: of the small variant
    movenet-joints, to be held."""
    neck: int = 0
    """Width of a residual perceptron between the backbone and the regressor, for a backbone that is held; 0, as
    published: none."""
    regressor: KinematicConfig = field(default_factory=KinematicConfig)
    pose_prior: Literal["vae", "discriminator"] = "vae"
    """The variational autoencoder of the package, or HMR's discriminators, learned beside the network."""
    real_poses: Path | None = None
    """What discriminators take for real: .npz with rotation vectors, ``poses`` (N, 72), and where it has ``split``,
    its "train" rows. Default: draws from the package's Gaussian mixture, smoother than recorded poses are."""
    learning_rate: float = 1e-5
    """HMR's."""
    discriminator_learning_rate: float = 1e-4
    """HMR's."""
    weights: HkmrWeights = field(default_factory=HkmrWeights)
    augment: AugmentConfig = SPIN_AUGMENTATION
    """How crops are changed."""
    start: HkmrStart = field(default_factory=HkmrStart)

    def __post_init__(self) -> None:
        if self.real_poses is not None and self.pose_prior != "discriminator":
            raise ValueError("real_poses are for the discriminator; set pose_prior to it, or leave real_poses out.")

    def build(self, body: BodyModel, num_samples: int = 0) -> "Hkmr":
        """The system with fresh weights, from torch's global generator.

        Args:
            body: that estimates are of.
            num_samples: as other systems need it; this one keeps nothing of its samples.

        Raises:
            ValueError: the body cannot be regressed.
        """
        return Hkmr(self, body)


class Hkmr(VectorSystem):
    """Network, pose prior, and losses."""

    def __init__(self, config: HkmrConfig, body: BodyModel) -> None:
        super().__init__()
        require_regressable(body)
        self.config = config
        self.augment = config.augment
        features = self.build_features(config.backbone, config.neck)
        self.regressor = config.regressor.build(features)
        self.discriminator = PoseDiscriminator() if config.pose_prior == "discriminator" else None
        self.body = copy.deepcopy(body)
        self.vae = frozen_copy(load_vae())

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        return self.config.crop_size

    # ---- before training

    def begin(self, samples: Iterable[Batch] = ()) -> None:
        """Once, before the first step of a new run: read the files that the configuration names.

        Raises:
            ValueError: a file is not what it should be.
            OSError: a file cannot be read.
        """
        begin_backbone(self.backbone, self.config.start.backbone)
        _ = self._real_poses

    def optimizers(self) -> tuple[Optimizer, ...]:
        """Adam, as HMR; a second one for the discriminator where there is one."""
        parts = (self.backbone, self.neck, self.regressor)
        network = Adam([p for part in parts for p in part.parameters()], lr=self.config.learning_rate)
        if self.discriminator is None:
            return (network,)
        return network, Adam(self.discriminator.parameters(), lr=self.config.discriminator_learning_rate)

    # ---- the network

    def forward(self, image: Float[Tensor, "batch 3 size size"]) -> tuple[Regressed, ...]:
        """What the regressor estimates after each outer iteration."""
        return self.regressor(self.neck(self.features(image)))

    # ---- Eq. 3

    def training_step(self, batch: Batch) -> Step:
        """Estimate, and add up the losses of all outer iterations."""
        estimates = self.regressor(self.neck(self.seen(batch)))
        weights = self.config.weights
        # Half precision, which a training loop may have switched on, is too coarse for what follows.
        with torch.autocast(batch.image.device.type, enabled=False):
            every = concatenate(estimates)  # iteration by iteration
            terms = self._supervision(batch, every)
            learned: dict[str, Float[Tensor, ""]] = {}
            if self.discriminator is None:
                terms["kl"] = self.vae.kl_loss(every.rotations[:, 1:]).mean()
            else:
                terms["adversarial"], learned["discriminator"] = self._adversarial(self.discriminator, every)
            weighted = torch.stack([getattr(weights, name) * term for name, term in terms.items()])
            # Terms are means over the outer iterations, Eq. 3 is their sum.
            total = len(estimates) * weighted.sum()
        return Step(
            losses=(total, *learned.values()),
            terms={name: term.detach() for name, term in (terms | learned).items()},
            predicted=Estimate(bodies=estimates[-1].detach().bodies),
        )

    def _supervision(self, batch: Batch, every: Regressed) -> dict[str, Float[Tensor, ""]]:
        """``L_smpl``, ``L_3D`` and ``L_2D``, means over the outer iterations."""
        times = len(every.betas) // len(batch)
        space = self.body.keypoint_positions(
            SPIN49.name,
            betas=every.betas,
            global_orient=every.rotations[:, 0],
            body_pose=every.rotations[:, 1:],
            pose2rot=False,
        )
        picture = every.weak_perspective.project(space)
        return {
            "parameters": parameter_loss(
                every,
                rotvec_to_rotmat(batch.pose.unflatten(-1, (24, 3))).repeat(times, 1, 1, 1),
                batch.betas.repeat(times, 1),
                batch.has_pose.repeat(times),
                batch.has_betas.repeat(times),
            ),
            "keypoints_3d": keypoint_loss_3d(space, batch.keypoints_3d.repeat(times, 1, 1)),
            "keypoints_2d": keypoint_loss_2d(picture, batch.keypoints_2d.repeat(times, 1, 1), batch.crop_size),
        }

    # ---- the ablation's pose prior

    def _adversarial(
        self, discriminator: PoseDiscriminator, every: Regressed
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """What the network is pulled by, and what the discriminator learns from."""
        count = len(every.betas)
        fixed = {name: value.detach() for name, value in discriminator.named_parameters()}
        body_pose, betas = every.rotations[:, 1:], every.betas
        pull = adversarial_loss(functional_call(discriminator, fixed, (body_pose, betas)))
        real_pose = rotvec_to_rotmat(self._draw_poses(count).to(betas).unflatten(-1, (-1, 3)))
        # Betas are in standard deviations of real people's.
        real = discriminator(real_pose, torch.randn_like(betas))
        return pull, discriminator_loss(real, discriminator(body_pose.detach(), betas.detach()))

    def _draw_poses(self, count: int) -> Float[Tensor, "count 69"]:
        if self._real_poses is None:
            return load_gmm().sample(count, torch.default_generator)
        return self._real_poses[torch.randint(len(self._real_poses), (count,))]

    @cached_property
    def _real_poses(self) -> Float[Tensor, "poses 69"] | None:
        path = self.config.real_poses
        return None if path is None or self.discriminator is None else read_real_poses(path)

    # ---- prediction

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """As in `kouros.systems.estimator.CropNetwork`."""
        return predicted(self, image)


# ---- losses

_ROTATION_NUMBERS = 24 * 9


def parameter_loss(
    predicted: Regressed,
    rotations: Float[Tensor, "batch 24 3 3"],
    betas: Float[Tensor, "batch 10"],
    has_pose: Tensor,
    has_betas: Tensor,
) -> Float[Tensor, ""]:
    """``L_smpl``: squared differences, mean over the known persons' numbers.

    Of matrices, as in HMR: rotation vectors of one rotation can be a full turn apart.
    """
    pose, shape = rotation_loss(predicted.rotations, rotations, has_pose), betas_loss(predicted.betas, betas, has_betas)
    return (_ROTATION_NUMBERS * pose + NUM_BETAS * shape) / (_ROTATION_NUMBERS + NUM_BETAS)


def keypoint_loss_3d(predicted: Float[Tensor, "batch 49 3"], known: Float[Tensor, "batch 49 4"]) -> Float[Tensor, ""]:
    """``L_3D``: absolute differences, mean over annotated points, metres.

    Both sides are relative to the middle of the hips; persons whose hips are not known have none.
    """
    return _mean_over_points(*annotated_error_3d(predicted, known))


def keypoint_loss_2d(
    predicted: Float[Tensor, "batch 49 2"], observed: Float[Tensor, "batch 49 3"], crop_size: int
) -> Float[Tensor, ""]:
    """``L_2D``: absolute differences, mean over annotated points, crop coordinates.

    Args:
        predicted: crop coordinates, -1 to 1.
        observed: pixels of the crop and confidence.
        crop_size: pixels.
    """
    seen = usable_keypoints(observed)[:, ANNOTATED]
    return _mean_over_points(predicted[:, ANNOTATED] - to_crop_coordinates(seen[..., :2], crop_size), seen[..., 2])


def _mean_over_points(error: Float[Tensor, "batch points axes"], confidence: Float[Tensor, "batch points"]) -> Tensor:
    return mean_where((confidence * error.abs().mean(-1)).flatten(), (confidence > 0).flatten())


# ---- files


def read_real_poses(path: Path) -> Float[Tensor, "poses 69"]:
    """Body poses of an .npz file: its ``poses`` (N, 72), rotation vectors; of rows with a ``split``, those of "train".

    Raises:
        ValueError: not such a file.
        OSError: the file cannot be read.
    """
    expected = "expected an .npz with `poses` (N, 72), rotation vectors in radians"
    try:
        wanted: dict[str, Wanted] = {"poses": ((None, 3 + POSE_SIZE), "float32")}
        file = read_npz(path, wanted, optional={"split": ((None,), "text")})
        poses = file["poses"][file["split"] == "train"] if "split" in file else file["poses"]
    except (ArchiveError, IndexError) as error:
        raise ValueError(f"{path} is not a file of poses ({error}); {expected}.") from error
    if not len(poses):
        raise ValueError(f"{path} holds no pose; {expected}.")
    return torch.from_numpy(poses[:, 3:])
