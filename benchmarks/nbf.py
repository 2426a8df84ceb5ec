"""Do Neural Body Fitting's findings show at a size that two CPU cores can train?

    kouros synthesize --people 8000 --out train --seed 180001 --size 288 --mocap MOCAP --detections
    kouros synthesize --people 1000 --out val --seed 1 --size 288 --split val --mocap MOCAP --detections
    python benchmarks/nbf.py look --data train --val val --out work
    python benchmarks/nbf.py segmenters --out work    # Table 2's: three that differ in capacity, and what they find
    python benchmarks/nbf.py run --out work           # all cells of Tables 1 to 4 that are not there yet
    python benchmarks/nbf.py report --out work

The systems are the package's own, smaller: crops of 128 pixels, part maps of 64 through a ResNet-18 of a quarter of its
width. What the crops show, of each person in as many augmentations as ``--views`` says, is drawn once, in files of some
hundred people. A cell is one training run of one seed, about 10 seconds of one core; it adds one JSON line to
``work/cells.jsonl``. A command that is started again goes on where it was: files and cells that are there are not made
again. ``--minutes`` ends it before the next cell.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
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
from kouros.networks.fixed_camera import Placement
from kouros.networks.light_head import LightHead
from kouros.networks.movenet import MoveNetTrunk
from kouros.priors.gmm import load_gmm
from kouros.systems.nbf import Answer, Nbf, NbfConfig, NbfLosses, Parts, PartsConfig
from kouros.systems.system import System
from kouros.training.options import EngineOptions

CELLS, FIG3 = "cells.jsonl", "fig3.npz"
CROP, PEOPLE_A_FILE, BATCH = 128, 256, 16
JUDGED = 2
"""Files of people by whom second stages are judged."""
SMALL = NbfConfig(backbone=18, width=16, input_size=64, crop_size=CROP, learning_rate=2e-3)
"""The learning rate is for hundreds of steps, not for the paper's hundred thousands."""
SEGMENTER = PartsConfig(network="light", backbone="movenet", crop_size=CROP, stride=2, learning_rate=2e-3)
SEGMENTERS = {"narrow": 8, "middle": 24, "wide": 48}
"""Widths of their heads, on the held trunk; in the place of Table 2's DeepLab on VGG-16, on ResNet-101, and
RefineNet."""
SEGMENTER_STEPS, SEGMENTER_BATCH = 250, 16
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
    def load(folder: Path, count: int | None = None) -> "People":
        """Of files that `look` made: all, or the first so many."""
        # Written by this script.
        files = [torch.load(path, weights_only=False) for path in sorted(folder.glob("[0-9]*.pt"))[:count]]
        parts24, pictures = (torch.cat([file[name] for file in files]) for name in ("parts24", "pictures"))
        found = {p.stem.removeprefix("found_"): torch.load(p)[: len(parts24)] for p in folder.glob("found_*.pt")}
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


# --- Cells -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """What is trained, and on whose segmentations."""

    config: NbfConfig
    by: str = TRUTH


def with_losses(*weights: float, **others: Any) -> Cell:
    """Of parameters, points in space, points in the picture."""
    return Cell(replace(SMALL, losses=NbfLosses(*weights), **others))


FULL, HELD = Cell(SMALL), "RGB, held trunk"
TABLES: dict[str, dict[str, Cell]] = {
    "Table 1": {
        "RGB": Cell(replace(SMALL, shown="rgb")),
        HELD: Cell(replace(SMALL, shown="rgb", backbone="movenet", input_size=CROP)),
        **{f"{n} parts": Cell(replace(SMALL, shown=f"parts{n}")) for n in (1, 3, 6)},  # type: ignore[arg-type]
        "12 parts": FULL,
        "24 parts": Cell(replace(SMALL, shown="parts24")),
        "12 parts, numbers": Cell(replace(SMALL, coding="numbers")),
        **{f"{n} joints": Cell(replace(SMALL, shown=f"joints{n}")) for n in (14, 24)},  # type: ignore[arg-type]
    },
    "Table 2": {**{name: Cell(SMALL, by=name) for name in SEGMENTERS}, TRUTH: FULL},
    "Table 3": {
        "lat": with_losses(1.0, 0.0, 0.0),
        "lat + 3D": with_losses(1.0, 100.0, 0.0),
        "lat + 2D": with_losses(1.0, 0.0, 100.0),
        "lat + 3D + 2D": FULL,
        "3D": with_losses(0.0, 100.0, 0.0),
        "2D": with_losses(0.0, 0.0, 100.0),
        "lat + 3D + 2D, 91 landmarks": with_losses(1.0, 100.0, 100.0, points="landmarks91"),
    },
    "Table 4": {
        **{
            f"{percent} %": with_losses(1.0, 0.0, 100.0, share_3d=percent / 100)
            for percent in (100, 50, 20, 10, 5, 2, 1)
        },
        "0 %": with_losses(0.0, 0.0, 100.0),
    },
}
"""Rows that are the same cell in two tables are trained once."""


def names() -> dict[Cell, str]:
    """All that are to be trained, by the first row that has them."""
    cells: dict[Cell, str] = {}
    for table, rows in TABLES.items():
        for row, cell in rows.items():
            cells.setdefault(cell, f"{table}: {row}")
    return cells


def read(path: Path) -> list[dict[str, Any]]:
    """The cells so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def note(out: Path, row: dict[str, Any]) -> None:
    """Add a line to the file of cells, and show it."""
    line = json.dumps(row)
    with (out / CELLS).open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


# --- Training --------------------------------------------------------------------------------------------------


def train(system: System, steps: int, batches: Iterator[Tensor], step_on: Callable[[Tensor], Tensor]) -> float:
    """Lower a loss of so many batches; the CPU seconds it took."""
    (optimizer,) = system.optimizers()
    options, began = EngineOptions(steps, schedule="polynomial"), time.process_time()
    highest = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, highest, strict=True):
            group["lr"] = rate * options.learning_rate_share(step)
        optimizer.zero_grad()
        step_on(next(batches)).backward()
        torch.nn.utils.clip_grad_norm_(system.parameters(), 10.0)
        optimizer.step()
    return time.process_time() - began


def epochs(people: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Rows of one batch after the other, without end, each person once in every round."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.randperm(people, generator=generator).split(batch)


def train_body(cell: Cell, seed: int, steps: int, people: People, looked: "Looked | None") -> tuple[Nbf, float]:
    """A second stage, and the CPU seconds its training took; ``looked``: what a held trunk made of the pictures."""
    torch.manual_seed(seed)
    system = cell.config.build(kouros.load_body())
    system.begin()
    wants = system.wants
    trunk = system.network.backbone
    if looked is not None:
        system.network.backbone = nn.Identity()  # type: ignore[assignment]
        wants = replace(wants, image=False)

    def step(rows: Tensor) -> Tensor:
        batch = people.batch(rows, wants)
        if looked is None:
            return system.step(batch, people.segmented(rows, cell.by)).losses[0]
        placement, larger = Placement(looked.scale[rows], looked.offset[rows]), looked.larger[rows]
        terms = system.losses(batch, placement, larger, Answer(*system.network(looked.features[rows].float())))
        return torch.stack([getattr(system.config.losses, name) * term for name, term in terms.items()]).sum()

    seconds = train(system, steps, epochs(len(people), BATCH, seed), step)
    system.network.backbone = trunk
    return system, seconds


@dataclass(frozen=True)
class Looked:
    """What the held trunk made of each crop, moved and scaled once at random."""

    features: Tensor
    scale: Tensor
    offset: Tensor
    larger: Tensor

    @staticmethod
    @torch.no_grad()
    def at(people: People) -> "Looked":
        """All crops, with random numbers that are always the same."""
        torch.manual_seed(0)
        system = TABLES["Table 1"][HELD].config.build(kouros.load_body())
        system.begin()
        found = []
        for rows in torch.arange(len(people)).split(64):
            batch = people.batch(rows, system.wants)
            placement, larger = system.jittered(system.placement(batch))
            seen = system.network.backbone(system.shown(batch, placement)).half()
            found.append((seen, placement.scale, placement.offset, larger))
        return Looked(*(torch.cat(columns) for columns in zip(*found, strict=True)))


def errors(system: Nbf, people: People, by: str) -> dict[str, np.ndarray]:
    """Table 3's measures of everybody: metres, shares, radians."""
    parts = [
        system.errors(people.batch(rows, system.wants), people.segmented(rows, by))
        for rows in torch.arange(len(people)).split(PEOPLE_A_FILE)
    ]
    return {name: torch.cat([p[name] for p in parts]).numpy() for name in parts[0]}


def judged(system: Nbf, people: People, by: str) -> dict[str, float]:
    """Their means: mm, percent, radians."""
    scale = {"joints": 1e3, "pckh": 1e2, "rotations": 1.0}
    return {name: scale[name] * float(np.nanmean(each)) for name, each in errors(system, people, by).items()}


def run(out: Path, steps: int, seeds: range, until: float) -> None:
    """All cells that are not there yet, seed by seed."""
    people, val = People.load(out / "train"), People.load(out / "val", JUDGED)
    # Only these need what segmenters find; without it, all others are run.
    compared = list(TABLES["Table 2"].values())
    if missing := [name for name in SEGMENTERS if name not in val.found or name not in people.found]:
        print(f"{out} has nothing that {missing[0]} found: Table 2 waits for `segmenters`", flush=True)
    cells = names()
    done = {(row["cell"], row["seed"], row["steps"]) for row in read(out / CELLS) if "steps" in row}
    looked: Looked | None = None
    for seed in seeds:
        for cell, name in cells.items():
            if (name, seed, steps) in done or (missing and cell in compared):
                continue
            if time.monotonic() > until:
                print("time is up", flush=True)
                return
            held = name.endswith(HELD)
            if held and looked is None:
                looked = Looked.at(people)
            system, seconds = train_body(cell, seed, steps, people, looked if held else None)
            tested = {by: judged(system, val, by) for by in ((TRUTH, *SEGMENTERS) if cell in compared else (TRUTH,))}
            note(out, {"cell": name, "seed": seed, "steps": steps, "cpu_seconds": round(seconds, 1), "on": tested})
            if cell.by == list(SEGMENTERS)[-1] and seed == 0:
                fig3(system, val, cell.by, out)


# --- Segmentations ---------------------------------------------------------------------------------------------


def segmenters(out: Path) -> None:
    """Train three, of one seed, on what the held trunk makes of the crops, and keep what they find in all crops."""
    people = {part: People.load(out / part) for part in ("train", "val")}
    torch.manual_seed(0)
    system = SEGMENTER.build(kouros.load_body())
    system.begin()
    system.backbone.requires_grad_(False)
    features = {part: trunk_features(system, those) for part, those in people.items()}
    for name, width in SEGMENTERS.items():
        if all((out / part / f"found_{name}.pt").exists() for part in people):
            continue
        torch.manual_seed(0)
        trunk = system.backbone
        assert isinstance(trunk, MoveNetTrunk)
        outputs = 1 + len(system.parts)
        system.head = LightHead(trunk.layer_channels, trunk.layer_strides, outputs, width)
        step = partial(segmenter_loss, system, people["train"], features["train"])
        seconds = train(system, SEGMENTER_STEPS, epochs(len(people["train"]), SEGMENTER_BATCH, 0), step)
        for part, seen in features.items():
            save(found_in(system, people[part], seen), out / part / f"found_{name}.pt")
        scores = quality_of(People.load(out / "val").found[name], people["val"])
        size = sum(p.numel() for p in system.head.parameters())
        note(out, {"segmenter": name, "numbers": size, "cpu_seconds": round(seconds, 1), **scores})


def segmenter_loss(system: Parts, people: People, features: Tensor, rows: Tensor) -> Tensor:
    batch = people.batch(rows, replace(system.wants, image=False))
    return system.training_step(replace(batch, features=features[rows].float())).losses[0]


@torch.no_grad()
def trunk_features(system: Parts, people: People) -> Tensor:
    """Of all crops, in half precision."""
    wants = system.wants
    chunks = [system.features(people.batch(rows, wants).image).half() for rows in torch.arange(len(people)).split(64)]
    return torch.cat(chunks)


@torch.no_grad()
def found_in(system: Parts, people: People, features: Tensor) -> Tensor:
    """The likeliest part of each pixel, uint8."""
    side = system.wants.map_size(CROP)
    found = []
    for rows in torch.arange(len(people)).split(64):
        maps = system.seen_maps(replace(people.known[rows], features=features[rows].float()))
        found.append(system.head(maps, (side, side)).argmax(1).byte())
    return torch.cat(found)


def true_parts(people: People) -> Tensor:
    """What segmenters are judged by: (people, 64, 64)."""
    truth = people.batch(torch.arange(len(people)), Wants(image=False, parts=(PARTS12.name,), stride=2)).dense
    assert truth is not None
    return truth.labels[PARTS12.name]


def quality_of(found: Tensor, people: People) -> dict[str, float]:
    """IoU and F1, percent, means over the twelve parts of the pooled pixels."""
    scores = segmentation_scores(confusion_matrix(found.long(), true_parts(people), 1 + len(PARTS12)))
    return {
        "iou": 100 * float(scores.iou_per_class[1:].nanmean()),
        "f1": 100 * float(scores.f1_per_class[1:].nanmean()),
    }


@torch.no_grad()
def fig3(system: Nbf, people: People, by: str, out: Path) -> None:
    """Of each picture F1, error, and how far the true pose is from the mean pose."""
    f1 = part_scores(people.found[by].long(), true_parts(people), 1 + len(PARTS12)).f1
    body = system.body
    pose = people.known.pose[:, 3:]
    joints, upright = (body.joint_positions(body_pose=p) for p in (pose, load_gmm().mean().float()[None]))
    away = (joints - upright).norm(dim=-1).mean(1)
    arrays = {"f1": f1.numpy(), "joints": errors(system, people, by)["joints"], "away": away.numpy()}
    write_file(out / FIG3, npz_bytes(arrays))


# --- Report ----------------------------------------------------------------------------------------------------


def report(out: Path) -> None:
    """Means and standard deviations over seeds, as Markdown; plots of Table 4 and Fig. 3."""
    runs, found = defaultdict(list), {}
    for row in read(out / CELLS):
        if "segmenter" in row:
            found[row["segmenter"]] = row
        else:
            runs[row["cell"]].append(row)
    cells = names()

    def shown(cell: Cell, key: str, digits: int = 1, by: str = TRUTH) -> str:
        values = [row["on"][by][key] for row in runs[cells[cell]] if by in row["on"]]
        spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
        return f"{mean(values):.{digits}f}{spread}" if values else "-"

    def table(*rows: Sequence[str]) -> None:
        print("\n" + "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])))

    seeds, steps = ({row[key] for rows in runs.values() for row in rows} for key in ("seed", "steps"))
    print(f"seeds: {sorted(seeds)}; steps: {sorted(steps)}")
    for title in ("Table 1", "Table 3", "Table 4"):
        measures = ("joints3D, mm", "PCKh, %", "quat, rad")
        table(
            (title, *measures),
            *(
                (name, shown(cell, "joints"), shown(cell, "pckh"), shown(cell, "rotations", 3))
                for name, cell in TABLES[title].items()
            ),
        )
    table(
        ("segmenter", "numbers in its head", "IoU, %", "F1, %"),
        *((name, f"{row['numbers']:,}", f"{row['iou']:.1f}", f"{row['f1']:.1f}") for name, row in found.items()),
    )
    trained = TABLES["Table 2"]
    table(
        ("Table 2, joints3D, mm", *(f"trained on {name}" for name in trained)),
        *((f"tested on {by}", *(shown(cell, "joints", by=by) for cell in trained.values())) for by in trained),
    )
    draw([(int(name.partition(" ")[0]), runs[cells[cell]]) for name, cell in TABLES["Table 4"].items()], out)


def draw(shares: Sequence[tuple[int, list[dict[str, Any]]]], out: Path) -> None:
    """Error over the share of 3D labels, and over the quality of each segmentation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    known = [(share, [row["on"][TRUTH]["joints"] for row in rows]) for share, rows in shares if rows]
    left.errorbar(
        [max(share, 0.5) for share, _ in known],
        [mean(values) for _, values in known],
        [stdev(values) if len(values) > 1 else 0 for _, values in known],
        marker="o",
        capsize=3,
    )
    left.set_xscale("log")
    left.set_xlabel("samples with 3D labels, % (0 is drawn at 0.5)")
    left.set_ylabel("joints3D, mm")
    if (out / FIG3).exists():
        with np.load(out / FIG3) as file:
            f1, joints, away = file["f1"], 1e3 * file["joints"], 1e3 * file["away"]
        dots = right.scatter(f1, joints, c=away, s=6, cmap="viridis_r")
        figure.colorbar(dots, ax=right, label="joints from those of the mean pose, mm")
        right.set_xlabel("F1 of the segmentation")
        right.set_ylabel("joints3D, mm")
        for name, values in (("F1", f1), ("distance from the mean pose", away)):
            kept = np.isfinite(values) & np.isfinite(joints)
            print(f"rank correlation of the error with {name}: {spearmanr(values[kept], joints[kept]).statistic:.2f}")
    figure.savefig(out / "nbf.png", dpi=110)
    print(f"wrote {out / 'nbf.png'}")


# --- Command line ----------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("look", "segmenters", "run", "report"))
    parser.add_argument("--data", type=Path, help="folder of synthetic people to train on")
    parser.add_argument("--val", type=Path, help="folder of synthetic people to be judged by")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--views", type=float, default=0.568, help="augmentations of each person, in the mean")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no cell after so many")
    given = parser.parse_args()
    if given.what == "look":
        look(SyntheticSource(given.data), given.out / "train", given.views)
        look(SyntheticSource(given.val), given.out / "val", None)
    elif given.what == "segmenters":
        segmenters(given.out)
    elif given.what == "run":
        run(given.out, given.steps, range(given.seeds), time.monotonic() + 60 * given.minutes)
    else:
        report(given.out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
