"""What each term of the default's fit is worth, and whether other weights would be worth more.

    kouros synthesize --out held_out --mocap MOCAP --split val --people 1000 --size 288 --seed 1 --detections
    python benchmarks/fit_terms.py terms held_out/detections
    python benchmarks/fit_terms.py search people/detections --judge held_out/detections [--settings 60]

`terms`: the fit from the learned start, as it is and without each term; with the picture's depths as evidence beside
the start's body; and for how many people the truth costs less than what the fit ends with. `search`: settings drawn at
random about the best so far (seed 0), chosen on 700 of the first folder's people by PA-MPJPE and a quarter of MPJPE;
the best is judged on the second's. Twelve limb joints, millimetres; "seen": whose joints are mostly sure.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from common.started import clearly_seen, started
from kouros.body.files import shared_body
from kouros.body.keypoints import BLAZEPOSE33
from kouros.body.parameters import BodyParameters
from kouros.data.detections import DetectionSource
from kouros.detection.fusion import SHARED
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.fitting.schedules.keypoint_fit import FitConfig, KeypointFitter
from kouros.fitting.terms.evidence import Evidence
from kouros.priors.gmm import load_gmm
from kouros.systems.refined import DETECTED

PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
LIMBS = [BLAZEPOSE33.index(f"{side}_{part}") for side in ("left", "right") for part in PARTS]
HIPS = [BLAZEPOSE33.index(f"{side}_hip") for side in ("left", "right")]
NOTHING = 1e4
"""Metres: a standard deviation with which evidence says nothing."""
PEOPLE = 700


@dataclass(frozen=True, eq=False)
class People:
    """Some detected people, the start's bodies, and the truth."""

    evidence: Evidence
    """Without landmarks."""
    start: BodyParameters
    truth: BodyParameters
    lifted: Tensor
    """(people, 33, 3): the start's points, COCO's of them where the picture's depths have them; about the hips."""
    clear: Tensor


def people_of(folder: Path, count: int = PEOPLE) -> People:
    """Of a folder, evenly chosen."""
    source, body = DetectionSource(folder).all, shared_body()
    people = source[torch.linspace(0, len(source.betas) - 1, min(count, len(source.betas))).long()]
    count = len(people.betas)
    evidence, found = started(people)
    start = found.answers[:, 0]
    root = body.joint_positions(people.betas)[:, 0]
    truth = BodyParameters(people.pose, people.betas, people.pelvis - root)
    kinematics = KeypointFitter(body, BLAZEPOSE33.name, load_gmm()).kinematics
    points = kinematics.points(start)
    distance = points[:, HIPS, 2].mean(1)[:, None, None]
    rays = torch.cat([people.keypoints[:, SHARED, :2], torch.ones(count, len(SHARED), 1)], -1)
    lifted = points.clone()
    lifted[:, SHARED] = rays * (1 + people.depths[..., :1]) * distance
    lifted = lifted - lifted[:, HIPS].mean(1, keepdim=True)
    return People(evidence, start, truth, lifted, clearly_seen(people))


def fitted(people: People, config: FitConfig, share: float = 0.0) -> tuple[BodyParameters, Tensor]:
    """Bodies, and for whom the truth costs less.

    Args:
        share: of the points at the picture's depths in the evidence in space; the rest is the start's body.
    """
    fitter = KeypointFitter(shared_body(), BLAZEPOSE33.name, load_gmm(), config)
    points = fitter.kinematics.points(people.start)
    points = points - points[:, HIPS].mean(1, keepdim=True)
    evidence = replace(people.evidence, landmarks_3d=(1 - share) * points + share * people.lifted)
    found = fitter.fit(evidence, people.start)
    truth_costs = fitter.objective(evidence.cleaned())(people.truth.vector).cost
    return found.parameters, truth_costs < found.cost


def errors(people: People, bodies: BodyParameters) -> tuple[Tensor, Tensor]:
    """PA-MPJPE and MPJPE about the hips."""
    both = [b.keypoints_by(shared_body(), BLAZEPOSE33.name) for b in (bodies, people.truth)]
    ours, true = ((p - p[:, HIPS].mean(1, keepdim=True))[:, LIMBS] for p in both)
    return 1000 * procrustes_errors(ours, true).mean(-1), 1000 * joint_errors(ours, true).mean(-1)


def row(people: People, bodies: BodyParameters) -> list[str]:
    aligned, plain = errors(people, bodies)
    seen = people.clear
    return [f"{value:.1f}" for value in (aligned.mean(), plain.mean(), aligned[seen].mean(), plain[seen].mean())]


COLUMNS = ("PA-MPJPE", "MPJPE", "seen: PA-MPJPE", "MPJPE")


def terms(folder: Path) -> None:
    """Print the table."""
    people = people_of(folder)
    far = (NOTHING,) * 3
    settings: dict[str, tuple[FitConfig, float]] = {
        "as it is": (DETECTED, 0.0),
        "without the start's body in space": (replace(DETECTED, landmark_sigma=far), 0.0),
        "without the prior of poses": (replace(DETECTED, pose_prior=0.0), 0.0),
        "without the prior of shapes": (replace(DETECTED, shape_prior=0.0), 0.0),
        "without the first pass": (replace(DETECTED, first_outlier=None), 0.0),
        "keypoints trusted as annotations are": (replace(DETECTED, keypoint_sigma=FitConfig().keypoint_sigma), 0.0),
        "a quarter of the picture's depths": (DETECTED, 0.25),
        "half of them": (DETECTED, 0.5),
    }
    table = Table(
        "fit", *COLUMNS, "truth costs less", title=f"{len(people.clear)} people, {int(people.clear.sum())} seen"
    )
    table.add_row("the start alone", *row(people, people.start))
    for name, (config, share) in settings.items():
        bodies, cheaper = fitted(people, config, share)
        table.add_row(name, *row(people, bodies), f"{100 * cheaper.float().mean():.0f} %")
    Console(width=120).print(table)


def search(folder: Path, judged: Path, settings: int) -> None:
    """Print what is better as it is found."""
    people, others, random = people_of(folder), people_of(judged), np.random.default_rng(0)

    def value(config: FitConfig) -> float:
        aligned, plain = errors(people, fitted(people, config)[0])
        return float(aligned.mean() + plain.mean() / 4)

    def about(number: float, spread: float = 0.5) -> float:
        return float(number * np.exp(spread * random.normal())) if random.random() < 0.5 else number

    best, lowest = DETECTED, value(DETECTED)
    for _ in range(settings):
        across, along = about(best.landmark_sigma[0]), about(best.landmark_sigma[2])
        config = replace(
            best,
            keypoint_sigma=about(best.keypoint_sigma),
            keypoint_outlier=about(best.keypoint_outlier),
            landmark_sigma=(across, across, along),
            landmark_outlier=about(best.landmark_outlier),
            pose_prior=about(best.pose_prior, 1.0),
            shape_prior=about(best.shape_prior, 1.0),
            minor_weight=min(1.0, about(best.minor_weight)),
        )
        config = replace(config, first_outlier=2 * config.keypoint_outlier)
        if (cost := value(config)) < lowest:
            best, lowest = config, cost
            print(f"{lowest:.2f}", config, flush=True)
    table = Table("fit", *(f"{where}: {c}" for where in ("chosen on", "judged on") for c in COLUMNS))
    for name, config in (("as it is", DETECTED), ("the best found", best)):
        table.add_row(name, *(cell for p in (people, others) for cell in row(p, fitted(p, config)[0])))
    Console(width=160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("terms").add_argument("folder", type=Path)
    searching = commands.add_parser("search")
    searching.add_argument("folder", type=Path)
    searching.add_argument("--judge", type=Path, required=True)
    searching.add_argument("--settings", type=int, default=60)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "terms":
        terms(given.folder)
    else:
        search(given.folder, given.judge, given.settings)


if __name__ == "__main__":
    main()
