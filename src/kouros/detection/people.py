"""A person found in an image: what every source of keypoints (built-in detector, files, boxes) returns."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from kouros.detection.regions import Region


@dataclass(frozen=True, eq=False)
class PersonMask:
    """How likely each pixel shows the person, kept at the landmark model's own resolution until asked for."""

    probability: UInt8[np.ndarray, "256 256"]
    """0 to 255, over ``region``."""
    region: Region

    @classmethod
    def from_logits(cls, logits: Float[np.ndarray, "256 256"], region: Region) -> "PersonMask":
        """The mask as the landmark model gives it."""
        probability = 255 / (1 + np.exp(-np.clip(logits, -30, 30)))
        return cls(np.round(probability).astype(np.uint8), region)

    @property
    def box(self) -> Float[np.ndarray, " 4"]:
        """Upright box (x0, y0, x1, y1) around the region, pixels of the image; the mask is zero outside."""
        corners = self.region.corners()
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)])

    def covers(self, points: Float[np.ndarray, "points 2"]) -> Bool[np.ndarray, " points"]:
        """Which points, pixels of the image, lie on the person."""
        size = self.probability.shape[0]
        cells = np.floor(self.region.to_crop(points) * size).astype(np.int64)
        inside = ((cells >= 0) & (cells < size)).all(axis=1)
        column, row = np.clip(cells, 0, size - 1).T
        return inside & (self.probability[row, column] >= 128)

    def in_image(self, height: int, width: int) -> UInt8[np.ndarray, "height width"]:
        """The mask over a whole image of that size, 0 to 255."""
        size = self.probability.shape[0]
        corners = self.region.to_image(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
        linear = np.stack([corners[1] - corners[0], corners[2] - corners[0]], axis=1) / size
        placed = np.column_stack([linear, corners[0] - 0.5])  # OpenCV counts from the first pixel's centre
        return cv2.warpAffine(self.probability, placed, (width, height))


@dataclass(frozen=True, eq=False)
class DetectedPerson:
    """One person's keypoints in an image."""

    box: Float[np.ndarray, " 4"]
    """x0, y0, x1, y1, pixels: around the visible keypoints with a margin, inside the image."""
    keypoints_2d: Float[np.ndarray, "keypoints 3"]
    """x, y in pixels of the whole image (points may lie outside), confidence in [0, 1]."""
    keypoint_set: str
    """Name in ``kouros.body.keypoints.KEYPOINT_SETS``."""
    score: float
    """In [0, 1]: that this is a person; the built-in detector counts how well its crops agree."""
    landmarks_3d: Float[np.ndarray, "33 3"] | None = None
    """Camera axes (x right, y down, z forward), metres, relative to the middle of the hips."""
    spread_2d: Float[np.ndarray, " keypoints"] | None = None
    """Standard deviation of a keypoint over the crops averaged, pixels (root of the sum over x and y)."""
    spread_3d: Float[np.ndarray, " 33"] | None = None
    """The same of ``landmarks_3d``, metres (root of the sum over x, y and z)."""
    mask: PersonMask | None = None
    depths: Float[np.ndarray, "17 2"] | None = None
    """How far beyond the middle of the hips the picture shows each of COCO's points, along the line of sight, and the
    expected absolute error: pixels of the image, as if a pixel were as deep as it is wide where the person is."""

    def trusted_keypoints(self, width: int, height: int) -> Float[np.ndarray, "keypoints 3"]:
        """The keypoints, those beyond the image's border with less confidence, since a network imagines them.

        Args:
            width: of the image, pixels.
            height: likewise.
        """
        keypoints = np.array(self.keypoints_2d, dtype=np.float64)
        inside = ((keypoints[:, :2] >= 0) & (keypoints[:, :2] <= [width, height])).all(axis=1)
        keypoints[~inside, 2] *= OUTSIDE_TRUST
        return keypoints


OUTSIDE_TRUST = 0.3
"""Share of its confidence that a point outside of the image keeps."""


def box_around(
    keypoints_2d: Float[np.ndarray, "keypoints 3"],
    width: float,
    height: float,
    *,
    min_confidence: float = 0.5,
    margin: float = 0.1,
) -> Float[np.ndarray, " 4"]:
    """Box around the keypoints that are confident and inside the image, pixels.

    ``margin`` of its longer side is added all round, since keypoints lie inside the body, then it is clipped
    to the image. With fewer than two such points, all those with any confidence count.
    """
    points, confidence = keypoints_2d[:, :2], keypoints_2d[:, 2]
    inside = ((points >= 0) & (points <= [width, height])).all(axis=1)
    use = inside & (confidence >= min_confidence)
    if use.sum() < 2:
        use = confidence > 0
    if not use.any():
        return np.array([0.0, 0.0, width, height])
    low, high = points[use].min(axis=0), points[use].max(axis=0)
    pad = margin * (high - low).max()
    limit = np.array([width, height], dtype=np.float64)
    return np.concatenate([np.clip(low - pad, 0, limit), np.clip(high + pad, 0, limit)])
