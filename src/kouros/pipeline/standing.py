"""The world of a film: which way is up, and where the floor lies, read off the people who stand on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from kouros.body.skeleton import JOINT_NAMES

_HIPS = [JOINT_NAMES.index(f"{side}_hip") for side in ("left", "right")]
_ANKLES = [JOINT_NAMES.index(f"{side}_ankle") for side in ("left", "right")]
_FEET = [JOINT_NAMES.index(f"{side}_{part}") for part in ("ankle", "foot") for side in ("left", "right")]
_NECK = JOINT_NAMES.index("neck")
_SOLE = np.array([0.08, 0.08, 0.02, 0.02])
"""How high ankles and feet are above the floor when they stand, metres."""
_UPRIGHT = 0.8
"""Cosine of the angle between trunk and legs of somebody who stands upright."""
_LEVEL = 0.94
"""Cosine of how far the floor's plane may lean from what the bodies say, to be believed."""
_WIDE = 0.25
"""Metres that footprints must spread to both sides to say how the floor lies."""


@dataclass(frozen=True, eq=False)
class World:
    """Axes that stand: y up, the floor at height 0, below the camera; the camera looks along -z, level."""

    T_world_camera: Float[np.ndarray, "4 4"]
    """From camera space to the world."""
    seen: bool
    """Whether people say how it lies; else the camera is taken as level, at eye height."""

    def of_camera(self, points: Float[np.ndarray, "*points 3"]) -> Float[np.ndarray, "*points 3"]:
        """Points of camera space in the world."""
        return points @ self.T_world_camera[:3, :3].T + self.T_world_camera[:3, 3]


def world_of(
    people: Sequence[tuple[Float[np.ndarray, "frames 24 3"], Bool[np.ndarray, "frames 4"]]],
) -> World:
    """The world of people's joints, camera space, and of which of their ankles and feet stand."""
    ups, prints = [], []
    for joints, stands in people:
        feet = joints[:, _FEET]
        trunk = _unit(joints[:, _NECK] - joints[:, _HIPS].mean(axis=1))
        legs = _unit(joints[:, _HIPS].mean(axis=1) - joints[:, _ANKLES].mean(axis=1))
        upright = stands.any(axis=1) & ((trunk * legs).sum(axis=1) > _UPRIGHT)
        ups.append(_unit(joints[upright][:, _NECK] - joints[upright][:, _ANKLES].mean(axis=1)))
        prints.append((feet[stands], np.broadcast_to(_SOLE, stands.shape)[stands]))
    directions = np.concatenate(ups) if ups else np.zeros((0, 3))
    if not len(directions):
        return World(_placed(np.array([0.0, -1.0, 0.0]), -1.6), seen=False)
    up = _middle(directions)
    points = np.concatenate([p for p, _ in prints])
    above = np.concatenate([h for _, h in prints])
    up = _with_floor(up, points - above[:, None] * up)
    return World(_placed(up, float(np.median(points @ up - above))), seen=True)


def _placed(up: Float[np.ndarray, "3"], floor: float) -> Float[np.ndarray, "4 4"]:
    """Axes of the world for an up and a floor's height along it, both as the camera has them."""
    ahead = np.array([0.0, 0.0, 1.0])
    if abs(up @ ahead) > 0.99:  # the camera looks straight down
        ahead = np.array([0.0, -1.0, 0.0])
    back = -_unit(ahead - (ahead @ up) * up)
    turn = np.stack([np.cross(up, back), up, back])
    placed = np.eye(4)
    placed[:3, :3] = turn
    placed[1, 3] = -floor
    return placed


def _middle(directions: Float[np.ndarray, "many 3"]) -> Float[np.ndarray, "3"]:
    """The direction that is least far from all (Weiszfeld's geometric median)."""
    at = _unit(directions.mean(axis=0))
    for _ in range(20):
        weight = 1 / np.maximum(np.linalg.norm(directions - at, axis=1), 1e-3)
        at = _unit(weight @ directions)
    return at


def _with_floor(up: Float[np.ndarray, "3"], points: Float[np.ndarray, "many 3"]) -> Float[np.ndarray, "3"]:
    """The normal of the plane under the feet, where they went far enough to all sides to say."""
    for _ in range(5):
        centred = points - np.median(points, axis=0)
        _, spread, axes = np.linalg.svd(centred / np.sqrt(len(points)), full_matrices=False)
        normal = axes[2] * np.sign(axes[2] @ up)
        if spread[1] < _WIDE or normal @ up < _LEVEL:
            return up
        away = np.abs(centred @ normal)
        kept = away <= max(2.5 * float(np.median(away)), 0.02)
        if kept.all():
            return normal
        points = points[kept]
    return normal


def _unit(vectors: Float[np.ndarray, "*many 3"]) -> Float[np.ndarray, "*many 3"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
