"""The body model: parameters in, vertices, joints and keypoints out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from kouros.body import posing
from kouros.body.keypoints import UnknownSetError, keypoint_set
from kouros.body.lbs import pose_feature, rest_to_posed
from kouros.body.regressors import KeypointRegressor, KeypointRows
from kouros.body.skeleton import NUM_JOINTS, PARENTS
from kouros.body.tables import KeypointTables, RestBody, place_keypoints, regroup


@dataclass(frozen=True)
class BodyArrays:
    """What a body file holds."""

    v_template: Float[Tensor, "verts 3"]
    shapedirs: Float[Tensor, "verts 3 betas"]
    posedirs: Float[Tensor, "verts 3 features"]
    joint_regressor: Float[Tensor, "joints verts"]
    weights: Float[Tensor, "verts joints"]
    faces: Int[Tensor, "faces 3"]
    keypoint_rows: Mapping[str, KeypointRows]
    missing_sets: Mapping[str, str] = field(default_factory=dict)
    """For each keypoint set that the file cannot place: what to do about it."""
    joints_of_last: Float[Tensor, "joints 3 last"] | None = None
    """How the last betas move the joints, where the regressor, made for the others, does not find them in the skin."""
    uv: Float[Tensor, "texture 2"] | None = None
    uv_faces: Int[Tensor, "faces 3"] | None = None
    mirror: Int[Tensor, " verts"] | None = None


@dataclass(frozen=True)
class BodyOutput:
    """A posed batch, metres, in the frame that ``global_orient`` and ``transl`` lead to."""

    vertices: Float[Tensor, "batch verts 3"]
    joints: Float[Tensor, "batch joints 3"]


@dataclass(frozen=True)
class _Skeleton:
    """A posed batch before the mesh and before ``transl``."""

    betas: Float[Tensor, "batch betas"]
    rotations: Float[Tensor, "batch joints 3 3"]
    rest_joints: Float[Tensor, "batch joints 3"]
    global_rotations: Float[Tensor, "batch joints 3 3"]
    positions: Float[Tensor, "batch joints 3"]
    transl: Float[Tensor, "batch 3"]

    @property
    def transforms(self) -> Float[Tensor, "batch joints 3 4"]:
        """Of each joint, from the rest pose to the posed body."""
        return rest_to_posed(self.global_rotations, self.positions, self.rest_joints)

    @property
    def joints(self) -> Float[Tensor, "batch joints 3"]:
        """Posed joints, translated."""
        return self.positions + self.transl[:, None]


class BodyModel(nn.Module):
    """SMPL-family body with 24 joints. Holds the model's arrays as buffers; nothing in it is trained.

    Parameters have smplx's names and meaning, metres and radians: the root joint stays where the rest pose
    has it, ``global_orient`` turns about it, and ``transl`` is added last. Each may be left out (zeros), and
    a batch of one goes with any batch of the others. ``pose2rot=False`` says that rotations are matrices.

    =============  =====================  =========================
    argument       rotation vectors       matrices
    =============  =====================  =========================
    betas          (N, num_betas)
    body_pose      (N, 69) or (N, 23, 3)  (N, 23, 3, 3)
    global_orient  (N, 3) or (N, 1, 3)    (N, 3, 3) or (N, 1, 3, 3)
    transl         (N, 3)
    =============  =====================  =========================
    """

    v_template: Tensor
    joint_regressor: Tensor
    weights: Tensor
    faces: Tensor
    uv: Tensor | None
    uv_faces: Tensor | None
    mirror: Tensor | None
    joint_template: Tensor
    joint_shapedirs: Tensor
    _blend_shapes: Tensor
    _weight_index: Tensor
    _weight_value: Tensor

    parents = PARENTS
    """Parent of each joint, -1 for the root."""

    origin: Path | None
    """The file that it was read from; None: made in memory."""

    def __init__(self, arrays: BodyArrays, origin: Path | None = None) -> None:
        super().__init__()
        self.origin = origin
        # Not saved with systems that hold a body: bodies have licences of their own.
        for name in ("v_template", "joint_regressor", "weights", "faces", "uv", "uv_faces", "mirror"):
            self.register_buffer(name, getattr(arrays, name), persistent=False)
        # One matrix for shape and pose: what a batch needs from it is one matrix product.
        directions = torch.cat([arrays.shapedirs, arrays.posedirs], dim=-1)
        self.register_buffer("_blend_shapes", directions.flatten(0, 1).contiguous(), persistent=False)
        self._num_betas = arrays.shapedirs.shape[-1]
        regressor = arrays.joint_regressor
        self.register_buffer("joint_template", regressor @ arrays.v_template, persistent=False)
        moved_by_shape = (regressor @ arrays.shapedirs.flatten(1)).unflatten(1, (3, -1))
        if arrays.joints_of_last is not None:
            found = moved_by_shape[..., : -arrays.joints_of_last.shape[-1]]
            moved_by_shape = torch.cat([found, arrays.joints_of_last], dim=-1)
        self.register_buffer("joint_shapedirs", moved_by_shape, persistent=False)
        index, value = posing.nonzero_weights(arrays.weights)
        self.register_buffer("_weight_index", index, persistent=False)
        self.register_buffer("_weight_value", value, persistent=False)
        self._regressors = nn.ModuleDict({n: KeypointRegressor(r) for n, r in arrays.keypoint_rows.items()})
        self._missing_sets = dict(arrays.missing_sets)
        self._tables: dict[str, KeypointTables] = {}

    @property
    def num_betas(self) -> int:
        """Shape coefficients."""
        return self._num_betas

    @property
    def shapedirs(self) -> Float[Tensor, "verts 3 betas"]:
        """How a unit of each beta moves each vertex, metres."""
        return self._blend_shapes[:, : self._num_betas].unflatten(0, (-1, 3))

    @property
    def posedirs(self) -> Float[Tensor, "features coordinates"]:
        """How each entry of ``R - I`` of the joints but the root moves each vertex's x, y, z, metres."""
        return self._blend_shapes[:, self._num_betas :].T

    @property
    def keypoint_sets(self) -> tuple[str, ...]:
        """Names of the keypoint sets that this body can place."""
        return tuple(self._regressors)

    def forward(
        self,
        betas: Tensor | None = None,
        body_pose: Tensor | None = None,
        global_orient: Tensor | None = None,
        transl: Tensor | None = None,
        *,
        pose2rot: bool = True,
    ) -> BodyOutput:
        """Pose the body; for the arguments see the class.

        Raises:
            ValueError: an argument has a wrong shape, dtype or device.
        """
        with self._full_precision():
            posed = self._pose(betas, body_pose, global_orient, transl, pose2rot)
            coefficients = torch.cat([posed.betas, pose_feature(posed.rotations)], dim=1)
            # Bodies side by side in memory, as the product is fastest and `posing.skin` likes a batch best.
            rest = torch.addmm(self.v_template.flatten()[:, None], self._blend_shapes, coefficients.T)
            vertices = posing.skin(
                rest.T.unflatten(-1, (-1, 3)),
                posed.transforms,
                posed.transl,
                self.weights,
                (self._weight_index, self._weight_value),
            )
            return BodyOutput(vertices, posed.joints)

    def joint_positions(
        self,
        betas: Tensor | None = None,
        body_pose: Tensor | None = None,
        global_orient: Tensor | None = None,
        transl: Tensor | None = None,
        *,
        pose2rot: bool = True,
    ) -> Float[Tensor, "batch joints 3"]:
        """The joints of `forward`, without the mesh."""
        with self._full_precision():
            return self._pose(betas, body_pose, global_orient, transl, pose2rot).joints

    def keypoint_positions(
        self,
        set_name: str,
        betas: Tensor | None = None,
        body_pose: Tensor | None = None,
        global_orient: Tensor | None = None,
        transl: Tensor | None = None,
        *,
        pose2rot: bool = True,
    ) -> Float[Tensor, "batch points 3"]:
        """The keypoints of `keypoints_3d`, without the mesh.

        Raises:
            KeyError: this body cannot place the set.
        """
        tables = self.keypoint_tables(set_name)
        rows = self._regressor(set_name)
        with self._full_precision():
            posed = self._pose(betas, body_pose, global_orient, transl, pose2rot)
            points = place_keypoints(tables, posed.betas, pose_feature(posed.rotations), posed.transforms)
            # Published regressors' rows sum to 1 only nearly, and a posed mesh is translated as a whole.
            total = rows.joints.sum(-1) + rows.vertices.sum(-1)
            return points + total[:, None] * posed.transl[:, None]

    def keypoints_3d(self, output: BodyOutput, set_name: str) -> Float[Tensor, "batch points 3"]:
        """Keypoints of a posed mesh.

        Raises:
            KeyError: this body cannot place the set.
        """
        with self._full_precision():
            return self._regressor(set_name)(output.joints, output.vertices)

    def keypoint_tables(self, set_name: str) -> KeypointTables:
        """What places a set's keypoints without the mesh.

        Computed once for each set, and again when the body has moved to another device or dtype.

        Raises:
            KeyError: this body cannot place the set.
        """
        rows = self._regressor(set_name).rows
        cached = self._tables.get(set_name)
        if cached is None or cached.anchor.device != rows.vertices.device or cached.anchor.dtype != rows.vertices.dtype:
            rest = RestBody(
                self.v_template,
                self.shapedirs,
                self.posedirs,
                self.weights,
                self.joint_template,
                self.joint_shapedirs,
            )
            cached = self._tables[set_name] = regroup(rows, rest)
        return cached

    def _regressor(self, set_name: str) -> KeypointRegressor:
        keypoint_set(set_name)
        if set_name not in self._regressors:
            have = ", ".join(self.keypoint_sets)
            remedy = self._missing_sets.get(set_name, "Choose one of those.")
            raise UnknownSetError(f"This body cannot place the keypoint set {set_name!r}; it has: {have}. {remedy}")
        regressor = self._regressors[set_name]
        assert isinstance(regressor, KeypointRegressor)
        return regressor

    def _full_precision(self) -> torch.autocast:
        """Half precision, which a training loop may have switched on, is off by millimetres."""
        return torch.autocast(self.v_template.device.type, enabled=False)

    def _pose(
        self,
        betas: Tensor | None,
        body_pose: Tensor | None,
        global_orient: Tensor | None,
        transl: Tensor | None,
        pose2rot: bool,
    ) -> _Skeleton:
        given = {"betas": betas, "body_pose": body_pose, "global_orient": global_orient, "transl": transl}
        like = self.v_template
        for name, tensor in given.items():
            if tensor is not None:
                _check(name, tensor, self._allowed_shapes(name, pose2rot), like, pose2rot)
        batch = _common_batch({n: t for n, t in given.items() if t is not None})
        betas = like.new_zeros(batch, self.num_betas) if betas is None else betas.expand(batch, -1)
        transl = like.new_zeros(batch, 3) if transl is None else transl.expand(batch, -1)
        joint = (3,) if pose2rot else (3, 3)
        pose = torch.cat(
            [
                _rotations(global_orient, 1, joint, batch, like),
                _rotations(body_pose, NUM_JOINTS - 1, joint, batch, like),
            ],
            dim=1,
        )
        rotations = posing.rotvec_to_rotmat(pose) if pose2rot else pose
        rest = torch.addmm(self.joint_template.flatten(), betas, self.joint_shapedirs.flatten(0, 1).T)
        rest = rest.unflatten(-1, (-1, 3))
        turned, positions = posing.forward_kinematics(rotations, rest)
        return _Skeleton(betas, rotations, rest, turned, positions, transl)

    def _allowed_shapes(self, name: str, pose2rot: bool) -> tuple[tuple[int, ...], ...]:
        """Shapes of an argument, without the batch."""
        if name == "betas":
            return ((self.num_betas,),)
        if name == "transl":
            return ((3,),)
        if name == "body_pose":
            bones = NUM_JOINTS - 1
            return ((bones * 3,), (bones, 3)) if pose2rot else ((bones, 3, 3),)
        return ((3,), (1, 3)) if pose2rot else ((3, 3), (1, 3, 3))


def _rotations(pose: Tensor | None, joints: int, joint: tuple[int, ...], batch: int, like: Tensor) -> Tensor:
    """A pose argument as (batch, joints, *joint): rotation vectors or matrices, as given."""
    if pose is not None:
        return pose.reshape(len(pose), joints, *joint).expand(batch, *[-1] * (1 + len(joint)))
    if len(joint) == 1:
        return like.new_zeros(batch, joints, 3)
    return torch.eye(3, dtype=like.dtype, device=like.device).expand(batch, joints, 3, 3)


def _common_batch(given: Mapping[str, Tensor]) -> int:
    sizes = {len(tensor) for tensor in given.values()} - {1}
    if len(sizes) > 1:
        found = ", ".join(f"{name} {len(tensor)}" for name, tensor in given.items())
        raise ValueError(f"The batch sizes differ ({found}); give every argument the same one, or 1.")
    return sizes.pop() if sizes else 1


def _check(name: str, tensor: Tensor, allowed: tuple[tuple[int, ...], ...], like: Tensor, pose2rot: bool) -> None:
    shape = tuple(tensor.shape)
    if shape[1:] not in allowed or not shape:
        raise ValueError(_shape_error(name, shape, allowed, pose2rot))
    if tensor.dtype != like.dtype or tensor.device != like.device:
        raise ValueError(
            f"{name} is {tensor.dtype} on {tensor.device} but the body is {like.dtype} on {like.device}; "
            f"convert one of them with .to(...)."
        )


def _shape_error(name: str, shape: tuple[int, ...], allowed: tuple[tuple[int, ...], ...], pose2rot: bool) -> str:
    wanted = " or ".join(f"({', '.join(['N', *map(str, a)])}{')' if a else ',)'}" for a in allowed)
    if shape in allowed:
        remedy = f"add the batch dimension: {name}[None]"
    elif name == "betas" and len(shape) == 2:
        remedy = f"pass {allowed[0][0]} coefficients, or a body file that has so many with num_betas={shape[1]}"
    elif name in ("body_pose", "global_orient") and pose2rot and shape[-2:] == (3, 3) and len(shape) > 2:
        remedy = "for rotation matrices, pass pose2rot=False"
    elif name in ("body_pose", "global_orient") and not pose2rot:
        remedy = "for rotation vectors, leave pose2rot=True"
    elif name == "body_pose" and len(shape) == 2 and shape[1] == 3 * NUM_JOINTS:
        remedy = "the first three numbers are global_orient, the rest is body_pose"
    else:
        remedy = "reshape it"
    return f"{name} has shape {shape} but must be {wanted}; {remedy}."
