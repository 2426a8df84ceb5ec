"""What systems look through: maps of the strides that are named, features, weights, gradients, for every backbone."""

from typing import get_args

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from kouros.detection.model_files import packaged_movenet
from kouros.networks.backbone import BackboneNetwork
from kouros.networks.backbones import Backbone, build_backbone
from kouros.networks.movenet import MoveNetThunder
from kouros.networks.resnet import ResNet
from kouros.systems.backbone_weights import begin_backbone

KINDS: tuple[Backbone, ...] = get_args(Backbone)
SMALL: tuple[Backbone, ...] = (18, "blazepose", "movenet")
"""Those that a test can look through closely; 50 and 101 differ from 18 and 34 in their blocks alone."""


def fresh(kind: Backbone) -> BackboneNetwork:
    """With weights that let pass what they see, whatever the layers' own beginnings do."""
    torch.manual_seed(0)
    network = build_backbone(kind)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_maps_have_the_sizes_and_the_widths_that_are_named(kind: Backbone):
    network = fresh(kind)
    with torch.no_grad():
        maps = network.feature_maps(torch.rand(2, 3, 64, 32))
        features = network(torch.rand(2, 3, 64, 64))
    assert list(maps) == list(network.channels) == [4, 8, 16, 32]
    for stride, seen in maps.items():
        assert seen.shape == (2, network.channels[stride], 64 // stride, 32 // stride)
    assert features.shape == (2, network.num_features)
    assert network.name == f"resnet{kind}" if isinstance(kind, int) else network.name == kind
    assert network.weights.licence and network.weights.made


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("kind", SMALL)
def test_a_map_moves_by_one_place_when_the_picture_moves_by_its_stride(kind: Backbone, axis: int):
    network = fresh(kind)
    # A strip, grey all along as far as its middle sees: what is padded at the ends stays out.
    picture = torch.full((1, 3, 64, 1280), 0.5)
    picture[..., 608:672] = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    picture = picture.transpose(axis, 3)
    with torch.no_grad():
        plain = network.feature_maps(picture)
        moving = {stride: network.feature_maps(picture.roll(stride, axis))[stride] for stride in network.channels}
    for stride in network.channels:
        here, there = (seen[stride].transpose(axis, 3) for seen in (plain, moving))
        inner = slice(544 // stride, 736 // stride)
        moved = here.roll(1, 3)[..., inner]
        assert (here[..., inner] - moved).abs().max() > 0.2 * moved.abs().max()
        assert (there[..., inner] - moved).abs().max() < 1e-4 * moved.abs().max()


@pytest.mark.parametrize("kind", ["blazepose", "movenet"])
def test_packaged_backbones_bring_their_weights(kind: Backbone):
    first, second = build_backbone(kind), build_backbone(kind)
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert (first(picture) - second(picture)).norm() > 0.1 * first(picture).norm()
        for network in (first, second):
            begin_backbone(network, None)
        assert_close(first(picture), second(picture))


def test_movenets_backbone_is_thunders_trunk(tmp_path):
    thunder, backbone = MoveNetThunder(), build_backbone("movenet")
    thunder.load_tflite(packaged_movenet().thunder)
    (tmp_path / "thunder.tflite").write_bytes(packaged_movenet().thunder)
    begin_backbone(backbone, tmp_path / "thunder.tflite")
    assert isinstance(backbone, nn.Module)
    assert_close(backbone.state_dict(), thunder.trunk.state_dict())
    (tmp_path / "multipose.tflite").write_bytes(packaged_movenet().multipose)
    with pytest.raises(ValueError, match=r"expected movenet_thunder\.tflite"):
        begin_backbone(backbone, tmp_path / "multipose.tflite")


@pytest.mark.parametrize("kind", KINDS)
def test_all_layers_can_be_trained(kind: Backbone):
    network = fresh(kind)
    network.train()(torch.rand(2, 3, 64, 64)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        assert bool((parameter.grad != 0).any()), name


@pytest.mark.parametrize("kind", ["blazepose", "movenet"])
def test_pictures_whose_sides_do_not_divide_are_refused(kind: Backbone):
    with pytest.raises(ValueError, match=r"64 x 65 pixels; .* multiples of 32"):
        build_backbone(kind).feature_maps(torch.zeros(1, 3, 64, 65))


def test_a_resnets_features_are_the_mean_of_its_last_map():
    network = ResNet(18).eval()
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert_close(network(picture), network.feature_maps(picture)[32].mean((2, 3)))
