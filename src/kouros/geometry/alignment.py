"""Rigid and similarity alignment of point sets (Procrustes), batched, weighted and differentiable."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """The map ``x -> scale * rotation @ x + translation``."""

    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]
    scale: Float[Tensor, "*batch"]

    def apply(self, points: Float[Tensor, "*batch points 3"]) -> Float[Tensor, "*batch points 3"]:
        """Move points."""
        turned = points @ self.rotation.mT
        return self.scale[..., None, None] * turned + self.translation[..., None, :]


def align(
    source: Float[Tensor, "*batch points 3"],
    target: Float[Tensor, "*batch points 3"],
    weights: Float[Tensor, "*batch points"] | None = None,
    *,
    with_scale: bool = True,
) -> Similarity:
    """Least-squares similarity (Umeyama 1991) from ``source`` to ``target``; reflections are excluded.

    Args:
        weights: non-negative, one a point; default: all equal.
        with_scale: whether the scale is free, else it is 1.
    """
    import roma  # loads torch's compiler, which takes a second

    if with_scale:
        rotation, translation, scale = roma.rigid_points_registration(
            source, target, weights=weights, compute_scaling=True
        )
        return Similarity(rotation, translation, scale)
    rotation, translation = roma.rigid_points_registration(source, target, weights=weights)
    return Similarity(rotation, translation, translation.new_ones(translation.shape[:-1]))
