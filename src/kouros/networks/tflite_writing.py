"""TensorFlow Lite files of convolutional networks, written field by field; the same network gives the same bytes."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from flatbuffers import Builder

from kouros.networks import tflite_format as tfl

_TYPE_OF = {dtype: number for number, dtype in tfl.NUMBER_TYPES.items()}
_ALIGNMENT = 16
"""Of weights in the file, bytes: as the schema demands, so that they can be used where they lie."""

Activation = Literal["none", "relu", "relu6"]
_ACTIVATIONS: dict[Activation, int] = {"none": 0, "relu": 1, "relu6": 3}
_SAME_PADDING = 0

Field = tuple[int, Callable[[Builder, int, int, int], None], int]
"""Of a table: its number, how its kind of value is written, the value."""
_BYTE, _BOOL = Builder.PrependInt8Slot, Builder.PrependBoolSlot
_INT, _UINT = Builder.PrependInt32Slot, Builder.PrependUint32Slot
_PLACE = Builder.PrependUOffsetTRelativeSlot


@dataclass(frozen=True)
class _Kind:
    """An operator of the format: its number, the first version that can do what is asked, its options' number."""

    code: int
    version: int = 1
    options: int = 0


_ADD, _CONV, _DEPTHWISE = _Kind(tfl.ADD, options=11), _Kind(tfl.CONV, options=1), _Kind(tfl.DEPTHWISE, options=2)
_RESIZE = _Kind(tfl.RESIZE_BILINEAR, version=3, options=15)
"""From this version on, pixels are squares whose centres count."""
_WIDEN = _Kind(tfl.DEQUANTIZE, version=3)
"""From this version on, it widens half-precision numbers."""


@dataclass(frozen=True)
class Operator:
    """One step of a network. Tensors go by names."""

    kind: _Kind
    inputs: tuple[str, ...]
    output: str
    options: tuple[Field, ...] = ()


def convolution(image: str, kernel: str, bias: str, output: str, stride: int, activation: Activation) -> Operator:
    """A convolution, its kernel stored as (outputs, rows, columns, inputs), padded where its results would be fewer."""
    options = ((0, _BYTE, _SAME_PADDING), (1, _INT, stride), (2, _INT, stride), (3, _BYTE, _ACTIVATIONS[activation]))
    return Operator(_CONV, (image, kernel, bias), output, options)


def depthwise(image: str, kernel: str, bias: str, output: str, stride: int, activation: Activation) -> Operator:
    """The same of each number by itself, its kernel stored as (1, rows, columns, numbers)."""
    once, active = (3, _INT, 1), (4, _BYTE, _ACTIVATIONS[activation])
    options = ((0, _BYTE, _SAME_PADDING), (1, _INT, stride), (2, _INT, stride), once, active)
    return Operator(_DEPTHWISE, (image, kernel, bias), output, options)


def add(a: str, b: str, output: str) -> Operator:
    """The sum of two."""
    return Operator(_ADD, (a, b), output)


def resize_bilinear(image: str, size: str, output: str) -> Operator:
    """An image at another size (rows, columns), between the centres of pixels."""
    return Operator(_RESIZE, (image, size), output, ((2, _BOOL, False), (3, _BOOL, True)))


def tflite_bytes(
    shapes: Mapping[str, tuple[int, ...]],
    constants: Mapping[str, np.ndarray],
    operators: Sequence[Operator],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> bytes:
    """The file of a network.

    Args:
        shapes: of the inputs and of all that is computed: float32.
        constants: weights, float32 or float16, which a step of its own then widens; sizes, int32.
    """
    builder = Builder(1 << 16)
    tensors = _Tensors(builder)
    steps: list[Operator] = []
    for name, array in constants.items():
        if array.dtype == np.float16:
            half = f"{name}/half"
            tensors.add(half, array.shape, array)
            steps.append(Operator(_WIDEN, (half,), name))
        tensors.add(name, array.shape, None if array.dtype == np.float16 else array)
    for name, shape in shapes.items():
        tensors.add(name, shape, None)
    steps += operators
    kinds = list(dict.fromkeys(step.kind for step in steps))
    graph = _table(
        builder,
        (tfl.GRAPH_TENSORS, _PLACE, _places(builder, tensors.tables)),
        (tfl.GRAPH_INPUTS, _PLACE, tensors.numbers(inputs)),
        (tfl.GRAPH_OUTPUTS, _PLACE, tensors.numbers(outputs)),
        (tfl.GRAPH_OPERATORS, _PLACE, _places(builder, [_step(builder, step, kinds, tensors) for step in steps])),
    )
    model = _table(
        builder,
        (tfl.MODEL_VERSION, _UINT, tfl.SCHEMA_VERSION),
        (tfl.MODEL_CODES, _PLACE, _places(builder, [_code(builder, kind) for kind in kinds])),
        (tfl.MODEL_GRAPHS, _PLACE, _places(builder, [graph])),
        (tfl.MODEL_BUFFERS, _PLACE, _places(builder, tensors.buffers)),
    )
    builder.Finish(model, tfl.IDENTIFIER)
    return bytes(builder.Output())


class _Tensors:
    """The tensors written so far, and their buffers; the first buffer is, by convention, the empty one."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self._numbers: dict[str, int] = {}
        self.tables: list[int] = []
        self.buffers = [_table(builder)]

    def add(self, name: str, shape: tuple[int, ...], content: np.ndarray | None) -> None:
        """A tensor with that content, or one that is computed."""
        if content is not None:
            self.buffers.append(_buffer(self._builder, content))
        kind = np.dtype(np.float32) if content is None else content.dtype
        table = _table(
            self._builder,
            (tfl.TENSOR_SHAPE, _PLACE, _integers(self._builder, shape)),
            (tfl.TENSOR_TYPE, _BYTE, _TYPE_OF[kind]),
            (tfl.TENSOR_BUFFER, _UINT, 0 if content is None else len(self.buffers) - 1),
            (tfl.TENSOR_NAME, _PLACE, self._builder.CreateString(name)),
        )
        self._numbers[name] = len(self.tables)
        self.tables.append(table)

    def numbers(self, names: Sequence[str]) -> int:
        """A list of tensors, in the file."""
        return _integers(self._builder, [self._numbers[name] for name in names])


def _step(builder: Builder, step: Operator, kinds: list[_Kind], tensors: _Tensors) -> int:
    fields: list[Field] = [
        (tfl.OPERATOR_CODE, _UINT, kinds.index(step.kind)),
        (tfl.OPERATOR_INPUTS, _PLACE, tensors.numbers(step.inputs)),
        (tfl.OPERATOR_OUTPUTS, _PLACE, tensors.numbers([step.output])),
    ]
    if step.options:
        fields.append((tfl.OPERATOR_OPTIONS_TYPE, _BYTE, step.kind.options))
        fields.append((tfl.OPERATOR_OPTIONS, _PLACE, _table(builder, *step.options)))
    return _table(builder, *fields)


def _code(builder: Builder, kind: _Kind) -> int:
    # The number stands twice: in a byte for old readers, in an integer for new ones.
    version = (tfl.CODE_VERSION, _INT, kind.version)
    return _table(builder, (tfl.CODE_OLD, _BYTE, kind.code), version, (tfl.CODE_NEW, _INT, kind.code))


def _buffer(builder: Builder, array: np.ndarray) -> int:
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    builder.StartVector(1, len(data), _ALIGNMENT)
    end = builder.Head()
    builder.head = end - len(data)
    builder.Bytes[builder.head : end] = data
    return _table(builder, (tfl.BUFFER_DATA, _PLACE, builder.EndVector()))


def _integers(builder: Builder, numbers: Sequence[int]) -> int:
    builder.StartVector(4, len(numbers), 4)
    for number in reversed(numbers):
        builder.PrependInt32(number)
    return int(builder.EndVector())


def _places(builder: Builder, tables: Sequence[int]) -> int:
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    return int(builder.EndVector())


def _table(builder: Builder, *fields: Field) -> int:
    """A table of those fields; what they point to is in the file already, as the format demands."""
    builder.StartObject(1 + max((number for number, _, _ in fields), default=-1))
    for number, write, value in fields:
        write(builder, number, value, 0)
    return int(builder.EndObject())


def resized(model: bytes, rows: int, columns: int) -> bytes:
    """The same network for a picture of another size: all that grows with the picture is written over.

    For a network that is nothing but convolutions, sums and resizing. `Interpreter.resize_tensor_input` would do
    without the sizes that it resizes to, which are constants in the file.

    Args:
        rows: as many times the size in the file as makes every map's size a whole number.

    Raises:
        ValueError: the file is damaged, or a map's size would be no whole number.
    """
    copy = bytearray(model)
    try:
        network = tfl.Network.read(copy)
        (picture,) = network.inputs
        wanted, given = np.array([rows, columns]), network.shape(picture)[1:3].copy()
        maps, sizes = {picture}, []
        for operator, kind in zip(network.operators, network.kinds, strict=True):
            if kind != tfl.DEQUANTIZE:  # which makes weights, not maps
                maps.update(operator.integers(tfl.OPERATOR_OUTPUTS).tolist())
            if kind == tfl.RESIZE_BILINEAR:
                sizes.append(network.constant(int(operator.integers(tfl.OPERATOR_INPUTS)[1])))
        sizes += [network.shape(tensor)[1:3] for tensor in maps]
    except tfl.DAMAGED as error:
        raise ValueError(f"the TensorFlow Lite model is damaged ({error!r}).") from error
    for size in sizes:
        if size is None or (size * wanted % given).any():
            raise ValueError(f"the network cannot be had for {rows} x {columns} pixels.")
        size[:] = size * wanted // given
    return bytes(copy)


def answering_too(model: bytes, shapes: Sequence[tuple[int, ...]]) -> bytes:
    """The same network, whose answers are followed by maps from within: of each shape the last that it computes.

    Raises:
        ValueError: the file is damaged, or the network computes no such map.
    """
    copy = bytearray(model)
    try:
        network = tfl.Network.read(copy)
        computed = [int(tensor) for operator in network.operators for tensor in operator.integers(tfl.OPERATOR_OUTPUTS)]
        of_shape = {tuple(network.shape(tensor).tolist()): tensor for tensor in computed}
        missing = [shape for shape in shapes if shape not in of_shape]
        if missing:
            raise ValueError(f"the network computes no map of shape {missing[0]}.")
        answers = [*network.outputs, *(of_shape[shape] for shape in shapes)]
        place = tfl.Fields.root(copy).tables(tfl.MODEL_GRAPHS)[0].place(tfl.GRAPH_OUTPUTS)
    except tfl.DAMAGED as error:
        raise ValueError(f"the TensorFlow Lite model is damaged ({error!r}).") from error
    # A list stands anywhere behind the place that points to it: the longer one goes to the end of the file.
    copy += bytes(-len(copy) % 4)
    struct.pack_into("<I", copy, place, len(copy) - place)
    return bytes(copy + struct.pack(f"<{1 + len(answers)}i", len(answers), *answers))
