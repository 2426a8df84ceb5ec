"""Do Neural Body Fitting's findings show at a size that two CPU cores can train?

    kouros synthesize --people 20000 --out train --seed 31 --size 256 --mocap MOCAP
    kouros synthesize --people 1600 --out val --seed 32 --size 256 --split val --mocap MOCAP
    python benchmarks/nbf.py look --data train --val val --out work
    python benchmarks/nbf.py inputs --out work        # Table 1
    python benchmarks/nbf.py segmenters --out work    # Table 2: three that differ in capacity, and what they find
    python benchmarks/nbf.py quality --out work       # Table 2, Fig. 3
    python benchmarks/nbf.py losses --out work        # Table 3
    python benchmarks/nbf.py labels --out work        # Table 4
    python benchmarks/nbf.py report --out work

The systems are the package's own, smaller: crops of 128 pixels, part maps of 64 through a ResNet-18 of a quarter of its
width. What the crops show, of each person in as many augmentations as ``--views`` says, is drawn once, in files of some
hundred people. Every run adds one JSON line to ``work/runs.jsonl``. A command that is started again goes on where it
was: files and runs that are there are not made again. ``--only 0/2`` and ``--only 1/2`` share the runs between two
processes.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import one_hot

import kouros
from kouros.batched import concatenate
from kouros.body.surface.parts import PART_SETS, PARTS12, PARTS24
from kouros.data.augment import NBF_AUGMENTATION
from kouros.data.batch import Batch
from kouros.data.dense import Wants
from kouros.data.parts_files import FORMATS
from kouros.data.sources import Source
from kouros.data.stream import StreamConfig, TrainingStream, plain_batch
from kouros.data.synthetic import SyntheticSource
from kouros.evaluation.metrics import confusion_matrix, part_scores, segmentation_scores
from kouros.files import npz_bytes, write_file
from kouros.networks.blazepose import BlazePoseTrunk
from kouros.priors.gmm import load_gmm
from kouros.systems.nbf import Nbf, NbfConfig, NbfLosses, Parts, PartsConfig
from kouros.systems.system import System
from kouros.training.options import EngineOptions

RUNS, FIG3 = "runs.jsonl", "fig3.npz"
CROP, PEOPLE_A_FILE, BATCH = 128, 256, 32
SMALL = NbfConfig(backbone=18, width=16, input_size=64, crop_size=CROP, learning_rate=2e-3)
"""The learning rate is for hundreds of steps, not for the paper's hundred thousands."""
SEGMENTERS = {
    "tiny": PartsConfig(network="light", backbone=18, width=8, crop_size=CROP, stride=2, learning_rate=1e-3),
    "small": PartsConfig(network="light", backbone=18, width=16, crop_size=CROP, stride=2, learning_rate=1e-3),
    "medium": PartsConfig(network="light", backbone=18, width=32, crop_size=CROP, stride=2, learning_rate=1e-3),
}
"""In the place of Table 2's DeepLab on VGG-16, DeepLab on ResNet-101, and RefineNet."""
TRUTH = "truth"


# --- What crops show -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class People:
    """Crops of people, in memory."""

    known: Batch
    """All but the pictures and maps."""
    parts24: Tensor
    """(people, 128, 128), uint8."""
    pictures: Tensor
    """(people, 3, 128, 128), uint8."""
    found: dict[str, Tensor]
    """What each segmenter found: (people, 64, 64) labels of the 12 parts, uint8."""

    @staticmethod
    def load(folder: Path) -> "People":
        """Of files that `look` made."""
        # Written by this script.
        files = [torch.load(path, weights_only=False) for path in sorted(folder.glob("[0-9]*.pt"))]
        found = {path.stem.removeprefix("found_"): torch.load(path) for path in folder.glob("found_*.pt")}
        parts24, pictures = (torch.cat([file[name] for file in files]) for name in ("parts24", "pictures"))
        return People(concatenate([file["known"] for file in files]), parts24, pictures, found)

    def __len__(self) -> int:
        return len(self.known)

    def batch(self, rows: Tensor, wants: Wants) -> Batch:
        """Some people, with what a system wants of them."""
        known = self.known[rows]
        picture = self.pictures[rows].float() / 255 if wants.image else torch.zeros(1, 1, 1, 1)
        finest = self.parts24[rows].long()[:, :: wants.stride, :: wants.stride]
        labels = {name: _COARSER[name][finest] for name in wants.parts}
        assert known.dense is not None
        image = picture.expand(len(rows), 3, CROP, CROP)
        return replace(known, image=image, dense=replace(known.dense, labels=labels))

    def segmented(self, rows: Tensor, by: str) -> Tensor | None:
        """What a segmenter found, as probabilities; None: the truth."""
        if by == TRUTH:
            return None
        return one_hot(self.found[by][rows].long(), 1 + len(PARTS12)).permute(0, 3, 1, 2).float()


_COARSER = {
    name: torch.from_numpy(FORMATS[PARTS24.name].to(PART_SETS[name]))
    for name in PART_SETS
    if name in FORMATS[PARTS24.name].sets
}


def look(source: Source, folder: Path, views: float | None) -> None:
    """Draw all people, ``views`` times each under the paper's augmentation (or some of them), or once as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    wants = Wants(parts=(PARTS24.name,))
    stream = TrainingStream([source], None, PEOPLE_A_FILE, StreamConfig(CROP, NBF_AUGMENTATION, wants))
    for number in range(math.ceil(len(source) * (views or 1) / PEOPLE_A_FILE)):
        path = folder / f"{number:05d}.pt"
        if path.exists():
            continue
        rows = range(number * PEOPLE_A_FILE, min((number + 1) * PEOPLE_A_FILE, len(source)))
        batch = plain_batch(source, rows, CROP, wants) if views is None else stream[number]
        assert batch.dense is not None
        seen = {
            "known": replace(
                batch, image=batch.image[:, :, :1, :1], dense=replace(batch.dense, labels={}), dense_known={}
            ),
            "parts24": batch.dense.labels[PARTS24.name].byte(),
            "pictures": (255 * batch.image).round().byte(),
        }
        save(seen, path)
        print(json.dumps({"looked at": str(path)}), flush=True)


def save(value: Any, path: Path) -> None:
    """A file that is whole or not there."""
    aside = path.with_suffix(".part")
    torch.save(value, aside)
    aside.rename(path)


# --- Training --------------------------------------------------------------------------------------------------


def train(system: System, steps: int, seed: int, people: int, step_on: Callable[[Tensor], Tensor]) -> float:
    """Lower a loss of random people; the CPU seconds it took."""
    generator = torch.Generator().manual_seed(seed)
    (optimizer,) = system.optimizers()
    options, began = EngineOptions(steps, schedule="polynomial"), time.process_time()
    highest = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        torch.manual_seed(1_000_003 * seed + step)
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * options.learning_rate_share(step)
        optimizer.zero_grad()
        step_on(torch.randint(people, (BATCH,), generator=generator)).backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 10.0)
        optimizer.step()
    return time.process_time() - began


@dataclass(frozen=True)
class Experiment:
    """What all runs share."""

    train: People
    val: People
    out: Path
    steps: int
    seeds: range
    only: tuple[int, int]

    def runs(self, table: str, names: Sequence[str]) -> Iterator[tuple[str, int]]:
        """Variants and seeds that are still to be run, of this process's share."""
        wanted = [(f"{table}: {name}", seed) for seed in self.seeds for name in names]
        done = {(row["name"], row["seed"], row["steps"]) for row in read(self.out / RUNS)}
        for number, (name, seed) in enumerate(wanted):
            if number % self.only[1] == self.only[0] and (name, seed, self.steps) not in done:
                yield name, seed

    def body(self, name: str, seed: int, config: NbfConfig, by: str = TRUTH) -> Nbf:
        """Train a second stage, judge it on the truth, and note it; ``by``: whose segmentations it learns from."""
        torch.manual_seed(seed)
        system = config.build(kouros.load_body())
        system.begin()
        trunk = system.network.backbone
        if isinstance(trunk, BlazePoseTrunk):  # all but its last layers are held
            trunk.requires_grad_(False)
            trunk.head.requires_grad_(True)

        def step(rows: Tensor) -> Tensor:
            return system.step(self.train.batch(rows, system.wants), self.train.segmented(rows, by)).losses[0]

        seconds = train(system, self.steps, seed, len(self.train), step)
        self.note({"name": name, "seed": seed, "cpu_seconds": seconds, **self.judged(system)})
        return system

    def judged(self, system: Nbf, by: str = TRUTH) -> dict[str, float]:
        """Table 3's measures over all who are to be judged by: mm, percent, radians."""
        each = self.errors(system, by)
        scale = {"joints": 1e3, "pckh": 1e2, "rotations": 1.0}
        return {name: scale[name] * float(np.nanmean(values)) for name, values in each.items()}

    def errors(self, system: Nbf, by: str) -> dict[str, np.ndarray]:
        parts = [
            system.errors(self.val.batch(rows, system.wants), self.val.segmented(rows, by))
            for rows in torch.arange(len(self.val)).split(PEOPLE_A_FILE)
        ]
        return {name: torch.cat([p[name] for p in parts]).numpy() for name in parts[0]}

    def note(self, row: dict[str, Any]) -> None:
        """Add a line to the file of runs, and show it."""
        line = json.dumps(row | {"steps": self.steps})
        with (self.out / RUNS).open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """The runs so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# --- The tables ------------------------------------------------------------------------------------------------

INPUTS: dict[str, NbfConfig] = {
    "RGB": replace(SMALL, shown="rgb"),
    **{f"{n} parts": replace(SMALL, shown=f"parts{n}") for n in (1, 3, 6, 12, 24)},  # type: ignore[arg-type]
    "12 parts, numbers": replace(SMALL, coding="numbers"),
    **{f"{n} joints": replace(SMALL, shown=f"joints{n}") for n in (14, 24)},  # type: ignore[arg-type]
    "RGB, held trunk": replace(SMALL, shown="rgb", backbone="blazepose", input_size=256),
}
LOSSES: dict[str, NbfConfig] = {
    name: replace(SMALL, losses=NbfLosses(*weights))
    for name, weights in {
        "lat": (1.0, 0.0, 0.0), "lat + 3D": (1.0, 100.0, 0.0), "lat + 2D": (1.0, 0.0, 100.0),
        "lat + 3D + 2D": (1.0, 100.0, 100.0), "3D": (0.0, 100.0, 0.0), "2D": (0.0, 0.0, 100.0),
    }.items()
} | {"lat + 3D + 2D, 91 landmarks": replace(SMALL, points="landmarks91")}  # fmt: skip
LABELS: dict[str, NbfConfig] = {
    f"{percent} %": replace(SMALL, share_3d=percent / 100, losses=NbfLosses(1.0, 0.0, 100.0))
    for percent in (100, 50, 20, 10, 5, 2, 1, 0)
}


def variants(table: str, configs: dict[str, NbfConfig]) -> Callable[[Experiment], None]:
    """A table whose rows differ in their configuration alone."""

    def run(on: Experiment) -> None:
        for name, seed in on.runs(table, list(configs)):
            on.body(name, seed, configs[name.partition(": ")[2]])

    return run


def segmenters(on: Experiment) -> None:
    """Train three, of one seed, and keep what they find in all crops."""
    for name, config in SEGMENTERS.items():
        if all((on.out / part / f"found_{name}.pt").exists() for part in ("train", "val")):
            continue
        torch.manual_seed(0)
        system = config.build(kouros.load_body())

        def step(rows: Tensor, system: Parts = system) -> Tensor:
            return system.training_step(on.train.batch(rows, system.wants)).losses[0]

        seconds = train(system, on.steps, 0, len(on.train), step)
        for part, people in (("train", on.train), ("val", on.val)):
            found = [
                system.probabilities(people.batch(rows, system.wants).image).argmax(1).byte()
                for rows in torch.arange(len(people)).split(PEOPLE_A_FILE)
            ]
            save(torch.cat(found), on.out / part / f"found_{name}.pt")
        scores = quality_of(torch.cat(found), on.val)
        on.note({"name": f"Segmenters: {name}", "seed": 0, "cpu_seconds": seconds, **scores})


def quality_of(found: Tensor, people: People) -> dict[str, float]:
    """IoU and F1, percent, means over the twelve parts of the pooled pixels."""
    truth = people.batch(torch.arange(len(people)), Wants(image=False, parts=(PARTS12.name,), stride=2)).dense
    assert truth is not None
    confusion = confusion_matrix(found.long(), truth.labels[PARTS12.name], 1 + len(PARTS12))
    scores = segmentation_scores(confusion)
    return {
        "iou": 100 * float(scores.iou_per_class[1:].nanmean()),
        "f1": 100 * float(scores.f1_per_class[1:].nanmean()),
    }


def quality(on: Experiment) -> None:
    """Train on the segmentations of each and on the truth, test on all; and Fig. 3 of the best one's."""
    sources = [*SEGMENTERS, TRUTH]
    missing = [name for name in SEGMENTERS if name not in on.val.found]
    if missing:
        raise SystemExit(f"{on.out} has nothing that {missing[0]} found; run `segmenters` first.")
    best = list(SEGMENTERS)[-1]
    for name, seed in on.runs("Table 2", sources):
        by = name.partition(": ")[2]
        system = on.body(name, seed, SMALL, by)
        for tested in SEGMENTERS:
            on.note({"name": f"Table 2, {by} on {tested}", "seed": seed, **on.judged(system, tested)})
        if by == best and seed == 0:
            fig3(system, on, best)


@torch.no_grad()
def fig3(system: Nbf, on: Experiment, by: str) -> None:
    """Of each picture F1, error, and how far the true pose is from the mean pose."""
    truth = on.val.batch(torch.arange(len(on.val)), Wants(image=False, parts=(PARTS12.name,), stride=2)).dense
    assert truth is not None
    f1 = part_scores(on.val.found[by].long(), truth.labels[PARTS12.name], 1 + len(PARTS12)).f1
    body = system.body
    pose = on.val.known.pose[:, 3:]
    joints, upright = (body.joint_positions(body_pose=p) for p in (pose, load_gmm().mean().float()[None]))
    away = (joints - upright).norm(dim=-1).mean(1)
    arrays = {"f1": f1.numpy(), "joints": on.errors(system, by)["joints"], "away": away.numpy()}
    write_file(on.out / FIG3, npz_bytes(arrays))


# --- Report ----------------------------------------------------------------------------------------------------


def report(out: Path) -> None:
    """Means and standard deviations over seeds; plots of Table 4 and Fig. 3."""
    rows = defaultdict(list)
    for row in read(out / RUNS):
        rows[row["name"]].append(row)

    def cell(name: str, key: str, digits: int = 1) -> str:
        values = [row[key] for row in rows.get(name, []) if key in row]
        if not values:
            return "-"
        return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")

    console = Console(width=140)
    for title, names in (("Table 1", INPUTS), ("Table 3", LOSSES), ("Table 4", LABELS)):
        table = Table(title, "seeds", "joints3D, mm", "PCKh, %", "quat, rad")
        for name in names:
            full = f"{title}: {name}"
            cells = (cell(full, "joints"), cell(full, "pckh"), cell(full, "rotations", 3))
            table.add_row(name, str(len(rows.get(full, []))), *cells)
        console.print(table)
    table = Table("segmenter", "IoU, %", "F1, %")
    for name in SEGMENTERS:
        table.add_row(name, cell(f"Segmenters: {name}", "iou"), cell(f"Segmenters: {name}", "f1"))
    console.print(table)
    sources = [*SEGMENTERS, TRUTH]
    table = Table("Table 2: joints3D, mm; tested on", *(f"trained on {name}" for name in sources))
    for tested in sources:
        runs = (f"Table 2: {by}" if tested == TRUTH else f"Table 2, {by} on {tested}" for by in sources)
        table.add_row(tested, *(cell(run, "joints") for run in runs))
    console.print(table)
    draw(rows, out)


def draw(rows: dict[str, list[dict[str, Any]]], out: Path) -> None:
    """Error over the share of 3D labels, and over the quality of each segmentation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    shares = [(int(name.partition(" ")[0]), rows.get(f"Table 4: {name}", [])) for name in LABELS]
    known = [(share, [row["joints"] for row in runs]) for share, runs in shares if runs]
    left.errorbar(
        [max(share, 0.5) for share, _ in known],
        [mean(values) for _, values in known],
        [stdev(values) if len(values) > 1 else 0 for _, values in known],
        marker="o",
    )
    left.set_xscale("log")
    left.set_xlabel("samples with 3D labels, % (0 is drawn at 0.5)")
    left.set_ylabel("joints3D, mm")
    if (out / FIG3).exists():
        with np.load(out / FIG3) as file:
            dots = right.scatter(file["f1"], 1e3 * file["joints"], c=1e3 * file["away"], s=6, cmap="viridis_r")
        figure.colorbar(dots, ax=right, label="joints from those of the mean pose, mm")
        right.set_xlabel("F1 of the segmentation")
        right.set_ylabel("joints3D, mm")
    figure.savefig(out / "nbf.png", dpi=110)
    print(f"wrote {out / 'nbf.png'}")


# --- Command line ----------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs: dict[str, Callable[[Experiment], None]] = {
        "inputs": variants("Table 1", INPUTS),
        "segmenters": segmenters,
        "quality": quality,
        "losses": variants("Table 3", LOSSES),
        "labels": variants("Table 4", LABELS),
    }
    parser.add_argument("what", choices=("look", *runs, "report"))
    parser.add_argument("--data", type=Path, help="folder of synthetic people to train on")
    parser.add_argument("--val", type=Path, help="folder of synthetic people to be judged by")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--views", type=float, default=1, help="augmentations of each person, in the mean")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="0/1", help="K/N: of N processes that share the runs, this is the K-th")
    given = parser.parse_args()
    if given.what == "look":
        look(SyntheticSource(given.data), given.out / "train", given.views)
        look(SyntheticSource(given.val), given.out / "val", None)
    elif given.what == "report":
        report(given.out)
    else:
        share, among = map(int, given.only.split("/"))
        train_on, val = (People.load(given.out / part) for part in ("train", "val"))
        on = Experiment(train_on, val, given.out, given.steps, range(given.seeds), (share, among))
        runs[given.what](on)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
