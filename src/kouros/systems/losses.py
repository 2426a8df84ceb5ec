"""What the losses of several systems share: which points data sets annotate, where regressed bodies have them, means
over those whom something is known of, and the parameters' part.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kouros.body.keypoints import OPENPOSE25, SPIN49
from kouros.body.model import BodyModel
from kouros.geometry.cameras import SPIN_CROP_SIZE, nominal_crop_camera
from kouros.networks.estimates import NUM_BETAS, Regressed
from kouros.systems.estimator import Estimate

ANNOTATED = slice(len(OPENPOSE25), None)
"""SPIN's points that data sets annotate, after those of OpenPose."""
HIPS = (SPIN49.index("right_hip_lsp"), SPIN49.index("left_hip_lsp"))


def to_crop_coordinates(pixels: Float[Tensor, "batch points 2"], crop_size: int) -> Float[Tensor, "batch points 2"]:
    """Pixels of a crop as numbers from -1 to 1."""
    return 2 * pixels / crop_size - 1


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
    transl = regressed.transl
    pixels = nominal_crop_camera(len(transl), transl).project(space + transl[:, None])
    return RegressedKeypoints(space, to_crop_coordinates(pixels, SPIN_CROP_SIZE))


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


@torch.no_grad()
def predicted(network: nn.Module, image: Float[Tensor, "batch 3 size size"]) -> Estimate:
    """What a network whose iterations answer with `Regressed` answers last, in evaluation mode."""
    training = network.training
    network.eval()
    try:
        return Estimate(bodies=network(image)[-1].bodies)
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
