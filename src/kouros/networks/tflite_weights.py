"""Weights of convolutions in a TensorFlow Lite file, in the order in which the network computes them.

The file is a flat buffer; the field numbers below are those of TensorFlow Lite's published schema (version 3).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from flatbuffers.number_types import Int8Flags, Int32Flags, Uint8Flags, Uint32Flags
from flatbuffers.table import Table
from jaxtyping import Float
from torch import Tensor

_IDENTIFIER = b"TFL3"
_MODEL_CODES, _MODEL_GRAPHS, _MODEL_BUFFERS = 1, 2, 4
_CODE_OLD, _CODE_NEW = 0, 3
_GRAPH_TENSORS, _GRAPH_OUTPUTS, _GRAPH_OPERATORS = 0, 2, 3
_OPERATOR_CODE, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 0, 1, 2
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER = 0, 1, 2
_BUFFER_DATA = 0
_CONV, _DEPTHWISE, _DEQUANTIZE = 3, 4, 6
_NUMBER_TYPES: dict[int, np.dtype] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}


@dataclass(frozen=True)
class Convolution:
    """One layer's weights as torch has them."""

    weight: Float[Tensor, "outputs inputs rows columns"]
    bias: Float[Tensor, " outputs"]


def convolutions(model: bytes, output_size: int) -> list[Convolution]:
    """Those between a model's input and its output of so many numbers, in the order in which they are computed.

    Raises:
        ValueError: not a TensorFlow Lite file, one without such an output, or with weights that are no floats.
    """
    if model[4:8] != _IDENTIFIER:
        raise ValueError("not a TensorFlow Lite model: the file does not begin as one.")
    try:
        return list(_convolutions(model, output_size))
    except (struct.error, IndexError, KeyError, TypeError) as error:  # TypeError: an offset that points before the file
        raise ValueError(f"the TensorFlow Lite model is damaged, or its weights are no floats ({error!r}).") from error


def _convolutions(model: bytes, output_size: int) -> Iterator[Convolution]:
    root = _Fields(Table(bytearray(model), struct.unpack_from("<I", model)[0]))
    codes = [_builtin(code) for code in root.tables(_MODEL_CODES)]
    buffers, graph = root.tables(_MODEL_BUFFERS), root.tables(_MODEL_GRAPHS)[0]
    tensors = graph.tables(_GRAPH_TENSORS)
    operators = graph.tables(_GRAPH_OPERATORS)
    made_by = {o: n for n, operator in enumerate(operators) for o in operator.integers(_OPERATOR_OUTPUTS)}

    wanted = [o for o in graph.integers(_GRAPH_OUTPUTS) if np.prod(tensors[o].integers(_TENSOR_SHAPE)) == output_size]
    if len(wanted) != 1:
        raise ValueError(f"the TensorFlow Lite model has {len(wanted)} outputs of {output_size} numbers, not one.")
    needed: set[int] = set()
    while wanted:
        number = made_by.get(wanted.pop())
        if number is not None and number not in needed:
            needed.add(number)
            wanted += operators[number].integers(_OPERATOR_INPUTS)

    def constant(index: int) -> np.ndarray:
        if index in made_by:  # half precision, which the file stores, widened by an operator of its own
            widening = operators[made_by[index]]
            if codes[widening.integer(_OPERATOR_CODE, Uint32Flags)] != _DEQUANTIZE:
                raise KeyError("weights that are computed")
            (source,) = widening.integers(_OPERATOR_INPUTS)
            return constant(source)
        tensor = tensors[index]
        data = buffers[tensor.integer(_TENSOR_BUFFER, Uint32Flags)].bytes(_BUFFER_DATA)
        numbers = np.frombuffer(data, _NUMBER_TYPES[tensor.integer(_TENSOR_TYPE, Int8Flags)])
        return numbers.reshape(tensor.integers(_TENSOR_SHAPE)).astype(np.float32)

    for number in sorted(needed):
        kind = codes[operators[number].integer(_OPERATOR_CODE, Uint32Flags)]
        if kind in (_CONV, _DEPTHWISE):
            _, kernel, bias = operators[number].integers(_OPERATOR_INPUTS)
            # Stored as (outputs, rows, columns, inputs); depthwise ones as (1, rows, columns, outputs).
            order = (3, 0, 1, 2) if kind == _DEPTHWISE else (0, 3, 1, 2)
            yield Convolution(
                torch.from_numpy(np.ascontiguousarray(constant(kernel).transpose(order))),
                torch.from_numpy(constant(bias)),
            )


def _builtin(code: "_Fields") -> int:
    """Old files have the operator's number in a byte, new ones in an integer; the larger one counts."""
    return max(code.integer(_CODE_OLD, Int8Flags), code.integer(_CODE_NEW, Int32Flags))


@dataclass(frozen=True)
class _Fields:
    """A table of the flat buffer, whose fields go by numbers."""

    table: Table

    def _place(self, field: int) -> int:
        return int(self.table.Offset(4 + 2 * field))

    def integer(self, field: int, kind: type) -> int:
        """A number; 0, the schema's default, where the file leaves it out."""
        place = self._place(field)
        return int(self.table.Get(kind, self.table.Pos + place)) if place else 0

    def integers(self, field: int) -> list[int]:
        place = self._place(field)
        return self.table.GetVectorAsNumpy(Int32Flags, place).tolist() if place else []

    def bytes(self, field: int) -> bytes:
        place = self._place(field)
        return bytes(self.table.GetVectorAsNumpy(Uint8Flags, place)) if place else b""

    def tables(self, field: int) -> list["_Fields"]:
        place = self._place(field)
        if not place:
            return []
        start, count = self.table.Vector(place), self.table.VectorLen(place)
        return [_Fields(Table(self.table.Bytes, self.table.Indirect(start + 4 * n))) for n in range(count)]
