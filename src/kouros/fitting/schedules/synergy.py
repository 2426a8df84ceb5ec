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
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.batched import Batched
from kouros.body.keypoints import keypoint_set
from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.fitting.linearization import Linearization, NormalEquations, Objective, Part, add_up, add_up_normal, on_all
from kouros.fitting.schedules.keypoint_fit import FitConfig
from kouros.fitting.solvers.conjugate_gradients import conjugate_gradients
from kouros.fitting.solvers.levenberg_marquardt import Solution, levenberg_marquardt
from kouros.fitting.terms.calibration import detector_tables
from kouros.fitting.terms.densepose import DenseEvidence, SurfaceKinematics
from kouros.fitting.terms.evidence import Evidence, importance_of, person_size
from kouros.fitting.terms.keypoints import GemanMcClure, Reprojection
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.fitting.terms.objective import BodyObjective
from kouros.fitting.terms.priors import on_betas
from kouros.priors.gmm import GaussianMixture
from kouros.priors.limits import load_limits
from kouros.priors.shape import ShapeBound


@dataclass(frozen=True)
class SynergyConfig:
    """Standard deviations of the evidence and strengths of the priors."""

    keypoints: FitConfig = field(default_factory=FitConfig)
    """Of 2D and 3D keypoints, and of the priors, as in the default fit."""
    dense_sigma: float = 0.012
    """Of a dense point, in units of the person's size in the picture."""
    dense_outlier: float = 6.0
    """Geman-McClure scale of the dense points, in standard deviations."""
    dense_total: float = 40.0
    """What all dense points of a person count together, in points: their errors are not independent."""
    reprojection: bool = True
    """Off, 2D keypoints only say how large people are in the picture (the paper's Table 3)."""
    beta_bound: float = 2.0
    """``b`` of ``L_beta``, the paper's value."""
    beta_weight: float = 10.0
    """Of a beta's excess over the bound, squared."""
    iterations: int = 20
    """The paper's limit."""


@dataclass(frozen=True)
class Cues(Batched):
    """All that is known of each person's picture."""

    evidence: Evidence
    """2D keypoints and, where there are any, 3D ones."""
    dense: DenseEvidence | None = None

    def cleaned(self) -> "Cues":
        """The same, with confidence 0 where keypoints say nothing usable."""
        return replace(self, evidence=self.evidence.cleaned())


@dataclass(frozen=True)
class SynergyResult:
    """Refined bodies."""

    parameters: BodyParameters
    cost: Float[Tensor, " batch"]
    """The full objective: comparable between fits of the same cues."""


@dataclass
class Synergy:
    """Fits one body model to cues with keypoints of one set; make it once, use it for many batches."""

    body: BodyModel
    set_name: str
    prior: GaussianMixture
    config: SynergyConfig = field(default_factory=SynergyConfig)
    points: tuple[int, ...] | None = None
    """Which of the set's keypoints the cues have; default: all."""

    def __post_init__(self) -> None:
        tables = detector_tables(self.body.keypoint_tables(self.set_name), self.set_name)
        names = keypoint_set(self.set_name).names
        if self.points is not None:
            tables, names = tables.only(self.points), tuple(names[point] for point in self.points)
        self.kinematics = KeypointKinematics(self.body, self.set_name, tables)
        self.surface = SurfaceKinematics(self.body)
        self.prior = self.prior.to(self.body.v_template)
        self.limits = load_limits().to(self.body.v_template)
        config = self.config.keypoints
        self._terms = config.terms(importance_of(names, config.minor_weight, self.body.v_template))

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
        cues = cues.cleaned()
        if solver == "conjugate_gradients":
            with torch.no_grad():
                solution = conjugate_gradients(
                    self.residuals(cues), start.vector, iterations=limit, free=self._free(cues, start)
                )
        else:
            solution = levenberg_marquardt(
                self.objective(cues),
                start.vector,
                max_iterations=limit,
                free=self._free(cues, start),
                narrow=lambda persons: self.objective(cues[persons]),
            )
        return SynergyResult(BodyParameters.from_vector(solution.unknowns).canonical(), solution.cost)

    def layer(self, cues: Cues, start: BodyParameters, iterations: int | None = None) -> Solution:
        """The recurrent layer: always as many iterations, with gradients to the start and to all that was seen."""
        limit = self.config.iterations if iterations is None else iterations
        cues = cues.cleaned()
        return conjugate_gradients(self.residuals(cues), start.vector, iterations=limit, free=self._free(cues, start))

    def _free(self, cues: Cues, start: BodyParameters) -> Bool[Tensor, " unknowns"] | None:
        """All unknowns; but where nothing is seen in the picture nothing tells the place, which then stays."""
        if self.config.reprojection or cues.dense is not None:
            return None
        free = torch.ones(start.size, dtype=torch.bool, device=start.pose.device)
        free[-3:] = False
        return free

    def objective(self, cues: Cues) -> Objective:
        """The full objective for `levenberg_marquardt`; of cues that are `Cues.cleaned`."""
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
        of_keypoints = BodyObjective(
            self.kinematics,
            self.prior,
            self._terms.reprojection(evidence, size) if config.reprojection else None,
            None if evidence.landmarks_3d is None else self._terms.landmarks(evidence, config.keypoints.landmark_sigma),
            limits=self.limits,
            mixture_weight=config.keypoints.pose_prior,
            shape_weight=config.keypoints.shape_prior,
        )
        on_skin = None if dense is None else self._dense(dense, evidence, size)
        # The paper prints L_beta = sum_i max(0, b - |beta_i|), which would push betas outwards: the sign is turned
        # here, so that it bounds them as its text says, and the excess is squared.
        bound = ShapeBound(config.beta_bound)

        def parts(unknowns: Tensor) -> list[Part]:
            parameters = BodyParameters.from_vector(unknowns)
            found = of_keypoints.terms(unknowns)
            found.append(on_betas(bound.energy(parameters.betas).weighted(config.beta_weight)))
            if on_skin is not None and dense is not None:
                skin = on_skin(self.surface.linearize(dense.surface, parameters))
                found.append((slice(0, parameters.size), skin))
            return found

        return parts

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
