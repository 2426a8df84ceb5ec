"""MoveNet in torch: the published numbers, maps of the strides that are named, and layers that can be trained."""

import numpy as np
import pytest
import torch
from movenet_peer import PUBLISHED, multipose_picture, people_of, thunder_crop
from torch.testing import assert_close

from kouros.detection.model_files import packaged_models, packaged_movenet
from kouros.networks.movenet import MoveNetMultiPose, MoveNetThunder


def batched(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def thunder() -> MoveNetThunder:
    network = MoveNetThunder()
    network.load_tflite(packaged_movenet().thunder)
    return network


@pytest.fixture(scope="module")
def multipose() -> MoveNetMultiPose:
    network = MoveNetMultiPose()
    network.load_tflite(packaged_movenet().multipose)
    return network


def test_thunder_gives_the_published_keypoints(thunder: MoveNetThunder):
    with torch.no_grad():
        (ours,) = thunder(batched(thunder_crop())).keypoints()
    assert_close(ours, torch.from_numpy(PUBLISHED["thunder"][:, [1, 0, 2]]).float(), atol=1e-3, rtol=0)


def test_multipose_gives_the_published_people(multipose: MoveNetMultiPose):
    keypoints, boxes, scores = people_of(PUBLISHED["multipose"])
    with torch.no_grad():
        ours = multipose(batched(multipose_picture())).people()
    assert (scores > 0.5).sum() == 3
    for mine, theirs in ((ours.keypoints, keypoints), (ours.boxes, boxes), (ours.score, scores)):
        assert_close(mine[0], torch.from_numpy(theirs).float(), atol=1e-3, rtol=0)


def test_a_picture_has_the_same_answer_in_any_company(thunder: MoveNetThunder, multipose: MoveNetMultiPose):
    crop = batched(thunder_crop())
    pictures = torch.cat([crop.flip(3), crop, torch.rand(1, 3, 256, 256)])
    with torch.no_grad():
        assert_close(thunder(pictures).keypoints()[1:2], thunder(crop).keypoints(), atol=1e-3, rtol=0)
        together, alone = multipose(pictures).people(), multipose(crop).people()
    real = alone.score[0] > 0.02
    assert real.any()
    assert_close(together.keypoints[1][real], alone.keypoints[0][real], atol=1e-3, rtol=0)
    assert_close(together.boxes[1][real], alone.boxes[0][real], atol=1e-3, rtol=0)


def test_all_layers_of_the_trunk_can_be_trained(thunder: MoveNetThunder):
    network = MoveNetThunder()
    network.load_tflite(packaged_movenet().thunder)
    heads = network.train()(batched(thunder_crop()))
    sum(map_.square().mean() for map_ in (heads.center, heads.heat, heads.regressed, heads.offset)).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name


def test_pictures_whose_sides_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="multiples of 32"):
        MoveNetMultiPose()(torch.zeros(1, 3, 64, 65))


def test_another_models_weights_are_refused():
    with pytest.raises(ValueError, match="MoveNet's weights for MoveNetThunder"):
        MoveNetThunder().load_tflite(packaged_movenet().multipose)
    with pytest.raises(ValueError, match="MoveNet's weights for MoveNetMultiPose"):
        MoveNetMultiPose().load_tflite(packaged_models().landmarks)
