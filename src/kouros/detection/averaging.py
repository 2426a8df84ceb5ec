"""Several looks at one person, averaged: the landmark model is sensitive to the crop, its mean less so."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kouros.body.keypoints import BLAZEPOSE33
from kouros.detection.landmark_model import Landmarks
from kouros.detection.regions import Region

BODY_POINTS = tuple(
    BLAZEPOSE33.index(name)
    for name in (
        "nose",
        *(f"{side}_{part}" for side in ("left", "right")
          for part in ("ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    )
)  # fmt: skip
"""One or two points a body part, so that eleven points of the face do not outvote the limbs."""

_VARIATIONS = (
    (1.0, 0.0, False),
    (1.0, 0.0, True),
    (1.1, 0.14, False),
    (1.1, -0.14, True),
    (0.92, -0.14, False),
    (0.92, 0.14, True),
    (1.2, 0.0, False),
    (1.2, 0.0, True),
    (1.0, 0.25, False),
    (1.0, -0.25, True),
    (1.0, -0.25, False),
    (1.0, 0.25, True),
)
"""Scale of the region, turn in radians, mirror image: each crop followed by its mirror image."""
MAX_CROPS = len(_VARIATIONS)


def crop_variations(region: Region, crops: int) -> list[Region]:
    """The first ``crops`` ways to look at a region: plain, in a mirror, then larger, smaller and turned."""
    return [region.varied(*variation) for variation in _VARIATIONS[:crops]]


@dataclass(frozen=True, eq=False)
class Averaged:
    """The mean of several looks at one person, and how far they differ."""

    flag: float
    points: Float[np.ndarray, "33 2"]
    confidence: Float[np.ndarray, " 33"]
    metric: Float[np.ndarray, "33 3"]
    spread_2d: Float[np.ndarray, " 33"]
    spread_3d: Float[np.ndarray, " 33"]


def average(looks: list[Landmarks]) -> Averaged:
    """Average looks point by point.

    A look counts by its flag, and less the further its point lies from the median of all looks (weights
    of Geman and McClure, scaled by the median distance), so that a single crop in which the model exchanged
    the legs does not pull the mean.
    """
    flags = np.array([look.flag for look in looks])
    points, spread_2d = _robust_mean(np.stack([look.points for look in looks]), flags)
    metric, spread_3d = _robust_mean(np.stack([look.metric for look in looks]), flags)
    return Averaged(
        flag=float(flags.mean()),
        points=points,
        confidence=np.mean([look.confidence for look in looks], axis=0),
        metric=metric,
        spread_2d=spread_2d,
        spread_3d=spread_3d,
    )


def _robust_mean(
    values: Float[np.ndarray, "looks points dim"], weights: Float[np.ndarray, " looks"]
) -> tuple[Float[np.ndarray, "points dim"], Float[np.ndarray, " points"]]:
    distance = np.linalg.norm(values - np.median(values, axis=0), axis=-1)
    typical = np.maximum(np.median(distance, axis=0), 1e-9)
    weight = (weights[:, None] / (1 + (distance / (3 * typical)) ** 2) ** 2)[..., None]
    mean = (weight * values).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-12)
    deviation = ((values - mean) ** 2).sum(axis=-1)
    return mean, np.sqrt(deviation.mean(axis=0))
