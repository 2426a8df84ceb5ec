"""Fits inside the training loop (SPIN, Kolotouros et al., ICCV 2019, Sec. 3.4-3.5): fit from the network's estimate,
keep the better of that and the best fit so far, and say which fits are good enough to learn from.

Everything happens in SPIN's nominal picture, a crop of 224 pixels seen with a focal length of 5000, so that losses
and thresholds mean the same for crops of any size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.archives import ArchiveError, map_npy
from kouros.batched import Batched, concatenate
from kouros.body.keypoints import SPIN49
from kouros.body.model import BodyModel
from kouros.body.parameters import POSE_SIZE, BodyParameters
from kouros.fitting.schedules.fits_store import Augmentation, FitCriteria, Fits, FitsStore, Supervision
from kouros.fitting.schedules.placement import translation_to_see
from kouros.fitting.schedules.smplify import Smplify, SmplifyConfig, SmplifyResult
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.keypoints import GemanMcClure, usable_keypoints
from kouros.geometry.cameras import SPIN_CROP_SIZE, nominal_crop_camera
from kouros.priors.gmm import GaussianMixture, load_gmm

_NEAREST = 1.0
"""Metres: an estimate nearer than this, or behind the camera, is of its place a guess not worth starting from. A
person who fills the crop stands at some 50."""
_REWEIGHTINGS = 2
"""Rounds of robust weights in which a stored fit is placed."""


@dataclass(frozen=True)
class Photographed(Batched):
    """A batch as fits see it."""

    index: Int[Tensor, " batch"]
    """Rows of the store of fits."""
    keypoints_2d: Float[Tensor, "batch 49 3"]
    """Pixels of the crop and confidence; what is not finite is not seen."""
    crop_size: int
    augmentation: Augmentation

    @property
    def evidence(self) -> Evidence:
        """In the nominal crop."""
        seen = usable_keypoints(self.keypoints_2d)
        pixels = seen[..., :2] * (SPIN_CROP_SIZE / self.crop_size)
        return Evidence(torch.cat([pixels, seen[..., 2:]], dim=-1), SPIN49.name, nominal_crop_camera(len(seen), seen))


@dataclass(frozen=True)
class BestFits:
    """The best fit so far of each person in a batch, in the axes of the crop's camera."""

    supervision: Supervision
    """What may be learned from them."""
    loss: Float[Tensor, " batch"]
    """In this very crop: `kouros.fitting.schedules.smplify.SmplifyResult.reprojection_loss`; infinite without a fit."""
    improved: Bool[Tensor, " batch"]
    """Whose fit was found just now."""


@dataclass
class FitInTheLoop:
    """Fits of one body model, and the store of the best.

    Fits are made where the body is, best on the CPU, whose compiled loops finish before a GPU has begun its many small
    steps; batches may be anywhere, and answers are where the batch is.
    """

    body: BodyModel
    store: FitsStore
    prior: GaussianMixture = field(default_factory=load_gmm)
    config: SmplifyConfig = field(default_factory=SmplifyConfig)
    criteria: FitCriteria = field(default_factory=FitCriteria)

    def __post_init__(self) -> None:
        self._fitter = Smplify(self.body, SPIN49.name, self.prior, self.config)

    def improve(
        self, seen: Photographed, estimate: BodyParameters, skip: Bool[Tensor, " batch"] | None = None
    ) -> BestFits:
        """Fit from the network's estimate, keep what beats the best fit so far, and answer with the best.

        Both fits are measured in this very crop, as in SPIN: the loss depends on how large the person is in it.
        In a distributed job all processes must call this equally often.

        Args:
            seen: the batch.
            estimate: in camera axes, in front of the nominal crop's camera. Persons whose estimate is not finite
                are not fitted.
            skip: persons who need no fit, having better than that.
        """
        with self._exactly():
            here, evidence = self._here(seen)
            estimate = BodyParameters.from_vector(estimate.vector.to(self.body.v_template))
            stored, loss = self._stored(here, evidence)
            sensible = torch.isfinite(estimate.vector).all(-1) & self._is_seen(evidence)
            if skip is not None:
                sensible &= ~skip.to(sensible.device)
            rows = torch.nonzero(sensible).flatten()
            found = self._fit(evidence[rows], estimate[rows])
            better = self._keep(seen, rows, found, loss[rows])
        won, new = rows[better], found.parameters[better]
        best = Fits(
            stored.pose.index_copy(0, won, new.pose),
            stored.betas.index_copy(0, won, new.betas),
            loss.index_copy(0, won, found.reprojection_loss[better]),
        )
        return self._judged(best, torch.zeros_like(sensible).index_fill(0, won, True), seen)

    def recall(self, seen: Photographed) -> BestFits:
        """The best fits so far, without fitting anew: SPIN's "static fits"."""
        with self._exactly():
            stored, loss = self._stored(*self._here(seen))
        return self._judged(replace(stored, loss=loss), torch.zeros_like(loss, dtype=torch.bool), seen)

    def begin(self, seen: Photographed) -> None:
        """Give persons who have no fit their first, from the mean pose, by SMPLify's whole schedule.

        In a distributed job all processes must call this equally often.
        """
        with self._exactly():
            here, evidence = self._here(seen)
            rows = torch.nonzero(~self.store.read(here.index).exists & self._is_seen(evidence)).flatten()
            found = self._fitter.fit(evidence[rows]) if len(rows) else self._nothing()
            self._keep(seen, rows, found, None)

    def place(
        self, seen: Photographed, pose: Float[Tensor, "batch 72"], betas: Float[Tensor, "batch betas"]
    ) -> Float[Tensor, "batch 3"]:
        """Where bodies stand, metres, for their keypoints to be seen where they are, in the nominal crop's camera."""
        with self._exactly():
            like = self.body.v_template
            return self._placed(self._here(seen)[1], pose.to(like), betas.to(like)).to(pose)

    def _here(self, seen: Photographed) -> tuple[Photographed, Evidence]:
        like = self.body.v_template
        here = seen.to(like)
        return here, here.evidence

    def _fit(self, evidence: Evidence, estimate: BodyParameters) -> SmplifyResult:
        if len(evidence.keypoints_2d) == 0:
            return self._nothing()
        near = estimate.transl[:, 2:] < _NEAREST
        if bool(near.any()):
            transl = torch.where(near, self._placed(evidence, estimate.pose, estimate.betas), estimate.transl)
            estimate = replace(estimate, transl=transl)
        return self._fitter.refine(evidence, estimate)

    def _keep(
        self,
        seen: Photographed,
        rows: Int[Tensor, " some"],
        found: SmplifyResult,
        stored_loss: Float[Tensor, " some"] | None,
    ) -> Bool[Tensor, " some"]:
        """Store what is better, from where the batch is: that is where processes can exchange it."""
        there = rows.to(seen.index.device)
        fits = Fits(found.parameters.pose, found.parameters.betas, found.reprojection_loss).to(seen.keypoints_2d)
        return self.store.keep_better(seen.index[there], fits, seen.augmentation[there], stored_loss).to(rows.device)

    def _stored(self, seen: Photographed, evidence: Evidence) -> tuple[Fits, Float[Tensor, " batch"]]:
        """Stored fits and their losses in these crops."""
        stored = self.store.read(seen.index, seen.augmentation)
        transl = self._placed(evidence, stored.pose, stored.betas)
        measured = self._fitter.reprojection_loss(evidence, BodyParameters(stored.pose, stored.betas, transl))
        return stored, torch.where(stored.exists & self._is_seen(evidence), measured, torch.inf)

    def _judged(self, best: Fits, improved: Bool[Tensor, " batch"], seen: Photographed) -> BestFits:
        fits = best.to(seen.keypoints_2d)
        return BestFits(self.criteria.judge(fits), fits.loss, improved.to(seen.index.device))

    def _placed(
        self, evidence: Evidence, pose: Float[Tensor, "batch 72"], betas: Float[Tensor, "batch betas"]
    ) -> Float[Tensor, "batch 3"]:
        """Where bodies stand for their keypoints to be seen where they are: a fit's camera is not kept.

        Weighted as the fits' own objective, and as robust: else old fits would lose against new ones that are no
        better.
        """
        points = self._fitter.kinematics.points(BodyParameters(pose, betas, pose.new_zeros(len(pose), 3)))
        observed, camera = evidence.keypoints_2d[..., :2], evidence.camera
        weight = counted = self._counted(evidence)
        robust = GemanMcClure(self.config.sigma)
        for _ in range(_REWEIGHTINGS):
            transl = translation_to_see(points, observed, weight, camera)
            error = camera.project(points + transl[:, None]) - observed
            weight = counted * robust.weight(error.square().sum(-1))
        return translation_to_see(points, observed, weight, camera)

    def _counted(self, evidence: Evidence) -> Float[Tensor, "batch points"]:
        """How much each keypoint counts in a fit."""
        counted = evidence.keypoints_2d[..., 2].square()
        counted[:, [SPIN49.index(name) for name in self.config.ignored]] = 0.0
        return counted

    def _is_seen(self, evidence: Evidence) -> Bool[Tensor, " batch"]:
        """Who has any keypoint that counts: without, every fit is perfect."""
        return (self._counted(evidence) > 0).any(-1)

    def _nothing(self) -> SmplifyResult:
        none = self.body.v_template.new_zeros(0, POSE_SIZE + self.body.num_betas + 3)
        return SmplifyResult(BodyParameters.from_vector(none), none[:, 0], none[:, 0], none[:, 0].bool())

    @contextmanager
    def _exactly(self) -> Iterator[None]:
        """No gradients, and no half precision, which a training loop may have switched on."""
        with torch.no_grad(), torch.autocast(self.body.v_template.device.type, enabled=False):
            yield


def read_spin_fits(paths: Sequence[str | Path], count: int) -> FitsStore:
    """SPIN's ``<data set>_fits.npy`` files, one for each data set in the order in which they are mixed.

    Args:
        paths: of the files.
        count: samples of all data sets.

    Raises:
        ValueError: one is not such a file, or they have not as many rows as there are samples.
    """
    stores = [FitsStore.from_spin(path, _rows(path)) for path in paths]
    total = sum(map(len, stores))
    if total != count:
        raise ValueError(
            f"the fits of {', '.join(map(str, paths))} are of {total} samples, but the data sets have {count}; give "
            "one file for each data set, in the same order."
        )
    return FitsStore(concatenate([store.fits for store in stores]))


def _rows(path: str | Path) -> int:
    try:
        shape = map_npy(path).shape
    except ArchiveError as error:
        raise ValueError(f"{path} is not an array file ({error}); expected SPIN's fits, (N, 82).") from error
    return shape[0] if shape else 0
