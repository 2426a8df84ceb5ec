"""What Thunder and the head of depths have seen of each joint, as one vector: for regressors of small variants.

Both have learned from far more people than a regressor that is trained in minutes can see: Thunder from real ones where
joints are, the head (`kouros.networks.depth_head`) from synthetic ones how deep they lie. So the vector holds their
answers, and beside them what they were read off, joint by joint: parts of the picture, not its mean.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from kouros.networks.backbone import BackboneNetwork, PublishedWeights
from kouros.networks.depth_head import DepthHead, places_in_square
from kouros.networks.movenet import KEYPOINTS, THUNDER_SIZE, MoveNetThunder, MoveNetTrunk

_LIKELY = slice(264, 264 + KEYPOINTS)
"""Of packed features: the likelihoods of keypoints."""


def joint_features(head: DepthHead, packed: Float[Tensor, "batch 16 16 421"]) -> Float[Tensor, "batch features"]:
    """Of `kouros.networks.movenet.packed_features`: where Thunder sees each point (x and y from -1 to 1, and how
    likely the likeliest place is), and what the head of depths has made of each (`DepthHead.described`)."""
    likely = packed[..., _LIKELY].flatten(1, 2).mT
    sharp = likely.square() + 1e-8
    places = (sharp / sharp.sum(-1, keepdim=True)) @ places_in_square(packed)
    return torch.cat([places.flatten(1), likely.amax(-1), head.described(packed)], 1)


class MoveNetJoints(BackboneNetwork):
    """MoveNet Thunder and the head of depths, to be held: they come with kouros. Random until they are loaded.

    Crops of other sides than 256 pixels are brought to that.
    """

    name = "movenet-joints"
    weights = PublishedWeights(
        made=f"{MoveNetTrunk.weights.made}; the head of depths by kouros, on synthetic people",
        licence=MoveNetTrunk.weights.licence,
    )

    def __init__(self) -> None:
        super().__init__()
        self.thunder = MoveNetThunder()
        self.depths = DepthHead()
        self.channels = self.thunder.trunk.channels
        self.num_features = 3 * KEYPOINTS + self.depths.num_described
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a processor

    def feature_maps(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> dict[int, Float[Tensor, "batch _ rows columns"]]:
        """The trunk's."""
        return self.thunder.trunk.feature_maps(image)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """`joint_features` of RGB crops in [0, 1]."""
        if image.shape[-2:] != (THUNDER_SIZE, THUNDER_SIZE):
            image = interpolate(image, size=(THUNDER_SIZE, THUNDER_SIZE), mode="bilinear", antialias=True)
        packed = self.thunder.packed(image.contiguous(memory_format=torch.channels_last))
        return joint_features(self.depths, packed)
