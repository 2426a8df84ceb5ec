"""The body model: parameters in, vertices, joints and keypoints out."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kouros.body.keypoints import keypoint_set
from kouros.body.lbs import linear_blend_skinning, pose_feature
from kouros.body.skeleton import NUM_JOINTS, PARENTS, forward_kinematics
from kouros.body.tables import KeypointTables, regroup
from kouros.geometry.rotations import rotvec_to_rotmat


@dataclass(frozen=True)
class BodyArrays:
    """What a body file holds."""

    v_template: Float[Tensor, "verts 3"]
    shapedirs: Float[Tensor, "verts 3 betas"]
    posedirs: Float[Tensor, "features coordinates"]
    joint_regressor: Float[Tensor, "joints verts"]
    weights: Float[Tensor, "verts joints"]
    faces: Int[Tensor, "faces 3"]
    keypoint_regressors: dict[str, Float[Tensor, "points verts"]]
    uv: Float[Tensor, "texture 2"] | None = None
    uv_faces: Int[Tensor, "faces 3"] | None = None
    mirror: Int[Tensor, " verts"] | None = None


@dataclass(frozen=True)
class BodyOutput:
    """A posed batch, metres, in the frame that ``global_orient`` and ``transl`` lead to."""

    vertices: Float[Tensor, "batch verts 3"]
    joints: Float[Tensor, "batch joints 3"]


class BodyModel(nn.Module):
    """SMPL-family body with 24 joints. Holds the model's arrays as buffers; nothing in it is trained."""

    v_template: Tensor
    shapedirs: Tensor
    posedirs: Tensor
    joint_regressor: Tensor
    weights: Tensor
    faces: Tensor
    joint_template: Tensor
    joint_shapedirs: Tensor

    def __init__(self, arrays: BodyArrays) -> None:
        super().__init__()
        for name in ("v_template", "shapedirs", "posedirs", "joint_regressor", "weights", "faces"):
            self.register_buffer(name, getattr(arrays, name))
        regressor = arrays.joint_regressor
        self.register_buffer("joint_template", regressor @ arrays.v_template)
        joint_shapedirs = torch.einsum("jv,vcb->jcb", regressor, arrays.shapedirs)
        self.register_buffer("joint_shapedirs", joint_shapedirs)
        for name in ("uv", "uv_faces", "mirror"):
            self.register_buffer(name, getattr(arrays, name))
        self._regressor_names = tuple(arrays.keypoint_regressors)
        for name, rows in arrays.keypoint_regressors.items():
            self.register_buffer(f"_keypoints_{name}", rows)

    parents = PARENTS

    @property
    def num_betas(self) -> int:
        """Shape coefficients."""
        return self.shapedirs.shape[-1]

    @property
    def keypoint_sets(self) -> tuple[str, ...]:
        """Names of the keypoint sets that this body can place."""
        return self._regressor_names

    def forward(
        self,
        betas: Float[Tensor, "#batch given"] | None = None,
        body_pose: Tensor | None = None,
        global_orient: Tensor | None = None,
        transl: Float[Tensor, "#batch 3"] | None = None,
        *,
        pose2rot: bool = True,
    ) -> BodyOutput:
        """Pose the body."""
        betas, rotations, transl = self._inputs(betas, body_pose, global_orient, transl, pose2rot)
        rest_joints = self.joint_template + torch.einsum("jcb,nb->njc", self.joint_shapedirs, betas)
        turned, joints = forward_kinematics(rotations, rest_joints)
        joints = joints + transl[:, None]
        offsets = betas @ self.shapedirs.flatten(0, 1).T + pose_feature(rotations) @ self.posedirs
        rest = self.v_template + offsets.unflatten(-1, (-1, 3))
        translations = joints - (turned @ rest_joints[..., None])[..., 0]
        return BodyOutput(linear_blend_skinning(rest, turned, translations, self.weights), joints)

    def keypoints_3d(self, output: BodyOutput, set_name: str) -> Float[Tensor, "batch points 3"]:
        """Keypoints of a posed mesh."""
        return self._regressor(set_name) @ output.vertices

    def keypoint_tables(self, set_name: str) -> KeypointTables:
        """What places a set's keypoints without the mesh."""
        return regroup(
            self._regressor(set_name), self.weights, self.v_template, self.shapedirs, self.posedirs
        )

    def _regressor(self, set_name: str) -> Float[Tensor, "points verts"]:
        keypoint_set(set_name)
        if set_name not in self._regressor_names:
            raise KeyError(f"This body has no regressor for {set_name!r}; it has: {', '.join(self._regressor_names)}.")
        return getattr(self, f"_keypoints_{set_name}")

    def _inputs(
        self, betas: Tensor | None, body_pose: Tensor | None, global_orient: Tensor | None,
        transl: Tensor | None, pose2rot: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        given = [p for p in (betas, body_pose, global_orient, transl) if p is not None]
        batch = max((len(p) for p in given), default=1)
        like = self.v_template
        betas = like.new_zeros(batch, self.num_betas) if betas is None else betas.expand(batch, -1)
        transl = like.new_zeros(batch, 3) if transl is None else transl.expand(batch, -1)
        eye = torch.eye(3, dtype=like.dtype, device=like.device)

        def rotations(pose: Tensor | None, joints: int) -> Tensor:
            if pose is None:
                return eye.expand(batch, joints, 3, 3)
            if pose2rot:
                pose = rotvec_to_rotmat(pose.reshape(len(pose), joints, 3))
            return pose.reshape(len(pose), joints, 3, 3).expand(batch, -1, -1, -1)

        root, rest = rotations(global_orient, 1), rotations(body_pose, NUM_JOINTS - 1)
        return betas, torch.cat([root, rest], dim=1), transl
