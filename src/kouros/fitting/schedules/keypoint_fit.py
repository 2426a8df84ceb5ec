"""The default fit: bodies from 2D keypoints and, when there are any, 3D landmarks.

The objective is a negative log-posterior: robust reprojection, robust landmarks, joint limits, and priors of pose and
shape. It is minimized over joints only, from starts that keep clear of the wrong minima (turned around, or depth
flipped): those that the caller has (the pipeline passes the learned start), else ones found from the evidence, each
first brought near by the landmarks or by moving the rigid body alone. The start that explains the evidence best
wins, by the full objective.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.body.keypoints import KeypointSet, keypoint_set
from kouros.body.model import BodyModel
from kouros.body.parameters import POSE_SIZE, BodyParameters
from kouros.fitting.schedules.placement import (
    orientation_of_torso,
    roll_in_picture,
    translation_to_see,
    upright_headings,
)
from kouros.fitting.solvers.minimize import FAR_DAMPING, NEAR_DAMPING, minimize
from kouros.fitting.terms.calibration import detector_tables
from kouros.fitting.terms.evidence import Evidence, EvidenceTerms, importance_of, person_size
from kouros.fitting.terms.keypoints import Landmarks, Reprojection
from kouros.fitting.terms.kinematics import KeypointKinematics, shortest
from kouros.fitting.terms.objective import BodyObjective
from kouros.priors.gmm import GaussianMixture
from kouros.priors.limits import load_limits

TORSO = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")


@dataclass(frozen=True)
class FitConfig:
    """Standard deviations of the evidence and strengths of the priors."""

    keypoint_sigma: float = 0.008
    """Of a fully confident keypoint, in units of the person's size in the picture."""
    keypoint_outlier: float = 6.0
    """Geman-McClure scale of the reprojection, in standard deviations."""
    first_outlier: float | None = None
    """Scale of a first pass, larger than that, so that keypoints far from the start pull as well; None: one pass."""
    landmark_sigma: tuple[float, float, float] = (0.1, 0.1, 0.1)
    """Of a 3D landmark along x, y and depth, metres."""
    landmark_outlier: float = 3.0
    landmark_scale: tuple[float, float] = (0.85, 1.2)
    """Range of the factor between the landmarks' metre and ours."""
    pose_prior: float = 0.5
    """Weight of the pose prior's negative log-density."""
    shape_prior: float = 1.0
    minor_weight: float = 0.5
    """Weight of keypoints that crowd on the face and the hands against those of the limbs."""
    starts: int = 4
    """Headings tried when there are no 3D landmarks."""
    iterations: int = 20

    def terms(self, importance: Float[Tensor, " points"]) -> EvidenceTerms:
        """How evidence is weighed, given how much each keypoint counts."""
        return EvidenceTerms(
            importance, self.keypoint_sigma, self.keypoint_outlier, self.landmark_outlier, self.landmark_scale
        )


@dataclass(frozen=True)
class FitResult:
    """Fitted bodies."""

    parameters: BodyParameters
    cost: Float[Tensor, " batch"]
    """The full objective: comparable between fits of the same evidence."""
    reprojection_error: Float[Tensor, " batch"]
    """Confidence-weighted mean distance of the keypoints, pixels."""
    start: Int[Tensor, " batch"]
    """Which start won."""


@dataclass
class KeypointFitter:
    """Fits one body model to keypoints of one set; make it once, use it for many pictures."""

    body: BodyModel
    set_name: str
    prior: GaussianMixture
    config: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        self.keypoints: KeypointSet = keypoint_set(self.set_name)
        marked = detector_tables(self.body.keypoint_tables(self.set_name), self.set_name)
        self.kinematics = KeypointKinematics(self.body, self.set_name, marked)
        self.mean_pose = self.prior.mean()
        self.limits = load_limits().to(self.mean_pose)
        self._importance = importance_of(self.keypoints.names, self.config.minor_weight, self.mean_pose)
        self._terms = self.config.terms(self._importance)
        self._torso = [self.keypoints.index(n) for n in TORSO if n in self.keypoints.names]

    def fit(self, evidence: Evidence, starts: BodyParameters | None = None, *, hold_shape: bool = False) -> FitResult:
        """Fit every person.

        Args:
            evidence: of ``batch`` persons.
            starts: estimates to begin from, ``batch * n`` of them, person by person; default: found from
                the evidence.
            hold_shape: the starts' betas are known, and stay.
        """
        evidence = evidence.cleaned()
        persons = evidence.keypoints_2d.shape[0]
        begin = self.find_starts(evidence) if starts is None else starts
        each = len(begin.pose) // persons
        repeated = evidence[torch.arange(persons).repeat_interleave(each)]
        begin = self._placed(repeated, begin)
        damping = FAR_DAMPING if starts is None else NEAR_DAMPING
        free = torch.ones(begin.size, dtype=torch.bool)
        free[POSE_SIZE:-3] = not hold_shape
        passes, unknowns = [self._terms], begin.vector
        if self.config.first_outlier is not None:
            passes.insert(0, replace(self._terms, keypoint_outlier=self.config.first_outlier))
        for terms in passes:
            solution = minimize(
                self.objective(repeated, terms),
                unknowns,
                max_iterations=self.config.iterations,
                free=free,
                initial_damping=damping,
            )
            unknowns = solution.unknowns
        cost = solution.cost.view(persons, each)
        winner = cost.argmin(-1)
        chosen = torch.arange(persons) * each + winner
        best = BodyParameters.from_vector(unknowns[chosen])
        best = replace(best, pose=shortest(best.pose.unflatten(-1, (-1, 3))).flatten(1))
        return FitResult(
            parameters=best,
            cost=solution.cost[chosen],
            reprojection_error=self.reprojection_error(evidence, best),
            start=winner,
        )

    def find_starts(self, evidence: Evidence) -> BodyParameters:
        """Estimates to begin from, person by person."""
        if evidence.landmarks_3d is not None:
            return self._starts_from_landmarks(evidence)
        return self._starts_all_around(evidence)

    def _starts_from_landmarks(self, evidence: Evidence) -> BodyParameters:
        """The pose that the landmarks show, from the torso's orientation there."""
        assert evidence.landmarks_3d is not None
        persons = len(evidence.landmarks_3d)
        rest = self.kinematics.points(self._resting(1))[0]
        orient = orientation_of_torso(rest[self._torso], evidence.landmarks_3d[:, self._torso])
        begin = self._resting(persons)
        begin = replace(begin, pose=torch.cat([orient, begin.pose[:, 3:]], dim=-1))

        # Here the landmarks are all there is, and the start shall show the pose that they show.
        shown = self._objective(None, self._terms.landmarks(evidence, (_START_SIGMA,) * 3))
        free = torch.ones(begin.size, dtype=torch.bool)
        free[-3:] = False
        solution = minimize(shown, begin.vector, max_iterations=15, free=free)
        return BodyParameters.from_vector(solution.unknowns)

    def _starts_all_around(self, evidence: Evidence) -> BodyParameters:
        """Resting bodies seen from several sides, each moved rigidly to where the keypoints are."""
        persons, count = len(evidence.keypoints_2d), self.config.starts
        seen = evidence.keypoints_2d
        ends = [
            self._centre(seen, ("left_hip", "right_hip", "left_hip_lsp", "right_hip_lsp")),
            self._centre(seen, ("left_shoulder", "right_shoulder")),
        ]
        orient = upright_headings(count, roll_in_picture(*ends)).flatten(0, 1)
        begin = self._resting(persons * count)
        begin = replace(begin, pose=torch.cat([orient, begin.pose[:, 3:]], dim=-1))
        repeated = evidence[torch.arange(persons).repeat_interleave(count)]
        begin = self._placed(repeated, begin)
        rigid = torch.zeros(begin.size, dtype=torch.bool)
        rigid[:3] = rigid[-3:] = True
        solution = minimize(self.objective(repeated), begin.vector, max_iterations=5, free=rigid)
        return BodyParameters.from_vector(solution.unknowns)

    def _centre(self, seen: Float[Tensor, "batch points 3"], names: tuple[str, ...]) -> Float[Tensor, "batch 2"]:
        """Mean of the named keypoints that are seen; the mean of all where none is."""
        some = [self.keypoints.index(n) for n in names if n in self.keypoints.names]
        weight = torch.zeros_like(seen[..., 2]) + 1e-6 * seen[..., 2]
        weight[:, some] += seen[:, some, 2]
        return (weight[..., None] * seen[..., :2]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1e-12)

    def _placed(self, evidence: Evidence, parameters: BodyParameters) -> BodyParameters:
        """The same bodies, moved to where the keypoints show them."""
        still = replace(parameters, transl=torch.zeros_like(parameters.transl))
        weights = evidence.keypoints_2d[..., 2] * self._importance
        transl = translation_to_see(
            self.kinematics.points(still), evidence.keypoints_2d[..., :2], weights, evidence.camera
        )
        return replace(parameters, transl=transl)

    def objective(self, evidence: Evidence, terms: EvidenceTerms | None = None) -> BodyObjective:
        """What a fit minimizes.

        Args:
            terms: how evidence is weighed; default: as in the last pass.
        """
        terms, landmarks = terms or self._terms, None
        if evidence.landmarks_3d is not None:
            landmarks = terms.landmarks(evidence, self.config.landmark_sigma)
        reprojection = terms.reprojection(evidence, person_size(evidence.keypoints_2d))
        return self._objective(reprojection, landmarks)

    def _objective(self, reprojection: Reprojection | None, landmarks: Landmarks | None) -> BodyObjective:
        """Evidence, priors of pose and shape, and joint limits."""
        return BodyObjective(
            self.kinematics,
            self.prior,
            reprojection,
            landmarks,
            limits=self.limits,
            mixture_weight=self.config.pose_prior,
            shape_weight=self.config.shape_prior,
        )

    def _resting(self, count: int) -> BodyParameters:
        """Mean pose and shape, unplaced."""
        pose = torch.cat([self.mean_pose.new_zeros(3), self.mean_pose]).expand(count, -1)
        betas = pose.new_zeros(count, self.body.num_betas)
        return BodyParameters(pose, betas, pose.new_zeros(count, 3))

    def reprojection_error(self, evidence: Evidence, parameters: BodyParameters) -> Float[Tensor, " batch"]:
        """Confidence-weighted mean distance between projected and seen keypoints, pixels."""
        projected = evidence.camera.project(self.kinematics.points(parameters))
        distance = (projected - evidence.keypoints_2d[..., :2]).norm(dim=-1)
        weight = evidence.keypoints_2d[..., 2]
        return (weight * distance).sum(-1) / weight.sum(-1).clamp(min=1e-9)


_START_SIGMA = 0.03
"""Of the landmarks while the start is sought, metres."""
