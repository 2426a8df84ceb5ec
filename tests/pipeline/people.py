"""People whose body is all that matters."""

import torch

from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.person import Person


def person_of(pose: torch.Tensor, transl: torch.Tensor, camera: PerspectiveCamera, body: BodyModel) -> Person:
    """Somebody of the mean shape who fills a picture of 640 pixels, every keypoint detected."""
    picture = torch.tensor([0.0, 0.0, 640.0, 640.0])
    return Person(
        parameters=Bodies(pose.flatten(), torch.zeros(10), transl, camera),
        crop_box=picture,
        box=picture,
        score=1.0,
        keypoints_detected=torch.ones(17, 3),
        keypoint_set="coco17",
        image_size=(640, 640),
        body=body,
    )
