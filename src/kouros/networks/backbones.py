"""The networks that crop systems look through, by name, and the published weights that their training begins with."""

from pathlib import Path
from typing import Literal

from kouros.detection.model_files import packaged_models, read_task_file
from kouros.networks.blazepose import BlazePoseTrunk
from kouros.networks.resnet import ResNet

Backbone = Literal[18, 34, 50, 101, "blazepose"]
"""Depth of a ResNet, as the papers have it, or the trunk of the packaged landmark network."""


def build_backbone(kind: Backbone) -> ResNet | BlazePoseTrunk:
    """With fresh weights, from torch's global generator."""
    return BlazePoseTrunk() if kind == "blazepose" else ResNet(kind)


def begin_backbone(backbone: ResNet | BlazePoseTrunk, weights: Path | None) -> None:
    """Take over published weights.

    Args:
        backbone: fresh.
        weights: torchvision's, of ImageNet, for a ResNet, which stays as it is without; MediaPipe's ``.task`` bundle
            for BlazePose, which has the packaged ones without.

    Raises:
        ValueError: the file is not what it should be.
        OSError: it cannot be read.
    """
    if isinstance(backbone, BlazePoseTrunk):
        backbone.load_tflite((packaged_models() if weights is None else read_task_file(weights)).landmarks)
    elif weights is not None:
        backbone.load_torchvision(weights)
