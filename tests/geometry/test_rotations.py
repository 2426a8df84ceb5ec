"""Rotations against scipy, under mirroring, and differentiated where formulas usually break."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from kouros.geometry.rotations import (
    angle_between,
    mirror_rotmat,
    mirror_rotvec,
    random_rotmat,
    rot6d_to_rotmat,
    rotmat_to_rot6d,
    rotmat_to_rotvec,
    rotvec_to_rotmat,
)

AXIS = np.array([2.0, -1.0, 2.0]) / 3
ANGLES = [0.0, 1e-12, 1e-8, 1e-4, 1.0, math.pi - 1e-6, math.pi, 5.0, 50.0]


@pytest.mark.parametrize("angle", ANGLES)
def test_rotvec_to_rotmat_matches_scipy(angle: float):
    actual = rotvec_to_rotmat(torch.from_numpy(angle * AXIS))
    np.testing.assert_allclose(actual, Rotation.from_rotvec(angle * AXIS).as_matrix(), atol=1e-12)


@pytest.mark.parametrize("angle", ANGLES)
def test_rotmat_to_rotvec_matches_scipy_and_is_at_most_a_half_turn(angle: float):
    matrix = Rotation.from_rotvec(angle * AXIS).as_matrix()
    rotvec = rotmat_to_rotvec(torch.from_numpy(matrix)).numpy()
    np.testing.assert_allclose(Rotation.from_rotvec(rotvec).as_matrix(), matrix, atol=1e-9)
    assert np.linalg.norm(rotvec) <= math.pi + 1e-9


@given(st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_single_precision_round_trip_of_any_rotation(components: list[float]):
    matrix = rotvec_to_rotmat(torch.tensor(components))
    assert_close(rotvec_to_rotmat(rotmat_to_rotvec(matrix)), matrix, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 5, 3)])
def test_any_batch_shape_including_none(shape: tuple[int, ...]):
    rotvec = torch.zeros(shape)
    matrix = rotvec_to_rotmat(rotvec)
    assert matrix.shape == (*shape, 3)
    assert rotmat_to_rotvec(matrix).shape == shape
    assert rot6d_to_rotmat(rotmat_to_rot6d(matrix)).shape == matrix.shape


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0, math.pi])
def test_gradient_of_rotvec_to_rotmat(angle: float):
    rotvec = torch.from_numpy(angle * AXIS).requires_grad_()
    assert torch.autograd.gradcheck(rotvec_to_rotmat, rotvec)


@pytest.mark.parametrize("angle", [1e-3, 1.0, 3.1])
def test_gradient_of_the_way_there_and_back_is_the_identity(angle: float):
    rotvec = torch.from_numpy(angle * AXIS).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(lambda v: rotmat_to_rotvec(rotvec_to_rotmat(v)), rotvec)
    assert_close(jacobian, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_gradient_of_rotmat_to_rotvec_is_finite_at_the_identity_and_at_a_half_turn():
    for matrix in (torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, -1.0]))):
        matrix = matrix.double().requires_grad_()
        (gradient,) = torch.autograd.grad(rotmat_to_rotvec(matrix).sum(), matrix)
        assert gradient.isfinite().all()


def test_six_numbers_are_two_interleaved_columns():
    turn = rotvec_to_rotmat(torch.tensor([0.3, -0.8, 0.5]))
    numbers = rotmat_to_rot6d(turn)
    assert_close(numbers[0::2], turn[:, 0])
    assert_close(numbers[1::2], turn[:, 1])


def test_rest_root_of_hmr_is_a_half_turn_about_x():
    # The first six numbers of SPIN's mean pose: [[1, 0], [0, -1], [0, 0]].
    matrix = rot6d_to_rotmat(torch.tensor([1.0, 0, 0, -1, 0, 0]))
    assert_close(matrix, torch.diag(torch.tensor([1.0, -1.0, -1.0])))


def test_gram_schmidt_keeps_the_first_direction_and_ignores_lengths():
    first = torch.tensor([0.0, 3.0, 4.0])
    second = torch.tensor([5.0, 1.0, 0.0])
    matrix = rot6d_to_rotmat(torch.stack([first, second], dim=1).flatten())
    assert_close(matrix[:, 0], torch.tensor([0.0, 0.6, 0.8]))
    assert_close(matrix.T @ matrix, torch.eye(3))
    assert_close(torch.linalg.det(matrix), torch.tensor(1.0))
    assert matrix[:, 1] @ second > 0
    longer = rot6d_to_rotmat(torch.stack([7 * first, 0.1 * second], dim=1).flatten())
    assert_close(longer, matrix)


def test_gradient_of_rot6d_to_rotmat():
    numbers = torch.tensor([1.0, 0.2, -0.3, 0.9, 0.1, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(rot6d_to_rotmat, numbers)


def test_mirrored_rotation_moves_mirrored_points_to_mirrored_places():
    rotvec = torch.tensor([0.4, -1.0, 2.0], dtype=torch.float64)
    point = torch.tensor([0.3, 0.7, -0.2], dtype=torch.float64)
    mirror = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    expected = mirror * (rotvec_to_rotmat(rotvec) @ point)
    assert_close(rotvec_to_rotmat(mirror_rotvec(rotvec)) @ (mirror * point), expected)
    assert_close(mirror_rotmat(rotvec_to_rotmat(rotvec)) @ (mirror * point), expected)
    assert_close(mirror_rotvec(mirror_rotvec(rotvec)), rotvec)


@pytest.mark.parametrize("angle", [0.0, 1e-6, 1.0, math.pi])
def test_angle_between_is_the_angle_turned_whatever_the_start(angle: float):
    start = Rotation.from_rotvec([1.0, 0.3, -2.0])
    end = start * Rotation.from_rotvec(angle * AXIS)
    pair = [torch.from_numpy(r.as_matrix()) for r in (start, end)]
    assert float(angle_between(*pair)) == pytest.approx(angle, abs=1e-7)


def test_gradient_of_the_angle_between_equal_rotations_is_finite():
    rotvec = torch.tensor([0.2, 0.1, -0.4], requires_grad=True)
    matrix = rotvec_to_rotmat(rotvec)
    angle_between(matrix, matrix.detach()).backward()
    assert rotvec.grad is not None and rotvec.grad.isfinite().all()


def test_random_rotations_are_uniform_and_repeatable():
    matrices = random_rotmat((4000,), torch.Generator().manual_seed(0))
    assert_close(matrices, random_rotmat((4000,), torch.Generator().manual_seed(0)))
    assert_close(matrices @ matrices.mT, torch.eye(3).expand(4000, 3, 3), atol=1e-5, rtol=0)
    assert (torch.linalg.det(matrices) > 0).all()
    # Uniform on SO(3): the angle has density (1 - cos a) / pi, so its mean is pi / 2 + 2 / pi.
    angles = angle_between(matrices, torch.eye(3).expand(4000, 3, 3))
    assert float(angles.mean()) == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.04)
    assert matrices.mean(dim=0).abs().max() < 0.03
