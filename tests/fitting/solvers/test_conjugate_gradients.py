"""Conjugate gradients: known minima, gradients through the layer, and items that must not influence one
another."""

import pytest
import torch
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.fitting.linearization import Linearization
from kouros.fitting.schedules.smplify import Smplify
from kouros.fitting.solvers.conjugate_gradients import conjugate_gradients
from kouros.fitting.terms.evidence import Evidence
from kouros.geometry.cameras import PerspectiveCamera
from kouros.priors.gmm import load_gmm


def _linear(matrix: torch.Tensor, target: torch.Tensor):
    def linearize(x: torch.Tensor) -> Linearization:
        residuals = (matrix @ x[..., None])[..., 0] - target
        return Linearization(0.5 * residuals.square().sum(-1), residuals, matrix)

    return linearize


def _curved(target: torch.Tensor):
    """Residuals ``x_i + 0.3 x_i x_i+1 - target_i``."""

    def linearize(x: torch.Tensor) -> Linearization:
        following = x.roll(-1, -1)
        residuals = x + 0.3 * x * following - target
        own = torch.diag_embed(1 + 0.3 * following)
        other = torch.diag_embed(0.3 * x).roll(1, dims=-1)
        return Linearization(0.5 * residuals.square().sum(-1), residuals, own + other)

    return linearize


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_linear_least_squares_of_n_unknowns_is_solved_in_n_steps():
    matrix, target = _random(7, 9, 5), _random(7, 9, seed=1)
    start = _random(7, 5, seed=2)
    solution = conjugate_gradients(_linear(matrix, target), start, iterations=5)
    expected = torch.linalg.lstsq(matrix, target[..., None]).solution[..., 0]
    assert_close(solution.unknowns, expected, atol=1e-8, rtol=1e-8)
    one_less = conjugate_gradients(_linear(matrix, target), start, iterations=4)
    assert (one_less.unknowns - expected).abs().max() > 1e-6


def test_gradients_through_the_layer_are_those_of_finite_differences():
    start = torch.zeros(2, 3, dtype=torch.float64)
    target = _random(2, 3).mul(0.5).requires_grad_()

    def layer(target: torch.Tensor) -> torch.Tensor:
        return conjugate_gradients(_curved(target), start, iterations=2).unknowns

    assert torch.autograd.gradcheck(layer, (target,), atol=1e-6)


def test_gradient_at_the_minimum_is_the_implicit_functions():
    target = _random(4, 3).mul(0.3).requires_grad_()
    solution = conjugate_gradients(_curved(target), torch.zeros_like(target), iterations=20)
    loss = solution.unknowns.sum()
    (by_target,) = torch.autograd.grad(loss, target)
    at = _curved(target.detach())(solution.unknowns.detach())
    assert at.residuals.abs().max() < 1e-9  # the residuals vanish, so dx/dtarget is the Jacobian's inverse
    expected = torch.linalg.solve(at.jacobian.mT, torch.ones_like(target)[..., None])[..., 0]
    assert_close(by_target, expected, atol=1e-6, rtol=1e-6)


def test_gradients_stay_finite_where_steps_are_rejected():
    def cliff(x: torch.Tensor) -> Linearization:
        """The square root of x^2 - 1/4, which is no number between -1/2 and 1/2."""
        root = (x * x - 0.25).sqrt()
        return Linearization(0.5 * root.square().sum(-1), root, (x / root)[..., None])

    start = torch.tensor([[0.6], [5.0]], dtype=torch.float64, requires_grad=True)
    solution = conjugate_gradients(cliff, start, iterations=12)
    assert (solution.cost < 0.5 * (start.square() - 0.25).sum(-1)).all()
    (by_start,) = torch.autograd.grad(solution.unknowns.sum(), start)
    assert torch.isfinite(by_start).all()


@pytest.mark.parametrize("wanted", [True, False])
def test_an_item_in_a_batch_is_solved_as_if_alone(wanted: bool):
    target = 3 * _random(8, 6)
    with torch.set_grad_enabled(wanted):
        together = conjugate_gradients(_curved(target), torch.zeros_like(target), iterations=7)
        alone = [conjugate_gradients(_curved(t), torch.zeros_like(t), iterations=7) for t in target[:, None]]
    assert_close(together.unknowns, torch.cat([s.unknowns for s in alone]))
    assert (together.cost < 0.5 * target.square().sum(-1)).all()


def test_held_unknowns_stay():
    target = _random(2, 4)
    start = _random(2, 4, seed=5)
    free = torch.tensor([True, False, True, False])
    solution = conjugate_gradients(_curved(target), start, free=free)
    assert_close(solution.unknowns[:, ~free], start[:, ~free])
    assert (solution.unknowns != start)[:, free].all()


def test_a_start_without_a_finite_cost_is_refused():
    with pytest.raises(ValueError, match=r"not finite at the start for items \[1\]"):
        conjugate_gradients(_curved(torch.zeros(2, 3)), torch.tensor([[0.0] * 3, [torch.nan] * 3]))


def test_a_keypoint_learns_through_a_fit_of_the_body():
    """The derivative of a fitted body by one detected coordinate, through everything, against a difference."""
    body = kouros.load_body(dtype=torch.float64)
    fitter = Smplify(body, "coco17", load_gmm())
    camera = PerspectiveCamera(torch.full((1,), 600.0).double(), torch.full((1, 2), 112.0).double())
    start = torch.zeros(1, 85, dtype=torch.float64)
    start[:, :3] = torch.tensor([3.0, 0.2, 0.1])
    start[:, -1] = 4.0
    seen = camera.project(fitter.kinematics.points(BodyParameters.from_vector(start))) + 5 * _random(1, 17, 2)

    def wrist(seen: torch.Tensor) -> torch.Tensor:
        evidence = Evidence(torch.cat([seen, torch.ones_like(seen[..., :1])], dim=-1), "coco17", camera)
        fitted = conjugate_gradients(lambda x: fitter.stage_terms(evidence, x), start, iterations=2).unknowns
        return fitter.kinematics.points(BodyParameters.from_vector(fitted))[0, 9, 0]

    wanted = seen.clone().requires_grad_()
    (by_seen,) = torch.autograd.grad(wrist(wanted), wanted)
    step = torch.zeros_like(seen)
    step[0, 9, 0] = 1e-3
    with torch.no_grad():
        difference = (wrist(seen + step) - wrist(seen - step)) / 2e-3
    assert difference.abs() > 1e-7
    assert_close(by_seen[0, 9, 0], difference, rtol=1e-4, atol=1e-9)
