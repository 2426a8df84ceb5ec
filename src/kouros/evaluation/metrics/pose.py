"""3D errors of joints, vertices and rotations: MPJPE, PA-MPJPE, PVE, acceleration and quaternion error.

Each function gives one error a point, so that a caller can average over frames, joints or actions as its
protocol says. MPJPE is the mean of `joint_errors`, PA-MPJPE (the "reconstruction error") that of
`procrustes_errors`; PVE (also MPVE) is either, over vertices instead of joints.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.evaluation.metrics.checks import require_finite
from kouros.geometry.alignment import align


def joint_errors(
    predicted: Float[Tensor, "batch points 3"],
    target: Float[Tensor, "batch points 3"],
    valid: Bool[Tensor, "batch points"] | None = None,
    *,
    predicted_root: Float[Tensor, "batch 3"] | None = None,
    target_root: Float[Tensor, "batch 3"] | None = None,
) -> Float[Tensor, "batch points"]:
    """Euclidean distances of corresponding points, metres, once both roots are at the origin.

    Which root is part of the protocol (SPIN: the pelvis of the H36M regressor; HMR: the middle of the hips)
    and need not be among the points, so it is given as a position: see `root_of`. Without roots nothing is
    moved.

    Args:
        valid: points with ground truth; the others get 0, whatever they hold.

    Raises:
        ValueError: only one root is given; a point that counts is not finite.
    """
    if (predicted_root is None) != (target_root is None):
        raise ValueError("joint_errors got one root; give both predicted_root and target_root, or neither.")
    if predicted_root is not None and target_root is not None:
        require_finite("predicted_root", predicted_root)
        require_finite("target_root", target_root)
        predicted = predicted - predicted_root[:, None]
        target = target - target_root[:, None]
    return _distances(predicted, target, valid)


def root_of(points: Float[Tensor, "batch points 3"], indices: tuple[int, ...]) -> Float[Tensor, "batch 3"]:
    """The root of a protocol: one point, or the middle of several (both hips)."""
    return points[:, list(indices)].mean(dim=1)


def procrustes_errors(
    predicted: Float[Tensor, "batch points 3"],
    target: Float[Tensor, "batch points 3"],
    valid: Bool[Tensor, "batch points"] | None = None,
    *,
    with_scale: bool = True,
) -> Float[Tensor, "batch points"]:
    """Distances left, metres, after the best similarity (no reflection) has moved each prediction onto its
    target.

    Args:
        valid: points with ground truth; they alone choose the alignment, the others get 0.
        with_scale: whether the similarity may scale, as "PA" does; else the alignment is rigid.

    Raises:
        ValueError: a point that counts is not finite; fewer than three points of a sample count; a prediction
            is a single place, which no scale can fit.
    """
    require_finite("predicted", predicted, valid)
    require_finite("target", target, valid)
    if valid is None:
        valid = torch.ones(predicted.shape[:2], dtype=torch.bool, device=predicted.device)
    counts = valid.sum(dim=1)
    if (counts < 3).any():
        sample = int((counts < 3).nonzero()[0])
        raise ValueError(
            f"Sample {sample} has {int(counts[sample])} valid points; Procrustes alignment needs at least 3: "
            f"drop the sample."
        )
    predicted = torch.where(valid[..., None], predicted, 0)
    target = torch.where(valid[..., None], target, 0)
    if with_scale:
        first = predicted.gather(1, valid.int().argmax(dim=1)[:, None, None].expand(-1, 1, 3))
        collapsed = ((predicted == first).all(dim=2) | ~valid).all(dim=1)
        if collapsed.any():
            raise ValueError(
                f"All predicted points of sample {int(collapsed.nonzero()[0])} coincide, so Procrustes "
                f"alignment "
                f"has no scale; use with_scale=False, or check the estimator."
            )
    moved = align(predicted, target, valid.to(predicted.dtype), with_scale=with_scale).apply(predicted)
    return _distances(moved, target, valid)


def acceleration_errors(
    predicted: Float[Tensor, "batch frames points 3"],
    target: Float[Tensor, "batch frames points 3"],
    valid: Bool[Tensor, "batch frames points"] | None = None,
    *,
    frame_rate: float,
) -> tuple[Float[Tensor, "batch inner points"], Bool[Tensor, "batch inner points"]]:
    """Differences of the accelerations (second central differences), metres a second squared.

    As in Kanazawa et al., "Learning 3D Human Dynamics from Video" (CVPR 2019), which prints mm a frame
    squared: that is the value for ``frame_rate=1``, times 1000.

    Args:
        frame_rate: frames a second.

    Returns:
        The errors at the inner frames (two fewer than were given), and which of them have three valid frames.

    Raises:
        ValueError: fewer than three frames; a point that counts is not finite.
    """
    if predicted.shape[1] < 3:
        raise ValueError(f"An acceleration needs at least 3 frames; got {predicted.shape[1]}.")
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ValueError(f"frame_rate must be a positive number of frames a second; got {frame_rate}.")
    require_finite("predicted", predicted, valid)
    require_finite("target", target, valid)
    if valid is None:
        valid = torch.ones(predicted.shape[:3], dtype=torch.bool, device=predicted.device)
    difference = torch.where(valid[..., None], predicted - target, 0)
    second = difference[:, 2:] - 2 * difference[:, 1:-1] + difference[:, :-2]
    inner = valid[:, 2:] & valid[:, 1:-1] & valid[:, :-2]
    errors = second.norm(dim=-1) * frame_rate**2
    return torch.where(inner, errors, 0), inner


def quaternion_errors(
    predicted: Float[Tensor, "batch joints 3 3"], target: Float[Tensor, "batch joints 3 3"]
) -> Float[Tensor, "batch joints"]:
    """Angle between predicted and true joint rotations, radians in [0, pi] (NBF Tables 3 and 4, err_quat).

    The paper names the measure ("quaternion distance error of the predicted joint rotations", "average body
    part rotation error in radians") without a formula. It is taken as ``2 arccos |<p, q>|``: the other usual
    form, ``arccos |<p, q>|``, never exceeds pi/2, but the paper prints 1.97. Computed with atan2, which stays
    accurate for small angles where arccos does not.

    Raises:
        ValueError: a matrix is not finite.
    """
    require_finite("predicted", predicted)
    require_finite("target", target)
    relative = predicted.mT @ target
    # For an angle a: |R - I|_F = 2 sqrt(2) sin(a/2), and trace(R) + 1 = 4 cos^2(a/2).
    identity = torch.eye(3, dtype=relative.dtype, device=relative.device)
    sine = (relative - identity).square().sum(dim=(-2, -1)).sqrt() / math.sqrt(8)
    cosine = (relative.diagonal(dim1=-2, dim2=-1).sum(dim=-1) + 1).clamp(min=0).sqrt() / 2
    return 2 * torch.atan2(sine, cosine)


def sample_means(
    errors: Float[Tensor, "batch points"], valid: Bool[Tensor, "batch points"] | None = None
) -> Float[Tensor, " batch"]:
    """Mean error of each sample over its valid points; NaN for a sample that has none."""
    if valid is None:
        return errors.mean(dim=1)
    return torch.where(valid, errors, 0).sum(dim=1) / valid.sum(dim=1)


def _distances(
    predicted: Float[Tensor, "batch points 3"],
    target: Float[Tensor, "batch points 3"],
    valid: Bool[Tensor, "batch points"] | None,
) -> Float[Tensor, "batch points"]:
    require_finite("predicted", predicted, valid)
    require_finite("target", target, valid)
    distances = (predicted - target).norm(dim=-1)
    return distances if valid is None else torch.where(valid, distances, 0)
