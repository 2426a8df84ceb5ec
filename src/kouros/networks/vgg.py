"""VGG's network of 16 layers (Simonyan and Zisserman, 2014), as DeepLab looks through it.

Its convolutions have torchvision's names and shapes, so that its published ImageNet weights load; the classifier's
three layers are left out. Pictures come in as they are, RGB in [0, 1]; ImageNet's normalisation is inside.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks.torchvision_weights import IMAGENET_MEAN, IMAGENET_STD, load_torchvision

_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Widths of the convolutions; a pooling ends each stage (configuration D)."""
_POOLING_STRIDES = (2, 2, 2, 1, 1)
_DILATIONS = (1, 1, 1, 1, 2)


class AtrousVgg16(nn.Module):
    """The convolutions of VGG-16, of which the last are atrous (DeepLab: Chen et al., TPAMI 2018, Sec. 3.1).

    The last two poolings have a stride of 1, and what follows the first of them takes its samples twice as far apart:
    the answer is an eighth of the picture, where VGG's is a 32nd. All poolings are over 3 x 3 pixels, as in DeepLab's
    published networks; VGG's own are over 2 x 2.
    """

    layer_channels = (512,)
    layer_strides = (8,)

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for widths, stride, dilation in zip(_STAGES, _POOLING_STRIDES, _DILATIONS, strict=True):
            for width in widths:
                layers += [nn.Conv2d(inputs, width, 3, padding=dilation, dilation=dilation), nn.ReLU()]
                inputs = width
            layers.append(nn.MaxPool2d(3, stride, padding=1))
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def layer_maps(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """The last pooling's answer, (batch, 512, height / 8, width / 8)."""
        return [self.features((image - self.mean) / self.std)]

    def load_torchvision(self, path: str | Path) -> None:
        """Take over weights that torchvision published for ImageNet; the classifier's are left out.

        Raises:
            ValueError: not such a file, or one of another network.
            OSError: the file cannot be read.
        """
        load_torchvision(self, path, "a VGG-16", left_out=("classifier.",))
