"""K-means of each joint's Euler angles, and how well the experts' convex hull gives rotations back."""

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls
from torch import Tensor

from kouros.geometry.rotations import angle_between, rotvec_to_rotmat
from kouros.priors.body_pose import JOINTS, MIRROR_JOINTS
from kouros.priors.rotation_experts import RotationExperts, euler_order, euler_to_rotmat, rotmat_to_euler


def fit_experts(poses: Float[np.ndarray, "frames 69"], experts: int, rng: np.random.Generator) -> RotationExperts:
    """Experts of every joint, float64; the right side's are the left side's mirror images.

    The middle joints' experts come in mirror pairs, with one that is its own image if ``experts`` is odd.

    Args:
        poses: with their mirror images.
        experts: a joint.
        rng: starts K-means.

    Raises:
        ValueError: fewer than two experts.
    """
    if experts < 2:
        raise ValueError(f"{experts} experts span no range of rotations; ask for at least 2.")
    euler = rotmat_to_euler(rotvec_to_rotmat(torch.from_numpy(poses).unflatten(-1, (len(JOINTS), 3)))).numpy()
    centres = np.zeros((len(JOINTS), experts, 3))
    middles = np.zeros((len(JOINTS), 3))
    for joint, name in enumerate(JOINTS):
        if name.startswith("right_"):
            continue
        sign = _mirror_sign(name)
        partner = MIRROR_JOINTS[joint]
        middle = _circular_mean(euler[:, joint])
        middles[joint] = middle * (0.5 + 0.5 * sign) if partner == joint else middle
        angles = euler[:, joint] - 2 * math.pi * np.round((euler[:, joint] - middles[joint]) / (2 * math.pi))
        centres[joint] = _k_means(angles, experts, sign if partner == joint else None, rng)
        if partner != joint:
            centres[partner], middles[partner] = sign * centres[joint], sign * middles[joint]
    return RotationExperts(torch.from_numpy(centres), torch.from_numpy(middles))


def nearest_in_hull(experts: RotationExperts, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch 23 3 3"]:
    """The rotations of the hull (not widened) whose Euler angles are nearest to a pose's."""
    euler = experts.unwrapped_euler(body_pose).double().cpu().numpy()
    centres = experts.centres.double().cpu().numpy()
    # Weights sum to 1 by a heavy extra equation.
    heavy = 1e3
    found = np.empty_like(euler)
    for joint, points in enumerate(centres):
        system = np.concatenate([points.T, np.full((1, len(points)), heavy)])
        for item, angles in enumerate(euler[:, joint]):
            weights, _ = nnls(system, np.append(angles, heavy))
            found[item, joint] = weights @ points / weights.sum()
    return euler_to_rotmat(torch.from_numpy(found)).to(body_pose)


def hull_error_degrees(experts: RotationExperts, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch 23"]:
    """Angle between each joint's rotation and the nearest one in the hull, degrees."""
    given = rotvec_to_rotmat(body_pose.unflatten(-1, (len(JOINTS), 3)))
    return angle_between(given, nearest_in_hull(experts, body_pose)).rad2deg()


def _mirror_sign(joint: str) -> np.ndarray:
    return np.array([1.0 if axis == "x" else -1.0 for axis in euler_order(joint)])


def _circular_mean(angles: np.ndarray) -> np.ndarray:
    return np.arctan2(np.sin(angles).mean(0), np.cos(angles).mean(0))


def _k_means(
    points: np.ndarray, count: int, sign: np.ndarray | None, rng: np.random.Generator, rounds: int = 50
) -> np.ndarray:
    """Centres by k-means++ and Lloyd's algorithm; with ``sign``, symmetric under multiplication by it."""
    centres = np.empty((0, 3))
    if sign is not None and count % 2:
        centres = np.array([points[rng.integers(len(points))] * (0.5 + 0.5 * sign)])
    while len(centres) < count:
        nearest = _square_distances(points, centres).min(1) if len(centres) else np.ones(len(points))
        odds = nearest / nearest.sum() if nearest.sum() > 1e-9 else np.full(len(points), 1 / len(points))
        chosen = points[rng.choice(len(points), p=odds)]
        centres = np.vstack([centres, [chosen] if sign is None else [chosen, chosen * sign]])
    for _ in range(rounds):
        labels = _square_distances(points, centres).argmin(1)
        sizes = np.bincount(labels, minlength=count)
        sums = np.stack([np.bincount(labels, weights=points[:, c], minlength=count) for c in range(3)], axis=1)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        if sign is not None:
            centres = (centres + sign * centres[_image_of(count)]) / 2
    return centres


def _image_of(count: int) -> list[int]:
    odd = count % 2
    return [k if k < odd else odd + ((k - odd) ^ 1) for k in range(count)]


def _square_distances(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.maximum(np.square(points).sum(1)[:, None] - 2 * points @ centres.T + np.square(centres).sum(1), 0)
