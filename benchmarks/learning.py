"""Do SPIN and HKMR learn, and do their papers' claims show at a size that two CPU cores can train?

    kouros synthesize --people 40000 --out train --seed 21 --size 256 --mocap MOCAP --images
    kouros synthesize --people 1600 --out val --seed 22 --size 256 --split val --mocap MOCAP --images
    python benchmarks/learning.py look --data train --val val --out work --views 2
    python benchmarks/learning.py static --out work
    python benchmarks/learning.py spin --out work
    python benchmarks/learning.py hkmr --out work
    python benchmarks/learning.py occluded --out work
    python benchmarks/learning.py ablations --out work --mocap MOCAP/diverse_frames.npz
    python benchmarks/learning.py report --out work

The systems are the package's own, with the papers' losses, on colour pictures of synthetic people. All look through
BlazePose's trunk, whose first 49 convolutions are held: what those see, of each person in two of SPIN's
augmentations on average, is computed once. The trunk's last eleven blocks and the regressor are trained, so that a
core takes hundreds of people a second. Every run prints one JSON line and adds it to ``work/runs.jsonl``; ``report``
prints the tables and draws the curves.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal, get_args

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader

import kouros
from kouros.batched import concatenate
from kouros.body.keypoints import SPIN49
from kouros.data.augment import AugmentConfig
from kouros.data.batch import Batch
from kouros.data.dense import Wants
from kouros.data.occlusion import DEGREES, SHAPES, Occluder
from kouros.data.sources import Source
from kouros.data.stream import StreamConfig, TrainingStream, plain_batch
from kouros.data.synthetic import SyntheticSource
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.fitting.schedules.fits_store import FitsStore
from kouros.geometry.rotations import rot6d_to_rotmat, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.networks.blazepose import INPUT_SIZE, BlazePoseTrunk
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.kinematic_regressor import KinematicConfig
from kouros.systems.backbone_weights import begin_backbone
from kouros.systems.hkmr import Hkmr, HkmrConfig
from kouros.systems.losses import ANNOTATED
from kouros.systems.measures import COMMON14, Keypoints, errors_2d, keypoints_of
from kouros.systems.spin import LearnFrom, Spin, SpinConfig
from kouros.systems.system import CropSystem
from kouros.training.options import EngineOptions

RUNS, OCCLUDED = "runs.jsonl", "occluded.jsonl"
CROP = INPUT_SIZE
PELVIS = SPIN49.index("pelvis_mpii")
OCCLUDED_PEOPLE = 700
"""Of those to be judged by, how many are watched while training and looked at behind occluders."""
SPIN_PEOPLE = 12_000
"""Whom SPIN's runs learn from: few enough for fits in the loop to meet each of them ten times."""
RATE = 3e-4
"""Learning rate of the runs; the papers' are for whole networks and days. Chosen among 1e-4, 3e-4 and 1e-3 by 600 steps
of HMR's regressor."""
_FEW = 8
"""Pictures that the held layers see at a time: what fits a processor's cache."""
CLIP = 1.0
"""Longest gradient that is followed as it is."""


# --- What the held layers see ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """People as the held layers see them."""

    features: np.ndarray
    """(people, 288, 8, 8), half precision."""
    known: Batch
    """All else, keypoints in pixels of 8 x 8 crops."""

    @classmethod
    def load(cls, path: Path) -> "Seen":
        known = torch.load(path.with_suffix(".pt"), weights_only=False)  # written by this script
        return cls(np.load(path.with_suffix(".npy"), mmap_mode="r"), known)

    def __len__(self) -> int:
        return len(self.known)

    def first(self, count: int) -> "Seen":
        """The first people."""
        return Seen(self.features[:count], self.known[:count])

    def of(self, people: int) -> "Chosen":
        """All views of the first people."""
        return Chosen(self, torch.nonzero(self.known.index < people).flatten())

    def rows(self, rows: Tensor) -> Batch:
        """A batch whose ``image`` is what the held layers see."""
        return replace(self.known[rows], image=torch.from_numpy(self.features[rows.numpy()]).float())


@dataclass(frozen=True)
class Chosen:
    """Some rows of what is seen."""

    seen: Seen
    which: Tensor

    def __len__(self) -> int:
        return len(self.which)

    def rows(self, rows: Tensor) -> Batch:
        """As of `Seen`."""
        return self.seen.rows(self.which[rows])


@torch.no_grad()
def look(batches: Iterable[Batch], count: int, path: Path) -> None:
    """Run the held layers over batches, ``count`` people in all, and keep what they see."""
    trunk = _first_layers()
    features = np.lib.format.open_memmap(path.with_suffix(".npy"), "w+", np.float16, (count, 288, 8, 8))
    known: list[Batch] = []
    done = 0
    for batch in batches:
        features[done : done + len(batch)] = torch.cat([trunk(few) for few in batch.image.split(_FEW)]).numpy()
        known.append(_without_pictures(batch))
        done += len(batch)
        print(json.dumps({"looked at": done, "of": count, "for": path.stem}), end="\r", flush=True)
    features.flush()
    torch.save(concatenate(known), path.with_suffix(".pt"))


def _first_layers() -> nn.Module:
    """The held layers, several times as fast as torch runs them one by one."""

    class FirstLook(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk = _trunk()

        def forward(self, image: Tensor) -> Tensor:
            return self.trunk.first_look(image)

    layers: nn.Module = torch.jit.trace(FirstLook(), torch.rand(_FEW, 3, CROP, CROP))
    layers = torch.jit.optimize_for_inference(torch.jit.freeze(layers.eval()))
    for _ in range(3):  # it is made ready by its first calls
        layers(torch.rand(_FEW, 3, CROP, CROP))
    return layers


def _trunk() -> BlazePoseTrunk:
    trunk = BlazePoseTrunk()
    begin_backbone(trunk, None)
    return trunk.eval()


def _without_pictures(batch: Batch) -> Batch:
    """Keypoints in pixels of crops of 8 x 8, which is what the held layers make of them."""
    scale = torch.tensor([8 / CROP, 8 / CROP, 1.0])
    return replace(batch, image=torch.zeros(len(batch), 3, 8, 8), keypoints_2d=batch.keypoints_2d * scale)


def plain_batches(
    source: Source, count: int, occluder: tuple[str, int] | None = None, *, pictures: bool = True
) -> Iterator[Batch]:
    """The first people of a source as photographed, or each with one joint behind an occluder."""
    for first in range(0, count, 64):
        batch = plain_batch(source, range(first, min(first + 64, count)), CROP, Wants(image=pictures))
        if occluder:
            batch = replace(batch, image=torch.stack([_hidden(batch, i, *occluder) for i in range(len(batch))]))
        yield batch


def look_at_all(train: Source, val: Source, out: Path, views: int, seed: int) -> None:
    """Everything that the runs need: see `main`."""
    stream = TrainingStream([train], None, 64, StreamConfig(CROP, AugmentConfig(), seed=seed))
    steps = views * len(train) // 64
    loader = DataLoader(stream, batch_size=None, sampler=range(steps), num_workers=1)
    look(loader, 64 * steps, out / "train")
    people = plain_batches(train, len(train), pictures=False)
    torch.save(concatenate([_without_pictures(batch) for batch in people]), out / "people.pt")
    look(plain_batches(val, len(val)), len(val), out / "val")
    for shape in SHAPES:
        for degree in DEGREES:
            count = min(OCCLUDED_PEOPLE, len(val))
            look(plain_batches(val, count, (shape, degree)), count, out / f"{shape}_{degree}")


def _hidden(batch: Batch, row: int, shape: Any, degree: int) -> Tensor:
    """One annotated joint behind an occluder: which, and from which side, follows from the row."""
    rng = np.random.default_rng(int(batch.index[row]))
    points = batch.keypoints_2d[row, ANNOTATED]
    x, y, _ = points[rng.choice(np.flatnonzero(points[:, 2].numpy() > 0))].tolist()
    picture = (batch.image[row].permute(1, 2, 0) * 255).round().byte().numpy()
    covered = Occluder.at((x, y), shape, degree, rng.integers(1 << 31, size=2).tolist()).cover(picture)
    return torch.from_numpy(np.ascontiguousarray(covered)).permute(2, 0, 1).float() / 255


class LaterLayers(nn.Module):
    """In the backbone's place: its last blocks, for batches that bring what the held ones see."""

    num_features = BlazePoseTrunk.num_features

    def __init__(self) -> None:
        super().__init__()
        # Channels last: depthwise convolutions over a handful of pixels take half the time.
        self.head = _trunk().head
        self.head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, seen: Tensor) -> Tensor:
        """As `BlazePoseTrunk.look_again`."""
        return self.head(seen.contiguous(memory_format=torch.channels_last)).flatten(1)


# --- Runs ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Experiment:
    """What all runs share."""

    train: Seen | Chosen
    val: Seen
    people: Batch
    """Who is trained on, as photographed."""
    steps: int
    out: Path
    mocap: Path | None
    """Motion capture, for the discriminator to take for real."""

    @classmethod
    def load(cls, out: Path, steps: int, mocap: Path | None) -> "Experiment":
        people = torch.load(out / "people.pt", weights_only=False)  # written by this script
        return cls(Seen.load(out / "train"), Seen.load(out / "val"), people, steps, out, mocap)

    def state(self, name: str, seed: int) -> Path:
        """Where a run's weights are kept."""
        return self.out / f"{name.replace(' ', '_').replace(',', '')}_{seed}.pt"


def run(name: str, seed: int, system: CropSystem, on: Experiment) -> None:
    """Train a system, score it as it goes, and note it."""
    system.backbone = LaterLayers()
    body = kouros.load_body()
    optimizers = system.optimizers()
    generator = torch.Generator().manual_seed(seed)
    began, curve = time.process_time(), []
    watched = on.val.first(OCCLUDED_PEOPLE)
    options = EngineOptions(on.steps, schedule="cosine")
    for step in range(on.steps + 1):
        if step % max(1, on.steps // 8) == 0 or step == on.steps:
            curve.append({"step": step, **scores(system, watched, body)})
        if step == on.steps:
            break
        torch.manual_seed(1_000_003 * seed + step)
        rows = torch.randint(len(on.train), (64,), generator=generator)
        for group in (g for o in optimizers for g in o.param_groups):
            group["lr"] = group.setdefault("initial", group["lr"]) * options.learning_rate_share(step)
        losses = system.training_step(on.train.rows(rows)).losses
        if not all(bool(torch.isfinite(loss)) for loss in losses):
            note({"name": name, "seed": seed, "steps": on.steps, "diverged_at": step}, on.out / RUNS)
            return
        for optimizer, loss in zip(optimizers, losses, strict=True):
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], CLIP)
            optimizer.step()
    row = {"name": name, "seed": seed, "steps": on.steps, "cpu_seconds": time.process_time() - began}
    row |= {"curve": curve, "final": scores(system, on.val, body)}
    if system.best_fits is not None and bool(system.best_fits.fits.exists.any()):
        row["fits"] = fits_error(system.best_fits, on.people, body)
    torch.save(system.state_dict(), on.state(name, seed))
    note(row, on.out / RUNS)


def note(row: dict[str, Any], path: Path) -> None:
    """Add a line to a file, and show most of it."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")
    print(json.dumps({k: v for k, v in row.items() if k != "curve"}), flush=True)


@torch.no_grad()
def scores(system: CropSystem, seen: Seen, body: kouros.BodyModel) -> dict[str, float]:
    """Millimetres over the 14 common joints, pixels of a crop of 224 over all annotated points."""
    pictures = (seen.rows(rows).image for rows in torch.arange(len(seen)).split(256))
    parts = [keypoints_of(bodies, body) for p in pictures if (bodies := system.predict(p).bodies) is not None]
    found = Keypoints(torch.cat([k.space for k in parts]), torch.cat([k.crop for k in parts]))
    distance, known = (each[:, ANNOTATED] for each in errors_2d(found, seen.known))
    return {**_errors(found.space, seen.known), "pixels": float(distance.sum() / known.sum())}


def _errors(space: Tensor, known: Batch) -> dict[str, float]:
    ours = (space - space[:, PELVIS : PELVIS + 1])[:, COMMON14]
    theirs = (known.keypoints_3d[..., :3] - known.keypoints_3d[:, PELVIS : PELVIS + 1, :3])[:, COMMON14]
    aligned, plain = procrustes_errors(ours, theirs).mean(), joint_errors(ours, theirs).mean()
    return {"pa_mpjpe": 1000 * float(aligned), "mpjpe": 1000 * float(plain)}


@torch.no_grad()
def fits_error(store: FitsStore, people: Batch, body: kouros.BodyModel) -> dict[str, float]:
    """How good the stored fits are: what the loop improves."""
    fits = store.read(people.index)
    points = body.keypoint_positions(
        SPIN49.name, betas=fits.betas, body_pose=fits.pose[:, 3:], global_orient=fits.pose[:, :3]
    )
    return _errors(points, people)


def spin(learn_from: LearnFrom, on: Experiment) -> Spin:
    """SPIN told of nothing but 2D keypoints, with its static fits."""
    config = SpinConfig(backbone="blazepose", paired=False, learn_from=learn_from, learning_rate=RATE)
    system = config.build(kouros.load_body(), len(on.people))
    if learn_from != "reprojection":
        static = torch.load(on.out / "static.pt", weights_only=True)
        system.best_fits.load_state_dict({name: fits[: len(on.people)] for name, fits in static.items()})
    return system


def static_fits(on: Experiment) -> None:
    """The same for all runs: from the mean pose, by SMPLify's schedule."""
    system = SpinConfig(backbone="blazepose", paired=False).build(kouros.load_body(), len(on.people))
    system.begin(on.people[rows] for rows in torch.arange(len(on.people)).split(64))
    torch.save(system.best_fits.state_dict(), on.out / "static.pt")
    print(json.dumps({"static fits": fits_error(system.best_fits, on.people, kouros.load_body())}), flush=True)


def spin_runs(on: Experiment, seeds: range) -> None:
    """SPIN's claim (Table 1): fits in the loop, static fits, reprojection only."""
    assert isinstance(on.train, Seen)
    on = replace(on, train=on.train.of(SPIN_PEOPLE), people=on.people[:SPIN_PEOPLE])
    for seed in seeds:
        for learn_from in get_args(LearnFrom):
            torch.manual_seed(seed)
            run(f"SPIN, {learn_from}", seed, spin(learn_from, on), on)


def hkmr_runs(on: Experiment, seeds: range) -> None:
    """HKMR's Table 1: its regressor against HMR's; same features, data and losses."""
    for seed in seeds:
        for name in REGRESSORS:
            torch.manual_seed(seed)
            run(name, seed, with_regressor(name), on)


def with_regressor(name: str) -> Hkmr:
    """HKMR, or all of it but the regressor."""
    system = HkmrConfig(backbone="blazepose", learning_rate=RATE).build(kouros.load_body())
    if (other := REGRESSORS[name]) is not None:
        system.regressor = other(BlazePoseTrunk.num_features)  # type: ignore[assignment]
    return system


@torch.no_grad()
def occluded_runs(on: Experiment, seeds: range) -> None:
    """HKMR's Fig. 6: how the regressors of `hkmr_runs` stand occluders."""
    body = kouros.load_body()
    looks = {f"{shape} {degree}": Seen.load(on.out / f"{shape}_{degree}") for shape in SHAPES for degree in DEGREES}
    looks["clean"] = on.val.first(OCCLUDED_PEOPLE)
    for name in REGRESSORS:
        for seed in seeds:
            if not on.state(name, seed).exists():
                continue
            system = with_regressor(name)
            system.backbone = LaterLayers()
            system.load_state_dict(torch.load(on.state(name, seed), weights_only=True))
            found = {look: scores(system, seen, body) for look, seen in looks.items()}
            note({"name": name, "seed": seed, "hidden": found}, on.out / OCCLUDED)


class RotationVectorHmr(HmrRegressor):
    """HMR's regressor as HKMR's authors compare with it: rotation vectors where SPIN put 6D rotations."""

    def __init__(self, num_features: int, dropout: float = 0.5) -> None:
        super().__init__(num_features, dropout=dropout)
        mean = rotmat_to_rotvec(rot6d_to_rotmat(self.init_pose.unflatten(-1, (24, 6)))).flatten(1)
        self.register_buffer("init_pose", mean)
        self.fc1 = nn.Linear(num_features + 72 + 13, self.fc1.out_features)
        self.decpose = nn.Linear(self.fc2.out_features, 72)
        nn.init.xavier_uniform_(self.decpose.weight, gain=0.01)

    def rotations(self, pose: Tensor) -> Tensor:
        """Of 24 rotation vectors."""
        return rotvec_to_rotmat(pose.unflatten(-1, (24, 3)))


REGRESSORS: dict[str, Callable[[int], HmrRegressor] | None] = {
    "HKMR": None,
    "HMR": HmrRegressor,
    "HMR, no dropout": lambda num_features: HmrRegressor(num_features, dropout=0),  # as HKMR's
    "HMR, rotation vectors": RotationVectorHmr,
    "HMR, rotation vectors, no dropout": lambda num_features: RotationVectorHmr(num_features, dropout=0),
}


def ablation_runs(on: Experiment, seeds: range) -> None:
    """HKMR's Tables 2 and 3."""
    full = KinematicConfig()
    variants: list[tuple[str, KinematicConfig, Literal["vae", "discriminator"]]] = [
        ("no joint hierarchy", replace(full, joint_hierarchy=False), "vae"),
        ("forward only", replace(full, backward_pass=False), "vae"),
        ("discriminator", full, "discriminator"),
        *((f"{n} outer", replace(full, outer_iterations=n), "vae") for n in (1, 2, 4)),
        *((f"{n} inner", replace(full, inner_iterations=n), "vae") for n in (2, 6)),
    ]
    for seed in seeds:
        for name, regressor, prior in variants:
            torch.manual_seed(seed)
            config = HkmrConfig(backbone="blazepose", learning_rate=RATE, regressor=regressor, pose_prior=prior)
            if prior == "discriminator":  # as much faster than its published rate as the network
                faster = RATE / HkmrConfig.learning_rate * HkmrConfig.discriminator_learning_rate
                config = replace(config, real_poses=on.mocap, discriminator_learning_rate=faster)
            run(f"HKMR, {name}", seed, config.build(kouros.load_body()), on)


# --- Tables and curves -----------------------------------------------------------------------------------------


def report(out: Path) -> None:
    """Means and standard deviations over seeds."""
    runs = _by_name(out / RUNS)
    table = Table(
        "variant", "seeds", "diverged", "steps", "PA-MPJPE, mm", "MPJPE, mm", "2D, px of 224", "fits' PA-MPJPE, mm"
    )
    for name, all_rows in runs.items():
        rows = [r for r in all_rows if "final" in r]
        fits = [r["fits"]["pa_mpjpe"] for r in rows if "fits" in r]
        cells = [_spread([r["final"][k] for r in rows]) for k in ("pa_mpjpe", "mpjpe", "pixels")]
        count, lost = str(len(rows)), str(len(all_rows) - len(rows))
        table.add_row(name, count, lost, str(all_rows[0]["steps"]), *cells, _spread(fits))
    Console(width=140).print(table)
    hidden = _by_name(out / OCCLUDED)
    for shape in SHAPES:
        table = Table(f"MPJPE, mm: {shape}", "clean", *(f"degree {d}" for d in DEGREES))
        for name, rows in hidden.items():
            looks = ["clean", *(f"{shape} {degree}" for degree in DEGREES)]
            table.add_row(name, *(_spread([r["hidden"][look]["mpjpe"] for r in rows]) for look in looks))
        Console(width=140).print(table)
    draw(runs, hidden, out / "learning.png")


def _by_name(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of a file, of each variant and seed the last."""
    last = {(row["name"], row["seed"]): row for row in map(json.loads, path.read_text().splitlines())}
    named = defaultdict(list)
    for (name, _), row in sorted(last.items()):
        named[name].append(row)
    return named


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def draw(runs: dict[str, list[dict[str, Any]]], hidden: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Curves over steps with their spread, and errors over degrees of occlusion."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(16, 4.4), layout="constrained")
    for axis, names in ((axes[0], [n for n in runs if n.startswith("SPIN")]), (axes[1], list(REGRESSORS))):
        for name in names:
            curves = [r["curve"] for r in runs.get(name, []) if "final" in r]
            if curves:
                values = np.array([[point["pa_mpjpe"] for point in curve] for curve in curves])
                steps = [point["step"] for point in curves[0]]
                axis.plot(steps, values.mean(0), label=name)
                axis.fill_between(steps, values.min(0), values.max(0), alpha=0.2)
    for number, rows in enumerate(hidden.values()):
        for shape, style in zip(SHAPES, ("-", "--", ":"), strict=True):
            looks = ["clean", *(f"{shape} {degree}" for degree in DEGREES)]
            errors = [mean(r["hidden"][look]["mpjpe"] for r in rows) for look in looks]
            axes[2].plot([0, *DEGREES], errors, style, color=f"C{number}", label=None if number else shape)
    # The middle plot says which colour is which regressor.
    for axis, title in zip(
        axes, ("SPIN: what it learns from", "regressors", "the regressors, one joint occluded"), strict=True
    ):
        axis.set_title(title)
        axis.legend(fontsize=8)
        axis.set_ylabel("PA-MPJPE, mm" if axis is not axes[2] else "MPJPE, mm")
        axis.set_xlabel("step" if axis is not axes[2] else "degree of occlusion")
    figure.savefig(path, dpi=110)
    print(f"wrote {path}")


# --- Command line ----------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs = {"spin": spin_runs, "hkmr": hkmr_runs, "occluded": occluded_runs, "ablations": ablation_runs}
    parser.add_argument("what", choices=("look", "static", *runs, "report"))
    parser.add_argument("--data", type=Path, help="folder of synthetic people to train on")
    parser.add_argument("--val", type=Path, help="folder of synthetic people to be judged by")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mocap", type=Path, help="diverse_frames.npz, for the discriminator's ablation")
    parser.add_argument("--views", type=int, default=2, help="augmentations of each person, on average")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.what == "report":
        report(given.out)
    elif given.what == "look":
        if not given.data or not given.val:
            parser.error("look needs --data and --val")
        train, val = SyntheticSource(given.data), SyntheticSource(given.val)
        look_at_all(train, val, given.out, given.views, seed=0)
    else:
        experiment = Experiment.load(given.out, given.steps, given.mocap)
        if given.what == "static":
            static_fits(experiment)
        else:
            runs[given.what](experiment, range(given.first_seed, given.first_seed + given.seeds))


if __name__ == "__main__":
    main()
