"""Batched Levenberg-Marquardt: every person has a damping, a decision and an end of its own.

Persons share tensor operations, nothing else: leaving one out changes no other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Linearization:
    """A sum of squares at one point: ``cost = 1/2 |residuals|^2`` unless the residuals are reweighted."""

    cost: Float[Tensor, " batch"]
    """The true, robust objective; decides whether a step is taken."""
    residuals: Float[Tensor, "batch rows"]
    jacobian: Float[Tensor, "batch rows unknowns"]


def add_up(parts: list[Linearization]) -> Linearization:
    """The sum of several objectives of the same unknowns."""
    return Linearization(
        cost=torch.stack([p.cost for p in parts]).sum(0),
        residuals=torch.cat([p.residuals for p in parts], dim=-1),
        jacobian=torch.cat([p.jacobian for p in parts], dim=-2),
    )


@dataclass(frozen=True)
class Solution:
    """Where a minimization ended."""

    unknowns: Float[Tensor, "batch unknowns"]
    cost: Float[Tensor, " batch"]
    iterations: Int[Tensor, " batch"]
    """Steps tried before each person converged."""
    converged: Bool[Tensor, " batch"]
    """Whether the last accepted step gained less than the tolerance (or no step could gain)."""


def levenberg_marquardt(
    linearize: Callable[[Float[Tensor, "batch unknowns"]], Linearization],
    start: Float[Tensor, "batch unknowns"],
    *,
    max_iterations: int = 20,
    tolerance: float = 1e-4,
    free: Bool[Tensor, " unknowns"] | None = None,
    initial_damping: float = 1e-3,
) -> Solution:
    """Minimize a robust sum of squares (Marquardt 1963; damping after Nielsen 1999).

    Args:
        linearize: cost, residuals and Jacobian at any unknowns. Non-finite costs are never accepted.
        start: finite; its cost must be finite too.
        max_iterations: steps tried at most.
        tolerance: a person is done when an accepted step lowers its cost by less than this share of it.
        free: unknowns that may move; default: all.
        initial_damping: of the Marquardt-scaled normal equations.

    Raises:
        ValueError: the cost at the start is not finite.
    """
    at = linearize(start)
    if not bool(torch.isfinite(at.cost).all()):
        bad = torch.nonzero(~torch.isfinite(at.cost)).flatten().tolist()
        raise ValueError(f"the objective is not finite at the start for items {bad}; check the inputs there.")
    unknowns, cost = start, at.cost
    held = torch.zeros_like(start[0], dtype=torch.bool) if free is None else ~free
    damping = torch.full_like(cost, initial_damping)
    growth = torch.full_like(cost, 2.0)
    done = torch.zeros_like(cost, dtype=torch.bool)
    iterations = torch.zeros_like(cost, dtype=torch.long)
    matrix, gradient = _normal_equations(at, held)
    for _ in range(max_iterations):
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        damped = matrix + torch.diag_embed(damping[:, None] * diagonal.clamp(min=1e-8))
        step = -_solve(damped, gradient)
        tried = linearize(unknowns + step)
        gain = cost - tried.cost
        promised = 0.5 * (step * (damping[:, None] * diagonal * step - gradient)).sum(-1)
        ratio = gain / promised.clamp(min=1e-30)
        better = torch.isfinite(tried.cost) & (gain > 0) & ~done
        iterations += ~done
        small = gain < tolerance * cost
        # Nielsen: shrink the damping by how well the model predicted, grow it ever faster on failures.
        shrink = (1 - (2 * ratio - 1) ** 3).clamp(min=1 / 5)
        damping = torch.where(better, damping * shrink, damping * growth).clamp(1e-9, 1e9)
        growth = torch.where(better, 2.0, growth * 2)
        done = done | (better & small) | (~better & (growth > 64))
        unknowns = torch.where(better[:, None], unknowns + step, unknowns)
        cost = torch.where(better, tried.cost, cost)
        if bool(done.all()):
            break
        new_matrix, new_gradient = _normal_equations(tried, held)
        matrix = torch.where(better[:, None, None], new_matrix, matrix)
        gradient = torch.where(better[:, None], new_gradient, gradient)
    return Solution(unknowns, cost, iterations, done)


def _normal_equations(
    at: Linearization, held: Bool[Tensor, " unknowns"]
) -> tuple[Float[Tensor, "batch unknowns unknowns"], Float[Tensor, "batch unknowns"]]:
    """``J^T J`` and ``J^T r``; the rows and columns of held unknowns are the identity's."""
    jacobian = at.jacobian.masked_fill(held, 0.0)
    matrix = jacobian.mT @ jacobian + torch.diag(held.to(jacobian.dtype))
    return matrix, (jacobian.mT @ at.residuals[..., None])[..., 0]


def _solve(matrix: Float[Tensor, "batch n n"], vector: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Cholesky; a person whose matrix is not positive definite gets no step (its damping then grows)."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    step = torch.cholesky_solve(vector[..., None], factor)[..., 0]
    return torch.where((failed == 0)[:, None] & torch.isfinite(step), step, 0.0)
