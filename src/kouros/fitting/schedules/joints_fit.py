"""Bodies from 3D joints alone, some of which may be missing: Levenberg-Marquardt under the priors of pose and shape."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.body.keypoints import keypoint_set
from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.fitting.schedules.placement import upright_headings
from kouros.fitting.solvers.minimize import FAR_DAMPING, NEAR_DAMPING, minimize
from kouros.fitting.terms.keypoints import GemanMcClure, Landmarks
from kouros.fitting.terms.kinematics import KeypointKinematics, shortest
from kouros.fitting.terms.objective import BodyObjective
from kouros.priors.gmm import load_gmm
from kouros.priors.limits import load_limits

FEWEST = 4
"""A body cannot be turned by fewer joints."""


@dataclass(frozen=True)
class JointsFitConfig:
    """How far joints are trusted against the priors."""

    sigma: float = 0.02
    """Standard deviation of a coordinate, metres."""
    outlier: float = 4.0
    """Geman-McClure's scale, in those."""
    pose_prior: float = 0.5
    shape_prior: float = 1.0
    headings: int = 4
    """Directions to begin in, where nobody says where to begin."""
    iterations: int = 30


def fit_to_joints(
    body: BodyModel,
    set_name: str,
    joints: Float[Tensor, "people points 3"],
    start: BodyParameters | None = None,
    config: JointsFitConfig | None = None,
) -> BodyParameters:
    """Pose, shape and place of people whose joints are given.

    Args:
        joints: of a keypoint set that the body has; metres, camera axes, NaN where they are not known.
        start: where to begin, for each person; default: the mean pose in several headings, of which the best wins.

    Raises:
        ValueError: as `known_joints`.
        KeyError: the body has no such set.
    """
    config = config or JointsFitConfig()
    known = known_joints(joints, set_name)
    kinematics, people = KeypointKinematics(body, set_name), len(joints)
    each = config.headings if start is None else 1
    begin = _all_around(body, people, each) if start is None else start
    seen = torch.where(known[..., None], joints, 0.0).repeat_interleave(each, 0)
    precision = (known[..., None].to(joints) / config.sigma).expand_as(joints).repeat_interleave(each, 0)
    objective = BodyObjective(
        kinematics,
        load_gmm(),
        landmarks=Landmarks(seen, precision, GemanMcClure(config.outlier)),
        limits=load_limits().to(joints),
        mixture_weight=config.pose_prior,
        shape_weight=config.shape_prior,
    )
    free = torch.ones(begin.size, dtype=torch.bool)
    free[-3:] = False  # landmarks are known up to a translation, and it follows from the rest
    damping = FAR_DAMPING if start is None else NEAR_DAMPING
    solution = minimize(objective, begin.vector, max_iterations=config.iterations, free=free, initial_damping=damping)
    winner = torch.arange(people) * each + solution.cost.view(people, each).argmin(-1)
    best = BodyParameters.from_vector(solution.unknowns[winner])
    pose = shortest(best.pose.unflatten(-1, (-1, 3))).flatten(1)
    return placed_at(body, set_name, joints, BodyParameters(pose, best.betas, best.transl))


def known_joints(joints: Float[Tensor, "people points 3"], set_name: str) -> Bool[Tensor, "people points"]:
    """Which joints are there.

    Raises:
        ValueError: they are not so many as the set has, or somebody has fewer than `FEWEST`.
    """
    points = keypoint_set(set_name)
    if joints.ndim != 3 or joints.shape[1:] != (len(points), 3):
        raise ValueError(
            f"The joints have shape {tuple(joints.shape)}; expected (people, {len(points)}, 3), {set_name}'s."
        )
    known = joints.isfinite().all(dim=-1)
    few = (known.sum(dim=1) < FEWEST).nonzero()[:, 0].tolist()
    if few:
        raise ValueError(
            f"Person {few[0]} has {int(known[few[0]].sum())} joints; at least {FEWEST} are needed to turn a body."
        )
    return known


def placed_at(
    body: BodyModel, set_name: str, joints: Float[Tensor, "people points 3"], parameters: BodyParameters
) -> BodyParameters:
    """The same bodies, moved so that the mean of their joints is that of the ones that are known.

    Args:
        joints: NaN where they are not known.
    """
    known = joints.isfinite().all(dim=-1)[..., None]
    missed = torch.where(known, joints - parameters.keypoints_by(body, set_name), 0.0).sum(1) / known.sum(1)
    return BodyParameters(parameters.pose, parameters.betas, parameters.transl + missed)


def _all_around(body: BodyModel, people: int, headings: int) -> BodyParameters:
    mean = load_gmm().mean().float()
    orient = upright_headings(headings, mean.new_zeros(people)).flatten(0, 1)
    pose = torch.cat([orient, mean.expand(len(orient), -1)], dim=1)
    return BodyParameters(pose, pose.new_zeros(len(pose), body.num_betas), pose.new_zeros(len(pose), 3))
