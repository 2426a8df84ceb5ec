"""What a batch of synthetic people costs, by what a system asks for: milliseconds of one core, and pictures a second.

    python benchmarks/batches.py --json batches.json

Processor time of one process on one thread, a median over batches; and pictures a second that several processes make
together, by the clock, as training's data loader has them. Without colours nothing is shaded: that is how systems
train that look at part labels alone.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader

from kouros.data.dense import HeatmapWants, Wants
from kouros.data.stream import StreamConfig, TrainingStream
from kouros.data.synthetic import SyntheticSource
from kouros.data.synthetic.generate import Order, synthesize

SETTINGS: dict[str, tuple[int, Wants]] = {
    "pictures": (224, Wants()),
    "pictures, 12 parts at stride 4": (224, Wants(parts=("parts12",), stride=4)),
    "points and parameters alone": (224, Wants(image=False)),
    "12 parts at stride 4": (224, Wants(image=False, parts=("parts12",), stride=4)),
    "12 parts at stride 1": (224, Wants(image=False, parts=("parts12",))),
    "mask, UV, location, joint, displacement at stride 4, and in UV space": (
        224,
        Wants(
            image=False,
            maps=("mask", "uv", "location", "joint", "displacement", "uv_location", "uv_joint", "uv_visible"),
            stride=4,
        ),
    ),
    "IUV at stride 4, heatmaps of 17 points": (
        256,
        Wants(image=False, maps=("iuv",), heatmaps=HeatmapWants("coco17"), stride=4),
    ),
}


def milliseconds(stream: TrainingStream, batch: int, batches: int) -> float:
    """Of processor time a picture."""
    spent = []
    for step in range(batches + 1):
        start = time.process_time()
        stream[step]
        spent.append(time.process_time() - start)
    return 1e3 * statistics.median(spent[1:]) / batch  # the first one makes what is made once


def rate(stream: TrainingStream, batch: int, batches: int, workers: int) -> float:
    """Pictures a second of several processes together."""
    loader = DataLoader(
        stream, None, sampler=range(workers + batches), num_workers=workers, multiprocessing_context="forkserver"
    )
    made = iter(loader)
    for _ in range(workers):
        next(made)
    start = time.perf_counter()
    for _ in range(batches):
        next(made)
    return batch * batches / (time.perf_counter() - start)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of kouros synthesize; by default some people are made")
    parser.add_argument("--people", type=int, default=500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    results = {}
    with tempfile.TemporaryDirectory() as made:
        folder = given.data or Path(made)
        if given.data is None:
            synthesize(Order(people=given.people), folder, workers=given.workers)
        for name, (size, wants) in SETTINGS.items():
            stream = TrainingStream([SyntheticSource(folder)], None, given.batch, StreamConfig(size, wants=wants))
            spent = milliseconds(stream, given.batch, given.batches)
            together = rate(stream, given.batch, given.batches, given.workers)
            results[name] = {"milliseconds": spent, "rate": together}
            print(f"{spent:7.2f} ms {together:8.1f} a second  {name}", flush=True)
    if given.json:
        given.json.write_text(
            json.dumps({"workers": given.workers, "batch": given.batch, "results": results}, indent=1)
        )


if __name__ == "__main__":
    main()
