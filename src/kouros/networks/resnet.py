"""Residual networks (He et al., CVPR 2016): a picture in; maps of it, or one vector of features, out.

Parameters have torchvision's names and shapes, so that its published ImageNet weights load. Pictures come in as they
are, RGB in [0, 1]; ImageNet's normalisation is inside.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks.backbone import BackboneNetwork, PublishedWeights
from kouros.sentences import first_line

Depth = Literal[18, 34, 50, 101]

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_WIDTHS = (64, 128, 256, 512)
_STRIDES = (4, 8, 16, 32)


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
    """

    weights = PublishedWeights(
        made="by torchvision's authors on ImageNet; whoever trains brings the file",
        licence="BSD 3-Clause (torchvision); ImageNet's pictures are for research",
    )

    mean: Tensor
    std: Tensor

    def __init__(self, depth: Depth = 50) -> None:
        super().__init__()
        if depth not in _PLANS:
            raise ValueError(f"there is no ResNet-{depth} here; choose a depth of {', '.join(map(str, _PLANS))}.")
        plan = _PLANS[depth]
        self.depth = depth
        self.name = f"resnet{depth}"
        expansion = _Bottleneck.expansion if plan.bottleneck else _BasicBlock.expansion
        self.channels = {stride: width * expansion for stride, width in zip(_STRIDES, _WIDTHS, strict=True)}
        self.num_features = _WIDTHS[-1] * expansion
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, (width, blocks) in enumerate(zip(_WIDTHS, plan.blocks, strict=True), start=1):
            kind = _Bottleneck if plan.bottleneck else _BasicBlock
            layer = [kind(inputs, width, 1 if number == 1 else 2)]
            inputs = width * kind.expansion
            layer += [kind(inputs, width, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*layer))
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """Features of RGB pictures in [0, 1], averaged over the picture."""
        return self.feature_maps(image)[_STRIDES[-1]].mean((2, 3))

    def feature_maps(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> dict[int, Float[Tensor, "batch _ rows columns"]]:
        """Results of the four groups of layers, by stride; sides are rounded up."""
        x = (image - self.mean) / self.std
        x = torch.relu(self.bn1(self.conv1(x)))
        x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        maps = {}
        for number, stride in enumerate(_STRIDES, start=1):
            maps[stride] = x = getattr(self, f"layer{number}")(x)
        return maps

    def load_torchvision(self, path: str | Path) -> None:
        """Take over weights that torchvision published for ImageNet; the classifier's are left out.

        Raises:
            ValueError: not such a file, or one of another depth.
            OSError: the file cannot be read.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
            raise ValueError(f"{path} is not a file of weights ({first_line(error)}); {_WANTED}.") from error
        if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
            raise ValueError(f"{path} holds no network's weights by name; {_WANTED}.")
        ours = self.state_dict()
        # Old files have no counts of batches, which only a momentum of None would need.
        given = {k: v for k, v in state.items() if not k.startswith("fc.")}
        missing = [k for k in ours if k not in given and not k.endswith("num_batches_tracked")]
        foreign = [k for k in given if k not in ours]
        other = [k for k in given if k in ours and given[k].shape != ours[k].shape]
        for problem, names in (("lacks", missing), ("has the unknown", foreign), ("has another shape of", other)):
            if names:
                raise ValueError(f"{path} {problem} {names[0]}: not the weights of a ResNet-{self.depth}; {_WANTED}.")
        self.load_state_dict(ours | given)


_WANTED = "expected the state dictionary of torchvision's network of that depth, as it is published for ImageNet"


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (Fig. 5, left)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
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

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = self.expansion * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
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


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The shortcut where sizes differ (option B)."""
    if inputs == outputs and stride == 1:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))
