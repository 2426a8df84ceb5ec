"""TensorFlow.js graphs: read as they were written, evaluated as torch would, refused when damaged."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tfjs_files import GraphFile, small_network, text, whole
from torch.nn.functional import conv2d, interpolate, max_pool2d, pad

from kouros.networks.tfjs_graph import read_graph
from kouros.networks.tfjs_reference import evaluate

RNG = np.random.default_rng(5)


def same_padded(image: torch.Tensor, kernel: torch.Tensor, stride: int, groups: int) -> torch.Tensor:
    """TensorFlow's SAME, by its documented formula, around torch's convolution."""
    around: list[int] = []
    for length, window in zip(image.shape[:1:-1], kernel.shape[:1:-1], strict=True):
        missing = max((-(-length // stride) - 1) * stride + window - length, 0)
        around += [missing // 2, missing - missing // 2]
    return conv2d(pad(image, around), kernel, stride=stride, groups=groups)


def one_operator(tmp_path: Path, file: GraphFile, image: np.ndarray, outputs: tuple[str, ...] | None = None) -> list:
    return evaluate(read_graph(file.write(tmp_path / "graph.json")), image, outputs=outputs)


def test_what_was_written_is_read(tmp_path: Path):
    file = GraphFile()
    half, flag, size = np.array([1.5, -0.1], np.float16), np.array([True, False]), np.array([[7, 8]], np.int32)
    for name, array in (("half", half), ("flag", flag), ("size", size)):
        file.constant(name, array)
    file.node("Placeholder", "image", shape={"shape": {"dim": [{"size": "1"}, {"size": "-1"}]}})
    file.node("Some", "end", "image", "half", "^flag", strides=whole(1, 2), padding=text("SAME"), epsilon={"f": 0.5})
    graph = read_graph(file.write(tmp_path / "graph.json", shards=3))
    np.testing.assert_array_equal(graph.constants["half"], half.astype(np.float32))
    np.testing.assert_array_equal(graph.constants["flag"], flag)
    np.testing.assert_array_equal(graph.constants["size"], size)
    assert graph.inputs == ("image",) and graph.outputs == ("end",)
    image, end = graph.nodes
    assert image.attributes["shape"] == (1, -1)
    assert end.inputs == ("image", "half")
    assert end.numbers("strides") == (1, 2) and end.attributes["padding"] == "SAME" and end.attributes["epsilon"] == 0.5


def test_nodes_come_after_what_they_read_however_the_file_has_them(tmp_path: Path):
    file = small_network()
    expected = read_graph(file.write(tmp_path / "graph.json"))
    file.nodes.reverse()
    graph = read_graph(file.write(tmp_path / "reversed.json"))
    seen = set(graph.constants)
    for node in graph.nodes:
        assert all(name in seen for name in node.inputs)
        seen.add(node.name)
    assert [node.name for node in graph.nodes] == [node.name for node in expected.nodes]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(8, 6), (7, 9)])
@pytest.mark.parametrize("depthwise", [False, True])
def test_convolutions_are_torchs(tmp_path: Path, stride: int, shape: tuple[int, int], depthwise: bool):
    image = RNG.normal(size=(2, *shape, 4)).astype(np.float32)
    kernel = RNG.normal(size=(3, 5, 4, 1 if depthwise else 6)).astype(np.float16)
    file = GraphFile()
    file.node("Placeholder", "image")
    bias = RNG.normal(size=4 if depthwise else 6).astype(np.float16)
    file.convolution("end", "image", kernel, bias, stride=stride, activation="Relu6", depthwise=depthwise)
    (ours,) = one_operator(tmp_path, file, image)
    theirs = torch.from_numpy(kernel.astype(np.float32).transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1)))
    expected = same_padded(torch.from_numpy(image.transpose(0, 3, 1, 2)), theirs, stride, 4 if depthwise else 1)
    expected = (expected + torch.from_numpy(bias.astype(np.float32))[:, None, None]).clamp(0, 6)
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1).numpy(), atol=1e-5)
    assert ours.std() > 0.5


@pytest.mark.parametrize("size", [(10, 12), (7, 4), (3, 20)])
def test_resizing_is_torchs(tmp_path: Path, size: tuple[int, int]):
    image = RNG.normal(size=(1, 5, 6, 3)).astype(np.float32)
    file = GraphFile()
    file.node("Placeholder", "image")
    wanted = file.constant("size", np.array(size, np.int32))
    file.node("ResizeBilinear", "end", "image", wanted, half_pixel_centers={"b": True}, align_corners={"b": False})
    (ours,) = one_operator(tmp_path, file, image)
    expected = interpolate(torch.from_numpy(image.transpose(0, 3, 1, 2)), size, mode="bilinear")
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_the_largest_of_a_neighbourhood_is_torchs(tmp_path: Path):
    image = RNG.normal(size=(1, 7, 8, 2)).astype(np.float32)
    file = GraphFile()
    file.node("Placeholder", "image")
    same = {"padding": text("SAME"), "data_format": text("NHWC")}
    file.node("MaxPool", "end", "image", ksize=whole(1, 5, 5, 1), strides=whole(1, 1, 1, 1), **same)
    (ours,) = one_operator(tmp_path, file, image)
    expected = max_pool2d(torch.from_numpy(image.transpose(0, 3, 1, 2)), 5, 1, 2)
    np.testing.assert_array_equal(ours, expected.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(
    ("begin", "end", "masks", "expected"),
    [
        ((1, 0), (3, 2), {}, np.s_[1:3, 0:2]),
        ((1, 0), (3, 2), {"begin_mask": 2, "end_mask": 2}, np.s_[1:3, :]),
        ((1, 0), (2, 3), {"shrink_axis_mask": 1}, np.s_[1, 0:3]),
        ((0, 0, 0), (0, 0, 0), {"begin_mask": 5, "end_mask": 5, "new_axis_mask": 2}, np.s_[:, None, :]),
    ],
)
def test_slices_are_pythons(tmp_path: Path, begin: tuple, end: tuple, masks: dict[str, int], expected: tuple):
    array = np.arange(20.0, dtype=np.float32).reshape(4, 5)
    file = GraphFile()
    file.node("Placeholder", "array")
    places = [file.constant(f"c{k}", np.array(v, np.int32)) for k, v in enumerate((begin, end, (1,) * len(begin)))]
    file.node("StridedSlice", "end", "array", *places, **{name: {"i": str(mask)} for name, mask in masks.items()})
    (ours,) = one_operator(tmp_path, file, array)
    np.testing.assert_array_equal(ours, array[expected])


def test_of_equal_numbers_the_first_counts_and_second_outputs_go_by_number(tmp_path: Path):
    file = GraphFile()
    file.node("Placeholder", "array")
    file.node("TopKV2", "top", "array", file.constant("k", np.array(3, np.int32)))
    file.node("Identity", "place", "top:1")
    (place,) = one_operator(tmp_path, file, np.array([[1.0, 5.0, 2.0, 5.0, 2.0]], np.float32), ("place",))
    assert place.tolist() == [[1, 3, 2]]


def test_unknown_operators_are_named(tmp_path: Path):
    file = GraphFile()
    file.node("Placeholder", "image")
    file.node("Erf", "end", "image")
    with pytest.raises(ValueError, match="operator Erf of end is not known"):
        one_operator(tmp_path, file, np.zeros(1, np.float32))


def test_damaged_files_are_refused(tmp_path: Path):
    file = small_network()
    path = file.write(tmp_path / "graph.json")
    weights = tmp_path / "graph.0.bin"
    content = json.loads(path.read_text())

    def refused(message: str, **changed: object) -> None:
        path.write_text(json.dumps(content | changed))
        with pytest.raises(ValueError, match=message):
            read_graph(path)

    weights.write_bytes(file.data[:-1])
    refused("ends within")
    weights.write_bytes(file.data + b"\0")
    refused("its weights have")
    weights.write_bytes(file.data)
    (group,) = content["weightsManifest"]
    stored = [{**group["weights"][0], "quantization": {"dtype": "uint8"}}, *group["weights"][1:]]
    refused("stored as uint8", weightsManifest=[{**group, "weights": stored}])
    refused("describes no weights", weightsManifest=[])
    nodes = content["modelTopology"]["node"]
    refused("read but not there", modelTopology={"node": [n for n in nodes if n["name"] != "stem"]})
    loop = [{**n, "input": ["pyramid", *n["input"][1:]]} if n["name"] == "stem" else n for n in nodes]
    refused("waits for it", modelTopology={"node": loop})
    refused("not as such files are", modelTopology=[])
    path.write_text(json.dumps(content))
    weights.unlink()
    with pytest.raises(OSError, match=r"graph\.0\.bin"):
        read_graph(path)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(share=st.floats(0, 0.999))
def test_files_that_end_early_are_no_json(tmp_path: Path, share: float):
    path = small_network().write(tmp_path / "graph.json")
    whole_text = path.read_bytes()
    path.write_bytes(whole_text[: int(share * len(whole_text))])
    with pytest.raises(ValueError, match="is not JSON"):
        read_graph(path)
