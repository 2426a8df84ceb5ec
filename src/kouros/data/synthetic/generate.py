"""Making a folder of synthetic people: shards of scenes and rows, by any number of processes and machines, resumable.

Picture ``i`` is drawn from (seed, i) alone, so shards can be made in any order, anywhere, and the result is the same.
A shard appears whole or not at all; what is there already is read, checked and kept. Whoever finishes the last shard
joins the rows into one table.
"""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from kouros.data.detections import has_detections, write_detections
from kouros.data.mocap.recombination import PoseBank, read_bank
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.labels import image_name, label, table_info, thickness
from kouros.data.synthetic.looking import Looked, look_at_people
from kouros.data.synthetic.scenes import VERSION, Scene, SceneConfig, draw_scene, pack, people_in, unpack
from kouros.data.synthetic.source import CONFIG, SCENES
from kouros.data.tables import AnnotationTable, TableWriter, write_table
from kouros.detection import PoseDetector
from kouros.documents import read_json
from kouros.files import npz_bytes, write_file, write_files

SHARD = 64
"""Pictures in one."""
_ROWS = "rows"
_JPEG_QUALITY = 95
_POSES = "diverse_frames.npz"


@dataclass(frozen=True)
class Order:
    """What to make. The same order makes the same people, whoever carries out which part of it."""

    people: int = 10_000
    """At least so many are drawn; those that nothing is seen of are not in the table."""
    seed: int = 0
    split: str = "train"
    """Name of the split; with motion capture, also the split of its poses (train or val)."""
    mocap: Path | None = None
    """Folder with diverse_frames.npz, or that file; None draws from the packaged mixture."""
    backgrounds: Path | None = None
    """Folder of photos."""
    wardrobe: Path | None = None
    """Folder of garments, as `kouros.data.synthetic.garments.Wardrobe` reads it."""
    images: bool = False
    """Whether pictures are written too."""
    detections: bool = False
    """Whether the packaged detector looks at everybody; may be asked of a folder afterwards."""
    features: bool = False
    """Whether what its network made of them is kept too."""
    scene: SceneConfig = field(default_factory=SceneConfig)


class OrderError(ValueError):
    """An order that cannot be carried out; the message is one sentence for the person who gave it."""


@dataclass(frozen=True)
class Made:
    """What a call of `synthesize` did."""

    pictures: int
    rows: int | None
    """In the table; None where other ranks' shards are still missing."""
    table: Path
    made_shards: int
    """By this call; the others were there."""
    shards: int


def synthesize(
    order: Order, out: Path, *, workers: int = 1, rank: int = 0, world: int = 1,
    on_shard: Callable[[int, int], None] = lambda done, of: None,
) -> Made:  # fmt: skip
    """Make the shards of one rank, and the table once all ranks' are there.

    Args:
        workers: processes.
        rank: this machine's number among ``world``.
        on_shard: called with how many of this rank's missing shards are done, of how many.

    Raises:
        OrderError: the order makes no sense, or the folder holds another order's people.
        OSError, ValueError: files cannot be read or written.
    """
    if order.people < 1 or workers < 1 or world < 1 or not 0 <= rank < world:
        raise OrderError("People, workers and world must be at least 1, and rank between 0 and world - 1.")
    if order.scene.size < 32 or not 1 <= order.scene.most_people <= 4 or order.seed < 0:
        raise OrderError("Pictures must be at least 32 pixels wide, hold 1 to 4 people, and have a seed of 0 or more.")
    if order.wardrobe is not None:
        _stage(order.backgrounds, order.wardrobe)  # what is wrong with it is said before anything is made
    pictures = _pictures(order)
    shards = -(-pictures // SHARD)
    mocap = None if order.mocap is None else _digest(_bank_file(order.mocap))
    provenance = _claim(order, out, pictures, mocap or "packaged mixture of Gaussians")
    jobs = [_Job(order, out, k, min(SHARD, pictures - k * SHARD)) for k in range(rank, shards, world)]
    missing = [job for job in jobs if not _is_complete(job)]
    _run(missing, workers, on_shard)
    table = out / f"synthetic_{order.split}.parquet"
    if not all(_rows_file(out, k).is_file() for k in range(shards)):
        return Made(pictures, None, table, len(missing), shards)
    return Made(pictures, _join(table, out, shards, order, provenance), table, len(missing), shards)


def finish(order: Order, out: Path, scenes: list[Scene], poses: str) -> int:
    """Make a folder of scenes that are drawn already; returns the number of rows.

    Args:
        poses: says where they come from.

    Raises:
        OrderError: the folder holds other people.
    """
    provenance = _claim(order, out, len(scenes), poses)
    shards = -(-len(scenes) // SHARD)
    for k in range(shards):
        write_scenes(out, k, scenes[k * SHARD : (k + 1) * SHARD], _stage(order.backgrounds, order.wardrobe), order)
    return _join(out / f"synthetic_{order.split}.parquet", out, shards, order, provenance)


def _join(table: Path, out: Path, shards: int, order: Order, provenance: dict[str, object]) -> int:
    with TableWriter(table, table_info(order.split, str(out.resolve()), provenance)) as writer:
        for k in range(shards):
            writer.copy_rows(_rows_file(out, k))
    return writer.rows


def _pictures(order: Order) -> int:
    """Pictures until so many people are drawn."""
    people = pictures = 0
    while people < order.people:
        people += people_in(order.seed, pictures, order.scene)
        pictures += 1
    return pictures


def _claim(order: Order, out: Path, pictures: int, poses: str) -> dict[str, object]:
    """Say in the folder what it holds.

    Raises:
        OrderError: it holds something else.
    """
    content: dict[str, object] = {
        "version": VERSION, "people": order.people, "pictures": pictures, "seed": order.seed, "split": order.split,
        "poses": poses,
        "backgrounds": None if order.backgrounds is None else str(order.backgrounds.resolve()),
        "wardrobe": None if order.wardrobe is None else str(order.wardrobe.resolve()),
        "images": order.images, "scene": asdict(order.scene), "shard": SHARD, "surface": "free body",
    }  # fmt: skip
    path = out / CONFIG
    if path.exists():
        try:
            there = read_json(path)
        except (OSError, ValueError) as error:
            raise OrderError(f"{path} is broken ({error}); choose an empty folder for --out.") from None
        there = there if isinstance(there, dict) else {}
        if isinstance(there.get("scene"), dict):  # folders of an earlier kouros had fewer options
            there["scene"] = asdict(SceneConfig()) | there["scene"]
        other = sorted(k for k in content if there.get(k) != content[k])
        if other:
            raise OrderError(
                f"{out} holds people made with another {', '.join(other)}; choose another folder, or the same options."
            )
    else:
        write_file(path, json.dumps(content, indent=1).encode())
    return content


def _bank_file(mocap: Path) -> Path:
    path = mocap / _POSES if mocap.is_dir() else mocap
    if not path.is_file():
        raise OrderError(f"There is no motion capture at {path}; expected a folder with {_POSES}, or that file.")
    return path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass(frozen=True)
class _Job:
    order: Order
    out: Path
    number: int
    pictures: int


def _scene_file(out: Path, number: int) -> Path:
    return out / SCENES / f"{number:06d}.npz"


def _rows_file(out: Path, number: int) -> Path:
    return out / _ROWS / f"{number:06d}.parquet"


def _is_complete(job: _Job) -> bool:
    """Whether a shard is there and sound. The rows are written last."""
    try:
        table = AnnotationTable(_rows_file(job.out, job.number))
        scenes = unpack(_scene_file(job.out, job.number).read_bytes(), "scenes")
        samples = list(table)  # rows too, because their pages are damaged as easily as the table's head
    except Exception:  # whatever a damaged shard raises, it is made again
        return False
    if job.order.detections and not has_detections(job.out, job.number, features=job.order.features):
        return False
    first = job.number * SHARD
    named = {sample.image_path for sample in samples} if job.order.images else set()
    return [s.index for s in scenes] == list(range(first, first + job.pictures)) and all(
        (job.out / name).is_file() for name in named
    )


def _run(jobs: list[_Job], workers: int, on_shard: Callable[[int, int], None]) -> None:
    done: Iterable[int]
    if workers == 1 or len(jobs) < 2:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # more would wait for each other over meshes this small
        try:
            for number, job in enumerate(jobs):
                _make(job)
                on_shard(number + 1, len(jobs))
        finally:
            torch.set_num_threads(threads)
        return
    # Not forked: numba's and torch's threads do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), _start) as pool:
        done = pool.imap_unordered(_make, jobs)
        for number, _ in enumerate(done):
            on_shard(number + 1, len(jobs))


def _start() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"


@cache
def _stage(backgrounds: Path | None, wardrobe: Path | None) -> Stage:
    return Stage(backgrounds=backgrounds, wardrobe=wardrobe)


@cache
def _eye() -> PoseDetector:
    return PoseDetector(threads=1)


@cache
def _bank(path: Path, split: str) -> PoseBank:
    return read_bank(path, split)


@cache
def _flesh() -> np.ndarray:
    return thickness(_stage(None, None).body)


def _make(job: _Job) -> int:
    order, first = job.order, job.number * SHARD
    stage = _stage(order.backgrounds, order.wardrobe)
    bank = None if order.mocap is None else _bank(_bank_file(order.mocap), order.split)
    scenes = [draw_scene(order.seed, i, stage.body, bank, order.scene) for i in range(first, first + job.pictures)]
    write_scenes(job.out, job.number, scenes, stage, order)
    return job.number


def write_scenes(out: Path, number: int, scenes: list[Scene], stage: Stage, order: Order) -> None:
    """One shard's files: scenes, pictures where ordered, and last the rows."""
    samples = []
    pictures: dict[Path, bytes | memoryview] = {}
    looked: list[Looked] = []
    for scene in scenes:
        staged = stage.staged(scene)
        mine = label(stage, scene, _flesh(), staged)
        samples += mine
        if not mine or not (order.images or order.detections):
            continue
        picture = stage.picture(scene, staged)
        if order.images:
            _, coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
            pictures[out / image_name(scene.index)] = coded.tobytes()
        if order.detections:
            people = [int(sample.person or 0) for sample in mine]
            looked += look_at_people(scene, people, picture, stage.body, _eye())
    if order.detections:
        features = [one.features for one in looked] if order.features else None
        write_detections(out, number, order.split, [one.detection for one in looked], features)
    write_files({_scene_file(out, number): npz_bytes(pack(scenes)), **pictures})
    write_table(_rows_file(out, number), table_info(order.split, str(out.resolve()), {}), samples)
