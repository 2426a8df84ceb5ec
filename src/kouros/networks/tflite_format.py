"""TensorFlow Lite's file format: a flat buffer, whose numbers here are those of the published schema (version 3)."""

import struct
from dataclasses import dataclass

import numpy as np
from flatbuffers.number_types import Int8Flags, Int32Flags, Uint8Flags, Uint32Flags
from flatbuffers.table import Table

SCHEMA_VERSION = 3
IDENTIFIER = b"TFL3"
MODEL_VERSION, MODEL_CODES, MODEL_GRAPHS, MODEL_BUFFERS = 0, 1, 2, 4
CODE_OLD, CODE_VERSION, CODE_NEW = 0, 2, 3
GRAPH_TENSORS, GRAPH_INPUTS, GRAPH_OUTPUTS, GRAPH_OPERATORS = 0, 1, 2, 3
OPERATOR_CODE, OPERATOR_INPUTS, OPERATOR_OUTPUTS, OPERATOR_OPTIONS_TYPE, OPERATOR_OPTIONS = 0, 1, 2, 3, 4
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_BUFFER, TENSOR_NAME = 0, 1, 2, 3
BUFFER_DATA = 0
ADD, CONV, DEPTHWISE, DEQUANTIZE, RESIZE_BILINEAR = 0, 3, 4, 6, 23
NUMBER_TYPES: dict[int, np.dtype] = {0: np.dtype("<f4"), 1: np.dtype("<f2"), 2: np.dtype("<i4")}

DAMAGED = (struct.error, IndexError, KeyError, TypeError)
"""What reading a damaged file raises; TypeError: an offset that points before the file."""


@dataclass(frozen=True)
class Fields:
    """A table of the flat buffer, whose fields go by numbers. What is read as an array can be written to."""

    table: Table

    @staticmethod
    def root(model: bytearray) -> "Fields":
        """The model itself.

        Raises:
            ValueError: not such a file.
        """
        if model[4:8] != IDENTIFIER:
            raise ValueError("not a TensorFlow Lite model: the file does not begin as one.")
        return Fields(Table(model, struct.unpack_from("<I", model)[0]))

    def _place(self, field: int) -> int:
        return int(self.table.Offset(4 + 2 * field))

    def place(self, field: int) -> int:
        """Where in the file a field stands."""
        return int(self.table.Pos) + self._place(field)

    def integer(self, field: int, kind: type) -> int:
        """A number; 0, the schema's default, where the file leaves it out."""
        place = self._place(field)
        return int(self.table.Get(kind, self.table.Pos + place)) if place else 0

    def integers(self, field: int) -> np.ndarray:
        """Whole numbers, in the file."""
        place = self._place(field)
        return self.table.GetVectorAsNumpy(Int32Flags, place) if place else np.zeros(0, np.int32)

    def bytes(self, field: int) -> np.ndarray:
        """Bytes, in the file."""
        place = self._place(field)
        return self.table.GetVectorAsNumpy(Uint8Flags, place) if place else np.zeros(0, np.uint8)

    def tables(self, field: int) -> list["Fields"]:
        """Tables that the field points to."""
        place = self._place(field)
        if not place:
            return []
        start, count = self.table.Vector(place), self.table.VectorLen(place)
        return [Fields(Table(self.table.Bytes, self.table.Indirect(start + 4 * n))) for n in range(count)]


@dataclass(frozen=True)
class Network:
    """A model's first and only graph; tensors, buffers and operators' kinds go by numbers."""

    operators: list[Fields]
    kinds: list[int]
    """Of the operators."""
    tensors: list[Fields]
    buffers: list[Fields]
    inputs: list[int]
    outputs: list[int]

    @staticmethod
    def read(model: bytearray) -> "Network":
        """The network in a file's contents, which stay where they are.

        Raises:
            ValueError: not such a file. `DAMAGED` is raised by what cannot be read of it.
        """
        root = Fields.root(model)
        # Old files have the operator's number in a byte, new ones in an integer; the larger one counts.
        codes = [max(c.integer(CODE_OLD, Int8Flags), c.integer(CODE_NEW, Int32Flags)) for c in root.tables(MODEL_CODES)]
        graph = root.tables(MODEL_GRAPHS)[0]
        operators = graph.tables(GRAPH_OPERATORS)
        return Network(
            operators=operators,
            kinds=[codes[operator.integer(OPERATOR_CODE, Uint32Flags)] for operator in operators],
            tensors=graph.tables(GRAPH_TENSORS),
            buffers=root.tables(MODEL_BUFFERS),
            inputs=graph.integers(GRAPH_INPUTS).tolist(),
            outputs=graph.integers(GRAPH_OUTPUTS).tolist(),
        )

    def shape(self, tensor: int) -> np.ndarray:
        """Of a tensor, in the file."""
        return self.tensors[tensor].integers(TENSOR_SHAPE)

    def constant(self, tensor: int) -> np.ndarray | None:
        """A tensor's numbers, in the file; None for one that is computed."""
        data = self.buffers[self.tensors[tensor].integer(TENSOR_BUFFER, Uint32Flags)].bytes(BUFFER_DATA)
        if not data.size:
            return None
        return data.view(NUMBER_TYPES[self.tensors[tensor].integer(TENSOR_TYPE, Int8Flags)])
