"""Is a keypoint as likely right as its confidence says? A reliability plot, on renders and on photos.

    kouros synthesize --out held_out --mocap MOCAP --split val --people 1000 --size 288 --seed 1 --detections
    python benchmarks/confidence.py held_out/detections [--photos MULTIVIEW] --out confidence.png

A point is right within a tenth of the head-to-hip length (`kouros.evaluation.metrics.detection.head_to_hip`), hidden
ones too. Prints, by tenths of the confidence, the mean confidence, the share that is right and how many points there
are, and draws them. MULTIVIEW is a folder of photos with annotations.npz: twelve limb joints.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from default import FLAT, shown_in
from kouros.body.files import shared_body
from kouros.body.keypoints import COCO17
from kouros.body.parameters import BodyParameters
from kouros.data.detections import DetectionSource
from kouros.detection.fusion import SHARED
from kouros.evaluation.metrics.detection import TruePerson, head_to_hip, unknown_points

WITHIN = 0.1
BINS = 10


def told_and_right(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(points, 2) of one person: confidence, and whether the point is right; of those of known truth.

    Args:
        found: (17, 3), COCO's points and confidences.
        true: (17, 2), in the same units, NaN where unknown.
    """
    known = np.isfinite(true).all(axis=1)
    box = np.concatenate([true[known].min(axis=0), true[known].max(axis=0)])
    length = head_to_hip(TruePerson(box, true, known))
    right = np.linalg.norm(found[:, :2] - true, axis=1) < WITHIN * length
    return np.column_stack([found[:, 2], right])[known]


def of_renders(folder: Path) -> np.ndarray:
    """All points of a folder of detections."""
    people, body = DetectionSource(folder).all, shared_body()
    root = body.joint_positions(people.betas)[:, 0]
    points = BodyParameters(people.pose, people.betas, people.pelvis - root).keypoints_by(body, COCO17.name)
    true = (points[..., :2] / points[..., 2:]).double().numpy()
    found = people.keypoints[:, SHARED].double().numpy()
    return np.concatenate([told_and_right(f, t) for f, t in zip(found, true, strict=True)])


def of_photos(folder: Path, beside: Path) -> np.ndarray:
    """The limbs' points of the found people of annotated photos."""
    parts = []
    for shown in shown_in(folder, 0, beside):
        assert shown.marks is not None
        true = unknown_points()
        true[FLAT] = shown.marks.numpy()
        parts.append(told_and_right(shown.person.keypoints[SHARED].double().numpy(), true))
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    sets = {"renders": of_renders(given.folder)}
    if given.photos is not None:
        sets["photos"] = of_photos(given.photos, given.out.parent)
    table = Table("points", "confidence", "right", "how many")
    for name, rows in sets.items():
        for said, right, count in tenths(rows):
            table.add_row(name, f"{said:.2f}", f"{right:.2f}", str(count))
            print(json.dumps({"set": name, "said": said, "right": right, "count": count}))
    Console().print(table)
    _draw(sets, given.out)


def tenths(rows: np.ndarray) -> list[tuple[float, float, int]]:
    """Of each tenth of the confidence in which there are points: mean confidence, share that is right, number."""
    place = np.minimum((rows[:, 0] * BINS).astype(np.int64), BINS - 1)
    chosen = [rows[place == k] for k in range(BINS)]
    return [(float(part[:, 0].mean()), float(part[:, 1].mean()), len(part)) for part in chosen if len(part)]


def _draw(sets: Mapping[str, np.ndarray], out: Path) -> None:
    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    for name, rows in sets.items():
        said, right, _ = zip(*tenths(rows), strict=True)
        axes.plot(said, right, marker="o", label=f"{name}, {len(rows)} points")
    axes.set(xlabel="confidence", ylabel="share within a tenth of head to hip")
    axes.legend()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main()
