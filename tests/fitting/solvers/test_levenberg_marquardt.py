"""Levenberg-Marquardt: known minima, and persons that must not influence one another."""

import pytest
import torch
from torch.testing import assert_close

from kouros.fitting.linearization import Linearization, add_up, add_up_normal
from kouros.fitting.solvers.levenberg_marquardt import levenberg_marquardt


def _rosenbrock(unknowns: torch.Tensor) -> Linearization:
    """Minimum 0 at (1, 1), at the end of a curved valley."""
    x, y = unknowns.unbind(-1)
    residuals = torch.stack([10 * (y - x * x), 1 - x], dim=-1)
    zero = torch.zeros_like(x)
    jacobian = torch.stack([torch.stack([-20 * x, zero + 10], -1), torch.stack([zero - 1, zero], -1)], dim=-2)
    return Linearization(0.5 * residuals.square().sum(-1), residuals, jacobian)


def test_finds_the_end_of_rosenbrocks_valley():
    start = torch.tensor([[-1.2, 1.0], [3.0, -4.0], [1.0, 1.0]], dtype=torch.float64)
    solution = levenberg_marquardt(_rosenbrock, start, max_iterations=100, tolerance=1e-12)
    assert_close(solution.unknowns, torch.ones_like(start), atol=1e-6, rtol=0)
    assert bool(solution.converged.all())


def test_linear_least_squares_is_solved_like_lstsq():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 9, 4, generator=generator, dtype=torch.float64)
    target = torch.randn(5, 9, generator=generator, dtype=torch.float64)

    def linearize(x: torch.Tensor) -> Linearization:
        residuals = (matrix @ x[..., None])[..., 0] - target
        return Linearization(0.5 * residuals.square().sum(-1), residuals, matrix)

    solution = levenberg_marquardt(linearize, torch.zeros(5, 4, dtype=torch.float64), tolerance=1e-14)
    expected = torch.linalg.lstsq(matrix, target[..., None]).solution[..., 0]
    assert_close(solution.unknowns, expected, atol=1e-8, rtol=1e-8)


def test_a_person_in_a_batch_is_solved_as_if_alone():
    generator = torch.Generator().manual_seed(1)
    starts = torch.randn(16, 2, generator=generator, dtype=torch.float64) * 3
    together = levenberg_marquardt(_rosenbrock, starts, max_iterations=30)
    alone = [levenberg_marquardt(_rosenbrock, s[None], max_iterations=30) for s in starts]
    assert_close(together.unknowns, torch.cat([s.unknowns for s in alone]))
    assert together.iterations.tolist() == [int(s.iterations) for s in alone]


def test_held_unknowns_stay_where_they_are():
    start = torch.tensor([[0.5, 2.0]], dtype=torch.float64)
    solution = levenberg_marquardt(_rosenbrock, start, free=torch.tensor([False, True]), tolerance=1e-12)
    assert solution.unknowns[0, 0] == 0.5
    assert_close(solution.unknowns[0, 1], torch.tensor(0.25, dtype=torch.float64))


def test_cost_never_rises_and_infinite_costs_are_never_accepted():
    def cliff(x: torch.Tensor) -> Linearization:
        """Descends towards a cliff at 0.1 where the objective stops being a number."""
        residuals = torch.where(x > 0.1, x, torch.nan)
        return Linearization(0.5 * residuals.square().sum(-1), residuals, torch.ones_like(x)[..., None])

    solution = levenberg_marquardt(cliff, torch.tensor([[1.0]]), max_iterations=50)
    assert torch.isfinite(solution.cost).all()
    assert 0.1 < solution.unknowns.item() < 1.0


def test_a_start_without_a_finite_cost_is_refused():
    with pytest.raises(ValueError, match=r"not finite at the start for items \[1\]"):
        levenberg_marquardt(_rosenbrock, torch.tensor([[0.0, 0.0], [float("nan"), 0.0]]))


def test_going_on_without_those_who_are_done_changes_nothing():
    generator = torch.Generator().manual_seed(1)
    target = torch.cat([torch.full((12,), 1.0), torch.linspace(2, 30, 4)]).double()
    starts = torch.randn(16, 2, generator=generator, dtype=torch.float64) * 3
    sizes = []

    def objective(target: torch.Tensor):
        def linearize(unknowns: torch.Tensor) -> Linearization:
            sizes.append(len(unknowns))
            return _rosenbrock(unknowns / target[:, None])

        return linearize

    options = {"max_iterations": 40, "tolerance": 1e-8}
    plain = levenberg_marquardt(objective(target), starts, **options)
    narrowed = levenberg_marquardt(objective(target), starts, narrow=lambda rows: objective(target[rows]), **options)
    assert min(sizes) <= 8 < max(sizes)
    assert_close(narrowed.unknowns, plain.unknowns)
    assert_close(narrowed.cost, plain.cost)
    assert narrowed.iterations.tolist() == plain.iterations.tolist()
    assert narrowed.converged.tolist() == plain.converged.tolist()


def test_normal_equations_part_by_part_are_those_of_the_stacked_rows():
    generator = torch.Generator().manual_seed(2)
    whole = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    part = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
    residuals = torch.randn(3, 9, generator=generator, dtype=torch.float64)
    first = Linearization(residuals[:, 0], residuals[:, :5], whole)
    second = Linearization(residuals[:, 1], residuals[:, 5:], part)
    padded = Linearization(second.cost, second.residuals, torch.nn.functional.pad(part, (3, 2)))
    stacked, summed = add_up([first, padded]), add_up_normal([first, (slice(3, 5), second)], 7)
    assert_close(summed.cost, stacked.cost)
    assert_close(summed.matrix, stacked.jacobian.mT @ stacked.jacobian)
    assert_close(summed.gradient, (stacked.jacobian.mT @ stacked.residuals[..., None])[..., 0])
