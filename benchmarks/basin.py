"""From how far off does a fit still find the person, and how good is what it finds?

Held-out motion capture seen by random cameras, BlazePose's keypoints with 2 px of noise on a 224-pixel crop and a tenth
missing. A start is the prior's mean pose and shape, oriented as the person is and then turned about the body's upright
axis. A person is recovered when PA-MPJPE is below 60 mm and the orientation within 30 degrees. Compared: the fit from
that start alone; from several starts made of it (turned ones and depth-flipped ones, `fitting.schedules.starts`),
judged by the full objective; and what needs no start, the default fit's own starts and the learned start. Then the
error on the same people from clean 2D, noisy 2D, and 2D with noisy 3D. Prints tables, then a JSON line for each row.

``python benchmarks/basin.py --mocap ../shared/data/mocap [--poses 200]``
"""

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import kouros
from common import CROP, FOCAL, people_in_view, show
from kouros.body.keypoints import keypoint_set
from kouros.body.parameters import BodyParameters
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.fitting.schedules.starts import fit_from_several, several_starts, turned
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import angle_between, rotvec_to_rotmat
from kouros.priors.gmm import load_gmm
from kouros.priors.training.poses import read_poses
from kouros.systems.lifter import load_weights, predict

SET = "blazepose33"
NOISE_PIXELS, SHARE_MISSING, NOISE_METRES = 2.0, 0.1, 0.03
RECOVERED_MM, RECOVERED_DEGREES = 60.0, 30.0
TURNS = (0.5 * math.pi, math.pi, 1.5 * math.pi)
CHUNK = 64


@dataclass(frozen=True)
class Scene:
    truth: BodyParameters
    clean: Evidence
    noisy: Evidence
    with_3d: Evidence


def scene(fitter: KeypointFitter, poses: Tensor, generator: torch.Generator) -> Scene:
    """All headings, 20 degrees up or down, people 60 to 95 % of the crop."""
    count = len(poses)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    truth = people_in_view(poses, generator)
    camera = PerspectiveCamera(torch.full((count,), FOCAL), torch.full((count, 2), CROP / 2))
    points = fitter.kinematics.points(truth)
    clean = torch.cat([camera.project(points), torch.ones_like(points[..., :1])], dim=-1)
    seen = (torch.rand(clean.shape[:2], generator=generator) > SHARE_MISSING).float()
    noisy = torch.cat([clean[..., :2] + NOISE_PIXELS * normal(len(clean[0]), 2), seen[..., None]], dim=-1)
    space = points + NOISE_METRES * normal(*points.shape[1:])
    return Scene(truth, Evidence(clean, SET, camera), Evidence(noisy, SET, camera), Evidence(noisy, SET, camera, space))


def errors(fitter: KeypointFitter, found: BodyParameters, truth: BodyParameters) -> dict[str, float]:
    """Joints in millimetres, root-aligned and after Procrustes; and who is recovered."""
    smpl24 = KeypointKinematics(fitter.body, "smpl24")
    joints, real = smpl24.points(found), smpl24.points(truth)
    aligned = 1e3 * procrustes_errors(joints, real).mean(-1)
    away = angle_between(rotvec_to_rotmat(found.pose[:, :3]), rotvec_to_rotmat(truth.pose[:, :3]))
    there = (aligned < RECOVERED_MM) & (away < math.radians(RECOVERED_DEGREES))
    return {
        "recovered": there.float().mean().item(),
        "faces_right": (away < math.radians(RECOVERED_DEGREES)).float().mean().item(),
        "mpjpe_mm": 1e3 * joint_errors(joints, real, predicted_root=joints[:, 0], target_root=real[:, 0]).mean().item(),
        "pa_mpjpe_mm": aligned.mean().item(),
    }


class Fits:
    """The ways to fit that are compared, each from evidence and maybe a start."""

    def __init__(self, fitter: KeypointFitter) -> None:
        self.fitter = fitter
        self.lifter = load_weights()

    def single(self, evidence: Evidence, start: BodyParameters) -> tuple[BodyParameters, Tensor]:
        result = self.fitter.fit(evidence, start)
        return result.parameters, result.cost

    def turned(self, evidence: Evidence, start: BodyParameters) -> tuple[BodyParameters, Tensor]:
        result = self.fitter.fit(evidence, several_starts(self.fitter.body, start, turns=TURNS, flips=()))
        return result.parameters, result.cost

    def several(self, evidence: Evidence, start: BodyParameters) -> tuple[BodyParameters, Tensor]:
        def fit(persons: Tensor, starts: BodyParameters) -> tuple[BodyParameters, Tensor]:
            result = self.fitter.fit(evidence[persons], starts)
            return result.parameters, result.cost

        return fit_from_several(fit, self.fitter.body, start, turns=TURNS)

    def own_starts(self, evidence: Evidence) -> tuple[BodyParameters, Tensor]:
        result = self.fitter.fit(evidence)
        return result.parameters, result.cost

    def learned(self, evidence: Evidence) -> tuple[BodyParameters, Tensor]:
        """As `kouros.reconstruct` does it: from the network's answer 0, which also stands in for 3D landmarks."""
        first = self.answers(evidence, 1)
        return self.single(replace(evidence, landmarks_3d=self.fitter.kinematics.points(first)), first)

    def learned_by_picture(self, evidence: Evidence) -> tuple[BodyParameters, Tensor]:
        """From all four of its answers, judged without landmarks."""
        return self.single(evidence, self.answers(evidence, 4))

    def learned_several(self, evidence: Evidence) -> tuple[BodyParameters, Tensor]:
        """From its answer 0 and what that becomes turned and flipped, judged without landmarks."""
        return self.several(evidence, self.answers(evidence, 1))

    def learned_several_landmarks(self, evidence: Evidence) -> tuple[BodyParameters, Tensor]:
        """The same, judged with answer 0 for landmarks."""
        first = self.answers(evidence, 1)
        return self.several(replace(evidence, landmarks_3d=self.fitter.kinematics.points(first)), first)

    def answers(self, evidence: Evidence, count: int) -> BodyParameters:
        space = evidence.landmarks_3d
        if space is not None:
            hips = [keypoint_set(SET).index(f"{side}_hip") for side in ("left", "right")]
            space = space - space[:, hips].mean(1, keepdim=True)
        lifted = predict(self.lifter, self.fitter.body, evidence.keypoints_2d, SET, evidence.camera, space)
        return lifted.answers[:, :count].map(lambda t: t.flatten(0, 1))


def in_chunks(fit, evidence: Evidence, start: BodyParameters | None = None) -> tuple[BodyParameters, Tensor]:  # type: ignore[no-untyped-def]
    chunks = torch.arange(len(evidence.keypoints_2d)).split(CHUNK)
    found = [fit(evidence[c]) if start is None else fit(evidence[c], start[c]) for c in chunks]
    vector = torch.cat([parameters.vector for parameters, _ in found])
    return BodyParameters.from_vector(vector), torch.cat([cost for _, cost in found])


def basin(fits: Fits, people: Scene) -> list[dict[str, object]]:
    fitter, truth = fits.fitter, people.truth
    mean = torch.cat([truth.pose[:, :3], fitter.mean_pose.expand(len(truth.pose), -1)], dim=-1)
    start = BodyParameters(mean, torch.zeros_like(truth.betas), truth.transl)
    _, at_truth = in_chunks(fits.single, people.noisy, truth)
    rows: list[dict[str, object]] = []

    def add(fit: str, turn: str, found: tuple[BodyParameters, Tensor]) -> None:
        parameters, cost = found
        # A fit that explains the picture better than the truth's own minimum is no failure of the search.
        lost = cost > 1.01 * at_truth
        rows.append(
            {"what": "basin", "fit": fit, "turned_degrees": turn, **errors(fitter, parameters, truth),
             "worse_minimum": lost.float().mean().item()}
        )  # fmt: skip

    add("from the truth", "-", in_chunks(fits.single, people.noisy, truth))
    for degrees in (0, 60, 120, 180):
        begin = turned(start, math.radians(degrees))
        add("one start", str(degrees), in_chunks(fits.single, people.noisy, begin))
        add("turned starts", str(degrees), in_chunks(fits.turned, people.noisy, begin))
        add("turned and flipped", str(degrees), in_chunks(fits.several, people.noisy, begin))
    add("own starts", "-", in_chunks(fits.own_starts, people.noisy))
    add("learned, its four answers", "-", in_chunks(fits.learned_by_picture, people.noisy))
    add("learned, turned and flipped", "-", in_chunks(fits.learned_several, people.noisy))
    # These have one term more, so their costs are not those of the others' objective.
    for name, run in (
        ("learned start", fits.learned),
        ("the same, turned and flipped", fits.learned_several_landmarks),
    ):
        found, _ = in_chunks(run, people.noisy)
        add(name, "-", (found, torch.full_like(at_truth, torch.nan)))
        rows[-1]["worse_minimum"] = math.nan
    return rows


def evidence_kinds(fits: Fits, people: Scene) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, evidence in (("clean 2D", people.clean), ("noisy 2D", people.noisy), ("noisy 2D + 3D", people.with_3d)):
        for fit, run in (("own starts", fits.own_starts), ("learned start", fits.learned)):
            found, _ = in_chunks(run, evidence)
            rows.append({"what": "evidence", "from": name, "fit": fit, **errors(fits.fitter, found, people.truth)})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mocap", type=Path, required=True, help="motion capture; its held-out poses are used")
    parser.add_argument("--poses", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(options.seed)
    poses = torch.from_numpy(read_poses(options.mocap, "val").diverse).float()
    poses = poses[torch.randperm(len(poses), generator=generator)[: options.poses]]
    fitter = KeypointFitter(kouros.load_body(), SET, load_gmm())
    fits, people = Fits(fitter), scene(fitter, poses, generator)
    found = [basin(fits, people), evidence_kinds(fits, people)]
    for rows in found:
        show(rows, digits=3)
    print()
    for rows in found:
        for row in rows:
            print(json.dumps({"poses": len(poses), **row}))


if __name__ == "__main__":
    main()
