"""Metrics over a whole data set: sums and counts, added up over batches and ranks, divided once at the end.

torchmetrics (from the ``train`` extra) adds the states over ranks. Since only sums and counts are kept,
ragged last batches, empty ranks and uneven ranks give the same number as one process that sees everything at
once.
"""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor

try:
    from torchmetrics import Metric
except ImportError as error:
    raise ImportError(
        "Accumulating metrics needs torchmetrics: pip install 'kouros[train]'. The functions in "
        "kouros.evaluation.metrics work without it."
    ) from error

from kouros.body.keypoints import KeypointSet
from kouros.evaluation.metrics.densepose import check_distances
from kouros.evaluation.metrics.keypoints import (
    AUC_THRESHOLDS_3DHP,
    PCK_THRESHOLD_3DHP,
    correct_keypoints_2d,
    correct_keypoints_3d,
    keypoint_errors_2d,
)
from kouros.evaluation.metrics.pose import (
    acceleration_errors,
    joint_errors,
    procrustes_errors,
    quaternion_errors,
)
from kouros.evaluation.metrics.segmentation import SegmentationScores, confusion_matrix, segmentation_scores


class _Accumulator(Metric):
    """A metric whose states are sums: what all of this module's have in common."""

    full_state_update = False
    is_differentiable = False

    def _add_sum(self, name: str, shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> None:
        self.add_state(name, default=torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def _require(self, count: Tensor, what: str) -> None:
        if not bool((count > 0).any()):
            raise ValueError(
                f"{type(self).__name__} has seen no {what} since it was reset; there is no score to compute."
            )


class MeanError(_Accumulator):
    """Mean of errors over all valid points of all samples; the base of the 3D errors, usable by itself."""

    higher_is_better = False
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_sum("total")
        self._add_sum("count", dtype=torch.int64)

    def add(self, errors: Tensor, valid: Tensor | None = None) -> None:
        """Add errors of any shape; ``valid``, of the same shape, says which count."""
        kept = errors if valid is None else errors[valid]
        self.total += kept.double().sum()
        self.count += kept.numel()

    def update(self, errors: Float[Tensor, "batch points"], valid: Bool[Tensor, "batch points"] | None = None) -> None:
        """Add a batch of errors."""
        self.add(errors, valid)

    def compute(self) -> Float[Tensor, ""]:
        """The mean, in the errors' unit.

        Raises:
            ValueError: nothing was added.
        """
        self._require(self.count, "valid points")
        return self.total / self.count


class MPJPE(MeanError):
    """Mean per-joint position error (PVE when fed vertices), metres; see `joint_errors`."""

    def update(  # type: ignore[override]
        self,
        predicted: Float[Tensor, "batch points 3"],
        target: Float[Tensor, "batch points 3"],
        valid: Bool[Tensor, "batch points"] | None = None,
        *,
        predicted_root: Float[Tensor, "batch 3"] | None = None,
        target_root: Float[Tensor, "batch 3"] | None = None,
    ) -> None:
        """Add a batch."""
        errors = joint_errors(predicted, target, valid, predicted_root=predicted_root, target_root=target_root)
        self.add(errors, valid)


class ProcrustesMPJPE(MeanError):
    """PA-MPJPE, the reconstruction error, metres; see `procrustes_errors`."""

    def update(  # type: ignore[override]
        self,
        predicted: Float[Tensor, "batch points 3"],
        target: Float[Tensor, "batch points 3"],
        valid: Bool[Tensor, "batch points"] | None = None,
    ) -> None:
        """Add a batch."""
        self.add(procrustes_errors(predicted, target, valid), valid)


class AccelerationError(MeanError):
    """Mean acceleration error of clips, metres a second squared; see `acceleration_errors`."""

    def __init__(self, frame_rate: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frame_rate = frame_rate

    def update(  # type: ignore[override]
        self,
        predicted: Float[Tensor, "batch frames points 3"],
        target: Float[Tensor, "batch frames points 3"],
        valid: Bool[Tensor, "batch frames points"] | None = None,
    ) -> None:
        """Add a batch of clips; shorter ones are padded and marked in ``valid``."""
        self.add(*acceleration_errors(predicted, target, valid, frame_rate=self.frame_rate))


class QuaternionError(MeanError):
    """Mean angle between joint rotations, radians; see `quaternion_errors`."""

    def update(  # type: ignore[override]
        self, predicted: Float[Tensor, "batch joints 3 3"], target: Float[Tensor, "batch joints 3 3"]
    ) -> None:
        """Add a batch."""
        self.add(quaternion_errors(predicted, target))


class PCK3DScores(NamedTuple):
    """3DHP's two scores, in [0, 1]."""

    pck: Float[Tensor, ""]
    auc: Float[Tensor, ""]


class PCK3D(_Accumulator):
    """PCK at 150 mm and AUC of MPI-INF-3DHP, over errors such as `joint_errors` gives."""

    higher_is_better = True
    correct: Tensor
    below: Tensor
    count: Tensor

    def __init__(
        self,
        threshold: float = PCK_THRESHOLD_3DHP,
        auc_thresholds: tuple[float, ...] = AUC_THRESHOLDS_3DHP,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold
        self.auc_thresholds = auc_thresholds
        self._add_sum("correct", dtype=torch.int64)
        self._add_sum("below", (len(auc_thresholds),), torch.int64)
        self._add_sum("count", dtype=torch.int64)

    def update(self, errors: Float[Tensor, "batch points"], valid: Bool[Tensor, "batch points"] | None = None) -> None:
        """Add a batch of errors, metres."""
        kept = errors.flatten() if valid is None else errors[valid]
        self.correct += correct_keypoints_3d(kept[None], self.threshold).sum()
        self.below += (kept[:, None] < kept.new_tensor(self.auc_thresholds)).sum(dim=0)
        self.count += kept.numel()

    def compute(self) -> PCK3DScores:
        """Both scores.

        Raises:
            ValueError: nothing was added.
        """
        self._require(self.count, "valid points")
        return PCK3DScores(self.correct / self.count, (self.below.double() / self.count).mean())


class PCK2DScores(NamedTuple):
    """Shares of correct keypoints, in [0, 1]."""

    mean: Float[Tensor, ""]
    """Over the counted keypoints, each weighing by how often it is annotated."""
    per_keypoint: Float[Tensor, " points"]
    """In the set's order, excluded ones too; NaN for one never annotated."""


class PCK2D(_Accumulator):
    """Correct 2D keypoints, within a fraction of each person's box (PCK) or head (PCKh), keypoint by
    keypoint.

    Args:
        keypoints: the set, in the order of the tensors.
        fraction: of the reference length given with each person.
        exclude: names left out of the mean.
    """

    higher_is_better = True
    correct: Tensor
    annotated: Tensor

    def __init__(self, keypoints: KeypointSet, fraction: float, exclude: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fraction = fraction
        excluded = {keypoints.index(name) for name in exclude}
        self.counted = [index for index in range(len(keypoints)) if index not in excluded]
        self._add_sum("correct", (len(keypoints),), torch.int64)
        self._add_sum("annotated", (len(keypoints),), torch.int64)

    def update(
        self,
        predicted: Float[Tensor, "batch points 2"],
        target: Float[Tensor, "batch points 2"],
        valid: Bool[Tensor, "batch points"],
        reference: Float[Tensor, " batch"],
    ) -> None:
        """Add a batch of people; keypoints and reference lengths in pixels of the same image.

        Raises:
            ValueError: a reference is not positive; a point that counts is not finite; the number of points
                is not the set's.
        """
        if predicted.shape[1] != len(self.correct):
            raise ValueError(
                f"Got {predicted.shape[1]} keypoints a person, but this metric's set has {len(self.correct)}."
            )
        errors = keypoint_errors_2d(predicted, target, valid)
        correct = correct_keypoints_2d(errors, reference, self.fraction)
        self.correct += (correct & valid).sum(dim=0)
        self.annotated += valid.sum(dim=0)

    def compute(self) -> PCK2DScores:
        """The mean and the share of each keypoint.

        Raises:
            ValueError: nothing was added.
        """
        annotated = self.annotated[self.counted]
        self._require(annotated, "annotated keypoints")
        mean = self.correct[self.counted].sum() / annotated.sum()
        return PCK2DScores(mean, self.correct / self.annotated)


def pckh_mpii(keypoints: KeypointSet, **kwargs: Any) -> PCK2D:
    """PCKh@0.5 of MPII, whose mean leaves pelvis and thorax out; references come from `head_size_mpii`."""
    exclude = tuple(name for name in ("pelvis_mpii", "thorax_mpii") if name in keypoints.names)
    return PCK2D(keypoints, 0.5, exclude, **kwargs)


class Segmentation(_Accumulator):
    """Pixel accuracy, F1 and IoU of label maps, pooled over all pixels; see `segmentation_scores`.

    Args:
        num_classes: with the background: 2 for foreground, 7 for LSP's six parts.
        ignore: label of true pixels without an answer.
    """

    higher_is_better = True
    confusion: Tensor

    def __init__(self, num_classes: int, ignore: int = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.ignore = ignore
        self._add_sum("confusion", (num_classes + 1, num_classes), torch.int64)

    def update(
        self,
        predicted: Integer[Tensor, "batch height width"],
        target: Integer[Tensor, "batch height width"],
    ) -> None:
        """Add images of one size; images of different sizes come in separate calls."""
        self.confusion += confusion_matrix(predicted, target, self.num_classes, ignore=self.ignore)

    def compute(self) -> SegmentationScores:
        """All scores.

        Raises:
            ValueError: nothing was added.
        """
        return segmentation_scores(self.confusion)


class DensePoseScores(NamedTuple):
    """HoloPose's Table 1 and Fig. 5."""

    auc10: Float[Tensor, ""]
    auc30: Float[Tensor, ""]
    fr10: Float[Tensor, ""]
    """In [0, 1]; the paper prints percent."""
    rcp: Float[Tensor, "31"]
    """Share of correct points below 0, 1, ..., 30 cm."""


class DensePoseRCP(_Accumulator):
    """Ratio of correct points, pooled over all annotated points of all people."""

    higher_is_better = True
    area10: Tensor
    area30: Tensor
    failures: Tensor
    below: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_sum("area10")
        self._add_sum("area30")
        self._add_sum("failures", dtype=torch.int64)
        self._add_sum("below", (31,), torch.int64)
        self._add_sum("count", dtype=torch.int64)

    def update(self, distances: Float[Tensor, " points"]) -> None:
        """Add points' geodesic distances, metres; infinite where background is predicted. May be empty."""
        if not len(distances):
            return
        check_distances(distances)
        exact = distances.double()
        self.area10 += ((0.1 - exact).clamp(min=0) / 0.1).sum()
        self.area30 += ((0.3 - exact).clamp(min=0) / 0.3).sum()
        self.failures += (distances > 0.1).sum()
        limits = torch.arange(31, device=distances.device) / 100
        self.below += (distances[:, None] < limits.to(distances.dtype)).sum(dim=0)
        self.count += len(distances)

    def compute(self) -> DensePoseScores:
        """All scores.

        Raises:
            ValueError: nothing was added.
        """
        self._require(self.count, "annotated points")
        return DensePoseScores(
            self.area10 / self.count,
            self.area30 / self.count,
            self.failures / self.count,
            self.below / self.count,
        )
