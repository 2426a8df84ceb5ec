"""Which start is best where nobody has learned the poses: every system, alone and fitted, and means of them.

    kouros synthesize --out look_a --mocap MOCAP --split val --people 1000 --size 288 --seed 1
    python benchmarks/unseen_poses.py MOTIONS --out unseen/diverse_frames.npz
    python benchmarks/default.py draw look_b --poses unseen --backgrounds PHOTOS
    python benchmarks/default.py judge look_a look_b --people 300 --out default.json [--systems NAME ...]
    python benchmarks/default.py judge MULTIVIEW --out photos.json          # a folder with annotations.npz; last

`draw` makes look B: poses that nothing has learned from, bodies further from the mean, wide lenses, photos behind them,
larger pictures. Look A has other clips of the activities that all systems have learned from. `judge` lets the
finder look for people in whole pictures (found ones are kept beside --out), asks every system, and prints PA-MPJPE
and MPJPE about the hips of twelve limb joints, millimetres, over the people found, and
PA-MPJPE of those who are clearly seen; and the time that each system takes, one thread, without the finder's.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from kouros.archives import read_all_npz
from kouros.batched import stack
from kouros.body.keypoints import BLAZEPOSE33, COCO17, KeypointSet
from kouros.body.parameters import Bodies, BodyParameters
from kouros.data.images import read_image
from kouros.data.synthetic.generate import Order, synthesize
from kouros.data.synthetic.scenes import SceneConfig
from kouros.data.synthetic.source import SyntheticSource
from kouros.detection import DetectedPerson, find_people
from kouros.detection.fusion import SHARED
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.files import npz_bytes, write_file
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.fitting.terms.evidence import Evidence
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.open import open_estimator
from kouros.pipeline.reconstructor import default_body
from kouros.priors.gmm import load_gmm
from kouros.systems.best_of_both_worlds import Ik, JointsToBodies
from kouros.systems.estimator import Estimate, Estimator, PersonInPhoto, in_photo_camera
from kouros.systems.lifter import LearnedStart
from kouros.systems.refined import ANY_START, DETECTED, Refined
from kouros.systems.table import SYSTEMS as SYSTEMS_KNOWN
from kouros.training.runs import load_run

JOINTS = [
    f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
]
LIMBS, FLAT = ([points.index(name) for name in JOINTS] for points in (BLAZEPOSE33, COCO17))
HIPS = [JOINTS.index(f"{side}_hip") for side in ("left", "right")]
WITHIN = 0.2
"""Of the person's size: a found person is the one whose points lie so near in the median."""
SEEN, _WORST = 0.6, 2
"""Who counts as seen: of whose twelve joints all but two have a confidence above that."""
SYSTEMS = ("learned-start", "spin", "hkmr", "nbf", "holopose", "mean-pose")


@dataclass(frozen=True, eq=False)
class Shown:
    """A person in a picture, and the truth."""

    person: PersonInPhoto
    joints: Tensor
    """(12, 3): metres, camera axes, NaN where unknown."""
    marks: Tensor | None = None
    """(12, 2): the same in the picture, pixels, where they were annotated there."""


# ---- who is shown


def draw(out: Path, poses: Path, backgrounds: Path, people: int, seed: int) -> None:
    """Look B."""
    scene = SceneConfig(
        size=384, recorded_only=True, occluded=0.25, shape_spread=1.5, shortest_lens=0.6, longest_lens=2.0
    )
    print(synthesize(Order(people, seed, "val", poses, backgrounds, scene=scene), out))


def shown_in(folder: Path, people: int, beside: Path) -> list[Shown]:
    """The first people of a folder whom the finder finds."""
    if (folder / "annotations.npz").is_file():
        return _in_photos(folder)
    source, row = SyntheticSource(folder), 0
    shown: list[Shown] = []
    while len(shown) < people and row < len(source):
        name, rows = source.sample(row).image_path, []
        while row < len(source) and source.sample(row).image_path == name:
            rows.append(row)
            row += 1
        kept = beside / "seen" / folder.name / f"{Path(name).stem}.npz"
        pixels = source.image(rows[0])
        if not kept.is_file():
            write_file(kept, npz_bytes(_arrays(find_people(pixels))))
        samples = [source.sample(i) for i in rows]
        flat = source.points(rows, COCO17)[:, FLAT]
        true = source.stage.drawer.keypoints(
            COCO17.name, *(np.stack([getattr(s, n) for s in samples]) for n in ("pose", "betas", "transl"))
        )
        focal, _, *center = np.asarray(samples[0].intrinsics, dtype=np.float64).tolist()
        camera = PerspectiveCamera(torch.tensor(focal), torch.tensor(center))
        found = _people(read_all_npz(kept))
        flat[..., :2][flat[..., 2] == 0] = np.nan
        for a, b in _matched([p.keypoints_2d for p in found], flat[..., :2]):
            person = PersonInPhoto.found(found[b], pixels, pixels.shape[1::-1], camera)
            shown.append(Shown(person, torch.from_numpy(true[a][FLAT]).float()))
    return shown


def _in_photos(folder: Path) -> list[Shown]:
    rows = read_all_npz(folder / "annotations.npz")
    order = [[str(n) for n in rows["joint_names"]].index(name) for name in JOINTS]
    shown = []
    for image in sorted(set(map(str, rows["image"]))):
        mine = np.flatnonzero(rows["image"] == image)
        photo = read_image(folder / image)
        focal = float(rows["intrinsics"][mine[0]][:2].mean())
        width, height = photo.size
        camera = PerspectiveCamera(torch.tensor(focal), torch.tensor([width / 2, height / 2]))
        found = find_people(photo.pixels)
        for a, b in _matched([p.keypoints_2d for p in found], rows["joints_2d"][mine][:, order]):
            person = PersonInPhoto.found(found[b], photo.pixels, (width, height), camera)
            joints, marks = (torch.from_numpy(rows[f"joints_{d}d"][mine[a]][order]).float() for d in (3, 2))
            shown.append(Shown(person, joints, marks))
    return shown


def _matched(found: Sequence[np.ndarray], flat: np.ndarray) -> list[tuple[int, int]]:
    """True and found people that are the same."""
    cost = np.full((len(flat), len(found)), 10.0)
    for a, true in enumerate(flat):
        known = np.isfinite(true).all(axis=1)
        if known.sum() < 4:
            continue
        size = float(np.ptp(true[known], axis=0).max())
        for b, points in enumerate(found):
            away = np.linalg.norm(points[LIMBS, :2] - true, axis=1)[known]
            cost[a, b] = float(np.median(away)) / max(size, 1.0)
    return [(int(a), int(b)) for a, b in zip(*linear_sum_assignment(cost), strict=True) if cost[a, b] <= WITHIN]


_FIELDS = ("box", "keypoints_2d", "landmarks_3d", "depths")


def _arrays(people: Sequence[DetectedPerson]) -> dict[str, np.ndarray]:
    shapes = {"box": (4,), "keypoints_2d": (33, 3), "landmarks_3d": (33, 3), "depths": (17, 2)}
    arrays = {name: np.array([getattr(p, name) for p in people]).reshape(-1, *shapes[name]) for name in _FIELDS}
    return arrays | {"score": np.array([p.score for p in people])}


def _people(arrays: dict[str, np.ndarray]) -> list[DetectedPerson]:
    return [
        DetectedPerson(
            keypoint_set=BLAZEPOSE33.name, score=float(arrays["score"][i]), **{n: arrays[n][i] for n in _FIELDS}
        )
        for i in range(len(arrays["score"]))
    ]


# ---- what is asked


@dataclass(frozen=True, eq=False)
class Answered:
    """Of all people, by one system."""

    points: Tensor
    """(people, 33, 3): BlazePose's points, metres, camera axes, about the hips; NaN where they are not known."""
    estimates: list[Estimate | None] | None = None
    """Where there are bodies."""
    seconds: float = float("nan")
    """That the system took for all of them; the finder's not counted."""


class Given:
    """Answers that are known already, as an estimator to be refined."""

    name, needs_keypoints = "given", True
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(self, estimates: list[Estimate | None]) -> None:
        self.body, self._estimates = default_body(), estimates

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        return self._estimates


def of_bodies(estimates: list[Estimate | None], people: Sequence[PersonInPhoto]) -> Answered:
    """Answers with bodies."""
    body, points = default_body(), torch.full((len(people), len(BLAZEPOSE33), 3), torch.nan)
    placed: list[Estimate | None] = []
    for i, (estimate, person) in enumerate(zip(estimates, people, strict=True)):
        if estimate is None or estimate.bodies is None:
            placed.append(None)
            continue
        here = in_photo_camera(estimate, person)
        placed.append(here)
        assert here.bodies is not None
        one = BodyParameters(*(t[None] for t in (here.bodies.pose, here.bodies.betas, here.bodies.transl)))
        points[i] = one.keypoints_by(body, BLAZEPOSE33.name)[0]
    return Answered(_about_hips(points), placed)


def of_points(estimates: list[Estimate | None], names: KeypointSet) -> Answered:
    """Answers with points."""
    points = torch.full((len(estimates), len(BLAZEPOSE33), 3), torch.nan)
    places = SHARED if names is COCO17 else list(range(len(BLAZEPOSE33)))
    for i, estimate in enumerate(estimates):
        if estimate is not None and estimate.points_3d is not None:
            points[i, places] = estimate.points_3d.float()
    return Answered(_about_hips(points))


def _about_hips(points: Tensor) -> Tensor:
    return points - points[:, [LIMBS[k] for k in HIPS]].mean(1, keepdim=True)


def fitted(answer: Answered, people: Sequence[PersonInPhoto], own: bool) -> Answered:
    """Bodies refined to the keypoints."""
    assert answer.estimates is not None
    refined = Refined(Given(list(answer.estimates)), DETECTED if own else ANY_START)
    return of_bodies(refined.estimate(people), people)


def mean_of(answers: Sequence[Answered], shares: Sequence[float] | None = None) -> Answered:
    """Mean of the points, of those who know them."""
    shares = shares or [1.0] * len(answers)
    known = torch.stack([s * a.points.isfinite().all(-1).float() for s, a in zip(shares, answers, strict=True)])
    total = sum(k[..., None] * a.points.nan_to_num() for k, a in zip(known, answers, strict=True))
    assert isinstance(total, Tensor)
    return Answered(_about_hips(total / known.sum(0)[..., None]))


def fitted_to_points(answer: Answered, start: Answered, people: Sequence[PersonInPhoto], sigma: float) -> Answered:
    """A fit to the keypoints that takes these points as evidence of depth, from a start's bodies."""
    assert start.estimates is not None
    body, chosen = default_body(), [i for i, e in enumerate(start.estimates) if e is not None]
    begun = [in_photo_camera(start.estimates[i], people[i]) for i in chosen]  # type: ignore[arg-type]
    bodies = stack([e.bodies for e in begun if e.bodies is not None])
    fitter = KeypointFitter(body, BLAZEPOSE33.name, load_gmm(), replace(DETECTED, landmark_sigma=(sigma,) * 3))
    cameras = stack([people[i].camera for i in chosen])
    keypoints = torch.stack([people[i].keypoints for i in chosen])
    points = torch.where(answer.points.isfinite(), answer.points, start.points)[chosen]
    found = fitter.fit(Evidence(keypoints, BLAZEPOSE33.name, cameras, points), bodies)
    placed = Bodies.of(found.parameters, cameras)
    estimates: list[Estimate | None] = [None] * len(people)
    for k, i in enumerate(chosen):
        estimates[i] = Estimate(bodies=placed[k])
    return of_bodies(estimates, people)


def all_answers(people: Sequence[PersonInPhoto], systems: Sequence[str]) -> dict[str, Answered]:
    """By name; what is fitted says so."""
    body = default_body()
    flat = [replace(p, detected=replace(p.detected, landmarks_3d=None, depths=None)) for p in people if p.detected]
    answers: dict[str, Answered] = {}

    def add(name: str, estimator: Estimator, shown: Sequence[PersonInPhoto], own: bool) -> None:
        estimator.estimate(shown[:1])  # loads and compiles what is made once
        began = time.monotonic()
        estimates = estimator.estimate(shown)
        seconds = time.monotonic() - began
        if estimator.body is None:
            assert estimator.points_3d is not None
            answers[name] = replace(of_points(estimates, estimator.points_3d), seconds=seconds)
            return
        answers[name] = replace(of_bodies(estimates, people), seconds=seconds)
        answers[f"{name}, fitted"] = fitted(answers[name], people, own)

    add("learned start, points alone", LearnedStart(body), flat, True)
    for name in systems:
        add(name, open_estimator(name), people, name == "learned-start" or "lifter" in name)
    add("BlazePose's landmarks", open_estimator("blazepose"), people, False)
    add("points at depths", points_at_depths(), people, False)
    answers["inverse kinematics of points at depths"] = solved = inverse_kinematics(answers["points at depths"], people)
    answers["inverse kinematics of points at depths, fitted"] = fitted(solved, people, False)
    return answers


def inverse_kinematics(answer: Answered, people: Sequence[PersonInPhoto]) -> Answered:
    """Bodies that the packaged network finds for points."""
    folder, body = SYSTEMS_KNOWN["best-of-both-worlds-ik"].packaged, default_body()
    assert folder is not None
    system = load_run(folder, body)
    assert isinstance(system, Ik)
    solve = JointsToBodies(system.network, body)
    chosen = [i for i, points in enumerate(answer.points) if bool(points[LIMBS].isfinite().all())]
    found = solve(BLAZEPOSE33.name, answer.points[chosen])
    estimates: list[Estimate | None] = [None] * len(people)
    for k, i in enumerate(chosen):
        estimates[i] = Estimate(bodies=Bodies.of(found[k], people[i].camera))
    return of_bodies(estimates, people)


def points_at_depths() -> Estimator:
    """The packaged head of depths, on detected points."""
    from kouros.detection.depths import packaged_depth_head
    from kouros.systems.joint_depths import PointsAtDepths

    return PointsAtDepths(packaged_depth_head())


def with_means(answers: dict[str, Answered], people: Sequence[PersonInPhoto]) -> dict[str, Answered]:
    """And means of some, and fits to them."""
    first = "learned-start"
    for second in [
        n for n in answers if n not in (first, "mean-pose") and not any(w in n for w in ("fitted", "alone", "inverse"))
    ]:
        pair = mean_of([answers[first], answers[second]])
        answers[f"mean of {first} and {second}"] = pair
        answers[f"mean of {first} and {second}, fitted"] = fitted_to_points(pair, answers[first], people, 0.03)
    return answers


# ---- how good it is


def errors(found: Tensor, true: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """PA-MPJPE and MPJPE about the hips of each person, millimetres; NaN where there is no answer."""
    aligned, plain = np.full(len(found), np.nan), np.full(len(found), np.nan)
    for i, (ours, real) in enumerate(zip(found[:, LIMBS], true, strict=True)):
        known = real.isfinite().all(-1)
        if not bool(ours.isfinite().all()) or not bool(known[HIPS].all()):
            continue
        pair = [(p - p[HIPS].mean(0))[known][None] for p in (ours, real)]
        aligned[i] = 1000 * float(procrustes_errors(*pair).mean())
        plain[i] = 1000 * float(joint_errors(*pair).mean())
    return aligned, plain


def judge(folders: Sequence[Path], people: int, systems: Sequence[str], out: Path) -> None:
    """Print the table and write it."""
    torch.set_num_threads(1)
    rows: dict[str, dict[str, float]] = {}
    for folder in folders:
        shown = shown_in(folder, people, out.parent)
        seen, true = [s.person for s in shown], torch.stack([s.joints for s in shown])
        print(f"{folder}: {len(shown)} people", flush=True)
        doubt = torch.stack([p.keypoints[LIMBS, 2] for p in seen]).sort(1).values[:, _WORST].numpy()
        for name, answer in with_means(all_answers(seen, systems), seen).items():
            aligned, plain = errors(answer.points, true)
            row = rows.setdefault(name, {})
            clear = aligned[doubt > SEEN]
            row |= {} if np.isnan(answer.seconds) else {"ms a person": 1000 * answer.seconds / len(seen)}
            numbers = {"PA": aligned, "median": np.nanmedian(aligned), "MPJPE": plain, f"PA, {len(clear)} seen": clear}
            row |= {f"{folder.name} {what}": float(np.nanmean(number)) for what, number in numbers.items()}
    write_file(out, json.dumps(rows, indent=1).encode())
    _plot(rows, out.with_suffix(".png"))
    columns = list(next(iter(rows.values())))
    table = Table("system", *columns)
    for name, row in rows.items():
        table.add_row(name, *(f"{row.get(c, float('nan')):.1f}" for c in columns))
    Console(width=200).print(table)


def _plot(rows: dict[str, dict[str, float]], path: Path) -> None:
    """PA-MPJPE of all on the last folder, the best on top."""
    from matplotlib.figure import Figure

    column = [c for c in next(iter(rows.values())) if c.endswith(" PA")][-1]
    ranked = sorted(((row[column], name) for name, row in rows.items() if column in row), reverse=True)
    figure = Figure(figsize=(8, 0.22 * len(ranked) + 0.8), layout="constrained")
    axes = figure.subplots()
    colours = ["tab:orange" if name == "learned-start, fitted" else "tab:blue" for _, name in ranked]
    axes.barh([name for _, name in ranked], [value for value, _ in ranked], color=colours)
    axes.set_xlabel(f"{column}-MPJPE, mm; orange: the default")
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(y=0.01)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("out", type=Path)
    drawing.add_argument("--poses", type=Path, required=True)
    drawing.add_argument("--backgrounds", type=Path, required=True)
    drawing.add_argument("--people", type=int, default=1000)
    drawing.add_argument("--seed", type=int, default=20)
    judging = commands.add_parser("judge")
    judging.add_argument("folders", type=Path, nargs="+")
    judging.add_argument("--people", type=int, default=300)
    judging.add_argument("--systems", nargs="*", default=SYSTEMS)
    judging.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if given.command == "draw":
        draw(given.out, given.poses, given.backgrounds, given.people, given.seed)
    else:
        judge(given.folders, given.people, given.systems, given.out)


if __name__ == "__main__":
    main()
