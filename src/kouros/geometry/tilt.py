"""Which way is up for a camera: two angles, pitch and roll, and the rotation that puts the world upright.

Camera space is OpenCV's (x right, y down, z forward). The world has y up and its floor at height 0.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


def up_of_tilt(tilt: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 3"]:
    """Unit vector up, in camera space.

    Args:
        tilt: radians: pitch, positive for a camera that looks below the horizon, and roll, positive where up leans to
            the right of the picture.
    """
    pitch, roll = tilt.unbind(-1)
    return torch.stack([pitch.cos() * roll.sin(), -pitch.cos() * roll.cos(), -pitch.sin()], dim=-1)


def tilt_of_up(up: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 2"]:
    """Inverse of `up_of_tilt`, of vectors of any length; a camera that looks straight down or up has no roll: 0."""
    x, y, z = up.unbind(-1)
    return torch.stack([torch.atan2(-z, torch.hypot(x, y)), torch.atan2(x, -y)], dim=-1)


def upright_rotation(up: Float[Tensor, "3"]) -> Float[Tensor, "3 3"]:
    """From camera space to a world with y up, where the camera looks towards -z as far as it looks ahead at all.

    A camera that looks straight down, or up, has the top of its picture, or the bottom, towards -z.
    """
    up = normalize(up, dim=0)
    ahead = up.new_tensor([0.0, 0.0, 1.0])
    back = up * (up @ ahead) - ahead
    if float(back.norm()) < 1e-3:
        top = up.new_tensor([0.0, -1.0, 0.0])
        back = (up * (up @ top) - top) * (-1.0 if float(up[2]) > 0 else 1.0)
    back = normalize(back, dim=0)
    return torch.stack([torch.linalg.cross(up, back), up, back])
