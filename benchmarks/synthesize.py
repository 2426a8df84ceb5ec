"""How fast synthetic people are drawn, labelled and rendered: milliseconds of one core, and pictures a second.

    python benchmarks/synthesize.py --json synthesize.json

Each stage's processor time on one thread, the median over pictures; and the pictures a second that all processes
together render with RGB and the first person's IUV, by the clock. What whole batches cost is asked by `batches.py`.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch

from kouros.data.crops import CropTransform
from kouros.data.dense import Look, Wants
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.labels import label, thickness
from kouros.data.synthetic.scenes import Scene, SceneConfig, draw_scene

T = TypeVar("T")
_PATIENCE = 120.0
"""Seconds that a process is waited for."""


def stages(pictures: int, size: int) -> dict[str, float]:
    """Mean milliseconds a picture of each stage, processor time."""
    stage, config = _ready(), SceneConfig(size=size)
    flesh = thickness(stage.body)
    spent = dict.fromkeys(("draw the scene", "pose", "label", "RGB", "IUV of a person"), 0.0)

    def timed(name: str, work: Callable[[], T]) -> T:
        start = time.process_time()
        result = work()
        spent[name] += time.process_time() - start
        return result

    for index in range(pictures):
        scene = timed("draw the scene", partial(draw_scene, 0, index, stage.body, None, config))
        staged = timed("pose", partial(stage.staged, scene))
        timed("label", partial(label, stage, scene, flesh, staged))
        timed("RGB", partial(stage.picture, scene, staged))
        if len(scene):
            timed("IUV of a person", partial(maps, stage, scene))
    return {name: 1e3 * seconds / pictures for name, seconds in spent.items()}


def _ready() -> Stage:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    stage = Stage()
    scene = draw_scene(0, 0, stage.body, None, SceneConfig(size=64))
    stage.picture(scene)
    maps(stage, scene)
    return stage


def maps(stage: Stage, scene: Scene) -> None:
    """What the whole picture shows of its first person, posed for it alone."""
    whole = Look(CropTransform(np.full(2, scene.size / 2), float(scene.size), scene.size), (scene.size, scene.size))
    stage.maps([(scene, 0)], [whole], Wants(maps=("mask", "iuv", "depth")))


def render(worker: int, pictures: int, size: int, ready: Any, seconds: Any) -> None:
    """One process's share, from when all are ready."""
    stage, config = _ready(), SceneConfig(size=size)
    scenes = [draw_scene(1 + worker, i, stage.body, None, config) for i in range(pictures)]
    ready.wait(_PATIENCE)
    start = time.perf_counter()
    for scene in scenes:
        staged = stage.staged(scene)
        stage.picture(scene, staged)
        if len(scene):
            maps(stage, scene)
    seconds.put(time.perf_counter() - start)


def rate(workers: int, pictures: int, size: int) -> float:
    """Pictures a second of all processes together, RGB and IUV, scenes drawn beforehand."""
    context = multiprocessing.get_context("spawn")
    ready, seconds = context.Barrier(workers), context.Queue()
    processes = [context.Process(target=render, args=(k, pictures, size, ready, seconds)) for k in range(workers)]
    for process in processes:
        process.start()
    took = [seconds.get(timeout=2 * _PATIENCE) for _ in processes]
    for process in processes:
        process.join()
    return workers * pictures / float(np.max(took))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    spent = stages(given.pictures, given.size)
    for name, milliseconds in spent.items():
        print(f"{name:24}{milliseconds:8.1f} ms")
    each = spent["pose"] + spent["RGB"] + spent["IUV of a person"]
    print(f"{'RGB + IUV of a stored scene':24}{each:8.1f} ms of one core")
    pictures_a_second = rate(given.workers, given.pictures, given.size)
    print(f"{given.workers} processes: {pictures_a_second:.1f} pictures/s at {given.size} x {given.size}, RGB + IUV")
    if given.json:
        result = {"size": given.size, "milliseconds": spent, "workers": given.workers, "rate": pictures_a_second}
        given.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
