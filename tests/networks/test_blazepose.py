"""BlazePose's trunk in torch: the same numbers as MediaPipe's runtime, and nothing else read as its weights."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from kouros.detection.model_files import landmark_network, packaged_models
from kouros.networks.backbones import build_backbone
from kouros.networks.blazepose import INPUT_SIZE, BlazePoseTrunk
from kouros.networks.tflite_weights import convolutions
from kouros.systems.backbone_weights import begin_backbone

LANDMARKS = packaged_models().landmarks
REGRESSED = 195


@pytest.fixture(scope="module")
def trunk() -> BlazePoseTrunk:
    network = build_backbone("blazepose")
    assert isinstance(network, BlazePoseTrunk)
    begin_backbone(network, None)
    return network.eval()


def smooth_picture(seed: int, size: int = INPUT_SIZE) -> torch.Tensor:
    coarse = torch.rand(1, 3, 9, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("seed", range(3))
def test_landmarks_out_of_the_features_are_those_of_the_runtime(trunk: BlazePoseTrunk, seed: int):
    picture = smooth_picture(seed)
    last = convolutions(LANDMARKS, REGRESSED)[-1]
    with torch.no_grad():
        ours = torch.nn.functional.conv2d(trunk(picture).unflatten(1, (288, 2, 2)), last.weight, last.bias).flatten()
    theirs, *_ = landmark_network(packaged_models(), 1)(picture.permute(0, 2, 3, 1).numpy())
    # Pixels and logits of up to hundreds, through seventy layers.
    assert_close(ours, torch.from_numpy(np.array(theirs)).flatten(), atol=5e-3, rtol=1e-4)


def test_a_picture_has_the_same_features_in_any_company(trunk: BlazePoseTrunk):
    pictures = torch.cat([smooth_picture(seed) for seed in range(3)])
    with torch.no_grad():
        assert_close(trunk(pictures)[1:2], trunk(pictures[1:2]), atol=1e-4, rtol=1e-4)


def test_crops_of_other_sizes_are_brought_to_its_own(trunk: BlazePoseTrunk):
    small = smooth_picture(0, 224)
    with torch.no_grad():
        features, theirs = trunk(small), trunk(smooth_picture(0))
    assert features.shape == (1, trunk.num_features)
    assert (features - theirs).norm() < 0.15 * theirs.norm()


def test_all_layers_can_be_trained():
    network = BlazePoseTrunk()
    begin_backbone(network, None)
    network.train()(smooth_picture(0)).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())
    assert all(bool(torch.isfinite(p.grad).all()) for p in network.parameters())


def test_another_models_weights_are_refused():
    with pytest.raises(ValueError, match="outputs of 195 numbers"):
        BlazePoseTrunk().load_tflite(packaged_models().detector)


@settings(deadline=None)  # copies of a whole file
@given(cut=st.integers(0, len(LANDMARKS) - 1))
def test_files_that_end_early_are_refused(cut: int):
    with pytest.raises(ValueError, match="TensorFlow Lite model"):
        convolutions(LANDMARKS[:cut], REGRESSED)


@settings(deadline=None)
@given(noise=st.binary(max_size=400))
@example(noise=bytes(23) + b"\x01")  # an offset that points before the file
def test_what_is_no_model_is_refused(noise: bytes):
    with pytest.raises(ValueError, match="TensorFlow Lite model"):
        convolutions(b"\x1c\x00\x00\x00TFL3" + noise, REGRESSED)
