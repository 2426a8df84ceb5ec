"""Where each named keypoint lies on the free body, by anatomy.

Points on the skin are vertices or means of a few. Joints have rows fitted on posed people, and points between
joints are mixtures of their rows, so that they move as the joints do. Named places come from the datasets'
own descriptions: LSP's hips lie outward of the hip joints, Human3.6M's pelvis is the midpoint of the hips,
MPII's upper neck is where the neck meets the skull, and so on (see `docs/body.md`).

COCO's annotators see no joints: they mark hips above and before them, shoulders on top. Nobody has annotated this body,
but MoveNet Thunder has learned from what they marked, and `MARKS` is where it sees the points on renders of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from kouros.body.free.regress import Crowd, convex_row, nearest
from kouros.body.keypoints import COCO17, OPENPOSE25, KeypointSet
from kouros.body.skeleton import JOINT_NAMES

_RING = 60
"""How many of the nearest vertices an inner point's row may choose from."""

MARKED_SETS = (COCO17.name, OPENPOSE25.name)
"""Sets that are what COCO's annotators mark."""


@dataclass(frozen=True)
class Mark:
    """Where a joint is marked."""

    joint: str
    frame: str
    """The joint that carries the mark along."""
    offset: tuple[float, float, float]
    """From the joint in the frame's axes, metres; of the left one."""


MARKS = {
    "left_shoulder": Mark("left_shoulder", "spine3", (-0.007, 0.026, -0.003)),
    "left_elbow": Mark("left_elbow", "left_elbow", (-0.007, 0.006, 0.012)),
    "left_wrist": Mark("left_wrist", "left_wrist", (0.005, 0.003, 0.0)),
    "left_hip": Mark("left_hip", "pelvis", (-0.011, 0.027, 0.027)),
    "left_knee": Mark("left_knee", "left_knee", (0.0, -0.003, 0.009)),
    "left_ankle": Mark("left_ankle", "left_ankle", (0.004, 0.013, 0.004)),
}
"""By the point's name; `benchmarks/detector_offsets.py marks` prints them anew."""


@dataclass(frozen=True)
class Landmarks:
    """What keypoints are placed by."""

    crowd: Crowd
    joint_rows: Float[np.ndarray, "24 verts"]
    """The 24 joints as seen on posed skin."""
    marked_rows: dict[str, Float[np.ndarray, " verts"]]
    """`MARKS`, likewise."""
    knuckles: dict[str, Float[np.ndarray, "people 3"]]
    """Places of finger joints, by the name of the source's bone."""
    parts: dict[str, np.ndarray]
    """Masks of the vertices of the left eyeball, the lips' meeting line and the left toes."""

    @cached_property
    def mean(self) -> Float[np.ndarray, "verts 3"]:
        """The mean body."""
        return self.crowd.mean

    def joint(self, name: str) -> Float[np.ndarray, " verts"]:
        """Row of a joint."""
        return self.joint_rows[JOINT_NAMES.index(name)]


_Place = Callable[[Landmarks], Float[np.ndarray, " verts"]]


def keypoint_rows(keypoints: KeypointSet, landmarks: Landmarks) -> Float[np.ndarray, "points verts"]:
    """Regressor of a keypoint set: rows sum to 1; left and right are exact mirror images.

    Raises:
        ValueError: a keypoint of the set has no place on this body.
    """
    place = _marked_row if keypoints.name in MARKED_SETS else _row
    rows: dict[str, np.ndarray] = {}
    for name in keypoints.names:
        side, _, part = name.partition("_")
        if side == "right":
            left = rows.get(f"left_{part}")
            left = place(f"left_{part}", landmarks) if left is None else left
            rows[name] = left[landmarks.crowd.mirror]
        elif name not in rows:
            rows[name] = place(name, landmarks)
    return np.stack([rows[name] for name in keypoints.names])


_MARKED_MIDDLES = {"neck": "left_shoulder", "mid_hip": "left_hip"}
"""OpenPose's points halfway between two of COCO's."""


def _marked_row(name: str, landmarks: Landmarks) -> Float[np.ndarray, " verts"]:
    if name in _MARKED_MIDDLES:
        left = landmarks.marked_rows[_MARKED_MIDDLES[name]]
        return 0.5 * (left + left[landmarks.crowd.mirror])
    return landmarks.marked_rows[name] if name in MARKS else _row(name, landmarks)


def _row(name: str, landmarks: Landmarks) -> Float[np.ndarray, " verts"]:
    part = name.replace("openpose_", "")  # SPIN's names for OpenPose's points: the same places
    if part in JOINT_NAMES:
        return landmarks.joint(part)
    if part not in _PLACES:
        raise ValueError(f"Keypoint {name!r} has no place on the free body; add one to {__name__}.")
    return _PLACES[part](landmarks)


def _one(landmarks: Landmarks, vertex: int) -> Float[np.ndarray, " verts"]:
    row = np.zeros(len(landmarks.mean))
    row[vertex] = 1.0
    return row


def _central_one(landmarks: Landmarks, score: Float[np.ndarray, " verts"]) -> Float[np.ndarray, " verts"]:
    """The midline vertex with the highest score."""
    on_midline = landmarks.crowd.mirror == np.arange(len(landmarks.mean))
    return _one(landmarks, int(np.argmax(np.where(on_midline, score, -np.inf))))


def _inner(landmarks: Landmarks, targets: Float[np.ndarray, "people 3"]) -> Float[np.ndarray, " verts"]:
    """A point inside a rigid part, by the ring of skin around it."""
    ring = nearest(landmarks.crowd, targets.mean(axis=0), _RING)
    return convex_row(landmarks.crowd, targets, ring)


def _between(a: str, b: str, share: float) -> _Place:
    """A midline point between two others (joints, `hips` and `shoulders` for midpoints, or `crown`)."""

    def place(landmarks: Landmarks) -> np.ndarray:
        return (1 - share) * _spot(landmarks, a) + share * _spot(landmarks, b)

    return place


def _spot(landmarks: Landmarks, name: str) -> Float[np.ndarray, " verts"]:
    if name in ("hips", "shoulders"):
        joint = name.removesuffix("s")
        return 0.5 * (landmarks.joint(f"left_{joint}") + landmarks.joint(f"right_{joint}"))
    return _crown(landmarks) if name == "crown" else landmarks.joint(name)


def _head(landmarks: Landmarks) -> np.ndarray:
    return landmarks.mean[:, 1] > (landmarks.joint("head") @ landmarks.mean)[1]


def _crown(landmarks: Landmarks) -> np.ndarray:
    return _central_one(landmarks, landmarks.mean[:, 1])


def _nose(landmarks: Landmarks) -> np.ndarray:
    return _central_one(landmarks, np.where(_head(landmarks), landmarks.mean[:, 2], -np.inf))


def _eye(landmarks: Landmarks) -> np.ndarray:
    """The middle of the eyeball's front: the pupil."""
    depth = np.where(landmarks.parts["left_eyeball"], landmarks.mean[:, 2], -np.inf)
    pupil = np.argsort(depth)[-8:]
    row = np.zeros(len(depth))
    row[pupil] = 1.0 / len(pupil)
    return row


def _eye_corner(sign: float) -> _Place:
    """Inner (-1) or outer (+1) corner of the lids: the skin vertex beside the eyeball's widest place."""

    def place(landmarks: Landmarks) -> np.ndarray:
        ball = landmarks.parts["left_eyeball"]
        centre = _eye(landmarks) @ landmarks.mean
        radius = np.ptp(landmarks.mean[ball, 0]) / 2
        spot = centre + np.array([sign * radius * 1.05, 0.0, -0.35 * radius])
        among = ~ball & (landmarks.mean[:, 2] > spot[2] - 0.5 * radius)
        return _one(landmarks, int(nearest(landmarks.crowd, spot, 1, among)[0]))

    return place


def _ear(landmarks: Landmarks) -> np.ndarray:
    """The ear's middle, in front, where it meets the cheek (tragus)."""
    mean = landmarks.mean
    head = np.where(_head(landmarks), mean[:, 0], -np.inf)
    tip = mean[int(np.argmax(head))]  # the ear's outermost point
    eye = _eye(landmarks) @ mean
    nose = _nose(landmarks) @ mean
    spot = np.array([0.86 * tip[0], 0.5 * (eye[1] + nose[1]), tip[2] + 0.012])
    return _one(landmarks, int(nearest(landmarks.crowd, spot, 1)[0]))


def _mouth(landmarks: Landmarks) -> np.ndarray:
    """The corner of the lips."""
    return _one(landmarks, int(np.argmax(np.where(landmarks.parts["lips"], landmarks.mean[:, 0], -np.inf))))


def _toe(bone: str) -> _Place:
    """The foremost vertex of a toe."""

    def place(landmarks: Landmarks) -> np.ndarray:
        mine = landmarks.parts[f"{bone}.L"]
        return _one(landmarks, int(np.argmax(np.where(mine, landmarks.mean[:, 2], -np.inf))))

    return place


def _heel(landmarks: Landmarks) -> np.ndarray:
    """The heel's hindmost vertex."""
    mean = landmarks.mean
    ankle, foot = landmarks.joint("left_ankle") @ mean, landmarks.joint("left_foot") @ mean
    low = (mean[:, 0] > 0) & (mean[:, 1] < foot[1] + 0.2 * (ankle[1] - foot[1]))
    return _one(landmarks, int(np.argmin(np.where(low, mean[:, 2], np.inf))))


def _knuckle(bone: str) -> _Place:
    def place(landmarks: Landmarks) -> np.ndarray:
        return _inner(landmarks, landmarks.knuckles[f"{bone}.L"])

    return place


def _lsp_hip(landmarks: Landmarks) -> np.ndarray:
    """Outward of the hip joint and a little up: where annotators see the hip, over the outer pelvis."""
    mean = landmarks.mean
    hip = landmarks.joint("left_hip")
    level = np.abs(mean[:, 1] - (hip @ mean)[1]) < 0.02
    trunk = level & (np.abs(mean[:, 0]) < 0.3)
    side = _one(landmarks, int(np.argmax(np.where(trunk, mean[:, 0], -np.inf))))
    up = _spot(landmarks, "spine3") - _spot(landmarks, "hips")
    return hip + 0.35 * (side - hip) + 0.08 * up


def _jaw(landmarks: Landmarks) -> np.ndarray:
    """Human3.6M's point between neck and nose: before the skull's base."""
    return 0.65 * landmarks.joint("head") + 0.15 * landmarks.joint("neck") + 0.2 * _nose(landmarks)


_PLACES: dict[str, _Place] = {
    "nose": _nose,
    "left_eye": _eye,
    "left_eye_inner": _eye_corner(-1.0),
    "left_eye_outer": _eye_corner(1.0),
    "left_ear": _ear,
    "left_mouth": _mouth,
    "left_big_toe": _toe("toe1-2"),
    "left_small_toe": _toe("toe5-3"),
    "left_heel": _heel,
    "left_foot_index": _toe("toe2-3"),
    "left_thumb": _knuckle("finger1-2"),
    "left_index": _knuckle("finger2-1"),
    "left_pinky": _knuckle("finger5-1"),
    "mid_hip": _between("hips", "shoulders", 0.0),
    "left_hip_lsp": _lsp_hip,
    "neck_lsp": _between("neck", "head", 0.45),
    "upper_neck_mpii": _between("neck", "head", 0.75),
    "thorax_mpii": _between("shoulders", "neck", 0.35),
    "pelvis_mpii": _between("hips", "shoulders", 0.0),
    "head_top": _crown,
    "pelvis_h36m": _between("hips", "shoulders", 0.0),
    "spine_h36m": _between("hips", "shoulders", 0.5),
    "thorax_h36m": _between("shoulders", "neck", 0.35),
    "jaw_h36m": _jaw,
    "head_h36m": _between("head", "crown", 0.5),
    "head_top_h36m": _between("head", "crown", 0.65),
    "neck_3dhp": _between("shoulders", "neck", 0.6),
    "pelvis_3dhp": _between("hips", "shoulders", 0.0),
    "spine_3dhp": _between("hips", "shoulders", 0.5),
    "head_3dhp": _between("neck", "crown", 0.33),
}
