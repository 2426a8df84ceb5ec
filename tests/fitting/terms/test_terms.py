"""Every term of a fit: its Jacobian against autograd, its value where that is known, items on their own."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.fitting.linearization import Linearization, on_all
from kouros.fitting.terms.keypoints import GemanMcClure, Landmarks, Reprojection, usable_keypoints
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.fitting.terms.priors import KnownDepth, on_betas, on_body_pose
from kouros.geometry.cameras import PerspectiveCamera
from kouros.priors.gmm import load_gmm
from kouros.priors.limits import AnglePrior, load_limits
from kouros.priors.shape import ShapeBound, ShapePrior

BATCH, POINTS = 64, 33
Term = Callable[[BodyParameters], Linearization]


@pytest.fixture(scope="module")
def kinematics() -> KeypointKinematics:
    return KeypointKinematics(kouros.load_body(dtype=torch.float64), "blazepose33")


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _bodies() -> BodyParameters:
    """Poses within and far outside the joint limits, betas on both sides of every bound."""
    transl = torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64) + 0.2 * _random(BATCH, 3, seed=2)
    return BodyParameters(0.7 * _random(BATCH, 72), 2 * _random(BATCH, 10, seed=1), transl)


def _terms(kinematics: KeypointKinematics, some: slice = slice(None)) -> dict[str, Term]:
    """All terms, of the chosen items of one batch."""
    camera = PerspectiveCamera(
        torch.linspace(500, 2000, BATCH, dtype=torch.float64)[some], 100 * _random(BATCH, 2, seed=3)[some]
    )
    seen = 300 * _random(BATCH, POINTS, 2, seed=4)[some]
    confidence = torch.rand(BATCH, POINTS, generator=torch.Generator().manual_seed(5)).double()[some]
    confidence[:, 3] = 0.0
    space, precision = (
        _random(BATCH, POINTS, 3, seed=6)[some],
        3 + _random(BATCH, POINTS, 3, seed=7)[some].abs(),
    )
    unknowns = _random(BATCH, 85, seed=8)[some]
    reprojection = Reprojection(seen, confidence / 20, camera, GemanMcClure(6.0))
    smplifys = replace(
        reprojection,
        precision=torch.ones_like(confidence), robust=GemanMcClure(100.0), weight=confidence,
        per_coordinate=True,
    )  # fmt: skip
    landmarks = Landmarks(space, precision, GemanMcClure(3.0), (0.85, 1.2))
    # Near the body's own points the best scale lies within its range, and moves with them.
    own = (0.95 * kinematics.points(_bodies()) + 0.05 * _random(BATCH, POINTS, 3, seed=9))[some]
    scaled = replace(landmarks, observed=own)
    prior, limits = load_gmm().to(unknowns), load_limits().to(unknowns)
    return {
        "reprojection": lambda p: reprojection(kinematics.linearize(p)),
        "smplify's reprojection": lambda p: smplifys(kinematics.linearize(p)),
        "landmarks": lambda p: landmarks(kinematics.linearize(p)),
        "landmarks in scale": lambda p: scaled(kinematics.linearize(p)),
        "mixture": lambda p: on_all(on_body_pose(prior.energy(p.pose[:, 3:]).weighted(2.0)), p.size),
        "angles": lambda p: on_all(on_body_pose(AnglePrior().energy(p.pose[:, 3:])), p.size),
        "limits": lambda p: on_all(on_body_pose(limits.energy(p.pose[:, 3:])), p.size),
        "shape": lambda p: on_all(on_betas(ShapePrior().energy(p.betas)), p.size),
        "shape bound": lambda p: on_all(on_betas(ShapeBound(2.0).energy(p.betas)), p.size),
        "depth": lambda p: KnownDepth(torch.full_like(p.betas[:, 0], 4.0), 7.0)(p),
    }


NAMES = (
    "reprojection", "smplify's reprojection", "landmarks", "landmarks in scale", "mixture", "angles",
    "limits", "shape", "shape bound", "depth",
)  # fmt: skip
ROBUST = {"reprojection", "smplify's reprojection", "landmarks", "landmarks in scale"}


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_every_cost_is_autograds(kinematics: KeypointKinematics, name: str):
    """``J^T r`` is the cost's gradient: also under robust weights, which the residuals alone do not show."""
    vector = _bodies().vector.requires_grad_()
    at = _terms(kinematics)[name](BodyParameters.from_vector(vector))
    (expected,) = torch.autograd.grad(at.cost.sum(), vector)
    gradient = (at.jacobian.mT @ at.residuals[..., None])[..., 0]
    assert expected.abs().max() > 0
    assert_close(gradient, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", sorted(set(NAMES) - ROBUST))
def test_jacobian_of_every_unweighted_term_is_autograds(kinematics: KeypointKinematics, name: str):
    bodies = _bodies()[torch.arange(2)]
    term = _terms(kinematics, slice(0, 2))[name]
    expected = torch.autograd.functional.jacobian(
        lambda v: term(BodyParameters.from_vector(v)).residuals.sum(0), bodies.vector
    )
    assert_close(term(bodies).jacobian, expected.transpose(0, 1), atol=1e-6, rtol=1e-6)
    assert_close(term(bodies).cost, 0.5 * term(bodies).residuals.square().sum(-1))


@pytest.mark.parametrize("per_coordinate", [False, True])
def test_jacobian_of_the_reprojection_is_autograds_where_nothing_is_an_outlier(
    kinematics: KeypointKinematics, per_coordinate: bool
):
    bodies = _bodies()[torch.arange(1)]
    camera = PerspectiveCamera(torch.full((1,), 800.0).double(), torch.full((1, 2), 112.0).double())
    term = Reprojection(
        30 * _random(1, POINTS, 2), torch.ones(1, POINTS).double(), camera, GemanMcClure(1e9),
        per_coordinate=per_coordinate,
    )  # fmt: skip

    def residuals(vector: torch.Tensor) -> torch.Tensor:
        return term(kinematics.linearize(BodyParameters.from_vector(vector))).residuals[0]

    expected = torch.autograd.functional.jacobian(residuals, bodies.vector)[:, 0]
    analytic = term(kinematics.linearize(bodies)).jacobian[0]
    assert_close(analytic, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_64_is_64_batches_of_one(kinematics: KeypointKinematics, name: str):
    bodies = _bodies()
    together = _terms(kinematics)[name](bodies)
    for item in range(0, BATCH, 7):
        one = slice(item, item + 1)
        alone = _terms(kinematics, one)[name](bodies[torch.tensor([item])])
        assert_close(together.cost[one], alone.cost)
        assert_close(together.residuals[one], alone.residuals, atol=1e-9, rtol=1e-9)
        assert_close(together.jacobian[one], alone.jacobian, atol=1e-9, rtol=1e-9)


def test_smplifys_reprojection_is_the_published_sum(kinematics: KeypointKinematics):
    """``sum conf^2 (gmof(dx) + gmof(dy))``, gmof(x) = s^2 x^2 / (s^2 + x^2), twice the term's cost."""
    bodies = _bodies()[torch.arange(3)]
    camera = PerspectiveCamera(torch.full((3,), 5000.0).double(), torch.full((3, 2), 112.0).double())
    seen, confidence = 400 * _random(3, POINTS, 2), _random(3, POINTS).abs()
    term = Reprojection(
        seen, torch.ones_like(confidence), camera, GemanMcClure(100.0), confidence**2, per_coordinate=True
    )
    away = (camera.project(kinematics.points(bodies)) - seen).square()
    published = (confidence**2 * (1e4 * away / (1e4 + away)).sum(-1)).sum(-1)
    assert_close(2 * term(kinematics.linearize(bodies)).cost, published)


def test_a_body_behind_the_camera_costs_more_than_one_in_front(kinematics: KeypointKinematics):
    bodies = _bodies()
    behind = replace(bodies, transl=-bodies.transl)
    for name in ("reprojection", "smplify's reprojection"):
        term = _terms(kinematics)[name]
        assert torch.isfinite(term(behind).cost).all()
        assert (term(behind).cost > term(bodies).cost).all()


def test_holoposes_bound_charges_betas_beyond_it_and_none_within():
    body = BodyParameters(torch.zeros(3, 72), torch.tensor([[1.9, -2.0], [2.5, 0.0], [-4.0, 0.0]]), torch.zeros(3, 3))
    assert on_betas(ShapeBound(2.0).energy(body.betas))[1].cost.tolist() == [0.0, 0.125, 2.0]


def test_keypoints_that_cannot_be_used_have_no_confidence():
    nan, inf = float("nan"), float("inf")
    given = torch.tensor(
        [[[1.0, 2.0, 0.5], [nan, 2.0, 0.9], [1.0, inf, 0.9], [1.0, 2.0, nan],
          [1.0, 2.0, -1.0], [1.0, 2.0, 7.0], [1e30, 0.0, 1.0]]]
    )  # fmt: skip
    zero = [0.0, 0.0, 0.0]
    expected = torch.tensor([[[1.0, 2.0, 0.5], zero, zero, zero, zero, [1.0, 2.0, 1.0], zero]])
    assert torch.equal(usable_keypoints(given), expected)
