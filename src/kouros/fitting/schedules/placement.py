"""Where to begin: closed-form placements of a body in front of the camera.

A fit that starts turned around or tilted ends there. These give it starts from evidence: the torso's
orientation from 3D landmarks, a spread of headings where there are none, and the translation that puts a posed
body where its keypoints are seen.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.geometry.alignment import align
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat

_UPRIGHT = (math.pi, 0.0, 0.0)
"""Half a turn about x: from body space (y up, facing +z) to a camera that the person faces (y down)."""


def translation_to_see(
    points: Float[Tensor, "batch points 3"],
    pixels: Float[Tensor, "batch points 2"],
    weights: Float[Tensor, "batch points"],
    camera: PerspectiveCamera,
) -> Float[Tensor, "batch 3"]:
    """Translation, metres, that moves rigid points in camera axes to where they project onto ``pixels``.

    Linear least squares on ``focal (X + tx) = u (Z + tz)`` (and the same for v), u measured from the principal
    point. Where that puts the person less than half a metre away (too few or contradictory keypoints),
    the depth is taken from the ratio of the sizes in the picture and in space.
    """
    total = weights.sum(-1, keepdim=True).clamp(min=1e-9)
    share = (weights / total)[..., None]
    rays = (pixels - camera.principal_point[:, None]) / camera.focal_length[:, None, None]
    # Rows [1, 0, -u] and [0, 1, -v] with right-hand sides u Z - X and v Z - Y.
    target = rays * points[..., 2:] - points[..., :2]
    mean_ray, mean_target = (share * rays).sum(1), (share * target).sum(1)
    ray_spread = rays - mean_ray[:, None]
    # Eliminating tx and ty leaves one equation for tz.
    against = (share * ray_spread * (target - mean_target[:, None])).sum((1, 2))
    energy = (share * ray_spread.square()).sum((1, 2))
    depth = -against / energy.clamp(min=1e-12)
    centre = (share * points).sum(1)
    extent = (share * (points - centre[:, None])[..., :2].square()).sum((1, 2)).sqrt()
    by_size = extent / energy.sqrt().clamp(min=1e-6) - centre[:, 2]
    usable = (depth + points[..., 2].amin(-1) > 0.5) & torch.isfinite(depth)
    depth = torch.where(usable, depth, by_size.clamp(min=0.5))
    return torch.cat([mean_target + mean_ray * depth[:, None], depth[:, None]], dim=-1)


def orientation_of_torso(
    rest: Float[Tensor, "torso 3"], seen: Float[Tensor, "batch torso 3"]
) -> Float[Tensor, "batch 3"]:
    """``global_orient`` (rotation vector) that turns the rest pose's torso points onto 3D landmarks."""
    turned = align(rest.expand_as(seen), seen, with_scale=False)
    return rotmat_to_rotvec(turned.rotation)


def upright_headings(count: int, roll: Float[Tensor, " batch"]) -> Float[Tensor, "batch count 3"]:
    """``global_orient`` of people upright in the picture, seen from ``count`` directions all around.

    Args:
        roll: how far the person leans in the picture, radians clockwise from upright.
    """
    yaw = torch.arange(count, dtype=roll.dtype, device=roll.device) * (2 * math.pi / count)
    zero = torch.zeros_like(yaw)
    heading = rotvec_to_rotmat(torch.stack([zero, yaw, zero], dim=-1))
    upright = rotvec_to_rotmat(roll.new_tensor(_UPRIGHT))
    nothing = torch.zeros_like(roll)
    lean = rotvec_to_rotmat(torch.stack([nothing, nothing, roll], dim=-1))
    return rotmat_to_rotvec(lean[:, None] @ upright @ heading)


def roll_in_picture(hips: Float[Tensor, "batch 2"], shoulders: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
    """Lean of the trunk in the picture, radians clockwise from upright, from its two ends in pixels."""
    up = shoulders - hips
    return torch.atan2(up[:, 0], -up[:, 1])
