"""Orders in which detectors and data sets list their keypoints, and how they become one of our sets.

A layout names its points by ours, in its own order; points that no body of ours has are left nameless. Its points are
then placed in the set of `KEYPOINT_SETS` that has most of them, and the set's other points count as not seen.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kouros.body.keypoints import COCO17, KEYPOINT_SETS, MPI_INF_3DHP17, MPII16, OPENPOSE25, KeypointSet
from kouros.documents import parse_json
from kouros.sentences import some


@dataclass(frozen=True)
class Layout:
    """Points in somebody's order."""

    name: str
    points: tuple[str | None, ...]
    """Our names; None: nothing of ours."""
    target: KeypointSet
    """The set that they are placed in."""

    def __len__(self) -> int:
        return len(self.points)

    def placed(self, keypoints: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "keypoints 3"]:
        """In the target's order; what the layout lacks has confidence 0."""
        found = np.zeros((len(self.target), 3))
        for name, row in zip(self.points, keypoints, strict=True):
            if name in self.target.names:
                found[self.target.index(name)] = row
        return found


def _own(points: KeypointSet) -> Layout:
    return Layout(points.name, points.names, points)


_FEET = tuple(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel"))
_NO_ARMS_FIRST = (
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
    "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip
_BODY25B = Layout("body25b", (*COCO17.names, None, None, *_FEET), OPENPOSE25)
"""OpenPose's experimental models (src/openpose/pose/poseParameters.cpp); no body of ours has its two points of the neck
and the top of the head together with toes."""
_COCO18 = Layout(
    "coco18",
    (
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
        "right_ear", "left_ear",
    ),
    OPENPOSE25,
)  # fmt: skip
_MPI15 = Layout(
    "mpi15",
    (
        "head_top", "upper_neck_mpii", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
        "left_wrist", "right_hip_lsp", "right_knee", "right_ankle", "left_hip_lsp", "left_knee", "left_ankle", None,
    ),
    MPII16,
)  # fmt: skip
_BODY19 = Layout("body19", OPENPOSE25.names[:19], OPENPOSE25)
_WHOLE23 = Layout("coco_wholebody23", (*COCO17.names, *_FEET), OPENPOSE25)
_WHOLE133 = Layout("coco_wholebody133", (*_WHOLE23.points, *[None] * 110), OPENPOSE25)
_HALPE_FEET = tuple(f"{side}_{part}" for part in ("big_toe", "small_toe", "heel") for side in ("left", "right"))
_HALPE26 = Layout("halpe26", (*COCO17.names, None, "neck", "mid_hip", *_HALPE_FEET), OPENPOSE25)
_HALPE136 = Layout("halpe136", (*_HALPE26.points, *[None] * 110), OPENPOSE25)
_CROWDPOSE = Layout("crowdpose14", (*_NO_ARMS_FIRST, "head_top", "neck_3dhp"), MPI_INF_3DHP17)
_AIC = Layout(
    "aic14",
    (
        "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "right_hip",
        "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "head_top", "neck_3dhp",
    ),
    MPI_INF_3DHP17,
)  # fmt: skip
_OCHUMAN = Layout("ochuman17", COCO17.names, COCO17)

LAYOUTS = {
    layout.name: layout
    for layout in (
        *map(_own, KEYPOINT_SETS.values()),
        _BODY25B, _COCO18, _MPI15, _BODY19, _WHOLE23, _WHOLE133, _HALPE26, _HALPE136, _CROWDPOSE, _AIC, _OCHUMAN,
    )
}  # fmt: skip
"""By name: our sets as they are, and what detectors write beside them."""

_USUAL = {
    15: _MPI15, 16: _own(MPII16), 17: _own(COCO17), 18: _COCO18, 19: _BODY19, 23: _WHOLE23, 25: _own(OPENPOSE25),
    26: _HALPE26, 33: LAYOUTS["blazepose33"], 133: _WHOLE133, 136: _HALPE136,
}  # fmt: skip
"""What a number of points usually is, where the file does not say."""


def layout(name: str | Path) -> Layout:
    """The layout of that name, or of a TOML or JSON file that describes one.

    Raises:
        ValueError: there is none of that name, or the file is not such a description.
    """
    if isinstance(name, str) and name in LAYOUTS:
        return LAYOUTS[name]
    path = Path(name)
    if path.suffix in (".toml", ".json"):
        return read_layout(path)
    raise ValueError(
        f"There is no keypoint set {str(name)!r}; the sets are: {', '.join(LAYOUTS)}; or give a .toml or .json file "
        'that names the points, as points = ["nose", "", "left_eye"].'
    )


def usual_layout(points: int) -> Layout:
    """What so many points are, where nothing else is known.

    Raises:
        ValueError: nothing usual has so many.
    """
    if points in _USUAL:
        return _USUAL[points]
    same = [known.name for known in LAYOUTS.values() if len(known) == points]
    which = f" ({' or '.join(same)}?)" if same else ""
    counts = ", ".join(f"{count} ({known.name})" for count, known in sorted(_USUAL.items()))
    raise ValueError(
        f"{points} points are of no set that is known by their number: {counts}. Name the set{which}, or describe "
        "it in a .toml or .json file."
    )


def alternatives(name: str) -> tuple[str, ...]:
    """Other layouts with as many points: what somebody may have meant."""
    count = len(LAYOUTS[name])
    return tuple(other.name for other in LAYOUTS.values() if len(other) == count and other.name != name)


def layout_of_names(name: str, points: Sequence[str | None]) -> Layout:
    """A layout of the points named; its target is the set that has most of them, the smallest of such sets.

    Raises:
        ValueError: a name is not ours, comes twice, or no set has four of them.
    """
    given = [point or None for point in points]
    known = {point for points_of in KEYPOINT_SETS.values() for point in points_of.names}
    named = [point for point in given if point is not None]
    if unknown := [point for point in named if point not in known]:
        raise ValueError(
            f"{name}: there is no point {some(unknown)}; ours are: {', '.join(sorted(known))}. Leave other points "
            'nameless, as "".'
        )
    if len(set(named)) < len(named):
        raise ValueError(f"{name}: the point {some({p for p in named if named.count(p) > 1})} is named twice.")
    target = max(KEYPOINT_SETS.values(), key=lambda s: (len(set(named) & set(s.names)), -len(s)))
    if len(set(named) & set(target.names)) < 4:
        raise ValueError(f"{name}: it names {len(named)} points; a body needs four of one of our sets.")
    return Layout(name, tuple(given), target)


def read_layout(path: Path) -> Layout:
    """A layout that somebody describes: ``points``, a list of our names in the file's order, "" for any other point.

    Raises:
        ValueError: the file is missing, is neither TOML nor JSON, or says something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = tomllib.loads(text) if path.suffix == ".toml" else parse_json(text)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such description of keypoints.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: this description of keypoints cannot be read ({error}).") from None
    points = content.get("points") if isinstance(content, dict) else None
    if not isinstance(points, list) or not all(point is None or isinstance(point, str) for point in points):
        raise ValueError(
            f'{path}: expected points = ["nose", "left_eye", ...], a list of names in the order of your files.'
        )
    return layout_of_names(str(path), points)
