"""Keypoints of a body and their exact derivatives, without the mesh and without autograd.

A keypoint is a weighted mean of skinned vertices; `kouros.body.tables` regroups that sum into a few
(keypoint, joint) pairs. Everything below differentiates that regrouped sum by hand.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.body import posing
from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.body.tables import KeypointTables

if TYPE_CHECKING:
    from kouros.fitting.kernels.kinematics import KinematicArrays


@dataclass(frozen=True)
class Rotations:
    """Matrices of rotation vectors, with what their derivatives need."""

    matrix: Float[Tensor, "*batch 3 3"]
    right_jacobian: Float[Tensor, "*batch 3 3"]
    """``Jr`` with ``exp(v + dv) = exp(v) exp(Jr dv)`` to first order (Chirikjian 2012, Eq. 10.86)."""


def exponential_map(rotvec: Float[Tensor, "*batch 3"]) -> Rotations:
    """Rodrigues' formula and its right Jacobian, accurate also at and near zero."""
    squared = (rotvec * rotvec).sum(-1)
    near_zero = squared < 1e-6
    safe = torch.where(near_zero, 1.0, squared)
    angle = safe.sqrt()  # of zero itself it would have no slope, and what is left out would still be learned from
    # Taylor series where the closed forms would divide zero by zero.
    sinc = torch.where(near_zero, 1 - squared / 6, torch.sin(angle) / angle)
    cosc = torch.where(near_zero, 0.5 - squared / 24, (1 - torch.cos(angle)) / safe)
    rest = torch.where(near_zero, 1 / 6 - squared / 120, (1 - sinc) / safe)
    cross = cross_matrix(rotvec)
    square = rotvec[..., :, None] * rotvec[..., None, :]
    diagonal = torch.eye(3, dtype=rotvec.dtype, device=rotvec.device)
    square = square - squared[..., None, None] * diagonal
    return Rotations(
        matrix=diagonal + sinc[..., None, None] * cross + cosc[..., None, None] * square,
        right_jacobian=diagonal - cosc[..., None, None] * cross + rest[..., None, None] * square,
    )


def shortest(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """Vectors of the same rotations, at most pi long."""
    angle = torch.linalg.vector_norm(rotvec, dim=-1, keepdim=True)
    turns = torch.round(angle / (2 * math.pi))
    return rotvec * (1 - 2 * math.pi * turns / angle.clamp(min=1e-12))


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """``[v]x`` with ``[v]x w = v x w``."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


_TABLES = ("keypoint", "joint", "anchor", "shape", "pose", "weight")
"""Arrays of `KeypointTables`, which are buffers by the same names."""


@dataclass(frozen=True)
class LinearKeypoints:
    """Keypoints and their derivatives with respect to the unknowns of `BodyParameters`."""

    points: Float[Tensor, "batch points 3"]
    jacobian: Float[Tensor, "batch points 3 unknowns"]


class JointTree(nn.Module):
    """How one body's joints follow its betas, and which joint carries which.

    Device and dtype are the body's until the module is moved; nothing of it is saved with a system.
    """

    rest: Tensor
    """(24, 3): joints of the mean shape, metres."""
    by_shape: Tensor
    """(24, 3, betas): how betas move them."""
    above: Tensor
    """(24, 24): 1 at (i, j) where joint i is j or lies above it."""
    _bone_by_shape: Tensor

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        self.parents = parents = tuple(int(p) for p in body.parents)
        self.parents_of_bones = list(parents[1:])
        above = torch.eye(len(parents))
        for joint, parent in enumerate(parents[1:], start=1):
            above[:, joint] += above[:, parent]
        by_shape = body.joint_shapedirs
        constants = {
            "rest": body.joint_template,
            "by_shape": by_shape,
            "above": above.to(body.joint_template),
            "_bone_by_shape": by_shape[1:] - by_shape[self.parents_of_bones],
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    def resting(self, betas: Float[Tensor, "batch betas"]) -> Float[Tensor, "batch 24 3"]:
        """The joints of these shapes in the rest pose."""
        return self.rest + torch.einsum("jcs,bs->bjc", self.by_shape, betas)

    def moved_by_shape(self, rotation: Float[Tensor, "batch 24 3 3"]) -> Float[Tensor, "batch 24 3 betas"]:
        """How betas move the posed joints: each bone by its own change, turned as its parent is."""
        bones = rotation[:, self.parents_of_bones] @ self._bone_by_shape
        root = self.by_shape[:1].expand(len(bones), -1, -1, -1)
        return torch.einsum("ij,bics->bjcs", self.above, torch.cat([root, bones], dim=1))


class KeypointKinematics(nn.Module):
    """One body's keypoints of one set as a differentiable function of its parameters.

    Holds what depends only on the body: its tree of joints, the pairs of `KeypointTables`, and which joint moves
    which keypoint. Device and dtype are the body's until the module is moved; nothing of it is saved with a system.

    Args:
        tables: default: the set's points as the body defines them.
    """

    pose: Tensor
    _gather: Tensor
    _turned: Tensor
    _turned_weight: Tensor
    _total_weight: Tensor

    def __init__(self, body: BodyModel, set_name: str, tables: KeypointTables | None = None) -> None:
        super().__init__()
        tables = tables or body.keypoint_tables(set_name)
        self.tree = JointTree(body)
        self._levels, self._from_levels = _tree_levels(self.tree.parents)
        self._num_keypoints = tables.num_keypoints
        self._has_pose_moves = bool(tables.pose.any())
        self._arrays: tuple[Tensor, KinematicArrays] | None = None
        like = tables.anchor
        # (keypoint, pair): which pairs add up to a keypoint; (joint, keypoint, pair): those a joint turns.
        points = torch.arange(tables.num_keypoints, device=like.device)
        gather = (points[:, None] == tables.keypoint).to(like)
        turned = self.tree.above[:, None, tables.joint] * gather
        constants = {
            **{name: getattr(tables, name) for name in _TABLES},
            "_gather": gather,
            "_turned": turned,
            "_turned_weight": (turned * tables.weight).sum(-1),
            "_total_weight": gather @ tables.weight,
        }
        for name, constant in constants.items():
            self.register_buffer(name, constant, persistent=False)

    @property
    def tables(self) -> KeypointTables:
        """The pairs, where the module is."""
        return KeypointTables(**{name: getattr(self, name) for name in _TABLES}, num_keypoints=self._num_keypoints)

    @property
    def _pose_moves(self) -> Float[Tensor, "pairs 3 207"] | None:
        """Pose blend shapes of the pairs, or None for a body that has none."""
        return self.pose if self._has_pose_moves else None

    def points(self, parameters: BodyParameters) -> Float[Tensor, "batch points 3"]:
        """Keypoints only, metres."""
        vector = parameters.vector
        if not _loops_apply(vector):
            return self._evaluate(parameters).points
        from kouros.fitting.kernels import kinematics as loops

        return loops.linearize(self.arrays, vector, derivatives=False)[0]

    def linearize(self, parameters: BodyParameters) -> LinearKeypoints:
        """Keypoints and their derivatives, by compiled loops where these apply."""
        vector = parameters.vector
        if not _loops_apply(vector):
            return self.linearize_in_torch(parameters)
        from kouros.fitting.kernels import kinematics as loops

        return LinearKeypoints(*loops.linearize(self.arrays, vector))

    @property
    def arrays(self) -> "KinematicArrays":
        """What the compiled loops read; for a body on the CPU."""
        # Made once, and again when the module has been moved, which gives it other buffers.
        tree = self.tree
        if self._arrays is None or self._arrays[0] is not tree.rest:
            from kouros.fitting.kernels import kinematics as loops

            arrays = loops.kinematic_arrays(self.tables, tree.parents, tree.rest, tree.by_shape)
            self._arrays = tree.rest, arrays
        return self._arrays[1]

    def linearize_in_torch(self, parameters: BodyParameters) -> LinearKeypoints:
        """The same on any device, differentiable."""
        at = self._evaluate(parameters)
        weight = self.tables.weight
        # Turning joint i by w moves a point p below it by w x (p - t_i), summed over the keypoint's pairs.
        lever = torch.einsum("ikp,bpc->bikc", self._turned, at.contribution)
        lever = lever - self._turned_weight[..., None] * at.position[:, :, None]
        axes = at.rotation @ at.local.right_jacobian  # columns: world axes of d(rotation vector)
        by_pose = torch.linalg.cross(
            axes.mT[:, :, None].expand(-1, -1, lever.shape[2], -1, -1), lever[:, :, :, None], dim=-1
        )  # batch joint point axis xyz
        by_pose = by_pose.permute(0, 2, 4, 1, 3)
        turn = at.rotation[:, self.tables.joint]
        if self._pose_moves is not None:
            by_pose = by_pose + self._by_blend_shapes(at, turn)
        # Shape moves the pair's anchor in its joint's frame and the joint itself.
        joints_by_shape = self.tree.moved_by_shape(at.rotation)
        own = self.tables.shape - weight[:, None, None] * self.tree.by_shape[self.tables.joint]
        pairs = turn @ own + weight[:, None, None] * joints_by_shape[:, self.tables.joint]
        by_shape = torch.einsum("kp,bpcn->bkcn", self._gather, pairs)
        eye = torch.eye(3, dtype=turn.dtype, device=turn.device)
        by_transl = (self._total_weight[:, None, None] * eye).expand(len(turn), -1, -1, -1)
        return LinearKeypoints(at.points, torch.cat([by_pose.flatten(-2), by_shape, by_transl], dim=-1))

    def _by_blend_shapes(self, at: "_Evaluation", turn: Tensor) -> Float[Tensor, "batch points 3 24 3"]:
        """Derivative through ``R - I``: ``dR = R [Jr dv]x``, joint by joint, then through the pair's
        joint."""
        assert self._pose_moves is not None
        unit = cross_matrix(torch.eye(3, dtype=turn.dtype, device=turn.device))  # [e_a]x
        local, jacobian = at.local.matrix[:, 1:], at.local.right_jacobian[:, 1:]
        change = torch.einsum("bjrs,ast,bjan->bjrtn", local, unit, jacobian).flatten(2, 3)
        moves = self._pose_moves.unflatten(-1, (23, 9))
        anchors = torch.einsum("pcjm,bjmn->bpcjn", moves, change).flatten(-2)
        by_blend = torch.einsum("kp,bpcn->bkcn", self._gather, turn @ anchors).unflatten(-1, (23, 3))
        return torch.nn.functional.pad(by_blend, (0, 0, 1, 0))

    def _evaluate(self, parameters: BodyParameters) -> "_Evaluation":
        local = exponential_map(parameters.pose.unflatten(-1, (24, 3)))
        tree, rest = self.tree, self.tree.resting(parameters.betas)
        level = local.matrix[:, :1]
        levels = [level]
        for joints, above in self._levels:  # few batched products instead of one per joint
            level = level[:, above] @ local.matrix[:, joints]
            levels.append(level)
        everywhere = torch.cat(levels, dim=1)[:, self._from_levels]
        bones = rest[:, 1:] - rest[:, tree.parents_of_bones]
        steps = (everywhere[:, tree.parents_of_bones] @ bones[..., None])[..., 0]
        steps = torch.cat([rest[:, :1] + parameters.transl[:, None], steps], dim=1)
        position = torch.einsum("ij,bic->bjc", tree.above, steps)

        tables = self.tables
        anchor = tables.anchor + torch.einsum("pcn,bn->bpc", tables.shape, parameters.betas)
        if self._pose_moves is not None:
            eye = torch.eye(3, dtype=anchor.dtype, device=anchor.device)
            feature = (local.matrix[:, 1:] - eye).flatten(1)
            anchor = anchor + torch.einsum("pcf,bf->bpc", self._pose_moves, feature)
        weight = tables.weight[:, None]
        own = anchor - weight * rest[:, tables.joint]
        turned = (everywhere[:, tables.joint] @ own[..., None])[..., 0]
        contribution = turned + weight * position[:, tables.joint]
        points = torch.einsum("kp,bpc->bkc", self._gather, contribution)
        return _Evaluation(local, everywhere, position, contribution, points)


@dataclass(frozen=True)
class _Evaluation:
    local: Rotations
    rotation: Float[Tensor, "batch joints 3 3"]
    position: Float[Tensor, "batch joints 3"]
    contribution: Float[Tensor, "batch pairs 3"]
    points: Float[Tensor, "batch points 3"]


def _loops_apply(vector: Tensor) -> bool:
    return posing.kernels_apply(vector) and not (torch.is_grad_enabled() and vector.requires_grad)


def _tree_levels(parents: tuple[int, ...]) -> tuple[list[tuple[list[int], list[int]]], list[int]]:
    """Joints by depth below the root, each with its parent's place in the level above; and, for every
    joint, its place in the levels laid end to end."""
    level = [0]
    levels, order = [], [0]
    while len(order) < len(parents):
        joints = [j for j, parent in enumerate(parents) if parent in level]
        levels.append((joints, [level.index(parents[j]) for j in joints]))
        order += joints
        level = joints
    return levels, [order.index(j) for j in range(len(parents))]
