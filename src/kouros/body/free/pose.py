"""Pose blend shapes: what the 24-joint body lacks to move like the source's richer rig.

In the source a turn is shared: two bones twist along each upper arm, forearm, thigh and shank, three
bones bend in the neck, one more in the lumbar spine. Motion-capture poses are put on both rigs, the
joints at the same places; the difference of the skins, carried back to the rest pose, is fitted by ridge
regression on the 23 matrices R - I, as in SMPL (Loper et al. 2015, Eq. 9). Each vertex depends only on
the joints near it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from kouros.body.free.rest import FOREARM_TWIST, chain_positions, t_pose_rotations, to_t_pose, twist_about
from kouros.body.free.source import People, Source
from kouros.body.skeleton import JOINT_NAMES, MIRROR, PARENTS

NUM_FEATURES = 9 * (len(JOINT_NAMES) - 1)
_RIDGE = 1e-2
"""Penalty on the blend shapes, in units of a feature's mean square over the poses."""
_JITTER = 0.35
"""Standard deviation of the random turns, radians."""
_WIDE_JOINTS = ("left_hip", "right_hip", "left_shoulder", "right_shoulder")
_NEGLIGIBLE = 1.5e-4
"""Root mean square displacement, metres, below which a joint's share in a vertex is dropped."""
_BATCH = 100

_UPPER_TWIST = {"upperarm01": 1 / 3, "upperleg01": 1 / 3}
_NECK_SHARES = {"neck01": ("neck", 0.5), "neck03": ("head", 0.35)}
_LUMBAR_SHARE = 0.5
_GIRDLE_SHARE = 0.2
_ANKLE_TWIST_SHARE = 0.5


def local_rotations(poses: Float[np.ndarray, "poses 72"]) -> Float[np.ndarray, "poses 24 3 3"]:
    """Rotation matrices of rotation vectors, the root's left out (identity)."""
    result = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(-1, len(JOINT_NAMES), 3, 3)
    result[:, 0] = np.eye(3)
    return result


def varied(poses: Float[np.ndarray, "poses 72"], seed: int) -> Float[np.ndarray, "poses 72"]:
    """The poses with every joint turned only part of its way, then at random.

    Motion capture hardly shows a T-pose, a straight or an outwardly turned arm: fitted on it alone, the blend
    shapes run wild there (errors of 18 cm).
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    share = generator.random((len(poses), len(JOINT_NAMES), 1))
    jitter = generator.standard_normal((len(poses), len(JOINT_NAMES), 3)) * _JITTER
    jitter[:, [JOINT_NAMES.index(name) for name in _WIDE_JOINTS]] *= 2.0
    part = Rotation.from_rotvec((share * poses.reshape(share.shape[0], -1, 3)).reshape(-1, 3))
    return (part * Rotation.from_rotvec(jitter.reshape(-1, 3))).as_rotvec().reshape(len(poses), -1)


def features(rotations: Float[np.ndarray, "poses 24 3 3"]) -> Float[np.ndarray, "poses 207"]:
    """SMPL's pose features: the 23 matrices R - I, row by row."""
    return (rotations[:, 1:] - np.eye(3)).reshape(len(rotations), -1)


def forward_kinematics(
    rotations: Float[np.ndarray, "poses 24 3 3"], joints: Float[np.ndarray, "poses 24 3"]
) -> tuple[Float[np.ndarray, "poses 24 3 3"], Float[np.ndarray, "poses 24 3"]]:
    """Global rotations and posed joints."""
    turns, places = [rotations[:, 0]], [joints[:, 0]]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        bone = joints[:, joint] - joints[:, parent]
        places.append(places[parent] + (turns[parent] @ bone[..., None])[..., 0])
        turns.append(turns[parent] @ rotations[:, joint])
    return np.stack(turns, axis=1), np.stack(places, axis=1)


def _power(rotations: np.ndarray, share: float) -> np.ndarray:
    return Rotation.from_rotvec(share * Rotation.from_matrix(rotations).as_rotvec()).as_matrix()


def rich_rotations(
    source: Source, rotations: Float[np.ndarray, "poses 24 3 3"], turns: Float[np.ndarray, "poses 24 3 3"]
) -> Float[np.ndarray, "poses bones 3 3"]:
    """Global rotations of the source's bones, from the T-pose, that share the turns of the 24 joints.

    Args:
        rotations: of the joints, local.
        turns: of the joints, global.
    """
    local = {name: rotations[:, k] for k, name in enumerate(JOINT_NAMES)}
    whole = {name: turns[:, k] for k, name in enumerate(JOINT_NAMES)}
    special = {"spine04": whole["pelvis"] @ _power(local["spine1"], _LUMBAR_SHARE)}
    for bone, (joint, share) in _NECK_SHARES.items():
        parent = JOINT_NAMES[PARENTS[JOINT_NAMES.index(joint)]]
        special[bone] = whole[parent] @ _power(local[joint], share)
    for side, letter, outward in (("left", "L", 1.0), ("right", "R", -1.0)):
        arm, leg = np.array([outward, 0.0, 0.0]), np.array([0.0, -1.0, 0.0])
        shoulder, elbow = local[f"{side}_shoulder"], local[f"{side}_elbow"]
        swing, twist = _swing_twist(shoulder, arm)
        collar = whole[f"{side}_collar"]
        special[f"shoulder01.{letter}"] = collar @ _power(swing, _GIRDLE_SHARE)
        special[f"upperarm01.{letter}"] = collar @ swing @ _turn(_UPPER_TWIST["upperarm01"] * twist)
        swing, twist = _swing_twist(elbow, arm)
        twist = twist + twist_about(local[f"{side}_wrist"], arm)
        for bone, share in FOREARM_TWIST.items():
            special[f"{bone}.{letter}"] = whole[f"{side}_shoulder"] @ swing @ _turn(share * twist)
        swing, twist = _swing_twist(local[f"{side}_hip"], leg)
        special[f"upperleg01.{letter}"] = whole["pelvis"] @ swing @ _turn(_UPPER_TWIST["upperleg01"] * twist)
        twist = twist_about(local[f"{side}_ankle"], leg)
        special[f"lowerleg02.{letter}"] = whole[f"{side}_knee"] @ _turn(_ANKLE_TWIST_SHARE * twist)
    columns = [
        special[bone] if bone in special else turns[:, joint]
        for bone, joint in zip(source.bones, source.bone_joint, strict=True)
    ]
    return np.stack(columns, axis=1)


def _turn(rotvecs: np.ndarray) -> np.ndarray:
    return Rotation.from_rotvec(rotvecs).as_matrix()


def _swing_twist(rotations: np.ndarray, axis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``rotation = swing @ turn(twist)``: the twist about the resting bone comes first."""
    twist = twist_about(rotations, axis)
    return rotations @ np.swapaxes(_turn(twist), -1, -2), twist


@dataclass(frozen=True)
class PosedPerson:
    """One person on both rigs."""

    source: Source
    person: People
    """A single person, in the source's rest pose."""
    verts: Int[np.ndarray, " kept"]
    weights: Float[np.ndarray, "kept 24"]

    def rest(self) -> tuple[Float[np.ndarray, "kept 3"], Float[np.ndarray, "24 3"]]:
        """Vertices and joints in the T-pose."""
        vertices, heads = to_t_pose(self.source, self.person, self.verts)
        return vertices[0], heads[0, list(self.source.primary_bones)]

    def rich(self, rotations: Float[np.ndarray, "poses 24 3 3"]) -> Float[np.ndarray, "poses kept 3"]:
        """The source's skin in the given poses."""
        count = len(rotations)
        _, joints = self.rest()
        turns, places = forward_kinematics(rotations, np.broadcast_to(joints, (count, *joints.shape)))
        to_t = t_pose_rotations(self.source, self.person)
        bone_turns = rich_rotations(self.source, rotations, turns) @ to_t
        heads = np.broadcast_to(self.person.bone_heads, (count, *self.person.bone_heads.shape[1:]))
        positions = chain_positions(self.source, heads, bone_turns, places)
        copies = People(np.broadcast_to(self.person.vertices, (count, *self.person.vertices.shape[1:])), heads)
        return self.source.skin(copies, bone_turns, positions, self.verts)

    def transforms(
        self, rotations: Float[np.ndarray, "poses 24 3 3"]
    ) -> tuple[Float[np.ndarray, "poses kept 3 3"], Float[np.ndarray, "poses kept 3"]]:
        """Each vertex's blended linear map and offset on the 24-joint body."""
        _, joints = self.rest()
        turns, places = forward_kinematics(rotations, np.broadcast_to(joints, (len(rotations), *joints.shape)))
        offsets = places - (turns @ joints[..., None])[..., 0]
        flat = np.concatenate([turns.reshape(*turns.shape[:2], 9), offsets], axis=-1)
        blended = np.einsum("vj,njk->nvk", self.weights, flat, optimize=True)
        return blended[..., :9].reshape(*blended.shape[:2], 3, 3), blended[..., 9:]


def fit_pose_blend_shapes(
    body: PosedPerson, mirror: Int[np.ndarray, " kept"], poses: Float[np.ndarray, "poses 72"]
) -> Float[np.ndarray, "kept 3 207"]:
    """Displacements per pose feature, left-right symmetric, zero for joints far from a vertex."""
    normal = np.zeros((NUM_FEATURES, NUM_FEATURES))
    right = np.zeros((NUM_FEATURES, len(body.verts), 3))
    rest, _ = body.rest()
    for start in range(0, len(poses), _BATCH):
        rotations = local_rotations(poses[start : start + _BATCH])
        linear, offset = body.transforms(rotations)
        error = body.rich(rotations) - (np.einsum("nvij,vj->nvi", linear, rest) + offset)
        # Where blending has flattened the skin the map has no inverse; damping keeps the correction small.
        squared = np.swapaxes(linear, -1, -2) @ linear + 0.1 * np.eye(3)
        back = np.linalg.solve(squared, np.swapaxes(linear, -1, -2) @ error[..., None])[..., 0]
        x = features(rotations)
        normal += x.T @ x
        right += np.tensordot(x, back, axes=(0, 0))
    normal, right = _symmetric(normal, right, mirror)
    normal, right = normal / (2 * len(poses)), right / (2 * len(poses))
    near = _near(body.weights)
    first = _solve(normal, right, near)
    return _solve(normal, right, near & _matters(first, normal))


def _feature_mirror() -> tuple[np.ndarray, np.ndarray]:
    """Permutation and signs of the pose features of the mirrored pose."""
    sign = np.array([-1.0, 1.0, 1.0])
    order = (9 * (np.array(MIRROR[1:]) - 1)[:, None] + np.arange(9)).ravel()
    return order, np.tile(np.outer(sign, sign).ravel(), len(MIRROR) - 1)


def _symmetric(normal: np.ndarray, right: np.ndarray, mirror: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Normal equations of the poses and of their mirror images together."""
    order, sign = _feature_mirror()
    flipped = sign[:, None] * normal[order][:, order] * sign
    mirrored = sign[:, None, None] * right[order][:, mirror] * np.array([-1.0, 1.0, 1.0])
    return normal + flipped, right + mirrored


def _near(weights: Float[np.ndarray, "kept 24"]) -> Bool[np.ndarray, "kept 23"]:
    """The joints (without the root) that may move each vertex: those that carry it, and their children."""
    carries = weights > 0.02
    child = np.zeros((len(PARENTS), len(PARENTS)), bool)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        child[parent, joint] = True
    return (carries | (carries @ child))[:, 1:]


def _matters(shapes: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Joints whose share in a vertex's displacement is not negligible, over the training poses."""
    result = np.zeros((len(shapes), len(PARENTS) - 1), bool)
    for joint in range(len(PARENTS) - 1):
        block = slice(9 * joint, 9 * joint + 9)
        power = np.einsum("vci,ij,vcj->v", shapes[..., block], normal[block, block], shapes[..., block])
        result[:, joint] = np.sqrt(np.maximum(power, 0)) > _NEGLIGIBLE
    return result


def _solve(normal: np.ndarray, right: np.ndarray, near: np.ndarray) -> Float[np.ndarray, "kept 3 207"]:
    result = np.zeros((*right.shape[1:], NUM_FEATURES))
    ridge = _RIDGE * np.trace(normal) / NUM_FEATURES
    masks, group = np.unique(near, axis=0, return_inverse=True)
    for number, mask in enumerate(masks):
        columns = np.flatnonzero(np.repeat(mask, 9))
        verts = np.flatnonzero(group.ravel() == number)
        if len(columns):
            block = normal[np.ix_(columns, columns)] + ridge * np.eye(len(columns))
            solved = np.linalg.solve(block, right[columns][:, verts].reshape(len(columns), -1))
            result[np.ix_(verts, np.arange(3), columns)] = solved.reshape(len(columns), -1, 3).transpose(1, 2, 0)
    return result


def vertex_errors(
    body: PosedPerson, shapes: Float[np.ndarray, "kept 3 207"], poses: Float[np.ndarray, "poses 72"]
) -> tuple[Float[np.ndarray, "poses kept"], Float[np.ndarray, "poses kept"]]:
    """Distance of each vertex to the source's skin without and with the blend shapes, metres."""
    rest, _ = body.rest()
    without, with_shapes = [], []
    for start in range(0, len(poses), _BATCH):
        rotations = local_rotations(poses[start : start + _BATCH])
        linear, offset = body.transforms(rotations)
        target = body.rich(rotations)
        shaped = rest + np.tensordot(features(rotations), shapes, axes=(1, 2))
        without.append(np.linalg.norm((linear @ rest[..., None])[..., 0] + offset - target, axis=-1))
        with_shapes.append(np.linalg.norm((linear @ shaped[..., None])[..., 0] + offset - target, axis=-1))
    return np.concatenate(without), np.concatenate(with_shapes)
