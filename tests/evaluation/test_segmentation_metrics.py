"""Label maps against scikit-learn, and SPIN's treatment of ignored pixels by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score
from torch.testing import assert_close

from kouros.evaluation.metrics import confusion_matrix, mask_iou, part_scores, segmentation_scores


def maps(seed: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, classes, (3, 20, 24))
    predicted = np.where(rng.random(target.shape) < 0.7, target, rng.integers(0, classes, target.shape))
    return torch.from_numpy(predicted), torch.from_numpy(target)


@pytest.mark.parametrize("classes", [2, 7])
def test_scores_match_scikit_learn(classes: int):
    predicted, target = maps(0, classes)
    scores = segmentation_scores(confusion_matrix(predicted, target, classes))
    flat = target.flatten().numpy(), predicted.flatten().numpy()
    assert float(scores.accuracy) == pytest.approx(accuracy_score(*flat))
    assert float(scores.f1) == pytest.approx(f1_score(*flat, average="macro"))
    np.testing.assert_allclose(scores.f1_per_class, f1_score(*flat, average=None))
    np.testing.assert_allclose(scores.iou_per_class, jaccard_score(*flat, average=None))


def test_ignored_pixels_leave_f1_alone_and_count_as_background_in_accuracy():
    target = torch.tensor([[[0, 1, 255, 255]]], dtype=torch.uint8)
    predicted = torch.tensor([[[0, 1, 1, 0]]])
    scores = segmentation_scores(confusion_matrix(predicted, target, 2))
    assert scores.f1_per_class.tolist() == [1.0, 1.0]
    assert float(scores.accuracy) == 0.75


def test_f1_by_hand():
    target = torch.tensor([[[1, 1, 1, 0, 0]]])
    predicted = torch.tensor([[[1, 1, 0, 0, 1]]])  # foreground TP 2, FP 1, FN 1; background TP 1, FP 1, FN 1
    scores = segmentation_scores(confusion_matrix(predicted, target, 2))
    assert_close(scores.f1_per_class, torch.tensor([2 / 4, 4 / 6], dtype=torch.float64))
    assert_close(scores.iou_per_class, torch.tensor([1 / 3, 2 / 4], dtype=torch.float64))


def test_class_that_never_occurs_is_left_out_of_the_mean():
    zeros = torch.zeros(1, 2, 2, dtype=torch.int64)
    scores = segmentation_scores(confusion_matrix(zeros, zeros, 3))
    assert float(scores.f1) == 1.0
    assert math.isnan(scores.f1_per_class[2])


def test_counts_add_up_over_images():
    predicted, target = maps(1, 7)
    whole = confusion_matrix(predicted, target, 7)
    parts = sum(confusion_matrix(predicted[i : i + 1], target[i : i + 1], 7) for i in range(3))
    assert (whole == parts).all()


@pytest.mark.parametrize(("which", "label"), [("predicted", 7), ("predicted", 255), ("target", 9), ("target", -1)])
def test_foreign_labels_are_named(which: str, label: int):
    arrays = {name: torch.zeros(1, 2, 2, dtype=torch.int64) for name in ("predicted", "target")}
    arrays[which][0, 1, 1] = label
    with pytest.raises(ValueError, match=rf"The {which} labels contain {label}; expected 0 to 6"):
        confusion_matrix(arrays["predicted"], arrays["target"], 7)


def test_no_pixels_are_no_score():
    empty = torch.zeros(0, 4, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="no pixels"):
        segmentation_scores(confusion_matrix(empty, empty, 2))


def test_iou_of_half_overlapping_masks_is_a_third():
    first, second = torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    first[0, :, :2] = True
    second[0, :, 1:3] = True
    first[1] = second[1] = True
    iou = mask_iou(first, second)
    assert_close(iou[:2], torch.tensor([1 / 3, 1.0]))
    assert math.isnan(iou[2])


def test_each_picture_has_scores_of_its_parts():
    predicted, target = maps(2, 7)
    predicted[2], target[2] = 0, 0
    target[1][target[1] == 3] = 1
    predicted[1][predicted[1] == 3] = 1  # a part that this picture does not show
    scores = part_scores(predicted, target, 7)
    for i, parts in ((0, [1, 2, 3, 4, 5, 6]), (1, [1, 2, 4, 5, 6])):
        flat = target[i].flatten().numpy(), predicted[i].flatten().numpy()
        assert float(scores.f1[i]) == pytest.approx(f1_score(*flat, labels=parts, average="macro"))
        assert float(scores.iou[i]) == pytest.approx(jaccard_score(*flat, labels=parts, average="macro"))
    assert math.isnan(scores.f1[2]) and math.isnan(scores.iou[2])
