"""Dense correspondence: the ratio of correct points (RCP) over geodesic distance, and what is read off its
curve.

A point is annotated in the image with its place on the body; its error is the geodesic distance, metres on
the body's surface, from there to the place predicted at that pixel, and infinite where background is
predicted. Güler et al. (DensePose, CVPR 2018) define the measures; HoloPose (Sec. 4, Table 1) reports AUC10,
AUC30 and FR10.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def ratio_of_correct_points(
    distances: Float[Tensor, " points"], thresholds: Float[Tensor, " thresholds"]
) -> Float[Tensor, " thresholds"]:
    """RCP: the share of points whose geodesic distance is below each threshold (metres).

    Raises:
        ValueError: there are no points; a distance is negative or NaN.
    """
    check_distances(distances)
    return (distances[:, None] < thresholds).to(distances.dtype).mean(dim=0)


def area_under_rcp(distances: Float[Tensor, " points"], limit: float) -> Float[Tensor, ""]:
    """``1/a * integral_0^a RCP(t) dt`` for ``a = limit`` metres: AUC10 for 0.1, AUC30 for 0.3.

    Exact, without a grid: a point of error ``e`` adds ``max(0, a - e)`` to the integral.

    Raises:
        ValueError: there are no points; a distance is negative or NaN.
    """
    check_distances(distances)
    return ((limit - distances).clamp(min=0) / limit).mean()


def failure_rate(distances: Float[Tensor, " points"], limit: float = 0.1) -> Float[Tensor, ""]:
    """Share of points farther than ``limit`` metres: FR10 for 0.1.

    Raises:
        ValueError: there are no points; a distance is negative or NaN.
    """
    check_distances(distances)
    return (distances > limit).to(distances.dtype).mean()


def geodesic_point_similarity(
    distances: Float[Tensor, "batch points"],
    valid: Bool[Tensor, "batch points"],
    kappa: float | Float[Tensor, "batch points"] = 0.255,
) -> Float[Tensor, " batch"]:
    """GPS of each person: the mean of ``exp(-e^2 / (2 kappa^2))`` over its valid points; NaN without any.

    Args:
        kappa: metres; 0.255 everywhere in the paper, a value a body part in DensePose's later code.
    """
    similarity = torch.exp(-distances.square() / (2 * kappa**2))
    return torch.where(valid, similarity, 0).sum(dim=1) / valid.sum(dim=1)


def check_distances(distances: Float[Tensor, " points"]) -> None:
    """Refuse what is no set of geodesic distances.

    Raises:
        ValueError: there are no points; a distance is negative or NaN.
    """
    if not len(distances):
        raise ValueError("There are no points; a ratio of correct points needs at least one.")
    bad = ~(distances >= 0)
    if bad.any():
        index = int(bad.nonzero()[0])
        raise ValueError(
            f"The distance of point {index} is {float(distances[index])}; expected 0 or more, and infinity "
            f"where "
            f"background is predicted."
        )
