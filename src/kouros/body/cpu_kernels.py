"""Rodrigues' formula, forward kinematics and skinning as compiled loops, with derivatives by hand.

Torch's operations on many tiny matrices spend their time on overheads, and those on skinned meshes on moving
blended transforms through memory. Each loop here reads its input once and writes its result once. The
functions are told by `kouros.body.posing`; derivatives of derivatives go through the formulas in torch.
"""

from collections.abc import Callable, Sequence
from typing import Any, no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.body import lbs, skeleton
from kouros.compiled import compiled, on_this_thread, over_batch
from kouros.geometry import rotations as formulas

_PARENTS = np.array(skeleton.PARENTS)


def rotvec_to_rotmat(rotvec: Float[Tensor, "batch joints 3"]) -> Float[Tensor, "batch joints 3 3"]:
    """Rotation matrices of rotation vectors, radians."""
    return _RotvecToRotmat.apply(rotvec)


def forward_kinematics(
    rotations: Float[Tensor, "batch joints 3 3"], rest_joints: Float[Tensor, "batch joints 3"]
) -> tuple[Float[Tensor, "batch joints 3 3"], Float[Tensor, "batch joints 3"]]:
    """Global rotations and positions of the joints of `kouros.body.skeleton`'s tree."""
    return _ForwardKinematics.apply(rotations, rest_joints)


def skin(
    vertices: Float[Tensor, "batch verts 3"],
    transforms: Float[Tensor, "batch joints 3 4"],
    transl: Float[Tensor, "batch 3"],
    index: Int[Tensor, "verts slots"],
    value: Float[Tensor, "verts slots"],
) -> Float[Tensor, "batch verts 3"]:
    """Linear blend skinning, then a translation; zero weights come last in each row.

    Fastest for a batch whose bodies lie side by side in memory: ``vertices`` the transpose of (verts, 3, batch).
    """
    return _Skin.apply(vertices, transforms, transl, index, value)


_WIDE = 8
"""Bodies from which on a vertex of all of them is moved at once, in vector registers."""


def _side_by_side(vertices: Tensor) -> bool:
    """Whether (batch, verts, 3) is the transpose of contiguous (verts, 3, batch) and worth the wide kernels."""
    return len(vertices) >= _WIDE and vertices.permute(1, 2, 0).is_contiguous()


class _RotvecToRotmat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rotvec: Tensor) -> Tensor:
        ctx.save_for_backward(rotvec)
        result = rotvec.new_empty(*rotvec.shape, 3)
        over_batch(_rodrigues, rotvec.shape[1], rotvec, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor | None:
        (rotvec,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _by_autograd(formulas.rotvec_to_rotmat, (rotvec,), gradients)[0]
        result = rotvec.new_empty(rotvec.shape)
        over_batch(_rodrigues_backward, rotvec.shape[1], rotvec, gradients[0], result)
        return result


class _ForwardKinematics(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rotations: Tensor, rest_joints: Tensor) -> tuple[Tensor, Tensor]:
        turned, positions = rotations.new_empty(rotations.shape), rotations.new_empty(rest_joints.shape)
        over_batch(_chain, 4 * rotations.shape[1], _PARENTS, rotations, rest_joints, turned, positions)
        ctx.save_for_backward(rotations, rest_joints, turned)
        return turned, positions

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rotations, rest_joints, turned = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _by_autograd(skeleton.forward_kinematics, (rotations, rest_joints), gradients)
        by_rotations, by_rest = torch.empty_like(turned), turned.new_empty(rest_joints.shape)
        # The kernel adds to these on its way from the leaves to the root.
        by_turned, by_positions = (g.clone(memory_format=torch.contiguous_format) for g in gradients)
        arrays = rotations, rest_joints, turned, by_turned, by_positions, by_rotations, by_rest
        over_batch(_chain_backward, 12 * rotations.shape[1], _PARENTS, *arrays)
        return by_rotations, by_rest


class _Skin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vertices: Tensor, transforms: Tensor, transl: Tensor, index: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(vertices, transforms, transl, index, value)
        result = vertices.new_empty(vertices.shape)
        if _side_by_side(vertices):
            wide = vertices.permute(1, 2, 0), transforms.flatten(-2).permute(1, 2, 0), transl
            on_this_thread(_skin_wide, index, value, *wide, result)
        else:
            over_batch(_skin, 4 * len(index), index, value, vertices, transforms, transl, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        vertices, transforms, transl, index, value = ctx.saved_tensors
        if torch.is_grad_enabled():
            weights = value.new_zeros(len(index), transforms.shape[-3]).scatter_add(1, index, value)

            def formula(vertices: Tensor, transforms: Tensor, transl: Tensor) -> Tensor:
                return lbs.linear_blend_skinning(vertices, transforms, weights) + transl[:, None]

            return *_by_autograd(formula, (vertices, transforms, transl), gradients), None, None
        if _side_by_side(vertices):
            wide = vertices.permute(1, 2, 0), transforms.flatten(-2).permute(1, 2, 0)
            by_wide = torch.empty_like(wide[0]), torch.zeros_like(wide[1].contiguous())
            on_this_thread(_skin_wide_backward, index, value, *wide, *by_wide, gradients[0])
            by_vertices = by_wide[0].permute(2, 0, 1)
            by_transforms = by_wide[1].permute(2, 0, 1).unflatten(-1, (3, 4))
        else:
            by_vertices, by_transforms = vertices.new_empty(vertices.shape), vertices.new_zeros(transforms.shape)
            arrays = index, value, vertices, transforms, gradients[0], by_vertices, by_transforms
            over_batch(_skin_backward, 8 * len(index), *arrays)
        by_transl = gradients[0].sum(1) if ctx.needs_input_grad[2] else None
        return by_vertices, by_transforms, by_transl, None, None


def _by_autograd(
    formula: Callable[..., Any], inputs: Sequence[Tensor], gradients: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """Derivatives that can be differentiated again, of the same function written in torch."""
    needed = [x for x in inputs if x.requires_grad]
    found = iter(torch.autograd.grad(formula(*inputs), needed, gradients, create_graph=True))
    return tuple(next(found) if x.requires_grad else None for x in inputs)


@compiled(fuse=True)
@no_type_check
def _rodrigues(first, end, rotvec, result):
    """``R = I + a [v]x + b [v]x^2`` with ``a = sin t / t``, ``b = (1 - cos t) / t^2``, ``t = |v|``."""
    for n in range(first, end):
        for j in range(rotvec.shape[1]):
            x, y, z = np.float64(rotvec[n, j, 0]), np.float64(rotvec[n, j, 1]), np.float64(rotvec[n, j, 2])
            half = 0.5 * np.sqrt(x * x + y * y + z * z)
            # Half angles lose no digits where the angle is small.
            sinc = np.sin(half) / half if half > 0 else 1.0
            a = sinc * np.cos(half)
            b = 0.5 * sinc * sinc
            result[n, j, 0, 0] = 1.0 - b * (y * y + z * z)
            result[n, j, 1, 1] = 1.0 - b * (x * x + z * z)
            result[n, j, 2, 2] = 1.0 - b * (x * x + y * y)
            result[n, j, 0, 1] = b * x * y - a * z
            result[n, j, 1, 0] = b * x * y + a * z
            result[n, j, 0, 2] = b * x * z + a * y
            result[n, j, 2, 0] = b * x * z - a * y
            result[n, j, 1, 2] = b * y * z - a * x
            result[n, j, 2, 1] = b * y * z + a * x


@compiled(fuse=True)
@no_type_check
def _rodrigues_backward(first, end, rotvec, gradient, result):
    """``Jl' = I - b [v]x + c [v]x^2`` on the torque, as ``dR = [Jl dv]x R`` (Chirikjian 2012, Eq. 10.86)."""
    for n in range(first, end):
        for j in range(rotvec.shape[1]):
            x, y, z = np.float64(rotvec[n, j, 0]), np.float64(rotvec[n, j, 1]), np.float64(rotvec[n, j, 2])
            squared = x * x + y * y + z * z
            half = 0.5 * np.sqrt(squared)
            sinc = np.sin(half) / half if half > 0 else 1.0
            a = sinc * np.cos(half)
            b = 0.5 * sinc * sinc
            c = (1.0 - a) / squared if squared > 1e-4 else 1 / 6 - squared * (1 / 120 - squared / 5040)
            r00, r01, r02 = 1.0 - b * (y * y + z * z), b * x * y - a * z, b * x * z + a * y
            r10, r11, r12 = b * x * y + a * z, 1.0 - b * (x * x + z * z), b * y * z - a * x
            r20, r21, r22 = b * x * z - a * y, b * y * z + a * x, 1.0 - b * (x * x + y * y)
            g = gradient[n, j]
            # The axial vector of (gradient R').
            p = g[2, 0] * r10 + g[2, 1] * r11 + g[2, 2] * r12 - g[1, 0] * r20 - g[1, 1] * r21 - g[1, 2] * r22
            q = g[0, 0] * r20 + g[0, 1] * r21 + g[0, 2] * r22 - g[2, 0] * r00 - g[2, 1] * r01 - g[2, 2] * r02
            r = g[1, 0] * r00 + g[1, 1] * r01 + g[1, 2] * r02 - g[0, 0] * r10 - g[0, 1] * r11 - g[0, 2] * r12
            along = c * (x * p + y * q + z * r)
            across = 1.0 - c * squared
            result[n, j, 0] = across * p - b * (y * r - z * q) + along * x
            result[n, j, 1] = across * q - b * (z * p - x * r) + along * y
            result[n, j, 2] = across * r - b * (x * q - y * p) + along * z


@compiled(fuse=True)
@no_type_check
def _chain(first, end, parents, rotations, rest, turned, positions):
    """``G_j = G_parent R_j`` and ``p_j = p_parent + G_parent (rest_j - rest_parent)``, root to leaves."""
    for n in range(first, end):
        for r in range(3):
            positions[n, 0, r] = rest[n, 0, r]
            for c in range(3):
                turned[n, 0, r, c] = rotations[n, 0, r, c]
        for j in range(1, rotations.shape[1]):
            p = parents[j]
            x, y, z = (
                rest[n, j, 0] - rest[n, p, 0],
                rest[n, j, 1] - rest[n, p, 1],
                rest[n, j, 2] - rest[n, p, 2],
            )
            local = rotations[n, j]
            for r in range(3):
                g0, g1, g2 = turned[n, p, r, 0], turned[n, p, r, 1], turned[n, p, r, 2]
                positions[n, j, r] = positions[n, p, r] + g0 * x + g1 * y + g2 * z
                for c in range(3):
                    turned[n, j, r, c] = g0 * local[0, c] + g1 * local[1, c] + g2 * local[2, c]


@compiled(fuse=True)
@no_type_check
def _chain_backward(first, end, parents, rotations, rest, turned, by_turned, by_positions, by_rotations, by_rest):
    """Transposes of `_chain`'s products, leaves to root; ``by_turned`` and ``by_positions`` are used up."""
    for n in range(first, end):
        for j in range(rotations.shape[1]):
            for r in range(3):
                by_rest[n, j, r] = 0
        for j in range(rotations.shape[1] - 1, 0, -1):
            p = parents[j]
            above, local = turned[n, p], rotations[n, j]
            g, h = by_turned[n, j], by_positions[n, j]
            for r in range(3):
                bone = rest[n, j, r] - rest[n, p, r]
                pull = above[0, r] * h[0] + above[1, r] * h[1] + above[2, r] * h[2]
                by_rest[n, j, r] += pull
                by_rest[n, p, r] -= pull
                for c in range(3):
                    by_rotations[n, j, r, c] = above[0, r] * g[0, c] + above[1, r] * g[1, c] + above[2, r] * g[2, c]
                    by_turned[n, p, c, r] += (
                        g[c, 0] * local[r, 0] + g[c, 1] * local[r, 1] + g[c, 2] * local[r, 2] + h[c] * bone
                    )
            for r in range(3):
                by_positions[n, p, r] += h[r]
        for r in range(3):
            by_rest[n, 0, r] += by_positions[n, 0, r]
            for c in range(3):
                by_rotations[n, 0, r, c] = by_turned[n, 0, r, c]


@compiled(fuse=True, makes_arrays=True)
@no_type_check
def _skin_wide(first, end, index, value, vertices, transforms, transl, result):
    """As `_skin`, for vertices (verts, 3, batch) and transforms (joints, 12, batch): the innermost loops run over
    bodies side by side in memory."""
    # Inner loops count from zero over arrays of their own: an index with an offset might be negative for all that
    # the compiler knows, and is not put into vector registers.
    count = end - first
    own = transforms[:, :, first:end].copy()
    blended = np.empty((12, count), dtype=vertices.dtype)
    place = np.empty((3, count), dtype=vertices.dtype)
    for v in range(index.shape[0]):
        for c in range(3):
            for n in range(count):
                place[c, n] = vertices[v, c, first + n]
        for s in range(index.shape[1]):
            w, joint = value[v, s], index[v, s]
            if s > 0 and w == 0:
                break
            if s == 0:
                blended[:] = 0
            for k in range(12):
                for n in range(count):
                    blended[k, n] += w * own[joint, k, n]
        for c in range(3):
            r = 4 * c
            for n in range(count):
                blended[c, n] = (
                    blended[r, n] * place[0, n]
                    + blended[r + 1, n] * place[1, n]
                    + blended[r + 2, n] * place[2, n]
                    + blended[r + 3, n]
                )
        for n in range(count):
            result[first + n, v, 0] = blended[0, n] + transl[first + n, 0]
            result[first + n, v, 1] = blended[1, n] + transl[first + n, 1]
            result[first + n, v, 2] = blended[2, n] + transl[first + n, 2]


@compiled(fuse=True, makes_arrays=True)
@no_type_check
def _skin_wide_backward(first, end, index, value, vertices, transforms, by_vertices, by_transforms, gradient):
    """As `_skin_backward`, in the layout of `_skin_wide`."""
    count = end - first
    own = transforms[:, :, first:end].copy()
    by_own = np.zeros_like(own)
    pull = np.empty((3, count), dtype=vertices.dtype)
    place = np.empty((3, count), dtype=vertices.dtype)
    total = np.empty((3, count), dtype=vertices.dtype)
    for v in range(index.shape[0]):
        for c in range(3):
            for n in range(count):
                pull[c, n] = gradient[first + n, v, c]
                place[c, n] = vertices[v, c, first + n]
        total[:] = 0
        for s in range(index.shape[1]):
            w, joint = value[v, s], index[v, s]
            if w == 0:
                break
            for c in range(3):
                for k in range(3):
                    r = 4 * c + k
                    for n in range(count):
                        total[k, n] += w * pull[c, n] * own[joint, r, n]
                        by_own[joint, r, n] += w * pull[c, n] * place[k, n]
                for n in range(count):
                    by_own[joint, 4 * c + 3, n] += w * pull[c, n]
        for k in range(3):
            for n in range(count):
                by_vertices[v, k, first + n] = total[k, n]
    by_transforms[:, :, first:end] = by_own


@compiled(fuse=True)
@no_type_check
def _skin(first, end, index, value, vertices, transforms, transl, result):
    """``sum_s w_s (R_s v + t_s) + transl``."""
    for n in range(first, end):
        for v in range(index.shape[0]):
            x, y, z = vertices[n, v, 0], vertices[n, v, 1], vertices[n, v, 2]
            out_x = out_y = out_z = vertices.dtype.type(0)
            for s in range(index.shape[1]):
                w = value[v, s]
                if w == 0:
                    break
                t = transforms[n, index[v, s]]
                out_x += w * (t[0, 0] * x + t[0, 1] * y + t[0, 2] * z + t[0, 3])
                out_y += w * (t[1, 0] * x + t[1, 1] * y + t[1, 2] * z + t[1, 3])
                out_z += w * (t[2, 0] * x + t[2, 1] * y + t[2, 2] * z + t[2, 3])
            result[n, v, 0] = out_x + transl[n, 0]
            result[n, v, 1] = out_y + transl[n, 1]
            result[n, v, 2] = out_z + transl[n, 2]


@compiled(fuse=True)
@no_type_check
def _skin_backward(first, end, index, value, vertices, transforms, gradient, by_vertices, by_transforms):
    """``dv = sum_s w_s R_s' g``, ``dR_s = sum_v w_s g v'``, ``dt_s = sum_v w_s g``."""
    for n in range(first, end):
        for v in range(index.shape[0]):
            x, y, z = vertices[n, v, 0], vertices[n, v, 1], vertices[n, v, 2]
            g_x, g_y, g_z = gradient[n, v, 0], gradient[n, v, 1], gradient[n, v, 2]
            by_x = by_y = by_z = vertices.dtype.type(0)
            for s in range(index.shape[1]):
                w = value[v, s]
                if w == 0:
                    break
                t, d = transforms[n, index[v, s]], by_transforms[n, index[v, s]]
                p, q, r = w * g_x, w * g_y, w * g_z
                by_x += t[0, 0] * p + t[1, 0] * q + t[2, 0] * r
                by_y += t[0, 1] * p + t[1, 1] * q + t[2, 1] * r
                by_z += t[0, 2] * p + t[1, 2] * q + t[2, 2] * r
                d[0, 0] += p * x
                d[0, 1] += p * y
                d[0, 2] += p * z
                d[0, 3] += p
                d[1, 0] += q * x
                d[1, 1] += q * y
                d[1, 2] += q * z
                d[1, 3] += q
                d[2, 0] += r * x
                d[2, 1] += r * y
                d[2, 2] += r * z
                d[2, 3] += r
            by_vertices[n, v, 0] = by_x
            by_vertices[n, v, 1] = by_y
            by_vertices[n, v, 2] = by_z
