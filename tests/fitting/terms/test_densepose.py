"""Points of the skin and their derivatives by hand against the posed mesh and autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.body.surface import build_charts, chart_points
from kouros.fitting.terms.densepose import (
    SurfaceKinematics,
    SurfacePoints,
    dense_evidence,
    padded_points,
    points_on_charts,
    points_on_mesh,
)
from kouros.fitting.terms.keypoints import GemanMcClure, Reprojection
from kouros.geometry.cameras import PerspectiveCamera


@pytest.fixture(scope="module")
def body():
    return kouros.load_body(dtype=torch.float64)


@pytest.fixture(scope="module")
def charts(body):
    return build_charts(body)


def _parameters(count: int, num_betas: int, scale: float = 0.6) -> BodyParameters:
    generator = torch.Generator().manual_seed(5)
    pose = torch.randn(count, 72, generator=generator, dtype=torch.float64) * scale
    betas = torch.randn(count, num_betas, generator=generator, dtype=torch.float64)
    place = torch.tensor([0.1, 0.2, 4.0], dtype=torch.float64)
    return BodyParameters(pose, betas, place + 0.1 * torch.randn(count, 3, generator=generator, dtype=torch.float64))


def _places(body, count: int, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    face = torch.randint(len(body.faces), (count, points), generator=generator)
    weights = torch.rand(count, points, 3, generator=generator, dtype=torch.float64)
    return face, weights / weights.sum(-1, keepdim=True)


def _uv(count: int, points: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    part = torch.randint(1, 25, (count, points), generator=generator)
    return part, torch.rand(count, points, 2, generator=generator, dtype=torch.float64)


def test_points_inside_faces_are_those_of_the_posed_mesh(body):
    at = _parameters(3, body.num_betas)
    face, barycentric = _places(body, 3, 40)
    out = body(betas=at.betas, body_pose=at.pose[:, 3:], global_orient=at.pose[:, :3], transl=at.transl)
    corners = torch.stack([v[body.faces[f]] for v, f in zip(out.vertices, face, strict=True)])
    expected = (barycentric[..., None] * corners).sum(2)
    found = SurfaceKinematics(body).points(points_on_mesh(body, face, barycentric), at)
    assert_close(found, expected, atol=1e-9, rtol=0)


def test_points_on_charts_are_the_charts_own(body, charts):
    at = _parameters(3, body.num_betas)
    part, uv = _uv(3, 40)
    expected = chart_points(
        body, charts, part, uv, at.betas, at.pose[:, 3:].unflatten(-1, (23, 3)), at.pose[:, :3], at.transl
    )
    assert_close(SurfaceKinematics(body).points(points_on_charts(charts, part, uv), at), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("kind", ["mesh", "charts"])
def test_jacobian_equals_autograds(body, charts, scale: float, kind: str):
    at = _parameters(2, body.num_betas, scale)
    surface = points_on_mesh(body, *_places(body, 2, 6)) if kind == "mesh" else points_on_charts(charts, *_uv(2, 6))
    kinematics = SurfaceKinematics(body)
    linear = kinematics.linearize(surface, at)
    assert_close(linear.points, kinematics.points(surface, at))
    for person in range(2):
        alone = surface[torch.tensor([person])]

        def points(vector: torch.Tensor, alone: SurfacePoints = alone) -> torch.Tensor:
            return kinematics.points(alone, BodyParameters.from_vector(vector[None]))[0]

        # autograd has no value at exactly zero rotation, so it is asked a hair beside it
        nearby = at.vector[person] + (1e-7 if scale == 0 else 0.0)
        expected = torch.autograd.functional.jacobian(points, nearby)
        assert_close(linear.jacobian[person], expected, atol=1e-6, rtol=1e-6)


def _residual(charts, pixels, part, uv, confidence):
    evidence = dense_evidence(charts, pixels, part, uv, confidence)
    camera = PerspectiveCamera(
        torch.full((len(pixels),), 600.0).to(pixels), torch.full((len(pixels), 2), 112.0).to(pixels)
    )
    return evidence, Reprojection(evidence.pixels, evidence.confidence, camera, GemanMcClure(50.0))


def test_reprojection_of_the_skin_has_the_gradient_of_its_cost(body, charts):
    """Through Eq. 3 as a whole: the residuals' ``J^T r`` is the derivative of the robust cost."""
    at = _parameters(2, body.num_betas)
    part, uv = _uv(2, 9)
    _, term = _residual(charts, 100 + 40 * uv, part, uv, torch.rand(2, 9, dtype=torch.float64))
    kinematics, surface = SurfaceKinematics(body), points_on_charts(charts, part, uv)
    vector = at.vector.requires_grad_()
    cost = term(kinematics.linearize(surface, BodyParameters.from_vector(vector))).cost
    (expected,) = torch.autograd.grad(cost.sum(), vector)
    linear = term(kinematics.linearize(surface, at))
    assert_close((linear.residuals[:, None] @ linear.jacobian)[:, 0], expected, atol=1e-6, rtol=1e-6)


def test_missing_points_count_for_nothing(body, charts):
    at = _parameters(2, body.num_betas)
    part, uv = _uv(2, 5)
    rows = torch.cat([100 + 40 * uv, part[..., None].double(), uv], dim=-1)
    nothing = torch.tensor(
        [[torch.nan, 3.0, 2.0, 0.5, 0.5], [5.0, 3.0, 0.0, 0.5, 0.5], [1.0, 1.0, 7.0, torch.nan, 0.0]]
    )
    ragged = [torch.cat([rows[0], nothing.double()]), rows[1, :3]]
    kinematics = SurfaceKinematics(body)

    def cost(pixels, part, uv, persons) -> torch.Tensor:
        evidence, term = _residual(charts, pixels, part, uv, None)
        linear = term(kinematics.linearize(evidence.surface, at[persons]))
        assert torch.isfinite(linear.residuals).all() and torch.isfinite(linear.jacobian).all()
        return linear.cost

    together = cost(*padded_points(ragged), torch.tensor([0, 1]))
    first = cost(*padded_points([rows[0]]), torch.tensor([0]))
    second = cost(*padded_points([rows[1, :3]]), torch.tensor([1]))
    assert_close(together, torch.cat([first, second]))


def test_a_networks_charts_and_pixels_get_gradients(body, charts):
    at = _parameters(1, body.num_betas)
    part, uv = _uv(1, 8)
    uv = (0.1 + 0.8 * uv).requires_grad_()
    pixels = (100 + 40 * uv.detach()).requires_grad_()
    evidence, term = _residual(charts, pixels, part, uv, None)
    cost = term(SurfaceKinematics(body).linearize(evidence.surface, at)).cost.sum()
    for gradient in torch.autograd.grad(cost, (uv, pixels)):
        assert torch.isfinite(gradient).all() and (gradient != 0).any()


@given(st.lists(st.floats(width=32), min_size=5, max_size=5), st.integers(-3, 30))
@settings(max_examples=50, deadline=None)
def test_whatever_the_numbers_the_evidence_is_finite(charts, numbers, part):
    x, y, u, v, confidence = (torch.tensor([[value]], dtype=torch.float64) for value in numbers)
    found = dense_evidence(charts, torch.stack([x, y], -1), torch.tensor([[part]]), torch.stack([u, v], -1), confidence)
    for tensor in (found.pixels, found.confidence, found.surface.position, found.surface.directions):
        assert torch.isfinite(tensor).all()
    assert 0 <= found.confidence.item() <= 1
