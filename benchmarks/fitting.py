"""How does our fit compare with SPIN's published schedule: its time, its objective, and the people it finds?

SPIN (Kolotouros et al. 2019) runs 100 Adam iterations for the camera and 100 for the body, step 0.01,
through the full mesh. Here that runs through `smplx` on the free body written as an SMPL file, on the same
objective and the same pose prior as ours, from the same estimates. Bodies are held-out motion capture seen
by random cameras, 2 pixels of noise on a 224-pixel crop, a tenth of the keypoints missing. Competitors run
in turn, so that both meet the same noise of the machine. Prints tables, then one JSON line for each row.

``python benchmarks/fitting.py --mocap ../shared/data/mocap [--poses 500] [--repeats 5] [--only speed ...]``

With ``--poses 64 --repeats 3`` it takes a few minutes on two cores, most of them SPIN's schedule.
"""

import argparse
import json
import math
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse
import smplx
import torch
from torch import Tensor

import kouros
from common import CROP, FOCAL, people_in_view, show
from kouros.body import BodyModel, BodyOutput
from kouros.body.parameters import BodyParameters
from kouros.body.skeleton import PARENTS
from kouros.fitting.linearization import Linearization
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.fitting.schedules.smplify import Smplify
from kouros.fitting.solvers.conjugate_gradients import conjugate_gradients
from kouros.fitting.solvers.levenberg_marquardt import Solution, levenberg_marquardt
from kouros.fitting.solvers.minimize import minimize
from kouros.fitting.terms.evidence import Evidence
from kouros.geometry.alignment import align
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import angle_between, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.gmm import GaussianMixture, load_gmm
from kouros.priors.training.poses import read_poses
from kouros.systems.lifter import load_weights, predict

SET = "spin49"
NOISE_PIXELS, SHARE_MISSING, NOISE_METRES = 2.0, 0.1, 0.03


@dataclass(frozen=True)
class Scene:
    """People, how they are seen, and an estimate as a network might give it."""

    truth: BodyParameters
    estimate: BodyParameters
    points: Tensor
    evidence: Evidence


def scene(fitter: Smplify, poses: Tensor, generator: torch.Generator) -> Scene:
    """Random cameras around ``poses``: all headings, 20 degrees up or down, people 60 to 95 % of the crop."""
    count = len(poses)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    truth = people_in_view(poses, generator)
    points = fitter.kinematics.points(truth)
    camera = PerspectiveCamera(torch.full((count,), FOCAL), torch.full((count, 2), CROP / 2))
    pixels = camera.project(points) + NOISE_PIXELS * normal(*points.shape[1:2], 2)
    seen = (torch.rand(pixels.shape[:2], generator=generator) > SHARE_MISSING).float()
    # Errors of about the size that SPIN's network makes.
    estimate = BodyParameters(
        truth.pose + 0.2 * normal(72), torch.zeros(count, 10), truth.transl * (1 + 0.03 * normal(1))
    )
    return Scene(truth, estimate, points, Evidence(torch.cat([pixels, seen[..., None]], -1), SET, camera))


def first(full: Scene, count: int) -> Scene:
    rows = torch.arange(count)
    return Scene(full.truth[rows], full.estimate[rows], full.points[rows], full.evidence[rows])


# --- SPIN's schedule ---


def write_smpl_file(body: BodyModel, path: Path) -> None:
    """The body in the layout of SMPL's files, as smplx reads it."""
    parents = np.array(PARENTS, dtype=np.int64)
    parents[0] = 2**32 - 1
    data = {
        "v_template": body.v_template.numpy().astype(np.float64),
        "shapedirs": body.shapedirs.numpy().astype(np.float64),
        "posedirs": body.posedirs.T.reshape(-1, 3, 207).numpy().astype(np.float64),
        "J_regressor": scipy.sparse.csc_matrix(body.joint_regressor.numpy().astype(np.float64)),
        "weights": body.weights.numpy().astype(np.float64),
        "f": body.faces.numpy().astype(np.uint32),
        "kintree_table": np.stack([parents, np.arange(24)]),
    }
    path.write_bytes(pickle.dumps(data))


@dataclass
class SpinSchedule:
    """Adam through the mesh, as in SPIN's released code."""

    body: BodyModel
    prior: GaussianMixture
    ignored: list[int]
    torso: list[int]
    iterations: int = 100

    def __post_init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_smpl_file(self.body, Path(folder) / "SMPL_NEUTRAL.pkl")
            self.mesh = smplx.SMPL(f"{folder}/SMPL_NEUTRAL.pkl", create_transl=False)

    def points(self, orient: Tensor, body_pose: Tensor, betas: Tensor, transl: Tensor) -> Tensor:
        out = self.mesh(global_orient=orient, body_pose=body_pose, betas=betas)
        output = BodyOutput(out.vertices, out.joints[:, :24])
        return self.body.keypoints_3d(output, SET) + transl[:, None]

    def fit(self, evidence: Evidence, start: BodyParameters) -> BodyParameters:
        seen, confidence = evidence.keypoints_2d[..., :2], evidence.keypoints_2d[..., 2]
        orient, body_pose = start.pose[:, :3].clone(), start.pose[:, 3:].clone()
        betas, transl = start.betas.clone(), start.transl.clone()

        def adam(moving: list[Tensor], loss: Callable[[Tensor], Tensor]) -> None:
            for tensor in moving:
                tensor.requires_grad_()
            optimizer = torch.optim.Adam(moving, lr=1e-2, betas=(0.9, 0.999))
            for _ in range(self.iterations):
                value = loss(evidence.camera.project(self.points(orient, body_pose, betas, transl)) - seen)
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            for tensor in moving:
                tensor.requires_grad_(False)

        def camera_loss(away: Tensor) -> Tensor:
            torso = (confidence[:, self.torso, None] > 0) * away[:, self.torso].square()
            return torso.sum() + 100**2 * (transl[:, 2] - start.transl[:, 2]).square().sum()

        kept = confidence.clone()
        kept[:, self.ignored] = 0.0
        signs = torch.tensor([1.0, -1.0, -1.0, -1.0])

        def body_loss(away: Tensor) -> Tensor:
            squared = away.square()
            robust = (kept.square()[..., None] * 100**2 * squared / (100**2 + squared)).sum()
            angles = (body_pose[:, [52, 55, 9, 12]] * signs).exp().square().sum()
            mixture = self.prior.energy(body_pose).energy.sum()
            return robust + 4.78**2 * mixture + 15.2**2 * angles + 5**2 * betas.square().sum()

        adam([orient, transl], camera_loss)
        adam([body_pose, betas, orient], body_loss)
        return BodyParameters(torch.cat([orient, body_pose], dim=-1), betas, transl)


# --- the questions ---


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def milliseconds(function: Callable[[], object], runs: int = 7) -> float:
    """Of the median run."""
    return 1e3 * statistics.median(seconds(function) for _ in range(runs))


def speed(ours: Smplify, theirs: SpinSchedule, people: Scene, repeats: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for batch in (1, 64):
        part = first(people, min(batch, len(people.points)))
        spin = partial(theirs.fit, part.evidence, part.estimate)
        refine = partial(ours.refine, part.evidence, part.estimate)
        stages = partial(ours.fit, part.evidence)
        refine(), stages()
        times = [(1e3 * seconds(spin), milliseconds(refine), milliseconds(stages)) for _ in range(repeats)]
        spin_ms, refine_ms, stages_ms = (statistics.median(column) for column in zip(*times, strict=True))
        ratios = [t[0] / t[1] for t in times]
        rows.append(
            {"what": "speed", "batch": len(part.points), "spin_ms": spin_ms, "refine_ms": refine_ms,
             "ratio": statistics.median(ratios), "least_ratio": min(ratios), "four_stages_ms": stages_ms,
             "four_stages_ratio": spin_ms / stages_ms}
        )  # fmt: skip
    return rows


def errors(fitter: Smplify, found: BodyParameters, people: Scene) -> dict[str, float]:
    """Of the 24 joints, millimetres: root-aligned, and after Procrustes."""
    joints = [
        fitter.body.joint_positions(betas=p.betas, body_pose=p.pose[:, 3:], global_orient=p.pose[:, :3])
        for p in (found, people.truth)
    ]
    aligned = align(joints[0], joints[1]).apply(joints[0]) - joints[1]
    away = (joints[0] - joints[0][:, :1]) - (joints[1] - joints[1][:, :1])
    return {
        "mpjpe_mm": 1e3 * away.norm(dim=-1).mean().item(),
        "pa_mpjpe_mm": 1e3 * aligned.norm(dim=-1).mean().item(),
    }


def quality(ours: Smplify, theirs: SpinSchedule, people: Scene) -> list[dict[str, object]]:
    chunks = torch.arange(len(people.points)).split(64)

    def all_of(fit: Callable[[Evidence, BodyParameters], BodyParameters]) -> BodyParameters:
        parts = [fit(people.evidence[c], people.estimate[c]) for c in chunks]
        return BodyParameters.from_vector(torch.cat([p.vector for p in parts]))

    fits = {
        "estimate": people.estimate,
        "spin": all_of(theirs.fit),
        "refine": all_of(lambda e, s: ours.refine(e, s).parameters),
        "four stages": all_of(lambda e, _: ours.fit(e).parameters),
        "truth": people.truth,
    }
    objectives = {name: ours.objective(people.evidence, p) for name, p in fits.items()}
    return [
        {"what": "quality", "fit": name, "poses": len(people.points),
         "objective": objectives[name].mean().item(),
         "share_not_above_spin": (objectives[name] <= objectives["spin"]).float().mean().item(),
         **errors(ours, parameters, people)}
        for name, parameters in fits.items()
    ]  # fmt: skip


@dataclass(frozen=True)
class DefaultScene:
    """The same people as a detector of 33 points sees them, and the default fit."""

    fitter: KeypointFitter
    kinds: dict[str, Evidence]

    def of(self, kind: str, rows: Tensor) -> Evidence:
        return self.kinds[kind][rows]


def default_scene(ours: Smplify, people: Scene, generator: torch.Generator) -> DefaultScene:
    fitter = KeypointFitter(ours.body, "blazepose33", ours.prior)
    points = fitter.kinematics.points(people.truth)
    camera = people.evidence.camera
    clean = torch.cat([camera.project(points), torch.ones_like(points[..., :1])], dim=-1)
    noisy = clean.clone()
    noisy[..., :2] += NOISE_PIXELS * torch.randn(noisy[..., :2].shape, generator=generator)
    noisy[..., 2] = (torch.rand(noisy[..., 2].shape, generator=generator) > SHARE_MISSING).float()
    space = points + NOISE_METRES * torch.randn(points.shape, generator=generator)
    kinds = {
        "clean 2D": Evidence(clean, "blazepose33", camera),
        "noisy 2D": Evidence(noisy, "blazepose33", camera),
        "noisy 2D + 3D": Evidence(noisy, "blazepose33", camera, space),
    }
    return DefaultScene(fitter, kinds)


def evidence_kinds(ours: Smplify, people: Scene, seen: DefaultScene) -> list[dict[str, object]]:
    """The default fit, without an estimate to begin from."""
    rows: list[dict[str, object]] = []
    for name in seen.kinds:
        chunks = torch.arange(len(people.points)).split(64)
        parts = [seen.fitter.fit(seen.of(name, c)).parameters.vector for c in chunks]
        found = BodyParameters.from_vector(torch.cat(parts))
        rows.append({"what": "evidence", "from": name, **errors(ours, found, people)})
    return rows


def default_fit(people: Scene, seen: DefaultScene, repeats: int) -> list[dict[str, object]]:
    """Time of the default fit a person: as `kouros.reconstruct` calls it, the network that makes the start apart, and
    from the evidence alone."""
    start, rows = load_weights(), []
    for batch in (1, 8, 64):
        if batch > len(people.points):
            break
        some = torch.arange(batch)
        both, flat, estimate = seen.of("noisy 2D + 3D", some), seen.of("noisy 2D", some), people.estimate[some]
        runs: dict[str, Callable[[], object]] = {
            "start_ms": partial(
                predict, start, seen.fitter.body, both.keypoints_2d, both.keypoint_set, both.camera, both.landmarks_3d
            ),
            "fit_ms": partial(seen.fitter.fit, both, estimate),
            "fit_from_3d_ms": partial(seen.fitter.fit, both),
            "fit_from_2d_ms": partial(seen.fitter.fit, flat),
        }
        for run in runs.values():
            run()
        times = [[milliseconds(run) / batch for run in runs.values()] for _ in range(repeats)]
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        rows.append({"what": "default fit a person", "batch": batch, **dict(zip(runs, medians, strict=True))})
    return rows


def basin(ours: Smplify, people: Scene) -> list[dict[str, object]]:
    """Mean poses, oriented as the truth is and then turned about the body's own axis; recovered: within 30
    degrees."""
    rows: list[dict[str, object]] = []
    real = rotvec_to_rotmat(people.truth.pose[:, :3])
    for degrees in (0, 60, 120, 180):
        turn = rotvec_to_rotmat(torch.tensor([0.0, math.radians(degrees), 0.0]))
        pose = torch.cat([rotmat_to_rotvec(real @ turn), ours.prior.mean().expand(len(real), -1)], dim=-1)
        start = replace(people.estimate, pose=pose)
        result = ours.refine(people.evidence, start)
        away = angle_between(rotvec_to_rotmat(result.parameters.pose[:, :3]), real)
        rows.append(
            {"what": "basin", "turned_degrees": degrees,
             "share_recovered": (away < math.radians(30)).float().mean().item(),
             **errors(ours, result.parameters, people)}
        )  # fmt: skip
    return rows


def _lower(solver: Callable[..., Solution], limit: str, iterations: int) -> Solution:
    return solver(**{limit: iterations})


def iterations(ours: Smplify, people: Scene, repeats: int) -> list[dict[str, object]]:
    """One more iteration costs the difference between long and short runs."""
    rows: list[dict[str, object]] = []
    for batch in (1, 8, 64):
        if batch > len(people.points):
            break
        part = first(people, batch)
        objective = ours.stage_objective(part.evidence)

        def linearize(x: Tensor, part: Scene = part) -> Linearization:
            return ours.stage_terms(part.evidence, x)

        x = part.estimate.vector
        solvers: dict[str, Callable[[int], Solution]] = {
            "lm_ms": partial(_lower, partial(minimize, objective, x, tolerance=-1.0), "max_iterations"),
            "lm_in_torch_ms": partial(
                _lower, partial(levenberg_marquardt, objective, x, tolerance=-1.0), "max_iterations"
            ),
            "cg_ms": partial(_lower, partial(conjugate_gradients, linearize, x), "iterations"),
        }
        row: dict[str, object] = {"what": "iteration", "batch": batch}
        for name, solve in solvers.items():
            short, long = partial(solve, 1), partial(solve, 11)
            # Persons who cannot go lower stop earlier.
            more = 10.0 if name == "cg_ms" else long().iterations.double().mean().item() - 1
            samples = [(milliseconds(long, 3) - milliseconds(short, 3)) / more for _ in range(repeats)]
            row[name] = statistics.median(samples)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--mocap", type=Path, required=True, help="folder of motion capture; its held-out poses are used"
    )
    parser.add_argument("--poses", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    questions = ("speed", "quality", "default", "evidence", "basin", "iteration")
    parser.add_argument("--only", nargs="+", choices=questions, default=questions)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(options.seed)
    poses = torch.from_numpy(read_poses(options.mocap, "val").diverse).float()
    poses = poses[torch.randperm(len(poses), generator=generator)[: options.poses]]
    ours = Smplify(kouros.load_body(), SET, load_gmm())
    torso = [
        ours.keypoints.index(f"{side}_openpose_{part}") for side in ("left", "right") for part in ("hip", "shoulder")
    ]
    ignored = [ours.keypoints.index(n) for n in ours.config.ignored]
    theirs = SpinSchedule(ours.body, ours.prior, ignored, torso)
    people = scene(ours, poses, generator)
    t = people.truth
    through_mesh = theirs.points(t.pose[:2, :3], t.pose[:2, 3:], t.betas[:2], t.transl[:2])
    torch.testing.assert_close(through_mesh, people.points[:2], atol=1e-3, rtol=0)  # the same body and keypoints
    seen = default_scene(ours, people, generator)
    tables = {
        "speed": lambda: speed(ours, theirs, people, options.repeats),
        "quality": lambda: quality(ours, theirs, people),
        "default": lambda: default_fit(people, seen, options.repeats),
        "evidence": lambda: evidence_kinds(ours, people, seen),
        "basin": lambda: basin(ours, people),
        "iteration": lambda: iterations(ours, people, options.repeats),
    }
    found = [tables[name]() for name in questions if name in options.only]
    for rows in found:
        show(rows)
    print()
    for rows in found:
        for row in rows:
            print(json.dumps(row))


if __name__ == "__main__":
    main()
