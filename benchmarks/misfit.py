"""How far do fitted bodies miss the keypoints that a detector saw, and how far those that are read wrongly?

    python benchmarks/misfit.py --set renders-B --pictures 70

Renders of crowds in any posture (sets of ``benchmarks/detection.py``; the bound was chosen on A) are reconstructed by
the default. Their keypoints, as OpenPose's 25 points, are then fitted as they are, in BODY_25B's order under
BODY_25's name, with another set's name, and with x and y exchanged. Printed are quantiles of `Person.reprojection`'s
share, in % of the person's size, and how many people lie above the bound at which kouros says that something is wrong.
"""

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import kouros
from common.finding import CACHE, SAMPLES, examples_of
from kouros.body.keypoints import COCO17, OPENPOSE25
from kouros.notes import InputWarning
from kouros.pipeline import Person
from kouros.pipeline.misfit import LARGEST_SHARE

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
BODY_25B = (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 1, 0, 19, 20, 21, 22, 23, 24)
"""Places among BODY_25's of BODY_25B's points; neck and nose stand for the upper neck and the top of the head."""


def openpose_of(person: Person) -> np.ndarray:
    """The detected keypoints as OpenPose's 25."""
    from kouros.body.keypoints import keypoint_set

    names = keypoint_set(person.keypoint_set).names
    detected = person.keypoints_detected.numpy()
    points = np.zeros((len(OPENPOSE25), 3))
    for k, name in enumerate(OPENPOSE25.names):
        same = name.replace("big_toe", "foot_index")
        if same in names:
            points[k] = detected[names.index(same)]
    for k, pair in ((1, ("left_shoulder", "right_shoulder")), (8, ("left_hip", "right_hip"))):
        points[k] = detected[[names.index(n) for n in pair]].mean(axis=0)
    return points


def shares(people: Sequence[Person]) -> list[float]:
    return [p.reprojection.share for p in people if p.reprojection is not None]


def fitted(points: np.ndarray, set_name: str, size: tuple[int, int]) -> list[float]:
    try:
        return shares(kouros.fit(points, set_name, image_size=size))
    except ValueError:  # refused: that is an answer as well
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=70)
    parser.add_argument("--set", choices=("renders-A", "renders-B"), default="renders-B")
    parser.add_argument("--samples", type=Path, default=SAMPLES)
    parser.add_argument("--cache", type=Path, default=CACHE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", InputWarning)
    found: dict[str, list[float]] = {}
    for example in examples_of(options.set, options.pictures, options.samples, options.cache):
        people = kouros.reconstruct(example.path)
        found.setdefault("detections", []).extend(shares(people))
        for person in people:
            points, size = openpose_of(person), person.image_size
            as_coco = np.concatenate([points[:17, :2], points[:17, 2:]], axis=1)
            for name, given, set_name in (
                ("the same as BODY_25", points, OPENPOSE25.name),
                ("BODY_25B called BODY_25", points[list(BODY_25B)], OPENPOSE25.name),
                ("BODY_25's first 17 called COCO", as_coco, COCO17.name),
                ("x and y exchanged", points[:, [1, 0, 2]], OPENPOSE25.name),
            ):
                found.setdefault(name, []).extend(fitted(given, set_name, size))
    for name, values in found.items():
        spread = {f"{100 * q:g} %": round(100 * float(np.quantile(values, q)), 2) for q in QUANTILES}
        above = 100 * float(np.mean(np.array(values) > LARGEST_SHARE))
        print(
            json.dumps({"keypoints": name, "people": len(values), "share %": spread, "above bound %": round(above, 1)})
        )


if __name__ == "__main__":
    main()
