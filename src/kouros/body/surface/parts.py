"""Body parts as labels of faces and vertices, for any body with SMPL's 24 joints.

A face belongs to the part whose joints move it most, so the labels follow from the skinning weights alone and
fit every body file. The sets with 1, 3, 6 and 12 parts join those of the 24, so each refines the one before.
DensePose's 24 surface patches split limbs and trunk further into front and back or inner and outer, by the
surface's normals.

Labels are 0 for the background and ``i + 1`` for a set's i-th part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from kouros.body.model import BodyModel
from kouros.body.skeleton import JOINT_NAMES, mirror_permutation
from kouros.body.surface.symmetry import MeshMirror, mesh_mirror

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class PartSet:
    """Names, colours and joints of a division of the body into parts."""

    name: str
    names: tuple[str, ...]
    joints: tuple[tuple[str, ...], ...]
    """The joints whose skin each part is."""
    part_colours: tuple[Colour, ...]
    """Red, green, blue of each part."""
    towards: tuple[tuple[float, float, float] | None, ...] | None = None
    """Which way a part's skin faces in the T-pose (body space), where several parts share their joints."""

    def __len__(self) -> int:
        return len(self.names)

    def label(self, part: str) -> int:
        """Label of a part.

        Raises:
            KeyError: the set has no such part.
        """
        if part not in self.names:
            raise KeyError(f"{self.name} has no part {part!r}; it has: {', '.join(self.names)}.")
        return self.names.index(part) + 1

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each label, the background's first, the label of its left-right mirror image."""
        return (0, *(part + 1 for part in mirror_permutation(self.names)))

    @cached_property
    def colours(self) -> np.ndarray:
        """(labels, 3) uint8: the colour of each label; the background is black."""
        return np.array([(0, 0, 0), *self.part_colours], dtype=np.uint8)


_JOINT_COLOURS: dict[str, Colour] = {
    "pelvis": (94, 60, 153), "spine1": (140, 107, 177), "spine2": (170, 140, 205), "spine3": (200, 178, 226),
    "neck": (253, 191, 111), "head": (255, 237, 111),
    "left_collar": (247, 182, 210), "left_shoulder": (227, 26, 28), "left_elbow": (251, 106, 74),
    "left_wrist": (252, 160, 130), "left_hand": (255, 210, 190),
    "right_collar": (158, 202, 225), "right_shoulder": (8, 81, 156), "right_elbow": (49, 130, 189),
    "right_wrist": (99, 190, 235), "right_hand": (190, 228, 255),
    "left_hip": (120, 62, 14), "left_knee": (190, 105, 30), "left_ankle": (230, 150, 65),
    "left_foot": (254, 217, 142),
    "right_hip": (0, 90, 50), "right_knee": (35, 139, 69), "right_ankle": (102, 194, 120),
    "right_foot": (190, 235, 180),
}  # fmt: skip
"""Warm on the left, cool on the right, trunk purple, head yellow: sides are told apart at a glance."""


def _joined(name: str, **parts: str) -> PartSet:
    """A set whose parts are named with their joints; each part has the colour of its first."""
    joints = tuple(tuple(words.split()) for words in parts.values())
    colours = tuple(_JOINT_COLOURS[group[0]] for group in joints)
    return PartSet(name, tuple(parts), joints, colours)


_LEFT_ARM, _RIGHT_ARM = (
    " ".join(f"{s}_{j}" for j in ("shoulder", "elbow", "wrist", "hand")) for s in ("left", "right")
)
_LEFT_LEG, _RIGHT_LEG = (" ".join(f"{s}_{j}" for j in ("hip", "knee", "ankle", "foot")) for s in ("left", "right"))
_TRUNK = "pelvis spine1 spine2 spine3 left_collar right_collar"

PARTS1 = PartSet("parts1", ("body",), (JOINT_NAMES,), ((255, 255, 255),))
"""The silhouette (Neural Body Fitting, Table 1)."""
PARTS3 = _joined("parts3", head="head",
    upper_body=f"{_TRUNK} neck {_LEFT_ARM} {_RIGHT_ARM}",
    lower_body=f"{_RIGHT_LEG} {_LEFT_LEG}",
)  # fmt: skip
"""Neural Body Fitting (Table 1) does not say which three; these join the parts of `PARTS6`."""
PARTS6 = _joined("parts6", head="head", torso=f"{_TRUNK} neck", right_arm=_RIGHT_ARM, left_arm=_LEFT_ARM,
    right_leg=_RIGHT_LEG, left_leg=_LEFT_LEG,
)  # fmt: skip
"""In the order of the UP-3D toolkit, whose torso has the neck."""
PARTS12 = _joined("parts12", head="head", upper_torso="spine3 spine2 left_collar right_collar",
    left_forearm="left_elbow left_wrist left_hand", right_upper_arm="right_shoulder", left_thigh="left_hip",
    right_thigh="right_hip", neck="neck", lower_torso="pelvis spine1", left_upper_arm="left_shoulder",
    right_forearm="right_elbow right_wrist right_hand", left_lower_leg="left_knee left_ankle left_foot",
    right_lower_leg="right_knee right_ankle right_foot",
)  # fmt: skip
"""Neural Body Fitting's twelve, in the order of its label maps; hands and feet go with their limbs."""
PARTS24 = _joined("parts24", **{joint: joint for joint in JOINT_NAMES})
"""One part a joint, in SMPL's order."""
LSP6 = _joined("lsp6", left_arm=_LEFT_ARM, right_arm=_RIGHT_ARM, head="head neck", left_leg=_LEFT_LEG,
    right_leg=_RIGHT_LEG, torso=_TRUNK,
)  # fmt: skip
"""The six parts of the LSP evaluation, in the order of its annotations (SPIN, HKMR Table 5); the head has the
neck."""

DENSEPOSE14 = _joined("densepose14", torso=_TRUNK, right_hand="right_wrist right_hand",
    left_hand="left_wrist left_hand", left_foot="left_ankle left_foot", right_foot="right_ankle right_foot",
    right_thigh="right_hip", left_thigh="left_hip", right_lower_leg="right_knee", left_lower_leg="left_knee",
    left_upper_arm="left_shoulder", right_upper_arm="right_shoulder", left_forearm="left_elbow",
    right_forearm="right_elbow", head="head neck",
)  # fmt: skip
"""The coarse parts that DensePose-COCO's annotators painted, in its order; the patches below cut them up."""

_FRONT, _BACK = (0.0, 0.0, 1.0), (0.0, 0.0, -1.0)
_INNER, _OUTER = (0.0, -1.0, 0.0), (0.0, 1.0, 0.0)
_BICEPS, _TRICEPS = (0.0, -0.7, 0.7), (0.0, 0.7, -0.7)


def _densepose() -> PartSet:
    rows: list[tuple[str, str, tuple[float, float, float] | None, Colour]] = [
        ("torso_back", _TRUNK, _BACK, (94, 60, 153)), ("torso_front", _TRUNK, _FRONT, (185, 160, 220)),
        ("right_hand", "right_wrist right_hand", None, (190, 228, 255)),
        ("left_hand", "left_wrist left_hand", None, (255, 210, 190)),
        ("left_foot", "left_ankle left_foot", None, (254, 217, 142)),
        ("right_foot", "right_ankle right_foot", None, (190, 235, 180)),
        ("right_thigh_back", "right_hip", _BACK, (0, 68, 27)),
        ("left_thigh_back", "left_hip", _BACK, (102, 37, 6)),
        ("right_thigh_front", "right_hip", _FRONT, (35, 139, 69)),
        ("left_thigh_front", "left_hip", _FRONT, (180, 90, 20)),
        ("right_lower_leg_back", "right_knee", _BACK, (65, 171, 93)),
        ("left_lower_leg_back", "left_knee", _BACK, (217, 120, 35)),
        ("right_lower_leg_front", "right_knee", _FRONT, (130, 210, 140)),
        ("left_lower_leg_front", "left_knee", _FRONT, (245, 170, 80)),
        ("left_upper_arm_inner", "left_shoulder", _BICEPS, (240, 60, 60)),
        ("right_upper_arm_inner", "right_shoulder", _BICEPS, (33, 113, 181)),
        ("left_upper_arm_outer", "left_shoulder", _TRICEPS, (165, 15, 21)),
        ("right_upper_arm_outer", "right_shoulder", _TRICEPS, (8, 48, 107)),
        ("left_forearm_inner", "left_elbow", _INNER, (252, 146, 114)),
        ("right_forearm_inner", "right_elbow", _INNER, (107, 174, 214)),
        ("left_forearm_outer", "left_elbow", _OUTER, (251, 106, 74)),
        ("right_forearm_outer", "right_elbow", _OUTER, (66, 146, 198)),
        ("right_head", "head neck", (-1.0, 0.0, 0.0), (255, 247, 188)),
        ("left_head", "head neck", (1.0, 0.0, 0.0), (254, 196, 79)),
    ]  # fmt: skip
    names, joints, towards, colours = zip(*rows, strict=True)
    return PartSet("densepose24", names, tuple(tuple(j.split()) for j in joints), colours, towards)


DENSEPOSE24 = _densepose()
"""DensePose's patches (Güler et al., CVPR 2018) in their order."""

PART_SETS = {s.name: s for s in (PARTS1, PARTS3, PARTS6, PARTS12, PARTS24, LSP6, DENSEPOSE14, DENSEPOSE24)}

_SMOOTHING = 30
"""Rounds of averaging that turn the normals' directions into a smooth division of a limb."""


def part_set(name: str) -> PartSet:
    """The set of that name.

    Raises:
        KeyError: there is none.
    """
    if name not in PART_SETS:
        raise KeyError(f"There is no part set {name!r}; the sets are: {', '.join(PART_SETS)}.")
    return PART_SETS[name]


def face_labels(body: BodyModel, parts: PartSet, mirror: MeshMirror | None = None) -> Int[np.ndarray, " faces"]:
    """The label (1 and up) of every face; mirror faces have mirror labels, exactly.

    Args:
        mirror: of the body's mesh, if it is known already.

    Raises:
        ValueError: as `mesh_mirror` does.
    """
    mirror = mirror or mesh_mirror(body)
    faces = body.faces.numpy(force=True)
    neighbours = face_neighbours(faces)
    # Of 24 joints, then grouped: the coarse sets share the boundaries of the fine one.
    by_joint = body.weights.double().numpy(force=True)[faces].mean(axis=1)
    joint = _mirrored_argmax(by_joint, mirror.face, PARTS24.mirror)
    joint = _absorb_islands(joint, neighbours, largest=0.1)
    joint = _copied_to_mirror(_without_teeth(joint, neighbours), mirror.face, PARTS24.mirror)
    part_of_joint = [next(p for p, joints in enumerate(parts.joints) if j in joints) for j in JOINT_NAMES]
    labels = np.array(part_of_joint)[joint]
    if parts.towards is None:
        return labels + 1

    vertices = body.v_template.double().numpy(force=True)
    for joints in dict.fromkeys(parts.joints):
        shared = [p for p in range(len(parts)) if parts.joints[p] == joints]
        if len(shared) == 1:
            continue
        members = np.flatnonzero(np.isin(labels, shared))
        directions = np.array([parts.towards[p] for p in shared])
        if directions[0, 0]:  # left and right halves: cut in the middle, not where the skin turns sideways
            facing = vertices[faces[members]].mean(axis=1)
        else:
            facing = _smooth_normals(vertices, faces[members])
        labels[members] = np.array(shared)[(facing @ directions.T).argmax(axis=1)]
        within = _within(neighbours, members, len(faces))
        labels[members] = _without_teeth(_absorb_islands(labels[members], within, largest=1.0), within)
    return _copied_to_mirror(labels, mirror.face, parts.mirror) + 1


def vertex_labels(body: BodyModel, parts: PartSet, mirror: MeshMirror | None = None) -> Int[np.ndarray, " verts"]:
    """The label (1 and up) that most faces around a vertex have; mirror vertices have mirror labels.

    A vertex in the middle that only a left and a right part share takes the one named first.

    Raises:
        ValueError: as `mesh_mirror` does; a vertex of no face.
    """
    mirror = mirror or mesh_mirror(body)
    faces = body.faces.numpy(force=True)
    labels = face_labels(body, parts, mirror)
    votes = np.zeros((len(mirror.vertex), len(parts)))
    for corner in faces.T:
        np.add.at(votes, (corner, labels - 1), 1.0)
    loose = np.flatnonzero(votes.sum(axis=1) == 0)
    if len(loose):
        raise ValueError(f"Vertex {loose[0]} is part of no face, so it has no label; remove loose vertices.")
    return _mirrored_argmax(votes, mirror.vertex, parts.mirror) + 1


def _mirrored_argmax(
    scores: Float[np.ndarray, "items parts"], image: Int[np.ndarray, " items"], mirror: Sequence[int]
) -> Int[np.ndarray, " items"]:
    """Best part (from 0) of each item, decided on one side and copied to the other."""
    best = scores.argmax(axis=1)
    own = np.arange(len(scores))
    swap = np.array(mirror[1:]) - 1
    middle = (image == own) & (swap[best] != best)
    unpaired = np.where(swap == np.arange(len(swap)), scores, -np.inf)
    has_unpaired = unpaired.max(axis=1) > 0
    best = np.where(middle & has_unpaired, unpaired.argmax(axis=1), best)
    return _copied_to_mirror(best, image, mirror)


def _copied_to_mirror(
    labels: Int[np.ndarray, " items"], image: Int[np.ndarray, " items"], mirror: Sequence[int]
) -> Int[np.ndarray, " items"]:
    swap = np.array(mirror[1:]) - 1
    copied = (image >= 0) & (image < np.arange(len(labels)))
    return np.where(copied, swap[labels[image]], labels)


def split_sides(
    vertices: Float[np.ndarray, "verts 3"],
    faces: Int[np.ndarray, "faces 3"],
    members: Int[np.ndarray, " members"],
) -> list[Int[np.ndarray, "_"]]:
    """A hand's or foot's faces in two connected pieces: those that face down in the T-pose, and up."""
    # Fingers and toes are thin: a little smoothing is all they bear.
    upwards = _smooth_normals(vertices, faces[members], rounds=4)[:, 1] > 0
    within = _within(face_neighbours(faces), members, len(faces))
    side = _without_teeth(_absorb_islands(upwards.astype(int), within, largest=1.0), within)
    return [members[side == 0], members[side == 1]]


def _smooth_normals(
    vertices: Float[np.ndarray, "verts 3"], faces: Int[np.ndarray, "faces 3"], rounds: int = _SMOOTHING
) -> Float[np.ndarray, "faces 3"]:
    """Normals of a patch's faces, each averaged over its surroundings.

    The bare ones would leave islands where the skin folds (an armpit, the crease of a hip).
    """
    a, b, c = (vertices[corner] for corner in faces.T)
    normal = np.cross(b - a, c - a)
    area = np.linalg.norm(normal, axis=1, keepdims=True)
    used, corners = np.unique(faces, return_inverse=True)
    corners = corners.reshape(faces.shape)
    owner = np.repeat(np.arange(len(faces)), 3)
    around = scipy.sparse.csr_matrix((np.ones(faces.size), (corners.ravel(), owner)), (len(used), len(faces)))
    total = np.maximum(around @ area, 1e-30)
    of_vertices = (around @ normal) / total
    for _ in range(rounds):
        of_vertices = (around @ (of_vertices[corners].mean(axis=1) * area)) / total
    return of_vertices[corners].mean(axis=1)


Neighbours = tuple[np.ndarray, np.ndarray]
"""Pairs of faces that share an edge."""


def _within(neighbours: Neighbours, members: Int[np.ndarray, " members"], count: int) -> Neighbours:
    """The pairs among some faces, renumbered."""
    number = np.full(count, -1)
    number[members] = np.arange(len(members))
    a, b = (number[x] for x in neighbours)
    inside = (a >= 0) & (b >= 0)
    return a[inside], b[inside]


def _absorb_islands(
    labels: Int[np.ndarray, " faces"], neighbours: Neighbours, *, largest: float
) -> Int[np.ndarray, " faces"]:
    """Give the pieces of a part with at most a share of its biggest piece's faces to whom they border most.

    The biggest piece itself always stays.
    """
    a, b = neighbours
    for _ in range(8):
        same = labels[a] == labels[b]
        graph = scipy.sparse.coo_matrix((np.ones(same.sum()), (a[same], b[same])), shape=(len(labels),) * 2)
        pieces, piece = connected_components(graph, directed=False)
        size = np.bincount(piece, minlength=pieces)
        part = np.zeros(pieces, dtype=int)
        part[piece] = labels
        order = np.lexsort((np.arange(pieces), -size, part))
        first = np.ones(pieces, dtype=bool)
        first[1:] = part[order][1:] != part[order][:-1]
        biggest = np.zeros(part.max() + 1, dtype=int)
        biggest[part[order][first]] = order[first]
        island = (size <= largest * size[biggest[part]]) & (biggest[part] != np.arange(pieces))
        votes = np.zeros((pieces, part.max() + 1))
        for x, y in ((a, b), (b, a)):
            border = ~same & island[piece[x]]
            np.add.at(votes, (piece[x[border]], labels[y[border]]), 1.0)
        moved = votes.max(axis=1) > 0
        if not moved.any():
            break
        labels = np.where(moved[piece], votes.argmax(axis=1)[piece], labels)
    return labels


def _without_teeth(labels: Int[np.ndarray, " faces"], neighbours: Neighbours) -> Int[np.ndarray, " faces"]:
    """Straighten boundaries: a face with two neighbours of one other part goes to that part.

    One face after the other, or a zigzag along a row of quads would only change sides.
    """
    a, b = neighbours
    differ = labels[a] != labels[b]
    near = np.zeros(len(labels), dtype=bool)
    for _ in range(2):  # at boundaries, and where the rounds below may move them
        near[a[differ]] = near[b[differ]] = True
        differ = near[a] | near[b]
    around: dict[int, list[int]] = {}
    for one, other in zip(a[differ].tolist(), b[differ].tolist(), strict=True):
        around.setdefault(one, []).append(other)
        around.setdefault(other, []).append(one)
    result = labels.tolist()
    for _ in range(3):
        before = list(result)
        for face, others in around.items():
            seen = [result[other] for other in others]
            rival = max(seen, key=seen.count)
            if rival != result[face] and seen.count(rival) >= 2:
                result[face] = rival
        if result == before:
            break
    return np.array(result)


def face_neighbours(
    faces: Int[np.ndarray, "faces 3"],
) -> Neighbours:
    """Pairs of faces that share an edge; edges of more than two faces give consecutive pairs."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    owner = np.tile(np.arange(len(faces)), 3)
    order = np.lexsort((edges[:, 1], edges[:, 0]))
    edges, owner = edges[order], owner[order]
    shared = (edges[1:] == edges[:-1]).all(axis=1)
    return owner[:-1][shared], owner[1:][shared]
