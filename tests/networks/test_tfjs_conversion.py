"""Networks converted to TensorFlow Lite: what LiteRT computes is what the graph says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tfjs_files import GraphFile, small_network

from kouros.detection.model_files import Network
from kouros.detection.movenet_build import build
from kouros.networks.tfjs_conversion import convert
from kouros.networks.tfjs_graph import read_graph
from kouros.networks.tfjs_reference import evaluate
from kouros.networks.tflite_weights import convolutions
from kouros.networks.tflite_writing import resized

PICTURE = "StatefulPartitionedCall/sub_1"
HEADS = (("head", 3), ("other", 5))
OUTPUTS = [f"StatefulPartitionedCall/{name}/out" for name, _ in HEADS]


def written(tmp_path: Path, file: GraphFile, size: int = 32) -> bytes:
    return convert(read_graph(file.write(tmp_path / "graph.json")), PICTURE, OUTPUTS, (1, size, size, 3))


def test_the_runtime_gives_the_graphs_numbers(tmp_path: Path):
    graph = read_graph(small_network(heads=HEADS).write(tmp_path / "graph.json"))
    image = np.random.default_rng(1).integers(0, 256, (1, 32, 32, 3)).astype(np.int32)
    picture, *expected = evaluate(graph, image, outputs=(PICTURE, *OUTPUTS))
    model = convert(graph, PICTURE, OUTPUTS, (1, 32, 32, 3))
    answers = Network(model, (1, 32, 32, 3), (8 * 8 * 3, 8 * 8 * 5), threads=1)(picture)
    for ours, theirs in zip(answers, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
        assert theirs.std() > 0.1


def test_another_size_of_picture_is_another_network(tmp_path: Path):
    small, wide = (small_network(heads=HEADS, size=size) for size in (32, 64))
    model = resized(written(tmp_path, small), 64, 64)
    picture = np.random.default_rng(2).normal(size=(1, 64, 64, 3)).astype(np.float32)
    expected = Network(written(tmp_path, wide, 64), (1, 64, 64, 3), (16 * 16 * 3, 16 * 16 * 5), threads=1)(picture)
    ours = Network(model, (1, 64, 64, 3), (16 * 16 * 3, 16 * 16 * 5), threads=1)(picture)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="cannot be had for 33 x 64"):
        resized(model, 33, 64)


def test_the_same_network_gives_the_same_bytes_and_others_give_others(tmp_path: Path):
    first = written(tmp_path, small_network(heads=HEADS))
    assert first == written(tmp_path, small_network(heads=HEADS))
    assert first != written(tmp_path, small_network(seed=1, heads=HEADS))


def test_torch_reads_the_weights_in_order(tmp_path: Path):
    file = small_network(heads=HEADS)
    layers = convolutions(written(tmp_path, file))
    # The coarse branch is needed before the lateral one is.
    names = ["stem", "down", "project", "inside", "coarse", "lateral", "smooth", *OUTPUTS]
    constants = read_graph(tmp_path / "graph.json").constants
    for name, layer in zip(names, layers, strict=True):
        kernel = constants[f"{name}/kernel"].transpose((2, 3, 0, 1) if name in ("down", "smooth") else (3, 2, 0, 1))
        torch.testing.assert_close(layer.weight, torch.from_numpy(kernel.copy()), atol=0, rtol=0)
        bias = torch.from_numpy(constants[f"{name}/bias"]) if name != "smooth" else torch.zeros(4)
        torch.testing.assert_close(layer.bias, bias, atol=0, rtol=0)


def test_what_the_file_could_not_say_is_refused(tmp_path: Path):
    file = small_network(heads=HEADS)
    file.weights[-1] = {**file.weights[-1], "shape": [5], "dtype": "float32"}
    del file.weights[-1]["quantization"]
    file.data = file.data[:-10] + np.full(5, 0.1, np.float32).tobytes()
    with pytest.raises(ValueError, match="no half-precision numbers"):
        written(tmp_path, file)
    file = small_network(heads=HEADS)
    for node in file.nodes:
        if node["name"] == "sum":
            node["op"] = "Maximum"
    with pytest.raises(ValueError, match="Maximum of sum cannot be converted"):
        written(tmp_path, file)
    with pytest.raises(ValueError, match="nowhere is read but not there"):
        convert(read_graph(small_network().write(tmp_path / "g.json")), PICTURE, ["nowhere"], (1, 32, 32, 3))


def test_building_writes_both_networks_and_is_deterministic(tmp_path: Path):
    thunder = (("center_0", 1), ("kpt_heatmap_0", 17), ("kpt_regress_0", 34), ("kpt_offset_0", 34))
    boxes = (("box_scale_0", 2), ("box_offset_0", 2))
    small_network(0, thunder, 256).write(tmp_path / "package" / "models" / "movenet-thunder.json")
    multipose = small_network(1, (*thunder[:1], *boxes, *thunder[1:]), 256)
    multipose.write(tmp_path / "package" / "models" / "movenet-multipose.json")
    for out in ("first", "second"):
        build(tmp_path / "package", tmp_path / out)
    names = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert names == ["movenet_multipose.tflite", "movenet_thunder.tflite"]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    with pytest.raises(OSError, match="movenet-thunder"):
        build(tmp_path, tmp_path / "third")
    assert not (tmp_path / "third").exists()
