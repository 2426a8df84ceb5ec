"""How far a body misses the keypoints that it is to explain, and from where on that is no chance.

A fit always ends somewhere. Keypoints of another order, of another picture or in other units are explained badly, and
that shows in the reprojection error as a share of the person's size in the picture.
"""

from collections.abc import Sequence
from functools import lru_cache

from kouros.body import BodyModel
from kouros.body.layouts import alternatives
from kouros.fitting.terms.calibration import detector_tables
from kouros.fitting.terms.evidence import person_size
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.notes import note
from kouros.pipeline.person import Person, Reprojection
from kouros.systems.refined import on_keypoints_of

LARGEST_SHARE = 0.08
"""Of the person's size; more is said to be doubtful. `benchmarks/misfit.py` has the shares of detections."""


def with_reprojection(person: Person) -> Person:
    """The person, knowing how far the body is from the keypoints."""
    return person.explaining(reprojection_of(person))


def reprojection_of(person: Person) -> Reprojection | None:
    """None where the body cannot place the keypoints' set, or none of them is seen."""
    set_name, keypoints = on_keypoints_of(person.keypoints_detected[None], person.keypoint_set, person.body)
    if set_name not in person.body.keypoint_sets or not bool((keypoints[..., 2] > 0).any()):
        return None
    points = _kinematics(person.body, set_name).points(person.parameters.map(lambda t: t[None]))
    distance = (person.camera.project(points[0]) - keypoints[0, :, :2]).norm(dim=-1)
    weight = keypoints[0, :, 2]
    seen = weight > 0
    pixels = float((weight[seen] * distance[seen]).sum() / weight.sum())
    return Reprojection(pixels, pixels / float(person_size(keypoints)[0]))


def note_misfits(people: Sequence[Person]) -> None:
    """Say who is not explained by the body, and what is usually the matter."""
    for number, person in enumerate(people, start=1):
        if person.reprojection is not None and not person.reprojection.share <= LARGEST_SHARE:
            note(f"person_{number}: {misfit_of(person)}")


def misfit_of(person: Person) -> str:
    """What to say of somebody whom the body does not explain."""
    found = person.reprojection
    assert found is not None
    others = alternatives(person.keypoint_set)
    sets = f"; {' or '.join(others)} has as many" if others else ""
    return (
        f"the body misses the keypoints by {found.pixels:.1f} px, {100 * found.share:.0f} % of the person's size "
        f"(usual: below {100 * LARGEST_SHARE:.0f} %). Are they in the order of {person.keypoint_set} (else name the "
        f"set{sets}), and are camera and image size the picture's own? It can also be a posture that the fit does not "
        "reach."
    )


@lru_cache(maxsize=16)
def _kinematics(body: BodyModel, set_name: str) -> KeypointKinematics:
    return KeypointKinematics(body, set_name, detector_tables(body.keypoint_tables(set_name), set_name))
