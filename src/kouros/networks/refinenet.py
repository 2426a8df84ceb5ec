"""RefineNet's decoder (Lin et al., CVPR 2017): feature maps of a backbone in, scores of every class out.

From the coarsest map to the finest, a block at each joins what the blocks before it made with the backbone's map
there: residual convolution units adapt either path, a multi-resolution fusion adds them up at the finer resolution,
chained residual pooling looks around, and another unit ends the block (Fig. 2 and 3). All ways are short: identities
lead from the scores back to every map. There is no batch normalisation in here, as in the paper.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

_POOLINGS = 2
"""In each block; the paper's "pooling blocks"."""
_UNITS_BEFORE_SCORES = 2
"""Which the last block is followed by, since no block follows that would have them (Sec. 3.3)."""


class RefineNet(nn.Module):
    """A cascade of one block for each feature map ("4-cascaded" over a ResNet's four).

    Args:
        channels: of the backbone's maps, finest first.
        outputs: classes, the background among them.
        widths: of the blocks, finest first: the paper's 256, and 512 for the coarsest.
    """

    def __init__(self, channels: Sequence[int], outputs: int, widths: Sequence[int] = (256, 256, 256, 512)) -> None:
        super().__init__()
        if len(channels) != len(widths):
            raise ValueError(f"There are {len(channels)} feature maps for {len(widths)} widths; give one to each.")
        coarser = (*widths[1:], None)
        self.blocks = nn.ModuleList(_Block(*sizes) for sizes in zip(channels, widths, coarser, strict=True))
        self.ending = nn.Sequential(*(_ResidualUnit(widths[0]) for _ in range(_UNITS_BEFORE_SCORES)))
        self.scores = _conv3x3(widths[0], outputs)

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _channels _rows _columns"]], size: tuple[int, int]
    ) -> Float[Tensor, "batch outputs height width"]:
        """Scores (logits), enlarged bilinearly from the finest map's resolution.

        Args:
            maps: of the backbone, finest first.
            size: (height, width) of the answer, pixels.
        """
        refined = None
        for block, seen in zip(reversed(self.blocks), reversed(maps), strict=True):
            refined = block(seen, refined)
        return enlarged(self.scores(self.ending(refined)), size)


class _Block(nn.Module):
    """Fig. 3: one map of the backbone and, but for the first block, what the block before made of coarser ones."""

    def __init__(self, inputs: int, width: int, coarser: int | None) -> None:
        super().__init__()
        self.adapt = nn.Sequential(_conv3x3(inputs, width), _ResidualUnit(width), _ResidualUnit(width))
        self.adapt_coarser, self.fuse = None, None
        if coarser is not None:
            self.adapt_coarser = nn.Sequential(_ResidualUnit(coarser), _ResidualUnit(coarser))
            narrowest = min(width, coarser)
            self.fuse = nn.ModuleList(_conv3x3(each, narrowest) for each in (width, coarser))
        self.pool = _ChainedResidualPooling(width)
        self.ending = _ResidualUnit(width)

    def forward(
        self, seen: Float[Tensor, "batch inputs rows columns"], coarser: Float[Tensor, "batch c h w"] | None
    ) -> Float[Tensor, "batch width rows columns"]:
        """Both, refined, at the map's resolution."""
        x = self.adapt(seen)
        if self.adapt_coarser is not None and self.fuse is not None and coarser is not None:
            own, other = self.fuse
            x = own(x) + enlarged(other(self.adapt_coarser(coarser)), (x.shape[-2], x.shape[-1]))
        return self.ending(self.pool(x))


class _ResidualUnit(nn.Module):
    """Fig. 3 (b): two rectified 3 x 3 convolutions beside an identity; ResNet's unit without its normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv3x3(width, width)
        self.second = _conv3x3(width, width)

    def forward(self, x: Float[Tensor, "batch width rows columns"]) -> Float[Tensor, "batch width rows columns"]:
        """The sum of both."""
        return x + self.second(torch.relu(self.first(torch.relu(x))))


class _ChainedResidualPooling(nn.Module):
    """Fig. 3 (d): each pooling (5 x 5, of stride 1) and convolution takes what the one before made, and all add up.

    So the block sees far without sampling anything more coarsely.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(_conv3x3(width, width) for _ in range(_POOLINGS))

    def forward(self, x: Float[Tensor, "batch width rows columns"]) -> Float[Tensor, "batch width rows columns"]:
        """The sum."""
        x = torch.relu(x)
        total = x
        for convolution in self.convolutions:
            x = convolution(max_pool2d(x, 5, stride=1, padding=2))
            total = total + x
        return total


def enlarged(
    values: Float[Tensor, "batch channels _rows _columns"], size: tuple[int, int]
) -> Float[Tensor, "batch channels height width"]:
    """The same picture at another resolution, bilinearly; pixel centres are at halves."""
    return interpolate(values, size=size, mode="bilinear", align_corners=False)


def _conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
