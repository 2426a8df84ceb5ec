"""HoloPose's prior on rotations: each joint mixes typical rotations (Güler and Kokkinos 2019, Sec. 2.1).

K-means over a joint's Euler angles gives ``K`` experts; a network's ``K`` numbers weigh them by a softmax
(Eq. 1), so that whatever it says lies in the convex hull of rotations that people take. For fits, which know
poses and no weights, the prior charges what lies outside that hull.
"""

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import ConvexHull
from torch import Tensor, nn

from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.priors.body_pose import JOINTS, check_body_pose, joint_derivatives
from kouros.priors.energy import PriorEnergy, sum_of_squares
from kouros.priors.packaged import FOLDER, read_arrays

DEFAULT_SLACK = math.radians(2.0)
DEFAULT_SOFTNESS = 0.1


def euler_order(joint: str) -> str:
    """Axes of a joint's Euler angles, ``R = R_first R_second R_third``.

    The bone's axis comes last (twist) and the axis that turns farthest first, because the second angle locks
    at a quarter turn: knees and hips flex about x, elbows about y, hanging arms are turned about z.
    """
    kind = joint.split("_")[-1]
    return {"collar": "zyx", "shoulder": "zyx", "elbow": "yzx", "wrist": "zyx", "hand": "zyx"}.get(kind, "xzy")


_AXES = torch.tensor([["xyz".index(axis) for axis in euler_order(joint)] for joint in JOINTS])
_HANDED = torch.where((_AXES[:, 1] - _AXES[:, 0]) % 3 == 1, 1.0, -1.0)
_JOINTS = torch.arange(len(JOINTS))


def euler_to_rotmat(euler: Float[Tensor, "batch 23 3"]) -> Float[Tensor, "batch 23 3 3"]:
    """Rotations of the 23 joints from their Euler angles, radians, each in its `euler_order`."""
    axes = torch.eye(3).to(euler)[_AXES.to(euler.device)]
    first, second, third = rotvec_to_rotmat(euler[..., None] * axes).unbind(2)
    return first @ second @ third


def rotmat_to_euler(rotations: Float[Tensor, "batch 23 3 3"]) -> Float[Tensor, "batch 23 3"]:
    """Euler angles of the 23 joints, radians: the second within a quarter turn, the others within a half."""
    i, j, k = _AXES.to(rotations.device).unbind(1)
    n, sign = _JOINTS.to(rotations.device), _HANDED.to(rotations)
    first = torch.atan2(-sign * rotations[:, n, j, k], rotations[:, n, k, k])
    level = torch.hypot(rotations[:, n, i, i], rotations[:, n, i, j])
    second = torch.atan2(sign * rotations[:, n, i, k], level)
    third = torch.atan2(-sign * rotations[:, n, i, j], rotations[:, n, i, i])
    return torch.stack([first, second, third], dim=-1)


class RotationExperts(nn.Module):
    """Typical Euler angles of each of the 23 joints of ``body_pose``; not saved with what is trained on them.

    Args:
        centres: the angles, radians, each joint's in its `euler_order`.
        middles: angles about which a joint's are unwrapped: they lie within a half turn of these.
        softness: distance outside the hull, radians, that counts as one standard deviation.
        slack: by how much the hull is widened for `energy` and `log_density`, radians: some joints' is flat.
    """

    centres: Float[Tensor, "23 experts 3"]
    middles: Float[Tensor, "23 3"]
    _faces: Float[Tensor, "23 faces 4"]
    """Outward normals and offsets of each joint's hull."""

    def __init__(
        self,
        centres: Float[Tensor, "23 experts 3"],
        middles: Float[Tensor, "23 3"],
        softness: float = DEFAULT_SOFTNESS,
        slack: float = DEFAULT_SLACK,
    ) -> None:
        super().__init__()
        self.softness, self.slack = softness, slack
        for name, constant in (("centres", centres), ("middles", middles), ("_faces", _hulls(centres, slack))):
            self.register_buffer(name, constant, persistent=False)

    @property
    def experts(self) -> int:
        """``K``: experts a joint."""
        return self.centres.shape[1]

    def euler(self, logits: Float[Tensor, "batch 23 experts"]) -> Float[Tensor, "batch 23 3"]:
        """HoloPose Eq. 1: softmax-weighted mean of the experts' Euler angles, radians.

        Raises:
            ValueError: ``logits`` is not ``(batch, 23, K)``.
        """
        if logits.ndim != 3 or logits.shape[1:] != self.centres.shape[:2]:
            raise ValueError(
                f"logits has shape {tuple(logits.shape)}; expected (batch, {len(JOINTS)}, {self.experts}), a "
                "number for each expert."
            )
        return torch.einsum("bjk,jkc->bjc", logits.softmax(-1), self.centres)

    def rotations(self, logits: Float[Tensor, "batch 23 experts"]) -> Float[Tensor, "batch 23 3 3"]:
        """Rotation matrices of the mixed experts; differentiable."""
        return euler_to_rotmat(self.euler(logits))

    def excess(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch 23"]:
        """How far each joint's Euler angles are beyond the hull's farthest exceeded face, radians; 0 inside.

        Raises:
            ValueError: ``body_pose`` is not ``(batch, 69)``.
        """
        check_body_pose(body_pose)
        euler = self.unwrapped_euler(body_pose)
        return self._beyond_faces(euler).amax(-1).clamp(min=0)

    def energy(self, body_pose: Float[Tensor, "batch 69"]) -> PriorEnergy:
        """Least-squares form: the excess in units of `softness`, one residual a joint; without a graph."""
        check_body_pose(body_pose)
        euler, derivatives = joint_derivatives(self.unwrapped_euler, body_pose)
        beyond, face = self._beyond_faces(euler).max(-1)
        normals = self._faces[_JOINTS.to(face.device), face, :3] * (beyond > 0)[..., None]
        rows = torch.einsum("bjc,bjcd->bjd", normals, derivatives) / self.softness
        jacobian = rows.new_zeros(len(body_pose), len(JOINTS), len(JOINTS), 3)
        jacobian[:, _JOINTS, _JOINTS] = rows
        return sum_of_squares(beyond.clamp(min=0) / self.softness, jacobian.flatten(2))

    def log_density(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, " batch"]:
        """Logarithm of the density up to a constant: 0 inside the hulls; differentiable."""
        return -0.5 * (self.excess(body_pose) / self.softness).square().sum(-1)

    def unwrapped_euler(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch 23 3"]:
        """Euler angles of a pose, radians, within a half turn of `middles`."""
        euler = rotmat_to_euler(rotvec_to_rotmat(body_pose.unflatten(-1, (len(JOINTS), 3))))
        turns = ((euler.detach() - self.middles) / (2 * math.pi)).round()
        return euler - 2 * math.pi * turns

    def _beyond_faces(self, euler: Float[Tensor, "batch 23 3"]) -> Float[Tensor, "batch 23 faces"]:
        faces = self._faces
        return torch.einsum("jfc,bjc->bjf", faces[..., :3], euler) + faces[..., 3]


def _hulls(centres: Float[Tensor, "23 experts 3"], slack: float) -> Float[Tensor, "23 faces 4"]:
    """Faces of each joint's hull; short lists repeat their last face."""
    steps = np.concatenate([np.eye(3), -np.eye(3)]) * slack
    joints = centres.double().cpu().numpy()
    hulls = [ConvexHull((c[:, None] + steps).reshape(-1, 3)).equations for c in joints]
    most = max(len(hull) for hull in hulls)
    filled = [np.concatenate([hull, np.repeat(hull[-1:], most - len(hull), axis=0)]) for hull in hulls]
    return torch.from_numpy(np.stack(filled)).to(centres)


def read_experts(path: Path) -> RotationExperts:
    """Experts from a file of `kouros.priors.training`, float32.

    Raises:
        ValueError: not such a file.
    """
    arrays = read_arrays(path, {"centres": (len(JOINTS), None, 3), "middles": (len(JOINTS), 3)})
    return RotationExperts(torch.from_numpy(arrays["centres"]).float(), torch.from_numpy(arrays["middles"]).float())


def load_experts() -> RotationExperts:
    """The packaged experts, float32; a module of its own each time, since modules are moved where they are."""
    return read_experts(FOLDER / "rotation_experts.npz")
