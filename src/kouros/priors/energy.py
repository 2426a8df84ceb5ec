"""The least-squares form in which every prior is handed to a solver.

A Gauss-Newton solver wants residuals and their Jacobian, not a density. Every prior here is a sum of squares
(for the mixture: of its likeliest component), so both forms carry the same information.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class PriorEnergy:
    """A prior's negative log-density, up to a constant, at a batch of points.

    ``energy = 1/2 |residuals|^2`` exactly. A point that is not finite has an energy that is not finite, and
    changes no other point's.
    """

    energy: Float[Tensor, " batch"]
    residuals: Float[Tensor, "batch rows"]
    jacobian: Float[Tensor, "batch rows unknowns"]
    """Derivatives of the residuals by the numbers that the prior was asked about."""

    def weighted(self, weight: float) -> "PriorEnergy":
        """The energy times ``weight`` (not negative)."""
        root = weight**0.5
        return PriorEnergy(self.energy * weight, self.residuals * root, self.jacobian * root)


def sum_of_squares(
    residuals: Float[Tensor, "batch rows"], jacobian: Float[Tensor, "batch rows unknowns"]
) -> PriorEnergy:
    """The energy of given residuals."""
    return PriorEnergy(0.5 * residuals.square().sum(-1), residuals, jacobian)


def diagonal(values: Float[Tensor, "batch unknowns"]) -> Float[Tensor, "batch unknowns unknowns"]:
    """Jacobian of residuals that each depend on one unknown."""
    return torch.diag_embed(values)
