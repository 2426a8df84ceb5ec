"""The published weights that a backbone's training begins with.

Here and not beside the networks, which know no files: two of them have theirs among the finder's.
"""

from pathlib import Path

from kouros.networks.backbone import BackboneNetwork
from kouros.networks.blazepose import BlazePoseTrunk
from kouros.networks.joint_features import MoveNetJoints
from kouros.networks.movenet import MoveNetTrunk
from kouros.networks.resnet import ResNet
from kouros.networks.vgg import AtrousVgg16


def begin_backbone(backbone: BackboneNetwork | AtrousVgg16, weights: Path | None) -> None:
    """Take over published weights.

    Args:
        backbone: fresh.
        weights: torchvision's, of ImageNet, for a ResNet or VGG-16, which stay as they are without; MediaPipe's
            ``.task`` bundle for BlazePose and Thunder's ``.tflite`` file for MoveNet, which have the packaged ones
            without; the head of depths always has them.

    Raises:
        ValueError: the file is not what it should be.
        ImportError: flatbuffers, which reads BlazePose's and MoveNet's, is not installed.
        OSError: it cannot be read.
    """
    # The finder's files are asked for here, because machines that train need not have what the finder needs.
    if isinstance(backbone, BlazePoseTrunk):
        from kouros.detection.model_files import packaged_models, read_task_file

        backbone.load_tflite((packaged_models() if weights is None else read_task_file(weights)).landmarks)
    elif isinstance(backbone, MoveNetTrunk | MoveNetJoints):
        from kouros.detection.model_files import packaged_movenet

        network = backbone.thunder if isinstance(backbone, MoveNetJoints) else backbone
        network.load_tflite(packaged_movenet().thunder if weights is None else weights.read_bytes())
        if isinstance(backbone, MoveNetJoints):
            from kouros.detection.depths import packaged_depth_head

            backbone.depths.load_state_dict(packaged_depth_head().state_dict())
    elif isinstance(backbone, ResNet | AtrousVgg16) and weights is not None:
        backbone.load_torchvision(weights)
