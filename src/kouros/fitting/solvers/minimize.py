"""The fastest way to a `BodyObjective`'s minimum.

On the CPU in single precision by the compiled loops of `kouros.fitting.kernels.levenberg_marquardt`, one person after
the other and persons side by side; everywhere else (GPU, double precision, where gradients are wanted) by
`kouros.fitting.solvers.levenberg_marquardt` in torch. Both take the same steps.
"""

from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.body import posing
from kouros.compiled import over_batch
from kouros.fitting.solvers.levenberg_marquardt import Solution, levenberg_marquardt
from kouros.fitting.terms.keypoints import NEAREST_DEPTH
from kouros.fitting.terms.objective import BodyObjective
from kouros.priors.limits import AnglePrior, JointLimits

if TYPE_CHECKING:
    from kouros.fitting.kernels.levenberg_marquardt import Priors, Seen, Weights

FAR_DAMPING, NEAR_DAMPING = 1e-3, 0.03
"""Initial damping for starts from nowhere and for estimates. First steps hardly damped find the way from far off; from
near they leave for other valleys, and SPIN's objective ends 2 % higher."""
_PRODUCTS = 100_000
"""Work of one step, in the units by which `over_batch` decides how many threads are worth it."""


def minimize(
    objective: BodyObjective,
    start: Float[Tensor, "batch unknowns"],
    *,
    max_iterations: int = 20,
    tolerance: float = 1e-4,
    free: Bool[Tensor, " unknowns"] | None = None,
    initial_damping: float = FAR_DAMPING,
) -> Solution:
    """The minimum near ``start``; `levenberg_marquardt` has the arguments and errors.

    Args:
        free: unknowns that may move; a joint's three numbers together, and so the betas and the translation.
    """
    if not kernels_apply(objective, start):
        return levenberg_marquardt(
            objective,
            start,
            max_iterations=max_iterations,
            tolerance=tolerance,
            free=free,
            initial_damping=initial_damping,
            narrow=objective.__getitem__,
        )
    from kouros.fitting.kernels import levenberg_marquardt as loops
    from kouros.fitting.kernels.kinematics import posed_person

    everything = torch.ones_like(start[0], dtype=torch.bool)
    moves = (everything if free is None else free).numpy()
    body, seen, priors = objective.kinematics.arrays, _seen(objective, start), _priors(objective)
    weights, search = _weights(objective), loops.Search(max_iterations, tolerance, initial_damping)
    unknowns = torch.empty_like(start)
    found = Solution(
        unknowns=unknowns,
        cost=start.new_empty(len(start)),
        iterations=torch.empty(len(start), dtype=torch.long),
        converged=torch.empty(len(start), dtype=torch.bool),
    )

    def some(first: int, end: int, *arrays: np.ndarray) -> None:
        at = posed_person(body, arrays[0])
        normal = loops.normal_equations(len(at.points), moves, priors.lower.size, arrays[0].dtype)
        loops.minimize(first, end, body, seen, weights, priors, search, moves, at, normal, *arrays)

    over_batch(some, _PRODUCTS, start, found.unknowns, found.cost, found.iterations, found.converged)
    if not bool(torch.isfinite(found.cost).all()):
        bad = torch.nonzero(~torch.isfinite(found.cost)).flatten().tolist()
        raise ValueError(f"the objective is not finite at the start for items {bad}; check the inputs there.")
    return found


def costs(objective: BodyObjective, unknowns: Float[Tensor, "batch unknowns"]) -> Float[Tensor, " batch"]:
    """The objective at given unknowns."""
    if kernels_apply(objective, unknowns):
        return minimize(objective, unknowns, max_iterations=0).cost
    return objective(unknowns).cost


def kernels_apply(objective: BodyObjective, start: Tensor) -> bool:
    """Whether the compiled loops can take it: on the CPU, in single precision, without gradients."""
    if start.dtype != torch.float32 or not posing.kernels_apply(start):
        return False
    if not torch.is_grad_enabled():
        return True
    given = [start]
    for term in (objective.reprojection, objective.landmarks, objective.depth):
        if term is not None:
            given += [v for v in (getattr(term, f.name) for f in fields(term)) if isinstance(v, Tensor)]
    return not any(t.requires_grad for t in given)


def _seen(objective: BodyObjective, start: Tensor) -> "Seen":
    """The evidence as arrays; what there is none of has no precision."""
    from kouros.fitting.kernels.levenberg_marquardt import Seen

    batch, points = len(start), objective.kinematics.tables.num_keypoints
    seen, landmarks, depth = objective.reprojection, objective.landmarks, objective.depth
    nothing = start.new_zeros(batch, points)
    if seen is None:
        flat = (start.new_zeros(batch, points, 2), nothing, nothing, start.new_ones(batch), start.new_zeros(batch, 2))
    else:
        weight = torch.ones_like(seen.precision) if seen.weight is None else seen.weight
        flat = (seen.observed, seen.precision, weight, seen.camera.focal_length, seen.camera.principal_point)
    none = start.new_zeros(batch, 0, 3)
    space = (none, none) if landmarks is None else (landmarks.observed, landmarks.precision)
    far = start.new_zeros(batch) if depth is None else depth.depth
    return Seen(*(_array(t) for t in (*flat, *space, far)))


def _weights(objective: BodyObjective) -> "Weights":
    from kouros.fitting.kernels.levenberg_marquardt import Weights

    seen, landmarks, depth, limits = objective.reprojection, objective.landmarks, objective.depth, objective.limits
    smallest, largest = (1.0, 1.0) if landmarks is None else landmarks.scale_range
    return Weights(
        outlier=1.0 if seen is None else float(seen.robust.scale),
        per_coordinate=seen is not None and seen.per_coordinate,
        nearest=NEAREST_DEPTH,
        landmark_outlier=1.0 if landmarks is None else float(landmarks.robust.scale),
        smallest=float(smallest),
        largest=float(largest),
        depth_precision=0.0 if depth is None else float(depth.precision),
        shape=float(objective.shape_weight),
        mixture=float(objective.mixture_weight),
        limits=0.0 if limits is None else float(limits.softness) ** -2,
        angles=float(objective.angle_weight),
    )


def _priors(objective: BodyObjective) -> "Priors":
    from kouros.fitting.kernels.levenberg_marquardt import Priors

    mixture, hinges = objective.mixture, AnglePrior()
    limits = objective.limits or JointLimits(mixture.means[0], mixture.means[0])
    return Priors(
        means=_array(mixture.means),
        factors=_array(mixture.factors),
        precisions=_array(mixture.precisions),
        below=_array(mixture.below_likeliest),
        lower=_array(limits.lower),
        upper=_array(limits.upper),
        hinges=np.array(hinges.numbers),
        signs=np.array(hinges.signs),
    )


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().contiguous().numpy()
