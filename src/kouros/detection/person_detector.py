"""MediaPipe's person detector: a single-shot network on a square of 224 pixels, its anchors, its suppression.

Constants are those of MediaPipe's graph ``pose_detection_cpu.pbtxt``. A detection is a box around the face
and four points, of which the first two place the body: the middle of the hips, and a point straight above
it on the circle around the whole body.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float

from kouros.detection.model_files import Network
from kouros.detection.regions import Pyramid, Region, upright_region

INPUT_SIZE = 224
_STRIDES = (8, 16, 32, 32, 32)
_ANCHORS_PER_CELL = 2
_SCORE_CLIP = 100.0
_MAX_OVERLAP = 0.3


@dataclass(frozen=True, eq=False)
class Candidate:
    """One find of the detector."""

    score: float
    points: Float[np.ndarray, "4 2"]
    """Mid-hip, point on the body's circle, mid-shoulder, point on the upper body's circle; pixels."""
    box: Float[np.ndarray, " 4"]
    """Of the face, pixels."""

    @property
    def region(self) -> Region:
        """Where the landmark model should look."""
        return upright_region(self.points[0], self.points[1])


@cache
def anchor_centers() -> Float[np.ndarray, "2254 2"]:
    """Centres of the anchors in crop coordinates. Their size is fixed at 1, so centres are all there is.

    Each cell carries two anchors (aspect 1, and one of interpolated scale) per layer; the three layers of
    stride 32 share their cells, which gives 28*28*2 + 14*14*2 + 7*7*6 = 2254.
    """
    layers = []
    for stride in sorted(set(_STRIDES)):
        cells = INPUT_SIZE // stride
        row, column = np.mgrid[:cells, :cells]
        centers = np.stack([column, row], axis=-1).reshape(-1, 2) + 0.5
        layers.append(np.repeat(centers / cells, _ANCHORS_PER_CELL * _STRIDES.count(stride), axis=0))
    return np.concatenate(layers)


def detect(network: Network, pyramid: Pyramid, region: Region, min_score: float = 0.5) -> list[Candidate]:
    """People in one upright square of an image, best first."""
    crop = pyramid.crop(region, INPUT_SIZE, replicate_border=False)
    numbers, logits = network(crop[None].astype(np.float32) * np.float32(2 / 255) - np.float32(1))
    scores = 1 / (1 + np.exp(-np.clip(logits.reshape(-1).astype(np.float64), -_SCORE_CLIP, _SCORE_CLIP)))
    keep = scores >= min_score
    if not keep.any():
        return []
    scores, values = scores[keep], decode(numbers.reshape(-1, 12)[keep], anchor_centers()[keep])
    values, scores = weighted_suppression(values, scores)
    points = region.to_image(values.reshape(-1, 6, 2))
    return [
        Candidate(float(score), found[2:], np.concatenate([found[0], found[1]]))
        for score, found in zip(scores, points, strict=True)
    ]


def decode(
    numbers: Float[np.ndarray, "found 12"], anchors: Float[np.ndarray, "found 2"]
) -> Float[np.ndarray, "found 12"]:
    """Six points (x, y) in crop coordinates: the box's first and last corner, then the four keypoints."""
    points = numbers.reshape(-1, 6, 2).astype(np.float64) / INPUT_SIZE
    center, half = points[:, 0] + anchors, points[:, 1] / 2
    keypoints = points[:, 2:] + anchors[:, None]
    return np.concatenate([center - half, center + half, keypoints.reshape(-1, 8)], axis=1)


def weighted_suppression(
    values: Float[np.ndarray, "found 12"], scores: Float[np.ndarray, " found"]
) -> tuple[Float[np.ndarray, "kept 12"], Float[np.ndarray, " kept"]]:
    """Merge detections whose boxes overlap the best one's by more than 0.3 (IoU), weighted by score.

    MediaPipe's "weighted" non-maximum suppression. The score kept is the best one's.
    """
    order = np.argsort(-scores, kind="stable")
    values, scores = values[order], scores[order]
    kept_values, kept_scores = [], []
    while len(scores):
        same = _iou(values[0, :4], values[:, :4]) > _MAX_OVERLAP
        same[0] = True
        kept_values.append(np.average(values[same], axis=0, weights=scores[same]))
        kept_scores.append(scores[0])
        values, scores = values[~same], scores[~same]
    return np.array(kept_values), np.array(kept_scores)


def _iou(box: Float[np.ndarray, " 4"], boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    extent = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    overlap = np.prod(np.clip(extent, 0, None), axis=1)
    areas = np.prod(np.clip(boxes[:, 2:] - boxes[:, :2], 0, None), axis=1)
    union = areas + np.prod(np.clip(box[2:] - box[:2], 0, None)) - overlap
    return overlap / np.maximum(union, 1e-12)
