"""Is each joint as far off as is said? Expected against observed errors of the default, on renders.

    kouros synthesize --out held_out --mocap MOCAP --split val --people 1000 --size 288 --seed 1 --detections
    python benchmarks/uncertainty.py held_out/detections [MORE ...] --out uncertainty.png

`Person.uncertainty` is each joint's expected distance from the truth about the pelvis, by the learned start; the joints
are those of the fitted body. Prints both by joint, and by how much was expected (tenths of all joints), and draws them.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from common.started import started
from kouros.batched import concatenate
from kouros.body.files import shared_body
from kouros.body.keypoints import BLAZEPOSE33
from kouros.body.skeleton import JOINT_NAMES
from kouros.data.detections import DetectionSource
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.priors.gmm import load_gmm
from kouros.systems.refined import DETECTED

TENTHS = 10


def expected_and_observed(folders: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """(people, 24) each, millimetres; the pelvis is nobody's error."""
    people = concatenate([DetectionSource(folder).all for folder in folders])
    body, (evidence, lifted) = shared_body(), started(people)
    start = lifted.answers[:, 0]
    fitter = KeypointFitter(body, BLAZEPOSE33.name, load_gmm(), DETECTED)
    fitted = fitter.fit(replace(evidence, landmarks_3d=fitter.kinematics.points(start)), start).parameters
    pose = people.pose
    found = body.joint_positions(fitted.betas, fitted.body_pose, fitted.global_orient)
    true = body.joint_positions(people.betas, pose[:, 3:], pose[:, :3])
    apart = ((found - found[:, :1]) - (true - true[:, :1])).norm(dim=-1)
    return 1000 * lifted.spread, 1000 * apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    expected, observed = expected_and_observed(given.folders)
    table = Table("joint", "expected, mm", "observed, mm", title=f"{len(expected)} people")
    for k, name in enumerate(JOINT_NAMES):
        row = {"joint": name, "expected": float(expected[:, k].mean()), "observed": float(observed[:, k].mean())}
        print(json.dumps(row))
        table.add_row(name, f"{row['expected']:.0f}", f"{row['observed']:.0f}")
    flat, apart = expected[:, 1:].flatten(), observed[:, 1:].flatten()
    order = flat.argsort()
    tenths = [(float(flat[part].mean()), float(apart[part].mean())) for part in order.tensor_split(TENTHS)]
    for said, seen in tenths:
        table.add_row("a tenth of all joints", f"{said:.0f}", f"{seen:.0f}")
        print(json.dumps({"tenth": said, "observed": seen}))
    Console().print(table)
    _draw(tenths, expected, observed, given.out)


def _draw(tenths: Sequence[tuple[float, float]], expected: Tensor, observed: Tensor, out: Path) -> None:
    figure = Figure(figsize=(8, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    highest = 1.05 * max(max(pair) for pair in tenths)
    left.plot([0, highest], [0, highest], color="gray", linewidth=0.8)
    left.plot(*zip(*tenths, strict=True), marker="o")
    left.set(xlabel="expected error, mm", ylabel="observed, mm", title="tenths of all joints")
    places = range(1, len(JOINT_NAMES))
    right.barh(places, expected[:, 1:].mean(0).tolist(), height=0.4, label="expected")
    right.barh([p + 0.4 for p in places], observed[:, 1:].mean(0).tolist(), height=0.4, label="observed")
    right.set_yticks(list(places), JOINT_NAMES[1:], fontsize=6)
    right.set_xlabel("mm")
    right.legend()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
