"""How well do reconstructed people stand in space, on photos from calibrated cameras?

    python benchmarks/multiview.py FOLDER [--system default]

FOLDER holds photos and `annotations.npz`: for each row the photo, twelve limb joints in the camera's space and in the
picture. People are searched in the whole photo; a found one is the annotated one whose joints lie nearest in the
picture, within a fifth of the person's size. Prints how many are found, and of those PA-MPJPE and MPJPE about the hips.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from kouros.body.keypoints import COCO17
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.pipeline.open import reconstructor_of

WITHIN = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system", default="default")
    parser.add_argument("--refine", action="store_true")
    parser.add_argument("--dense", action="store_true")
    given = parser.parse_args()
    rows = np.load(given.folder / "annotations.npz")
    names = [str(n) for n in rows["joint_names"]]
    places = [COCO17.index(n) for n in names]
    hips = [names.index(f"{side}_hip") for side in ("left", "right")]
    reconstructor = reconstructor_of(given.system, refine=given.refine, dense=given.dense)
    errors: list[dict[str, object]] = []
    for image in sorted(set(map(str, rows["image"]))):
        mine = [i for i, name in enumerate(rows["image"]) if str(name) == image]
        focal = float(rows["intrinsics"][mine[0]][:2].mean())
        found = reconstructor.reconstruct(given.folder / image, focal_length=focal)
        cost = np.full((len(mine), len(found)), 10.0)
        for a, i in enumerate(mine):
            flat = rows["joints_2d"][i]
            known = np.isfinite(flat).all(axis=1)
            size = float(np.ptp(flat[known], axis=0).max())
            for b, person in enumerate(found):
                away = np.linalg.norm(person.keypoints_2d("coco17").numpy()[places] - flat, axis=1)[known]
                cost[a, b] = float(np.median(away)) / size
        for a, b in zip(*linear_sum_assignment(cost), strict=True):
            if cost[a, b] > WITHIN:
                continue
            true = torch.from_numpy(rows["joints_3d"][mine[a]]).float()
            ours = found[b].keypoints_3d("coco17")[places]
            known = torch.isfinite(true).all(dim=1)
            roots = (p[hips].mean(0) for p in (ours, true))
            pair = [(p - r)[known][None] for p, r in zip((ours, true), roots, strict=True)]
            row = {"image": image, "person": int(rows["person"][mine[a]])}
            row |= {"pa_mpjpe": 1000 * float(procrustes_errors(*pair).mean())}
            row |= {"mpjpe": 1000 * float(joint_errors(*pair).mean())}
            errors.append(row)
            print(json.dumps(row))
    table = Table(*("people", "found", "PA-MPJPE, mm", "MPJPE, mm"), title=reconstructor.estimator.name)
    means = (f"{np.nanmean([e[key] for e in errors]):.1f}" for key in ("pa_mpjpe", "mpjpe"))
    table.add_row(str(len(rows["image"])), str(len(errors)), *means)
    Console().print(table)


if __name__ == "__main__":
    main()
