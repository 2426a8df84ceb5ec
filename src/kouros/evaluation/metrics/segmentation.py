"""Agreement of label maps: pixel accuracy, F1 and IoU from one pooled confusion matrix.

SPIN (Sec. 4), HKMR (Table 5) and GraphCMR compare foreground and six body parts on LSP this way: the counts
are pooled over all pixels of all images, not averaged over images.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor


class SegmentationScores(NamedTuple):
    """Scores of pooled pixel counts, each in [0, 1]."""

    accuracy: Float[Tensor, ""]
    """Equal pixels among all; ignored pixels count as background, as in SPIN's evaluation."""
    f1: Float[Tensor, ""]
    """Mean over the classes that occur, the background included."""
    f1_per_class: Float[Tensor, " classes"]
    """``2 TP / (2 TP + FP + FN)``; NaN for a class found in neither map. Ignored pixels do not count."""
    iou_per_class: Float[Tensor, " classes"]
    """``TP / (TP + FP + FN)``; NaN as above."""


class PartScores(NamedTuple):
    """Scores of single pictures, each in [0, 1]; NaN for a picture whose maps show no part."""

    f1: Float[Tensor, " batch"]
    """Mean over the parts, the background not among them, that either map shows."""
    iou: Float[Tensor, " batch"]
    """Likewise."""


def confusion_matrix(
    predicted: Integer[Tensor, "batch height width"],
    target: Integer[Tensor, "batch height width"],
    num_classes: int,
    *,
    ignore: int = 255,
) -> Integer[Tensor, "rows classes"]:
    """Pixel counts: ``[t, p]`` of true label ``t`` predicted as ``p``; the last row counts ignored pixels.

    Args:
        num_classes: labels are 0 (background) to ``num_classes - 1``.
        ignore: label of true pixels without an answer.

    Raises:
        ValueError: a label is out of range.
    """
    ignored = target == ignore
    for what, labels, bad in (
        ("predicted", predicted, (predicted < 0) | (predicted >= num_classes)),
        ("target", target, ((target < 0) | (target >= num_classes)) & ~ignored),
    ):
        if bad.any():
            raise ValueError(
                f"The {what} labels contain {int(labels[bad][0])}; expected 0 to {num_classes - 1}"
                f"{f' or {ignore} (ignored)' if what == 'target' else ''}."
            )
    rows = torch.where(ignored, num_classes, target).long()
    cells = rows * num_classes + predicted.long()
    counts = torch.bincount(cells.flatten(), minlength=(num_classes + 1) * num_classes)
    return counts.reshape(num_classes + 1, num_classes)


def segmentation_scores(confusion: Integer[Tensor, "rows classes"]) -> SegmentationScores:
    """Scores of a `confusion_matrix`, or of the sum of several.

    Raises:
        ValueError: it counts no pixels.
    """
    total = confusion.sum()
    if total == 0:
        raise ValueError("The confusion matrix counts no pixels; there is nothing to score.")
    counts = confusion.double()
    answered = counts[:-1]
    hits = answered.diagonal()
    false = answered.sum(dim=0) + answered.sum(dim=1) - 2 * hits
    f1 = 2 * hits / (2 * hits + false)
    accuracy = (hits.sum() + counts[-1, 0]) / total
    return SegmentationScores(accuracy, f1.nanmean(), f1, hits / (hits + false))


def part_scores(
    predicted: Integer[Tensor, "batch height width"],
    target: Integer[Tensor, "batch height width"],
    num_classes: int,
    *,
    ignore: int = 255,
) -> PartScores:
    """F1 and IoU of each picture, as Neural Body Fitting plots them against the error of its bodies (Fig. 3).

    Args:
        num_classes: labels are 0 (background) to ``num_classes - 1``.
        ignore: label of true pixels without an answer; they do not count.

    Raises:
        ValueError: a label is out of range.
    """
    each = [confusion_matrix(predicted[[i]], target[[i]], num_classes, ignore=ignore) for i in range(len(target))]
    counts = torch.stack(each)[:, :-1].double()
    hits = counts.diagonal(dim1=1, dim2=2)[:, 1:]
    either = (counts.sum(1) + counts.sum(2))[:, 1:]
    f1, iou = 2 * hits / either, hits / (either - hits)
    return PartScores(f1.nanmean(dim=1), iou.nanmean(dim=1))


def mask_iou(
    predicted: Bool[Tensor, "batch height width"], target: Bool[Tensor, "batch height width"]
) -> Float[Tensor, " batch"]:
    """Intersection over union of each pair of masks; NaN where both are empty."""
    intersection = (predicted & target).sum(dim=(1, 2))
    return intersection / (predicted | target).sum(dim=(1, 2))
