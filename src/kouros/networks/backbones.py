"""The networks that systems look through, by name."""

from typing import Literal

from kouros.networks.backbone import BackboneNetwork
from kouros.networks.blazepose import BlazePoseTrunk
from kouros.networks.joint_features import MoveNetJoints
from kouros.networks.movenet import MoveNetTrunk
from kouros.networks.resnet import ResNet

Backbone = Literal[18, 34, 50, 101, "blazepose", "movenet"]
"""Depth of a ResNet, as the papers have it, or the trunk of one of the packaged networks, which have seen people."""
VectorBackbone = Literal[18, 34, 50, 101, "blazepose", "movenet", "movenet-joints"]
"""Of systems that need one vector and no maps: one of these, or all that the packaged networks say of each joint."""


def build_backbone(kind: VectorBackbone) -> BackboneNetwork:
    """With fresh weights, from torch's global generator."""
    if kind == "blazepose":
        return BlazePoseTrunk()
    if kind == "movenet-joints":
        return MoveNetJoints()
    return MoveNetTrunk() if kind == "movenet" else ResNet(kind)
