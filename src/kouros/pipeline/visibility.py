"""Which joints of a person the picture shows, and which were completed by what the system knows of people."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.keypoints import keypoint_set
from kouros.body.skeleton import JOINT_NAMES, PARENTS

Evidence = Literal["visible", "inferred", "guessed"]
"""Of a joint: the picture shows it; or it shows one that hangs together with it by a bone; or neither."""
SEEN = 0.5
"""What is less visible was completed."""
_HIPS, _SHOULDERS = ("left_hip", "right_hip"), ("left_shoulder", "right_shoulder")
_TOLD_BY: dict[str, tuple[str, ...]] = {
    "pelvis": _HIPS, "spine1": _HIPS, "spine2": (*_HIPS, *_SHOULDERS), "spine3": _SHOULDERS, "neck": _SHOULDERS,
    "head": ("nose",),
} | {
    f"{side}_{joint}": (f"{side}_{by}",)
    for side in ("left", "right")
    for joint, by in (("foot", "ankle"), ("collar", "shoulder"), ("hand", "wrist"))
}  # fmt: skip
"""Of joints that keypoint sets do not have: by whose confidence they are judged."""


def by_confidence(keypoints: Float[Tensor, "keypoints 3"], set_name: str) -> Float[Tensor, " 24"]:
    """In [0, 1], of each joint of the skeleton: what a finder trusts its keypoint, or those nearest to it.

    A joint that no point of the set tells of has the mean of the others.

    Args:
        keypoints: x, y and confidence.
        set_name: whose they are.
    """
    names = [name.removesuffix("_lsp") for name in keypoint_set(set_name).names]
    confidence = {name: float(c) for name, c in zip(names, keypoints[:, 2].clamp(0, 1), strict=True)}
    found = []
    for joint in JOINT_NAMES:
        told = [confidence[name] for name in _TOLD_BY.get(joint, (joint,)) if name in confidence]
        found.append(sum(told) / len(told) if told else torch.nan)
    values = keypoints.new_tensor(found)
    return torch.where(values.isnan(), values.nanmean().nan_to_num(1.0), values)


def inside(joints_2d: Float[Tensor, "24 2"], size: tuple[int, int]) -> Float[Tensor, " 24"]:
    """1 for joints in the picture, 0 for those beyond its edges.

    Args:
        size: width and height, pixels.
    """
    return ((joints_2d >= 0) & (joints_2d <= joints_2d.new_tensor(size))).all(dim=-1).to(joints_2d)


def evidence_of(visibility: Float[Tensor, " 24"]) -> tuple[Evidence, ...]:
    """What there is for each joint."""
    seen = (visibility >= SEEN).tolist()
    found: list[Evidence] = []
    for joint, parent in enumerate(PARENTS):
        children = [child for child, of in enumerate(PARENTS) if of == joint]
        near = any(seen[k] for k in (*children, *([parent] if parent >= 0 else [])))
        found.append("visible" if seen[joint] else "inferred" if near else "guessed")
    return tuple(found)
