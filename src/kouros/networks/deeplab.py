"""DeepLab's heads (Chen et al., TPAMI 2018): atrous spatial pyramid pooling over a backbone's last map.

Several 3 x 3 convolutions see each place at several distances, and their scores add up ("ASPP-L"). Over VGG-16 each
has two layers of 1024 numbers, fc6 and fc7, before its scores; over ResNet-101 the scores follow at once. The paper's
other parts, scores of three scales of the picture and the conditional random field afterwards, are not here.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks.refinenet import enlarged

RATES = (6, 12, 18, 24)
"""Pixels of the map between a branch's samples: the paper's ASPP-L."""
_HIDDEN = 1024


class AtrousPyramid(nn.Module):
    """Atrous spatial pyramid pooling.

    Args:
        channels: of the map.
        outputs: classes, the background among them.
        hidden: whether each branch has VGG's two fully connected layers, as convolutions.
        rates: one branch each.
    """

    def __init__(self, channels: int, outputs: int, *, hidden: bool, rates: Sequence[int] = RATES) -> None:
        super().__init__()
        self.branches = nn.ModuleList(_branch(channels, outputs, rate, hidden) for rate in rates)

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _channels _rows _columns"]], size: tuple[int, int]
    ) -> Float[Tensor, "batch outputs height width"]:
        """Scores (logits), enlarged bilinearly.

        Args:
            maps: of the backbone; the last is what is looked at.
            size: (height, width) of the answer, pixels.
        """
        scores = torch.stack([branch(maps[-1]) for branch in self.branches]).sum(0)
        return enlarged(scores, size)


def _branch(channels: int, outputs: int, rate: int, hidden: bool) -> nn.Sequential:
    width = _HIDDEN if hidden else outputs
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=rate, dilation=rate)]
    if hidden:
        layers += [nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(width, _HIDDEN, 1), nn.ReLU(), nn.Dropout(0.5)]
        layers.append(nn.Conv2d(_HIDDEN, outputs, 1))
    return nn.Sequential(*layers)
