"""The inner loop of a fit, compiled: keypoints with their derivatives.

`kouros.fitting.kinematics` has the same in torch, for other devices, and to read first. Here a person's
numbers stay in the cache, and what is zero is skipped: a keypoint moves with few joints, and pose blend
shapes reach only near ones.
"""

from dataclasses import dataclass
from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.tables import KeypointTables
from kouros.compiled import compiled, over_batch

_LINEARIZE_PRODUCTS = 15_000
"""Work a person, in the units by which `over_batch` decides how many threads are worth it."""


@dataclass(frozen=True)
class KinematicArrays:
    """What depends only on the body and the keypoint set, as the kernel reads it."""

    parents: np.ndarray
    rest: np.ndarray
    """(joints, 3)"""
    by_shape: np.ndarray
    """(joints, 3, betas)"""
    keypoint: np.ndarray
    joint: np.ndarray
    weight: np.ndarray
    anchor: np.ndarray
    shape: np.ndarray
    """Of each pair, relative to its joint."""
    block_pair: np.ndarray
    block_joint: np.ndarray
    """Which joint's ``R - I`` a block multiplies; sorted. The root has none."""
    block: np.ndarray
    """(9, 3 * blocks): pose blend shapes that are not zero, the nine numbers of ``R - I`` first."""


def kinematic_arrays(
    tables: KeypointTables,
    parents: tuple[int, ...],
    rest: Float[Tensor, "joints 3"],
    by_shape: Float[Tensor, "joints 3 betas"],
) -> KinematicArrays:
    """Tables of a body on the CPU, sorted by pair."""
    blocks = tables.pose.unflatten(-1, (-1, 9)).permute(2, 0, 1, 3)  # joint pair xyz 9
    joint, pair = torch.nonzero((blocks != 0).flatten(2).any(-1), as_tuple=True)
    # From here on anchors are relative to their joint.
    share = tables.weight[:, None]
    anchor = tables.anchor - share * rest[tables.joint]
    shape = tables.shape - share[..., None] * by_shape[tables.joint]
    tensors = (
        rest, by_shape, tables.keypoint, tables.joint, tables.weight, anchor, shape, pair, joint + 1,
        blocks[joint, pair].flatten(0, 1).T,
    )  # fmt: skip
    return KinematicArrays(np.array(parents), *(t.detach().contiguous().numpy() for t in tensors))


def linearize(
    arrays: KinematicArrays, vector: Float[Tensor, "batch unknowns"], num_keypoints: int
) -> tuple[Float[Tensor, "batch points 3"], Float[Tensor, "batch points 3 unknowns"]]:
    """Keypoints and their derivatives; see `kouros.fitting.kinematics.KeypointKinematics.linearize`."""
    points = vector.new_zeros(len(vector), num_keypoints, 3)
    jacobian = vector.new_zeros(len(vector), num_keypoints, 3, vector.shape[1])
    a = arrays
    over_batch(
        _linearize, _LINEARIZE_PRODUCTS, a.parents, a.rest, a.by_shape, a.keypoint, a.joint, a.weight,
        a.anchor, a.shape, a.block_pair, a.block_joint, a.block, vector, points, jacobian,
    )  # fmt: skip
    return points, jacobian


@compiled(fuse=True)
@no_type_check
def _linearize(
    first, end, parents, rest, by_shape, keypoint, joint, weight, anchor, shape, block_pair, block_joint,
    block, vector, points, jacobian,
):  # fmt: skip
    """The derivation is `KeypointKinematics.linearize`'s, one (keypoint, joint) pair after the other."""
    joints, betas = by_shape.shape[0], by_shape.shape[2]
    local, right = np.empty((joints, 3, 3), vector.dtype), np.empty((joints, 3, 3), vector.dtype)
    turned, axes = np.empty((joints, 3, 3), vector.dtype), np.empty((joints, 3, 3), vector.dtype)
    # R - I, and its three derivatives beside it: what a blend shape is multiplied by.
    feature = np.empty((joints, 9, 4), vector.dtype)
    here, position = np.empty((joints, 3), vector.dtype), np.empty((joints, 3), vector.dtype)
    moved = np.empty((joints, 3, betas), vector.dtype)
    own, sum3 = np.empty((keypoint.shape[0], 3), vector.dtype), np.empty(3, vector.dtype)
    product = np.empty((4, block.shape[1]), vector.dtype)
    shape_at = 3 * joints
    for n in range(first, end):
        # Joints: rotations, where they rest and stand, and how that changes with the betas.
        for j in range(joints):
            _rotate(vector[n, 3 * j], vector[n, 3 * j + 1], vector[n, 3 * j + 2], local[j], right[j])
            for r in range(3):
                here[j, r] = rest[j, r]
                for b in range(betas):
                    here[j, r] += by_shape[j, r, b] * vector[n, shape_at + b]
        for j in range(joints):
            p = parents[j]
            for r in range(3):
                if p < 0:
                    position[j, r] = here[j, r] + vector[n, shape_at + betas + r]
                    for c in range(3):
                        turned[j, r, c] = local[j, r, c]
                    for b in range(betas):
                        moved[j, r, b] = by_shape[j, r, b]
                else:
                    position[j, r] = position[p, r]
                    for c in range(3):
                        position[j, r] += turned[p, r, c] * (here[j, c] - here[p, c])
                        turned[j, r, c] = (
                            turned[p, r, 0] * local[j, 0, c]
                            + turned[p, r, 1] * local[j, 1, c]
                            + turned[p, r, 2] * local[j, 2, c]
                        )
                    for b in range(betas):
                        moved[j, r, b] = moved[p, r, b]
                    for c in range(3):
                        for b in range(betas):
                            moved[j, r, b] += turned[p, r, c] * (by_shape[j, c, b] - by_shape[p, c, b])
            for r in range(3):
                for c in range(3):
                    axes[j, r, c] = (
                        turned[j, r, 0] * right[j, 0, c]
                        + turned[j, r, 1] * right[j, 1, c]
                        + turned[j, r, 2] * right[j, 2, c]
                    )
                    # dR = R [Jr e_c]x: column by column of R times the cross matrix of column c of Jr.
                    x, y, z = right[j, 0, c], right[j, 1, c], right[j, 2, c]
                    feature[j, 3 * r, c + 1] = local[j, r, 1] * z - local[j, r, 2] * y
                    feature[j, 3 * r + 1, c + 1] = local[j, r, 2] * x - local[j, r, 0] * z
                    feature[j, 3 * r + 2, c + 1] = local[j, r, 0] * y - local[j, r, 1] * x
                    feature[j, 3 * r + c, 0] = local[j, r, c] - (1 if r == c else 0)
        # Pose blend shapes, by joint: long rows, which the compiler turns into vector instructions.
        s = 0
        while s < block_joint.shape[0]:
            i, first_row = block_joint[s], 3 * s
            while s < block_joint.shape[0] and block_joint[s] == i:
                s += 1
            for c in range(4):
                out = product[c, first_row : 3 * s]
                out[:] = 0
                for m in range(9):
                    value, row = feature[i, m, c], block[m, first_row : 3 * s]
                    for q in range(row.shape[0]):
                        out[q] += value * row[q]
        for p in range(keypoint.shape[0]):
            for r in range(3):
                own[p, r] = anchor[p, r]
                for b in range(betas):
                    own[p, r] += shape[p, r, b] * vector[n, shape_at + b]
        for s in range(block_joint.shape[0]):
            i, p = block_joint[s], block_pair[s]
            turn, into = turned[joint[p]], jacobian[n, keypoint[p]]
            for r in range(3):
                own[p, r] += product[0, 3 * s + r]
                for c in range(3):
                    into[r, 3 * i + c] += (
                        turn[r, 0] * product[c + 1, 3 * s]
                        + turn[r, 1] * product[c + 1, 3 * s + 1]
                        + turn[r, 2] * product[c + 1, 3 * s + 2]
                    )
        for p in range(keypoint.shape[0]):
            k, j, w = keypoint[p], joint[p], weight[p]
            turn, into, x, y, z = turned[j], jacobian[n, k], own[p, 0], own[p, 1], own[p, 2]
            for r in range(3):
                sum3[r] = turn[r, 0] * x + turn[r, 1] * y + turn[r, 2] * z + w * position[j, r]
                points[n, k, r] += sum3[r]
                into[r, shape_at + betas + r] += w
                by_betas, t0, t1, t2 = into[r, shape_at:], turn[r, 0], turn[r, 1], turn[r, 2]
                for b in range(betas):
                    by_betas[b] += w * moved[j, r, b] + t0 * shape[p, 0, b] + t1 * shape[p, 1, b] + t2 * shape[p, 2, b]
            i = j
            while i >= 0:  # turning any joint above by w moves the pair by w x (its points - the joint)
                x, y, z = (
                    sum3[0] - w * position[i, 0],
                    sum3[1] - w * position[i, 1],
                    sum3[2] - w * position[i, 2],
                )
                for c in range(3):
                    into[0, 3 * i + c] += axes[i, 1, c] * z - axes[i, 2, c] * y
                    into[1, 3 * i + c] += axes[i, 2, c] * x - axes[i, 0, c] * z
                    into[2, 3 * i + c] += axes[i, 0, c] * y - axes[i, 1, c] * x
                i = parents[i]


@compiled(fuse=True)
@no_type_check
def _rotate(rx, ry, rz, matrix, right):
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
