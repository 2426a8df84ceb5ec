"""What was seen of people, and how much of it a fit believes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from kouros.batched import Batched
from kouros.fitting.terms.keypoints import GemanMcClure, Landmarks, Reprojection, usable_keypoints
from kouros.geometry.cameras import PerspectiveCamera

MINOR_PARTS = frozenset(
    ("eye_inner", "eye", "eye_outer", "ear", "mouth", "pinky", "index", "thumb", "big_toe", "small_toe")
)
"""Keypoints that crowd on the face, the hands and the feet."""


@dataclass(frozen=True)
class Evidence(Batched):
    """What was seen of each person."""

    keypoints_2d: Float[Tensor, "batch points 3"]
    """Pixels and confidence in [0, 1]; confidence 0 means not seen."""
    keypoint_set: str
    camera: PerspectiveCamera
    landmarks_3d: Float[Tensor, "batch points 3"] | None = None
    """The same keypoints in camera axes, metres, up to a translation."""

    def cleaned(self) -> "Evidence":
        """The same, with confidence 0 where keypoints say nothing usable."""
        return replace(self, keypoints_2d=usable_keypoints(self.keypoints_2d))


@dataclass(frozen=True)
class EvidenceTerms:
    """Makes least-squares terms of evidence."""

    importance: Float[Tensor, " points"]
    """Of each keypoint against those of the limbs."""
    keypoint_sigma: float
    """Of a fully confident keypoint, in units of the person's size in the picture."""
    keypoint_outlier: float
    """Geman-McClure scale of the reprojection, in standard deviations."""
    landmark_outlier: float
    """The same for the landmarks."""
    landmark_scale: tuple[float, float]
    """Range of the factor between the landmarks' metre and ours."""

    def reprojection(self, evidence: Evidence, size: Float[Tensor, " batch"]) -> Reprojection:
        """Of the keypoints; ``size`` is each person's in the picture, pixels."""
        confidence = evidence.keypoints_2d[..., 2]
        return Reprojection(
            observed=evidence.keypoints_2d[..., :2],
            precision=confidence * self.importance.sqrt() / (self.keypoint_sigma * size[:, None]),
            camera=evidence.camera,
            robust=GemanMcClure(self.keypoint_outlier),
        )

    def landmarks(self, evidence: Evidence, sigma: tuple[float, float, float]) -> Landmarks:
        """Of the landmarks, which there must be; ``sigma`` along x, y and depth, metres."""
        assert evidence.landmarks_3d is not None
        # A landmark that was not seen is a guess from the others: keep some of it.
        trust = (0.2 + 0.8 * evidence.keypoints_2d[..., 2]) * self.importance.sqrt()
        return Landmarks(
            observed=evidence.landmarks_3d,
            precision=trust[..., None] / trust.new_tensor(sigma),
            robust=GemanMcClure(self.landmark_outlier),
            scale_range=self.landmark_scale,
        )


def importance_of(names: Sequence[str], minor_weight: float, like: Tensor) -> Float[Tensor, " points"]:
    """``minor_weight`` for keypoints that crowd, 1 for the others; with the type and device of ``like``."""
    minor = [name.split("_", 1)[-1] in MINOR_PARTS for name in names]
    return like.new_tensor([minor_weight if crowds else 1.0 for crowds in minor])


def person_size(keypoints_2d: Float[Tensor, "batch points 3"]) -> Float[Tensor, " batch"]:
    """Size of a person in the picture, pixels: four times the root mean square distance of its keypoints from their
    middle, about the height of somebody standing; at least 8."""
    weight = keypoints_2d[..., 2:]
    total = weight.sum(1).clamp(min=1e-9)
    centre = (weight * keypoints_2d[..., :2]).sum(1) / total
    spread = (weight * (keypoints_2d[..., :2] - centre[:, None]).square()).sum((1, 2)) / total[:, 0]
    return (4 * spread.sqrt()).clamp(min=8.0)
