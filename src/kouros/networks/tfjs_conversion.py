"""A convolutional network out of a TensorFlow.js graph as a TensorFlow Lite file, which LiteRT runs.

The part between one node and some others, of convolutions, sums and bilinear resizing. Both formats are TensorFlow's:
order of axes, padding and activations mean the same. Weights stay in half precision, as they are published.
"""

from collections.abc import Sequence

import numpy as np

from kouros.networks import tflite_writing
from kouros.networks.tfjs_graph import Graph, Node
from kouros.networks.tflite_writing import Activation, Operator, tflite_bytes

_ACTIVATION: dict[tuple[str, ...], Activation] = {
    (): "none", ("BiasAdd",): "none", ("BiasAdd", "Relu"): "relu", ("BiasAdd", "Relu6"): "relu6",
}  # fmt: skip


def convert(graph: Graph, source: str, outputs: Sequence[str], input_shape: tuple[int, int, int, int]) -> bytes:
    """The network from one node's result, a float32 picture, to those of others; the same bytes each time.

    Args:
        source: the node whose result becomes the input.
        outputs: nodes whose results become the outputs, in this order.
        input_shape: of the picture: 1, rows, columns, numbers a pixel.

    Raises:
        ValueError: an operator on the way is not known here, or a weight is no half-precision number.
    """
    conversion = _Conversion(graph, source, input_shape)
    for node in graph.between(source, outputs):
        conversion.add(node)
    return tflite_bytes(conversion.shapes, conversion.constants, conversion.operators, [source], outputs)


class _Conversion:
    """What has been converted so far."""

    def __init__(self, graph: Graph, source: str, input_shape: tuple[int, int, int, int]) -> None:
        self.graph = graph
        self.shapes: dict[str, tuple[int, ...]] = {source: input_shape}
        self.constants: dict[str, np.ndarray] = {}
        self.operators: list[Operator] = []

    def add(self, node: Node) -> None:
        if node.op == "_FusedConv2D":
            self._convolution(node)
        elif node.op in ("FusedDepthwiseConv2dNative", "DepthwiseConv2dNative"):
            self._depthwise(node)
        elif node.op == "AddV2":
            a, b = self._computed(node, 0), self._computed(node, 1)
            self.operators.append(tflite_writing.add(a, b, node.name))
            self.shapes[node.name] = self.shapes[a]
        elif node.op == "ResizeBilinear":
            self._resize(node)
        elif node.op not in ("Shape", "StridedSlice", "Mul"):  # which compute the size to resize to
            raise ValueError(f"the operator {node.op} of {node.name} cannot be converted.")

    def _convolution(self, node: Node) -> None:
        image = self._computed(node, 0)
        kernel = self._weight(node, 1)
        name = self._keep(node.inputs[1], kernel.transpose(3, 0, 1, 2))
        bias = self._bias(node, kernel.shape[3])
        stride = self._place(node, image, kernel.shape[3], kernel.shape[0])
        self.operators.append(tflite_writing.convolution(image, name, bias, node.name, stride, _activation(node)))

    def _depthwise(self, node: Node) -> None:
        image = self._computed(node, 0)
        kernel = self._weight(node, 1)
        name = self._keep(node.inputs[1], kernel.transpose(3, 0, 1, 2))
        bias = self._bias(node, kernel.shape[2])
        stride = self._place(node, image, kernel.shape[2], kernel.shape[0])
        self.operators.append(tflite_writing.depthwise(image, name, bias, node.name, stride, _activation(node)))

    def _resize(self, node: Node) -> None:
        """To twice the size, which the graph may compute and the file states."""
        if node.attributes.get("align_corners") or not node.attributes.get("half_pixel_centers"):
            raise ValueError(f"{node.name} resizes in another way than between the centres of pixels.")
        image = self._computed(node, 0)
        batch, rows, columns, width = self.shapes[image]
        size = np.array([2 * rows, 2 * columns], np.int32)
        stated = self.graph.constants.get(node.inputs[1])
        if stated is not None and stated.tolist() != size.tolist():
            raise ValueError(f"{node.name} resizes {rows} x {columns} to {stated.tolist()}; expected twice that.")
        name = self._keep(f"{node.name}/size", size)
        self.operators.append(tflite_writing.resize_bilinear(image, name, node.name))
        self.shapes[node.name] = (batch, 2 * rows, 2 * columns, width)

    def _computed(self, node: Node, number: int) -> str:
        name = node.inputs[number]
        if name not in self.shapes:
            raise ValueError(f"{node.op} {node.name} reads {name}, which is not computed from the picture.")
        return name

    def _weight(self, node: Node, number: int) -> np.ndarray:
        name = node.inputs[number]
        if name not in self.graph.constants:
            raise ValueError(f"the weights {name} of {node.op} {node.name} are computed; expected constants.")
        weight = self.graph.constants[name]
        half = weight.astype(np.float16)
        if not np.array_equal(half.astype(np.float32), weight):
            raise ValueError(f"the weights {name} are no half-precision numbers, as which they would be stored.")
        return half

    def _bias(self, node: Node, width: int) -> str:
        if "BiasAdd" in _fused(node):
            return self._keep(node.inputs[2], self._weight(node, 2))
        return self._keep(f"{node.name}/no_bias", np.zeros(width, np.float16))

    def _keep(self, name: str, constant: np.ndarray) -> str:
        self.constants[name] = constant
        return name

    def _place(self, node: Node, image: str, width: int, kernel: int) -> int:
        """Note the result's shape; returns the stride."""
        strides = set(node.numbers("strides")[1:3])
        padded = node.attributes.get("padding") == "SAME" or kernel == 1  # without neighbours, padding is none
        if len(strides) != 1 or not padded or node.attributes.get("data_format") != "NHWC":
            raise ValueError(f"{node.op} {node.name} is not padded as SAME, or has two strides.")
        (stride,) = strides
        batch, rows, columns, _ = self.shapes[image]
        self.shapes[node.name] = (batch, -(-rows // stride), -(-columns // stride), width)
        return stride


def _fused(node: Node) -> tuple[str, ...]:
    steps = node.attributes.get("fused_ops", ())
    return tuple(str(step) for step in steps) if isinstance(steps, tuple) else ()


def _activation(node: Node) -> Activation:
    steps = _fused(node)
    if steps not in _ACTIVATION:
        raise ValueError(f"{node.name} is fused with {' and '.join(steps)}, which cannot be converted.")
    return _ACTIVATION[steps]
