"""Which points of one keypoint set are the same places as which of another: by name, never by number or count.

Data sets give the same place several names, and the same name to several places; SPIN's preprocessing decided for
the field which of them are compared (its 24 joints), and this table is that decision by names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.keypoints import KeypointSet

LIMBS = tuple(
    f"{side}_{part}" for part in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder") for side in ("right", "left")
)
"""The twelve points that every set has."""
COMMON14 = (*LIMBS, "neck14", "head14")
"""The 14 points of the field's 3D scores: with Human3.6M's and 3DHP's neck and top of the head."""

_HIPS = {f"{side}_hip": ("spin49", "lsp14", "mpii16") for side in ("left", "right")}
_NAMES: dict[str, dict[str, str]] = {
    **{hip: dict.fromkeys(sets, f"{hip}_lsp") for hip, sets in _HIPS.items()},
    "neck14": {
        "h36m17": "thorax_h36m",
        "spin49": "neck_lsp",
        "lsp14": "neck_lsp",
        "mpi_inf_3dhp17": "neck_3dhp",
        "mpii16": "upper_neck_mpii",
        "humaneva15": "thorax_humaneva",
    },
    "head14": {"h36m17": "head_top_h36m", "spin49": "head_h36m", "mpi_inf_3dhp17": "head_top"},
    "head_top": {"h36m17": "head_top_h36m"},
    "pelvis": {
        "h36m17": "pelvis_h36m",
        "spin49": "pelvis_mpii",
        "mpi_inf_3dhp17": "pelvis_3dhp",
        "mpii16": "pelvis_mpii",
        "humaneva15": "pelvis_humaneva",
        "openpose25": "mid_hip",
    },
    "spine": {"h36m17": "spine_h36m", "spin49": "spine_h36m", "mpi_inf_3dhp17": "spine_3dhp"},
    "jaw": {"h36m17": "jaw_h36m", "spin49": "jaw_h36m", "mpi_inf_3dhp17": "head_3dhp"},
}
"""For each place, its name in the sets that call it otherwise."""
_MIDDLES = {"pelvis": ("left_hip", "right_hip")}
"""Places that sets without them can build."""


@dataclass(frozen=True)
class Places:
    """Where in a set's tensors some named places are: each the mean of one or two points."""

    names: tuple[str, ...]
    indices: tuple[tuple[int, ...], ...]

    def pick(self, points: Float[Tensor, "*batch points dims"]) -> Float[Tensor, "*batch places dims"]:
        """The places, in order."""
        return torch.stack([points[..., list(i), :].mean(dim=-2) for i in self.indices], dim=-2)

    def among(self, places: Sequence[str]) -> "Places":
        """The given ones of them, in the given order."""
        at = [self.names.index(p) for p in places]
        return Places(tuple(places), tuple(self.indices[i] for i in at))


def select(keypoints: KeypointSet, places: Sequence[str], *, build: bool = False) -> Places:
    """Those of the places that the set has, in the order asked for.

    Args:
        build: take the middle of the hips for a pelvis that the set lacks: good enough for a root, not to be scored.
    """
    found = [(place, _indices(keypoints, place, build)) for place in places]
    known = [(place, indices) for place, indices in found if indices]
    return Places(tuple(p for p, _ in known), tuple(i for _, i in known))


def _indices(keypoints: KeypointSet, place: str, build: bool) -> tuple[int, ...]:
    name = _NAMES.get(place, {}).get(keypoints.name, place)
    if name in keypoints.names:
        return (keypoints.index(name),)
    ends = select(keypoints, _MIDDLES.get(place, ())) if build else Places((), ())
    return tuple(i for indices in ends.indices for i in indices) if len(ends.names) == 2 else ()
