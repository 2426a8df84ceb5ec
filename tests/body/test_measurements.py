from copy import deepcopy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from kouros.body.measurements import _cut, _girth, measure


@pytest.fixture(scope="module")
def mean(free_body):
    return measure(free_body, torch.zeros(10))


def test_a_girth_is_that_of_a_tape():
    # A prism over a star: the tape spans its notches. Sides of a regular hexagon of radius 1 are 1 long.
    angles = np.arange(12) * np.pi / 6
    radius = np.where(np.arange(12) % 2, 0.5, 1.0)
    ring = np.stack([radius * np.cos(angles), np.zeros(12), radius * np.sin(angles)], axis=1)
    vertices = np.concatenate([ring, ring + np.array([0.0, 1.0, 0.0])])
    k, following = np.arange(12), (np.arange(12) + 1) % 12
    faces = np.concatenate([np.stack([k, following, k + 12], 1), np.stack([following, following + 12, k + 12], 1)])
    assert _girth(vertices, faces, 0.5) == pytest.approx(6.0)
    assert _girth(vertices + np.array([0.2, 0, 0]), faces, 0.5, side=1.0) < 6.0
    with pytest.raises(ValueError, match="cannot be measured"):
        _cut(vertices, faces, 2.0)


def test_the_mean_body_measures_like_people(mean):
    # Between the 5th percentile of women and the 95th of men, both of whom the mean is between.
    lowest = {"stature": 1.5, "arm_span": 1.5, "inside_leg_height": 0.66, "chest_girth": 0.78, "waist_girth": 0.62}
    highest = {"stature": 1.9, "arm_span": 1.95, "inside_leg_height": 0.91, "chest_girth": 1.2, "waist_girth": 1.1}
    lowest |= {"hip_girth": 0.85, "thigh_girth": 0.45}
    highest |= {"hip_girth": 1.15, "thigh_girth": 0.7}
    for name, value in mean.to_dict().items():
        assert lowest[name] < value < highest[name], name
    assert mean.waist_girth < mean.chest_girth and mean.waist_girth < mean.hip_girth


def test_stature_and_span_are_the_t_poses_extents(free_body, mean):
    rest = free_body.v_template
    assert mean.stature == pytest.approx(float(rest[:, 1].max() - rest[:, 1].min()), abs=1e-5)
    assert mean.arm_span == pytest.approx(float(rest[:, 0].max() - rest[:, 0].min()), abs=1e-5)


@pytest.mark.parametrize("seed", range(8))
def test_no_shape_breaks_the_order_of_a_bodys_measures(free_body, seed: int):
    betas = (1.2 * torch.randn(10, generator=torch.Generator().manual_seed(seed))).clamp(-2.5, 2.5)
    found = measure(free_body, betas)
    assert 0.40 < found.inside_leg_height / found.stature < 0.53
    assert 0.9 < found.arm_span / found.stature < 1.1
    assert found.waist_girth < found.hip_girth * 1.15 and found.thigh_girth < 0.75 * found.hip_girth


def test_a_body_twice_as_large_measures_twice_as_much(free_body, mean):
    large = deepcopy(free_body)
    for name in ("v_template", "joint_template"):
        getattr(large, name).mul_(2.0)
    doubled = measure(large, torch.zeros(10))
    assert_allclose(list(doubled.to_dict().values()), [2 * v for v in mean.to_dict().values()], rtol=0.02)


def test_a_wrong_number_of_betas_is_an_error(free_body):
    with pytest.raises(ValueError, match="betas"):
        measure(free_body, torch.zeros(4))
