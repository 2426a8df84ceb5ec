"""How well do reconstructed people stand in space, on photos from calibrated cameras?

    python benchmarks/multiview.py FOLDER [--system default | --films together|alone]

FOLDER holds photos and `annotations.npz`: for each row the photo, twelve limb joints in the camera's space and in the
picture. People are searched in the whole photo; a found one is the annotated one whose joints lie nearest in the
picture, within a fifth of the person's size. Prints how many are found, and of those PA-MPJPE and MPJPE about the hips.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import linear_sum_assignment

from kouros.body.keypoints import COCO17
from kouros.data.images import read_image
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.pipeline.open import reconstructor_of
from kouros.pipeline.person import Person
from kouros.pipeline.video import VideoReconstructor

WITHIN = 0.2
MOMENTS = 60.0
"""Numbers in the photos' names that are a second."""


PeopleOf = Callable[[str, float], Sequence[Person]]
"""From a photo's name and its camera's focal length to the people in it."""


def photos(given: argparse.Namespace) -> tuple[PeopleOf, str]:
    reconstructor = reconstructor_of(given.system, refine=given.refine, dense=given.dense)
    title = f"{reconstructor.estimator.name}{', fast' if given.fast else ''}"

    def people_of(image: str, focal: float) -> list[Person]:
        return reconstructor.reconstruct(given.folder / image, focal_length=focal, fast=given.fast)

    return people_of, title


def films(folder: Path, rows: Mapping[str, np.ndarray], smooth: bool) -> tuple[PeopleOf, str]:
    """Each camera's moments as a film: people are followed, and their frames fitted together, or each alone."""
    seen: dict[str, list[Person]] = {}

    def people_of(image: str, focal: float) -> list[Person]:
        if image not in seen:
            camera = image.split("_")[0]
            names = sorted({str(n) for n in rows["image"] if str(n).startswith(f"{camera}_")})
            film = VideoReconstructor(focal_length=focal)
            for name in names:
                film.push(read_image(folder / name).pixels, int(name.split("_")[1].split(".")[0]) / MOMENTS)
            film.finish()
            video = film.video(smooth=smooth)
            seen.update({name: [p for _, p in video.frame(k).people] for k, name in enumerate(names)})
        return seen[image]

    return people_of, f"films, {'frames together' if smooth else 'each frame alone'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--system", default="default")
    parser.add_argument("--refine", action="store_true")
    parser.add_argument("--dense", action="store_true")
    parser.add_argument("--fast", action="store_true", help="one look at each person, no parts of the photo")
    parser.add_argument("--films", choices=("together", "alone"), help="each camera's moments as a film")
    given = parser.parse_args()
    rows = np.load(given.folder / "annotations.npz")
    names = [str(n) for n in rows["joint_names"]]
    places = [COCO17.index(n) for n in names]
    hips = [names.index(f"{side}_hip") for side in ("left", "right")]
    people_of, title = photos(given) if not given.films else films(given.folder, rows, given.films == "together")
    errors: list[dict[str, object]] = []
    for image in sorted(set(map(str, rows["image"]))):
        mine = [i for i, name in enumerate(rows["image"]) if str(name) == image]
        found = people_of(image, float(rows["intrinsics"][mine[0]][:2].mean()))
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
    table = Table(*("people", "found", "PA-MPJPE, mm", "MPJPE, mm"), title=title)
    means = (f"{np.nanmean([e[key] for e in errors]):.1f}" for key in ("pa_mpjpe", "mpjpe"))
    table.add_row(str(len(rows["image"])), str(len(errors)), *means)
    Console().print(table)


if __name__ == "__main__":
    main()
