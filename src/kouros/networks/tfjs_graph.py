"""Networks in the files of TensorFlow.js: a graph in JSON, its weights in files of plain numbers beside it.

What the format calls a graph model (`tfjs.converters`, "tfjs_graph_model"): TensorFlow's operators by name, frozen and
folded, each with the names of its inputs. Weights may be stored in half precision; they are widened when read.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kouros.documents import read_json
from kouros.sentences import first_line

_WANTED = "expected the .json file of a TensorFlow.js graph model, with its weights beside it"
_STORED: dict[str, np.dtype] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "int32": np.dtype("<i4"),
    "bool": np.dtype("?"),
}

Attribute = bool | int | float | str | tuple[bool | int | float | str, ...] | None
"""A number, a name (of a number type, of a kind of padding), a list of either; None for what is not read."""


@dataclass(frozen=True)
class Node:
    """One operator."""

    name: str
    op: str
    """TensorFlow's name of it."""
    inputs: tuple[str, ...]
    """Names of the nodes that it reads; ``name:1`` is the second output of ``name``."""
    attributes: Mapping[str, Attribute]

    def numbers(self, attribute: str) -> tuple[int, ...]:
        """An attribute that is a list of whole numbers.

        Raises:
            ValueError: it is not, or not there.
        """
        value = self.attributes.get(attribute)
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise ValueError(f"{attribute!r} of {self.op} {self.name} is {value!r}; expected whole numbers.")
        return tuple(int(v) for v in value)


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as published: constants, and operators in an order in which they can be computed."""

    constants: Mapping[str, np.ndarray]
    """Weights and sizes by node: float32 (float16 widened), int32 or bool."""
    nodes: tuple[Node, ...]
    """All others, each after those that it reads."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    """Nodes that nobody reads."""

    def between(self, source: str, ends: Iterable[str]) -> list[Node]:
        """The nodes from one, without it, to others: what the first of those needs, then what the next one needs more.

        Raises:
            ValueError: one of the ends is not there.
        """
        return list(_in_order({node.name: node for node in self.nodes}, {source, *self.constants}, ends))

    def last_of(self, prefix: str) -> Node:
        """The last node whose name begins so.

        Raises:
            ValueError: there is none.
        """
        found = [node for node in self.nodes if node.name.startswith(prefix)]
        if not found:
            raise ValueError(f"the graph has no node whose name begins with {prefix!r}.")
        return found[-1]


def source_of(name: str) -> tuple[str, int]:
    """Node and number of the output that an input names."""
    node, _, output = name.partition(":")
    return node, int(output or 0)


def read_graph(path: str | Path) -> Graph:
    """Read a graph model.

    Raises:
        OSError: the file, or one of weights that it names, cannot be read.
        ValueError: it is no such file, or its weights are not those that it describes.
    """
    path = Path(path)
    try:
        content = read_json(path)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({first_line(error)}); {_WANTED}.") from error
    try:
        groups = content["weightsManifest"]
        constants = {name: array for group in groups for name, array in _weights(path.parent, group)}
        read = [_node(node) for node in content["modelTopology"]["node"]]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} is not as such files are ({first_line(error)}); {_WANTED}.") from error
    missing = [node.name for node in read if node.op == "Const" and node.name not in constants]
    if missing:
        raise ValueError(f"{path} describes no weights for its constant {missing[0]}; {_WANTED}.")
    computed = {node.name: node for node in read if node.op != "Const"}
    needed = {source_of(name)[0] for node in computed.values() for name in node.inputs}
    outputs = tuple(name for name in computed if name not in needed)
    try:
        ordered = tuple(_in_order(computed, constants, outputs))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {_WANTED}.") from None
    if len(ordered) < len(computed):
        raise ValueError(f"{path}: of its {len(computed)} nodes {len(ordered)} can be computed; {_WANTED}.")
    return Graph(
        constants={node.name: constants[node.name] for node in read if node.op == "Const"},
        nodes=ordered,
        inputs=tuple(node.name for node in ordered if node.op == "Placeholder"),
        outputs=outputs,
    )


def _weights(folder: Path, group: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of one group, which lie one behind the other in its files."""
    data = b"".join((folder / name).read_bytes() for name in group["paths"])
    begin = 0
    for entry in group["weights"]:
        name, shape = entry["name"], tuple(entry["shape"])
        stored = entry.get("quantization", {}).get("dtype", entry["dtype"])
        if stored not in _STORED:
            raise ValueError(f"the weight {name} is stored as {stored}; only {', '.join(_STORED)} are read here")
        count = int(np.prod(shape))
        end = begin + count * _STORED[stored].itemsize
        if end > len(data):
            raise ValueError(f"{', '.join(group['paths'])} ends within {name}, after {len(data)} bytes")
        numbers = np.frombuffer(data, _STORED[stored], count, begin).reshape(shape)
        yield name, numbers.astype(np.float32) if stored == "float16" else numbers
        begin = end
    if begin != len(data):
        raise ValueError(f"{', '.join(group['paths'])} has {len(data)} bytes, its weights have {begin}")


def _node(entry: Mapping[str, Any]) -> Node:
    inputs = tuple(name for name in entry.get("input", ()) if not name.startswith("^"))  # "^": only to come after it
    attributes = {key: _attribute(value) for key, value in entry.get("attr", {}).items()}
    return Node(entry["name"], entry["op"], inputs, attributes)


def _attribute(value: Mapping[str, Any]) -> Attribute:
    ((kind, content),) = value.items()
    if kind == "list":
        return tuple(_scalar(k, v) for k, values in content.items() for v in values)
    if kind == "shape":
        return tuple(int(dim["size"]) for dim in content.get("dim", ()))
    return None if kind == "tensor" else _scalar(kind, content)  # a constant's, which lies with the weights


def _scalar(kind: str, content: Any) -> bool | int | float | str:
    """Of protocol buffers in JSON: whole numbers may be texts, texts are base64."""
    if kind == "s":
        return base64.b64decode(content, validate=True).decode("latin-1")
    return int(content) if kind == "i" else content


def _in_order(nodes: Mapping[str, Node], known: Iterable[str], ends: Iterable[str]) -> Iterator[Node]:
    """What the ends need beyond what is known: each node right after all that it reads, branch by branch."""
    done, entered = set(known), set[str]()
    waiting = list(reversed(list(ends)))
    while waiting:
        name = waiting[-1]
        if name in done:
            waiting.pop()
        elif name in entered:  # and back: all that it reads is done
            entered.remove(name)
            done.add(name)
            yield nodes[name]
        elif name in nodes:
            entered.add(name)
            sources = [source_of(given)[0] for given in nodes[name].inputs]
            for source in entered.intersection(sources):
                raise ValueError(f"the node {name} waits for {source}, which waits for it")
            waiting += reversed(sources)
        else:
            raise ValueError(f"the node {name} is read but not there")
