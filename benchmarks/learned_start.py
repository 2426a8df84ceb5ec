"""What does the fit make of the learned start, on bodies whose truth is known?

Renders of held-out motion-capture poses, seen through the real detector:

    kouros synthesize --out people --split val --mocap MOCAP --people 1500 --size 288 --detections
    python benchmarks/learned_start.py people/detections [OTHER_WEIGHTS.npz]

Prints PA-MPJPE and MPJPE over the 12 limb keypoints, millimetres, for the detector's own landmarks, the network
alone, and the fit from each start with each evidence of depth.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch import Tensor

import kouros
from common.started import started
from kouros.body.keypoints import BLAZEPOSE33
from kouros.body.parameters import BodyParameters
from kouros.data.detections import DetectionSource
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.fitting.schedules.keypoint_fit import FitConfig, KeypointFitter
from kouros.priors.gmm import load_gmm
from kouros.systems.lifter import load_weights, predict
from kouros.systems.refined import DETECTED

JOINTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
LIMBS = [BLAZEPOSE33.index(f"{side}_{joint}") for side in ("left", "right") for joint in JOINTS]
HIPS = [BLAZEPOSE33.index("left_hip"), BLAZEPOSE33.index("right_hip")]


def main(folder: Path, weights: Path | None = None) -> None:
    people, body = DetectionSource(folder).all, kouros.load_body()
    pose, landmarks = people.pose, people.landmarks
    truth = body.keypoint_positions(
        BLAZEPOSE33.name, betas=people.betas, body_pose=pose[:, 3:], global_orient=pose[:, :3]
    )
    flat_evidence, lifted = started(people, weights)
    keypoints, camera = flat_evidence.keypoints_2d, flat_evidence.camera
    fitter, exact = (KeypointFitter(body, BLAZEPOSE33.name, load_gmm(), config) for config in (DETECTED, FitConfig()))
    flat = predict(load_weights(weights), body, keypoints, BLAZEPOSE33.name, camera)
    start = lifted.answers[:, 0]
    seen = replace(flat_evidence, landmarks_3d=landmarks)
    understood = replace(seen, landmarks_3d=fitter.kinematics.points(start))

    def points(found: BodyParameters) -> Tensor:
        return found.keypoints_by(body, BLAZEPOSE33.name) - found.transl[:, None]

    results = {
        "detector's landmarks": landmarks,
        "network alone": points(start),
        "network alone, points and nothing in space": points(flat.answers[:, 0]),
        "fit from the landmarks, landmarks as depth": points(exact.fit(seen).parameters),
        "fit from the network, landmarks as depth": points(exact.fit(seen, start).parameters),
        "fit from the network, its body as depth, keypoints trusted as annotations": points(
            exact.fit(understood, start).parameters
        ),
        "fit from the network, its body as depth (default)": points(fitter.fit(understood, start).parameters),
    }
    table = Table("start and evidence of depth", "PA-MPJPE, mm", "median", "MPJPE, mm", title=f"{len(pose)} renders")
    for name, found in results.items():
        ours, real = (x - x[:, HIPS].mean(1, keepdim=True) for x in (found, truth))
        ours, real = ours[:, LIMBS], real[:, LIMBS]
        aligned = 1000 * procrustes_errors(ours, real).mean(-1)
        plain = 1000 * joint_errors(ours, real).mean(-1)
        row = {"pa_mpjpe": float(aligned.mean()), "median": float(aligned.median()), "mpjpe": float(plain.mean())}
        table.add_row(name, *(f"{v:.1f}" for v in row.values()))
        print(json.dumps({"name": name, **row}))
    Console().print(table)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
