"""Shares of correct keypoints, by hand."""

import pytest
import torch
from torch.testing import assert_close

from kouros.evaluation.metrics import (
    area_under_pck,
    correct_keypoints_2d,
    correct_keypoints_3d,
    head_size_mpii,
    keypoint_errors_2d,
    pck_of_people,
)


def test_pck_is_strict_at_its_threshold():
    errors = torch.tensor([[0.149, 0.150, 0.151]], dtype=torch.float64)
    assert correct_keypoints_3d(errors).tolist() == [[True, False, False]]


def test_perfect_prediction_has_an_auc_of_thirty_of_thirty_one():
    # Strictly below a threshold of zero is impossible.
    assert_close(area_under_pck(torch.zeros(2, 14)), torch.tensor(30 / 31))


def test_auc_counts_the_thresholds_above_each_error():
    errors = torch.tensor([[0.012, 0.1475, 0.9]], dtype=torch.float64)
    # 12 mm is below 15, 20, ..., 150 mm (28 of 31); 147.5 mm below 150 mm alone; 900 mm below none.
    assert_close(area_under_pck(errors), torch.tensor((28 + 1 + 0) / (3 * 31), dtype=torch.float64))
    only = area_under_pck(errors, torch.tensor([[True, False, False]]))
    assert_close(only, torch.tensor(28 / 31, dtype=torch.float64))


def test_auc_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no valid points"):
        area_under_pck(torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.bool))


def test_each_person_is_measured_by_its_own_reference():
    errors = torch.tensor([[4.0, 5.0, 6.0], [4.0, 5.0, 6.0]])
    correct = correct_keypoints_2d(errors, torch.tensor([10.0, 12.0]), fraction=0.5)
    assert correct.tolist() == [[True, True, False], [True, True, True]]


@pytest.mark.parametrize("reference", [0.0, -1.0, float("nan")])
def test_person_without_size_is_refused(reference: float):
    with pytest.raises(ValueError, match="reference length of sample 1"):
        correct_keypoints_2d(torch.zeros(2, 3), torch.tensor([5.0, reference]), 0.5)


def test_head_size_is_six_tenths_of_the_diagonal():
    assert_close(head_size_mpii(torch.tensor([[100.0, 50.0, 130.0, 90.0]])), torch.tensor([30.0]))


def test_missing_keypoints_may_hold_anything():
    predicted = torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])
    target = torch.tensor([[[0.0, 0.0], [torch.nan, torch.nan]]])
    errors = keypoint_errors_2d(predicted, target, torch.tensor([[True, False]]))
    assert errors.tolist() == [[5.0, 0.0]]
    with pytest.raises(ValueError, match="target is nan"):
        keypoint_errors_2d(predicted, target)


def test_each_person_has_a_share_of_correct_points():
    target = torch.zeros(3, 4, 2)
    predicted = torch.tensor([0.0, 4.0, 5.0, 6.0])[None, :, None] * torch.tensor([1.0, 0.0])
    valid = torch.tensor([[True, True, True, True], [True, False, False, True], [False] * 4])
    shares = pck_of_people(predicted.expand(3, -1, -1), target, valid, torch.tensor([10.0, 10.0, 10.0]))
    assert shares[:2].tolist() == [0.75, 0.5]
    assert bool(shares[2].isnan())
    assert pck_of_people(predicted.expand(3, -1, -1), target, valid, torch.full((3,), 10.0), 0.4)[0] == 0.5
