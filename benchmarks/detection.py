"""Where does the time of finding people go, and what do the tiles and the averaged crops buy?

Times each stage on a photo (default: matplotlib's portrait), prints a table, then JSON lines. With annotated
samples (``--samples`` names the folder of ``coco_sample``, ``photos`` and ``mpi_inf_3dhp_sample``) it also
counts the people found with and without tiles, and measures the raw landmarks' PA-MPJPE over the 12 limb
joints for one crop and for the average.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from kouros.body.keypoints import BLAZEPOSE33, MPI_INF_3DHP17
from kouros.detection import DetectedPerson, default_detector, find_people, read_coco
from kouros.detection.averaging import crop_variations
from kouros.detection.find import DEFAULT_CROPS
from kouros.detection.regions import Pyramid, Region, covering_regions
from kouros.geometry.alignment import align

LIMBS = [f"{side}_{part}" for side in ("left", "right")
         for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]  # fmt: skip


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def milliseconds(stages: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median time of each stage; the stages take turns, so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(repeats):
        for name, run in stages.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def stage_times(image: np.ndarray, repeats: int) -> dict[str, float]:
    detector = default_detector()
    pyramid = Pyramid(image)
    squares = covering_regions(pyramid.width, pyramid.height)
    candidates = detector.find_candidates(pyramid)
    place = candidates[0].region if candidates else Region(pyramid.width / 2, pyramid.height / 2, 200.0)
    first = detector.look(pyramid, place)
    crops = crop_variations(first.next_region, DEFAULT_CROPS)
    find = detector.look_again(pyramid, first)
    return milliseconds(
        {
            "detector, whole image": lambda: detector.detect(pyramid, squares[0]),
            f"detector, image and {len(squares) - 1} tiles": lambda: detector.find_candidates(pyramid),
            "one crop cut": lambda: pyramid.crop(crops[0], 256, replicate_border=True),
            "landmarks, one crop": lambda: detector.look(pyramid, place),
            f"landmarks, {DEFAULT_CROPS} crops averaged": lambda: detector.look_closely(pyramid, find, DEFAULT_CROPS),
            "find_people": lambda: find_people(image),
            "find_people, no tiles, one crop": lambda: find_people(image, tiles=False, crops=1),
        },
        repeats,
    )


def people_found(samples: Path) -> Iterator[dict[str, object]]:
    truth = read_coco(samples / "coco_sample" / "annotations.json")
    for path in sorted(samples.glob("*/*.jpg")):
        image = read(path)
        tiled, whole = find_people(image), find_people(image, tiles=False)
        row: dict[str, object] = {"photo": path.name, "whole image": len(whole), "with tiles": len(tiled)}
        if path.name in truth:
            boxes = [person.box for person in truth[path.name]]
            matched = sum(any(_iou(box, person.box) > 0.3 for person in tiled) for box in boxes)
            row |= {"annotated": len(boxes), "matched": matched}
        yield row


def raw_errors(samples: Path) -> Iterator[dict[str, object]]:
    truth = np.load(samples / "mpi_inf_3dhp_sample" / "annotations.npz")
    ours = [BLAZEPOSE33.index(name) for name in LIMBS]
    theirs = [MPI_INF_3DHP17.index(name) for name in LIMBS]
    for name, joints in zip(truth["imgname"], truth["S"], strict=True):
        image = read(samples / "mpi_inf_3dhp_sample" / str(name))
        row: dict[str, object] = {"photo": str(name)}
        for label, crops in (("one crop", 1), ("average", DEFAULT_CROPS)):
            people = find_people(image, crops=crops)
            if people:
                row[f"PA-MPJPE mm, {label}"] = _pa_mpjpe(people[0], ours, joints[theirs, :3])
        yield row


def _pa_mpjpe(person: DetectedPerson, points: list[int], target: np.ndarray) -> float:
    assert person.landmarks_3d is not None
    found, wanted = torch.from_numpy(person.landmarks_3d[points]), torch.from_numpy(target.astype(np.float64))
    return 1000 * (align(found, wanted).apply(found) - wanted).norm(dim=-1).mean().item()


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(overlap / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - overlap))


def show(title: str, rows: list[dict[str, object]]) -> None:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(*columns, title=title)
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        table.add_row(*(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells))
    Console().print(table)
    for row in rows:
        print(json.dumps({"benchmark": title, **row}))


def default_photo() -> np.ndarray:
    from matplotlib import cbook

    return read(Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    image = read(arguments.photo) if arguments.photo else default_photo()
    times = stage_times(image, arguments.repeats)
    show("milliseconds", [{"stage": name, "median": value} for name, value in times.items()])
    if arguments.samples is not None:
        show("people found", list(people_found(arguments.samples)))
        show("raw 3D landmarks", list(raw_errors(arguments.samples)))


if __name__ == "__main__":
    main()
