"""The inner loop of a fit, compiled: keypoints with their derivatives.

`kouros.fitting.terms.kinematics` has the same in torch, for other devices, and to read first. Here a person's
numbers stay in the cache, and what is zero is skipped: a keypoint moves with few joints, and pose blend
shapes reach only near ones. `kouros.fitting.kernels.levenberg_marquardt` calls these loops from inside its own.
"""

from typing import Any, NamedTuple, no_type_check

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.tables import KeypointTables
from kouros.compiled import compiled, over_batch

_OPTIONS: dict[str, Any] = {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
inner = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, **_OPTIONS)
"""As `compiled`, for functions that only kernels call: what calls them keeps their machine code in its own."""
inlined = numba.njit(inline="always")
"""For small functions with one or two callers, of which they become a part before anything is compiled: each function
that is compiled for itself is compiled once more in what calls it."""
_LINEARIZE_PRODUCTS, _PLACE_PRODUCTS = 15_000, 4_000
"""Work a person, in the units by which `over_batch` decides how many threads are worth it."""


class KinematicArrays(NamedTuple):
    """What depends only on the body and the keypoint set, as the kernels read it."""

    parents: np.ndarray
    rest: np.ndarray
    """(joints, 3)"""
    by_shape: np.ndarray
    """(joints, 3, betas)"""
    joint: np.ndarray
    """Of each pair; pairs are sorted by keypoint."""
    weight: np.ndarray
    anchor: np.ndarray
    shape: np.ndarray
    """Of each pair, relative to its joint."""
    first_pair: np.ndarray
    """(points + 1,): the pairs of keypoint k are ``first_pair[k]`` up to ``first_pair[k + 1]``."""
    block_pair: np.ndarray
    block_keypoint: np.ndarray
    block_joint: np.ndarray
    """Which joint's ``R - I`` a block multiplies; sorted. The root has none."""
    block: np.ndarray
    """(9, 3 * blocks): pose blend shapes that are not zero, the nine numbers of ``R - I`` first."""
    mover: np.ndarray
    """Joints that move a keypoint, by their place above it or by blend shapes; children before parents."""
    first_mover: np.ndarray
    """(points + 1,): as `first_pair`, for `mover`."""


class KinematicState(NamedTuple):
    """One person at one point of the search: what `place` finds and `differentiate` needs."""

    local: np.ndarray
    """(joints, 3, 3): rotation of each joint in its parent's frame."""
    right: np.ndarray
    """(joints, 3, 3): its right Jacobian."""
    turned: np.ndarray
    """(joints, 3, 3): rotation of each joint in camera axes."""
    rest: np.ndarray
    """(joints, 3)"""
    position: np.ndarray
    """(joints, 3)"""
    own: np.ndarray
    """(pairs, 3): the pair's anchor in its joint's frame."""
    placed: np.ndarray
    """(pairs, 3): what the pair adds to its keypoint."""
    points: np.ndarray
    """(points, 3)"""
    feature: np.ndarray
    """(4, joints, 9): ``R - I``, and its three derivatives after it."""
    product: np.ndarray
    """(4, 3 * blocks): each of those times the blend shapes."""
    axes: np.ndarray
    """(joints, 3, 3): columns are the world axes of a small change of the rotation vector."""
    moved: np.ndarray
    """(joints, 3, betas): the joints by the betas."""
    below: np.ndarray
    """(joints, 4): of one keypoint, sum and weight of its pairs at and below a joint."""


def kinematic_arrays(
    tables: KeypointTables,
    parents: tuple[int, ...],
    rest: Float[Tensor, "joints 3"],
    by_shape: Float[Tensor, "joints 3 betas"],
) -> KinematicArrays:
    """Tables of a body on the CPU."""
    order = torch.argsort(tables.keypoint, stable=True)
    keypoint, joint, weight = tables.keypoint[order], tables.joint[order], tables.weight[order]
    blocks = tables.pose[order].unflatten(-1, (-1, 9)).permute(2, 0, 1, 3)  # joint pair xyz 9
    below_root, pair = torch.nonzero((blocks != 0).flatten(2).any(-1), as_tuple=True)
    # From here on anchors are relative to their joint.
    anchor = tables.anchor[order] - weight[:, None] * rest[joint]
    shape = tables.shape[order] - weight[:, None, None] * by_shape[joint]
    moves = torch.zeros(tables.num_keypoints, len(parents), dtype=torch.bool)
    for k, j in zip(keypoint.tolist(), joint.tolist(), strict=True):
        while j >= 0:
            moves[k, j] = True
            j = parents[j]
    moves[keypoint[pair], below_root + 1] = True
    mover = [np.flatnonzero(row)[::-1] for row in moves.numpy()]

    def firsts(counts: Tensor) -> np.ndarray:
        return torch.nn.functional.pad(counts.cumsum(0), (1, 0)).numpy()

    def plain(tensor: Tensor) -> np.ndarray:
        return tensor.detach().contiguous().numpy()

    return KinematicArrays(
        parents=np.array(parents),
        rest=plain(rest),
        by_shape=plain(by_shape),
        joint=plain(joint),
        weight=plain(weight),
        anchor=plain(anchor),
        shape=plain(shape),
        first_pair=firsts(torch.bincount(keypoint, minlength=tables.num_keypoints)),
        block_pair=plain(pair),
        block_keypoint=plain(keypoint[pair]),
        block_joint=plain(below_root + 1),
        block=plain(blocks[below_root, pair].flatten(0, 1).T),
        mover=np.ascontiguousarray(np.concatenate(mover)),
        first_mover=firsts(moves.sum(1)),
    )


def linearize(
    arrays: KinematicArrays, vector: Float[Tensor, "batch unknowns"], *, derivatives: bool = True
) -> tuple[Float[Tensor, "batch points 3"], Float[Tensor, "_ points 3 unknowns"]]:
    """Keypoints and their derivatives; see `kouros.fitting.terms.kinematics.KeypointKinematics.linearize`.

    Without ``derivatives``, the Jacobian is one of no persons.
    """
    count, num_points = len(vector), len(arrays.first_pair) - 1
    jacobian = vector.new_empty(count if derivatives else 0, num_points, 3, vector.shape[1])
    points = vector.new_empty(count, num_points, 3)
    everything = np.ones(vector.shape[1], dtype=np.bool_)

    def some(first: int, end: int, vector: np.ndarray, points: np.ndarray, *jacobian: np.ndarray) -> None:
        at = posed_person(arrays, vector)
        if jacobian:
            _linearize(first, end, arrays, at, everything, vector, jacobian[0], points)
        else:
            _place(first, end, arrays, at, vector, points)

    if derivatives:
        over_batch(some, _LINEARIZE_PRODUCTS, vector, points, jacobian)
    else:
        over_batch(some, _PLACE_PRODUCTS, vector, points)
    return points, jacobian


@compiled(fuse=True)
@no_type_check
def _place(first, end, body, at, vector, points):
    for n in range(first, end):
        place(body, vector[n], at)
        for k in range(points.shape[1]):
            for r in range(3):
                points[n, k, r] = at.points[k, r]


@compiled(fuse=True)
@no_type_check
def _linearize(first, end, body, at, free, vector, jacobian, points):
    for n in range(first, end):
        place(body, vector[n], at)
        for k in range(points.shape[1]):
            for r in range(3):
                points[n, k, r] = at.points[k, r]
        differentiate(body, at, free, jacobian[n])


def posed_person(body: KinematicArrays, like: np.ndarray) -> KinematicState:
    """Room for one person, in the numbers of ``like``."""
    joints, betas, kind = body.rest.shape[0], body.by_shape.shape[2], like.dtype
    pairs, blocks = body.joint.shape[0], body.block.shape[1]
    return KinematicState(
        np.empty((joints, 3, 3), kind),
        np.empty((joints, 3, 3), kind),
        np.empty((joints, 3, 3), kind),
        np.empty((joints, 3), kind),
        np.empty((joints, 3), kind),
        np.empty((pairs, 3), kind),
        np.empty((pairs, 3), kind),
        np.empty((body.first_pair.shape[0] - 1, 3), kind),
        np.empty((4, joints, 9), kind),
        np.empty((4, blocks), kind),
        np.empty((joints, 3, 3), kind),
        np.empty((joints, 3, betas), kind),
        np.empty((joints, 4), kind),
    )


@inner
@no_type_check
def place(body, unknowns, at):
    """Keypoints at these unknowns: ``sum_p R_j own_p + weight_p position_j`` (`kouros.body.tables`)."""
    joints, betas = body.by_shape.shape[0], body.by_shape.shape[2]
    shape_at = 3 * joints
    local, turned, rest, position = at.local, at.turned, at.rest, at.position
    for j in range(joints):
        rotate(unknowns[3 * j], unknowns[3 * j + 1], unknowns[3 * j + 2], local[j], at.right[j])
        for r in range(3):
            total = body.rest[j, r]
            for b in range(betas):
                total += body.by_shape[j, r, b] * unknowns[shape_at + b]
            rest[j, r] = total
            for c in range(3):
                at.feature[0, j, 3 * r + c] = local[j, r, c] - (1 if r == c else 0)
    for j in range(joints):
        p = body.parents[j]
        for r in range(3):
            if p < 0:
                position[j, r] = rest[j, r] + unknowns[shape_at + betas + r]
                for c in range(3):
                    turned[j, r, c] = local[j, r, c]
            else:
                position[j, r] = position[p, r]
                for c in range(3):
                    position[j, r] += turned[p, r, c] * (rest[j, c] - rest[p, c])
                    turned[j, r, c] = (
                        turned[p, r, 0] * local[j, 0, c]
                        + turned[p, r, 1] * local[j, 1, c]
                        + turned[p, r, 2] * local[j, 2, c]
                    )
    own, products = at.own, at.product[0]
    for p in range(own.shape[0]):
        for r in range(3):
            total = body.anchor[p, r]
            for b in range(betas):
                total += body.shape[p, r, b] * unknowns[shape_at + b]
            own[p, r] = total
    s = 0
    while s < body.block_joint.shape[0]:
        s = _blend(body, at, 0, s)
    for s in range(body.block_pair.shape[0]):
        p = body.block_pair[s]
        for r in range(3):
            own[p, r] += products[3 * s + r]
    for k in range(at.points.shape[0]):
        for r in range(3):
            at.points[k, r] = 0
        for p in range(body.first_pair[k], body.first_pair[k + 1]):
            j, w = body.joint[p], body.weight[p]
            for r in range(3):
                there = (
                    turned[j, r, 0] * own[p, 0]
                    + turned[j, r, 1] * own[p, 1]
                    + turned[j, r, 2] * own[p, 2]
                    + w * position[j, r]
                )
                at.placed[p, r] = there
                at.points[k, r] += there


@inlined
@no_type_check
def _blend(body, at, c, s):
    """Feature ``c`` of the joint of block ``s`` times all that joint's blocks; the place of the next joint's.

    Long rows, which the compiler turns into vector instructions.
    """
    i, start = body.block_joint[s], 3 * s
    while s < body.block_joint.shape[0] and body.block_joint[s] == i:
        s += 1
    out = at.product[c, start : 3 * s]
    out[:] = 0
    for m in range(0, 9, 3):
        a, b, d = at.feature[c, i, m], at.feature[c, i, m + 1], at.feature[c, i, m + 2]
        row0, row1 = body.block[m, start : 3 * s], body.block[m + 1, start : 3 * s]
        row2 = body.block[m + 2, start : 3 * s]
        for q in range(out.shape[0]):
            out[q] += a * row0[q] + b * row1[q] + d * row2[q]
    return s


@inner
@no_type_check
def differentiate(body, at, free, jacobian):
    """Derivatives of the keypoints where `place` has put them, by the unknowns that are ``free``; the others' are 0.

    The derivation is `KeypointKinematics.linearize_in_torch`'s. A joint counts as free if its first number is, and
    so do the betas and the translation.
    """
    joints, betas = body.by_shape.shape[0], body.by_shape.shape[2]
    shape_at = 3 * joints
    local, right, turned, position, axes, moved = at.local, at.right, at.turned, at.position, at.axes, at.moved
    jacobian[:] = 0
    for j in range(joints):
        if not free[3 * j]:
            continue
        for c in range(3):
            # dR = R [Jr e_c]x: column by column of R times the cross matrix of column c of Jr.
            x, y, z = right[j, 0, c], right[j, 1, c], right[j, 2, c]
            for r in range(3):
                axes[j, r, c] = turned[j, r, 0] * x + turned[j, r, 1] * y + turned[j, r, 2] * z
                at.feature[c + 1, j, 3 * r] = local[j, r, 1] * z - local[j, r, 2] * y
                at.feature[c + 1, j, 3 * r + 1] = local[j, r, 2] * x - local[j, r, 0] * z
                at.feature[c + 1, j, 3 * r + 2] = local[j, r, 0] * y - local[j, r, 1] * x
    s = 0
    while s < body.block_joint.shape[0]:
        i, start = body.block_joint[s], s
        while s < body.block_joint.shape[0] and body.block_joint[s] == i:
            s += 1
        if not free[3 * i]:
            continue
        for c in range(1, 4):
            _blend(body, at, c, start)
        for b in range(start, s):
            turn, into = turned[body.joint[body.block_pair[b]]], jacobian[body.block_keypoint[b]]
            for c in range(3):
                x, y, z = at.product[c + 1, 3 * b], at.product[c + 1, 3 * b + 1], at.product[c + 1, 3 * b + 2]
                for r in range(3):
                    into[r, 3 * i + c] += turn[r, 0] * x + turn[r, 1] * y + turn[r, 2] * z
    if free[shape_at] and betas > 0:
        for j in range(joints):
            p = body.parents[j]
            for r in range(3):
                for b in range(betas):
                    moved[j, r, b] = body.by_shape[j, r, b] if p < 0 else moved[p, r, b]
                if p >= 0:
                    t0, t1, t2 = turned[p, r, 0], turned[p, r, 1], turned[p, r, 2]
                    for b in range(betas):
                        moved[j, r, b] += (
                            t0 * (body.by_shape[j, 0, b] - body.by_shape[p, 0, b])
                            + t1 * (body.by_shape[j, 1, b] - body.by_shape[p, 1, b])
                            + t2 * (body.by_shape[j, 2, b] - body.by_shape[p, 2, b])
                        )
    below = at.below
    for k in range(at.points.shape[0]):
        into = jacobian[k]
        movers = body.mover[body.first_mover[k] : body.first_mover[k + 1]]
        for i in movers:
            below[i] = 0
        for p in range(body.first_pair[k], body.first_pair[k + 1]):
            j, w = body.joint[p], body.weight[p]
            below[j, 3] += w
            for r in range(3):
                below[j, r] += at.placed[p, r]
                if free[shape_at + betas]:
                    into[r, shape_at + betas + r] += w
            if free[shape_at] and betas > 0:
                for r in range(3):
                    by_betas, t0, t1, t2 = into[r, shape_at:], turned[j, r, 0], turned[j, r, 1], turned[j, r, 2]
                    for b in range(betas):
                        by_betas[b] += (
                            w * moved[j, r, b]
                            + t0 * body.shape[p, 0, b]
                            + t1 * body.shape[p, 1, b]
                            + t2 * body.shape[p, 2, b]
                        )
        for i in movers:  # turning a joint by w moves the pairs at and below it by w x (their points - the joint)
            x, y, z, w = below[i, 0], below[i, 1], below[i, 2], below[i, 3]
            parent = body.parents[i]
            if parent >= 0:
                for r in range(4):
                    below[parent, r] += below[i, r]
            if not free[3 * i]:
                continue
            x, y, z = x - w * position[i, 0], y - w * position[i, 1], z - w * position[i, 2]
            for c in range(3):
                into[0, 3 * i + c] += axes[i, 1, c] * z - axes[i, 2, c] * y
                into[1, 3 * i + c] += axes[i, 2, c] * x - axes[i, 0, c] * z
                into[2, 3 * i + c] += axes[i, 0, c] * y - axes[i, 1, c] * x


@inlined
@no_type_check
def rotate(rx, ry, rz, matrix, right):
    """Rodrigues' formula and its right Jacobian (Chirikjian 2012, Eq. 10.86), through half angles."""
    x, y, z = np.float64(rx), np.float64(ry), np.float64(rz)
    squared = x * x + y * y + z * z
    half = 0.5 * np.sqrt(squared)
    sinc = np.sin(half) / half if half > 0 else 1.0
    a = sinc * np.cos(half)
    b = 0.5 * sinc * sinc
    c = (1.0 - a) / squared if squared > 1e-4 else 1 / 6 - squared * (1 / 120 - squared / 5040)
    xx, yy, zz, xy, xz, yz = x * x, y * y, z * z, x * y, x * z, y * z
    matrix[0, 0], matrix[0, 1], matrix[0, 2] = 1 - b * (yy + zz), b * xy - a * z, b * xz + a * y
    matrix[1, 0], matrix[1, 1], matrix[1, 2] = b * xy + a * z, 1 - b * (xx + zz), b * yz - a * x
    matrix[2, 0], matrix[2, 1], matrix[2, 2] = b * xz - a * y, b * yz + a * x, 1 - b * (xx + yy)
    right[0, 0], right[0, 1], right[0, 2] = 1 - c * (yy + zz), c * xy + b * z, c * xz - b * y
    right[1, 0], right[1, 1], right[1, 2] = c * xy - b * z, 1 - c * (xx + zz), c * yz + b * x
    right[2, 0], right[2, 1], right[2, 2] = c * xz + b * y, c * yz - b * x, 1 - c * (xx + yy)
