"""MoveNet: keypoints of one person in a crop, or of up to six in a picture (Google, 2021).

MobileNetV2 (Sandler et al., CVPR 2018) down to a 32nd of the picture, a feature pyramid (Lin et al., CVPR 2017) back up
to a quarter, CenterNet's heads on it (Zhou et al., 2019), and a step that reads keypoints off the heads. There is no
paper; the layers and that step are those of the graphs that Google publishes with the weights, under the Apache
License 2.0. Batch normalisation was folded into the weights by those who published them, so that nothing here depends
on the batch.

Pictures come in as they are, RGB in [0, 1]; points go out in picture coordinates: (x, y) from (0, 0) at the first
corner to (1, 1) at the opposite one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate, max_pool2d, pad, pixel_shuffle, relu6

from kouros.networks.backbone import BackboneNetwork, PublishedWeights, require_sides

KEYPOINTS = 17
"""COCO's, in COCO's order."""
MAX_PEOPLE = 6
COARSEST = 32
"""Sides of pictures are multiples of it."""
THUNDER_SIZE = 256
"""Side of Thunder's crops, pixels: its reading of the heads is made for that."""

THUNDER_MULTIPLIER = 1.75


@dataclass(frozen=True)
class _Stage:
    """A row of MobileNetV2's Table 2: blocks of one width."""

    inside: int
    """How many times wider the blocks are inside."""
    width: int
    blocks: int
    stride: int
    """Of the first block."""
    map_stride: int = 0
    """Of the map that the pyramid takes from here; 0 where it takes none."""
    layer: bool = False
    """Whether `MoveNetTrunk.layer_maps` has it."""


_STAGES = (
    _Stage(1, 16, 1, 1),
    _Stage(6, 24, 2, 2, map_stride=4, layer=True),
    _Stage(6, 32, 3, 2, map_stride=8, layer=True),
    _Stage(6, 64, 4, 2, map_stride=16, layer=True),
    _Stage(6, 96, 3, 1, layer=True),
    _Stage(6, 160, 3, 2),
    _Stage(6, 320, 1, 1, layer=True),
)
_STEM, _WIDEST, _PLACES = 32, 1280, 2 * 2
_PYRAMID = (64, 32, 24)
"""Widths of the pyramid's steps, from stride 16 to stride 4."""
_HEAD_WIDTH = 96
PIXEL = 0.007843017578125
"""A grey level's share of [-1, 1], as published: 2 / 255 in half precision."""


class MoveNetTrunk(BackboneNetwork):
    """MobileNetV2: a picture in; maps of it, or one vector of features, out. Random until `load_tflite`.

    Args:
        multiplier: how much wider than the paper's network; Thunder's is 1.75, MultiPose's 1.5.
    """

    name = "movenet"
    num_features = _PLACES * _WIDEST
    weights = PublishedWeights(
        made="by Google for MoveNet.SinglePose.Thunder, version 4, on COCO, its own videos and synthetic people",
        licence="Apache License 2.0",
    )

    def __init__(self, multiplier: float = THUNDER_MULTIPLIER) -> None:
        super().__init__()
        width = _widened(_STEM, multiplier)
        self.stem = _Convolution(3, width, kernel=3, stride=2)
        self.channels = {}
        layers: list[tuple[int, int]] = []
        stride = 2
        stages: list[nn.Module] = []
        for stage in _STAGES:
            narrow = _widened(stage.width, multiplier)
            blocks = []
            for number in range(stage.blocks):
                blocks.append(_InvertedResidual(width, stage.inside, narrow, 1 if number else stage.stride))
                width = narrow
            stages.append(nn.Sequential(*blocks))
            stride *= stage.stride
            if stage.map_stride:
                self.channels[stage.map_stride] = width
            if stage.layer:
                layers.append((width, stride))
        self.layer_channels = tuple(width for width, _ in layers)
        """Of the maps that `layer_maps` gives."""
        self.layer_strides = tuple(stride for _, stride in layers)
        """Likewise."""
        self.stages = nn.ModuleList(stages)
        self.widen = _Convolution(width, _WIDEST)
        self.channels[COARSEST] = _WIDEST

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 5120"]:
        """Features of RGB pictures in [0, 1]: the coarsest map, averaged over each quarter of the picture.

        Over quarters, because the network was made to say where things are, not whether.
        """
        return adaptive_avg_pool2d(self.feature_maps(image)[COARSEST], 2).flatten(1)

    def feature_maps(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> dict[int, Float[Tensor, "batch _ rows columns"]]:
        """What MoveNet's pyramid goes on from, by stride: 4, 8, 16, 32.

        Raises:
            ValueError: a side is no multiple of 32 pixels.
        """
        return self._feature_maps_of(self._stages_of(image))

    def layer_maps(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        """Maps of strides 4, 8, 16, 16 and 32, (batch, channels, rows, columns): what dense answers stand on.

        Beside those that the pyramid takes, the wider one of stride 16 and the one that `widen` begins with.

        Raises:
            ValueError: a side is no multiple of 32 pixels.
        """
        return self._layer_maps_of(self._stages_of(image))

    def both_maps(self, image: Float[Tensor, "batch 3 height width"]) -> tuple[dict[int, Tensor], list[Tensor]]:
        """`feature_maps` and `layer_maps` of one look.

        Raises:
            ValueError: a side is no multiple of 32 pixels.
        """
        seen = self._stages_of(image)
        return self._feature_maps_of(seen), self._layer_maps_of(seen)

    def _feature_maps_of(self, seen: list[Tensor]) -> dict[int, Tensor]:
        maps = {s.map_stride: x for s, x in zip(_STAGES, seen, strict=True) if s.map_stride}
        return {**maps, COARSEST: self.widen(seen[-1])}

    def _layer_maps_of(self, seen: list[Tensor]) -> list[Tensor]:
        return [x for s, x in zip(_STAGES, seen, strict=True) if s.layer]

    def _stages_of(self, image: Float[Tensor, "batch 3 height width"]) -> list[Tensor]:
        require_sides(image, COARSEST)
        x = self.stem(image * (255 * PIXEL) - 1)
        seen = []
        for layers in self.stages:
            x = layers(x)
            seen.append(x)
        return seen

    def load_tflite(self, model: bytes) -> None:
        """Take over the weights of the trunk in MoveNet's file.

        Args:
            model: contents of `kouros.detection`'s ``models/movenet_thunder.tflite``.

        Raises:
            ValueError: not that file.
            ImportError: flatbuffers, which reads it, is not installed.
        """
        # Here, because only this needs the package flatbuffers.
        from kouros.networks.tflite_weights import convolutions, take_over

        layers = sum(isinstance(module, nn.Conv2d) for module in self.modules())
        take_over(self, convolutions(model)[:layers], "expected movenet_thunder.tflite")


class _Pyramid(nn.Module):
    """From the coarsest map to the finest, step by step."""

    def __init__(self, channels: dict[int, int]) -> None:
        super().__init__()
        *finer, coarsest = channels.values()
        self.begin = nn.Conv2d(coarsest, _PYRAMID[0], 1)
        self.steps = nn.ModuleList(
            _PyramidStep(seen, width, narrower)
            for seen, width, narrower in zip(reversed(finer), _PYRAMID, (*_PYRAMID[1:], _PYRAMID[-1]), strict=True)
        )

    def forward(self, maps: dict[int, Float[Tensor, "batch _ _ _"]]) -> Float[Tensor, "batch 24 rows columns"]:
        *finer, coarsest = maps.values()
        x = self.begin(coarsest)
        for step, seen in zip(self.steps, reversed(finer), strict=True):
            x = step(x, seen)
        return x


class _PyramidStep(nn.Module):
    """Twice as large, the trunk's map of that size added, smoothed."""

    def __init__(self, seen: int, width: int, narrower: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(seen, width, 1)
        self.smooth = _separable(width, narrower)

    def forward(
        self, coarse: Float[Tensor, "batch width half_rows half_columns"], seen: Float[Tensor, "batch _ rows columns"]
    ) -> Float[Tensor, "batch narrower rows columns"]:
        return self.smooth(interpolate(coarse, scale_factor=2, mode="bilinear") + self.lateral(seen))


class _MoveNet(nn.Module):
    """Trunk, pyramid and heads; what one head answers is a map of so many numbers at a quarter of the picture."""

    def __init__(self, multiplier: float, heads: dict[str, int]) -> None:
        super().__init__()
        self.trunk = MoveNetTrunk(multiplier)
        self.pyramid = _Pyramid(self.trunk.channels)
        self.heads = nn.ModuleDict({name: _head(width) for name, width in heads.items()})

    def _answers(self, maps: dict[int, Float[Tensor, "batch _ _ _"]]) -> dict[str, Float[Tensor, "batch _ _ _"]]:
        finest = self.pyramid(maps)
        return {name: head(finest) for name, head in self.heads.items()}

    def load_tflite(self, model: bytes) -> None:
        """Take over published weights.

        Args:
            model: contents of the ``.tflite`` file in `kouros.detection`'s folder ``models``.

        Raises:
            ValueError: not such a file.
            ImportError: flatbuffers, which reads it, is not installed.
        """
        # Here, because only this needs the package flatbuffers.
        from kouros.networks.tflite_weights import convolutions, take_over

        take_over(self, convolutions(model), f"expected MoveNet's weights for {type(self).__name__}")


@dataclass(frozen=True)
class ThunderHeads:
    """What Thunder's heads answer for each place of a grid of cells of 4 x 4 pixels."""

    center: Float[Tensor, "batch 1 rows columns"]
    """Logit: that a person's middle lies here."""
    heat: Float[Tensor, "batch 17 rows columns"]
    """Logits: that somebody's keypoint lies here."""
    regressed: Float[Tensor, "batch 34 rows columns"]
    """From here to the keypoints of the person whose middle this is: y, x of each, cells."""
    offset: Float[Tensor, "batch 34 rows columns"]
    """From this cell's index to the keypoint in it: y, x of each, cells."""

    def keypoints(self) -> Float[Tensor, "batch 17 3"]:
        """Of the person nearest to the middle of the crop: x, y, confidence.

        The likeliest place for a middle, likelier near the crop's; from there, where the keypoints should be; for each
        the likeliest place of its heat, likelier near that; and that cell's own offset.
        """
        rows, columns = self.center.shape[2:]
        row, column = _grid(self.center)
        nearness = 1 / (torch.hypot(row - rows // 2, column - columns // 2) + _NEAR)
        middle = (self.center[:, 0].sigmoid() * nearness).flatten(1).argmax(1)
        guessed = _cell(middle, columns)[:, None] + _at(self.regressed, middle).unflatten(1, (KEYPOINTS, 2))
        away = torch.hypot(row - guessed[..., 0, None, None], column - guessed[..., 1, None, None])
        heat = self.heat.sigmoid()
        place = (heat / (away + _NEAR)).flatten(2).argmax(2)
        offset = _own(self.offset.unflatten(1, (KEYPOINTS, 2)), place)
        found = (_cell(place, columns) + offset) / torch.tensor([rows, columns]).to(offset)
        confidence = heat.flatten(2).gather(2, place[..., None])
        return torch.cat([found.flip(-1), confidence], dim=-1)


_NEAR = 1.8
"""Cells at which nearness begins to count."""


class MoveNetThunder(_MoveNet):
    """One person in a crop of 256 pixels."""

    def __init__(self) -> None:
        super().__init__(
            THUNDER_MULTIPLIER, {"center": 1, "heat": KEYPOINTS, "regressed": 2 * KEYPOINTS, "offset": 2 * KEYPOINTS}
        )

    def forward(self, image: Float[Tensor, "batch 3 256 256"]) -> ThunderHeads:
        """Heads' answers; `ThunderHeads.keypoints` reads them."""
        return ThunderHeads(**self._answers(self.trunk.feature_maps(image)))

    def packed(self, image: Float[Tensor, "batch 3 256 256"]) -> Float[Tensor, "batch 16 16 421"]:
        """`packed_features` of crops."""
        maps, layers = self.trunk.both_maps(image)
        heat = self.heads["heat"](self.pyramid(maps))
        return packed_features(heat.sigmoid(), [layers[k] for k in _LAST_OF_SIZE])


_LAST_OF_SIZE = (0, 1, 3, 4)
"""Of `MoveNetTrunk.layer_maps`."""
FEATURE_ROWS = 16


def packed_features(
    heat: Float[Tensor, "batch 17 64 64"], maps: Sequence[Float[Tensor, "batch _ _ _"]]
) -> Float[Tensor, "batch 16 16 421"]:
    """Thunder's insides as one map of 16 x 16 places.

    Of each place the means of the trunk's map at stride 4 (40 numbers) and 8 (56), the map at stride 16 (168), the mean
    likelihoods of the 17 keypoints, and 140 of the 560 numbers of the place at stride 32 that it lies in: of its four
    quarters, row by row, each holds a fourth.
    """
    fine, middle, coarse, coarsest = maps
    quarters = pixel_shuffle(coarsest.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2), 2)
    pooled = [avg_pool2d(m, m.shape[-1] // FEATURE_ROWS) for m in (fine, middle, coarse, heat)]
    return torch.cat([*pooled, quarters], 1).permute(0, 2, 3, 1)


@dataclass(frozen=True)
class MultiPoseHeads:
    """What MultiPose's heads answer for each place of a grid of cells of 4 x 4 pixels."""

    center: Float[Tensor, "batch 1 rows columns"]
    """Logit: that a person's middle lies here."""
    scale: Float[Tensor, "batch 2 rows columns"]
    """Height and width of the box of the person whose middle this is, cells."""
    box_offset: Float[Tensor, "batch 2 rows columns"]
    """From this cell's index to the middle of the box: y, x, cells."""
    heat: Float[Tensor, "batch 17 rows columns"]
    """Logits: that somebody's keypoint lies here."""
    regressed: Float[Tensor, "batch 34 rows columns"]
    """From here to the keypoints of the person whose middle this is: y, x of each, cells."""
    offset: Float[Tensor, "batch 34 rows columns"]
    """From this cell's index to the keypoint in it: y, x of each, cells."""

    def people(self) -> "SeveralPeople":
        """The six likeliest, best middle first; without six peaks, the rest have a score of 0.

        A person is a peak of the middles' likelihood among 5 x 5 cells. Each keypoint is the likeliest place of its
        heat in the person's box, likelier near where it should be as seen from the middle.
        """
        rows, columns = self.center.shape[2:]
        size = torch.tensor([rows, columns]).to(self.center)
        likely = self.center[:, 0].sigmoid()
        peak = (likely - max_pool2d(likely, _PEAK, stride=1, padding=_PEAK // 2)).abs() < _SAME
        # A stable order, as the published step has it: of equal ones the first.
        ranked, order = (likely * peak).flatten(1).sort(descending=True, stable=True)
        middle, likelihood = order[:, :MAX_PEOPLE], ranked[:, :MAX_PEOPLE]

        cell = _cell(middle, columns)
        center = cell + _at(self.box_offset, middle)
        half = _at(self.scale, middle).clamp(min=0) / 2
        first, last = ((corner.clamp(min=0)).minimum(size) for corner in (center - half, center + half))

        guessed = cell[:, :, None] + _at(self.regressed, middle).unflatten(2, (KEYPOINTS, 2))
        # Nearness is a product of one along the rows and one along the columns, and so is being inside the box.
        near = []
        for axis, index in enumerate(_grid(self.center)):
            away, low, high = (values[..., axis, None] for values in (guessed, first[:, :, None], last[:, :, None]))
            index = index.flatten()
            reach = torch.exp(-(index - away).square() / (_REACH * min(rows, columns)))
            near.append(reach * ((index >= low) & (index < high)))
        weighted = self.heat.sigmoid()[:, None] * near[0][..., :, None] * near[1][..., None, :]

        place = weighted.flatten(3).argmax(3)
        # A place's confidence is the one it has for whomever it suits best.
        best = weighted.flatten(3).amax(1, keepdim=True).expand(-1, MAX_PEOPLE, -1, -1)
        confidence = best.gather(3, place[..., None])
        offset = _own(self.offset.unflatten(1, (KEYPOINTS, 2))[:, None].expand(-1, MAX_PEOPLE, -1, -1, -1, -1), place)
        found = (_cell(place, columns) + offset) / size

        counts = confidence[..., 0] > _COUNTS
        mean = (confidence[..., 0] * counts).sum(2) / counts.sum(2).clamp(min=1)
        return SeveralPeople(
            likelihood=likelihood,
            score=likelihood * mean,
            boxes=torch.cat([(first / size).flip(-1), (last / size).flip(-1)], dim=-1).clamp(0, 1),
            keypoints=torch.cat([found.flip(-1), confidence], dim=-1),
        )


_PEAK, _SAME = 5, 1e-6
_REACH = 0.3
_COUNTS = 0.127
"""Confidence of a keypoint from which on it counts for the score."""


@dataclass(frozen=True)
class SeveralPeople:
    """People in a picture, coordinates in [0, 1] of its sides (keypoints may lie outside)."""

    likelihood: Float[Tensor, "batch 6"]
    """In [0, 1]: of their middles."""
    score: Float[Tensor, "batch 6"]
    """In [0, 1], the published one: ``likelihood`` times the mean confidence of keypoints that are not hopeless."""
    boxes: Float[Tensor, "batch 6 4"]
    """x0, y0, x1, y1."""
    keypoints: Float[Tensor, "batch 6 17 3"]
    """x, y, confidence."""


class MoveNetMultiPose(_MoveNet):
    """Up to six people in a picture whose sides are multiples of 32 pixels."""

    def __init__(self) -> None:
        points = {"heat": KEYPOINTS, "regressed": 2 * KEYPOINTS, "offset": 2 * KEYPOINTS}
        super().__init__(1.5, {"center": 1, "scale": 2, "box_offset": 2, **points})

    def forward(self, image: Float[Tensor, "batch 3 height width"]) -> MultiPoseHeads:
        """Heads' answers; `MultiPoseHeads.people` reads them."""
        return MultiPoseHeads(**self._answers(self.trunk.feature_maps(image)))


class _Convolution(nn.Module):
    """A convolution and, where it is one of the trunk's inner ones, its activation; padded as TensorFlow does."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, rectified: bool = True
    ) -> None:
        super().__init__()
        self.rectified = rectified
        self.behind = kernel // 2 if stride == 2 else 0
        padding = 0 if self.behind else kernel // 2
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs rows columns"]:
        if self.behind:  # what is halved is padded after the last, not before the first
            x = pad(x, (0, self.behind, 0, self.behind))
        x = self.convolution(x)
        return relu6(x) if self.rectified else x


class _InvertedResidual(nn.Module):
    """Wider, each number in its neighbourhood, narrower; a shortcut where shapes allow."""

    def __init__(self, inputs: int, inside: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = inputs * inside
        self.residual = nn.Sequential(
            *([_Convolution(inputs, wide)] if inside > 1 else []),
            _Convolution(wide, wide, kernel=3, stride=stride, groups=wide),
            _Convolution(wide, outputs, rectified=False),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs rows columns"]:
        return x + self.residual(x) if self.shortcut else self.residual(x)


def _separable(inputs: int, outputs: int) -> nn.Sequential:
    """Each number in its neighbourhood, then all numbers of a place together."""
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False), nn.Conv2d(inputs, outputs, 1), nn.ReLU()
    )


def _head(outputs: int) -> nn.Sequential:
    return nn.Sequential(_separable(_PYRAMID[-1], _HEAD_WIDTH), nn.Conv2d(_HEAD_WIDTH, outputs, 1))


def _widened(width: int, multiplier: float) -> int:
    """To a multiple of 8 (MobileNetV2's rule)."""
    return int(width * multiplier + 4) // 8 * 8


def _grid(like: Float[Tensor, "batch _ rows columns"]) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, " columns"]]:
    """Indices of rows and of columns."""
    rows, columns = like.shape[2:]
    return torch.arange(rows).to(like)[:, None], torch.arange(columns).to(like)


def _cell(place: Int[Tensor, "*batch"], columns: int) -> Int[Tensor, "*batch 2"]:
    """Row and column of a place counted along the rows."""
    return torch.stack([place // columns, place % columns], dim=-1)


def _at(
    values: Float[Tensor, "batch numbers rows columns"], place: Int[Tensor, "batch *some"]
) -> Float[Tensor, "batch *some numbers"]:
    """All numbers at places of each picture."""
    flat = values.flatten(2)
    index = place.reshape(len(place), 1, -1).expand(-1, flat.shape[1], -1)
    return flat.gather(2, index).transpose(1, 2).reshape(*place.shape, -1)


def _own(
    values: Float[Tensor, "*batch points 2 rows columns"], place: Int[Tensor, "*batch points"]
) -> Float[Tensor, "*batch points 2"]:
    """Each point's own two numbers, at its own place."""
    flat = values.flatten(-2)
    return flat.gather(-1, place[..., None, None].expand(*flat.shape[:-1], 1))[..., 0]
