"""Nonlinear conjugate gradients as a recurrent layer: a fixed number of steps that a network can be trained
through.

HoloPose (Güler and Kokkinos, CVPR 2019, Sec. 4) makes its estimates agree by at most 20 such iterations.
Each item of the batch has its own direction and step length. Where gradients are wanted they flow through
every accepted step to whatever the objective was made of, such as a network's keypoints; the decisions to
accept are constants.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.batched import choose
from kouros.fitting.linearization import Linearization
from kouros.fitting.solvers.levenberg_marquardt import Solution

_TINY = 1e-20
"""Keeps 0 / 0 from arising where an item is at its minimum already."""


def conjugate_gradients(
    linearize: Callable[[Float[Tensor, "batch unknowns"]], Linearization],
    start: Float[Tensor, "batch unknowns"],
    *,
    iterations: int = 20,
    tolerance: float = 1e-4,
    free: Bool[Tensor, " unknowns"] | None = None,
) -> Solution:
    """Minimize a robust sum of squares by Polak-Ribière directions, Jacobi-preconditioned.

    The step along a direction ``d`` is Gauss-Newton's, ``-g.d / |J d|^2``, so that a linear problem of
    ``n`` unknowns is solved in ``n`` iterations. A step that does not lower an item's cost is not taken by
    that item: it tries a quarter of it next.

    Args:
        linearize: cost, residuals and Jacobian at any unknowns. Non-finite costs are never accepted.
        start: finite.
        iterations: always this many are run, so that the layer's depth and time are fixed.
        tolerance: an item counts as converged when its last accepted step lowered its cost by less than this
            share of it; nothing else depends on it.
        free: unknowns that may move; default: all.

    Raises:
        ValueError: the cost at the start is not finite.
    """
    at = linearize(start)
    if not bool(torch.isfinite(at.cost).all()):
        bad = torch.nonzero(~torch.isfinite(at.cost)).flatten().tolist()
        raise ValueError(f"the objective is not finite at the start for items {bad}; check the inputs there.")
    moves = torch.ones_like(start[0]) if free is None else free.to(start)
    unknowns, tried_steps = start, torch.zeros_like(at.cost, dtype=torch.long)
    converged = torch.zeros_like(at.cost, dtype=torch.bool)
    scale = torch.ones_like(at.cost)
    gradient = _gradient(at, moves)
    downhill = _preconditioned(at, gradient)
    direction = -downhill
    for _ in range(iterations):
        along = (at.jacobian @ direction[..., None])[..., 0]
        length = -(gradient * direction).sum(-1) / (along.square().sum(-1) + _TINY)
        step = (scale * length)[:, None] * direction
        with torch.no_grad():
            tried = linearize(unknowns + step)
            gain = at.cost - tried.cost
            better = torch.isfinite(tried.cost) & (gain > 0)
            converged = torch.where(better, gain < tolerance * at.cost, converged)
            tried_steps += ~converged
            scale = torch.where(better, (2 * scale).clamp(max=1.0), scale / 4)
        if not bool(better.any()):
            continue
        # Only accepted points enter the graph: what a rejected one computes may be no number.
        unknowns = unknowns + torch.where(better[:, None], step, 0.0)
        at = linearize(unknowns) if torch.is_grad_enabled() else choose(better, tried, at)
        new_gradient = _gradient(at, moves)
        new_downhill = _preconditioned(at, new_gradient)
        turn = (new_downhill * (new_gradient - gradient)).sum(-1) / ((downhill * gradient).sum(-1) + _TINY)
        conjugate = -new_downhill + turn.clamp(min=0.0)[:, None] * direction
        descends = (conjugate * new_gradient).sum(-1, keepdim=True) < 0
        conjugate = torch.where(descends, conjugate, -new_downhill)
        direction = torch.where(better[:, None], conjugate, direction)
        gradient, downhill = new_gradient, new_downhill
    return Solution(unknowns, at.cost, tried_steps, converged)


def _gradient(at: Linearization, moves: Float[Tensor, " unknowns"]) -> Float[Tensor, "batch unknowns"]:
    return (at.residuals[:, None] @ at.jacobian)[:, 0] * moves


def _preconditioned(at: Linearization, gradient: Float[Tensor, "batch unknowns"]) -> Float[Tensor, "batch unknowns"]:
    """Gradient over the Gauss-Newton diagonal: radians, metres and betas on one scale."""
    return gradient / (at.jacobian.square().sum(-2) + _TINY)
