"""Procrustes alignment: known motions recovered, scipy as peer, weights, degenerate shapes."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from kouros.geometry.alignment import Similarity, align


def cloud(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def motion(angle: float = 2.0, scale: float = 1.7) -> Similarity:
    rotation = torch.from_numpy(Rotation.from_rotvec(angle * np.array([0.6, 0.0, 0.8])).as_matrix())
    return Similarity(
        rotation,
        torch.tensor([1.0, -2.0, 30.0], dtype=torch.float64),
        torch.tensor(scale, dtype=torch.float64),
    )


def test_applying_scales_turns_then_moves():
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    similarity = Similarity(quarter, torch.tensor([0.0, 0.0, 5.0]), torch.tensor(2.0))
    assert_close(similarity.apply(torch.tensor([[1.0, 0.0, 0.0]])), torch.tensor([[0.0, 2.0, 5.0]]))


@pytest.mark.parametrize("angle", [0.0, 1e-6, 2.0, math.pi])
def test_known_motion_is_recovered(angle: float):
    source, truth = cloud(0, 20), motion(angle)
    found = align(source, truth.apply(source))
    assert_close(found.rotation, truth.rotation)
    assert_close(found.translation, truth.translation)
    assert_close(found.scale, truth.scale)


def test_rotation_matches_scipys_weighted_solution():
    source, target = cloud(1, 30), cloud(2, 30)
    weights = torch.rand(30, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = align(source, target, weights, with_scale=False)
    w = weights.numpy()
    a = source.numpy() - np.average(source.numpy(), axis=0, weights=w)
    b = target.numpy() - np.average(target.numpy(), axis=0, weights=w)
    expected, _ = Rotation.align_vectors(b, a, weights=w)
    np.testing.assert_allclose(found.rotation, expected.as_matrix(), atol=1e-9)
    assert found.scale == 1


def test_no_other_similarity_is_better():
    source, target = cloud(4, 15), cloud(5, 15)
    weights = torch.linspace(0.1, 2.0, 15, dtype=torch.float64)
    found = align(source, target, weights)

    def cost(similarity: Similarity) -> float:
        return float((weights[:, None] * (similarity.apply(source) - target).square()).sum())

    best = cost(found)
    rng = np.random.default_rng(0)
    for _ in range(50):
        turn = torch.from_numpy(Rotation.from_rotvec(0.02 * rng.standard_normal(3)).as_matrix())
        shift = 0.02 * torch.from_numpy(rng.standard_normal(3))
        other = Similarity(turn @ found.rotation, found.translation + shift, found.scale * rng.uniform(0.97, 1.03))
        assert cost(other) >= best


def test_weightless_points_do_not_matter():
    source, target = cloud(6, 10), cloud(7, 10)
    weights = torch.ones(10, dtype=torch.float64)
    weights[7:] = 0
    found, expected = align(source, target, weights), align(source[:7], target[:7])
    assert_close(found.apply(source), expected.apply(source))


def test_each_of_a_batch_is_aligned_by_itself():
    source, target = cloud(8, 2, 3, 12), cloud(9, 2, 3, 12)
    together = align(source, target)
    assert together.scale.shape == (2, 3)
    alone = align(source[1, 2], target[1, 2])
    assert_close(together.rotation[1, 2], alone.rotation)
    assert_close(together.apply(source)[1, 2], alone.apply(source[1, 2]))


def test_reflections_are_excluded():
    source = cloud(10, 12)
    found = align(source, source * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64))
    assert_close(torch.linalg.det(found.rotation), torch.tensor(1.0, dtype=torch.float64))
    assert found.scale < 1


def test_flat_points_are_turned_not_reflected():
    source = cloud(11, 12)
    source[:, 2] = 0
    truth = motion(2.5, 0.6)
    found = align(source, truth.apply(source))
    assert_close(found.rotation, truth.rotation)
    assert_close(found.apply(source), truth.apply(source))


def test_points_on_a_line_are_still_laid_onto_each_other():
    source = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None] * torch.tensor([1.0, 2.0, 2.0]).double()
    truth = motion(1.0, 2.0)
    found = align(source, truth.apply(source))  # the turn about the line is free
    assert_close(found.apply(source), truth.apply(source))
    assert_close(torch.linalg.det(found.rotation), torch.tensor(1.0, dtype=torch.float64))


def test_single_precision_is_accurate_far_from_the_origin():
    source = cloud(12, 24).float()
    truth = motion()
    target = (truth.apply(source.double())).float()
    found = align(source, target)
    assert (found.apply(source) - target).norm(dim=-1).max() < 2e-5


def test_gradient_of_the_aligned_error():
    source, target = cloud(13, 6).requires_grad_(), cloud(14, 6)

    def error(points: torch.Tensor) -> torch.Tensor:
        return (align(points, target).apply(points) - target).square().sum()

    assert torch.autograd.gradcheck(error, source)


def test_gradient_is_finite_where_prediction_equals_target():
    source = cloud(15, 6).requires_grad_()
    align(source, source.detach()).apply(source).sum().backward()
    assert source.grad is not None and source.grad.isfinite().all()
