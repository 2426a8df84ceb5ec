"""What runs MoveNet fastest on a CPU, what does a look cost, and does Thunder need to know which way is up?

The same networks by LiteRT (as the package runs them), by torch as they stand, with channels last, frozen, and
optimized for inference, and by ONNX Runtime, where onnx, onnxscript and onnxruntime are installed, as a yardstick. The
answers are compared first. Then all take turns, so that a busy machine slows all of them; the ratio is that of medians
to LiteRT's. CPU time is what all threads together took, which other work on the machine changes less.
"""

import argparse
import copy
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import kouros
from kouros.detection import landmark_model
from kouros.detection.model_files import landmark_network, packaged_models, packaged_movenet
from kouros.detection.movenet import MultiPose, Thunder
from kouros.detection.regions import Pyramid, Region
from kouros.networks.movenet import PIXEL, MoveNetMultiPose, MoveNetThunder

Run = Callable[[], list[np.ndarray]]
TOLERANCE = 1e-3
PEOPLE = (Region(165.0, 430.0, 460.0), Region(505.0, 435.0, 340.0), Region(766.0, 500.0, 320.0))
"""Of the demo photo."""


class Maps(nn.Module):
    """A network's answers as a tuple, which is what can be frozen and exported."""

    def __init__(self, network: MoveNetThunder | MoveNetMultiPose) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(vars(self.network(image)).values())


def ways(network: MoveNetThunder | MoveNetMultiPose, litert: Run, image: Tensor, threads: int) -> dict[str, Run]:
    """Each way to run a network on a picture in [0, 1]; all give maps with the numbers first."""
    maps = Maps(network).eval().requires_grad_(False)
    last = copy.deepcopy(maps).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image_last = image.contiguous(memory_format=torch.channels_last)

    def torchs(module: Callable[[Tensor], tuple[Tensor, ...]], picture: Tensor) -> Run:
        def run() -> list[np.ndarray]:
            with torch.inference_mode():
                return [answer.numpy() for answer in module(picture)]

        return run

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tracing, which is deprecated
        traced, traced_last = (torch.jit.trace(m, p, check_trace=False) for m, p in ((maps, image), (last, image_last)))
        found = {
            "LiteRT": litert,
            "torch": torchs(maps, image),
            "torch, channels last": torchs(last, image_last),
            "torch.jit.freeze": torchs(torch.jit.freeze(traced), image),
            "torch.jit.optimize_for_inference": torchs(torch.jit.optimize_for_inference(traced), image),
            "the same, channels last": torchs(torch.jit.optimize_for_inference(traced_last), image_last),
        }
        try:
            found["ONNX Runtime"] = onnx_runtime(maps, image, threads)
        except ImportError as error:
            print(f"without ONNX Runtime: {error}")
    return found


def onnx_runtime(maps: Maps, image: Tensor, threads: int) -> Run:
    import onnxruntime

    exported = torch.onnx.export(maps, (image,), dynamo=True, verbose=False)
    if exported is None:
        raise ImportError("torch exported nothing")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        exported.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    name, given = session.get_inputs()[0].name, image.numpy()
    return lambda: cast(list[np.ndarray], session.run(None, {name: given}))


def compared(runs: dict[str, Run]) -> None:
    """A fast wrong answer is no result."""
    first, *others = ([np.asarray(answer) for answer in run()] for run in runs.values())
    for name, answers in zip(list(runs)[1:], others, strict=True):
        for ours, theirs in zip(first, answers, strict=True):
            scale = max(1.0, float(np.abs(ours).max()))
            if not np.abs(ours - theirs).max() < TOLERANCE * scale:
                raise SystemExit(f"{name} answers otherwise.")


def timed(runs: dict[str, Callable[[], object]], repeats: int) -> list[dict[str, object]]:
    """Medians of wall and CPU time, ms, and the ratio of each to the first one's."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 2):
        for name, run in runs.items():
            began, used = time.perf_counter(), time.process_time()
            run()
            if turn >= 2:  # the first ones compile and warm up
                wall[name].append(1000 * (time.perf_counter() - began))
                cpu[name].append(1000 * (time.process_time() - used))
    rows: list[dict[str, object]] = []
    first = next(iter(runs))
    for name in runs:
        row: dict[str, object] = {"way": name}
        for kind, times in (("wall", wall), ("cpu", cpu)):
            row[f"{kind}_ms"] = round(statistics.median(times[name]), 1)
            row[f"{kind}_least_ms"] = round(min(times[name]), 1)
            row[f"{kind}_ratio"] = round(statistics.median(times[name]) / statistics.median(times[first]), 2)
        rows.append(row)
    return rows


def turned(thunder: Thunder, pyramid: Pyramid) -> list[dict[str, object]]:
    """How far, over the region's side, the keypoints of three people lie from those of an upright look."""
    rows: list[dict[str, object]] = []
    for degrees in range(0, 181, 30):
        away, confidence = [], []
        for person in PEOPLE:
            upright = thunder.look(pyramid, person)
            for angle in {math.radians(degrees), -math.radians(degrees)}:
                for mirrored in (False, True):
                    seen = thunder.look(pyramid, Region(person.x, person.y, person.size, angle, mirrored))
                    away.append(np.linalg.norm(seen.points - upright.points, axis=1) / person.size)
                    confidence.append(seen.confidence)
        rows.append(
            {
                "way": f"{degrees} degrees",
                "median": round(float(np.median(away)), 4),
                "further than 0.1": round(float((np.array(away) > 0.1).mean()), 3),
                "confidence": round(float(np.mean(confidence)), 2),
            }
        )
    return rows


def show(title: str, rows: list[dict[str, object]]) -> None:
    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key, justify="left" if key == "way" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=110).print(table)
    for row in rows:
        print(json.dumps({"what": title, **row}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    photo = np.array(Image.open(Path(kouros.__file__).parent / "data" / "demo" / "people.jpg").convert("RGB"))
    pyramid, person = Pyramid(photo), PEOPLE[0]
    thunder, multipose = Thunder(threads=given.threads), MultiPose(threads=given.threads)
    landmarks = landmark_network(packaged_models(), given.threads)

    for network, model, rows, columns in (
        (MoveNetThunder(), packaged_movenet().thunder, 256, 256),
        (MoveNetMultiPose(), packaged_movenet().multipose, 224, 320),
        (MoveNetMultiPose(), packaged_movenet().multipose, 352, 512),
    ):
        network.load_tflite(model)
        picture = pyramid.crop(Region(480.0, 480.0, 960.0), columns, replicate_border=False)[:rows]
        image = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255
        litert = thunder.network if isinstance(network, MoveNetThunder) else multipose.network(rows, columns)
        given_picture = picture[None].astype(np.float32) * np.float32(PIXEL) - np.float32(1)

        def run(litert: Callable[[np.ndarray], list[np.ndarray]] = litert, given: np.ndarray = given_picture) -> list:
            return [answer.transpose(0, 3, 1, 2) for answer in litert(given)]

        runs = ways(network, run, image, given.threads)
        compared(runs)
        name = type(network).__name__.removeprefix("MoveNet")
        show(f"{name}, {columns} x {rows}, {given.threads} threads", timed(dict(runs), given.repeats))

    stages: dict[str, Callable[[], object]] = {
        "BlazePose, one crop": lambda: landmark_model.look(landmarks, pyramid, person),
        "Thunder, one crop": lambda: thunder.look(pyramid, person),
        "  cut": lambda: pyramid.crop(person, 256, replicate_border=False),
        "MultiPose, 320 px": lambda: multipose.find(pyramid, 320),
        "MultiPose, 512 px": lambda: multipose.find(pyramid, 512),
    }
    show(f"looks at a photo of 960 x 640, {given.threads} threads", timed(stages, given.repeats))
    show("Thunder, people turned in the crop", turned(thunder, pyramid))


if __name__ == "__main__":
    main()
