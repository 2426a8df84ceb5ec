"""Systems whose heads stand on all of a backbone's maps, and how such maps are kept where the backbone is held."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.data.batch import Batch
from kouros.networks.movenet import MoveNetTrunk
from kouros.networks.resnet import ResNet
from kouros.networks.vgg import AtrousVgg16
from kouros.systems.system import CropSystem


class LayerMapsSystem(CropSystem):
    """A crop system with heads on maps, not on one vector of features."""

    backbone: ResNet | AtrousVgg16 | MoveNetTrunk

    def features(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch numbers"]:
        """The maps that the heads stand on, one after the other."""
        return torch.cat([seen.flatten(1) for seen in self.layer_maps(image)], dim=1)

    def layer_maps(self, image: Float[Tensor, "batch 3 size size"]) -> list[Tensor]:
        """The same as maps, (batch, channels, rows, columns)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.held):
            return self.backbone.layer_maps(image)

    def seen_maps(self, batch: Batch) -> list[Tensor]:
        """Of a batch to learn from, which may bring its features."""
        if batch.features is None:
            return self.layer_maps(batch.image)
        sides = [self.crop_size // stride for stride in self.backbone.layer_strides]
        shapes = [(c, side, side) for c, side in zip(self.backbone.layer_channels, sides, strict=True)]
        flat = batch.features.split([math.prod(shape) for shape in shapes], dim=1)
        return [numbers.unflatten(1, shape) for numbers, shape in zip(flat, shapes, strict=True)]
