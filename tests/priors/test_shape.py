"""Priors of body shape."""

import pytest
import torch
from torch.distributions import Normal
from torch.testing import assert_close

from kouros.priors.shape import ShapeBound, ShapePrior

BETAS = torch.tensor([[0.0, 1.0, -2.0], [4.0, -5.0, 2.9]], dtype=torch.float64)


def test_density_is_the_standard_normals():
    assert_close(ShapePrior().log_density(BETAS), Normal(0.0, 1.0).log_prob(BETAS).sum(-1))
    assert_close(ShapePrior().energy(BETAS).energy, torch.tensor([2.5, 0.5 * (16 + 25 + 2.9**2)]).double())


def test_only_what_exceeds_the_bound_costs():
    energy = ShapeBound(bound=3.0).energy(BETAS)
    assert_close(energy.residuals, torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 0.0]]).double())
    assert_close(ShapeBound(bound=3.0).log_density(BETAS), torch.tensor([0.0, -2.5]).double())


@pytest.mark.parametrize("prior", [ShapePrior(), ShapeBound(1.5, 0.5)])
def test_jacobian_is_autograds(prior: ShapePrior | ShapeBound):
    for betas, jacobian in zip(BETAS, prior.energy(BETAS).jacobian, strict=True):
        found = torch.autograd.functional.jacobian(lambda b: prior.energy(b[None]).residuals[0], betas)
        assert_close(jacobian, found)


def test_bad_input_is_named(unchecked: None):
    with pytest.raises(ValueError, match=r"expected floating-point \(batch, betas\)"):
        ShapePrior().energy(torch.zeros(10))
    with pytest.raises(ValueError, match="must not be negative"):
        ShapeBound(bound=-1.0)
    with pytest.raises(ValueError, match="bound=nan"):
        ShapeBound(bound=float("nan"))


def test_betas_inside_the_bound_are_free_and_outside_are_pulled_back():
    betas = torch.tensor([[0.0, 1.9, -2.0, 2.5, -4.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(ShapeBound(2.0).energy(betas).weighted(3.0).energy.sum(), betas)
    assert_close(gradient, 3.0 * torch.tensor([[0.0, 0.0, 0.0, 0.5, -2.0]], dtype=torch.float64))
