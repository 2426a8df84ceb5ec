"""The three steps from parameters to a posed body, each by the fastest form that applies.

On the CPU, in float32 or float64 and with numba installed, the compiled kernels of `kouros.body.cpu_kernels`;
everywhere else (GPU, other dtypes, inside `torch.func` transforms and `torch.compile`) the formulas in torch.
"""

from functools import cache
from importlib.util import find_spec

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import forward_ad

from kouros.body import lbs, skeleton
from kouros.geometry import rotations as formulas


def rotvec_to_rotmat(rotvec: Float[Tensor, "batch joints 3"]) -> Float[Tensor, "batch joints 3 3"]:
    """Rotation matrices of rotation vectors, radians."""
    if kernels_apply(rotvec):
        from kouros.body import cpu_kernels

        return cpu_kernels.rotvec_to_rotmat(rotvec)
    return formulas.rotvec_to_rotmat(rotvec)


def forward_kinematics(
    rotations: Float[Tensor, "batch joints 3 3"], rest_joints: Float[Tensor, "batch joints 3"]
) -> tuple[Float[Tensor, "batch joints 3 3"], Float[Tensor, "batch joints 3"]]:
    """Global rotations and positions of the joints; see `kouros.body.skeleton.forward_kinematics`."""
    if kernels_apply(rotations):
        from kouros.body import cpu_kernels

        return cpu_kernels.forward_kinematics(rotations, rest_joints)
    return skeleton.forward_kinematics(rotations, rest_joints)


def skin(
    vertices: Float[Tensor, "batch verts 3"],
    transforms: Float[Tensor, "batch joints 3 4"],
    transl: Float[Tensor, "batch 3"],
    weights: Float[Tensor, "verts joints"],
    largest: tuple[Int[Tensor, "verts slots"], Float[Tensor, "verts slots"]],
) -> Float[Tensor, "batch verts 3"]:
    """Skinned and translated vertices; see `kouros.body.lbs.linear_blend_skinning`.

    Args:
        vertices: in the rest pose; may be overwritten, so pass what nothing else needs.
        transforms: of the joints, from the rest pose to the posed body.
        transl: of the whole body.
        weights: dense, for the formula.
        largest: the same weights, only those that are not zero, as `nonzero_weights` gives them.
    """
    if kernels_apply(vertices):
        from kouros.body import cpu_kernels

        return cpu_kernels.skin(vertices, transforms, transl, *largest)
    return lbs.linear_blend_skinning(vertices, transforms, weights) + transl[:, None]


def nonzero_weights(
    weights: Float[Tensor, "verts joints"],
) -> tuple[Int[Tensor, "verts slots"], Float[Tensor, "verts slots"]]:
    """Joints and weights of each vertex, largest first; as many slots as the busiest vertex needs."""
    slots = max(1, int((weights != 0).sum(-1).max()))
    value, index = weights.abs().topk(slots, dim=-1)
    return index, weights.gather(-1, index).where(value != 0, 0.0)


def kernels_apply(tensor: Tensor) -> bool:
    """Whether the compiled CPU kernels can take ``tensor``."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype in (torch.float32, torch.float64)
        and _numba_is_installed()
        # None of these can look into a compiled kernel, but all of them can into torch's operations.
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


@cache
def _numba_is_installed() -> bool:
    return find_spec("numba") is not None
