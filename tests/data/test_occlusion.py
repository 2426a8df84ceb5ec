"""Occluders have HKMR's sizes, sit on their joint, and depend on their seed alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kouros.data.occlusion import DEGREES, FILL, SHAPES, Occluder, each_joint

CENTRE = (112.0, 112.0)


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("seed", range(5))
def test_areas_are_the_papers(degree, seed):
    circle = Occluder.at(CENTRE, "circle", degree, [seed]).mask(224)
    assert circle.sum() == pytest.approx(math.pi * (10 * degree) ** 2, rel=0.02)
    rectangle = Occluder.at(CENTRE, "rectangle", degree, [seed]).mask(224)
    assert rectangle.sum() == pytest.approx(3000 * degree, rel=0.05)
    rows, columns = rectangle.any(axis=1).sum(), rectangle.any(axis=0).sum()
    assert rectangle.sum() == rows * columns and 0.45 < columns / rows < 2.2


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.6])
def test_bars_are_as_wide_as_they_should_be_and_cross_the_crop(degree, angle):
    bar = Occluder("bar", degree, CENTRE, angle).mask(224)
    # Only within 60 pixels of the middle, where the bar is not cut by the crop.
    y, x = np.mgrid[:224, :224] + 0.5 - 112
    along = np.abs(x * math.cos(angle) + y * math.sin(angle)) < 60
    assert (bar & along).sum() == pytest.approx(120 * 10 * degree, rel=0.04)
    end = 112 + 105 * np.array([math.sin(angle), math.cos(angle)])
    assert bar[int(end[0]), int(end[1])]


@given(st.sampled_from(SHAPES), st.integers(0, 1000), st.floats(0, 224), st.floats(0, 224))
def test_a_higher_degree_covers_more_around_the_same_joint(shape, seed, x, y):
    smaller, larger = (Occluder.at((x, y), shape, d, [seed]).mask(224) for d in (2, 3))
    assert not (smaller & ~larger).any()
    assert larger.sum() > smaller.sum()


@given(st.sampled_from(SHAPES), st.sampled_from(DEGREES), st.integers(0, 1000))
def test_sizes_follow_the_crop(shape, degree, seed):
    share = [Occluder.at((s / 2, s / 2), shape, degree, [seed]).mask(s).mean() for s in (224, 448)]
    assert share[0] == pytest.approx(share[1], rel=0.06)


def test_covering_leaves_the_given_crop_and_the_rest_as_they_are():
    crop = np.random.default_rng(0).integers(0, 100, (64, 64, 3)).astype(np.uint8)
    before = crop.copy()
    occluder = Occluder.at((20.0, 30.0), "circle", 3, [1])
    covered, mask = occluder.cover(crop), occluder.mask(64)
    assert np.array_equal(crop, before)
    assert (covered[mask] == FILL).all() and np.array_equal(covered[~mask], crop[~mask])
    assert mask[30, 20] and not mask[20, 35]


def test_each_known_joint_is_covered_in_turn_and_the_same_way_every_time():
    points = np.array([[10.0, 20, 1], [0, 0, 0], [200, 100, 0.5]])
    first, again = (list(each_joint(points, "bar", 2, [7, 3])) for _ in range(2))
    assert [joint for joint, _ in first] == [0, 2]
    assert [occluder.center for _, occluder in first] == [(10.0, 20.0), (200.0, 100.0)]
    assert first == again
    assert first[0][1].angle != first[1][1].angle
    assert list(each_joint(points, "bar", 2, [7, 4])) != first


@pytest.mark.parametrize("degree", [0, 6])
def test_other_degrees_are_refused(degree):
    with pytest.raises(ValueError, match="1 to 5"):
        Occluder("bar", degree, CENTRE)
