"""Decoders and heads that answer for every pixel, and the atrous backbones under them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from kouros.networks.deeplab import AtrousPyramid
from kouros.networks.light_head import LightHead
from kouros.networks.refinenet import RefineNet, _Block, _ChainedResidualPooling, _ResidualUnit
from kouros.networks.resnet import ResNet
from kouros.networks.vgg import AtrousVgg16


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def convolution(inputs: int, outputs: int, side: int) -> int:
    """Numbers of a convolution with biases."""
    return outputs * (inputs * side * side + 1)


# ---- atrous residual networks


@pytest.mark.parametrize(("depth", "output_stride"), [(18, 16), (18, 8), (50, 8)])
def test_atrous_layers_see_the_same_at_more_places(depth: int, output_stride: int):
    """Every 32 / output_stride-th place of a map has what the network without atrous layers has there."""
    torch.manual_seed(0)
    plain, atrous = ResNet(depth).eval(), ResNet(depth, output_stride).eval()
    atrous.load_state_dict(plain.state_dict())
    picture = torch.rand(1, 3, 96, 64)
    with torch.no_grad():
        coarse, fine = plain.layer_maps(picture), atrous.layer_maps(picture)
    for expected, found, stride, finer in zip(coarse, fine, plain.layer_strides, atrous.layer_strides, strict=True):
        assert expected.shape[2:] == (96 // stride, 64 // stride)
        assert found.shape[2:] == (96 // finer, 64 // finer)
        skip = stride // finer
        assert_close(found[:, :, ::skip, ::skip], expected, atol=1e-4, rtol=1e-4)
    assert (plain.layer_strides, atrous.layer_strides[-1]) == ((4, 8, 16, 32), output_stride)


def test_pixels_that_are_no_colours_are_taken_as_they_are():
    network = ResNet(18, inputs=13).eval()
    seen: list[Tensor] = []
    network.conv1.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    probabilities = torch.rand(1, 13, 32, 32)
    with torch.no_grad():
        network(probabilities)
    assert torch.equal(seen[0], probabilities)


# ---- VGG


def test_vgg_has_the_published_convolutions_and_answers_at_an_eighth():
    with torch.device("meta"):
        network = AtrousVgg16()
    assert count(network) == 138_357_544 - 123_642_856  # published; its three fully connected layers
    names = [name for name in network.state_dict() if name.endswith("weight")]
    assert names == [f"features.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    with torch.no_grad():
        (seen,) = AtrousVgg16().layer_maps(torch.rand(1, 3, 64, 40))
    assert seen.shape == (1, 512, 8, 5)


def test_vggs_published_file_loads_without_its_classifier(tmp_path: Path):
    torch.manual_seed(0)
    published = AtrousVgg16()
    state = published.state_dict() | {"classifier.0.weight": torch.zeros(2, 2), "classifier.6.bias": torch.zeros(2)}
    torch.save(state, tmp_path / "vgg16.pth")
    network = AtrousVgg16()
    network.load_torchvision(tmp_path / "vgg16.pth")
    for name, value in published.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    torch.save(ResNet(18).state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match=r"lacks features\.0\.weight: not the weights of a VGG-16"):
        network.load_torchvision(tmp_path / "resnet18.pth")


# ---- DeepLab


def test_one_branch_over_vgg_has_as_many_numbers_as_deeplab_largefov():
    """20.5 million with 21 classes (Chen et al., ICLR 2015, Table 2)."""
    with torch.device("meta"):
        network = nn.ModuleList([AtrousVgg16(), AtrousPyramid(512, 21, hidden=True, rates=(12,))])
    assert count(network) == 20_505_429


def test_a_branch_sees_nine_places_at_its_rate():
    head = AtrousPyramid(1, 1, hidden=False, rates=(3, 5))
    for branch in head.branches:
        nn.init.ones_(branch[0].weight)
        nn.init.zeros_(branch[0].bias)
    impulse = torch.zeros(1, 1, 15, 15)
    impulse[0, 0, 7, 7] = 1
    with torch.no_grad():
        scores = head([torch.zeros(1, 1, 1, 1), impulse], (15, 15))[0, 0]
    expected = torch.zeros(15, 15)
    for rate in (3, 5):
        for row in (-rate, 0, rate):
            for column in (-rate, 0, rate):
                expected[7 + row, 7 + column] += 1
    assert_close(scores, expected)


# ---- RefineNet


def test_refinenet_has_the_papers_layers():
    """Counted by hand: adapting convolutions, units, fusions, poolings, and the last convolution."""
    with torch.device("meta"):
        network = RefineNet((256, 512, 1024, 2048), 21)
    unit = {width: 2 * convolution(width, width, 3) for width in (256, 512)}
    pooling = {width: 2 * convolution(width, width, 3) for width in (256, 512)}
    expected = convolution(2048, 512, 3) + 3 * unit[512] + pooling[512]
    for channels, coarser in ((1024, 512), (512, 256), (256, 256)):
        expected += convolution(channels, 256, 3) + 2 * unit[256] + 2 * unit[coarser]
        expected += convolution(256, 256, 3) + convolution(coarser, 256, 3) + pooling[256] + unit[256]
    expected += 2 * unit[256] + convolution(256, 21, 3)
    assert count(network) == expected


def test_scores_come_at_the_size_that_is_asked_for_and_every_map_counts():
    torch.manual_seed(0)
    network = RefineNet((3, 4, 5, 6), 7, widths=(8, 8, 8, 16))
    maps = [torch.randn(2, c, 32 // s, 64 // s, requires_grad=True) for c, s in ((3, 1), (4, 2), (5, 4), (6, 8))]
    scores = network(maps, (128, 256))
    assert scores.shape == (2, 7, 128, 256)
    scores.square().mean().backward()
    assert all(bool((m.grad != 0).any()) and bool(m.grad.isfinite().all()) for m in maps)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def test_a_residual_unit_without_weights_changes_nothing():
    unit = _ResidualUnit(4)
    for p in unit.parameters():
        nn.init.zeros_(p)
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(unit(x), x)


def test_chained_pooling_looks_two_windows_far():
    """With identities for convolutions: the place itself, its 5 x 5 and its 9 x 9 neighbourhood."""
    pooling = _ChainedResidualPooling(1)
    for layer in pooling.convolutions:
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.bias)
    impulse = torch.zeros(1, 1, 13, 13)
    impulse[0, 0, 6, 6] = 1
    expected = impulse.clone()
    expected[0, 0, 4:9, 4:9] += 1
    expected[0, 0, 2:11, 2:11] += 1
    with torch.no_grad():
        assert_close(pooling(impulse), expected)
        assert_close(pooling(-impulse), torch.zeros_like(impulse))  # it begins with a rectifier


def test_fusion_adds_what_is_coarser_enlarged():
    block = _Block(1, 1, 1)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight), nn.init.zeros_(module.bias)
    for layer in (block.adapt[0], *block.fuse):
        nn.init.dirac_(layer.weight)
    with torch.no_grad():
        fused = block(torch.full((1, 1, 4, 6), 2.0), torch.full((1, 1, 2, 3), 3.0))
    assert_close(fused, torch.full((1, 1, 4, 6), 5.0))


def test_maps_and_widths_must_match():
    with pytest.raises(ValueError, match="3 feature maps for 4 widths"):
        RefineNet((1, 2, 3), 5)


# ---- the light head


def test_the_light_head_is_light():
    head = LightHead((40, 56, 168, 280, 560), (4, 8, 16, 32, 32), 13)
    assert 150_000 < count(head) < 190_000


def test_the_light_head_answers_at_any_resolution_from_maps_in_any_order():
    torch.manual_seed(0)
    head = LightHead((6, 5, 4), (4, 16, 4), 3, width=16)
    maps = [torch.randn(2, c, 64 // s, 96 // s, requires_grad=True) for c, s in ((6, 4), (5, 16), (4, 4))]
    for size in ((16, 24), (32, 48), (64, 96)):
        assert head(maps, size).shape == (2, 3, *size)
    head(maps, (16, 24)).square().mean().backward()
    assert all(bool((m.grad != 0).any()) and bool(m.grad.isfinite().all()) for m in maps)


def test_a_pictures_answer_does_not_depend_on_the_others_nor_on_the_maps_sizes_of_numbers():
    torch.manual_seed(0)
    head = LightHead((4, 4), (4, 8), 2, width=16)
    maps = [torch.randn(3, 4, 8, 8), torch.randn(3, 4, 4, 4)]
    with torch.no_grad():
        together = head(maps, (8, 8))
        assert_close(head([m[1:2] for m in maps], (8, 8)), together[1:2])
        assert_close(head([100 * maps[0], maps[1]], (8, 8)), together, atol=1e-3, rtol=1e-3)


def test_the_light_head_refuses_other_maps():
    with pytest.raises(ValueError, match="2 maps with 1 strides"):
        LightHead((4, 4), (4,), 2)
    with pytest.raises(ValueError, match="width is 20; expected a multiple of 8"):
        LightHead((4,), (4,), 2, width=20)
    with pytest.raises(ValueError, match="made for 1 feature maps and got 2"):
        LightHead((4,), (4,), 2)([torch.zeros(1, 4, 2, 2)] * 2, (4, 4))
