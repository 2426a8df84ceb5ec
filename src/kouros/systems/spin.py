"""SPIN: Learning to Reconstruct 3D Human Pose and Shape via Model-fitting in the Loop.

Kolotouros, Pavlakos, Black and Daniilidis, ICCV 2019. In the paper's order: configuration, network (Sec. 3.2), fits
(3.3), losses and training step (3.4, 3.5), prediction. HKMR's variant in the loop is this with another regressor.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.augment import SPIN_AUGMENTATION, AugmentConfig
from kouros.data.batch import Batch
from kouros.fitting.schedules.fits_store import FitCriteria, FitsStore
from kouros.fitting.schedules.in_the_loop import BestFits, FitInTheLoop, Photographed, read_spin_fits
from kouros.fitting.terms.keypoints import usable_keypoints
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.networks.backbones import VectorBackbone
from kouros.networks.estimates import MeanParameters, Regressed
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.kinematic_regressor import KinematicConfig, KinematicRegressor
from kouros.systems.backbone_weights import begin_backbone
from kouros.systems.estimator import Estimate
from kouros.systems.joint_crops import VectorSystem
from kouros.systems.losses import (
    ANNOTATED,
    annotated_error_3d,
    betas_loss,
    mean_where,
    predicted,
    regressed_keypoints,
    require_regressable,
    rotation_loss,
    to_crop_coordinates,
)
from kouros.systems.recipe import Recipe
from kouros.systems.system import Step

LearnFrom = Literal["fits-in-the-loop", "static-fits", "reprojection"]


@dataclass(frozen=True)
class LossWeights:
    """SPIN's published weights."""

    keypoints: float = 5.0
    """Of keypoints in the picture, and of those in space."""
    openpose: float = 0.0
    """Of a detected keypoint's confidence in training; fits see detections with their full confidence."""
    annotated: float = 1.0
    """Of an annotated keypoint's confidence."""
    pose: float = 1.0
    """Of joints' rotation matrices."""
    betas: float = 0.001
    """Of the shape."""
    camera: float = 1.0
    """Of the loss that keeps the camera's scale positive."""
    overall: float = 60.0
    """Of the sum of all. Adam hardly notices; a clipped gradient does."""

    def total(self, terms: Mapping[str, Float[Tensor, ""]]) -> Float[Tensor, ""]:
        """Weighted sum of terms by name: keypoints_2d, keypoints_3d, pose, betas, camera."""
        weights = {
            "keypoints_2d": self.keypoints,
            "keypoints_3d": self.keypoints,
            "pose": self.pose,
            "betas": self.betas,
            "camera": self.camera,
        }
        return self.overall * torch.stack([weights[name] * term for name, term in terms.items()]).sum()


@dataclass(frozen=True)
class SpinStart:
    """Files that training begins with. A run that goes on, or is loaded, needs none of them."""

    backbone: Path | None = None
    """Torchvision's ImageNet weights of the backbone; SPIN has them. BlazePose's are in the package, unless this is
    another MediaPipe ``.task`` bundle."""
    mean_parameters: Path | None = None
    """SPIN's smpl_mean_params.npz; default: the packaged prior's mean pose and the mean shape."""
    static_fits: tuple[Path, ...] = ()
    """SPIN's static fits, one file for each data set in their order; who has none is fitted from the mean pose."""


@dataclass(frozen=True)
class SpinConfig:
    """The published numbers."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=250_000, batch_size=64)
    crop_size: int = 224
    """Side of the crops, pixels."""
    backbone: VectorBackbone = 50
    """Depth of the ResNet; or a packaged network, whose weights may be used commercially: of the small variant
    movenet-joints, to be held."""
    neck: int = 0
    """Width of a residual perceptron between the backbone and the regressor, for a backbone that is held; 0, as
    published: none."""
    learn_from: LearnFrom = "fits-in-the-loop"
    """Fits that the network's estimates improve, fits that stay as they began, or keypoints alone."""
    paired: bool = True
    """Learn also from 3D ground truth where it is known; off, the paper's "unpaired" setting."""
    regressor: Literal["hmr", "hkmr"] = "hmr"
    """HMR's, as published, or HKMR's in its place: what that paper calls HKMR_MF."""
    iterations: int = 3
    """Of HMR's regressor."""
    dropout: float = 0.5
    """In HMR's regressor."""
    kinematic: KinematicConfig = field(default_factory=KinematicConfig)
    """HKMR's regressor."""
    learning_rate: float = 5e-5
    """Adam's."""
    weights: LossWeights = field(default_factory=LossWeights)
    criteria: FitCriteria = field(default_factory=FitCriteria)
    """Which fits are trusted."""
    augment: AugmentConfig = SPIN_AUGMENTATION
    """How crops are changed."""
    start: SpinStart = field(default_factory=SpinStart)

    def __post_init__(self) -> None:
        if self.regressor == "hkmr" and (self.iterations, self.dropout) != (SpinConfig.iterations, SpinConfig.dropout):
            raise ValueError("iterations and dropout are of HMR's regressor; HKMR's has kinematic.outer-iterations.")
        if self.regressor == "hmr" and self.kinematic != KinematicConfig():
            raise ValueError("kinematic is of HKMR's regressor; set regressor to hkmr, or leave it out.")

    def build(self, body: BodyModel, num_samples: int, regressor: Callable[[int], nn.Module] | None = None) -> "Spin":
        """The system with fresh weights, from torch's global generator, and no fits.

        Args:
            body: that estimates and fits are of.
            num_samples: of all data sets that it will be trained on; 0 where it will not.
            regressor: from the number of features to a network that takes them, in place of the configured one; see
                `kouros.networks.estimates`.

        Raises:
            ValueError: the body cannot be regressed or fitted.
        """
        return Spin(self, body, num_samples, regressor or self._regressor)

    def _regressor(self, num_features: int) -> nn.Module:
        if self.regressor == "hkmr":
            return self.kinematic.build(num_features)
        return HmrRegressor(num_features, self.iterations, self.dropout)


# ---- Eq. 1 and 3: losses. As SPIN weighs them every loss is a mean of squares; keypoints in the picture are in crop
# coordinates, -1 to 1, and weighted by their confidences.


def keypoint_loss_2d(
    predicted: Float[Tensor, "batch 49 2"],
    observed: Float[Tensor, "batch 49 3"],
    crop_size: int,
    weights: LossWeights = LossWeights(),
) -> Float[Tensor, ""]:
    """SPIN's Eq. 1, squared.

    Args:
        predicted: crop coordinates, -1 to 1.
        observed: pixels of the crop and confidence; what is not finite or has none is not seen.
        crop_size: pixels.
        weights: of detected and annotated keypoints.
    """
    seen = usable_keypoints(observed)
    confidence = seen[..., 2].clone()
    confidence[:, : ANNOTATED.start] *= weights.openpose
    confidence[:, ANNOTATED] *= weights.annotated
    error = predicted - to_crop_coordinates(seen[..., :2], crop_size)
    return (confidence[..., None] * error.square()).mean()


def keypoint_loss_3d(predicted: Float[Tensor, "batch 49 3"], known: Float[Tensor, "batch 49 4"]) -> Float[Tensor, ""]:
    """Of the annotated keypoints in space, both sides relative to the middle of the hips, square metres.

    Mean over the samples that have any; those whose hips are not known have none.

    Args:
        predicted: metres, in camera axes.
        known: the same, and confidence.
    """
    error, confidence = annotated_error_3d(predicted, known)
    each = (confidence[..., None] * error.square()).mean((1, 2))
    return mean_where(each, (confidence > 0).any(-1))


def camera_loss(regressed: Regressed) -> Float[Tensor, ""]:
    """``exp(-10 s)^2``: the body stays in front of the camera."""
    return torch.exp(-20 * regressed.camera[:, 0]).mean()


# ---- the system


class Spin(VectorSystem):
    """Network, fits in the loop, and losses."""

    best_fits: FitsStore

    def __init__(
        self, config: SpinConfig, body: BodyModel, num_samples: int, regressor: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        require_regressable(body)
        self.config = config
        self.augment = config.augment
        features = self.build_features(config.backbone, config.neck)
        self.regressor = regressor(features)
        self.best_fits = FitsStore.empty(num_samples)
        self.body = copy.deepcopy(body)  # goes where the network goes; the fits' stays where fits are fastest
        self._fit = FitInTheLoop(body, self.best_fits, criteria=config.criteria)

    @property
    def crop_size(self) -> int:
        """Side of the square crops that it takes, pixels."""
        return self.config.crop_size

    # ---- before training

    def begin(self, samples: Iterable[Batch] = ()) -> None:
        """Once, before the first step of a new run: read the files of `SpinStart`, and fit whom they leave without.

        Args:
            samples: all of the run, as they were photographed; not looked at where no fits are learned from.

        Raises:
            ValueError: a file is not what it should be.
            OSError: a file cannot be read.
        """
        start = self.config.start
        begin_backbone(self.backbone, start.backbone)
        if start.mean_parameters is not None:
            if not isinstance(self.regressor, HmrRegressor | KinematicRegressor):
                raise ValueError(
                    "mean parameters from a file are for HMR's and HKMR's regressors; leave start.mean-parameters out."
                )
            self.regressor.begin_from(MeanParameters.read(start.mean_parameters))
        if self.config.learn_from == "reprojection":
            return
        if start.static_fits:
            self.best_fits.load_state_dict(read_spin_fits(start.static_fits, len(self.best_fits)).state_dict())
        if bool(self.best_fits.fits.exists.all()):
            return
        for batch in samples:
            self._fit.begin(_photographed(batch))

    def optimizers(self) -> tuple[Optimizer, ...]:
        """Adam, as published."""
        return (Adam(self.parameters(), lr=self.config.learning_rate),)

    # ---- Sec. 3.2: the network

    def forward(self, image: Float[Tensor, "batch 3 size size"]) -> tuple[Regressed, ...]:
        """What the regressor answers after each of its iterations."""
        return self.regressor(self.neck(self.features(image)))

    # ---- Sec. 3.3-3.5: one training step

    def training_step(self, batch: Batch) -> Step:
        """Regress, fit from there, keep the better fit, and learn from it."""
        regressed = self.regressor(self.neck(self.seen(batch)))[-1]
        # Half precision, which a training loop may have switched on, is too coarse for what follows.
        with torch.autocast(batch.image.device.type, enabled=False):
            return self._learn(batch, regressed)

    def _learn(self, batch: Batch, regressed: Regressed) -> Step:
        target = self._target(batch, regressed.detach())
        keypoints = regressed_keypoints(self.body, regressed)
        weights = self.config.weights
        terms = {
            "keypoints_2d": keypoint_loss_2d(keypoints.picture, batch.keypoints_2d, batch.crop_size, weights),
            "pose": rotation_loss(regressed.rotations, target.rotations, target.has_pose),
            "betas": betas_loss(regressed.betas, target.betas, target.has_betas),
            "camera": camera_loss(regressed),
        }
        if self.config.paired:
            terms["keypoints_3d"] = keypoint_loss_3d(keypoints.space, batch.keypoints_3d)
        return Step(
            losses=(weights.total(terms),),
            terms={name: term.detach() for name, term in terms.items()} | target.shares,
            predicted=Estimate(bodies=regressed.detach().bodies),
            target=target.bodies(regressed.detach()),
        )

    def _target(self, batch: Batch, regressed: Regressed) -> "_Target":
        """What the parameters are pulled to: the truth where it is known, else the best fit where it is trusted."""
        seen = _photographed(batch)
        has_pose, has_betas = (known & self.config.paired for known in (batch.has_pose, batch.has_betas))
        if self.config.learn_from == "fits-in-the-loop":
            fits = self._fit.improve(seen, regressed.bodies, skip=has_pose & has_betas)
        else:
            # Who learns from the reprojection alone has begun without fits, and so finds none.
            fits = self._fit.recall(seen)
        learned = fits.supervision
        pose = torch.where(has_pose[:, None], batch.pose, learned.pose)
        betas = torch.where(has_betas[:, None], batch.betas, learned.betas)
        return _Target(
            rotations=rotvec_to_rotmat(pose.unflatten(-1, (24, 3))),
            betas=betas,
            transl=self._fit.place(seen, pose, betas),
            has_pose=has_pose | learned.trusted,
            has_betas=has_betas | learned.trusted,
            fits=fits,
        )

    # ---- prediction

    def predict(self, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
        """As in `kouros.systems.estimator.CropNetwork`."""
        return predicted(self, image)


@dataclass(frozen=True)
class _Target:
    """What the parameters of a batch are pulled to."""

    rotations: Float[Tensor, "batch 24 3 3"]
    betas: Float[Tensor, "batch 10"]
    transl: Float[Tensor, "batch 3"]
    """Where the keypoints say they stand, metres, in front of the nominal crop's camera."""
    has_pose: Bool[Tensor, " batch"]
    has_betas: Bool[Tensor, " batch"]
    fits: BestFits

    def bodies(self, regressed: Regressed) -> Bodies:
        """To be drawn beside what was regressed, and as that where there is nothing to learn from."""
        instead = regressed.bodies
        pose = torch.where(self.has_pose[:, None], rotmat_to_rotvec(self.rotations).flatten(1), instead.pose)
        betas = torch.where(self.has_pose[:, None], self.betas, instead.betas)
        return Bodies(pose, betas, torch.where(self.has_pose[:, None], self.transl, instead.transl), instead.camera)

    @property
    def shares(self) -> dict[str, Float[Tensor, ""]]:
        """How the fits are doing, for the log."""
        return {
            "fits trusted": self.fits.supervision.trusted.float().mean(),
            "fits improved": self.fits.improved.float().mean(),
        }


def _photographed(batch: Batch) -> Photographed:
    return Photographed(batch.index, batch.keypoints_2d, batch.crop_size, batch.augmentation)
