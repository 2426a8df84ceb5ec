"""The 69 numbers that pose priors are about: rotation vectors of the 23 joints below the pelvis, radians."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.skeleton import JOINT_NAMES, MIRROR

JOINTS = JOINT_NAMES[1:]
"""The joints of ``body_pose``, in order: SMPL's without the pelvis, whose rotation is ``global_orient``."""
POSE_SIZE = 3 * len(JOINTS)
MIRROR_JOINTS = tuple(joint - 1 for joint in MIRROR[1:])
"""Mirror image of each of the 23 joints."""
MIRROR_ORDER = tuple(3 * joint + axis for joint in MIRROR_JOINTS for axis in range(3))
"""Number ``i`` of a mirrored pose is number ``MIRROR_ORDER[i]`` of the pose, times ``MIRROR_SIGN[i]``."""
MIRROR_SIGN = (1.0, -1.0, -1.0) * len(JOINTS)


def index(joint: str, axis: str) -> int:
    """Place of one number in ``body_pose``: ``index("left_knee", "x") == 9``."""
    return 3 * JOINTS.index(joint) + "xyz".index(axis)


def mirror_body_pose(body_pose: Float[Tensor, "*batch 69"]) -> Float[Tensor, "*batch 69"]:
    """The pose that the body has in a mirror: left and right exchanged."""
    return body_pose[..., list(MIRROR_ORDER)] * body_pose.new_tensor(MIRROR_SIGN)


def check_body_pose(body_pose: Tensor) -> None:
    """Ask for ``(batch, 69)`` floating-point numbers.

    Raises:
        ValueError: it is something else.
    """
    if body_pose.ndim == 2 and body_pose.shape[1] == POSE_SIZE and torch.is_floating_point(body_pose):
        return
    hint = " Leave out the first three, global_orient." if body_pose.shape[-1:] == (72,) else ""
    raise ValueError(
        f"body_pose has shape {tuple(body_pose.shape)} and type {body_pose.dtype}; expected floating-point "
        f"rotation vectors of 23 joints, (batch, {POSE_SIZE}).{hint}"
    )


def joint_derivatives(
    function: Callable[[Float[Tensor, "batch 69"]], Float[Tensor, "batch 23 numbers"]],
    body_pose: Float[Tensor, "batch 69"],
) -> tuple[Float[Tensor, "batch 23 numbers"], Float[Tensor, "batch 23 numbers 3"]]:
    """Values and derivatives, without a graph, of a function of each joint's own rotation vector.

    As no joint's numbers depend on another joint or pose, one gradient of a sum serves them all.
    """
    leaf = body_pose.detach().requires_grad_()
    with torch.enable_grad():
        values = function(leaf)
        rows = [torch.autograd.grad(v.sum(), leaf, retain_graph=True)[0] for v in values.unbind(-1)]
    return values.detach(), torch.stack([row.unflatten(-1, (len(JOINTS), 3)) for row in rows], dim=-2)
