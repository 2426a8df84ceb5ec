"""3D errors against hand-computed cases, scipy and numpy, and under the transformations they must ignore."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation
from torch.testing import assert_close

from kouros.evaluation.metrics import (
    acceleration_errors,
    joint_errors,
    procrustes_errors,
    quaternion_errors,
    root_of,
    sample_means,
)


def people(seed: int, batch: int = 4, points: int = 14) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(batch, points, 3, generator=generator, dtype=torch.float64)
    return target + 0.1 * torch.randn(target.shape, generator=generator, dtype=torch.float64), target


def numpy_reconstruction_errors(source: np.ndarray, target: np.ndarray, scale: bool) -> np.ndarray:
    """The textbook recipe (Umeyama 1991), one sample, written apart from the code under test."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.linalg.det(u) * np.linalg.det(vt)])
    rotation = u @ sign @ vt
    factor = (s * np.diag(sign)).sum() / (a**2).sum() if scale else 1.0
    return np.linalg.norm(factor * a @ rotation.T - b, axis=1)


def test_error_is_the_distance_left_when_roots_coincide():
    predicted = torch.tensor([[[1.0, 1.0, 1.0], [4.0, 5.0, 1.0]]])
    target = torch.zeros(1, 2, 3)
    assert_close(joint_errors(predicted, target)[0, 1], torch.tensor(42.0).sqrt())
    rooted = joint_errors(predicted, target, predicted_root=predicted[:, 0], target_root=target[:, 0])
    assert_close(rooted, torch.tensor([[0.0, 5.0]]))


def test_root_of_two_hips_is_the_point_between_them():
    points = torch.tensor([[[0.0, 0.0, 0.0], [2.0, 0.0, 4.0], [9.0, 9.0, 9.0]]])
    assert_close(root_of(points, (0, 1)), torch.tensor([[1.0, 0.0, 2.0]]))
    assert_close(root_of(points, (2,)), points[:, 2])


def test_two_samples_of_three_joints_are_not_mistaken_for_three_samples():
    # A public 3DPW score was wrong for two people because an axis was guessed from its size.
    predicted = torch.zeros(2, 3, 3)
    target = torch.zeros(2, 3, 3)
    target[1, :, 0] = torch.tensor([1.0, 2.0, 6.0])
    assert_close(sample_means(joint_errors(predicted, target)), torch.tensor([0.0, 3.0]))
    moved = joint_errors(predicted, target, predicted_root=predicted[:, 0], target_root=target[:, 0])
    assert_close(moved[1], torch.tensor([0.0, 1.0, 5.0]))


def test_one_root_alone_is_refused():
    predicted, target = people(0)
    with pytest.raises(ValueError, match="both predicted_root and target_root"):
        joint_errors(predicted, target, predicted_root=predicted[:, 0])


def test_points_without_ground_truth_may_hold_anything():
    predicted, target = people(1)
    valid = torch.ones(4, 14, dtype=torch.bool)
    valid[1, 5:9] = False
    expected = joint_errors(predicted, target)
    target[1, 5:9] = torch.nan
    predicted[1, 5] = 1e9
    errors = joint_errors(predicted, target, valid)
    assert_close(errors[valid], expected[valid])
    assert (errors[~valid] == 0).all()
    assert_close(sample_means(errors, valid)[1], expected[1][valid[1]].mean())


@pytest.mark.parametrize("function", [joint_errors, procrustes_errors])
@pytest.mark.parametrize("which", [0, 1])
def test_nan_is_named_with_its_place(function, which: int):
    pair = people(2)
    pair[which][2, 7, 1] = torch.nan
    with pytest.raises(ValueError, match=rf"{('predicted', 'target')[which]} is nan at index \(2, 7, 1\)"):
        function(*pair)


def test_sample_without_valid_points_has_no_mean():
    means = sample_means(torch.ones(2, 3), torch.tensor([[True, False, True], [False, False, False]]))
    assert means[0] == 1 and math.isnan(means[1])


def test_empty_batches_give_empty_errors():
    empty = torch.zeros(0, 14, 3)
    assert joint_errors(empty, empty).shape == (0, 14)
    assert procrustes_errors(empty, empty).shape == (0, 14)


@pytest.mark.parametrize("with_scale", [True, False])
def test_reconstruction_error_matches_a_plain_numpy_svd(with_scale: bool):
    predicted, target = people(3, batch=6)
    predicted[4:] *= -1  # the best orthogonal map is a reflection: it must not be taken
    actual = procrustes_errors(predicted, target, with_scale=with_scale)
    for sample in range(6):
        expected = numpy_reconstruction_errors(predicted[sample].numpy(), target[sample].numpy(), with_scale)
        np.testing.assert_allclose(actual[sample].numpy(), expected, atol=1e-10)


def test_squared_reconstruction_error_matches_scipys_disparity():
    predicted, target = people(4)  # near enough that the best orthogonal map is a rotation, as scipy assumes
    errors = procrustes_errors(predicted, target)
    for sample in range(4):
        _, _, disparity = procrustes(target[sample].numpy(), predicted[sample].numpy())
        spread = (target[sample] - target[sample].mean(dim=0)).square().sum()
        assert_close(errors[sample].square().sum() / spread, torch.tensor(disparity, dtype=torch.float64))


def test_reconstruction_error_ignores_a_similarity_of_the_prediction():
    predicted, target = people(5)
    rotation = torch.from_numpy(Rotation.from_rotvec([0.3, -2.0, 1.0]).as_matrix())
    moved = 0.2 * predicted @ rotation.T + torch.tensor([3.0, -4.0, 50.0], dtype=torch.float64)
    assert_close(procrustes_errors(moved, target), procrustes_errors(predicted, target))
    assert_close(procrustes_errors(3 * target, target), torch.zeros(4, 14, dtype=torch.float64), atol=1e-9, rtol=0)


def test_reconstruction_error_sees_a_mirror_image():
    _, target = people(6)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert procrustes_errors(mirrored, target).mean() > 0.3


def test_only_valid_points_choose_the_alignment():
    predicted, target = people(7)
    valid = torch.ones(4, 14, dtype=torch.bool)
    valid[:, 10:] = False
    expected = procrustes_errors(predicted[:, :10], target[:, :10])
    predicted[:, 10:] = 100.0
    target[:, 10:] = torch.nan
    assert_close(procrustes_errors(predicted, target, valid)[:, :10], expected)


def test_too_few_points_to_align_are_refused():
    predicted, target = people(8)
    valid = torch.ones(4, 14, dtype=torch.bool)
    valid[3, 2:] = False
    with pytest.raises(ValueError, match=r"Sample 3 has 2 valid points; .* at least 3"):
        procrustes_errors(predicted, target, valid)


def test_collapsed_prediction_is_refused_only_when_it_must_be_scaled():
    predicted, target = people(9)
    predicted[2] = predicted[2, :1]
    with pytest.raises(ValueError, match="points of sample 2 coincide"):
        procrustes_errors(predicted, target)
    rigid = procrustes_errors(predicted, target, with_scale=False)
    spread = (target[2] - target[2].mean(dim=0)).norm(dim=1)
    assert_close(rigid[2], spread)


def test_acceleration_of_a_thrown_ball_is_gravity():
    seconds = torch.arange(10, dtype=torch.float64) / 25
    flight = torch.zeros(1, 10, 1, 3, dtype=torch.float64)
    flight[0, :, 0, 1] = 5 * seconds - 9.81 / 2 * seconds**2
    errors, inner = acceleration_errors(flight, torch.zeros_like(flight), frame_rate=25.0)
    assert_close(errors, torch.full((1, 8, 1), 9.81, dtype=torch.float64))
    assert inner.all()


def test_acceleration_ignores_a_constant_drift_and_padded_frames():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 9, 3, 3, generator=generator)
    drift = torch.arange(9.0)[:, None, None] * torch.tensor([0.1, 0.0, -0.2])
    valid = torch.ones(2, 9, 3, dtype=torch.bool)
    valid[1, 6:] = False
    predicted = target + drift
    predicted[1, 6:] = torch.nan
    errors, inner = acceleration_errors(predicted, target, valid, frame_rate=1.0)
    assert_close(errors, torch.zeros(2, 7, 3), atol=1e-5, rtol=0)
    assert inner[0].all() and inner[1, :4].all() and not inner[1, 4:].any()


def test_clip_of_two_frames_has_no_acceleration():
    clip = torch.zeros(1, 2, 5, 3)
    with pytest.raises(ValueError, match="at least 3 frames"):
        acceleration_errors(clip, clip, frame_rate=30.0)


@pytest.mark.parametrize("rate", [0.0, -30.0, math.nan, math.inf])
def test_frame_rate_must_be_positive(rate: float):
    clip = torch.zeros(1, 3, 5, 3)
    with pytest.raises(ValueError, match="frame_rate"):
        acceleration_errors(clip, clip, frame_rate=rate)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.5, math.pi / 2, 3.0, math.pi])
def test_quaternion_error_is_the_angle_turned(angle: float):
    base = Rotation.from_rotvec([0.4, 1.0, -2.0])
    turned = base * Rotation.from_rotvec(angle * np.array([2.0, -1.0, 2.0]) / 3)
    matrices = [torch.from_numpy(r.as_matrix()).reshape(1, 1, 3, 3) for r in (base, turned)]
    assert_close(quaternion_errors(*matrices), torch.tensor([[angle]], dtype=torch.float64), atol=1e-9, rtol=0)


def test_quaternion_error_matches_quaternions_of_either_sign():
    rng = np.random.default_rng(0)
    first, second = (Rotation.from_quat(rng.normal(size=(24, 4))) for _ in range(2))
    expected = 2 * np.arccos(np.abs((first.as_quat() * second.as_quat()).sum(axis=1)))
    matrices = [torch.from_numpy(r.as_matrix())[None] for r in (first, second)]
    np.testing.assert_allclose(quaternion_errors(*matrices)[0].numpy(), expected, atol=1e-7)


def test_single_precision_sees_small_turns():
    turned = torch.from_numpy(Rotation.from_rotvec([1e-3, 0, 0]).as_matrix()).float().reshape(1, 1, 3, 3)
    assert_close(quaternion_errors(turned, torch.eye(3).reshape(1, 1, 3, 3)), torch.tensor([[1e-3]]), rtol=1e-3, atol=0)
