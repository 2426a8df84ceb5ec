"""Residual networks (He et al., CVPR 2016): a picture in; maps of it, or one vector of features, out.

Parameters have torchvision's names and shapes, so that its published ImageNet weights load. Pictures come in as they
are, RGB in [0, 1]; ImageNet's normalisation is inside.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks.backbone import BackboneNetwork, PublishedWeights
from kouros.networks.torchvision_weights import IMAGENET_MEAN, IMAGENET_STD, load_torchvision

Depth = Literal[18, 34, 50, 101]


@dataclass(frozen=True)
class _Plan:
    """Table 1 of the paper."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool


_PLANS: dict[Depth, _Plan] = {
    18: _Plan((2, 2, 2, 2), False),
    34: _Plan((3, 4, 6, 3), False),
    50: _Plan((3, 4, 6, 3), True),
    101: _Plan((3, 4, 23, 3), True),
}

DEPTHS: tuple[Depth, ...] = tuple(_PLANS)


class ResNet(BackboneNetwork):
    """The network without its classifier.

    Args:
        depth: as the paper counts layers; 18 and 34 are of basic blocks, 50 and 101 of bottlenecks.
        output_stride: of the last map. Below 32, later layers keep their resolution and take their samples farther
            apart instead ("atrous", DeepLab: Chen et al., TPAMI 2018): the same weights see the same of the picture,
            at more places.
        inputs: numbers of each pixel. What are not 3 are no colours, and taken as they are.
        width: of the first layer; the paper's, and torchvision's weights, are 64.
    """

    weights = PublishedWeights(
        made="by torchvision's authors on ImageNet; whoever trains brings the file",
        licence="BSD 3-Clause (torchvision); ImageNet's pictures are for research",
    )

    mean: Tensor
    std: Tensor

    def __init__(
        self, depth: Depth = 50, output_stride: Literal[8, 16, 32] = 32, inputs: int = 3, width: int = 64
    ) -> None:
        super().__init__()
        if depth not in _PLANS:
            raise ValueError(f"there is no ResNet-{depth} here; choose a depth of {', '.join(map(str, _PLANS))}.")
        plan = _PLANS[depth]
        self.depth = depth
        self.conv1 = nn.Conv2d(inputs, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        kind = _Bottleneck if plan.bottleneck else _BasicBlock
        widths = tuple(width * growth for growth in (1, 2, 4, 8))
        self.name = f"resnet{depth}"
        self.layer_channels = tuple(each * kind.expansion for each in widths)
        """Of the maps that `layer_maps` gives."""
        self.layer_strides = tuple(min(stride, output_stride) for stride in (4, 8, 16, 32))
        """Likewise."""
        self.channels = dict(zip(self.layer_strides, self.layer_channels, strict=True))
        self.num_features = self.layer_channels[-1]
        width_before, before, dilation = width, 4, 1
        for number, (each, blocks) in enumerate(zip(widths, plan.blocks, strict=True), start=1):
            stride = self.layer_strides[number - 1] // before
            # The first block still samples as the layer before it: its stride was what would have widened the rest.
            nearer = dilation
            if number > 1 and stride == 1:
                dilation *= 2
            layer = [kind(width_before, each, stride, nearer, dilation)]
            width_before, before = self.layer_channels[number - 1], self.layer_strides[number - 1]
            layer += [kind(width_before, each, 1, dilation, dilation) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*layer))
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch features"]:
        """Features of RGB pictures in [0, 1], averaged over the picture."""
        return self.layer_maps(image)[-1].mean((2, 3))

    def feature_maps(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> dict[int, Float[Tensor, "batch _ rows columns"]]:
        """Results of the four groups of layers by stride, of those of one stride the last; sides are rounded up."""
        return dict(zip(self.layer_strides, self.layer_maps(image), strict=True))

    def layer_maps(self, image: Float[Tensor, "batch inputs height width"]) -> list[Tensor]:
        """What each of the four layers sees, (batch, channels, rows, columns), finest first."""
        x = (image - self.mean) / self.std if self.conv1.in_channels == 3 else image
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        maps = []
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            maps.append(x)
        return maps

    def load_torchvision(self, path: str | Path) -> None:
        """Take over weights that torchvision published for ImageNet; the classifier's are left out.

        Raises:
            ValueError: not such a file, or one of another depth.
            OSError: the file cannot be read.
        """
        load_torchvision(self, path, f"a ResNet-{self.depth}", left_out=("fc.",))


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (Fig. 5, left)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, nearer: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, width, stride, nearer)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, 1, dilation)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _projection(inputs, width, stride)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs rows columns"]:
        """The block's sum of shortcut and residual."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + shortcut)


class _Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (Fig. 5, right), with the stride on the 3x3 one as in
    torchvision's weights; the paper has it on the first."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, nearer: int, dilation: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3x3(width, width, stride, nearer)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs rows columns"]:
        """The block's sum of shortcut and residual."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + shortcut)


def _conv3x3(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The shortcut where sizes differ (option B)."""
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
