"""Conversions between rotation vectors, matrices and the 6D form, and the mirror image of each.

Rotation vectors and their exact inverse come from roma; here are the conventions of this field on top of it.
"""

import roma
import torch
from jaxtyping import Float
from torch import Tensor


def rotvec_to_rotmat(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a rotation vector (axis times angle, radians); differentiable at zero."""
    return roma.rotvec_to_rotmat(rotvec)


def rotmat_to_rotvec(rotmat: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Rotation vector (radians, at most pi long) of a rotation matrix."""
    return roma.rotmat_to_rotvec(rotmat)


def rot6d_to_rotmat(rot6d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of Zhou et al.'s 6D form (CVPR 2019), by Gram-Schmidt on its two columns.

    The six numbers are a row-major 3x2 matrix, as SPIN's and HMR's checkpoints have them: the columns are
    interleaved, not stacked.
    """
    return roma.special_gramschmidt(rot6d.unflatten(-1, (3, 2)))


def rotmat_to_rot6d(rotmat: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """First two columns of a rotation matrix, row-major: the inverse of `rot6d_to_rotmat`."""
    return rotmat[..., :2].flatten(-2)


def mirror_rotvec(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The same rotation seen in a mirror that exchanges left and right (x becomes -x)."""
    return rotvec * rotvec.new_tensor([1.0, -1.0, -1.0])


def mirror_rotmat(rotmat: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Matrix form of `mirror_rotvec`: ``M R M`` with ``M = diag(-1, 1, 1)``."""
    return rotmat * rotmat.new_tensor([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])


def angle_between(first: Float[Tensor, "*batch 3 3"], second: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of the rotation that takes ``first`` to ``second``, radians in [0, pi]."""
    return roma.rotmat_geodesic_distance(first, second)


def random_rotmat(size: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*size 3 3"]:
    """Rotations drawn uniformly, through unit quaternions of normal numbers."""
    quat = torch.randn(*size, 4, generator=generator, device=generator.device)
    return roma.unitquat_to_rotmat(torch.nn.functional.normalize(quat, dim=-1))
