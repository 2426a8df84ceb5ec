"""How far are body measurements and joint angles from the truth, on drawn people whom the detector saw?

    python benchmarks/measures.py PEOPLE

PEOPLE is a folder that `kouros synthesize --detections` made. Prints, for each measurement and angle, the mean absolute
error of what `kouros.Person` says, and how well the expected errors that it states agree: their mean, and the mean
error of the half of the people who are said to be known better, and of the other half.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from kouros.body.joint_angles import joint_angles
from kouros.body.measurements import measure
from kouros.pipeline.reconstructor import default_reconstructor
from kouros.pipeline.upright_training import drawn_people, estimated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    reconstructor = default_reconstructor()
    rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for drawn, person in estimated(drawn_people(given.folder, reconstructor), reconstructor):
        scene, k = drawn.scene, drawn.number
        true = measure(reconstructor.body, torch.from_numpy(scene.betas[k])).to_dict()
        for name, value in person.measurements.to_dict().items():
            rows[f"{name}, cm"].append((100 * abs(value - true[name]), 100 * person.measurement_errors[name]))
        true_angles = joint_angles(torch.from_numpy(scene.pose[k, 3:]))
        for joint, angles in person.joint_angles.items():
            for name, value in angles.items():
                miss = abs((value - true_angles[joint][name] + 180) % 360 - 180)
                side = joint.removeprefix("left_").removeprefix("right_")
                rows[f"{side} {name}"].append((miss, person.joint_angle_errors[joint][name]))
    table = Table("what", "error", "expected", "the surer half", "the other")
    for name, pairs in rows.items():
        miss, expected = np.array(pairs).T
        sure = expected <= np.median(expected)
        halves = (miss[sure].mean(), miss[~sure].mean() if (~sure).any() else float("nan"))
        table.add_row(name, *(f"{value:.2f}" for value in (miss.mean(), expected.mean(), *halves)))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
