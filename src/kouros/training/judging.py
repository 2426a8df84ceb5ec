"""Judges a system while it trains, on data that it does not learn from: 3D errors where 3D is known, 2D errors.

This is for watching a run and keeping its best weights. Published scores follow their protocols, which
`kouros evaluate` knows.
"""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.body.keypoints import LSP14, SPIN49
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.batch import Batch
from kouros.data.sources import Source
from kouros.evaluation.metrics.accumulate import MPJPE, MeanError, ProcrustesMPJPE
from kouros.geometry.cameras import SPIN_CROP_SIZE
from kouros.systems.estimator import CropNetwork
from kouros.training.steps import plain_batches

COMMON14 = (*(SPIN49.index(n) for n in LSP14.names if n != "head_top"), SPIN49.index("head_h36m"))
"""The 14 joints of the field's 3D scores, of SPIN's 49."""
_PELVIS = SPIN49.index("pelvis_mpii")


@dataclass(frozen=True)
class Scores:
    """Means over a data set; None where it does not know what that takes."""

    mpjpe: float | None
    """Millimetres, over `COMMON14`, pelvis to pelvis."""
    pa_mpjpe: float | None
    """Millimetres, over `COMMON14`, each person aligned by a similarity."""
    keypoints_2d: float | None
    """Distance in pixels of a 224-pixel crop, over all points of SPIN's 49 that are known, detected ones too."""

    @property
    def decisive(self) -> float | None:
        """What the best weights have least of."""
        return next((s for s in (self.pa_mpjpe, self.mpjpe, self.keypoints_2d) if s is not None), None)

    def __str__(self) -> str:
        parts = (("MPJPE", self.mpjpe, "mm"), ("PA-MPJPE", self.pa_mpjpe, "mm"), ("2D error", self.keypoints_2d, "px"))
        return ", ".join(f"{name} {value:.1f} {unit}" for name, value, unit in parts if value is not None)


class Judge:
    """Holds a data set; every process judges its share, and all learn the scores of the whole."""

    def __init__(self, source: Source, body: BodyModel, crop_size: int, batch_size: int, workers: int) -> None:
        self._source = source
        # A copy, since it goes to the device of what is judged; whoever gave it may need it where it is.
        self._body = copy.deepcopy(body)
        self._crop_size = crop_size
        self._batch_size = batch_size
        self._workers = workers

    def __call__(self, system: CropNetwork, device: torch.device, rank: int = 0, world: int = 1) -> Scores:
        """Scores of the system. All processes must call this equally often."""
        self._body.to(device)
        mpjpe, pa_mpjpe, keypoints_2d = metrics = MPJPE(), ProcrustesMPJPE(), MeanError()
        for metric in metrics:
            metric.to(device)
        rows = range(rank, len(self._source), world)
        for batch in plain_batches(self._source, rows, self._crop_size, self._batch_size, self._workers):
            batch = batch.to(device)
            bodies = system.predict(batch.image).bodies
            assert bodies is not None
            predicted = keypoints_of(bodies.map(Tensor.float), self._body)
            keypoints_2d.update(*errors_2d(predicted, batch))
            ours, theirs = predicted.space, batch.keypoints_3d[..., :3]
            known = batch.keypoints_3d[:, COMMON14, 3] > 0
            some, enough = (known.sum(dim=1) >= n for n in (1, 3))
            # The batch's keypoints are relative to the pelvis already.
            roots = {"predicted_root": ours[some, _PELVIS], "target_root": torch.zeros_like(theirs[some, _PELVIS])}
            mpjpe.update(ours[some][:, COMMON14], theirs[some][:, COMMON14], known[some], **roots)
            pa_mpjpe.update(ours[enough][:, COMMON14], theirs[enough][:, COMMON14], known[enough])
        return Scores(_computed(mpjpe, 1e3), _computed(pa_mpjpe, 1e3), _computed(keypoints_2d, 1.0))


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


def _computed(metric: MeanError, scale: float) -> float | None:
    try:
        return scale * float(metric.compute())
    except ValueError:  # none of the data set's people has such points
        return None
