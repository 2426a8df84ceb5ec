"""Neural Body Fitting's camera (Omran et al., 3DV 2018, Sec. 4.2, "Scale ambiguity"): a layer that nothing moves.

It looks along z at bodies that are always equally far away, so that a body's betas alone say how large it appears. A
crop is brought to what the camera sees by a scale and a shift: of known bodies by where their points are in it, of
others by how long their limbs are.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from kouros.batched import Batched
from kouros.body.keypoints import KeypointSet, keypoint_set
from kouros.body.model import BodyModel
from kouros.geometry.cameras import SPIN_CROP_SIZE, SPIN_FOCAL_LENGTH, nominal_crop_camera

STANDING = 440 / 512
"""Share of the picture's side that a standing person of the mean shape is high: what the paper makes test crops by."""
_LIMBS = (
    ("ankle", "knee"), ("knee", "hip"), ("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"),
)  # fmt: skip
_LONGEST = 3
"""Limbs, by their length in the picture over that of the mean body, whose mean says how large the mean body would be.
Of mocap-like poses from all sides it is off by 1 % in the mean, and varies by 7 %, people's heights by 6 %."""


@dataclass(frozen=True)
class Placement(Batched):
    """Where in the fixed camera's picture the crop's content belongs; both in crop coordinates, -1 to 1."""

    scale: Float[Tensor, " batch"]
    offset: Float[Tensor, "batch 2"]

    def points(self, crop: Float[Tensor, "batch points 2"]) -> Float[Tensor, "batch points 2"]:
        """Points of the crop in the fixed picture."""
        return self.scale[:, None, None] * crop + self.offset[:, None]

    def points_back(self, fixed: Float[Tensor, "batch points 2"]) -> Float[Tensor, "batch points 2"]:
        """Inverse of `points`."""
        return (fixed - self.offset[:, None]) / self.scale[:, None, None]

    def keypoints(self, crop: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 3"]:
        """Likewise, of points with a confidence."""
        return torch.cat([self.points(crop[..., :2]), crop[..., 2:]], dim=-1)

    def picture(
        self, crop: Float[Tensor, "batch channels rows columns"], size: int, *, labels: bool = False
    ) -> Float[Tensor, "batch channels size size"]:
        """What the fixed camera sees; 0 beyond the crop. Of labels the nearest, of all else bilinear means."""
        at = (torch.arange(size, dtype=crop.dtype, device=crop.device) + 0.5) * (2 / size) - 1
        grid = torch.stack(torch.meshgrid(at, at, indexing="xy"), dim=-1).expand(len(crop), -1, -1, -1)
        grid = (grid - self.offset[:, None, None]) / self.scale[:, None, None, None]
        return grid_sample(crop, grid, mode="nearest" if labels else "bilinear", align_corners=False)

    def camera(self, per_metre: float, translation: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 3"]:
        """Weak perspective over the crop of bodies that the fixed camera sees moved by ``translation``, metres."""
        scale = per_metre / self.scale
        return torch.cat([scale[:, None], translation - self.offset / per_metre], dim=-1)


class FixedCamera:
    """The camera, and the mean body that stands before it.

    The camera looks along z from where nothing ever moves, at bodies that are always equally far away: where a standing
    person of the mean shape is `STANDING` of the picture high. Its focal length is the nominal crop's, 5000 pixels on
    224, so that perspective hardly shows and what is seen is what `Regressed` means.
    """

    def __init__(self, body: BodyModel) -> None:
        height = body.v_template[:, 1].max() - body.v_template[:, 1].min()
        self.per_metre = 2 * STANDING / float(height)
        """Crop coordinates."""
        self.depth = 2 * SPIN_FOCAL_LENGTH / (SPIN_CROP_SIZE * self.per_metre)
        """Of the body's origin, metres."""
        self._limbs: dict[str, tuple[list[int], list[int], Tensor]] = {}
        for name in body.keypoint_sets:
            points = body.keypoint_positions(name, betas=body.v_template.new_zeros(1, body.num_betas))[0]
            starts, ends = _limbs(keypoint_set(name))
            self._limbs[name] = starts, ends, (points[starts] - points[ends]).norm(dim=-1)

    def project(self, points: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points 2"]:
        """Eq. 5's ``pi``: crop coordinates of points relative to the body's origin, metres, camera axes."""
        away = points + points.new_tensor([0.0, 0.0, self.depth])
        pixels = nominal_crop_camera(len(points), points).project(away)
        return 2 * pixels / SPIN_CROP_SIZE - 1

    def by_keypoints(self, keypoints: Float[Tensor, "batch points 3"], name: str) -> Placement:
        """As at test time: the crop's scale from the longest of the limbs seen, its middle from all keypoints.

        Args:
            keypoints: x, y in crop coordinates, and confidence; who has no limbs keeps the crop's own scale.
            name: of their set.
        """
        starts, ends, lengths = self._limbs[name]
        seen = keypoints[..., 2] > 0
        known = seen[:, starts] & seen[:, ends]
        pixels = (keypoints[:, starts, :2] - keypoints[:, ends, :2]).norm(dim=-1)
        ratios = torch.where(known, pixels / lengths.to(pixels), 0.0)
        longest, _ = ratios.topk(min(_LONGEST, len(starts)), dim=1)
        count = (longest > 0).sum(1)
        per_metre = longest.sum(1) / count.clamp(min=1)
        scale = torch.where(count > 0, self.per_metre / per_metre.clamp(min=1e-6), 1.0)
        return _centred(scale, keypoints)

    def by_body(self, keypoints: Float[Tensor, "batch points 3"], space: Float[Tensor, "batch points 3"]) -> Placement:
        """As in training: the crop's scale from where the true body's points are in it.

        Args:
            keypoints: x, y in crop coordinates, and confidence.
            space: the same points of the true body, metres, camera axes.
        """
        weight = keypoints[..., 2:] / keypoints[..., 2].sum(1)[:, None, None].clamp(min=1e-6)
        flat, seen = space[..., :2], keypoints[..., :2]
        flat = flat - (weight * flat).sum(1, keepdim=True)
        seen = seen - (weight * seen).sum(1, keepdim=True)
        per_metre = (weight * flat * seen).sum((1, 2)) / (weight * flat * flat).sum((1, 2)).clamp(min=1e-6)
        # A hundredth of the picture per metre is nobody: points that say nothing.
        scale = torch.where(per_metre > 0.01, self.per_metre / per_metre.clamp(min=0.01), 1.0)
        return _centred(scale, keypoints)


def _limbs(points: KeypointSet) -> tuple[list[int], list[int]]:
    """Places of both ends of those of `_LIMBS` that a set has on either side."""
    starts, ends = [], []
    for side in ("left", "right"):
        for pair in _LIMBS:
            found = [_place(points, f"{side}_{joint}") for joint in pair]
            if found[0] is not None and found[1] is not None:
                starts.append(found[0])
                ends.append(found[1])
    return starts, ends


def _place(points: KeypointSet, joint: str) -> int | None:
    return next((points.index(name) for name in (joint, f"{joint}_lsp") if name in points.names), None)


def _centred(scale: Float[Tensor, " batch"], keypoints: Float[Tensor, "batch points 3"]) -> Placement:
    """With the middle of the box around the known keypoints in the middle of the picture."""
    seen = keypoints[..., 2:] > 0
    low = torch.where(seen, keypoints[..., :2], torch.inf).amin(1)
    high = torch.where(seen, keypoints[..., :2], -torch.inf).amax(1)
    middle = torch.where(seen.any(1), (low + high) / 2, 0.0)
    return Placement(scale, -scale[:, None] * middle)


def unplaced(image: Float[Tensor, "batch channels rows columns"]) -> Placement:
    """Crops of which nothing more is known: taken for what the fixed camera sees."""
    return Placement(image.new_ones(len(image)), image.new_zeros(len(image), 2))
