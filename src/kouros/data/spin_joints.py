"""Where the keypoints of every named set go among SPIN's 49, the form in which systems learn from them."""

from functools import cache

import numpy as np
from jaxtyping import Float

from kouros.body.keypoints import OPENPOSE25, SPIN49, KeypointSet

TO_SPIN24 = {
    "lsp14": tuple(range(14)),
    "coco17": (19, 20, 21, 22, 23, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0),
    "mpii16": (0, 1, 2, 3, 4, 5, 14, 15, 12, 13, 6, 7, 8, 9, 10, 11),
    # The data sets' hips go to LSP's, the necks to the neck, and the top of the head to the "head" of 3D
    # metrics.
    "h36m17": (14, 2, 1, 0, 3, 4, 5, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6),
    "mpi_inf_3dhp17": (18, 12, 8, 7, 6, 9, 10, 11, 2, 1, 0, 3, 4, 5, 14, 16, 17),
}
"""For each keypoint set, which of SPIN's 24 joints each point fills, as in SPIN's preprocessing."""

_DETECTED = len(OPENPOSE25)
_PELVIS = (SPIN49.index("pelvis_mpii"), SPIN49.index("openpose_mid_hip"))
_HIPS = tuple(
    (SPIN49.index(f"left_{hip}"), SPIN49.index(f"right_{hip}")) for hip in ("hip_lsp", "openpose_hip")
)  # fmt: skip
_RENAMED = {"pelvis": "openpose_mid_hip"}
"""Names for which SPIN's set has another: SMPL's pelvis is what it takes for OpenPose's middle of the hips."""


@cache
def spin49_slots(points: KeypointSet) -> tuple[int | None, ...]:
    """For each keypoint of a set, which of `SPIN49` it is; None for what those do not have.

    A set that SPIN never read is matched by name: first with the 24 annotated joints, then with OpenPose's.

    Raises:
        ValueError: none of its points is among them.
    """
    if points.names == SPIN49.names:
        return tuple(range(len(SPIN49)))
    if points.names == OPENPOSE25.names:
        return tuple(range(_DETECTED))
    if points.name in TO_SPIN24:
        return tuple(_DETECTED + joint for joint in TO_SPIN24[points.name])
    slots = tuple(_slot(name) for name in points.names)
    if not any(slot is not None for slot in slots):
        raise ValueError(
            f"The keypoint set {points.name} shares no point with SPIN's 49; name its points as "
            "kouros.body.keypoints does."
        )
    return slots


def to_spin49(values: Float[np.ndarray, "points columns"], points: KeypointSet) -> Float[np.ndarray, "49 columns"]:
    """Keypoints of a set in SPIN's order; 0, confidence included, where the set has none.

    Raises:
        ValueError: as `spin49_slots` does.
    """
    result = np.zeros((len(SPIN49), values.shape[1]), dtype=np.float64)
    known, slots = _placed(points)
    result[slots] = np.asarray(values)[known]
    return result


@cache
def _placed(points: KeypointSet) -> tuple[list[int], list[int]]:
    """Which points of a set have a place among `SPIN49`, and where."""
    placed = [(point, slot) for point, slot in enumerate(spin49_slots(points)) if slot is not None]
    return [point for point, _ in placed], [slot for _, slot in placed]


def from_pelvis(keypoints: Float[np.ndarray, "49 4"], rooted: bool) -> Float[np.ndarray, "49 4"]:
    """3D keypoints relative to the pelvis: the annotated one, or else the middle of the hips.

    Args:
        keypoints: X, Y, Z, confidence.
        rooted: they are relative to some root already, which then stands in for an unknown pelvis; without it and
            without a pelvis nothing is known.
    """
    known = keypoints[:, 3] > 0
    pelvis = next((keypoints[p, :3] for p in _PELVIS if known[p]), None)
    if pelvis is None:
        pelvis = next((keypoints[list(h), :3].mean(axis=0) for h in _HIPS if known[list(h)].all()), None)
    if pelvis is None:
        return keypoints if rooted else np.zeros_like(keypoints)
    return np.c_[np.where(known[:, None], keypoints[:, :3] - pelvis, 0.0), keypoints[:, 3]]


def _slot(name: str) -> int | None:
    name = _RENAMED.get(name, name)
    side, _, part = name.partition("_")
    detected = f"{side}_openpose_{part}" if side in ("left", "right") else f"openpose_{name}"
    return next((SPIN49.index(n) for n in (name, detected) if n in SPIN49.names), None)
