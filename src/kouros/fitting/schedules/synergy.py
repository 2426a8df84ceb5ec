"""HoloPose's synergy: one body that agrees with 2D keypoints, 3D keypoints and DensePose at once.

Güler and Kokkinos, CVPR 2019, Sec. 4: a network's estimate is refined by minimizing the sum of its disagreements with
the other predictions, plus a bound on the betas, by at most 20 iterations of conjugate gradients that run as a layer
of the network. Levenberg-Marquardt on the same objective is the alternative where nothing has to be learned through
the fit.

Where this differs from the paper: cameras are perspective, not orthographic; distances are Geman-McClure's, not L1,
because both its solver and ours want squares; terms are in standard deviations, because the paper gives no weights
("the sum of the above losses"); and priors of pose stand in for the paper's mixture of rotation experts, which keeps
its poses plausible by construction.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.keypoints import keypoint_set
from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.fitting.linearization import Linearization, NormalEquations, Objective, Part, add_up, add_up_normal, on_all
from kouros.fitting.schedules.keypoint_fit import MINOR_PARTS, Evidence, FitConfig, person_size
from kouros.fitting.solvers.conjugate_gradients import conjugate_gradients
from kouros.fitting.solvers.levenberg_marquardt import Solution, levenberg_marquardt
from kouros.fitting.terms.calibration import detector_tables
from kouros.fitting.terms.densepose import DenseEvidence, SurfaceKinematics
from kouros.fitting.terms.keypoints import GemanMcClure, Landmarks, Reprojection, usable_keypoints
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.fitting.terms.priors import on_betas, on_body_pose
from kouros.priors.energy import PriorEnergy, diagonal, sum_of_squares
from kouros.priors.gmm import GaussianMixture
from kouros.priors.limits import load_limits
from kouros.priors.shape import ShapePrior


@dataclass(frozen=True)
class SynergyConfig:
    """Standard deviations of the evidence and strengths of the priors."""

    keypoints: FitConfig = field(default_factory=FitConfig)
    """Of 2D and 3D keypoints, and of the priors, as in the default fit."""
    landmark_scale: tuple[float, float] = (0.85, 1.2)
    """Range of the factor between the 3D keypoints' metre and ours."""
    dense_sigma: float = 0.012
    """Of a dense point, in units of the person's size in the picture."""
    dense_outlier: float = 6.0
    """Geman-McClure scale of the dense points, in standard deviations."""
    dense_total: float = 40.0
    """What all dense points of a person count together, in points: their errors are not independent."""
    beta_bound: float = 2.0
    """``b`` of ``L_beta``, the paper's value."""
    beta_weight: float = 10.0
    """Of a beta's excess over the bound, squared."""
    iterations: int = 20
    """The paper's limit."""


@dataclass(frozen=True)
class Cues:
    """All that is known of each person's picture."""

    evidence: Evidence
    """2D keypoints and, where there are any, 3D ones."""
    dense: DenseEvidence | None = None

    def __getitem__(self, items: Tensor) -> "Cues":
        return Cues(self.evidence[items], None if self.dense is None else self.dense[items])


@dataclass(frozen=True)
class SynergyResult:
    """Refined bodies."""

    parameters: BodyParameters
    cost: Float[Tensor, " batch"]
    """The full objective: comparable between fits of the same cues."""


def beta_bound(betas: Float[Tensor, "batch betas"], bound: float, weight: float) -> PriorEnergy:
    """``1/2 weight sum_i max(0, |beta_i| - bound)^2``.

    The paper prints ``L_beta = sum_i max(0, b - |beta_i|)``, which would push betas outwards: the sign is turned
    here, so that it bounds them as its text says, and the excess is squared.
    """
    excess = weight**0.5 * (betas.abs() - bound).clamp(min=0.0)
    outside = weight**0.5 * torch.where(betas.abs() > bound, betas.sign(), 0.0)
    return sum_of_squares(excess, diagonal(outside))


@dataclass
class Synergy:
    """Fits one body model to cues with keypoints of one set; make it once, use it for many batches."""

    body: BodyModel
    set_name: str
    prior: GaussianMixture
    config: SynergyConfig = field(default_factory=SynergyConfig)

    def __post_init__(self) -> None:
        tables = detector_tables(self.body.keypoint_tables(self.set_name), self.set_name)
        self.kinematics = KeypointKinematics(self.body, self.set_name, tables)
        self.surface = SurfaceKinematics(self.body)
        self.prior = self.prior.to(self.body.v_template)
        self.limits = load_limits().to(self.body.v_template)
        names = keypoint_set(self.set_name).names
        minor = torch.tensor([name.split("_", 1)[-1] in MINOR_PARTS for name in names])
        self._importance = torch.where(minor, self.config.keypoints.minor_weight, 1.0).to(self.body.v_template)

    def refine(
        self,
        cues: Cues,
        start: BodyParameters,
        *,
        solver: Literal["conjugate_gradients", "levenberg_marquardt"] = "levenberg_marquardt",
        iterations: int | None = None,
    ) -> SynergyResult:
        """Make estimates agree with the cues.

        Args:
            start: of the same persons, in camera space.
            iterations: default: the configuration's.

        Raises:
            ValueError: the start is not finite.
        """
        limit = self.config.iterations if iterations is None else iterations
        cues = cleaned(cues)
        if solver == "conjugate_gradients":
            with torch.no_grad():
                solution = conjugate_gradients(self.residuals(cues), start.vector, iterations=limit)
        else:
            solution = levenberg_marquardt(
                self.objective(cues),
                start.vector,
                max_iterations=limit,
                narrow=lambda persons: self.objective(cues[persons]),
            )
        return SynergyResult(BodyParameters.from_vector(solution.unknowns).canonical(), solution.cost)

    def layer(self, cues: Cues, start: BodyParameters, iterations: int | None = None) -> Solution:
        """The recurrent layer: always as many iterations, with gradients to the start and to all that was seen."""
        limit = self.config.iterations if iterations is None else iterations
        return conjugate_gradients(self.residuals(cleaned(cues)), start.vector, iterations=limit)

    def objective(self, cues: Cues) -> Objective:
        """The full objective for `levenberg_marquardt`; of cues that are `cleaned`."""
        parts = self._parts(cues)

        def normal_equations(unknowns: Tensor) -> NormalEquations:
            return add_up_normal(parts(unknowns), unknowns.shape[-1])

        return normal_equations

    def residuals(self, cues: Cues) -> Callable[[Float[Tensor, "batch unknowns"]], Linearization]:
        """The same as residuals, for `conjugate_gradients`."""
        parts = self._parts(cues)

        def linearize(unknowns: Tensor) -> Linearization:
            return add_up([on_all(part, unknowns.shape[-1]) for part in parts(unknowns)])

        return linearize

    def _parts(self, cues: Cues) -> Callable[[Tensor], list[Part]]:
        evidence, dense, config = cues.evidence, cues.dense, self.config
        size = _size_in_picture(cues)
        terms: list[Reprojection | Landmarks] = [self._reprojection(evidence, size)]
        if evidence.landmarks_3d is not None:
            terms.append(self._landmarks(evidence))
        on_skin = None if dense is None else self._dense(dense, evidence, size)

        def parts(unknowns: Tensor) -> list[Part]:
            parameters = BodyParameters.from_vector(unknowns)
            everything = slice(0, parameters.size)
            keypoints = self.kinematics.linearize(parameters)
            found: list[Part] = [(everything, term(keypoints)) for term in terms]
            if on_skin is not None and dense is not None:
                found.append((everything, on_skin(self.surface.linearize(dense.surface, parameters))))
            pose, betas = parameters.pose[:, 3:], parameters.betas
            return [
                *found,
                on_body_pose(self.prior.energy(pose).weighted(config.keypoints.pose_prior)),
                on_body_pose(self.limits.energy(pose)),
                on_betas(ShapePrior().energy(betas).weighted(config.keypoints.shape_prior)),
                on_betas(beta_bound(betas, config.beta_bound, config.beta_weight)),
            ]

        return parts

    def _reprojection(self, evidence: Evidence, size: Tensor) -> Reprojection:
        confidence = evidence.keypoints_2d[..., 2] * self._importance.sqrt()
        return Reprojection(
            observed=evidence.keypoints_2d[..., :2],
            precision=confidence / (self.config.keypoints.keypoint_sigma * size[:, None]),
            camera=evidence.camera,
            robust=GemanMcClure(self.config.keypoints.keypoint_outlier),
        )

    def _landmarks(self, evidence: Evidence) -> Landmarks:
        assert evidence.landmarks_3d is not None
        # A landmark that was not seen is a guess from the others: keep some of it.
        trust = (0.2 + 0.8 * evidence.keypoints_2d[..., 2]) * self._importance.sqrt()
        return Landmarks(
            observed=evidence.landmarks_3d,
            precision=trust[..., None] / trust.new_tensor(self.config.keypoints.landmark_sigma),
            robust=GemanMcClure(self.config.keypoints.landmark_outlier),
            scale_range=self.config.landmark_scale,
        )

    def _dense(self, dense: DenseEvidence, evidence: Evidence, size: Tensor) -> Reprojection:
        count = dense.confidence.sum(-1, keepdim=True)
        share = (self.config.dense_total / count.clamp(min=1e-9)).clamp(max=1.0)
        return Reprojection(
            observed=dense.pixels,
            precision=dense.confidence / (self.config.dense_sigma * size[:, None]),
            camera=evidence.camera,
            robust=GemanMcClure(self.config.dense_outlier),
            weight=share.expand_as(dense.confidence),
        )


def _size_in_picture(cues: Cues) -> Float[Tensor, " batch"]:
    """Of each person, pixels, by the keypoints; by the dense points where no keypoint was seen."""
    keypoints, dense = cues.evidence.keypoints_2d, cues.dense
    size = person_size(keypoints)
    if dense is None:
        return size
    by_skin = person_size(torch.cat([dense.pixels, dense.confidence[..., None]], dim=-1))
    return torch.where((keypoints[..., 2] > 0).any(-1), size, by_skin)


def cleaned(cues: Cues) -> Cues:
    """The same cues, with confidence 0 where keypoints say nothing usable."""
    return replace(cues, evidence=replace(cues.evidence, keypoints_2d=usable_keypoints(cues.evidence.keypoints_2d)))
