"""Points of the body as sparse combinations of its vertices, fitted over many people and poses.

Two kinds. A convex combination of the vertices around a point stays inside whatever the person; it
serves points in rigid parts, such as knuckles. The source's joints, however, slide against the skin from
person to person (the knee by a centimetre along the leg), which no convex combination follows: joints
get signed weights, kept small by ridge regression. A row that is to be applied to posed skin must be
fitted on posed skin too: one fitted at rest only is centimetres off once the limb bends.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import solve_triangular
from scipy.optimize import nnls

_SUM_WEIGHT = 100.0
_MEAN_WEIGHT = 30.0
"""How much an error on the mean body counts beside one on a single person."""


@dataclass(frozen=True)
class Crowd:
    """People in the T-pose: what regressors are fitted on."""

    vertices: Float[np.ndarray, "people verts 3"]
    mirror: Int[np.ndarray, " verts"]

    @property
    def mean(self) -> Float[np.ndarray, "verts 3"]:
        """The mean body, exactly symmetric."""
        mean = self.vertices.mean(axis=0)
        return 0.5 * (mean + mean[self.mirror] * [-1.0, 1.0, 1.0])


def convex_row(
    crowd: Crowd, targets: Float[np.ndarray, "people 3"], candidates: Int[np.ndarray, " some"]
) -> Float[np.ndarray, " verts"]:
    """Non-negative weights, summing to 1, with which the candidates' mean follows the targets.

    Non-negative least squares is sparse by itself: only the vertices that matter remain.
    """
    equations, rights = _equations(crowd.vertices[:, candidates], targets)
    weights, _ = nnls(equations, rights, maxiter=50 * len(candidates))
    weights[weights < 1e-3] = 0.0
    return _spread(weights, candidates, crowd)


def ridge_row(
    crowd: Crowd,
    targets: Float[np.ndarray, "people 3"],
    candidates: Int[np.ndarray, " some"],
    ridge: float,
    directions: tuple[Float[np.ndarray, "betas some 3"], Float[np.ndarray, "betas 3"]] | None = None,
    posed_offsets: Float[np.ndarray, "poses some 3"] | None = None,
) -> Float[np.ndarray, " verts"]:
    """Signed weights, summing to 1, by ridge regression.

    Args:
        ridge: standard deviation of the error, metres, that a weight of 1 may save.
        directions: movements of the candidates and of the target per beta; matched as closely as the mean is.
        posed_offsets: of the candidates from the target, on posed people.
    """
    count = len(candidates)
    systems = [_equations(crowd.vertices[:, candidates], targets), (ridge * np.eye(count), np.zeros(count))]
    if directions is not None:
        moves = directions[0].transpose(0, 2, 1).reshape(-1, count)
        systems.append((_MEAN_WEIGHT * moves, _MEAN_WEIGHT * directions[1].ravel()))
    if posed_offsets is not None:
        flat = posed_offsets.transpose(0, 2, 1).reshape(-1, count) / np.sqrt(len(posed_offsets))
        systems.append((flat, np.zeros(len(flat))))
    # Not by the normal equations: their condition is 1e14, so that a machine's rounding was 1e-3 of a weight.
    orthogonal, upper = np.linalg.qr(np.concatenate([equations for equations, _ in systems]))
    weights = solve_triangular(upper, orthogonal.T @ np.concatenate([rights for _, rights in systems]))
    return _spread(weights, candidates, crowd)


def _equations(
    points: Float[np.ndarray, "people some 3"], targets: Float[np.ndarray, "people 3"]
) -> tuple[np.ndarray, np.ndarray]:
    centre, targets_centre = points.mean(axis=0), targets.mean(axis=0)
    scale = 1.0 / np.sqrt(len(points))
    rows = [
        scale * (points - centre).transpose(0, 2, 1).reshape(-1, points.shape[1]),
        _MEAN_WEIGHT * (centre - targets_centre).T,
        np.full((1, points.shape[1]), _SUM_WEIGHT),
    ]
    rights = [scale * (targets - targets_centre).ravel(), np.zeros(3), np.array([_SUM_WEIGHT])]
    return np.concatenate(rows), np.concatenate(rights)


def _spread(weights: np.ndarray, candidates: np.ndarray, crowd: Crowd) -> Float[np.ndarray, " verts"]:
    row = np.zeros(crowd.vertices.shape[1])
    row[candidates] = weights
    return row / row.sum()


def around(crowd: Crowd, point: Float[np.ndarray, " 3"], radius: float, count: int) -> Int[np.ndarray, " some"]:
    """Well spread vertices of the mean body within ``radius`` of a point (farthest-point sampling).

    For a point on the midline the choice is left-right symmetric.
    """
    inside = np.flatnonzero(np.linalg.norm(crowd.mean - point, axis=1) < radius)
    central = abs(point[0]) < 1e-3
    if central:
        inside = inside[crowd.mean[inside, 0] >= 0]
        count = count // 2
    places = crowd.mean[inside]
    chosen = [int(np.argmin(np.linalg.norm(places - point, axis=1)))]
    distance = np.full(len(inside), np.inf)
    while len(chosen) < min(count, len(inside)):
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
        chosen.append(int(np.argmax(distance)))
    result = inside[chosen]
    return np.union1d(result, crowd.mirror[result]) if central else np.sort(result)


def nearest(
    crowd: Crowd, point: Float[np.ndarray, " 3"], count: int, among: np.ndarray | None = None
) -> Int[np.ndarray, " count"]:
    """The vertices of the mean body nearest to a point.

    Args:
        among: mask of the vertices to choose from.
    """
    distance = np.linalg.norm(crowd.mean - point, axis=1)
    if among is not None:
        distance = np.where(among, distance, np.inf)
    return np.argsort(distance, kind="stable")[:count]
