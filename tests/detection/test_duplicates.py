from dataclasses import replace

import numpy as np

from kouros.body.keypoints import BLAZEPOSE33
from kouros.detection.averaging import BODY_POINTS
from kouros.detection.duplicates import Body, already_found

NAMES = [BLAZEPOSE33.names[k] for k in BODY_POINTS]
HEIGHTS = {
    "nose": 10,
    "ear": 10,
    "shoulder": 30,
    "elbow": 45,
    "wrist": 60,
    "hip": 60,
    "knee": 80,
    "ankle": 100,
}


def standing(x: float) -> Body:
    """A person 100 pixels high and 30 wide."""
    side = [0 if name == "nose" else (1 if name.startswith("left") else -1) for name in NAMES]
    height = [HEIGHTS[name.split("_")[-1]] for name in NAMES]
    points = np.column_stack([x + 15.0 * np.array(side), np.array(height, dtype=float)])
    return Body(points, np.ones(len(NAMES)), 100.0)


def test_the_same_person_again_is_found_already():
    person = standing(50)
    assert already_found(replace(person, points=person.points + 4), [standing(300), person])


def test_neighbours_are_two_people():
    assert not already_found(standing(90), [standing(50)])
    assert not already_found(standing(90), [])


def test_sides_exchanged_is_the_same_person():
    person = standing(50)
    exchanged = person.points[[NAMES.index(_other_side(name)) for name in NAMES]]
    assert already_found(replace(person, points=exchanged), [person])


def test_arms_of_one_and_legs_of_another_is_nobody_new():
    left, right = standing(50), standing(130)
    upper = np.array([HEIGHTS[name.split("_")[-1]] < 60 for name in NAMES])
    mixed = replace(left, points=np.where(upper[:, None], left.points, right.points))
    assert already_found(mixed, [left, right])


def test_only_points_that_are_seen_decide():
    person, other = standing(50), standing(50)
    legs = np.array([name.endswith(("knee", "ankle", "hip", "wrist", "elbow")) for name in NAMES])
    moved = np.where(legs[:, None], other.points + 80, other.points)
    assert not already_found(replace(other, points=moved), [person])
    assert already_found(Body(moved, np.where(legs, 0.05, 1.0), 100.0), [person])


def test_a_child_in_front_of_an_adult_is_someone_else():
    adult = standing(50)
    child = Body(adult.points * 0.4 + np.array([30.0, 60.0]), adult.confidence, 40.0)
    assert not already_found(child, [adult])


def _other_side(name: str) -> str:
    if name.startswith("left"):
        return name.replace("left", "right")
    return name.replace("right", "left")
