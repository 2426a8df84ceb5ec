"""How long from a photo's file to results on disk, and where does the time go?

    python benchmarks/end_to_end.py [photo ...] [--rounds 20] [--threads 2] [--fast]

After start-up (models loaded, kernels compiled). Default photo: the package's portrait with one person.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from kouros.data.images import read_image
from kouros.export.glb import glb_bytes
from kouros.export.people import world_in
from kouros.export.pictures import overlay_picture, png_bytes
from kouros.export.results import json_bytes, npz_bytes
from kouros.files import write_files
from kouros.pipeline.reconstructor import default_reconstructor

DEMO = Path(__file__).parents[1] / "src" / "kouros" / "data" / "demo"


def run(photo_file: Path, out: Path, seconds: dict[str, list[float]], *, fast: bool) -> int:
    """Everything that `kouros reconstruct` does for one photo; returns the number of people."""

    def timed(stage: str, call: Callable[..., Any], *args: Any) -> Any:
        start = time.perf_counter()
        result = call(*args)
        seconds[stage].append(time.perf_counter() - start)
        return result

    begin = time.perf_counter()
    photo = timed("read", read_image, photo_file)
    reconstructor = default_reconstructor()
    seen = timed("find people", partial(reconstructor.see, fast=fast), photo)
    people = timed("estimate bodies", reconstructor.people, seen)
    world = timed("upright world", world_in, "world", people)
    files = {".glb": timed("glb", glb_bytes, people, world)}
    picture = timed("draw", overlay_picture, photo.pixels, people, world)
    files[".overlay.png"] = timed("png", png_bytes, picture)
    files[".npz"] = timed("npz, json", npz_bytes, people, world)
    files[".json"] = json_bytes(people, world)
    timed("write", write_files, {out / f"{photo.name}{s}": data for s, data in files.items()})
    seconds["total"].append(time.perf_counter() - begin)
    return len(people)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, nargs="*", default=[DEMO / "astronaut.jpg"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--fast", action="store_true", help="as `kouros reconstruct --fast`")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for photo in given.photos:
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(3):
                run(photo, Path(folder), defaultdict(list), fast=given.fast)
            seconds: dict[str, list[float]] = defaultdict(list)
            people = 0
            for _ in range(given.rounds):
                people = run(photo, Path(folder), seconds, fast=given.fast)
        table = Table("stage", "25 %, ms", "median, ms", "75 %, ms", title=f"{photo.name}: {people} people")
        for stage, values in seconds.items():
            low, middle, high = (1000 * q for q in statistics.quantiles(values, n=4))
            table.add_row(stage, f"{low:.1f}", f"{middle:.1f}", f"{high:.1f}")
            print(json.dumps({"photo": photo.name, "people": people, "stage": stage, "median_ms": middle}))
        Console().print(table)


if __name__ == "__main__":
    main()
