"""What a fit's objective says of itself at one point, and how several add up.

A term gives residuals with their Jacobian; a step of Levenberg-Marquardt needs only ``J^T J`` and ``J^T r`` of all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.batched import Batched


@dataclass(frozen=True)
class Linearization(Batched):
    """A sum of squares at one point: ``cost = 1/2 |residuals|^2`` unless the residuals are reweighted."""

    cost: Float[Tensor, " batch"]
    """The true, robust objective; decides whether a step is taken."""
    residuals: Float[Tensor, "batch rows"]
    jacobian: Float[Tensor, "batch rows unknowns"]


Part = tuple[slice, Linearization]
"""A term of a range of the unknowns, for `add_up_normal`."""


def add_up(parts: list[Linearization]) -> Linearization:
    """The sum of several objectives of the same unknowns."""
    return Linearization(
        cost=torch.stack([p.cost for p in parts]).sum(0),
        residuals=torch.cat([p.residuals for p in parts], dim=-1),
        jacobian=torch.cat([p.jacobian for p in parts], dim=-2),
    )


def on_all(part: Part, size: int) -> Linearization:
    """The same term of all ``size`` unknowns, for `add_up`."""
    where, at = part
    jacobian = torch.nn.functional.pad(at.jacobian, (where.start, size - where.stop))
    return Linearization(at.cost, at.residuals, jacobian)


@dataclass(frozen=True)
class NormalEquations:
    """All of an objective that a step needs: for objectives whose ``J^T J`` costs less than their ``J``."""

    cost: Float[Tensor, " batch"]
    matrix: Float[Tensor, "batch unknowns unknowns"]
    """``J^T J``"""
    gradient: Float[Tensor, "batch unknowns"]
    """``J^T r``"""


def add_up_normal(parts: Sequence[Linearization | tuple[slice, Linearization]], size: int) -> NormalEquations:
    """The normal equations of a sum, part by part: rows are never stacked.

    Args:
        parts: of all unknowns, or of a range of them, which comes first in the pair.
        size: number of unknowns.
    """
    everything = slice(0, size)
    ranged = [p if isinstance(p, tuple) else (everything, p) for p in parts]
    cost = torch.stack([at.cost for _, at in ranged]).sum(0)
    matrix = cost.new_zeros(len(cost), size, size)
    gradient = cost.new_zeros(len(cost), size)
    for where, at in ranged:
        matrix[:, where, where] += torch.bmm(at.jacobian.mT, at.jacobian)
        gradient[:, where] += torch.bmm(at.residuals[:, None], at.jacobian)[:, 0]
    return NormalEquations(cost, matrix, gradient)


Objective = Callable[[Float[Tensor, "batch unknowns"]], Linearization | NormalEquations]
"""Gives the linearization, or the normal equations, at any unknowns."""
