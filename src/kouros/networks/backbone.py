"""What every backbone can do; which there are says `kouros.networks.backbones`."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class PublishedWeights:
    """Weights that others trained and gave away."""

    made: str
    """By whom, and on what."""
    licence: str
    """Of the weights, and what else binds those who use them."""


class BackboneNetwork(nn.Module):
    """A network that sees RGB pictures in [0, 1]; called with some, it gives one vector of features for each."""

    name: str
    """As in tables and file names: ``resnet50``, ``blazepose``, ``movenet``."""
    channels: dict[int, int]
    """Numbers at each place of `feature_maps`, by stride, from the finest map to the coarsest."""
    num_features: int
    """How many numbers a picture becomes."""
    weights: PublishedWeights
    """Those that it can begin with; `kouros.systems.backbone_weights` takes them over."""

    def feature_maps(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> dict[int, Float[Tensor, "batch _ rows columns"]]:
        """Maps by stride, pixels; each place of one sees what is around its place in the picture.

        Raises:
            ValueError: a side is no multiple of 32 pixels, and the network needs that.
        """
        raise NotImplementedError


def require_sides(image: Float[Tensor, "batch 3 height width"], multiple: int) -> None:
    """Refuse pictures that cannot be halved down to the coarsest map without a rest.

    Raises:
        ValueError: a side is no multiple of so many pixels.
    """
    height, width = image.shape[-2:]
    if height % multiple or width % multiple:
        raise ValueError(
            f"the picture has {height} x {width} pixels; this network takes sides that are multiples of {multiple}: "
            "pad or resize it."
        )
