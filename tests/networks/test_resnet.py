"""Residual networks: torchvision's names, shapes and sizes, and its files."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from kouros.networks.resnet import ResNet


@pytest.mark.parametrize(
    ("depth", "published", "features"),
    [(18, 11_689_512, 512), (34, 21_797_672, 512), (50, 25_557_032, 2048), (101, 44_549_160, 2048)],
)
def test_parameters_are_as_many_as_published(depth: int, published: int, features: int):
    with torch.device("meta"):
        network = ResNet(depth)
        classifier = nn.Linear(network.num_features, 1000)
    assert network.num_features == features
    assert sum(p.numel() for part in (network, classifier) for p in part.parameters()) == published


@pytest.mark.parametrize(
    ("depth", "shapes"),
    [
        (18, {"conv1.weight": (64, 3, 7, 7), "layer2.0.conv1.weight": (128, 64, 3, 3), "layer4.1.bn2.bias": (512,)}),
        (34, {"layer3.5.conv2.weight": (256, 256, 3, 3), "layer2.0.downsample.0.weight": (128, 64, 1, 1)}),
        (50, {"layer1.0.downsample.1.running_var": (256,), "layer4.2.conv3.weight": (2048, 512, 1, 1)}),
        (101, {"layer3.22.conv2.weight": (256, 256, 3, 3), "layer3.0.conv1.weight": (256, 512, 1, 1)}),
    ],
)
def test_parameters_have_torchvisions_names_and_shapes(depth: int, shapes: dict):
    with torch.device("meta"):
        state = ResNet(depth).state_dict()
    for name, shape in shapes.items():
        assert tuple(state[name].shape) == shape
    assert not any(name.startswith(("fc.", "mean", "std")) for name in state)
    # Only the first block of a layer that changes sizes has a projection; the basic layer 1 changes none.
    assert ("layer1.0.downsample.0.weight" in state) == (depth >= 50)
    assert not any("downsample" in name and ".0.downsample" not in name for name in state)


@pytest.mark.parametrize(("depth", "size"), [(18, 224), (18, 128), (50, 64)])
def test_crops_of_any_size_give_one_vector(depth: int, size: int):
    network = ResNet(depth).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, size, size)).shape == (2, network.num_features)


def test_pictures_are_normalised_inside():
    """A picture of ImageNet's mean colour gives what zeros give the layers alone; a deviation more, ones."""
    network = ResNet(18).eval()
    seen = []
    network.conv1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        network(mean.expand(1, 3, 32, 32))
        network((mean + std).expand(1, 3, 32, 32))
    assert_close(seen[0], torch.zeros(1, 3, 32, 32), atol=1e-6, rtol=0)
    assert_close(seen[1], torch.ones(1, 3, 32, 32), atol=1e-5, rtol=0)


def test_signals_neither_vanish_nor_explode_at_the_start():
    """He's initialisation: what comes out of each convolution's backward pass is as large as what went in."""
    torch.manual_seed(0)
    network = ResNet(34)
    for layer in (network.layer1[0].conv2, network.layer4[1].conv1):
        fan_out = layer.weight.shape[0] * 9
        assert layer.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_torchvisions_file_loads_and_its_classifier_is_left_out(tmp_path: Path):
    torch.manual_seed(0)
    published = ResNet(18)
    state = published.state_dict() | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    # Files from before torch 0.4.1 have no counts of batches.
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, tmp_path / "resnet18.pth")
    network = ResNet(18)
    network.load_torchvision(tmp_path / "resnet18.pth")
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(network.eval()(picture), published.eval()(picture))


def test_files_of_something_else_are_refused_and_change_nothing(tmp_path: Path):
    network = ResNet(18)
    before = network.conv1.weight.clone()
    path = tmp_path / "weights.pth"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="is not a file of weights"):
        network.load_torchvision(path)
    torch.save(ResNet(34).state_dict(), path)
    with pytest.raises(ValueError, match=r"has the unknown layer1\.2\.conv1\.weight: not the weights of a ResNet-18"):
        network.load_torchvision(path)
    torch.save(network.state_dict() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, path)
    with pytest.raises(ValueError, match=r"another shape of conv1\.weight"):
        network.load_torchvision(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="holds no network's weights by name"):
        network.load_torchvision(path)
    assert torch.equal(network.conv1.weight, before)
