"""A whole fit of one person as one compiled loop: Levenberg-Marquardt on the terms of `BodyObjective`.

`kouros.fitting.solvers.levenberg_marquardt` has the same search in torch, `kouros.fitting.terms` the same objective;
both to read first. Here ``J^T J`` is added up keypoint by keypoint from the few unknowns that move it, the pose prior
adds its stored precision, and a step that is not taken costs no derivatives. A person's numbers stay in one core's
cache; persons share nothing, so that a batch is its persons, to the bit.

Symmetric matrices are kept as their upper triangles. Sums of costs are in double precision.
"""

from typing import NamedTuple, no_type_check

import numpy as np

from kouros.compiled import compiled
from kouros.fitting.kernels.kinematics import differentiate, inlined, inner, place


class Seen(NamedTuple):
    """What was seen of every person; see `kouros.fitting.terms.keypoints` for what is what."""

    observed: np.ndarray
    """(batch, points, 2)"""
    precision: np.ndarray
    """(batch, points)"""
    weight: np.ndarray
    """(batch, points)"""
    focal: np.ndarray
    """(batch,)"""
    centre: np.ndarray
    """(batch, 2)"""
    landmarks: np.ndarray
    """(batch, points, 3), or no points where there are none"""
    landmark_precision: np.ndarray
    depth: np.ndarray
    """(batch,)"""


class Weights(NamedTuple):
    """The numbers of the terms that are everybody's."""

    outlier: float
    """Of the reprojection: the scale of Geman-McClure's penalty."""
    per_coordinate: bool
    nearest: float
    landmark_outlier: float
    smallest: float
    largest: float
    """The landmarks' scale lies between these."""
    depth_precision: float
    shape: float
    """Of ``1/2 |betas|^2``"""
    mixture: float
    limits: float
    angles: float


class Priors(NamedTuple):
    """The priors of the 69 numbers of the body pose."""

    means: np.ndarray
    """(components, 69)"""
    factors: np.ndarray
    """(components, 69, 69): ``L`` with ``precision = L L^T``."""
    precisions: np.ndarray
    below: np.ndarray
    """(components,): how much less likely each is at its mean than the likeliest, in logarithms."""
    lower: np.ndarray
    upper: np.ndarray
    """(69,): limits."""
    hinges: np.ndarray
    signs: np.ndarray
    """Of the angle prior: ``exp(sign * number)``."""


class Search(NamedTuple):
    """How far and how to search."""

    max_iterations: int
    tolerance: float
    damping: float


class Normal(NamedTuple):
    """``J^T J`` and ``J^T r`` at one point, and what adding them up and solving for a step needs."""

    matrix: np.ndarray
    """(unknowns, unknowns), upper triangle."""
    gradient: np.ndarray
    jacobian: np.ndarray
    """(points, 3, unknowns): of the keypoints."""
    rows: np.ndarray
    """(3, unknowns): of one keypoint's residuals."""
    values: np.ndarray
    """(3,): those residuals."""
    mean: np.ndarray
    """(3, unknowns): the landmarks' weighted mean by the unknowns."""
    across: np.ndarray
    """(3, unknowns)"""
    stretch: np.ndarray
    """(2, unknowns)"""
    white: np.ndarray
    """(69,): a pose in units of a component's standard deviations."""
    sums: np.ndarray
    """(4, 3), double precision; by axis: sum a^2, sum a^2 l, sum a e, and sum of the scale's weights."""
    moving: np.ndarray
    """Which unknowns are free."""
    damped: np.ndarray
    """(moving, moving)"""
    step: np.ndarray
    """(moving,)"""
    tried: np.ndarray
    """(unknowns,)"""


def normal_equations(points: int, free: np.ndarray, numbers: int, kind: np.dtype) -> Normal:
    """Room for one search, of one person after the other.

    Args:
        points: number of keypoints.
        free: (unknowns,): which may move.
        numbers: of the body pose.
        kind: of the numbers, but for sums.
    """
    size, moving = free.size, np.flatnonzero(free)
    return Normal(
        matrix=np.zeros((size, size), kind),
        gradient=np.zeros(size, kind),
        jacobian=np.zeros((points, 3, size), kind),
        rows=np.zeros((3, size), kind),
        values=np.zeros(3, kind),
        mean=np.zeros((3, size), kind),
        across=np.zeros((3, size), kind),
        stretch=np.zeros((2, size), kind),
        white=np.zeros(numbers, kind),
        sums=np.zeros((4, 3)),
        moving=moving,
        damped=np.empty((moving.size, moving.size), kind),
        step=np.empty(moving.size, kind),
        tried=np.empty(size, kind),
    )


@compiled(fuse=True)
@no_type_check
def minimize(
    first, end, body, seen, weights, priors, search, free, at, normal, start, unknowns, cost, iterations, converged
):
    """Every person from ``first`` to ``end``, each for itself.

    The decisions are those of `kouros.fitting.solvers.levenberg_marquardt` (Marquardt 1963; Nielsen 1999).
    """
    moving, damped, step, tried = normal.moving, normal.damped, normal.step, normal.tried
    for n in range(first, end):
        here = unknowns[n]
        for i in range(tried.shape[0]):
            tried[i] = here[i] = start[n, i]
        cost[n], iterations[n], converged[n] = np.inf, 0, False
        damping, growth, promised = search.damping, 2.0, 0.0
        for trial in range(search.max_iterations + 1):  # the start is the trial before the first
            place(body, tried, at)
            tried_cost, component = _cost(n, tried, at, seen, weights, priors, normal)
            iterations[n] = trial
            gain = cost[n] - tried_cost
            better = np.isfinite(tried_cost) and gain > 0
            if trial == 0 and not better:
                cost[n] = tried_cost
                break
            if trial > 0 and better:
                # Nielsen: shrink the damping by how well the model predicted, grow it ever faster on failures.
                damping *= max(1 - (2 * gain / max(promised, 1e-30) - 1) ** 3, 0.2)
                growth = 2.0
                converged[n] = gain < search.tolerance * cost[n]
            elif trial > 0:
                damping *= growth
                growth *= 2
                converged[n] = growth > 64
            damping = min(max(damping, 1e-9), 1e9)
            if better:
                cost[n] = tried_cost
                for i in range(tried.shape[0]):
                    here[i] = tried[i]
            if converged[n] or trial == search.max_iterations:
                break
            if better:
                _linearize(n, here, component, body, at, seen, weights, priors, free, normal)
            for a in range(moving.size):
                row, into = normal.matrix[moving[a]], damped[a]
                for b in range(a, moving.size):
                    into[b] = row[moving[b]]
                into[a] += damping * max(into[a], 1e-8)
                step[a] = -normal.gradient[moving[a]]
            if not _solve(damped, step):
                step[:] = 0  # not positive definite: no step, and more damping
            for i in range(tried.shape[0]):
                tried[i] = here[i]
            promised = 0.0
            for a in range(moving.size):
                i = moving[a]
                tried[i] += step[a]
                promised += 0.5 * step[a] * (damping * normal.matrix[i, i] * step[a] - normal.gradient[i])


@inner
@no_type_check
def _cost(n, unknowns, at, seen, weights, priors, normal):
    """The objective at ``unknowns``, where `place` has put the keypoints, and the likeliest component there."""
    points, component = at.points, 0
    total, outlier = 0.0, weights.outlier * weights.outlier
    for k in range(points.shape[0]):
        if seen.precision[n, k] <= 0 or seen.weight[n, k] <= 0:
            continue
        u, v = _error(n, k, points, seen, weights.nearest)
        if points[k, 2] <= weights.nearest:  # nothing can be seen there: the most that an outlier costs
            charge = 2 * outlier if weights.per_coordinate else outlier
        elif weights.per_coordinate:
            charge = outlier * u * u / (outlier + u * u) + outlier * v * v / (outlier + v * v)
        else:
            charge = outlier * (u * u + v * v) / (outlier + u * u + v * v)
        total += charge * seen.weight[n, k]
    if seen.landmarks.shape[1] > 0:
        total += _landmark_cost(n, points, seen, weights)
    if weights.depth_precision > 0:
        total += (weights.depth_precision * (unknowns[-1] - seen.depth[n])) ** 2
    shape_at, pose = 3 * at.local.shape[0], unknowns[3:]
    if weights.shape > 0:
        for b in range(shape_at, unknowns.shape[0] - 3):
            total += weights.shape * unknowns[b] * unknowns[b]
    if weights.mixture > 0:
        least, component = _likeliest(pose, priors, normal.white)
        total += weights.mixture * least
    if weights.limits > 0:
        for i in range(priors.lower.shape[0]):
            excess = pose[i] - min(max(pose[i], priors.lower[i]), priors.upper[i])
            total += weights.limits * excess * excess
    if weights.angles > 0:
        for h in range(priors.hinges.shape[0]):
            bent = np.exp(priors.signs[h] * np.float64(pose[priors.hinges[h]]))
            total += weights.angles * bent * bent
    return 0.5 * total, component


@inlined
@no_type_check
def _error(n, k, points, seen, nearest):
    """Reprojection error of a keypoint, in standard deviations."""
    depth = max(points[k, 2], nearest)
    precision, focal = np.float64(seen.precision[n, k]), np.float64(seen.focal[n]) / depth
    return (
        precision * (focal * points[k, 0] + seen.centre[n, 0] - seen.observed[n, k, 0]),
        precision * (focal * points[k, 1] + seen.centre[n, 1] - seen.observed[n, k, 1]),
    )


@inner
@no_type_check
def _landmark_frame(n, points, seen, weights):
    """Total weight, the means of points and landmarks, the best scale between them, and what it was divided by; that
    is infinite where the scale is held by its range."""
    precision, landmarks = seen.landmark_precision, seen.landmarks
    total, x, y, z, u, v, w = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for k in range(points.shape[0]):
        share = (np.float64(precision[n, k, 0]) + precision[n, k, 1] + precision[n, k, 2]) / 3
        total += share
        x, y, z = x + share * points[k, 0], y + share * points[k, 1], z + share * points[k, 2]
        u, v, w = u + share * landmarks[n, k, 0], v + share * landmarks[n, k, 1], w + share * landmarks[n, k, 2]
    over = max(total, 1e-12)
    mean, middle = (x / over, y / over, z / over), (u / over, v / over, w / over)
    both, square = 0.0, 0.0
    for k in range(points.shape[0]):
        for c in range(3):
            centred = (landmarks[n, k, c] - middle[c]) * np.float64(precision[n, k, c])
            both += centred * (points[k, c] - mean[c]) * precision[n, k, c]
            square += centred * centred
    square = max(square, 1e-12)
    best = both / square
    scale = min(max(best, weights.smallest), weights.largest)
    return over, mean, middle, scale, square if scale == best else np.inf


@inlined
@no_type_check
def _landmark_error(n, k, c, points, seen, frame):
    """Along axis ``c``, in standard deviations."""
    _, mean, middle, scale, _ = frame
    away = points[k, c] - mean[c] - scale * (seen.landmarks[n, k, c] - middle[c])
    return away * np.float64(seen.landmark_precision[n, k, c])


@inlined
@no_type_check
def _landmark_cost(n, points, seen, weights):
    frame = _landmark_frame(n, points, seen, weights)
    total, outlier = 0.0, weights.landmark_outlier * weights.landmark_outlier
    for k in range(points.shape[0]):
        squared = 0.0
        for c in range(3):
            squared += _landmark_error(n, k, c, points, seen, frame) ** 2
        total += outlier * squared / (outlier + squared)
    return total


@inlined
@no_type_check
def _likeliest(pose, priors, white):
    """Of the mixture: twice the least energy, ``|L^T (pose - mean)|^2 + 2 below``, and whose it is."""
    least, best = np.inf, 0
    for m in range(priors.below.shape[0]):
        factor = priors.factors[m]
        white[:] = 0
        for r in range(white.shape[0]):
            d, row, into = pose[r] - priors.means[m, r], factor[r, : r + 1], white[: r + 1]
            for c in range(row.shape[0]):
                into[c] += d * row[c]
        energy = 2.0 * priors.below[m]
        for c in range(white.shape[0]):
            energy += white[c] * white[c]
        if not energy >= least:  # also what is not a number, which then counts
            least, best = energy, m
    return least, best


@inlined
@no_type_check
def _linearize(n, unknowns, component, body, at, seen, weights, priors, free, normal):
    """``J^T J`` and ``J^T r`` of all terms, robust ones reweighted, where `place` has put the keypoints."""
    differentiate(body, at, free, normal.jacobian)
    matrix, gradient = normal.matrix, normal.gradient
    matrix[:], gradient[:] = 0, 0
    _add_reprojection(n, body, at, seen, weights, normal)
    if seen.landmarks.shape[1] > 0:
        _add_landmarks(n, body, at, seen, weights, normal)
    size, shape_at = unknowns.shape[0], 3 * at.local.shape[0]
    if weights.depth_precision > 0:
        stiff = weights.depth_precision * weights.depth_precision
        matrix[size - 1, size - 1] += stiff
        gradient[size - 1] += stiff * (unknowns[size - 1] - seen.depth[n])
    for b in range(shape_at, size - 3):
        matrix[b, b] += weights.shape
        gradient[b] += weights.shape * unknowns[b]
    _add_pose_priors(unknowns[3:], component, weights, priors, normal)


@inner
@no_type_check
def _add_reprojection(n, body, at, seen, weights, normal):
    """Rows of the projection ``f X / Z``: ``f / Z (dX - X / Z dZ)``, times precision and the robust weight's root."""
    points, outlier = at.points, weights.outlier * weights.outlier
    for k in range(points.shape[0]):
        depth = points[k, 2]
        if seen.precision[n, k] <= 0 or seen.weight[n, k] <= 0 or depth <= weights.nearest:
            continue
        u, v = _error(n, k, points, seen, weights.nearest)
        uu, vv = u * u, v * v
        if not weights.per_coordinate:
            uu, vv = uu + vv, uu + vv
        of_weight = np.sqrt(np.float64(seen.weight[n, k]))
        root_u, root_v = of_weight * outlier / (outlier + uu), of_weight * outlier / (outlier + vv)
        scale = np.float64(seen.focal[n]) / depth * seen.precision[n, k]
        into, rows = normal.jacobian[k], normal.rows
        kind = rows.dtype.type
        for r in range(2):
            factor = kind(scale * (root_u if r == 0 else root_v))
            across = kind(factor * points[k, r] / depth)
            own, deep, row = into[r], into[2], rows[r]
            for i in range(row.shape[0]):
                row[i] = factor * own[i] - across * deep[i]
        normal.values[0], normal.values[1] = root_u * u, root_v * v
        _add_rows(body, k, 2, rows.shape[1], normal)


@inner
@no_type_check
def _add_landmarks(n, body, at, seen, weights, normal):
    """Rows ``a_kc (J_kc - M_c - l_kc S)`` for landmark ``l_k`` and axis c: ``M_c`` is the weighted mean of all
    ``J_kc``, ``S`` the derivative of the best scale, both sides being centred.

    These two make every row dense. So the rows ``a J`` are added first, then what the squares of the whole rows have
    more; with ``s_c = sum_k a^2 J``, ``A_c = sum_k a^2``, ``q_c = sum_k a^2 l``, and over all axes ``T = sum a^2 l J``,
    ``D = sum a^2 l^2``:
    ``sum_c (A_c/2 M_c - s_c) M_c^T + (sum_c q_c M_c + D/2 S - T) S^T``, and its transpose.
    The translation moves all points alike: it drops out of every row.
    """
    frame = _landmark_frame(n, at.points, seen, weights)
    total, _, middle, _, square = frame
    points, outlier = at.points, weights.landmark_outlier * weights.landmark_outlier
    mean, across, rows, matrix, gradient = normal.mean, normal.across, normal.rows, normal.matrix, normal.gradient
    by_scale, along, size = normal.stretch[0], normal.stretch[1], gradient.shape[0] - 3
    mean[:], across[:], by_scale[:], along[:] = 0, 0, 0, 0
    kind = gradient.dtype.type
    sums = normal.sums
    sums[:] = 0
    stiff, pull = 0.0, 0.0  # D, and sum a e l
    for k in range(points.shape[0]):
        squared = 0.0
        for c in range(3):
            squared += _landmark_error(n, k, c, points, seen, frame) ** 2
        root, share = outlier / (outlier + squared), 0.0
        for c in range(3):
            share += seen.landmark_precision[n, k, c] / (3 * total)
        for c in range(3):
            precision = np.float64(seen.landmark_precision[n, k, c])
            error = root * _landmark_error(n, k, c, points, seen, frame)
            landmark, a = seen.landmarks[n, k, c] - middle[c], root * precision
            normal.values[c] = error
            sums[0, c] += a * a
            sums[1, c] += a * a * landmark
            sums[2, c] += a * error
            sums[3, c] += landmark * precision * precision
            stiff += a * a * landmark * landmark
            pull += a * error * landmark
            a0, a1, a2 = kind(a), kind(share), kind(a * a)
            a3, a4 = kind(landmark * precision * precision / square), kind(a * a * landmark)
            own, row, centre, spread = normal.jacobian[k, c], rows[c], mean[c], across[c]
            for i in range(size):
                row[i] = a0 * own[i]
                centre[i] += a1 * own[i]
                spread[i] += a2 * own[i]
                by_scale[i] += a3 * own[i]
                along[i] -= a4 * own[i]
        _add_rows(body, k, 3, size, normal)
    for c in range(3):
        a0, a1, a2 = kind(sums[3, c] / square), kind(sums[1, c]), kind(sums[2, c])
        for i in range(size):
            by_scale[i] -= a0 * mean[c, i]
            along[i] += a1 * mean[c, i]
            gradient[i] -= a2 * mean[c, i]
    for i in range(size):
        along[i] += kind(0.5 * stiff) * by_scale[i]
        gradient[i] -= kind(pull) * by_scale[i]
    for c in range(3):
        half, centre, spread = kind(0.5 * sums[0, c]), mean[c], across[c]
        for i in range(size):
            spread[i] = half * centre[i] - spread[i]
        _add_products(spread, centre, size, matrix)
    if np.isfinite(square):
        _add_products(along, by_scale, size, matrix)


@inlined
@no_type_check
def _add_products(first, second, size, matrix):
    """``matrix += first second^T + second first^T``"""
    for i in range(size):
        a, b, into, row_a, row_b = first[i], second[i], matrix[i, i:size], first[i:size], second[i:size]
        for j in range(into.shape[0]):
            into[j] += a * row_b[j] + b * row_a[j]


@inner
@no_type_check
def _add_rows(body, k, count, end, normal):
    """``J^T J`` and ``J^T r`` of the first ``count`` rows, which are of keypoint ``k`` and zero for all joints that do
    not move it; unknowns before ``end`` only."""
    rows, values, matrix, gradient = normal.rows, normal.values, normal.matrix, normal.gradient
    shape_at = 3 * body.rest.shape[0]
    movers = body.mover[body.first_mover[k] : body.first_mover[k + 1]]
    for r in range(count):
        row, value = rows[r], values[r]
        for i in range(end):
            gradient[i] += value * row[i]
    for m in range(movers.shape[0] + 1):
        first = 3 * movers[m] if m < movers.shape[0] else shape_at
        last = first + 3 if m < movers.shape[0] else end
        for i in range(first, last):
            into = matrix[i, i:end]
            a, row_a, b, row_b = rows[0, i], rows[0, i:end], rows[1, i], rows[1, i:end]
            if count == 2:
                for j in range(into.shape[0]):
                    into[j] += a * row_a[j] + b * row_b[j]
            else:
                c, row_c = rows[2, i], rows[2, i:end]
                for j in range(into.shape[0]):
                    into[j] += a * row_a[j] + b * row_b[j] + c * row_c[j]


@inner
@no_type_check
def _add_pose_priors(pose, best, weights, priors, normal):
    """The likeliest component's precision, the limits, and the hinges' exponentials."""
    matrix, gradient = normal.matrix, normal.gradient
    kind = gradient.dtype.type
    if weights.mixture > 0:
        precision, weight = priors.precisions[best], kind(weights.mixture)
        for i in range(precision.shape[0]):
            d, row, into, pulls = weight * (pose[i] - priors.means[best, i]), precision[i], matrix[3 + i], gradient[3:]
            for j in range(row.shape[0]):
                pulls[j] += d * row[j]
            for j in range(i, row.shape[0]):
                into[3 + j] += weight * row[j]
    if weights.limits > 0:
        for i in range(priors.lower.shape[0]):
            excess = pose[i] - min(max(pose[i], priors.lower[i]), priors.upper[i])
            if excess != 0:
                matrix[3 + i, 3 + i] += weights.limits
                gradient[3 + i] += weights.limits * excess
    if weights.angles > 0:
        for h in range(priors.hinges.shape[0]):
            i, sign = priors.hinges[h], priors.signs[h]
            square = weights.angles * np.exp(2 * sign * np.float64(pose[i]))
            matrix[3 + i, 3 + i] += square
            gradient[3 + i] += sign * square


@inner
@no_type_check
def _solve(matrix, vector):
    """``vector`` becomes ``matrix^-1 vector`` by Cholesky; False if the matrix is not positive definite.

    The matrix, upper triangle, becomes ``U`` with ``U^T U`` the matrix. Four rows of it are finished at a time and
    taken off those that follow in one go.
    """
    size = vector.shape[0]
    for first in range(0, size, 4):
        last = min(first + 4, size)
        for k in range(first, last):
            for p in range(first, k):
                factor, above, row = matrix[p, k], matrix[p, k:], matrix[k, k:]
                for j in range(row.shape[0]):
                    row[j] -= factor * above[j]
            pivot = matrix[k, k]
            if not pivot > 0 or not np.isfinite(pivot):
                return False
            inverse, row = matrix.dtype.type(1 / np.sqrt(np.float64(pivot))), matrix[k, k:]
            for j in range(row.shape[0]):
                row[j] *= inverse
        if last < first + 4:
            break
        for i in range(last, size):
            a, b, c, d = matrix[first, i], matrix[first + 1, i], matrix[first + 2, i], matrix[first + 3, i]
            row_a, row_b = matrix[first, i:], matrix[first + 1, i:]
            row_c, row_d, row = matrix[first + 2, i:], matrix[first + 3, i:], matrix[i, i:]
            for j in range(row.shape[0]):
                row[j] -= a * row_a[j] + b * row_b[j] + c * row_c[j] + d * row_d[j]
    for i in range(size):
        vector[i] /= matrix[i, i]
        value, row, rest = vector[i], matrix[i, i + 1 :], vector[i + 1 :]
        for j in range(row.shape[0]):
            rest[j] -= value * row[j]
    for i in range(size - 1, -1, -1):
        total = vector[i]
        for j in range(i + 1, size):
            total -= matrix[i, j] * vector[j]
        vector[i] = total / matrix[i, i]
    return True
