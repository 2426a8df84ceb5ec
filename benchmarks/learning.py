"""Do SPIN and HKMR learn, and do their papers' claims show at a size that two CPU cores can train?

    kouros synthesize --people 10000 --out train --seed 1 --size 160 --mocap MOCAP
    kouros synthesize --people 800 --out val --seed 2 --size 160 --split val --mocap MOCAP
    python benchmarks/learning.py backbone --data train --val val --out work
    python benchmarks/learning.py spin --out work
    python benchmarks/learning.py hkmr --out work
    python benchmarks/learning.py ablations --out work
    python benchmarks/learning.py report --out work

Photos are beyond two cores, so the pictures are part segmentations in 24 colours, as Neural Body Fitting's first
network would give. All variants look through one ResNet-18 that was trained to say where the 2D keypoints are, and is
then held: its features of all crops are computed once, so that a regressor sees hundreds of people a second. The
systems are the package's own, with the papers' losses; crops are not augmented but for their mirror images. Every run
prints one JSON line and adds it to ``work/runs.jsonl``; ``report`` prints the tables and draws the curves.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import kouros
from kouros.body.keypoints import SPIN49
from kouros.data.augment import AugmentConfig, Spread
from kouros.data.batch import Batch
from kouros.data.occlusion import DEGREES, SHAPES, Occluder
from kouros.data.schema import Sample, TableInfo
from kouros.data.sources import Source
from kouros.data.stream import StreamConfig, TrainingStream, plain_batch
from kouros.data.synthetic import SyntheticSource
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.fitting.fits_store import Augmentation
from kouros.geometry.rotations import mirror_rotvec
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.kinematic_regressor import KinematicConfig
from kouros.networks.resnet import ResNet
from kouros.priors.body_pose import mirror_body_pose
from kouros.systems.hkmr import HkmrConfig
from kouros.systems.spin import SpinConfig
from kouros.systems.system import System
from kouros.training.judging import COMMON14, keypoints_of

MIRROR = list(SPIN49.mirror)
PELVIS = SPIN49.index("pelvis_mpii")
ANNOTATED = slice(25, 49)
RATE = 3e-4
"""Learning rate of the runs; the papers' are for whole networks and days."""


# --- Pictures of parts ----------------------------------------------------------------------------------------


class PartPictures:
    """Synthetic people as a part segmentation shows them: what is seen of one person, a colour for each part."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._people = SyntheticSource(folder)
        if not cache.exists():
            rows = range(len(self._people))
            labels = []
            for row in rows:
                maps = self._people.maps(row)
                seen = maps.mask(int(self._people.sample(row).person or 0))
                labels.append(np.where(seen, maps.parts["parts24"], 0).astype(np.uint8))
            np.save(cache, np.stack(labels))
        self._labels = np.load(cache)
        self._colours = np.random.default_rng(0).integers(30, 256, (25, 3), dtype=np.uint8)
        self._colours[0] = 0

    @property
    def info(self) -> TableInfo:
        return self._people.info

    def __len__(self) -> int:
        return len(self._people)

    def sample(self, row: int) -> Sample:
        return self._people.sample(row)

    def image(self, row: int) -> np.ndarray:
        return self._colours[self._labels[row]]

    def has(self, name: str) -> bool:
        return self._people.has(name)


# --- The backbone, and what it sees ----------------------------------------------------------------------------


def train_backbone(source: Source, out: Path, minutes: float, crop: int, seed: int) -> ResNet:
    """A ResNet-18 whose features say, through one linear layer, where the annotated 2D keypoints are."""
    torch.manual_seed(seed)
    network, head = ResNet(18), nn.Linear(512, 48)
    augment = AugmentConfig(turned=0.3, rotation=Spread(30.0), scale=Spread(0.15), shift=Spread(0.05), colour=0.0)
    stream = TrainingStream([source], None, 48, StreamConfig(crop, augment, seed))
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=1e-3, weight_decay=0.01)
    began, step, seen = time.time(), 0, []
    while (spent := (time.time() - began) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * spent))
        batch = stream[step]
        told = batch.keypoints_2d[:, ANNOTATED]
        wanted, known = 2 * told[..., :2] / crop - 1, told[..., 2:]
        loss = (known * (head(network(batch.image)).unflatten(-1, (24, 2)) - wanted).abs()).sum() / known.sum() / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        seen.append(loss.item())
        if step % 100 == 0:
            print(json.dumps({"backbone_step": step, "error": mean(seen[-100:]) / 2 * 224}), flush=True)
    torch.save({"network": network.state_dict(), "crop": crop, "steps": step}, out / "backbone.pt")
    return network.eval().requires_grad_(False)


@torch.no_grad()
def look(network: ResNet, source: Source, crop: int, mirrored: bool, occluder: tuple[str, int] | None = None) -> Batch:
    """Everything that is known of a data set; ``image`` holds features instead of pictures."""
    parts = []
    for first in range(0, len(source), 100):
        rows = range(first, min(first + 100, len(source)))
        batch = plain_batch(source, rows, crop)
        if occluder:
            batch = replace(batch, image=torch.stack([_hidden(batch, i, *occluder) for i in range(len(batch))]))
        parts.append(replace(batch, image=network(batch.image)[..., None, None]))
        if mirrored:
            features = network(batch.image.flip(-1))[..., None, None]
            parts.append(replace(_mirrored(batch, crop), image=features))
    return _joined(parts)


def _hidden(batch: Batch, row: int, shape: Any, degree: int) -> Tensor:
    """One annotated joint behind an occluder: which, follows from the row."""
    dice = np.random.default_rng([int(batch.index[row]), degree, SHAPES.index(shape)])
    points = batch.keypoints_2d[row, ANNOTATED]
    x, y, _ = points[dice.choice(np.flatnonzero(points[:, 2].numpy() > 0))].tolist()
    picture = (batch.image[row].permute(1, 2, 0) * 255).round().byte().numpy()
    covered = Occluder.at((x, y), shape, degree, dice.integers(1 << 31, size=2).tolist()).cover(picture)
    return torch.from_numpy(np.ascontiguousarray(covered)).permute(2, 0, 1).float() / 255


def _mirrored(batch: Batch, crop: int) -> Batch:
    flat, space = batch.keypoints_2d[:, MIRROR].clone(), batch.keypoints_3d[:, MIRROR].clone()
    flat[..., 0] = crop - flat[..., 0]
    space[..., 0] *= -1
    pose = torch.cat([mirror_rotvec(batch.pose[:, :3]), mirror_body_pose(batch.pose[:, 3:])], dim=-1)
    augmentation = replace(batch.augmentation, flipped=~batch.augmentation.flipped)
    return replace(batch, keypoints_2d=flat, keypoints_3d=space, pose=pose, augmentation=augmentation)


def _joined(parts: Sequence[Batch]) -> Batch:
    names = [n for n in Batch.__dataclass_fields__ if n != "augmentation"]
    turned = Augmentation(
        torch.cat([p.augmentation.rotation for p in parts]), torch.cat([p.augmentation.flipped for p in parts])
    )
    return Batch(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names}, augmentation=turned)


@dataclass(frozen=True)
class Seen:
    """Data sets as the backbone sees them."""

    train: Batch
    val: Batch
    hidden: dict[tuple[str, int], Batch]
    """By occluder's shape and degree."""
    crop: int


class Held(nn.Module):
    """In the backbone's place: its features, which the batch brings instead of pictures."""

    num_features = 512

    def forward(self, features: Tensor) -> Tensor:
        """The features."""
        return features[..., 0, 0]


# --- Runs ------------------------------------------------------------------------------------------------------


def run(name: str, seed: int, system: System, seen: Seen, steps: int, out: Path) -> None:
    """Train a system on features, score it as it goes, and note it."""
    system.backbone = Held()
    body = kouros.load_body()
    optimizers = system.optimizers()
    generator = torch.Generator().manual_seed(seed)
    began, curve = time.process_time(), []
    for step in range(steps + 1):
        if step % max(1, steps // 8) == 0 or step == steps:
            curve.append({"step": step, **scores(system, seen.val, body)})
        if step == steps:
            break
        torch.manual_seed(1_000_003 * seed + step)
        rows = torch.randint(len(seen.train), (64,), generator=generator)
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = group.setdefault("initial", group["lr"]) * 0.5 * (1 + np.cos(np.pi * step / steps))
        losses = system.training_step(_of_unit_crop(seen.train[rows], seen.crop)).losses
        if not all(bool(torch.isfinite(loss)) for loss in losses):
            print(json.dumps({"name": name, "seed": seed, "diverged_at": step}), flush=True)
            return
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    hidden = {f"{shape} {degree}": scores(system, batch, body) for (shape, degree), batch in seen.hidden.items()}
    row = {"name": name, "seed": seed, "steps": steps, "cpu_seconds": time.process_time() - began}
    row |= {"curve": curve, "final": curve[-1], "hidden": hidden}
    if system.best_fits is not None and name.startswith("SPIN"):
        row["fits"] = fits_error(system, seen.train, body)
    with (out / "runs.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps({k: row[k] for k in row if k not in ("curve", "hidden")}), flush=True)


def _of_unit_crop(batch: Batch, crop: int) -> Batch:
    """Keypoints in pixels of a crop as large as ``image`` claims: one pixel."""
    scale = torch.tensor([1 / crop, 1 / crop, 1.0])
    return replace(batch, keypoints_2d=batch.keypoints_2d * scale)


@torch.no_grad()
def scores(system: System, batch: Batch, body: kouros.BodyModel) -> dict[str, float]:
    """Millimetres over the 14 common joints."""
    predicted = keypoints_of(system.predict(batch.image), body).space
    return _errors(predicted, batch)


def _errors(space: Tensor, batch: Batch) -> dict[str, float]:
    ours = (space - space[:, PELVIS : PELVIS + 1])[:, COMMON14]
    theirs = (batch.keypoints_3d[..., :3] - batch.keypoints_3d[:, PELVIS : PELVIS + 1, :3])[:, COMMON14]
    aligned, plain = procrustes_errors(ours, theirs).mean(), joint_errors(ours, theirs).mean()
    return {"pa_mpjpe": 1000 * float(aligned), "mpjpe": 1000 * float(plain)}


@torch.no_grad()
def fits_error(system: System, train: Batch, body: kouros.BodyModel) -> dict[str, float]:
    """How good the stored fits are: what the loop improves."""
    assert system.best_fits is not None
    own = ~train.augmentation.flipped
    fits = system.best_fits.read(train.index[own])
    if not bool(fits.exists.any()):
        return {}
    points = body.keypoint_positions(
        SPIN49.name, betas=fits.betas, body_pose=fits.pose[:, 3:], global_orient=fits.pose[:, :3]
    )
    return _errors(points, train[own])


def spin_runs(seen: Seen, out: Path, seeds: range, steps: int) -> None:
    """SPIN's claim (Table 1): fits in the loop, static fits, reprojection only; 2D keypoints are all they know."""
    people = 1 + int(seen.train.index.max())
    own = seen.train[~seen.train.augmentation.flipped]
    own = _of_unit_crop(replace(own, image=torch.zeros(len(own), 3, 1, 1)), seen.crop)
    static = None
    for seed in seeds:
        for learn_from in ("fits-in-the-loop", "static-fits", "reprojection"):
            torch.manual_seed(seed)
            config = SpinConfig(backbone=18, paired=False, learn_from=learn_from, learning_rate=RATE)
            system = config.build(kouros.load_body(), people)
            if learn_from != "reprojection":
                if static is None:  # the same for all: from the mean pose, by SMPLify's schedule
                    system.begin(own[slice(i, i + 64)] for i in range(0, len(own), 64))
                    static = {k: v.clone() for k, v in system.best_fits.state_dict().items()}
                system.best_fits.load_state_dict({k: v.clone() for k, v in static.items()})
            run(f"SPIN, {learn_from}", seed, system, seen, steps, out)


def hkmr_runs(seen: Seen, out: Path, seeds: range, steps: int, rate: float = RATE) -> None:
    """HKMR's Table 1 and Fig. 6: its regressor against HMR's; same features, data and losses."""
    for seed in seeds:
        for name in ("HKMR", "HMR"):
            torch.manual_seed(seed)
            system = HkmrConfig(backbone=18, learning_rate=rate).build(kouros.load_body())
            if name == "HMR":
                system.regressor = HmrRegressor(512)  # type: ignore[assignment]
            run(name if rate == RATE else f"{name}, learning rate {rate:g}", seed, system, seen, steps, out)


def ablation_runs(seen: Seen, out: Path, seeds: range, steps: int) -> None:
    """HKMR's Tables 2 and 3."""
    full = KinematicConfig()
    variants: list[tuple[str, KinematicConfig, str]] = [
        ("no joint hierarchy", replace(full, joint_hierarchy=False), "vae"),
        ("forward only", replace(full, backward_pass=False), "vae"),
        ("discriminator", full, "discriminator"),
        *((f"{n} outer", replace(full, outer_iterations=n), "vae") for n in (1, 2, 4)),
        *((f"{n} inner", replace(full, inner_iterations=n), "vae") for n in (2, 6)),
    ]
    for seed in seeds:
        for name, regressor, prior in variants:
            torch.manual_seed(seed)
            config = HkmrConfig(backbone=18, learning_rate=RATE, regressor=regressor, pose_prior=prior)  # type: ignore[arg-type]
            run(f"HKMR, {name}", seed, config.build(kouros.load_body()), seen, steps, out)


# --- Tables and curves -----------------------------------------------------------------------------------------


def report(out: Path) -> None:
    """Means and standard deviations over seeds."""
    runs = defaultdict(list)
    for line in (out / "runs.jsonl").read_text().splitlines():
        row = json.loads(line)
        runs[row["name"]].append(row)
    table = Table("variant", "seeds", "steps", "PA-MPJPE, mm", "MPJPE, mm", "fits' PA-MPJPE, mm")
    for name, rows in runs.items():
        fits = [r["fits"]["pa_mpjpe"] for r in rows if r.get("fits")]
        cells = [_spread([r["final"][k] for r in rows]) for k in ("pa_mpjpe", "mpjpe")]
        table.add_row(name, str(len(rows)), str(rows[0]["steps"]), *cells, _spread(fits) if fits else "")
    Console(width=140).print(table)
    for shape in SHAPES:
        table = Table(f"MPJPE, mm: {shape}", "clean", *(f"degree {d}" for d in DEGREES))
        for name in ("HMR", "HKMR"):
            rows = runs.get(name, [])
            if rows:
                hidden = (_spread([r["hidden"][f"{shape} {d}"]["mpjpe"] for r in rows]) for d in DEGREES)
                table.add_row(name, _spread([r["final"]["mpjpe"] for r in rows]), *hidden)
        Console(width=140).print(table)
    draw(runs, out / "learning.png")


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def draw(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Curves over steps with their spread, and errors over degrees of occlusion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    for name, rows in runs.items():
        curves = [{p["step"]: p["pa_mpjpe"] for p in r["curve"]} for r in rows]
        at = sorted(set.intersection(*(set(c) for c in curves)))
        values = np.array([[c[step] for step in at] for c in curves])
        place = 0 if name.startswith("SPIN") else 1 if name in ("HMR", "HKMR") else None
        if place is not None:
            axes[place].plot(at[1:], values.mean(0)[1:], label=name)
            axes[place].fill_between(at[1:], values.min(0)[1:], values.max(0)[1:], alpha=0.2)
        if place == 1:
            for shape, style in zip(SHAPES, ("-", "--", ":"), strict=True):
                errors = [mean(r["hidden"][f"{shape} {d}"]["mpjpe"] for r in rows) for d in DEGREES]
                axes[2].plot(DEGREES, errors, style, color=f"C{int(name == 'HMR')}", label=f"{name}, {shape}")
    for axis, title in zip(axes, ("SPIN: what it learns from", "regressors", "occluded"), strict=True):
        axis.set_title(title)
        axis.legend(fontsize=8)
        axis.set_ylabel("PA-MPJPE, mm" if axis is not axes[2] else "MPJPE, mm")
        axis.set_xlabel("step" if axis is not axes[2] else "degree of occlusion")
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


# --- Command line ----------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("backbone", "spin", "hkmr", "ablations", "report"))
    parser.add_argument("--data", type=Path, help="folder of synthetic people to train on")
    parser.add_argument("--val", type=Path, help="folder of synthetic people to be judged by")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--crop", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=15.0, help="of the backbone's training")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0, help="of the backbone")
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate of hkmr's runs")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "report":
        return report(given.out)
    if given.what == "backbone":
        if not given.data or not given.val:
            parser.error("backbone needs --data and --val")
        train, val = (
            PartPictures(p, given.out / f"{n}_parts.npy") for p, n in ((given.data, "train"), (given.val, "val"))
        )
        network = train_backbone(train, given.out, given.minutes, given.crop, given.seed)
        with torch.no_grad():
            hidden = dict(_all_hidden(network, val, given.crop))
            seen = Seen(
                look(network, train, given.crop, True), look(network, val, given.crop, False), hidden, given.crop
            )
        torch.save(seen, given.out / "seen.pt")
        return None
    seen = torch.load(given.out / "seen.pt", weights_only=False)  # written by this script
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.what == "hkmr":
        return hkmr_runs(seen, given.out, seeds, given.steps, given.rate)
    runs = {"spin": spin_runs, "ablations": ablation_runs}
    return runs[given.what](seen, given.out, seeds, given.steps)


def _all_hidden(network: ResNet, val: Source, crop: int) -> Iterator[tuple[tuple[str, int], Batch]]:
    for shape in SHAPES:
        for degree in DEGREES:
            yield (shape, degree), look(network, val, crop, False, (shape, degree))


if __name__ == "__main__":
    main()
