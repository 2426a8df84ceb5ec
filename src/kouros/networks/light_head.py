"""A light refinement head: feature maps of a small trunk in, numbers for every pixel out.

RefineNet's idea at a hundredth of its size, as Light-Weight RefineNet has it (Nekrasov et al., BMVC 2018): 1 x 1
convolutions bring all maps to one width, and from the coarsest to the finest they are enlarged and added up. What
looks around are depthwise convolutions. The answer's resolution can be chosen: what the finest map knows is enlarged
before the last layers, so that they draw edges at the resolution that is asked for.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks.refinenet import enlarged

_GROUPS = 8
"""Of the normalisation: over the channels of one picture, so that nothing depends on who else is in the batch."""


class LightHead(nn.Module):
    """Scores of parts, coordinates, depths: whatever a pixel is to be told.

    With the default width, five maps of 1,100 channels in all at four strides, and 13 outputs, it has some
    170,000 numbers.

    Args:
        channels: of the maps, in any order.
        strides: of the maps, pixels of the picture. Of maps with one stride, all are added up.
        outputs: numbers for each pixel.
        width: of everything in between.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], outputs: int, width: int = 96) -> None:
        super().__init__()
        if not channels or len(channels) != len(strides):
            raise ValueError(f"There are {len(channels)} maps with {len(strides)} strides; expected one each.")
        if width % _GROUPS:
            raise ValueError(f"width is {width}; expected a multiple of {_GROUPS}.")
        # Trunks' maps differ in size by orders of magnitude; they are to count alike.
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1, bias=False), nn.GroupNorm(_GROUPS, width)) for c in channels
        )
        self.strides = tuple(strides)
        self.levels = tuple(sorted(set(strides), reverse=True))
        self.refine = nn.ModuleList(_Refinement(width) for _ in self.levels)
        self.draw = _Refinement(width)
        self.answer = nn.Conv2d(width, outputs, 1)

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _channels _rows _columns"]], size: tuple[int, int]
    ) -> Float[Tensor, "batch outputs height width"]:
        """Numbers for each pixel.

        Args:
            maps: as the head was made for.
            size: (height, width) of the answer, pixels.

        Raises:
            ValueError: another number of maps.
        """
        return self.answer(self.drawn(maps, size))

    def drawn(
        self, maps: Sequence[Float[Tensor, "batch _channels _rows _columns"]], size: tuple[int, int]
    ) -> Float[Tensor, "batch features height width"]:
        """What the answer is read off: features of each pixel; as `forward` otherwise."""
        if len(maps) != len(self.narrow):
            raise ValueError(f"The head was made for {len(self.narrow)} feature maps and got {len(maps)}.")
        narrow = [layer(seen) for layer, seen in zip(self.narrow, maps, strict=True)]
        x: Tensor | None = None
        for level, refine in zip(self.levels, self.refine, strict=True):
            here = torch.stack([n for n, stride in zip(narrow, self.strides, strict=True) if stride == level]).sum(0)
            x = refine(here if x is None else here + enlarged(x, (here.shape[-2], here.shape[-1])))
        assert x is not None
        return self.draw(enlarged(x, size))


class _Refinement(nn.Module):
    """What is around each place, mixed into it: an inverted-residual block without widening."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.mix = nn.Conv2d(width, width, 1)
        self.norm = nn.GroupNorm(_GROUPS, width)

    def forward(self, x: Float[Tensor, "batch width rows columns"]) -> Float[Tensor, "batch width rows columns"]:
        """The block's sum of shortcut and residual, rectified."""
        return torch.relu(x + self.norm(self.mix(torch.relu(self.around(x)))))
