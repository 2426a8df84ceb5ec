"""What a system is watched by while it trains: sums over a data set that it does not learn from.

For watching a run and keeping its best weights. Published scores follow their protocols, which `kouros evaluate` knows.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from kouros.body.keypoints import LSP14, SPIN49
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.batch import Batch
from kouros.geometry.alignment import align
from kouros.geometry.cameras import SPIN_CROP_SIZE

# ---- any measure


@dataclass(frozen=True)
class Sum:
    """A score in the making, added up over batches and processes: the mean over its classes of ``total / count``.

    A mean over points has no classes: ``total`` adds up their errors, ``count`` says of how many. Of an IoU, ``total``
    counts each class's pixels in both maps, ``count`` those in either; of an F1, twice the hits, and all that was
    found and all that is there. Classes that were never counted do not enter.
    """

    total: Shaped[Tensor, "*classes"]
    count: Shaped[Tensor, "*classes"]
    said: str = ""
    """How it is printed, such as ``"MPJPE {:.1f} mm"``; by default its name and four digits."""

    @staticmethod
    def over(
        values: Shaped[Tensor, "*any"], where: Bool[Tensor, "*any"] | None = None, scale: float = 1.0, said: str = ""
    ) -> "Sum":
        """A mean over values, or over those of them that count.

        Args:
            scale: from the values' unit to that in which they are told.
        """
        kept = values if where is None else values[where]
        return Sum(kept.double().sum() * scale, torch.tensor(kept.numel(), device=kept.device), said)

    def __add__(self, other: "Sum") -> "Sum":
        return replace(self, total=self.total + other.total, count=self.count + other.count)

    @property
    def value(self) -> float | None:
        """The score; None where nothing was counted."""
        counted = self.count > 0
        if not bool(counted.any()):
            return None
        return float((self.total[counted].double() / self.count[counted].double()).mean())


@dataclass(frozen=True)
class Best:
    """A measure by which weights are the best."""

    name: str
    """As `kouros.systems.system.System.measures` has it."""
    which: Literal["least", "most"] = "least"

    def beats(self, score: float, before: float | None) -> bool:
        """Whether a score is better than the best before it."""
        if before is None:
            return True
        return score < before if self.which == "least" else score > before


# ---- of bodies

COMMON14 = (*(SPIN49.index(n) for n in LSP14.names if n != "head_top"), SPIN49.index("head_h36m"))
"""The 14 joints of the field's 3D scores, of SPIN's 49."""
_PELVIS = SPIN49.index("pelvis_mpii")


def body_measures(bodies: Bodies, batch: Batch, body: BodyModel) -> dict[str, Sum]:
    """3D errors where 3D is known (over `COMMON14`, each person counting by their points), and 2D errors.

    ``mpjpe``: pelvis to pelvis, and ``pa_mpjpe``: each person aligned by a similarity, millimetres; ``keypoints_2d``:
    pixels of a crop of 224, over all points of SPIN's 49 that are known, detected ones too.

    Args:
        bodies: what was predicted of the batch, in the nominal crop's space.
        body: their model, where they are.
    """
    predicted = keypoints_of(bodies.map(Tensor.float), body)
    joints, true = predicted.space[:, COMMON14], batch.keypoints_3d[:, COMMON14, :3]
    known = batch.keypoints_3d[:, COMMON14, 3] > 0
    # The batch's keypoints are relative to the pelvis already.
    apart = (joints - predicted.space[:, _PELVIS, None] - true).norm(dim=-1)
    enough = known.sum(dim=1) >= 3
    ours, theirs, counted = (t[enough] for t in (joints, torch.where(known[..., None], true, 0.0), known))
    aligned = align(ours, theirs, counted.to(ours)).apply(ours) if len(ours) else ours
    return {
        "mpjpe": Sum.over(apart, known, 1e3, "MPJPE {:.1f} mm"),
        "pa_mpjpe": Sum.over((aligned - theirs).norm(dim=-1), counted, 1e3, "PA-MPJPE {:.1f} mm"),
        "keypoints_2d": Sum.over(*errors_2d(predicted, batch), said="2D error {:.1f} px"),
    }


@dataclass(frozen=True)
class Keypoints:
    """Of `SPIN49`."""

    space: Float[Tensor, "batch 49 3"]
    """Camera axes, metres."""
    crop: Float[Tensor, "batch 49 2"]
    """In [-1, 1]."""


def keypoints_of(bodies: Bodies, body: BodyModel) -> Keypoints:
    """Where keypoints of bodies in the nominal crop's space are, and where they are seen."""
    space = bodies.keypoints_by(body, "spin49")
    return Keypoints(space - bodies.transl[:, None], 2 * bodies.camera.project(space) / SPIN_CROP_SIZE - 1)


def errors_2d(predicted: Keypoints, batch: Batch) -> tuple[Float[Tensor, "batch 49"], Bool[Tensor, "batch 49"]]:
    """Distances in the picture, pixels of a crop of 224, and where they are known; 0 elsewhere."""
    seen = batch.keypoints_2d[..., :2] * (SPIN_CROP_SIZE / batch.crop_size)
    valid = batch.keypoints_2d[..., 2] > 0
    distance = ((predicted.crop + 1) * (SPIN_CROP_SIZE / 2) - seen).norm(dim=-1)
    return torch.where(valid, distance, 0), valid
