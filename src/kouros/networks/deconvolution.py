"""The deconvolutional head of Simple Baselines (Xiao et al., ECCV 2018), as HoloPose has one for each dense task.

Three 4 x 4 deconvolutions of stride 2 with batch norm and ReLU, and a linear layer: from a backbone's map of stride 32
to numbers at stride 4, 64 x 64 of a picture of 256 x 256 (Güler and Kokkinos, CVPR 2019, Sec. 5.1).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks.refinenet import enlarged

_LAYERS = 3


class DeconvolutionHead(nn.Module):
    """From the coarsest of a backbone's maps to numbers for each place.

    Args:
        channels: of that map.
        outputs: numbers for each place.
        width: channels of the deconvolutions.
    """

    def __init__(self, channels: int, outputs: int, width: int = 256) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(_LAYERS):
            deconvolution = nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False)
            nn.init.normal_(deconvolution.weight, std=0.001)
            layers += [deconvolution, nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.answer = nn.Conv2d(width, outputs, 1)
        nn.init.normal_(self.answer.weight, std=0.001)
        if self.answer.bias is not None:
            nn.init.zeros_(self.answer.bias)

    def forward(
        self, maps: Sequence[Float[Tensor, "batch _channels _rows _columns"]], size: tuple[int, int]
    ) -> Float[Tensor, "batch outputs height width"]:
        """Numbers for each place.

        Args:
            maps: of the backbone; the last one is the coarsest.
            size: (height, width) of the answer; at other sizes than eight times the map's it is resampled.
        """
        answer: Tensor = self.answer(self.layers(maps[-1]))
        return answer if answer.shape[-2:] == torch.Size(size) else enlarged(answer, size)
