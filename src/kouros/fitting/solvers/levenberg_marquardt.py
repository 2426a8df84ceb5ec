"""Batched Levenberg-Marquardt: every person has a damping, a decision and an end of its own.

Persons share tensor operations, nothing else: leaving one out changes no other.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.batched import Batched
from kouros.fitting.linearization import Linearization, NormalEquations, Objective
from kouros.fitting.solvers.damping import GIVEN_UP, nielsen


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
    linearize: Objective,
    start: Float[Tensor, "batch unknowns"],
    *,
    max_iterations: int = 20,
    tolerance: float = 1e-4,
    free: Bool[Tensor, " unknowns"] | None = None,
    initial_damping: float = 1e-3,
    narrow: Callable[[Int[Tensor, " some"]], Objective] | None = None,
) -> Solution:
    """Minimize a robust sum of squares (Marquardt 1963; damping after Nielsen 1999).

    Args:
        linearize: cost, residuals and Jacobian at any unknowns. Non-finite costs are never accepted.
        start: finite; its cost must be finite too.
        max_iterations: steps tried at most.
        tolerance: a person is done when an accepted step lowers its cost by less than this share of it.
        free: unknowns that may move; default: all.
        initial_damping: of the Marquardt-scaled normal equations.
        narrow: the objective of some persons alone, by their places in the batch. When half of those at
            work are done, the others go on without them; the result is the same.

    Raises:
        ValueError: the cost at the start is not finite.
    """
    at = linearize(start)
    if not bool(torch.isfinite(at.cost).all()):
        bad = torch.nonzero(~torch.isfinite(at.cost)).flatten().tolist()
        raise ValueError(f"the objective is not finite at the start for items {bad}; check the inputs there.")
    held = torch.zeros_like(start[0], dtype=torch.bool) if free is None else ~free
    anything_held = bool(held.any())
    matrix, gradient = _normal_equations(at, held, anything_held)
    state = _State(
        unknowns=start,
        cost=at.cost,
        damping=torch.full_like(at.cost, initial_damping),
        growth=torch.full_like(at.cost, 2.0),
        done=torch.zeros_like(at.cost, dtype=torch.bool),
        iterations=torch.zeros_like(at.cost, dtype=torch.long),
        matrix=matrix,
        gradient=gradient,
    )
    everyone, working = state, torch.arange(len(start), device=start.device)
    for _ in range(max_iterations):
        diagonal = state.matrix.diagonal(dim1=-2, dim2=-1)
        damped = state.matrix.clone()
        damped.diagonal(dim1=-2, dim2=-1).add_(state.damping[:, None] * diagonal.clamp(min=1e-8))
        step = -_solve(damped, state.gradient)
        tried = linearize(state.unknowns + step)
        gain = state.cost - tried.cost
        promised = 0.5 * (step * (state.damping[:, None] * diagonal * step - state.gradient)).sum(-1)
        better = torch.isfinite(tried.cost) & (gain > 0) & ~state.done
        small = gain < tolerance * state.cost
        damping, growth = nielsen(state.damping, state.growth, better, gain, promised)
        done = state.done | (better & small) | (~better & (growth > GIVEN_UP))
        matrix, gradient = _normal_equations(tried, held, anything_held)
        state = _State(
            unknowns=torch.where(better[:, None], state.unknowns + step, state.unknowns),
            cost=torch.where(better, tried.cost, state.cost),
            damping=damping,
            growth=growth,
            done=done,
            iterations=state.iterations + ~state.done,
            matrix=torch.where(better[:, None, None], matrix, state.matrix),
            gradient=torch.where(better[:, None], gradient, state.gradient),
        )
        left = len(done) - int(done.sum())
        if left == 0:
            break
        if narrow is not None and 2 * left <= len(done):
            everyone = everyone.with_rows(working, state)
            stay = torch.nonzero(~done).flatten()
            state, working = state[stay], working[stay]
            linearize = narrow(working)
    everyone = everyone.with_rows(working, state)
    return Solution(everyone.unknowns, everyone.cost, everyone.iterations, everyone.done)


@dataclass(frozen=True)
class _State(Batched):
    """What the minimization knows of each person."""

    unknowns: Float[Tensor, "batch unknowns"]
    cost: Float[Tensor, " batch"]
    damping: Float[Tensor, " batch"]
    growth: Float[Tensor, " batch"]
    done: Bool[Tensor, " batch"]
    iterations: Int[Tensor, " batch"]
    matrix: Float[Tensor, "batch unknowns unknowns"]
    gradient: Float[Tensor, "batch unknowns"]

    def with_rows(self, rows: Int[Tensor, " some"], given: "_State") -> "_State":
        """The same with some persons' state replaced."""
        if len(rows) == len(self.cost):
            return given
        columns = ((getattr(self, f.name), getattr(given, f.name)) for f in fields(self))
        return _State(*(mine.index_copy(0, rows, theirs) for mine, theirs in columns))


def _normal_equations(
    at: Linearization | NormalEquations, held: Bool[Tensor, " unknowns"], anything_held: bool
) -> tuple[Float[Tensor, "batch unknowns unknowns"], Float[Tensor, "batch unknowns"]]:
    """``J^T J`` and ``J^T r``; the rows and columns of held unknowns are the identity's."""
    if isinstance(at, NormalEquations):
        matrix, gradient = at.matrix, at.gradient
    else:
        matrix = torch.bmm(at.jacobian.mT, at.jacobian)
        gradient = torch.bmm(at.residuals[:, None], at.jacobian)[:, 0]
    if not anything_held:
        return matrix, gradient
    matrix = matrix.masked_fill(held | held[:, None], 0.0) + torch.diag(held.to(matrix))
    return matrix, gradient.masked_fill(held, 0.0)


def _solve(matrix: Float[Tensor, "batch n n"], vector: Float[Tensor, "batch n"]) -> Float[Tensor, "batch n"]:
    """Cholesky; a person whose matrix is not positive definite gets no step (its damping then grows)."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    step = torch.cholesky_solve(vector[..., None], factor)[..., 0]
    return torch.where((failed == 0)[:, None] & torch.isfinite(step), step, 0.0)
