"""Frames fitted together: the band's step against a dense one, gaps, cuts, and what smoothness brings."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.fitting.linearization import NormalEquations
from kouros.fitting.schedules.sequence import (
    Floor,
    SmoothConfig,
    _Problem,
    _State,
    _windows,
    accelerations,
    fit_sequence,
    unwrapped,
)
from kouros.fitting.terms.kinematics import KeypointKinematics

FRAMES, RATE = 9, 30.0


@pytest.fixture(scope="module")
def joints():
    return KeypointKinematics(kouros.load_body(dtype=torch.float64), "smpl24")


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _motion(frames: int = FRAMES) -> BodyParameters:
    """A constant pose that walks away steadily, slowly turning a knee."""
    t = torch.arange(frames, dtype=torch.float64)[:, None] / RATE
    pose = (0.3 * _random(1, 72, seed=4)).expand(frames, -1).clone()
    pose[:, 12] += t[:, 0]
    betas = _random(1, 10, seed=5).expand(frames, -1)
    return BodyParameters(pose, betas, torch.tensor([[0.2, 0.0, 4.0]]).double() + t * torch.tensor([[0.3, 0.0, 1.0]]))


def _near(target: BodyParameters, precision: float = 10.0):
    """Quadratic evidence of every unknown of every frame."""

    def objective(rows: torch.Tensor):
        def normal_equations(unknowns: torch.Tensor) -> NormalEquations:
            error = precision * (unknowns - target.vector[rows])
            eye = precision**2 * torch.eye(unknowns.shape[1], dtype=unknowns.dtype)
            return NormalEquations(0.5 * error.square().sum(-1), eye.expand(len(unknowns), -1, -1), precision * error)

        return normal_equations

    return objective


def _noisy(motion: BodyParameters, size: float = 0.05) -> BodyParameters:
    noise = size * _random(*motion.vector.shape, seed=6)
    return BodyParameters.from_vector(motion.vector + noise)


def _acceleration(joints: KeypointKinematics, at: BodyParameters) -> float:
    points = joints.points(at)
    return float((points[2:] - 2 * points[1:-1] + points[:-2]).norm(dim=-1).mean())


def test_the_answer_is_a_minimum_of_the_sum_of_all_frames_and_accelerations(joints):
    """The same cost of all frames and the common betas, written as one function, has no slope there."""
    noisy, config = _noisy(_motion(4)), SmoothConfig(acceleration=4.0, turning=40.0, iterations=60, tolerance=1e-12)
    times = torch.tensor([0.0, 1.0, 3.0, 4.0], dtype=torch.float64) / RATE  # a frame is missing
    found = fit_sequence(_near(noisy), joints, noisy, times, config)

    def cost(frames: torch.Tensor, betas: torch.Tensor) -> torch.Tensor:
        at = BodyParameters(frames[:, :72], betas.expand(4, -1), frames[:, 72:])
        values = torch.cat([joints.points(at).flatten(1) / 4.0, at.pose[:, 3:] / 40.0], dim=1)
        squares = 100.0 * (at.vector - noisy.vector).square().sum()
        for i in (1, 2):
            before, after = times[i] - times[i - 1], times[i + 1] - times[i]
            rise = (values[i + 1] - values[i]) / after - (values[i] - values[i - 1]) / before
            squares = squares + (rise * 2 / (before + after)).square().sum()
        return 0.5 * squares

    reached = found.parameters
    frames = torch.cat([reached.pose, reached.transl], dim=1).requires_grad_()
    betas = reached.betas[:1].clone().requires_grad_()
    here = cost(frames, betas)
    assert found.cost == pytest.approx(here.item(), rel=1e-6)
    start = cost(torch.cat([noisy.pose, noisy.transl], dim=1), noisy.betas[:1]).item()
    assert here.item() < 0.5 * start
    for slope in torch.autograd.grad(here, (frames, betas)):
        assert slope.abs().max() < 1e-3 * (start - here.item())


def test_smoothness_takes_noise_away_and_keeps_steady_motion(joints):
    motion = _motion(24)
    noisy, times = _noisy(motion), torch.arange(24).double() / RATE
    found = fit_sequence(_near(noisy), joints, noisy, times).parameters

    def error(at: BodyParameters) -> torch.Tensor:
        return (joints.points(at) - joints.points(motion)).norm(dim=-1).mean()

    assert error(found) < 0.6 * error(noisy)
    assert _acceleration(joints, found) < 0.2 * _acceleration(joints, noisy)
    assert_close(found.betas, found.betas[:1].expand_as(found.betas))


def test_motion_without_noise_is_left_alone(joints):
    motion = _motion()
    times = torch.arange(FRAMES).double() / RATE
    found = fit_sequence(_near(motion, 50.0), joints, motion, times).parameters
    assert_close(joints.points(found), joints.points(motion), atol=2e-3, rtol=0)


def test_a_long_gap_parts_what_is_on_its_two_sides(joints):
    noisy = _noisy(_motion())
    elsewhere = noisy.transl.clone()
    elsewhere[4:, 0] += 2.0
    noisy = BodyParameters(noisy.pose, noisy.betas, elsewhere)
    times = torch.arange(FRAMES).double() / RATE
    times[4:] += 1.0
    apart = fit_sequence(_near(noisy), joints, noisy, times).parameters
    assert (apart.transl[4:, 0] - apart.transl[3, 0] > 1.5).all()
    shape = apart.betas[:1]
    first = BodyParameters(noisy.pose[:4], shape.expand(4, -1), noisy.transl[:4])
    alone = fit_sequence(_near(first, 10.0), joints, first, times[:4]).parameters
    together = BodyParameters(apart.pose[:4], alone.betas, apart.transl[:4])
    assert_close(together.transl, alone.transl, atol=0.03, rtol=0)


def test_windows_join_to_what_one_window_finds(joints):
    """All frames have the betas that the first window found, and there is no step where two windows meet."""
    motion = _motion(50)
    noisy, times = _noisy(motion, 0.02), torch.arange(50).double() / RATE
    whole = fit_sequence(_near(noisy), joints, noisy, times).parameters
    parts = fit_sequence(_near(noisy), joints, noisy, times, SmoothConfig(window=24, overlap=12)).parameters
    assert_close(parts.betas, parts.betas[:1].expand_as(parts.betas))
    assert_close(joints.points(parts), joints.points(whole), atol=0.02, rtol=0)
    assert _acceleration(joints, parts) < 2 * _acceleration(joints, whole)


@pytest.mark.parametrize("frames", range(1, 40))
def test_windows_cover_every_frame_once(frames):
    windows = _windows(frames, SmoothConfig(window=12, overlap=4))
    assert [t for w in windows for t in range(w.keep_first, w.keep_last)] == list(range(frames))
    assert all(w.first <= w.keep_first < w.keep_last <= w.last <= w.first + 12 for w in windows)


def test_the_slope_of_feet_on_a_floor_is_that_of_their_cost(joints):
    motion, feet = _motion(5), (7, 8, 10, 11)
    up = torch.tensor([0.1, -0.9, 0.2])
    up = up / up.norm()
    heights = joints.points(motion)[:, list(feet)] @ up.double()
    floor = Floor(up, float(heights.quantile(0.4)), torch.tensor([0.08, 0.08, 0.03, 0.03]))  # some are below

    def cost(at: BodyParameters, floor: Floor | None = floor) -> _State:
        objective = _near(motion)(torch.arange(5))
        return _Problem(objective, joints, torch.arange(5).double() / RATE, SmoothConfig(), feet, floor).linearize(at)

    assert cost(motion).cost > cost(motion, None).cost
    step = 1e-6 * _random(5, 75, seed=8)
    ahead, back = (
        replace(motion, pose=motion.pose + sign * step[:, :72], transl=motion.transl + sign * step[:, 72:])
        for sign in (1, -1)
    )
    promised = float(torch.from_numpy(cost(motion)._gradient) @ step.flatten())
    assert (cost(ahead).cost - cost(back).cost) / 2 == pytest.approx(promised, rel=1e-5)


def test_feet_come_out_of_the_floor_and_are_free_above_it(joints):
    motion, feet = _motion(5), (7, 8, 10, 11)
    up, clearance = torch.tensor([0.0, -1.0, 0.0]), torch.tensor([0.08, 0.08, 0.03, 0.03])
    heights = joints.points(motion)[:, list(feet)] @ up.double() - clearance

    def found(height: float, there: bool = True) -> torch.Tensor:
        floor = Floor(up, height, clearance) if there else None
        config = SmoothConfig(floor=1e-3, steps=1.0)
        fitted = fit_sequence(
            _near(motion, 3.0), joints, motion, torch.arange(5).double() / RATE, config, feet=feet, floor=floor
        )
        return joints.points(fitted.parameters)[:, list(feet)] @ up.double() - clearance - height

    low, high = float(heights.min()), float(heights.max())
    assert found(high + 0.02).min() > -0.002  # all were below
    assert_close(found(low - 0.1), found(low - 0.1, there=False), atol=1e-6, rtol=0)  # all are above


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_frames_for_an_acceleration_still_share_their_shape(joints, count):
    noisy = _noisy(_motion(count))
    found = fit_sequence(_near(noisy), joints, noisy, torch.arange(count).double() / RATE).parameters
    assert_close(found.transl, noisy.transl, atol=1e-6, rtol=0)
    assert_close(found.betas, noisy.betas.mean(0, keepdim=True).expand(count, -1), atol=1e-6, rtol=0)


def test_accelerations_of_a_parabola_are_constant_whatever_the_spacing():
    times = torch.tensor([0.0, 0.1, 0.35, 0.4, 0.7], dtype=torch.float64)
    values = 1.5 * times**2 - 2 * times + 3
    assert_close(accelerations(times, 1.0).of(values), torch.full((3,), 3.0).double())
    assert accelerations(times, 0.28).joined.tolist() == [True, True, False]


def test_unwrapped_vectors_are_the_same_rotations_without_jumps():
    turn = torch.linspace(2.5, 3.8, 8, dtype=torch.float64)
    pose = torch.zeros(8, 72, dtype=torch.float64)
    pose[:, 55] = torch.where(turn > torch.pi, turn - 2 * torch.pi, turn)
    assert_close(unwrapped(pose)[:, 55], turn)
    assert_close(unwrapped(torch.zeros_like(pose)), torch.zeros_like(pose))


def test_times_that_stand_still_are_refused(joints):
    noisy = _noisy(_motion(3))
    with pytest.raises(ValueError, match="increase"):
        fit_sequence(_near(noisy), joints, noisy, torch.tensor([0.0, 0.1, 0.1]))
