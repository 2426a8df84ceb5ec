"""The trunk of BlazePose's landmark network (Bazarevsky et al., 2020): a crop in; maps, or features, out.

The free counterpart of an ImageNet backbone: MediaPipe publishes the weights under the Apache License 2.0, and they are
in this package, for `kouros.detection`. They have seen people in photos, which a network that learns from synthetic
people alone has not. Here they can be trained on, and run wherever torch does.

The layers are those of MediaPipe's file: inverted residuals (Sandler et al., CVPR 2018) down to a 32nd of the picture,
the depthwise convolutions partly of 5 x 5; then separable residuals down to 2 x 2 places. Batch normalisation
was folded into the weights by those who published them, so that nothing here depends on the batch.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d, pad, relu6

from kouros.networks.backbone import BackboneNetwork, PublishedWeights, require_sides

INPUT_SIZE = 256
"""Side of the crops that the weights were made for, pixels."""
_LANDMARK_NUMBERS = 195
_HEAD_WIDTH = 288
_PLACES = 2 * 2
_COARSEST = 32
"""Stride of the last map, pixels."""


@dataclass(frozen=True)
class _Stage:
    """Inverted residuals of one width: the first without shortcut, and with the stage's stride."""

    width: int
    expanded: tuple[int, ...]
    """Of each block: numbers between its two pointwise convolutions."""
    kernels: tuple[int, ...]
    """Of each block: side of its depthwise convolution."""
    stride: int


_STAGES = (
    _Stage(24, (64, 144), (3, 3), 2),
    _Stage(32, (144, 192), (5, 5), 2),
    _Stage(64, (192, 384, 384), (3, 3, 3), 2),
    _Stage(88, (384, 528, 528), (5, 5, 5), 1),
    _Stage(144, (528, 864, 864, 864), (5, 5, 5, 5), 2),
)
_STEM, _NARROWED, _WIDEST = 24, 16, 864
_HEAD_STRIDES = (2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1)


class BlazePoseTrunk(BackboneNetwork):
    """The network as far as its regressed landmarks' last layer; weights are random until `load_tflite`."""

    name = "blazepose"
    num_features = _HEAD_WIDTH * _PLACES
    weights = PublishedWeights(
        made="by Google for MediaPipe 0.10.21 (pose_landmark_full) on its own photos of people",
        licence="Apache License 2.0",
    )

    def __init__(self) -> None:
        super().__init__()
        self.channels = {4: 24, 8: 32, 16: 88, 32: _HEAD_WIDTH}
        self.stem = nn.Sequential(
            nn.Conv2d(3, _STEM, 3, stride=2, padding=1), nn.ReLU6(), *_depthwise(_STEM, 3), _pointwise(_STEM, _NARROWED)
        )
        blocks: list[nn.Module] = []
        width = _NARROWED
        for stage in _STAGES:
            for number, (expanded, kernel) in enumerate(zip(stage.expanded, stage.kernels, strict=True)):
                blocks.append(_InvertedResidual(width, expanded, stage.width, kernel, 1 if number else stage.stride))
                width = stage.width
        self.blocks = nn.Sequential(*blocks)
        self.widen = nn.Sequential(_pointwise(width, _WIDEST), nn.ReLU6(), *_depthwise(_WIDEST, 3))
        self.narrow = nn.Sequential(*_depthwise(_WIDEST, 3), _pointwise(_WIDEST, _HEAD_WIDTH), nn.ReLU6())
        self.head = nn.Sequential(*(_SeparableResidual(_HEAD_WIDTH, stride) for stride in _HEAD_STRIDES))

    def forward(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 1152"]:
        """Features of RGB crops in [0, 1], of all four quarters of the picture; other sizes are brought to 256."""
        return self.look_again(self.first_look(image))

    def first_look(self, image: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch 288 8 8"]:
        """The layers as far as a 32nd of the picture, which see what is where."""
        if image.shape[-1] != INPUT_SIZE:
            image = interpolate(image, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", antialias=True)
        return self.feature_maps(image)[_COARSEST]

    def feature_maps(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> dict[int, Float[Tensor, "batch _ rows columns"]]:
        """The last result at each stride, of RGB pictures in [0, 1] of any size.

        Raises:
            ValueError: a side is no multiple of 32 pixels.
        """
        require_sides(image, _COARSEST)
        maps = {}
        x = self.stem(image)
        for block in self.blocks:
            x = block(x)
            maps[image.shape[-1] // x.shape[-1]] = x
        maps[_COARSEST] = self.narrow(self.widen(x))
        return maps

    def look_again(self, seen: Float[Tensor, "batch 288 8 8"]) -> Float[Tensor, "batch 1152"]:
        """The layers after those: a third of the weights, a fortieth of the work."""
        return self.head(seen).flatten(1)

    def load_tflite(self, model: bytes) -> None:
        """Take over the weights of MediaPipe's landmark model, "full".

        Args:
            model: contents of the ``.tflite`` file; the package's are
                ``kouros.detection.model_files.packaged_models().landmarks``.

        Raises:
            ValueError: not such a file.
            ImportError: flatbuffers, which reads it, is not installed.
        """
        # Here, because only this needs the package flatbuffers.
        from kouros.networks.tflite_weights import convolutions, take_over

        *theirs, _answer = convolutions(model, _LANDMARK_NUMBERS)
        take_over(
            self,
            theirs,
            "expected pose_landmark_full.tflite, or pose_landmarks_detector.tflite out of pose_landmarker_full.task",
        )


class _InvertedResidual(nn.Module):
    """Wider, each number in its neighbourhood, narrower; a shortcut where shapes allow."""

    def __init__(self, inputs: int, expanded: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            _pointwise(inputs, expanded),
            nn.ReLU6(),
            *_depthwise(expanded, kernel, stride),
            _pointwise(expanded, outputs),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "batch inputs height width"]) -> Float[Tensor, "batch outputs rows columns"]:
        """The block's sum of shortcut, where there is one, and residual."""
        return self.residual(x) + x if self.shortcut else self.residual(x)


class _SeparableResidual(nn.Module):
    """A separable convolution and a shortcut, which is pooled where the convolution has a stride."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(width, width, 3, stride, padding=2 - stride, groups=width)
        self.pointwise = _pointwise(width, width)

    def forward(self, x: Float[Tensor, "batch numbers height width"]) -> Float[Tensor, "batch numbers rows columns"]:
        """The rectified sum of shortcut and residual."""
        shortcut = x if self.stride == 1 else max_pool2d(x, self.stride)
        if self.stride != 1:  # as TensorFlow pads what is halved: after the last, not before the first
            x = pad(x, (0, 1, 0, 1))
        return relu6(shortcut + self.pointwise(relu6(self.depthwise(x))))


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1)


def _depthwise(width: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(width, width, kernel, stride, padding=kernel // 2, groups=width), nn.ReLU6()
