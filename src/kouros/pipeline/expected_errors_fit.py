"""From drawn people to ``expected_errors.json``: how far off measurements and joint angles are.

    python -m kouros.pipeline.expected_errors_fit PEOPLE --out expected_errors.json

PEOPLE is a folder that `kouros synthesize --detections` made.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import nnls

from kouros.body.joint_angles import joint_angles
from kouros.body.measurements import measure
from kouros.files import write_file
from kouros.pipeline.expected_errors import end_of, unsided
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import default_reconstructor
from kouros.pipeline.upright_training import DrawnPerson, drawn_people, estimated

_MEASURED = 12
"""Of so many people one is measured, which takes longest."""


def errors_of(people: Iterable[tuple[DrawnPerson, Person]]) -> dict[str, dict[str, object]]:
    """The content of the file, from drawn people and what was made of them."""
    angles: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    measurements: dict[str, list[float]] = defaultdict(list)
    for number, (drawn, person) in enumerate(people):
        scene, k = drawn.scene, drawn.number
        if number % _MEASURED == 0:
            true = measure(person.body, torch.from_numpy(scene.betas[k])).to_dict()
            for name, value in measure(person.body, person.betas).to_dict().items():
                measurements[name].append(abs(value - true[name]))
        true_angles = joint_angles(torch.from_numpy(scene.pose[k, 3:]))
        for joint, found in joint_angles(person.body_pose).items():
            assert person.uncertainty is not None
            metres = float(person.uncertainty[end_of(joint)])
            for name, value in found.items():
                angles[unsided(joint)][name].append((angle_between(value, true_angles[joint][name]), metres))
    return {
        "angles": {joint: {n: _line(np.array(rows)) for n, rows in names.items()} for joint, names in angles.items()},
        "measurements": {name: round(float(np.mean(rows)), 4) for name, rows in measurements.items()},
    }


def angle_between(one: float, other: float) -> float:
    """The shorter way round, degrees."""
    return abs((one - other + 180) % 360 - 180)


def _line(rows: Float[np.ndarray, "people 2"]) -> dict[str, float]:
    """Errors as a line over the joint's own, which neither starts below zero nor falls; of quarters of the people."""
    rows = rows[np.argsort(rows[:, 1])]
    quarters = np.stack([part.mean(axis=0) for part in np.array_split(rows, 4)])
    start, slope = nnls(np.stack([np.ones(4), quarters[:, 1]], axis=1), quarters[:, 0])[0]
    return {
        "degrees": round(float(start), 2),
        "degrees_a_metre": round(float(slope), 1),
        "mean_metres": round(float(rows[:, 1].mean()), 4),
    }


def main() -> None:
    """Measure, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("people", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    reconstructor = default_reconstructor()
    found = errors_of(estimated(drawn_people(given.people, reconstructor), reconstructor))
    write_file(given.out, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
