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
from kouros.networks.depth_head import DepthHead
from kouros.networks.movenet import KEYPOINTS, THUNDER_SIZE, MoveNetThunder, MoveNetTrunk

_POINT = 3


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
        self.num_features = _POINT * KEYPOINTS + self.depths.num_described
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on a processor

    def feature_maps(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> dict[int, Float[Tensor, "batch _ rows columns"]]:
        """The trunk's."""
        return self.thunder.trunk.feature_maps(image)

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch features"]:
        """Features of RGB crops in [0, 1]: Thunder's points (x and y from -1 to 1, confidence), and what the head of
        depths has made of each (`kouros.networks.depth_head.DepthHead.described`)."""
        if image.shape[-2:] != (THUNDER_SIZE, THUNDER_SIZE):
            image = interpolate(image, size=(THUNDER_SIZE, THUNDER_SIZE), mode="bilinear", antialias=True)
        heads, packed = self.thunder.with_insides(image.contiguous(memory_format=torch.channels_last))
        points = heads.keypoints()
        points = torch.cat([2 * points[..., :2] - 1, points[..., 2:]], -1)
        return torch.cat([points.flatten(1), self.depths.described(packed)], 1)
