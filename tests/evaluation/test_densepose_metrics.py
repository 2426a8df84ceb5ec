"""Ratio of correct points: by hand, and its exact area against a fine numerical integral."""

import math

import pytest
import torch
from torch.testing import assert_close

from kouros.evaluation.metrics import (
    area_under_rcp,
    failure_rate,
    geodesic_point_similarity,
    ratio_of_correct_points,
)


def test_truth_against_itself_is_perfect():
    zeros = torch.zeros(5)
    assert area_under_rcp(zeros, 0.1) == 1
    assert failure_rate(zeros) == 0


def test_background_is_never_correct():
    distances = torch.tensor([0.0, math.inf])
    assert_close(area_under_rcp(distances, 0.3), torch.tensor(0.5))
    assert_close(failure_rate(distances), torch.tensor(0.5))
    assert_close(ratio_of_correct_points(distances, torch.tensor([0.3, 1e6])), torch.tensor([0.5, 0.5]))


def test_curve_and_summaries_by_hand():
    distances = torch.tensor([0.05, 0.10, 0.20, 0.50])
    assert_close(
        ratio_of_correct_points(distances, torch.tensor([0.0, 0.05, 0.06, 0.25])),
        torch.tensor([0, 0, 0.25, 0.75]),
    )
    assert_close(area_under_rcp(distances, 0.1), torch.tensor(0.5 / 4))
    assert_close(area_under_rcp(distances, 0.3), torch.tensor((25 + 20 + 10) / 30 / 4))
    assert_close(failure_rate(distances), torch.tensor(0.5))  # exactly 10 cm is not farther than 10 cm


def test_area_matches_a_fine_integral_of_the_curve():
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(500, generator=generator, dtype=torch.float64) * 0.4
    middles = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000 * 0.3
    integral = ratio_of_correct_points(distances, middles).mean()
    assert_close(area_under_rcp(distances, 0.3), integral, atol=1e-4, rtol=0)


@pytest.mark.parametrize("bad", [-0.1, math.nan])
def test_impossible_distances_are_named(bad: float):
    with pytest.raises(ValueError, match="distance of point 1"):
        area_under_rcp(torch.tensor([0.0, bad]), 0.1)


def test_no_points_are_no_score():
    with pytest.raises(ValueError, match="no points"):
        failure_rate(torch.zeros(0))


def test_similarity_at_kappa_is_one_over_root_e():
    distances = torch.tensor([[0.255, 0.0], [0.0, math.inf]])
    valid = torch.tensor([[True, False], [True, True]])
    assert_close(geodesic_point_similarity(distances, valid), torch.tensor([math.exp(-0.5), 0.5]))
