"""What do HoloPose's parts, heads and agreement bring, and what do they cost?

    kouros synthesize --people 1000 --out held_out --seed 1 --size 288 --split val --mocap MOCAP
    python benchmarks/holopose.py tables --val held_out --people 96 [--train people]  # Tables 1 to 3, Fig. 5
    python benchmarks/holopose.py regressors --train people --val held_out   # parts, linear, HMR; experts, Euler, 6D
    python benchmarks/holopose.py rivals --val held_out --people 60 --systems holopose nbf   # beside the default
    python benchmarks/holopose.py speed --val held_out [--full]     # of one core; --full: the published size
    python benchmarks/holopose.py votes --val held_out --out votes.png

The system is the packaged one, or the run that ``--run`` names. `tables` brings its bodies to agree with each mixture
of its heads; with ``--train`` it first trains HMR's regressor, and parts that vote as long, on what the held heads say.
`regressors` trains them on equal terms: on what the held trunk says at joints, or its mean over the crop, with no head
between that was learned for one of them; they are judged on held-out people, as they are and behind HKMR's occluders,
at the joints that the system's 2D head finds. Every row is also a line of JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import kouros
from common import show
from kouros.batched import Batched, concatenate
from kouros.body.keypoints import LSP14, SPIN49
from kouros.body.parameters import Bodies
from kouros.body.skeleton import JOINT_NAMES
from kouros.body.surface.geodesics import Geodesics
from kouros.data.augment import AugmentConfig, Spread
from kouros.data.batch import Batch
from kouros.data.synthetic import SyntheticSource
from kouros.evaluation.metrics.densepose import area_under_rcp, failure_rate, ratio_of_correct_points
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.geometry.alignment import align
from kouros.geometry.cameras import SPIN_CROP_SIZE
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.estimates import Regressed
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.localization import values_at
from kouros.networks.part_votes import PartVotes
from kouros.pipeline.open import reconstructor_of
from kouros.priors.rotation_experts import load_experts
from kouros.render.rasterize import rasterize
from kouros.systems.batches import CropBatches
from kouros.systems.holopose import POINTS, HoloPose, HoloPoseConfig, PartRegressor, Seen
from kouros.systems.losses import ANNOTATED, annotated_error_3d, regressed_keypoints, rotation_loss
from kouros.systems.measures import COMMON14
from kouros.systems.table import SYSTEMS
from kouros.training.runs import load_run

STILL = AugmentConfig(flipped=0.0, turned=0.0, scale=Spread(0.0), colour=0.0)
BATCH, PIXELS, LIMIT = 16, 40, 0.35
"""People a batch; judged pixels of the skin a person; metres beyond which geodesic distances need not be known."""
Cue = Literal["2d", "3d", "dense"]
Solver = Literal["conjugate_gradients", "levenberg_marquardt"]
SOLVERS: tuple[Solver, ...] = ("conjugate_gradients", "levenberg_marquardt")
CUES: dict[str, tuple[Cue, ...]] = {
    "single shot": (), "2D": ("2d",), "3D": ("3d",), "DP": ("dense",), "2D+DP": ("2d", "dense"),
    "3D+DP": ("3d", "dense"), "2D+3D": ("2d", "3d"), "2D+3D+DP": ("2d", "3d", "dense"),
}  # fmt: skip
_PELVIS = SPIN49.index("pelvis_mpii")


def say(rows: list[dict[str, object]]) -> None:
    show(rows)
    for row in rows:
        print(json.dumps(row))


def batches(system: HoloPose, folder: Path, people: int, seed: int, occluded: float = 0.0) -> list[Batch]:
    """The same people whatever is occluded."""
    crops = CropBatches(system.crop_size, replace(STILL, occluded=occluded), system.wants)
    stream = crops.stream([SyntheticSource(folder)], None, BATCH, seed)
    return [stream[step] for step in range(-(-people // BATCH))]


def looked(system: HoloPose, given: Sequence[Batch]) -> Seen:
    return concatenate([system.seen_of(batch.image) for batch in given])


# --- Tables 1 to 3, Fig. 5 --------------------------------------------------------------------------------------


@cache
def geodesics() -> Geodesics:
    """Of the body's skin; takes a while."""
    body = kouros.load_body()
    return Geodesics(body.v_template, body.faces, limit=LIMIT)


class Skin:
    """True points of the skin at some pixels of each crop, and how far others are from them, along the skin."""

    def __init__(self, system: HoloPose, truth: Batch, seed: int) -> None:
        self.body, self.charts, self.geodesics = kouros.load_body(), system.charts, geodesics()
        assert truth.dense is not None
        iuv = truth.dense.need("iuv")
        dice = torch.Generator().manual_seed(seed)
        self.person, self.row, self.column = [], [], []
        for person, labels in enumerate(iuv[..., 0]):
            cells = labels.nonzero()
            if len(cells):
                chosen = cells[torch.randint(len(cells), (PIXELS,), generator=dice)]
                self.person.append(torch.full((PIXELS,), person))
                self.row.append(chosen[:, 0])
                self.column.append(chosen[:, 1])
        self.at = tuple(torch.cat(parts) for parts in (self.person, self.row, self.column))
        true = iuv[self.at]
        self.face, self.barycentric, _ = self.charts.locate(true[:, 0].long(), true[:, 1:])

    def of_map(self, iuv: Tensor) -> Tensor:
        """Distances of a predicted map, metres; infinite where it sees nobody."""
        said = iuv[self.at]
        on = said[:, 0] > 0
        face, barycentric = torch.full((len(said),), -1), torch.zeros(len(said), 3)
        face[on], barycentric[on], _ = self.charts.locate(said[on, 0].long(), said[on, 1:])
        return self.between(face, barycentric)

    def of_bodies(self, bodies: Bodies, size: int) -> Tensor:
        """The same of bodies, drawn into crops of that many cells."""
        camera = bodies.camera.scaled(size / SPIN_CROP_SIZE)
        faces, weights = [], []
        for first in range(0, len(bodies.pose), 32):
            some = slice(first, first + 32)
            vertices = bodies[some].posed_by(self.body).vertices
            drawn = rasterize(vertices, self.body.faces, camera[some], (size, size))
            faces.append(drawn.face)
            weights.append(drawn.barycentric)
        return self.between(torch.cat(faces)[self.at].long(), torch.cat(weights)[self.at])

    def between(self, face: Tensor, barycentric: Tensor) -> Tensor:
        distances = torch.full((len(face),), torch.inf)
        on = face >= 0
        distances[on] = self.geodesics.between(face[on], barycentric[on].float(), self.face[on], self.barycentric[on])
        return distances


def measured_in_space(space: Tensor, truth: Batch) -> dict[str, float]:
    """Of SPIN's 49 points, over the field's 14: pelvis on pelvis, and aligned."""
    known = truth.keypoints_3d[:, COMMON14, 3] > 0
    ours = space[:, COMMON14] - space[:, _PELVIS, None]
    theirs = truth.keypoints_3d[:, COMMON14, :3]
    apart, aligned = joint_errors(ours, theirs, known), procrustes_errors(ours, theirs, known)
    return {"pa_mpjpe_mm": 1e3 * float(aligned[known].mean()), "mpjpe_mm": 1e3 * float(apart[known].mean())}


def measured_on_skin(distances: Tensor) -> dict[str, float]:
    return {
        "auc10": float(area_under_rcp(distances, 0.1)),
        "auc30": float(area_under_rcp(distances, 0.3)),
        "fr10_percent": 100 * float(failure_rate(distances, 0.1)),
    }


def tables(system: HoloPose, options: argparse.Namespace) -> None:
    """Means and standard deviations over draws of people and pixels; curves of the first."""
    found: list[list[dict[str, object]]] = []
    lesson = None if options.train is None else lesson_of(system, options)
    for seed in options.seeds:
        others = {} if lesson is None else {kind: regressing(system, kind, *lesson, options, seed) for kind in KINDS}
        rows, curves = table_of(system, others, options, seed)
        if options.out is not None and not found:
            draw_curves(curves, options.out)
        found.append(rows)
    together = []
    for same in zip(*found, strict=True):
        row = dict(same[0])
        for key, value in same[0].items():
            if isinstance(value, float) and len(same) > 1:
                values = [float(str(other[key])) for other in same]
                row |= {key: mean(values), f"{key} +-": stdev(values)}
        together.append(row)
    say(together)


KINDS: dict[Literal["hmr", "parts"], str] = {"hmr": "HMR's regressor", "parts": "parts, trained as long"}
"""Regressors that are trained on the same features, by equally many steps."""


def lesson_of(system: HoloPose, options: argparse.Namespace) -> tuple[Seen, Batch]:
    """What the heads say of people to learn from, as far as regressors look at it, and the truth without pictures."""
    crops = CropBatches(system.crop_size, STILL, system.wants)
    stream = crops.stream([SyntheticSource(options.train)], None, BATCH, 1)
    seen, known = [], []
    for step in range(-(-options.train_people // BATCH)):
        batch = stream[step]
        said = system.seen_of(batch.image)
        maps = {name: getattr(said, name)[..., :1, :1] for name in ("heatmaps", "parts", "uv")}
        seen.append(replace(said, **maps))
        known.append(replace(batch, image=batch.image[:, :, :1, :1], dense=None, dense_known={}))
    truth = concatenate(known)
    # All that is asked of a picture is its size.
    return concatenate(seen), replace(truth, image=torch.zeros(()).expand(len(truth), 3, *2 * (system.crop_size,)))


def regressing(
    system: HoloPose,
    kind: Literal["hmr", "parts"],
    seen: Seen,
    known: Batch,
    options: argparse.Namespace,
    seed: int,
) -> HoloPose:
    """The system with another regressor, which learns by the system's own losses of the body."""
    torch.manual_seed(seed)
    other = replace(system.config, regressor=kind).build(system.body)
    other.backbone, other.heads = system.backbone, system.heads
    optimizer = torch.optim.Adam(other.regressor.parameters(), lr=options.rate, weight_decay=1e-5)
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * (1 + np.cos(np.pi * step / options.steps)) / 2
        some = torch.randint(len(known), (64,))
        said, batch = seen[some], known[some]
        shot = other.regress(said, *other._pooled_at(said, other._true_points(batch)[0]))
        terms = other._body_losses(batch, shot)
        loss = torch.stack([getattr(system.config.losses, name) * term for name, term in terms.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return other.eval()


def table_of(
    system: HoloPose,
    others: dict[Literal["hmr", "parts"], HoloPose],
    options: argparse.Namespace,
    seed: int,
) -> tuple[list[dict[str, object]], dict[str, Tensor]]:
    """The rows, and of each the distances along the skin."""
    given = batches(system, options.val, options.people, seed)
    seen = looked(system, given)
    truth = concatenate([replace(b, image=b.image[:, :, :1, :1]) for b in given])
    skin, shot, body = Skin(system, truth, seed), system.regress(seen), kouros.load_body()
    rows: list[dict[str, object]] = []
    head = torch.zeros(len(truth), 49, 3)
    head[:, ANNOTATED] = seen.points / shot.camera[:, :1, None]
    curves = {"DensePose head": skin.of_map(seen.iuv)}
    rows.append(
        {"what": "tables", "of": "heads", "solver": "", **measured_in_space(head, truth),
         **measured_on_skin(curves["DensePose head"]), "ms_a_person": 0.0}
    )  # fmt: skip
    for kind, other in others.items():
        with torch.no_grad():
            bodies = other.regress(seen).bodies
        curves[KINDS[kind]] = skin.of_bodies(bodies, seen.heatmaps.shape[-1])
        space = bodies.keypoints_by(body, "spin49")
        rows.append(
            {"what": "tables", "of": KINDS[kind], "solver": "", **measured_in_space(space, truth),
             **measured_on_skin(curves[KINDS[kind]]), "ms_a_person": 0.0}
        )  # fmt: skip
    weights = system.config.agreement
    for solver in SOLVERS:
        for name, cues in CUES.items():
            if solver != "conjugate_gradients" and name != "2D+3D+DP":
                continue
            agreement = replace(weights, solver=solver, iterations=20 if cues else 0, cues=cues or ("3d",))
            system.config = replace(system.config, agreement=agreement)
            system.agreed(seen[:2], shot[:2])  # compiles
            start = time.process_time()
            bodies = system.agreed(seen, shot)
            took = 1e3 * (time.process_time() - start) / len(truth)
            distances = skin.of_bodies(bodies, seen.heatmaps.shape[-1])
            curves[f"{name}, {solver}" if cues else name] = distances
            space = bodies.keypoints_by(body, "spin49")
            rows.append(
                {"what": "tables", "of": name, "solver": solver if cues else "", **measured_in_space(space, truth),
                 **measured_on_skin(distances), "ms_a_person": took}
            )  # fmt: skip
    system.config = replace(system.config, agreement=weights)
    return rows, curves


def draw_curves(curves: dict[str, Tensor], path: Path) -> None:
    """Fig. 5."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 4.0), dpi=110, layout="constrained")
    axis = figure.subplots()
    thresholds = torch.linspace(0, 0.3, 61)
    for name in ("DensePose head", "2D+3D+DP, conjugate_gradients", "single shot", *KINDS.values()):
        if name not in curves:
            continue
        axis.plot(100 * thresholds, 100 * ratio_of_correct_points(curves[name], thresholds), label=name)
    axis.set_xlabel("geodesic error, cm")
    axis.set_ylabel("correct points, %")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(path)


# --- parts against the whole, experts against angles ------------------------------------------------------------


@dataclass(frozen=True)
class Pooled(Batched):
    """What the trunk says of people."""

    at_joints: Tensor
    """(people, 24, channels) at annotated joints in training, at found ones in tests."""
    there: Tensor
    mean: Tensor
    known: Batch


def maps_of(system: HoloPose, images: Tensor) -> Tensor:
    """All of the trunk's maps at a stride of 8, side by side, each channel as large as the others."""
    with torch.no_grad():
        maps = system.layer_maps(images)
    side = system.crop_size // 8
    return torch.cat([interpolate(m, size=(side, side), mode="bilinear", align_corners=False) for m in maps], dim=1)


def pooled(system: HoloPose, given: Sequence[Batch], found: bool) -> Pooled:
    parts = []
    for batch in given:
        maps = maps_of(system, batch.image)
        if found:
            seen = system.seen_of(batch.image)
            points, there = seen.joints[..., :2], system.found(seen)
        else:
            flat, _ = system._true_points(batch)
            points, there = flat[..., :2], (flat[..., 2] > 0) & (flat[..., :2].abs() < 1).all(-1)
        known = replace(batch, image=batch.image[:, :, :1, :1], dense=None, dense_known={}, dense_points=None)
        parts.append(Pooled(values_at(maps, points), there, maps.mean((2, 3)), known))
    return concatenate(parts)


class Regressor(nn.Module):
    """One of those that are compared, on standardised numbers of the trunk."""

    middle: Tensor
    spread: Tensor

    def __init__(self, system: HoloPose, kind: str, people: Pooled) -> None:
        super().__init__()
        self.kind, self.body = kind, kouros.load_body()
        channels = people.mean.shape[-1]
        flat = people.at_joints[people.there] if kind not in ("linear", "hmr") else people.mean
        self.register_buffer("middle", flat.mean(0))
        self.register_buffer("spread", flat.std(0).clamp(min=1e-3))
        self.narrow = nn.Sequential(nn.Linear(channels, 128), nn.ReLU())
        if kind == "hmr":
            self.votes: nn.Module = HmrRegressor(128)
        else:
            near = torch.ones(24, 1, dtype=torch.bool) if kind == "linear" else _parts(system)[1].near
            angles = kind.removeprefix("parts, ") if kind.startswith("parts, ") else "experts"
            self.votes = PartVotes(128, near, load_experts(), angles)  # type: ignore[arg-type]

    def forward(self, people: Pooled) -> Tensor:
        """Rotations; who has not one joint rests."""
        whole = self.kind in ("linear", "hmr")
        numbers = people.mean[:, None] if whole else people.at_joints
        narrow = self.narrow((numbers - self.middle) / self.spread)
        if self.kind == "hmr":
            return self.votes(narrow[:, 0])[-1].rotations
        there = torch.ones(len(numbers), 1, dtype=torch.bool) if whole else people.there
        return self.votes(narrow, there).rotations


def learn(system: HoloPose, kind: str, people: Pooled, options: argparse.Namespace, seed: int) -> Regressor:
    torch.manual_seed(seed)
    network = Regressor(system, kind, people)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.rate, weight_decay=1e-5)
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.rate * (1 + np.cos(np.pi * step / options.steps)) / 2
        some = people[torch.randint(len(people.mean), (64,))]
        # As the occluders will: some joints are not seen.
        some = replace(some, there=some.there & (torch.rand(some.there.shape) > 0.15))
        rotations = network(some)
        keypoints = regressed_keypoints(network.body, with_shape(rotations, some.known))
        apart, confidence = annotated_error_3d(keypoints.space, some.known.keypoints_3d)
        true = rotvec_to_rotmat(some.known.pose.unflatten(-1, (24, 3)))
        loss = 10 * (confidence * apart.abs().sum(-1)).mean() + 20 * rotation_loss(rotations, true, some.known.has_pose)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def with_shape(rotations: Tensor, known: Batch) -> Regressed:
    """Bodies of the true shape: only rotations are compared."""
    camera = torch.tensor([0.9, 0.0, 0.0]).repeat(len(rotations), 1)
    return Regressed(rotations, known.betas, camera)


def regressors(system: HoloPose, options: argparse.Namespace) -> None:
    if options.keep is not None and options.keep.exists():
        train = torch.load(options.keep, weights_only=False)  # written by this script
    else:
        train = pooled(system, batches(system, options.train, options.train_people, 1), found=False)
        if options.keep is not None:
            torch.save(train, options.keep)
    tests = {
        name: pooled(system, batches(system, options.val, options.people, 2, occluded), found=True)
        for name, occluded in (("clean", 0.0), ("occluded", 1.0))
    }
    kinds = ("parts, experts", "parts, euler", "parts, rot6d", "linear", "hmr")
    rows: list[dict[str, object]] = []
    for kind in kinds:
        scores: dict[str, list[float]] = {}
        for seed in options.seeds:
            network = learn(system, kind, train, options, seed)
            for name, people in tests.items():
                with torch.no_grad():
                    bodies = with_shape(network(people), people.known)
                    space = regressed_keypoints(network.body, bodies).space
                for measure, value in measured_in_space(space, people.known).items():
                    scores.setdefault(f"{name} {measure}", []).append(value)
        row: dict[str, object] = {"what": "regressors", "kind": kind}
        for name, values in scores.items():
            row[name] = mean(values)
            row[f"{name} +-"] = stdev(values) if len(values) > 1 else float("nan")
        rows.append(row)
        print(json.dumps(row), flush=True)
    show(rows)


# --- speed ------------------------------------------------------------------------------------------------------


def speed(system: HoloPose, options: argparse.Namespace) -> None:
    """Milliseconds of one processor core, the median of ``--rounds``; of one person, and of eight together."""
    (batch,) = batches(system, options.val, BATCH, options.seed)
    system.eval()
    rows: list[dict[str, object]] = []
    weights = system.config.agreement
    for people in (1, 8):
        images = batch.image[:people]
        with torch.no_grad():
            maps = system.layer_maps(images)
            seen = system.look(maps)
            shot = system.regress(seen)

            def agree(solver: Solver, iterations: int, seen: Seen = seen, shot: Regressed = shot) -> Callable[[], Any]:
                def agreed() -> Bodies:
                    agreement = replace(weights, solver=solver, iterations=iterations)
                    system.config = replace(system.config, agreement=agreement)
                    return system.agreed(seen, shot)

                return agreed

            stages: dict[str, Callable[[], Any]] = {
                "trunk": partial(system.layer_maps, images),
                "heads": partial(system.look, maps),
                "regressor": partial(system.regress, seen),
                "agreement, 20 of CG": agree("conjugate_gradients", 20),
                "agreement, 1 of CG": agree("conjugate_gradients", 1),
                "agreement, LM": agree("levenberg_marquardt", 20),
            }
            for name, run in stages.items():
                run()
                took = []
                for _ in range(options.rounds):
                    start = time.process_time()
                    run()
                    took.append(1e3 * (time.process_time() - start) / people)
                rows.append({"what": "speed", "stage": name, "people": people, "ms_a_person": float(np.median(took))})
    system.config = replace(system.config, agreement=weights)
    say(rows)


# --- with the start ---------------------------------------------------------------------------------------------


def rivals(system: HoloPose, options: argparse.Namespace) -> None:
    """What a system that sees the picture gives beside the default, whose start sees landmarks, and both together.

    Joints of both are brought onto each other by the best similarity, and averaged.
    """
    source, body = SyntheticSource(options.val), kouros.load_body()
    reconstructors = {name: reconstructor_of(name) for name in ("default", *options.systems)}
    errors: dict[str, list[float]] = {}
    for row in range(len(source)):
        sample, photo = source.sample(row), source.image(row)
        box = np.asarray(sample.bbox)
        middle, size = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]).max()
        seen = reconstructors["default"].see(photo)
        near = [p for p in seen if np.abs((p.box[:2] + p.box[2:]) / 2 - middle).max() < size / 5]
        people = {name: one.people(near[:1])[0] for name, one in reconstructors.items()} if len(near) == 1 else {}
        if not people or None in people.values():
            continue
        pose, betas = (torch.tensor(v).float()[None] for v in (sample.pose, sample.betas))
        true = body.keypoint_positions(LSP14.name, betas, pose[:, 3:], pose[:, :3])
        joints = {name: person.keypoints_3d(LSP14.name)[None] for name, person in people.items() if person is not None}
        for name in options.systems:
            onto = align(joints[name], joints["default"]).apply(joints[name])
            joints[f"default and {name}"] = (joints["default"] + onto) / 2
        for name, points in joints.items():
            errors.setdefault(name, []).append(1e3 * float(procrustes_errors(points, true).mean()))
        if len(errors["default"]) == options.people:
            break
    say([{"what": "rivals", "of": k, "people": len(v), "pa_mpjpe_mm": mean(v)} for k, v in errors.items()])


# --- votes ------------------------------------------------------------------------------------------------------


def _parts(system: HoloPose) -> tuple[PartRegressor, PartVotes]:
    """The regressor whose parts vote, and their votes."""
    regressor = system.regressor
    assert isinstance(regressor, PartRegressor) and isinstance(regressor.votes, PartVotes)
    return regressor, regressor.votes


def votes(system: HoloPose, options: argparse.Namespace) -> None:
    """Which joints move which angles, and whose votes count for one person."""
    from matplotlib.figure import Figure

    (batch,) = batches(system, options.val, BATCH, options.seed)
    one = batch[:1]
    seen = system.seen_of(one.image)
    with torch.no_grad():
        regressor, voting = _parts(system)
        features, there = regressor.pooled(seen, seen.joints[..., :2], system.found(seen))
        shares = voting.shares(features, there)[0]
    figure = Figure(figsize=(13, 5.4), dpi=100, layout="constrained")
    who, whose, person = figure.subplots(1, 3, width_ratios=[1, 1, 0.8])
    near = voting.near.float()
    for axis, values, title in ((who, near, "who votes"), (whose, shares, "whose votes count, one person")):
        axis.imshow(values.numpy(), cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(24), POINTS.names, rotation=90, fontsize=7)
        axis.set_yticks(range(24), JOINT_NAMES, fontsize=7)
        axis.set_title(title)
        axis.set_xlabel("joint that is seen")
        axis.set_ylabel("angle")
    person.imshow(one.image[0].permute(1, 2, 0).numpy(), extent=(-1, 1, 1, -1))
    x, y, height = seen.joints[0].T.numpy()
    found = there[0].numpy()
    person.scatter(x[found], y[found], c=height[found], s=30, cmap="spring", edgecolors="black", vmin=0, vmax=1)
    person.scatter(x[~found], y[~found], marker="x", s=20, c="white")
    person.set_title("joints seen; x: below the threshold")
    person.axis("off")
    figure.savefig(options.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tables", "regressors", "rivals", "speed", "votes"))
    parser.add_argument("--val", type=Path, required=True)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--run", type=Path, default=SYSTEMS["holopose"].packaged)
    parser.add_argument("--keep", type=Path, help="file for what the trunk says of the people to learn from")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--train-people", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, nargs="+", default=(0, 1, 2))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--systems", nargs="+", default=("holopose",), help="that are put beside the default")
    parser.add_argument("--full", action="store_true", help="the published size, with fresh weights: for its speed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    body = kouros.load_body()
    system = HoloPoseConfig().build(body) if options.full else load_run(options.run, body)
    assert isinstance(system, HoloPose)
    ways = {"tables": tables, "regressors": regressors, "rivals": rivals, "speed": speed, "votes": votes}
    ways[options.what](system, options)


if __name__ == "__main__":
    main()
