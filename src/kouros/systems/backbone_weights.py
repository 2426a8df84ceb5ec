"""The published weights that a backbone's training begins with."""

from pathlib import Path

from kouros.networks.blazepose import BlazePoseTrunk
from kouros.networks.resnet import ResNet


def begin_backbone(backbone: ResNet | BlazePoseTrunk, weights: Path | None) -> None:
    """Take over published weights.

    Args:
        backbone: fresh.
        weights: torchvision's, of ImageNet, for a ResNet, which stays as it is without; MediaPipe's ``.task`` bundle
            for BlazePose, which has the packaged ones without.

    Raises:
        ValueError: the file is not what it should be.
        ImportError: flatbuffers, which reads BlazePose's, is not installed.
        OSError: it cannot be read.
    """
    if isinstance(backbone, BlazePoseTrunk):
        # Here, because machines that train need not have what the detector needs.
        from kouros.detection.model_files import packaged_models, read_task_file

        backbone.load_tflite((packaged_models() if weights is None else read_task_file(weights)).landmarks)
    elif weights is not None:
        backbone.load_torchvision(weights)
