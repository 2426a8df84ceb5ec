"""How far measurements and joint angles are to be trusted: their errors on drawn people, whose truth is known.

`kouros.pipeline.expected_errors_fit` made ``expected_errors.json``. An angle's error grows with the expected error of
the joint at the limb's end, where the system that estimated the person says it: ``a + b * metres``.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kouros.body.joint_angles import ANGLE_NAMES, JointAngles
from kouros.body.skeleton import JOINT_NAMES
from kouros.documents import read_json

FILE = Path(__file__).parent / "expected_errors.json"
_ENDS = {
    "trunk": "neck", "neck": "head", "hip": "knee", "knee": "ankle", "ankle": "foot", "shoulder": "elbow",
    "elbow": "wrist", "wrist": "hand",
}  # fmt: skip


def unsided(joint: str) -> str:
    """Left and right have one error."""
    return joint.removeprefix("left_").removeprefix("right_")


def end_of(joint: str) -> int:
    """Number of the skeleton's joint at the end of the limb that an angle turns."""
    side = joint.removesuffix(unsided(joint))
    return JOINT_NAMES.index(side + _ENDS[unsided(joint)])


def angle_errors(uncertainty: Float[Tensor, "24"] | None) -> JointAngles:
    """Expected absolute errors, degrees.

    Args:
        uncertainty: expected errors of the joints' places, metres; None where nobody says, which takes the mean.
    """
    known = _known()["angles"]
    return {
        joint: {name: _line(known[unsided(joint)][name], uncertainty, joint) for name in names}
        for joint, names in ANGLE_NAMES.items()
    }


def measurement_errors() -> dict[str, float]:
    """Expected absolute errors, metres, by the names of `kouros.body.measurements.Measurements`."""
    return dict(_known()["measurements"])


def _line(line: Mapping[str, float], uncertainty: Tensor | None, joint: str) -> float:
    metres = line["mean_metres"] if uncertainty is None else float(uncertainty[end_of(joint)])
    return line["degrees"] + line["degrees_a_metre"] * metres


@cache
def _known() -> Any:
    return read_json(FILE)
