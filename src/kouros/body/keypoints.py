"""The keypoint sets of the field's datasets and detectors, as named values.

A set is only names, in order. Where each point lies on a body is that body's matter: the free body carries a
sparse regressor per set. A name means the same part of the body in every set; where the datasets mean
clearly different points, the name carries its dataset (``right_hip_lsp`` lies outward of ``right_hip``).
"""

from dataclasses import dataclass
from functools import cached_property

from kouros.body.skeleton import JOINT_NAMES, PARENTS, mirror_permutation


@dataclass(frozen=True)
class KeypointSet:
    """Names of keypoints, in the order of a dataset or detector."""

    name: str
    names: tuple[str, ...]
    edges: tuple[tuple[str, str], ...] = ()
    """Pairs to connect by lines when drawn."""

    def __len__(self) -> int:
        return len(self.names)

    def index(self, keypoint: str) -> int:
        """Position of a keypoint.

        Raises:
            KeyError: the set has no such keypoint.
        """
        if keypoint not in self.names:
            raise KeyError(f"{self.name} has no keypoint {keypoint!r}; it has: {', '.join(self.names)}.")
        return self.names.index(keypoint)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """For each keypoint the index of its left-right mirror image."""
        return mirror_permutation(self.names)


def _limbs(hip: str = "hip") -> tuple[tuple[str, str], ...]:
    chains = (("shoulder", "elbow"), ("elbow", "wrist"), (hip, "knee"), ("knee", "ankle"), ("shoulder", hip))
    edges = [(f"{side}_{a}", f"{side}_{b}") for side in ("left", "right") for a, b in chains]
    edges += [("left_shoulder", "right_shoulder"), (f"left_{hip}", f"right_{hip}")]
    return tuple(edges)


_FACE = (("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear"))
_FEET = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in ("left", "right")
    for a, b in (("ankle", "heel"), ("ankle", "big_toe"), ("big_toe", "small_toe"))
)

SMPL24 = KeypointSet(
    "smpl24",
    JOINT_NAMES,
    tuple((JOINT_NAMES[p], JOINT_NAMES[j]) for j, p in enumerate(PARENTS) if p >= 0),
)

COCO17 = KeypointSet(
    "coco17",
    (
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
        "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
        "right_knee", "left_ankle", "right_ankle",
    ),
    (*_limbs(), *_FACE),
)  # fmt: skip

OPENPOSE25 = KeypointSet(
    "openpose25",
    (
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
        "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe",
        "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    ),
    (*_limbs(), *_FACE, *_FEET, ("neck", "nose"), ("neck", "mid_hip")),
)  # fmt: skip

LSP14 = KeypointSet(
    "lsp14",
    (
        "right_ankle", "right_knee", "right_hip_lsp", "left_hip_lsp", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck_lsp", "head_top",
    ),
    (*_limbs("hip_lsp"), ("neck_lsp", "head_top")),
)  # fmt: skip

H36M17 = KeypointSet(
    "h36m17",
    (
        "pelvis_h36m", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "spine_h36m", "thorax_h36m", "jaw_h36m", "head_top_h36m", "left_shoulder", "left_elbow",
        "left_wrist", "right_shoulder", "right_elbow", "right_wrist",
    ),
    (*_limbs(), ("pelvis_h36m", "spine_h36m"), ("spine_h36m", "thorax_h36m"),
     ("thorax_h36m", "jaw_h36m"), ("jaw_h36m", "head_top_h36m")),
)  # fmt: skip
"""Right leg first, as VideoPose3D and mmpose order it; `J_regressor_h36m.npy` has the left leg first."""

MPII16 = KeypointSet(
    "mpii16",
    (
        "right_ankle", "right_knee", "right_hip_lsp", "left_hip_lsp", "left_knee", "left_ankle",
        "pelvis_mpii", "thorax_mpii", "upper_neck_mpii", "head_top", "right_wrist", "right_elbow",
        "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    (*_limbs("hip_lsp"), ("pelvis_mpii", "thorax_mpii"), ("thorax_mpii", "upper_neck_mpii"),
     ("upper_neck_mpii", "head_top")),
)  # fmt: skip

MPI_INF_3DHP17 = KeypointSet(
    "mpi_inf_3dhp17",
    (
        "head_top", "neck_3dhp", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
        "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
        "left_ankle", "pelvis_3dhp", "spine_3dhp", "head_3dhp",
    ),
    (*_limbs(), ("pelvis_3dhp", "spine_3dhp"), ("spine_3dhp", "neck_3dhp"), ("neck_3dhp", "head_3dhp"),
     ("head_3dhp", "head_top")),
)  # fmt: skip
"""In the order of the dataset's test files."""

BLAZEPOSE33 = KeypointSet(
    "blazepose33",
    (
        "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
        "right_eye_outer", "left_ear", "right_ear", "left_mouth", "right_mouth", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
        "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip",
        "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel",
        "left_foot_index", "right_foot_index",
    ),
    (*_limbs(), ("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"),
     ("right_eye", "right_ear"), ("left_mouth", "right_mouth"),
     *((f"{s}_{a}", f"{s}_{b}") for s in ("left", "right") for a, b in (
         ("wrist", "thumb"), ("wrist", "index"), ("wrist", "pinky"), ("ankle", "heel"),
         ("heel", "foot_index"), ("ankle", "foot_index")))),
)  # fmt: skip


def _openpose_name(name: str) -> str:
    side, _, part = name.partition("_")
    return f"{side}_openpose_{part}" if side in ("left", "right") else f"openpose_{name}"


SPIN49 = KeypointSet(
    "spin49",
    (
        *(_openpose_name(n) for n in OPENPOSE25.names),
        *LSP14.names,
        "pelvis_mpii", "thorax_mpii", "spine_h36m", "jaw_h36m", "head_h36m",
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
    ),
)  # fmt: skip
"""SPIN's 25 OpenPose points followed by its 24 "ground truth" points. ``head_h36m`` is the centre of the head;
the datasets' 14-joint 3D metrics take that point, while LSP's 2D set takes ``head_top``."""

KEYPOINT_SETS = {
    s.name: s for s in (SMPL24, COCO17, OPENPOSE25, LSP14, H36M17, MPII16, MPI_INF_3DHP17, BLAZEPOSE33, SPIN49)
}


class UnknownSetError(KeyError, ValueError):
    """A keypoint set that there is not, or that a body cannot place; the message says which there are."""

    def __str__(self) -> str:
        """The message, which a KeyError would put in quotes."""
        return str(self.args[0])


def keypoint_set(name: str) -> KeypointSet:
    """The set of that name.

    Raises:
        KeyError: there is none.
    """
    if name not in KEYPOINT_SETS:
        raise UnknownSetError(f"There is no keypoint set {name!r}; the sets are: {', '.join(KEYPOINT_SETS)}.")
    return KEYPOINT_SETS[name]
