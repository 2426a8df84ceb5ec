"""The losses that SPIN and HKMR share: where regressed bodies put their keypoints, and how far that is from what is
known.

As SPIN weighs them (Kolotouros et al., ICCV 2019): every loss is a mean of squares; keypoints in the picture are in
crop coordinates, -1 to 1, and weighted by their confidences.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kouros.body.keypoints import OPENPOSE25, SPIN49
from kouros.body.model import BodyModel
from kouros.fitting.schedules.in_the_loop import spin_camera
from kouros.fitting.terms.keypoints import usable_keypoints
from kouros.geometry.cameras import SPIN_CROP_SIZE, perspective_translation
from kouros.networks.estimates import NUM_BETAS, Regressed
from kouros.systems.system import Bodies

ANNOTATED = slice(len(OPENPOSE25), None)
"""SPIN's points that data sets annotate, after those of OpenPose."""
HIPS = (SPIN49.index("right_hip_lsp"), SPIN49.index("left_hip_lsp"))


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
class RegressedKeypoints:
    """Where regressed bodies have SPIN's 49 keypoints."""

    space: Float[Tensor, "batch 49 3"]
    """Metres, in camera axes, relative to the body's origin."""
    picture: Float[Tensor, "batch 49 2"]
    """Crop coordinates, -1 to 1."""


def regressed_keypoints(body: BodyModel, regressed: Regressed) -> RegressedKeypoints:
    """Keypoints of bodies seen by SPIN's pinhole (focal length 5000 on a crop of 224), without the mesh."""
    space = body.keypoint_positions(
        SPIN49.name,
        betas=regressed.betas,
        global_orient=regressed.rotations[:, 0],
        body_pose=regressed.rotations[:, 1:],
        pose2rot=False,
    )
    transl = perspective_translation(regressed.weak_perspective)
    pixels = spin_camera(len(transl), transl).project(space + transl[:, None])
    return RegressedKeypoints(space, to_crop_coordinates(pixels, SPIN_CROP_SIZE))


def to_crop_coordinates(pixels: Float[Tensor, "batch points 2"], crop_size: int) -> Float[Tensor, "batch points 2"]:
    """Pixels of a crop as numbers from -1 to 1."""
    return 2 * pixels / crop_size - 1


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


def annotated_error_3d(
    predicted: Float[Tensor, "batch 49 3"], known: Float[Tensor, "batch 49 4"]
) -> tuple[Float[Tensor, "batch 24 3"], Float[Tensor, "batch 24"]]:
    """Differences of the annotated keypoints, both sides relative to the middle of the hips, and their confidences.

    Those whose hips are not known have none.
    """
    confidence = torch.where(torch.isfinite(known).all(-1), known[..., 3], 0.0)
    confidence = confidence * (confidence[:, HIPS] > 0).all(-1, keepdim=True)

    def centred(points: Tensor) -> Tensor:
        return points[:, ANNOTATED] - points[:, HIPS].mean(1, keepdim=True)

    return centred(predicted) - centred(_finite(known)[..., :3]), confidence[:, ANNOTATED]


def rotation_loss(
    predicted: Float[Tensor, "batch 24 3 3"], target: Float[Tensor, "batch 24 3 3"], where: Bool[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Eq. 3's pose: squared differences of matrices, mean over the chosen samples."""
    return mean_where((predicted - _finite(target)).square().mean((1, 2, 3)), where)


def betas_loss(
    predicted: Float[Tensor, "batch 10"], target: Float[Tensor, "batch 10"], where: Bool[Tensor, " batch"]
) -> Float[Tensor, ""]:
    """Eq. 3's shape: squared differences, mean over the chosen samples."""
    return mean_where((predicted - _finite(target)).square().mean(-1), where)


def camera_loss(regressed: Regressed) -> Float[Tensor, ""]:
    """``exp(-10 s)^2``: the body stays in front of the camera."""
    return torch.exp(-20 * regressed.camera[:, 0]).mean()


def mean_where(values: Float[Tensor, " batch"], where: Bool[Tensor, " batch"]) -> Float[Tensor, ""]:
    """Mean over the chosen samples; 0 where there are none.

    In data-parallel training the mean of all processes' answers is the mean over all their samples, however
    unevenly they have them; all processes must call this equally often.
    """
    count, processes = where.sum().to(values.dtype), 1
    if dist.is_available() and dist.is_initialized():
        processes = dist.get_world_size()
        dist.all_reduce(count)
    # Not a product: what was not chosen may be NaN.
    return torch.where(where, values, 0.0).sum() * processes / count.clamp(min=1)


def as_bodies(regressed: Regressed) -> Bodies:
    """What was regressed, as the judges want it."""
    return Bodies(regressed.rotations[:, 0], regressed.rotations[:, 1:], regressed.betas, regressed.weak_perspective)


@torch.no_grad()
def predicted_bodies(network: nn.Module, image: Float[Tensor, "batch 3 size size"]) -> Bodies:
    """What a network whose iterations answer with `Regressed` answers last, in evaluation mode."""
    training = network.training
    network.eval()
    try:
        return as_bodies(network(image)[-1])
    finally:
        network.train(training)


def require_regressable(body: BodyModel) -> None:
    """Stop a body that has another number of betas than regressors answer with, or cannot place `SPIN49`.

    Raises:
        ValueError: it is such a body.
    """
    if body.num_betas != NUM_BETAS:
        raise ValueError(
            f"the regressor answers with {NUM_BETAS} betas, but this body has {body.num_betas}; load it with "
            f"num_betas={NUM_BETAS}."
        )
    try:
        body.keypoint_tables(SPIN49.name)
    except KeyError as error:
        raise ValueError(error.args[0]) from None


def _finite(target: Tensor) -> Tensor:
    """Unknown numbers as zeros: a gradient through them would be NaN even where their loss is left out."""
    return torch.nan_to_num(target, nan=0.0, posinf=0.0, neginf=0.0)
