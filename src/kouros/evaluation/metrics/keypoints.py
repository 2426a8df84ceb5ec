"""Shares of correct keypoints: 3DHP's PCK and AUC in space, PCK by box size and MPII's PCKh in the image.

The functions say point by point what is correct, so that a caller can count by joint, action or data set.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.evaluation.metrics.checks import require_finite

PCK_THRESHOLD_3DHP = 0.150
"""Metres; MPI-INF-3DHP's evaluation, half a head."""
AUC_THRESHOLDS_3DHP = tuple(step * 0.005 for step in range(31))
"""Metres: 0 to 150 mm in steps of 5 (MPI-INF-3DHP's evaluation); the zero makes 30/31 a perfect score."""


def correct_keypoints_3d(
    errors: Float[Tensor, "batch points"], threshold: float = PCK_THRESHOLD_3DHP
) -> Bool[Tensor, "batch points"]:
    """Whether each error (metres) is strictly below the threshold, as in MPI-INF-3DHP's evaluation."""
    require_finite("errors", errors)
    return errors < threshold


def area_under_pck(
    errors: Float[Tensor, "batch points"],
    valid: Bool[Tensor, "batch points"] | None = None,
    thresholds: tuple[float, ...] = AUC_THRESHOLDS_3DHP,
) -> Float[Tensor, ""]:
    """Mean over the thresholds of the share of valid errors strictly below each.

    Raises:
        ValueError: no point is valid.
    """
    kept = errors.flatten() if valid is None else errors[valid]
    if not len(kept):
        raise ValueError("There are no valid points to compute an area under the PCK curve of.")
    require_finite("errors", kept)
    limits = kept.new_tensor(thresholds)
    return (kept[:, None] < limits).to(kept.dtype).mean()


def keypoint_errors_2d(
    predicted: Float[Tensor, "batch points 2"],
    target: Float[Tensor, "batch points 2"],
    valid: Bool[Tensor, "batch points"] | None = None,
) -> Float[Tensor, "batch points"]:
    """Distances of corresponding keypoints, pixels; 0 where there is no ground truth.

    Raises:
        ValueError: a point that counts is not finite.
    """
    require_finite("predicted", predicted, valid)
    require_finite("target", target, valid)
    distances = (predicted - target).norm(dim=-1)
    return distances if valid is None else torch.where(valid, distances, 0)


def correct_keypoints_2d(
    errors: Float[Tensor, "batch points"], reference: Float[Tensor, " batch"], fraction: float
) -> Bool[Tensor, "batch points"]:
    """Whether each error is at most ``fraction`` of its person's reference length (both in pixels).

    The reference is the longer side of the person's box for PCK (Yang and Ramanan, TPAMI 2013), and the
    head's size for PCKh (`head_size_mpii`), where the fraction is 0.5.

    Raises:
        ValueError: a reference is not a positive number.
    """
    bad = ~(torch.isfinite(reference) & (reference > 0))
    if bad.any():
        sample = int(bad.nonzero()[0])
        raise ValueError(
            f"The reference length of sample {sample} is {float(reference[sample])}; PCK needs a positive "
            f"number of "
            f"pixels: drop people without a box or head."
        )
    return errors <= fraction * reference[:, None]


def pck_of_people(
    predicted: Float[Tensor, "batch points 2"],
    target: Float[Tensor, "batch points 2"],
    valid: Bool[Tensor, "batch points"],
    reference: Float[Tensor, " batch"],
    fraction: float = 0.5,
) -> Float[Tensor, " batch"]:
    """Share of each person's points that are correct, as Neural Body Fitting measures PCKh "on a per-example basis".

    NaN for a person without points; the mean over people is not that over points where some have fewer.

    Args:
        reference: as in `correct_keypoints_2d`: the head's length for PCKh.

    Raises:
        ValueError: as `correct_keypoints_2d` and `keypoint_errors_2d`.
    """
    correct = correct_keypoints_2d(keypoint_errors_2d(predicted, target, valid), reference, fraction)
    return (correct & valid).sum(dim=1) / valid.sum(dim=1)


def head_size_mpii(head_box: Float[Tensor, "batch 4"]) -> Float[Tensor, " batch"]:
    """MPII's head size: 0.6 times the diagonal of the head's rectangle (x0, y0, x1, y1), pixels.

    Andriluka et al., CVPR 2014: the evaluation code distributed with the data set.
    """
    return 0.6 * (head_box[:, 2:] - head_box[:, :2]).norm(dim=-1)
