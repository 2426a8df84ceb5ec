"""Conversions between rotation vectors, matrices and the 6D form, and the mirror image of each.

Written out, and not taken from roma, which the package uses for Procrustes problems: roma loads torch's compiler, which
takes a second of every command's start. Operations are in roma's order, so that results are its to the bit.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_TINY = 1e-6
"""Radians below which a rotation is of first order."""


def rotvec_to_rotmat(rotvec: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a rotation vector (axis times angle, radians); differentiable at zero."""
    # Rodrigues: I + sin t [k]x + (1 - cos t) [k]x^2 with t = |v|, v = t k; to first order where t is tiny.
    angle = rotvec.norm(dim=-1)
    tiny = angle < _TINY
    x, y, z = (rotvec / angle[..., None].clamp(min=_TINY)).unbind(-1)
    sine, rest = angle.sin(), 1 - angle.cos()
    sx, sy, sz = x * sine, y * sine, z * sine
    xy, xz, yz = x * y * rest, x * z * rest, y * z * rest
    xx, yy, zz = x**2 * rest, y**2 * rest, z**2 * rest
    whole = [1 - yy - zz, xy - sz, xz + sy, xy + sz, 1 - xx - zz, -sx + yz, xz - sy, sx + yz, 1 - xx - yy]
    x, y, z = rotvec.unbind(-1)
    one = torch.ones_like(x)
    first = [one, -z, y, z, one, -x, -y, x, one]
    rows = [f.where(tiny, w) for f, w in zip(first, whole, strict=True)]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def rotmat_to_rotvec(rotmat: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Rotation vector (radians, at most pi long) of a rotation matrix."""
    quat = _rotmat_to_quat(rotmat)
    quat = quat * (1 - 2 * (quat[..., 3:] < 0).to(quat.dtype))  # as -q, which turns alike, by pi at most
    half = torch.atan2(quat[..., :3].norm(dim=-1), quat[..., 3])
    return 2 * _by_sine(half)[..., None] * quat[..., :3]


def _by_sine(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """``t / sin t``; its series where that is as exact, and its derivative more so."""
    small = angle.abs() < 2.0 * torch.finfo(angle.dtype).eps ** (1 / 6)
    return (1 + angle**2 / 6 + 7 * angle**4 / 360).where(small, angle / angle.sin().where(~small, 1.0))


def _rotmat_to_quat(rotmat: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion x, y, z, w: the longest row of ``4 q q^T``, which is linear in the matrix (Markley 2008)."""
    (r00, r01, r02), (r10, r11, r12), (r20, r21, r22) = (row.unbind(-1) for row in rotmat.unbind(-2))
    xy, xz, yz = r01 + r10, r02 + r20, r12 + r21
    xw, yw, zw = r21 - r12, r02 - r20, r10 - r01
    rows = [
        torch.stack([1 + r00 - r11 - r22, xy, xz, xw], dim=-1),
        torch.stack([xy, 1 + r11 - r22 - r00, yz, yw], dim=-1),
        torch.stack([xz, yz, 1 + r22 - r00 - r11, zw], dim=-1),
        torch.stack([xw, yw, zw, 1 + r00 + r11 + r22], dim=-1),
    ]
    products = torch.stack(rows, dim=-2)
    longest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)
    row = products.gather(-2, longest[..., None, None].expand(*longest.shape, 1, 4)).squeeze(-2)
    return row / row.norm(dim=-1, keepdim=True)


def rot6d_to_rotmat(rot6d: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of Zhou et al.'s 6D form (CVPR 2019), by Gram-Schmidt on its two columns.

    The six numbers are a row-major 3x2 matrix, as SPIN's and HMR's checkpoints have them: the columns are
    interleaved, not stacked.
    """
    first, second = rot6d.unflatten(-1, (3, 2)).unbind(-1)
    x = first / first.norm(dim=-1, keepdim=True)
    across = second - (x * second).sum(-1, keepdim=True) * x
    y = across / across.norm(dim=-1, keepdim=True)
    return torch.stack([x, y, torch.linalg.cross(x, y)], dim=-1)


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
    chord = (second - first).norm(dim=(-2, -1))  # 2 sqrt(2) sin(angle / 2): exact for small angles, as a cosine is not
    return 2 * (chord * (1 / (2 * 2**0.5))).clamp(max=1).asin()


def random_rotmat(size: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "*size 3 3"]:
    """Rotations drawn uniformly, through unit quaternions of normal numbers."""
    quat = torch.randn(*size, 4, generator=generator, device=generator.device)
    # In double precision, or they are orthonormal to six digits only.
    x, y, z, w = torch.nn.functional.normalize(quat.double(), dim=-1).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).to(quat).unflatten(-1, (3, 3))
