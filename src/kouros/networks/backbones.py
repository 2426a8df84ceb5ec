"""The networks that crop systems look through, by name."""

from typing import Literal

from kouros.networks.blazepose import BlazePoseTrunk
from kouros.networks.resnet import ResNet

Backbone = Literal[18, 34, 50, 101, "blazepose"]
"""Depth of a ResNet, as the papers have it, or the trunk of the packaged landmark network."""


def build_backbone(kind: Backbone) -> ResNet | BlazePoseTrunk:
    """With fresh weights, from torch's global generator."""
    return BlazePoseTrunk() if kind == "blazepose" else ResNet(kind)
