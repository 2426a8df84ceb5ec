"""A light U-Net (Ronneberger et al., MICCAI 2015): maps in, maps of twice the resolution out."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks.refinenet import enlarged

_GROUPS = 8
"""Of the normalisation: over the channels of one picture, so that nothing depends on who else is in the batch."""


class LightUNet(nn.Module):
    """Down, up again with skip connections, and once more up: 64 x 64 in, 128 x 128 out.

    The last layer begins at zero, so that what the answer is added to is where training begins.

    Args:
        inputs, outputs: numbers of each place.
        width: of the finest level; each coarser one is wider by half.
        levels: how often the resolution is halved.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 32, levels: int = 3) -> None:
        super().__init__()
        if width % (2 * _GROUPS):
            raise ValueError(f"width is {width}; expected a multiple of {2 * _GROUPS}.")
        widths = [_rounded(width * 1.5**level) for level in range(levels + 1)]
        self.begin = _layers(inputs, width)
        self.down = nn.ModuleList(_layers(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(_layers(a + b, b) for a, b in zip(widths[:0:-1], widths[-2::-1], strict=True))
        # Half as wide where there are four times as many places.
        self.narrow = nn.Conv2d(width, width // 2, 1)
        self.finest = nn.Sequential(*_around(width // 2))
        self.answer = nn.Conv2d(width // 2, outputs, 1)
        nn.init.zeros_(self.answer.weight)
        assert self.answer.bias is not None
        nn.init.zeros_(self.answer.bias)

    def forward(self, x: Float[Tensor, "batch inputs rows columns"]) -> Float[Tensor, "batch outputs _ _"]:
        """Maps of twice as many rows and columns."""
        x = self.begin(x)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(nn.functional.avg_pool2d(x, 2))
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(torch.cat([enlarged(x, (skip.shape[-2], skip.shape[-1])), skip], dim=1))
        return self.answer(self.finest(enlarged(self.narrow(x), (2 * x.shape[-2], 2 * x.shape[-1]))))


def _rounded(width: float) -> int:
    return max(1, round(width / _GROUPS)) * _GROUPS


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions, the first mixing, the second looking around."""
    mixing = (nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.GroupNorm(_GROUPS, outputs), nn.ReLU())
    return nn.Sequential(*mixing, *_around(outputs))


def _around(width: int) -> tuple[nn.Module, ...]:
    """A depthwise convolution and a pointwise one."""
    return (
        nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.GroupNorm(_GROUPS, width),
        nn.ReLU(),
    )
