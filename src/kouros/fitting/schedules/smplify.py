"""SMPLify's schedule, and SPIN's shorter one, on second-order steps over joints instead of Adam over a mesh.

SMPLify (Bogo et al., ECCV 2016, Sec. 3.2-3.3): from the mean pose, first the camera (translation and the
body's orientation, from the torso), then pose and shape in four stages of weakening priors. SPIN
(Kolotouros et al., ICCV 2019, Sec. 3.3, Eq. 2) starts from a network's estimate and needs only the last
stage. The objective is the published one, in its units: squared pixels. The interpenetration term is left
out, as in SPIN.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.batched import Batched, choose
from kouros.body.keypoints import KeypointSet, keypoint_set
from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.fitting.linearization import Linearization, add_up, on_all
from kouros.fitting.schedules.placement import translation_to_see
from kouros.fitting.solvers.minimize import FAR_DAMPING, NEAR_DAMPING, costs, minimize
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.keypoints import GemanMcClure, Reprojection
from kouros.fitting.terms.kinematics import KeypointKinematics, shortest
from kouros.fitting.terms.objective import BodyObjective
from kouros.fitting.terms.priors import KnownDepth
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.gmm import GaussianMixture

_PLAIN_SQUARES = GemanMcClure(1e4)
"""Pixels at which a torso keypoint of the camera stage, which the paper does not make robust, is an
outlier."""


@dataclass(frozen=True)
class Stage:
    """Weights of the terms; each is squared before it multiplies, as in the published code."""

    pose_prior: float
    """Of the mixture's energy (``lambda_theta``)."""
    shape_prior: float
    """Of the betas (``lambda_beta``)."""

    @property
    def angle_prior(self) -> float:
        """Of ``exp`` of the angles of knees and elbows; 15.2 in the last stage, and SPIN's ``lambda_a``."""
        return 3.17 * self.pose_prior


SMPLIFY_STAGES = (Stage(404.0, 100.0), Stage(404.0, 50.0), Stage(57.4, 10.0), Stage(4.78, 5.0))
"""Weights of SMPLify's published code; the last are SPIN's only ones."""


@dataclass(frozen=True)
class SmplifyConfig:
    """What the papers fix, and the lengths of our stages."""

    sigma: float = 100.0
    """Geman-McClure scale of the reprojection, pixels."""
    depth_weight: float = 100.0
    """Of the camera stage's depth, per metre."""
    stages: tuple[Stage, ...] = SMPLIFY_STAGES
    ignored: tuple[str, ...] = (
        "openpose_neck", "right_openpose_hip", "left_openpose_hip", "right_hip_lsp", "left_hip_lsp",
    )  # fmt: skip
    """Keypoints left out after the camera stage: SPIN's, which the data sets place too differently."""
    camera_iterations: int = 10
    body_iterations: int = 20
    """Of each stage but the last."""
    last_iterations: int = 40
    tolerance: float = 1e-3
    """A stage ends when a step lowers the objective by less than this share of it."""
    hold_translation: bool = False
    """Whether the translation stays as the camera stage leaves it, as published. Moving it too costs nothing
    here and can only lower the objective."""
    try_both_sides: bool = True
    """Start also turned by half, and keep the better: SMPLify does so where the shoulders look narrow."""


@dataclass(frozen=True)
class SmplifyResult(Batched):
    """Fitted bodies and what the papers judge them by."""

    parameters: BodyParameters
    objective: Float[Tensor, " batch"]
    """SPIN's Eq. 2, up to a constant of the mixture."""
    reprojection_loss: Float[Tensor, " batch"]
    """Robust, confidence-weighted, mean over all keypoints, squared pixels: SPIN accepts a fit below 100."""
    has_evidence: Bool[Tensor, " batch"]
    """False where nothing was seen: the body is the prior's mean, and its place is arbitrary."""


@dataclass
class Smplify:
    """Fits one body model to keypoints of one set; make it once, use it for many batches."""

    body: BodyModel
    set_name: str
    prior: GaussianMixture
    config: SmplifyConfig = field(default_factory=SmplifyConfig)

    def __post_init__(self) -> None:
        self.keypoints: KeypointSet = keypoint_set(self.set_name)
        self.kinematics = KeypointKinematics(self.body, self.set_name)
        self.prior = self.prior.to(self.body.v_template)
        names = self.keypoints.names
        self._torso = [i for i, n in enumerate(names) if _part(n) in ("hip", "shoulder")]
        self._ignored = [names.index(n) for n in self.config.ignored if n in names]

    def fit(self, evidence: Evidence) -> SmplifyResult:
        """SMPLify: from the mean pose, camera and four stages."""
        evidence = evidence.cleaned()
        begin = self._mean_body(len(evidence.keypoints_2d))
        if not self.config.try_both_sides:
            return self._run(evidence, begin, self.config.stages)
        sides = [self._run(evidence, b, self.config.stages) for b in (begin, _turned(begin))]
        return _better(*sides)

    def refine(self, evidence: Evidence, start: BodyParameters) -> SmplifyResult:
        """SPIN: from an estimate with its camera, the camera stage and the last body stage.

        Args:
            evidence: of the same persons.
            start: a network's estimate, in camera space.

        Raises:
            ValueError: the start is not finite.
        """
        finite = torch.isfinite(start.vector).all(-1)
        if not bool(finite.all()):
            bad = torch.nonzero(~finite).flatten().tolist()
            raise ValueError(f"the estimates of items {bad} are not finite; leave those persons out.")
        return self._run(evidence.cleaned(), start, self.config.stages[-1:], place=False)

    def objective(self, evidence: Evidence, parameters: BodyParameters) -> Float[Tensor, " batch"]:
        """SPIN's Eq. 2 with the last stage's weights, up to a constant of the mixture."""
        return 2 * costs(self.stage_objective(evidence.cleaned(), self.config.stages[-1]), parameters.vector)

    def reprojection_loss(self, evidence: Evidence, parameters: BodyParameters) -> Float[Tensor, " batch"]:
        """SPIN's measure of a fit: robust, confidence-weighted, mean over all keypoints, squared pixels."""
        seen = BodyObjective(self.kinematics, self.prior, self._reprojection(evidence.cleaned()))
        return 2 * costs(seen, parameters.vector) / len(self.keypoints)

    def _run(
        self, evidence: Evidence, begin: BodyParameters, stages: tuple[Stage, ...], place: bool = True
    ) -> SmplifyResult:
        at = self._camera_stage(evidence, begin, place)
        for stage in stages[:-1]:
            at = self._body_stage(evidence, at, stage, self.config.body_iterations)
        damping = FAR_DAMPING if place else NEAR_DAMPING
        at = self._body_stage(evidence, at, stages[-1], self.config.last_iterations, damping)
        at = replace(at, pose=shortest(at.pose.unflatten(-1, (-1, 3))).flatten(1))
        return SmplifyResult(
            parameters=at,
            objective=self.objective(evidence, at),
            reprojection_loss=self.reprojection_loss(evidence, at),
            has_evidence=(evidence.keypoints_2d[..., 2] > 0).any(-1),
        )

    def _camera_stage(self, evidence: Evidence, begin: BodyParameters, place: bool) -> BodyParameters:
        """Translation and orientation from the torso, at a depth near the given one."""
        weight = self._torso_weight(evidence)
        if place:
            still = replace(begin, transl=torch.zeros_like(begin.transl))
            seen = evidence.keypoints_2d[..., :2]
            transl = translation_to_see(self.kinematics.points(still), seen, weight, evidence.camera)
            begin = replace(begin, transl=transl)

        torso = Reprojection(
            observed=evidence.keypoints_2d[..., :2],
            precision=(weight > 0).to(weight),
            camera=evidence.camera,
            robust=_PLAIN_SQUARES,
            weight=weight,
        )
        depth = KnownDepth(begin.transl[:, 2], self.config.depth_weight)
        rigid = torch.zeros(begin.size, dtype=torch.bool, device=weight.device)
        rigid[:3] = rigid[-3:] = True
        solution = minimize(
            BodyObjective(self.kinematics, self.prior, torso, depth=depth),
            begin.vector,
            max_iterations=self.config.camera_iterations,
            tolerance=self.config.tolerance,
            free=rigid,
        )
        return BodyParameters.from_vector(solution.unknowns)

    def _torso_weight(self, evidence: Evidence) -> Float[Tensor, "batch points"]:
        """Squared confidences of hips and shoulders; of every keypoint where fewer than two of those are
        seen."""
        squared = evidence.keypoints_2d[..., 2].square()
        torso = torch.zeros_like(squared)
        torso[:, self._torso] = squared[:, self._torso]
        enough = (torso > 0).sum(-1, keepdim=True) >= 2
        return torch.where(enough, torso, squared)

    def _body_stage(
        self,
        evidence: Evidence,
        begin: BodyParameters,
        stage: Stage,
        iterations: int,
        damping: float = FAR_DAMPING,
    ) -> BodyParameters:
        """Pose and shape under one set of weights."""
        free = torch.ones(begin.size, dtype=torch.bool, device=begin.pose.device)
        free[-3:] = not self.config.hold_translation
        solution = minimize(
            self.stage_objective(evidence, stage),
            begin.vector,
            max_iterations=iterations,
            tolerance=self.config.tolerance,
            free=free,
            initial_damping=damping,
        )
        return BodyParameters.from_vector(solution.unknowns)

    def stage_objective(self, evidence: Evidence, stage: Stage = SMPLIFY_STAGES[-1]) -> BodyObjective:
        """Half of Eq. 2 as a function of the unknowns.

        Half, because least squares halve their squares and the published objective does not.
        """
        return BodyObjective(
            self.kinematics,
            self.prior,
            self._reprojection(evidence),
            mixture_weight=0.5 * stage.pose_prior**2,
            angle_weight=stage.angle_prior**2,
            shape_weight=stage.shape_prior**2,
        )

    def stage_terms(
        self,
        evidence: Evidence,
        unknowns: Float[Tensor, "batch unknowns"],
        stage: Stage = SMPLIFY_STAGES[-1],
    ) -> Linearization:
        """The same as residuals, for `kouros.fitting.solvers.conjugate_gradients.conjugate_gradients`."""
        size = unknowns.shape[-1]
        return add_up([on_all(p, size) for p in self.stage_objective(evidence, stage).terms(unknowns)])

    def _reprojection(self, evidence: Evidence) -> Reprojection:
        weight = evidence.keypoints_2d[..., 2].square()
        weight[:, self._ignored] = 0.0
        return Reprojection(
            observed=evidence.keypoints_2d[..., :2],
            precision=(weight > 0).to(weight),
            camera=evidence.camera,
            robust=GemanMcClure(self.config.sigma),
            weight=weight,
            per_coordinate=True,
        )

    def _mean_body(self, count: int) -> BodyParameters:
        """The prior's mean pose, upright and facing the camera."""
        mean = self.prior.mean()
        pose = torch.cat([mean.new_tensor([math.pi, 0.0, 0.0]), mean]).expand(count, -1)
        return BodyParameters(pose, pose.new_zeros(count, self.body.num_betas), pose.new_zeros(count, 3))


def _part(keypoint: str) -> str:
    """``hip`` of ``left_hip``, ``right_openpose_hip`` and ``left_hip_lsp``."""
    words = keypoint.split("_")
    return next((w for w in words if w not in ("left", "right", "openpose")), keypoint) if len(words) > 1 else ""


def _turned(parameters: BodyParameters) -> BodyParameters:
    """The same bodies seen from behind: half a turn about their own upright axis."""
    half = rotvec_to_rotmat(parameters.pose.new_tensor([0.0, math.pi, 0.0]))
    orient = rotmat_to_rotvec(rotvec_to_rotmat(parameters.pose[:, :3]) @ half)
    return replace(parameters, pose=torch.cat([orient, parameters.pose[:, 3:]], dim=-1))


def _better(first: SmplifyResult, second: SmplifyResult) -> SmplifyResult:
    """Of two fits of each person, that with the lower objective."""
    return choose(second.objective < first.objective, second, first)
