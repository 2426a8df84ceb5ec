"""MediaPipe's landmark model (BlazePose): 33 points, in the image and in metres, of the person in one region.

Constants and steps are those of MediaPipe's graphs ``pose_landmark_by_roi_cpu`` and
``tensors_to_pose_landmarks_and_segmentation``.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kouros.body.keypoints import BLAZEPOSE33
from kouros.detection.model_files import Network
from kouros.detection.regions import Pyramid, Region, upright_region

INPUT_SIZE = 256
_HEATMAP_SIZE = 64
_REFINE_KERNEL = 9  # what MediaPipe 0.10.21 does; later graphs say 7
_REFINE_MIN_CONFIDENCE = 0.5
_POINTS = 33
_MIRROR = np.array(BLAZEPOSE33.mirror)


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What the model saw in one region. Left and right are the person's, even if the region is mirrored."""

    region: Region
    flag: float
    """In [0, 1]: that the region shows a person."""
    points: Float[np.ndarray, "33 2"]
    """Pixels of the image."""
    visibility: Float[np.ndarray, " 33"]
    """In [0, 1]: that the point is in the image and nothing hides it."""
    presence: Float[np.ndarray, " 33"]
    """In [0, 1]: that the point is in the image."""
    metric: Float[np.ndarray, "33 3"]
    """Camera axes, metres, relative to the middle of the hips."""
    alignment: Float[np.ndarray, "2 2"]
    """Middle of the hips and the point above it on the body's circle, pixels: they place the next region."""
    mask_logits: Float[np.ndarray, "256 256"]

    @property
    def next_region(self) -> Region:
        """Where MediaPipe would look in a video's next frame: better centred than the detector's region."""
        return upright_region(self.alignment[0], self.alignment[1])

    @property
    def confidence(self) -> Float[np.ndarray, " 33"]:
        """The smaller of visibility and presence."""
        return np.minimum(self.visibility, self.presence)


def look(network: Network, pyramid: Pyramid, region: Region) -> Landmarks:
    """Run the model on one region of an image."""
    crop = pyramid.crop(region, INPUT_SIZE, replicate_border=True)
    outputs = network(crop[None].astype(np.float32) / np.float32(255))
    numbers, flag, mask, heatmaps, metric = (output.astype(np.float64) for output in outputs)
    values = numbers.reshape(39, 5)
    points = refine(values[:, :2] / INPUT_SIZE, heatmaps.reshape(_HEATMAP_SIZE, _HEATMAP_SIZE, 39))
    in_image = region.to_image(points)
    visibility, presence = _sigmoid(values[:_POINTS, 3]), _sigmoid(values[:_POINTS, 4])
    metric = metric.reshape(39, 3)[:_POINTS].copy()
    metric[:, :2] = metric[:, :2] @ region.axes.T
    # In a mirror the model calls the person's left hand the right one.
    order = _MIRROR if region.mirrored else np.arange(_POINTS)
    return Landmarks(
        region=region,
        flag=float(flag.reshape(())),
        points=in_image[:_POINTS][order],
        visibility=visibility[order],
        presence=presence[order],
        metric=metric[order],
        alignment=in_image[_POINTS : _POINTS + 2],
        mask_logits=mask.reshape(INPUT_SIZE, INPUT_SIZE),
    )


def refine(points: Float[np.ndarray, "39 2"], heatmaps: Float[np.ndarray, "64 64 39"]) -> Float[np.ndarray, "39 2"]:
    """Move each point to the centre of mass of its heatmap (logits) around it, where that is confident.

    As MediaPipe's ``RefineLandmarksFromHeatmapCalculator``. Coordinates of the crop, in and out; a cell's
    coordinate is its index over 64, as there.
    """
    refined = points.copy()
    reach = (_REFINE_KERNEL - 1) // 2
    cells = np.trunc(points * _HEATMAP_SIZE).astype(np.int64)
    for k in np.flatnonzero(((cells >= 0) & (cells < _HEATMAP_SIZE)).all(axis=1)):
        column, row = cells[k]
        left, top = max(0, column - reach), max(0, row - reach)
        window = _sigmoid(heatmaps[top : row + reach + 1, left : column + reach + 1, k])
        if window.max() >= _REFINE_MIN_CONFIDENCE:
            weights = window / window.sum()
            x = left + weights.sum(axis=0) @ np.arange(window.shape[1])
            y = top + weights.sum(axis=1) @ np.arange(window.shape[0])
            refined[k] = x / _HEATMAP_SIZE, y / _HEATMAP_SIZE
    return refined


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -100, 100)))
