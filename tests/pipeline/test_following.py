"""People in films keep their numbers: while they walk, when they cross, when they leave and come back."""

import math
from pathlib import Path

import numpy as np
import pytest

import kouros
from kouros.data.images import read_image
from kouros.data.mocap.motion import read_motion
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.films import Played, SyntheticFilm, synthetic_film
from kouros.detection import default_detector
from kouros.pipeline.following import FollowConfig, Follower

RATE = 10.0


@pytest.fixture(scope="module")
def stage() -> Stage:
    return Stage()


def crossing(samples: Path, stage: Stage, seed: int, depth: float) -> SyntheticFilm:
    """Two who walk towards each other and past, ``depth`` metres apart, seen from the side."""
    walk = read_motion(samples / "mocap/sequences/cmux_walking_extra_test_10.npz").every(3)
    ahead = walk.trans[-1] - walk.trans[0]
    side = math.atan2(ahead[0], ahead[2]) + math.pi / 2
    off = 0.5 * depth * np.array([math.sin(side), math.cos(side)])
    people = [Played(walk, tuple(off)), Played(walk, tuple(-off), math.pi)]
    return synthetic_film(people, stage.body, seed=seed, size=320, around=side, share=0.9)


def whose(film: SyntheticFilm, stage: Stage, frames: list[np.ndarray | None], **options) -> list[dict[int, int]]:
    """For each frame: the follower's numbers, and of whom of the film each is the body; None is a black frame."""
    joints = film.joints(stage.body).numpy()
    pixels = joints[..., :2] / joints[..., 2:] * film.scenes[0].shot.focal + film.scenes[0].shot.center
    follower = Follower(default_detector(), FollowConfig(crops=0), tiles=False, **options)
    found = []
    for t, frame in enumerate(frames):
        names = {}
        for one in follower.look(frame, t / RATE):
            hips = one.person.keypoints_2d[[23, 24], :2].mean(axis=0)
            away = np.linalg.norm(pixels[t, :, 1:3].mean(axis=1) - hips, axis=1)
            if away.min() < 15:
                names[one.track] = int(away.argmin())
        found.append(names)
    return found


@pytest.mark.samples
@pytest.mark.parametrize(("seed", "depth"), [(1, 1.0), pytest.param(4, 0.4, marks=pytest.mark.slow)])
def test_who_cross_keep_their_numbers(seed: int, depth: float, samples: Path, stage: Stage):
    film = crossing(samples, stage, seed, depth)
    found = whose(film, stage, [film.picture(stage, t) for t in range(len(film))])
    before, after = found[5], found[-3]
    assert len(before) == len(after) == 2
    assert before == after
    assert {number for names in found for number in names} == set(before)  # and nobody else came up


@pytest.mark.samples
def test_who_is_hidden_for_a_second_is_known_again_and_who_is_gone_for_long_is_not(samples: Path, stage: Stage):
    film = crossing(samples, stage, 1, 1.0)
    frames = [film.picture(stage, t) for t in range(16)]
    black = np.zeros_like(frames[0])
    hidden = [*frames[:4], *[black] * 8, *frames[12:]]
    found = whose(film, stage, hidden)
    assert found[2] == found[-1] and len(found[2]) == 2 and found[7] == {}
    film = SyntheticFilm(film.scenes[:4] + film.scenes[:1] * 24 + film.scenes[:4], RATE, film.room)
    found = whose(film, stage, [*frames[:4], *[black] * 24, *frames[:4]])
    assert sorted(found[-1]) == [2, 3]


def test_who_stays_in_place_keeps_the_number_when_the_light_changes():
    picture = read_image(Path(kouros.__file__).parent / "data" / "demo" / "people.jpg").pixels
    follower = Follower(default_detector(), FollowConfig(crops=0), tiles=False)
    before = {one.track for one in follower.look(picture, 0.0)}
    changed = np.ascontiguousarray(picture[..., ::-1])  # who wore red wears blue
    assert {one.track for one in follower.look(changed, 1 / 30)} == before == {0, 1, 2}


@pytest.mark.samples
def test_no_more_people_than_wanted_are_followed(samples: Path, stage: Stage):
    film = crossing(samples, stage, 1, 1.0)
    found = whose(film, stage, [film.picture(stage, t) for t in range(4)], max_people=1)
    assert [len(names) for names in found] == [1, 1, 1, 1]


def test_in_an_empty_room_there_is_nobody():
    follower = Follower(default_detector(), tiles=False)
    noise = np.random.default_rng(0).integers(0, 60, (120, 160, 3), np.uint8)
    assert [follower.look(noise, t / RATE) for t in range(3)] == [[], [], []]
