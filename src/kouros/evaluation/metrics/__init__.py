"""The field's error measures: pure functions on batches, and accumulators that add them up over a data set.

The functions need torch alone. The accumulators (`kouros.evaluation.metrics.accumulate`) are torchmetrics
classes, from the ``train`` extra: they are imported from that module and never from here. Lengths are metres
or pixels; ratios lie in [0, 1].
"""

from kouros.evaluation.metrics.densepose import (
    area_under_rcp,
    failure_rate,
    geodesic_point_similarity,
    ratio_of_correct_points,
)
from kouros.evaluation.metrics.keypoints import (
    AUC_THRESHOLDS_3DHP,
    PCK_THRESHOLD_3DHP,
    area_under_pck,
    correct_keypoints_2d,
    correct_keypoints_3d,
    head_size_mpii,
    keypoint_errors_2d,
    pck_of_people,
)
from kouros.evaluation.metrics.pose import (
    acceleration_errors,
    joint_errors,
    procrustes_errors,
    quaternion_errors,
    root_of,
    sample_means,
)
from kouros.evaluation.metrics.segmentation import (
    PartScores,
    SegmentationScores,
    confusion_matrix,
    mask_iou,
    part_scores,
    segmentation_scores,
)

__all__ = [
    "AUC_THRESHOLDS_3DHP",
    "PCK_THRESHOLD_3DHP",
    "PartScores",
    "SegmentationScores",
    "acceleration_errors",
    "area_under_pck",
    "area_under_rcp",
    "confusion_matrix",
    "correct_keypoints_2d",
    "correct_keypoints_3d",
    "failure_rate",
    "geodesic_point_similarity",
    "head_size_mpii",
    "joint_errors",
    "keypoint_errors_2d",
    "mask_iou",
    "part_scores",
    "pck_of_people",
    "procrustes_errors",
    "quaternion_errors",
    "ratio_of_correct_points",
    "root_of",
    "sample_means",
    "segmentation_scores",
]
