import pytest
import torch

from kouros.body import BodyModel
from kouros.body.parameters import Bodies
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.person import Person


def posed_person(body: BodyModel, seed: int, x: float = 0.0) -> Person:
    """Somebody of random shape and pose, four metres before a camera of 640 x 480 pixels."""
    generator = torch.Generator().manual_seed(seed)
    betas, limbs = torch.randn(10, generator=generator), 0.3 * torch.randn(69, generator=generator)
    pose = torch.cat([torch.tensor([3.0, 0.1, 0.2]), limbs])
    camera = PerspectiveCamera(torch.tensor(600.0), torch.tensor([320.0, 240.0]))
    return Person(
        parameters=Bodies(pose, betas, torch.tensor([x, 0.1, 4.0]), camera),
        crop_box=torch.tensor([100.0, 50.0, 400.0, 350.0]),
        box=torch.tensor([120.0, 50.0, 380.0, 350.0]),
        score=0.9,
        keypoints_detected=torch.rand(17, 3, generator=generator),
        keypoint_set="coco17",
        image_size=(640, 480),
        body=body,
    )


@pytest.fixture(scope="session")
def people(free_body):
    return [posed_person(free_body, 1, -0.8), posed_person(free_body, 2, 0.7)]
