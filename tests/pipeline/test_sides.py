"""Sides that networks exchanged are put right by what comes before and after, and by where people go."""

import math

import numpy as np
import pytest
import torch

from kouros.body.keypoints import BLAZEPOSE33
from kouros.body.parameters import BodyParameters
from kouros.detection import DetectedPerson
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.pipeline.sides import chosen_sides, exchanged

FRAMES = 40
TIMES = torch.arange(FRAMES).double() / 30


def walker(facing_away: bool, speed: float) -> BodyParameters:
    """Stands upright before the camera, and goes away from it, or comes, at some speed."""
    upright = rotvec_to_rotmat(torch.tensor([math.pi, 0.0, 0.0]))  # faces the camera
    turned = rotvec_to_rotmat(torch.tensor([0.0, math.pi * facing_away, 0.0]))
    pose = torch.zeros(FRAMES, 72)
    pose[:, :3] = rotmat_to_rotvec(upright @ turned)
    pose[:, 47], pose[:, 50] = -1.1, 1.1  # arms down
    place = torch.tensor([0.0, 0.0, 5.0]) + speed * TIMES[:, None].float() * torch.tensor([0.0, 0.0, 1.0])
    return BodyParameters(pose, torch.zeros(FRAMES, 10), place)


def both(away: BodyParameters, towards: BodyParameters, wrong: np.ndarray) -> BodyParameters:
    """As read, and exchanged: the first faces away but for the frames that were read wrong."""
    swap = torch.from_numpy(wrong)[:, None]
    a, b = away.vector, towards.vector
    return BodyParameters.from_vector(torch.stack([torch.where(swap, b, a), torch.where(swap, a, b)], dim=1))


def some(*frames: int) -> np.ndarray:
    wrong = np.zeros(FRAMES, dtype=bool)
    wrong[list(frames)] = True
    return wrong


@pytest.mark.parametrize("wrong", [some(), some(0), some(5, 6, 7, 20, 39), some(*range(12, 26))])
def test_some_frames_that_were_read_wrong_are_put_right(wrong: np.ndarray, free_body):
    ways = both(walker(True, 0.0), walker(False, 0.0), wrong)
    found = chosen_sides(free_body, ways, torch.zeros(FRAMES, 2), TIMES)
    np.testing.assert_array_equal(found, wrong)


def test_people_go_forwards_even_if_most_frames_say_otherwise(free_body):
    wrong = np.ones(FRAMES, dtype=bool)
    wrong[30:] = False
    ways = both(walker(True, 1.2), walker(False, 1.2), wrong)
    np.testing.assert_array_equal(chosen_sides(free_body, ways, torch.zeros(FRAMES, 2), TIMES), wrong)
    standing = both(walker(True, 0.0), walker(False, 0.0), wrong)
    found = chosen_sides(free_body, standing, torch.zeros(FRAMES, 2), TIMES)
    np.testing.assert_array_equal(found, ~wrong)  # the fewer are put right where nothing else speaks


def test_a_reading_that_explains_the_picture_worse_is_worth_less(free_body):
    ways = both(walker(True, 0.0), walker(False, 0.0), some())
    missed = torch.tensor([0.08, 0.01]).expand(FRAMES, 2)
    assert chosen_sides(free_body, ways, missed, TIMES).all()


def test_half_an_hour_of_film_is_put_right_like_a_second(free_body):
    """Frame by frame in time and memory: every frame against every other would need 29 GB."""
    wrong, times = some(5, 6, 7, 20), 1500
    ways = both(walker(True, 0.0), walker(False, 0.0), wrong)
    long = BodyParameters.from_vector(ways.vector.repeat(times, 1, 1))
    frames = FRAMES * times
    found = chosen_sides(free_body, long, torch.zeros(frames, 2), torch.arange(frames).double() / 30)
    np.testing.assert_array_equal(found, np.tile(wrong, times))


def test_what_was_decided_before_stays(free_body):
    ways = both(walker(True, 0.0), walker(False, 0.0), some())
    for before in (False, True):
        found = chosen_sides(free_body, ways, torch.zeros(FRAMES, 2), TIMES, before)
        assert found[0] == before


def test_exchanged_keypoints_change_sides_and_forget_depth():
    keypoints = np.column_stack([np.arange(33.0), np.arange(33.0), np.ones(33)])
    person = DetectedPerson(
        np.array([0.0, 0.0, 9.0, 9.0]), keypoints, "blazepose33", 1.0, landmarks_3d=np.zeros((33, 3))
    )
    other = exchanged(person)
    left, right = (BLAZEPOSE33.index(f"{side}_wrist") for side in ("left", "right"))
    assert other.keypoints_2d[left, 0] == right and other.keypoints_2d[right, 0] == left
    assert other.landmarks_3d is None and other.depths is None
