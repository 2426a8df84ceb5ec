"""The shape prior: betas are standard normal by construction, and none is far from zero.

SMPLify's and SPIN's ``E_beta`` is the sum of squares; HoloPose (Sec. 4) charges only what exceeds a bound.
Its printed formula has the sign wrong: the excess is ``max(0, |beta| - b)``.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.priors.energy import PriorEnergy, diagonal, sum_of_squares


@dataclass(frozen=True)
class ShapePrior:
    """Independent unit Gaussians over betas."""

    def energy(self, betas: Float[Tensor, "batch betas"]) -> PriorEnergy:
        """Least-squares form: the betas themselves.

        Raises:
            ValueError: ``betas`` is not ``(batch, betas)``.
        """
        _check_betas(betas)
        return sum_of_squares(betas, diagonal(torch.ones_like(betas)))

    def log_density(self, betas: Float[Tensor, "batch betas"]) -> Float[Tensor, " batch"]:
        """Logarithm of the density, normalised; differentiable."""
        _check_betas(betas)
        return -0.5 * betas.square().sum(-1) - 0.5 * betas.shape[-1] * math.log(2 * math.pi)


@dataclass(frozen=True)
class ShapeBound:
    """Betas cost nothing up to ``bound`` standard deviations, and the square of the excess beyond."""

    bound: float = 3.0
    softness: float = 1.0
    """Excess that counts as one standard deviation."""

    def __post_init__(self) -> None:
        if not (self.bound >= 0 and self.softness > 0):
            raise ValueError(f"bound={self.bound} must not be negative and softness={self.softness} must be positive.")

    def energy(self, betas: Float[Tensor, "batch betas"]) -> PriorEnergy:
        """Least-squares form: the signed excess in units of `softness`.

        Raises:
            ValueError: ``betas`` is not ``(batch, betas)``.
        """
        excess = self._excess(betas)
        outside = (excess != 0).to(excess) / self.softness
        return sum_of_squares(excess / self.softness, diagonal(outside))

    def log_density(self, betas: Float[Tensor, "batch betas"]) -> Float[Tensor, " batch"]:
        """Logarithm of the density up to a constant: 0 within the bound; differentiable."""
        return -0.5 * (self._excess(betas) / self.softness).square().sum(-1)

    def _excess(self, betas: Float[Tensor, "batch betas"]) -> Float[Tensor, "batch betas"]:
        _check_betas(betas)
        return betas - betas.clamp(-self.bound, self.bound)


def _check_betas(betas: Tensor) -> None:
    if betas.ndim != 2 or not torch.is_floating_point(betas):
        raise ValueError(
            f"betas has shape {tuple(betas.shape)} and type {betas.dtype}; expected floating-point (batch, betas)."
        )
