"""Small TensorFlow.js graph models, written as the converter of TensorFlow.js writes them."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def whole(*values: int) -> dict[str, Any]:
    return {"list": {"i": [str(v) for v in values]}}


class GraphFile:
    """Nodes and weights on their way to a file."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.weights: list[dict[str, Any]] = []
        self.data = b""

    def constant(self, name: str, array: np.ndarray) -> str:
        entry: dict[str, Any] = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
        if array.dtype == np.float16:
            entry |= {"dtype": "float32", "quantization": {"dtype": "float16", "original_dtype": "float32"}}
        self.nodes.append({"name": name, "op": "Const", "attr": {}})
        self.weights.append(entry)
        self.data += array.tobytes()
        return name

    def node(self, op: str, name: str, *inputs: str, **attributes: dict[str, Any]) -> str:
        self.nodes.append({"name": name, "op": op, "input": list(inputs), "attr": attributes})
        return name

    def convolution(self, name: str, image: str, kernel: np.ndarray, bias: np.ndarray | None, **more: Any) -> str:
        """Of a kernel (rows, columns, inputs, outputs); ``depthwise=True``, ``stride=2``, ``activation="Relu6"``."""
        fused = [step for step in ("BiasAdd" if bias is not None else None, more.get("activation")) if step]
        inputs = [image, self.constant(f"{name}/kernel", kernel)]
        if bias is not None:
            inputs.append(self.constant(f"{name}/bias", bias))
        op = "FusedDepthwiseConv2dNative" if more.get("depthwise") else "_FusedConv2D"
        if more.get("depthwise") and not fused:
            op = "DepthwiseConv2dNative"
        stride = more.get("stride", 1)
        return self.node(
            op, name, *inputs, strides=whole(1, stride, stride, 1), dilations=whole(1, 1, 1, 1),
            padding=text(more.get("padding", "SAME")), data_format=text("NHWC"),
            fused_ops={"list": {"s": [text(step)["s"] for step in fused]}},
        )  # fmt: skip

    def write(self, path: Path, *, shards: int = 1) -> Path:
        size = -(-len(self.data) // shards)
        names = []
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(shards):
            names.append(f"{path.stem}.{number}.bin")
            (path.parent / names[-1]).write_bytes(self.data[number * size : (number + 1) * size])
        content = {
            "format": "graph-model",
            "modelTopology": {"node": self.nodes, "versions": {}},
            "weightsManifest": [{"paths": names, "weights": self.weights}],
        }
        path.write_text(json.dumps(content))
        return path


def small_network(seed: int = 0, heads: tuple[tuple[str, int], ...] = (("head", 3),), size: int = 32) -> GraphFile:
    """Down to an eighth and back up to a quarter of a picture, with all that MoveNet's networks are made of."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.4, shape).astype(np.float16)

    file = GraphFile()
    shape = {"shape": {"dim": [{"size": str(n)} for n in (1, size, size, 3)]}}
    image = file.node("Placeholder", "input", dtype={"type": "DT_INT32"}, shape=shape)
    image = file.node("Cast", "Cast", image, SrcT={"type": "DT_INT32"}, DstT={"type": "DT_FLOAT"})
    image = file.node("Mul", "truediv_1", image, file.constant("truediv", np.array(2 / 255, np.float16)))
    x = file.node("Sub", "StatefulPartitionedCall/sub_1", image, file.constant("one", np.array(1, np.float16)))
    x = file.convolution("stem", x, random(3, 3, 3, 8), random(8), stride=2, activation="Relu6")
    x = file.convolution("down", x, random(3, 3, 8, 1), random(8), stride=2, activation="Relu6", depthwise=True)
    fine = file.convolution("project", x, random(1, 1, 8, 6), random(6))
    x = file.convolution("inside", fine, random(1, 1, 6, 6), random(6), activation="Relu6")
    fine = file.node("AddV2", "sum", fine, x)
    coarse = file.convolution("coarse", fine, random(3, 3, 6, 4), random(4), stride=2, activation="Relu")
    lateral = file.convolution("lateral", fine, random(1, 1, 6, 4), random(4), padding="VALID")
    large = file.node(
        "ResizeBilinear", "resize", coarse, file.constant("resize/size", np.array([size // 4] * 2, np.int32)),
        half_pixel_centers={"b": True}, align_corners={"b": False},
    )  # fmt: skip
    x = file.node("AddV2", "pyramid", large, lateral)
    x = file.convolution("smooth", x, random(3, 3, 4, 1), None, depthwise=True)
    for name, numbers in heads:
        head = file.convolution(f"StatefulPartitionedCall/{name}/out", x, random(1, 1, 4, numbers), random(numbers))
        file.node("Identity", f"Identity_{name}", head)
    return file
