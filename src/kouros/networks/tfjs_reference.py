"""What a TensorFlow.js graph computes, operator by operator in numpy: slow, plain, the judge of its conversions.

Semantics are those of TensorFlow's operators of the same names; only what MoveNet's graphs need is here.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from kouros.networks.tfjs_graph import Graph, Node, source_of


def evaluate(graph: Graph, image: np.ndarray, *, outputs: tuple[str, ...] | None = None) -> list[np.ndarray]:
    """Run the graph on its one input.

    Args:
        image: in the shape and number type that the graph takes.
        outputs: names of the nodes whose first output is wanted; default: the graph's outputs.

    Raises:
        ValueError: the graph has an operator that is not known here, or not one input.
    """
    if len(graph.inputs) != 1:
        raise ValueError(f"the graph has the inputs {', '.join(graph.inputs) or 'none'}; expected one.")
    values: dict[str, list[np.ndarray]] = {name: [array] for name, array in graph.constants.items()}
    values[graph.inputs[0]] = [image]
    for node in graph.nodes:
        if node.name in values:
            continue
        if node.op not in _OPERATORS:
            raise ValueError(f"the operator {node.op} of {node.name} is not known here.")
        given = [values[name][number] for name, number in map(source_of, node.inputs)]
        # What is not a number (0 / 0, an overflow of exp) is TensorFlow's answer too, not an error.
        with np.errstate(all="ignore"):
            result = _OPERATORS[node.op](node, *given)
        # numpy makes numbers of arrays without axes.
        values[node.name] = [np.asarray(array) for array in (result if isinstance(result, list) else [result])]
    return [values[name][0] for name in outputs or graph.outputs]


def _convolution(node: Node, image: np.ndarray, kernel: np.ndarray, *more: np.ndarray) -> np.ndarray:
    windows = _windows(node, image, kernel.shape[:2], 0.0)
    taps = windows.reshape(*windows.shape[:3], -1)
    return _finished(node, taps @ kernel.reshape(-1, kernel.shape[-1]), more)


def _depthwise(node: Node, image: np.ndarray, kernel: np.ndarray, *more: np.ndarray) -> np.ndarray:
    if kernel.shape[-1] != 1:
        raise ValueError(f"{node.name} makes {kernel.shape[-1]} numbers of each, which is not known here.")
    windows = _windows(node, image, kernel.shape[:2], 0.0)
    taps = np.ndindex(*kernel.shape[:2])
    return _finished(node, sum(windows[..., row, column, :] * kernel[row, column, :, 0] for row, column in taps), more)


def _finished(node: Node, result: np.ndarray, more: tuple[np.ndarray, ...]) -> np.ndarray:
    """What is fused to a convolution: a bias, and an activation."""
    remaining = list(more)
    for step in node.attributes.get("fused_ops", ()) or ():  # type: ignore[union-attr]
        if step == "BiasAdd":
            result = result + remaining.pop(0)
        elif step == "Relu":
            result = np.maximum(result, 0)
        elif step == "Relu6":
            result = np.clip(result, 0, 6)
        else:
            raise ValueError(f"{step}, fused to {node.name}, is not known here.")
    return result


def _max_pool(node: Node, image: np.ndarray) -> np.ndarray:
    size = node.numbers("ksize")[1:3]
    return _windows(node, image, size, -np.inf).max((3, 4))


def _windows(
    node: Node, image: np.ndarray, size: tuple[int, ...], outside: float
) -> Float[np.ndarray, "batch rows columns high wide channels"]:
    """The neighbourhood of each place of the result: padded (SAME; what is odd, behind) or not (VALID)."""
    padding = node.attributes.get("padding")
    if padding not in ("SAME", "VALID") or node.attributes.get("data_format") != "NHWC":
        raise ValueError(f"{node.op} {node.name} is padded as {padding}, or not in the order NHWC: not known here.")
    if "dilations" in node.attributes and set(node.numbers("dilations")) != {1}:
        raise ValueError(f"{node.op} {node.name} is dilated, which is not known here.")
    strides = node.numbers("strides")[1:3]
    if padding == "SAME":
        around = [(0, 0)]
        for length, window, stride in zip(image.shape[1:3], size, strides, strict=True):
            missing = max((-(-length // stride) - 1) * stride + window - length, 0)
            around.append((missing // 2, missing - missing // 2))
        image = np.pad(image, [*around, (0, 0)], constant_values=outside)
    windows = np.lib.stride_tricks.sliding_window_view(image, size, (1, 2))[:, :: strides[0], :: strides[1]]
    return np.moveaxis(windows, 3, -1)


def _resize_bilinear(node: Node, image: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Pixels are squares whose centres count (`half_pixel_centers`)."""
    if node.attributes.get("align_corners") or not node.attributes.get("half_pixel_centers"):
        raise ValueError(f"{node.name} resizes in another way than between the centres of pixels.")
    for axis, wanted in zip((1, 2), size.tolist(), strict=True):
        length = image.shape[axis]
        place = (np.arange(wanted) + 0.5) * (length / wanted) - 0.5
        low = np.floor(place)
        share = (place - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(4)])
        first, second = (np.clip(low + step, 0, length - 1).astype(np.int64) for step in (0, 1))
        image = np.take(image, first, axis) * (1 - share) + np.take(image, second, axis) * share
    return image


def _strided_slice(
    node: Node, array: np.ndarray, begin: np.ndarray, end: np.ndarray, strides: np.ndarray
) -> np.ndarray:
    """Python's slicing, written as bits: bit k of a mask is about the k-th entry of the index."""
    masks = {
        name: int(node.attributes.get(f"{name}_mask", 0) or 0)  # type: ignore[arg-type]
        for name in ("begin", "end", "new_axis", "shrink_axis", "ellipsis")
    }
    index: list[slice | int | None] = []
    for k, (first, last, stride) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
        if masks["ellipsis"] >> k & 1:
            raise ValueError(f"the ellipsis of {node.name} is not known here.")
        if masks["new_axis"] >> k & 1:
            index.append(None)
        elif masks["shrink_axis"] >> k & 1:
            index.append(first)
        else:
            index.append(
                slice(None if masks["begin"] >> k & 1 else first, None if masks["end"] >> k & 1 else last, stride)
            )
    return np.asarray(array[tuple(index)])


def _top(node: Node, array: np.ndarray, count: np.ndarray) -> list[np.ndarray]:
    """The largest of the last axis, in order; of equals, the first one first."""
    order = np.argsort(-array, axis=-1, kind="stable")[..., : int(count)].astype(np.int32)
    return [np.take_along_axis(array, order, -1), order]


def _gather(node: Node, array: np.ndarray, indices: np.ndarray) -> np.ndarray:
    return array[tuple(np.moveaxis(indices, -1, 0))]


def _unpack(node: Node, array: np.ndarray) -> list[np.ndarray]:
    return list(np.moveaxis(array, _integer(node, "axis"), 0))


def _select(node: Node, condition: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(condition, a, b)


def _split(node: Node, axis: np.ndarray, array: np.ndarray) -> list[np.ndarray]:
    return list(np.split(array, _integer(node, "num_split"), int(axis)))


def _squeeze(node: Node, array: np.ndarray) -> np.ndarray:
    return np.squeeze(array, node.numbers("squeeze_dims"))


def _cast(node: Node, array: np.ndarray) -> np.ndarray:
    kinds = {"DT_FLOAT": np.float32, "DT_INT32": np.int32, "DT_BOOL": np.bool_}
    return array.astype(kinds[str(node.attributes["DstT"])])


def _shape(node: Node, array: np.ndarray) -> np.ndarray:
    return np.array(array.shape, np.int32)


def _integer(node: Node, attribute: str) -> int:
    value = node.attributes.get(attribute)
    if not isinstance(value, int):
        raise ValueError(f"{attribute!r} of {node.op} {node.name} is {value!r}; expected a whole number.")
    return value


_OPERATORS: dict[str, Callable[..., np.ndarray | list[np.ndarray]]] = {
    "_FusedConv2D": _convolution,
    "FusedDepthwiseConv2dNative": _depthwise,
    "DepthwiseConv2dNative": _depthwise,
    "MaxPool": _max_pool,
    "ResizeBilinear": _resize_bilinear,
    "Identity": lambda node, a: a,
    "Cast": _cast,
    # Arithmetic, place by place.
    "Abs": lambda node, a: np.abs(a),
    "Exp": lambda node, a: np.exp(a),
    "Sqrt": lambda node, a: np.sqrt(a),
    "Reciprocal": lambda node, a: 1 / a,
    "Sigmoid": lambda node, a: 1 / (1 + np.exp(-a)),
    "AddV2": lambda node, a, b: a + b,
    "AddN": lambda node, first, *others: sum(others, first),
    "Sub": lambda node, a, b: a - b,
    "Mul": lambda node, a, b: a * b,
    "RealDiv": lambda node, a, b: a / b,
    "FloorDiv": lambda node, a, b: a // b,
    "SquaredDifference": lambda node, a, b: np.square(a - b),
    "Minimum": lambda node, a, b: np.minimum(a, b),
    "Maximum": lambda node, a, b: np.maximum(a, b),
    "Less": lambda node, a, b: a < b,
    "Greater": lambda node, a, b: a > b,
    "GreaterEqual": lambda node, a, b: a >= b,
    "Equal": lambda node, a, b: a == b,
    "LogicalAnd": lambda node, a, b: a & b,
    "Select": _select,
    # Along axes.
    "ArgMax": lambda node, a, axis: a.argmax(int(axis)).astype(np.int32),
    "Max": lambda node, a, axes: a.max(_axes(axes), keepdims=_keeps(node)),
    "Sum": lambda node, a, axes: a.sum(_axes(axes), keepdims=_keeps(node)),
    "TopKV2": _top,
    # Shapes, and what is put together or taken apart.
    "Shape": _shape,
    "Size": lambda node, a: np.array(a.size, np.int32),
    "Reshape": lambda node, a, shape: a.reshape(shape),
    "ExpandDims": lambda node, a, axis: np.expand_dims(a, int(axis)),
    "Squeeze": _squeeze,
    "Pack": lambda node, *parts: np.stack(parts, _integer(node, "axis")),
    "Unpack": _unpack,
    "ConcatV2": lambda node, *parts: np.concatenate(parts[:-1], int(parts[-1])),
    "Split": _split,
    "Tile": lambda node, a, times: np.tile(a, times),
    "Fill": lambda node, shape, a: np.full(shape, a),
    "Range": lambda node, start, end, step: np.arange(float(start), float(end), float(step)).astype(start.dtype),
    "StridedSlice": _strided_slice,
    "GatherNd": _gather,
}


def _axes(axes: np.ndarray) -> tuple[int, ...]:
    return tuple(np.atleast_1d(axes).tolist())


def _keeps(node: Node) -> bool:
    return bool(node.attributes.get("keep_dims"))
