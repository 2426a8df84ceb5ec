"""How a camera is held, as the body of somebody before it tells: people stand, walk, sit and kneel, and do not fall.

No single rule holds for all that people do, so a small network weighs where the joints are: legs that carry, trunks
that balance, feet that are flat. What it knows of cameras (mostly level, seldom looking far down) is in the people that
it was shown, and in ``prior``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kouros.batched import Batched
from kouros.body.skeleton import MIRROR, NUM_JOINTS

_METRES = 0.5
"""Joints are given to the network in this unit, about their distance from the pelvis."""
_SPREADS = (-4.5, 0.5)
"""Logarithms of the least and greatest spread, radians: 0.6 and 94 degrees."""


@dataclass(frozen=True)
class Tilt(Batched):
    """Normal distributions, independent of each other, of the angles of `kouros.geometry.tilt`."""

    mean: Float[Tensor, "*people 2"]
    """Pitch and roll, radians."""
    spread: Float[Tensor, "*people 2"]
    """Standard deviations."""


class TiltNetwork(nn.Module):
    """Joints in camera space, and which of them are in the picture, to the camera's tilt.

    Args:
        width: of the two hidden layers.
    """

    prior: Tensor
    """(2, 2): mean and spread of pitch and roll over the cameras that it was shown."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        inputs = 3 * (NUM_JOINTS - 1) + NUM_JOINTS + 2
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4)
        )
        self.register_buffer("prior", torch.tensor([[0.0, 0.0], [1.0, 1.0]]))

    def forward(self, joints: Float[Tensor, "people 24 3"], inside: Bool[Tensor, "people 24"]) -> Tilt:
        """What each person tells.

        Args:
            joints: camera space, metres, in front of the camera.
            inside: who of them lies within the picture.
        """
        pelvis = joints[:, :1]
        ray = pelvis[:, 0, :2] / pelvis[:, 0, 2:].clamp(min=1e-3)
        around = (joints - pelvis)[:, 1:].flatten(1) / _METRES
        out = self.layers(torch.cat([around, inside.float(), ray.clamp(-3.0, 3.0)], dim=1))
        return Tilt(out[:, :2], out[:, 2:].clamp(*_SPREADS).exp())

    def widen(self, factor: Float[Tensor, "2"]) -> None:
        """Make the spreads of pitch and roll so many times as large."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        with torch.no_grad():
            last.bias[2:] += factor.log()

    def evenly(self, joints: Float[Tensor, "people 24 3"], inside: Bool[Tensor, "people 24"]) -> Tilt:
        """The same, and exactly mirrored of a mirrored person."""
        one, other = self(joints, inside), self(*mirrored_joints(joints, inside))
        flip = one.mean.new_tensor([1.0, -1.0])
        return Tilt((one.mean + other.mean * flip) / 2, (one.spread * other.spread).sqrt())


def mirrored_joints(
    joints: Float[Tensor, "people 24 3"], inside: Bool[Tensor, "people 24"]
) -> tuple[Float[Tensor, "people 24 3"], Bool[Tensor, "people 24"]]:
    """As a mirrored picture shows them."""
    return joints[:, list(MIRROR)] * joints.new_tensor([-1.0, 1.0, 1.0]), inside[:, list(MIRROR)]
