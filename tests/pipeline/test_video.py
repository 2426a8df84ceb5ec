"""Films in, moving people out: one body a person, feet that stand, no seams, and the same by frames of one's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kouros.body.parameters import Bodies, BodyParameters
from kouros.data.mocap.motion import read_motion
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.films import Played, SyntheticFilm, synthetic_film
from kouros.evaluation.metrics.pose import procrustes_errors
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.notes import InputWarning
from kouros.pipeline.sequence import FEET, fitted_together
from kouros.pipeline.video import FAST, VideoConfig, VideoReconstructor, standing

FRAMES = 60


@pytest.fixture(scope="module")
def walk(samples: Path) -> tuple[SyntheticFilm, list[np.ndarray], torch.Tensor]:
    """A film of somebody who walks, its pictures, and where the joints are."""
    stage = Stage()
    motion = read_motion(samples / "mocap/sequences/cmux_walking_extra_test_18.npz").between(0, FRAMES)
    film = synthetic_film([Played(motion)], stage.body, seed=101, size=320)
    return film, [film.picture(stage, t) for t in range(FRAMES)], film.joints(stage.body)[:, 0]


@pytest.fixture(scope="module")
def seen(walk) -> VideoReconstructor:
    """That film, followed frame by frame."""
    film, pictures, _ = walk
    shot = film.scenes[0].shot
    camera = PerspectiveCamera(torch.tensor(shot.focal), torch.from_numpy(shot.center).float())
    reconstructor = VideoReconstructor(camera=camera, tiles=False, config=FAST)
    for picture in pictures:
        assert reconstructor.push(picture) == []
    assert reconstructor.finish() == [] and reconstructor.delay is None
    return reconstructor


def _jerk(joints: np.ndarray, true: np.ndarray) -> float:
    """Acceleration error, metres a frame squared."""
    away = joints - true
    return float(np.linalg.norm(away[2:] - 2 * away[1:-1] + away[:-2], axis=-1).mean())


def _skate(joints: np.ndarray, true: np.ndarray) -> float:
    """Metres a second of feet that truly stand."""
    stands = standing(true[:, list(FEET)], np.arange(len(true)) / 30)
    assert stands.mean() > 0.2
    speed = 30 * np.linalg.norm(np.diff(joints[:, list(FEET)], axis=0), axis=-1)
    return float(speed[stands[1:] & stands[:-1]].mean())


@pytest.mark.samples
def test_a_walk_is_one_body_whose_feet_stand_and_that_moves_as_it_did(walk, seen):
    true = walk[2].numpy()
    (together,), (alone,) = seen.video().tracks, seen.video(smooth=False).tracks
    assert together.frames.tolist() == list(range(FRAMES))
    assert np.ptp(together.bodies.betas.numpy(), axis=0).max() == 0 < np.ptp(alone.bodies.betas.numpy(), axis=0).max()
    assert _jerk(together.joints, true) < _jerk(alone.joints, true) / 4
    assert _skate(together.joints, true) < _skate(alone.joints, true) / 3
    poses = [float(procrustes_errors(torch.from_numpy(t.joints), walk[2]).mean()) for t in (together, alone)]
    assert poses[0] < 0.06 and poses[0] < 1.15 * poses[1]


@pytest.mark.samples
def test_where_windows_meet_nothing_is_torn(seen):
    config = seen.config
    (whole,) = seen.video().tracks
    try:
        seen.config = replace(config, motion=replace(config.motion, window=36, overlap=24))
        (parts,) = seen.video().tracks
    finally:
        seen.config = config
    np.testing.assert_allclose(parts.betas, whole.betas, atol=1e-6)
    assert _jerk(parts.joints, whole.joints) < 1e-3
    rooted = (parts.joints - parts.joints[:, :1]) - (whole.joints - whole.joints[:, :1])
    assert np.linalg.norm(rooted, axis=-1).max() < 0.02  # of windows as short as these


@pytest.mark.slow
@pytest.mark.samples
def test_windows_find_what_the_whole_finds(samples: Path, free_body):
    """Of a minute of noisy keypoints: to the millimetre, in the camera."""
    motion = read_motion(samples / "mocap/sequences/cmux_basketball_signal_train_05.npz")
    frames = len(motion.poses)
    turn = torch.tensor([np.pi, 0.0, 0.0])
    orient = rotmat_to_rotvec(rotvec_to_rotmat(turn) @ rotvec_to_rotmat(torch.from_numpy(motion.poses[:, :3])))
    place = torch.from_numpy(motion.trans - motion.trans.mean(0)) @ rotvec_to_rotmat(turn).T
    pose = torch.cat([orient, torch.from_numpy(motion.poses[:, 3:])], dim=1)
    true = BodyParameters(pose, torch.zeros(frames, 10), place + torch.tensor([0.0, 0.0, 4.0]))
    rng = torch.Generator().manual_seed(0)
    camera = PerspectiveCamera(torch.full((frames,), 700.0), torch.full((frames, 2), 320.0))
    points = true.keypoints_by(free_body, "blazepose33")
    pixels = camera.project(points) + 2 * torch.randn(frames, 33, 2, generator=rng)
    keypoints = torch.cat([pixels, torch.full((frames, 33, 1), 0.8)], dim=-1)
    start = Bodies.of(
        BodyParameters.from_vector(true.vector + 0.03 * torch.randn(true.vector.shape, generator=rng)), camera
    )
    times, config = torch.arange(frames).double() / 30, VideoConfig()
    found = [
        fitted_together(
            free_body, keypoints, "blazepose33", start, times, replace(config.motion, **size), config.evidence,
            betas=torch.zeros(10),
        )
        for size in ({}, {"window": frames})
    ]  # fmt: skip
    parts, whole = (BodyParameters(f.pose, f.betas, f.transl).posed_by(free_body).joints for f in found)
    assert frames > 1.5 * config.motion.window
    assert float((parts - whole).norm(dim=-1).max()) < 1e-3


@pytest.mark.samples
def test_up_is_where_heads_are_and_the_floor_is_under_the_feet(walk, seen):
    film, video = walk[0], seen.video()
    up = film.scenes[0].shot.world_to_camera[:, 1]  # the world's y in the camera
    assert video.world.has_floor
    assert np.degrees(np.arccos(video.world.up.double().numpy() @ up)) < 6
    (track,) = video.tracks
    feet = track.in_world(video.world)[:, list(FEET)][track.contacts]
    assert abs(np.median(feet[:, 1]) - 0.05) < 0.05
    assert (track.in_world(video.world)[:, 15, 1] > 1.2).all()  # the head


@pytest.mark.samples
def test_nobody_sinks_into_the_floor(seen):
    config, sunk, joints = seen.config, {}, {}
    for floor in (False, True):
        try:
            seen.config = replace(config, floor=floor)
            video = seen.video()
        finally:
            seen.config = config
        (track,) = video.tracks
        lowest = [float(video.world.place(track.person(k).vertices, 0)[:, 1].min()) for k in range(0, FRAMES, 3)]
        sunk[floor], joints[floor] = np.maximum(-np.array(lowest), 0).mean(), track.joints
    assert sunk[True] < max(0.7 * sunk[False], 0.003)
    assert np.linalg.norm(joints[True] - joints[False], axis=-1).mean() < 0.02  # and little else changes


@pytest.mark.samples
def test_live_answers_come_once_each_in_order_and_not_too_late(walk):
    _, pictures, true = walk
    live = VideoReconstructor(live=True, fast=True, tiles=False)
    late, got = [], []
    for number, picture in enumerate(pictures[:40] + pictures[40:]):
        answers = live.push(picture, number / 30)
        late += [number - answer.number for answer in answers]
        got += answers
    got += live.finish()
    assert [frame.number for frame in got] == list(range(FRAMES)) and [len(f.people) for f in got] == [1] * FRAMES
    assert live.delay is not None and max(late) < live.delay
    assert len({tuple(frame.people[0][1].betas.tolist()) for frame in got}) == 1
    joints = torch.stack([frame.people[0][1].joints for frame in got])
    assert float(procrustes_errors(joints, true).mean()) < 0.08
    with pytest.raises(ValueError, match="finished"):
        live.push(pictures[0])
    with pytest.raises(ValueError, match="live film"):
        live.video()


@pytest.mark.samples
def test_who_comes_up_for_a_moment_is_left_out_and_said(walk):
    _, pictures, _ = walk
    reconstructor = VideoReconstructor(tiles=False, config=FAST)
    empty = np.zeros_like(pictures[0])
    for picture in [*pictures[:3], *[empty] * 30]:
        reconstructor.push(picture)
    reconstructor.finish()
    with pytest.warns(InputWarning, match="left out: 1 who could be followed for less than"):
        video = reconstructor.video()
    assert video.tracks == () and len(video.times) == 33 and not video.world.has_floor
    assert video.frame(2).people == ()


@pytest.mark.samples
@pytest.mark.parametrize(("rate", "shown"), [(1.0, (0, 15, 30)), (240.0, range(12))])
def test_films_of_any_rate_are_followed(rate: float, shown, walk):
    reconstructor = VideoReconstructor(frame_rate=rate, tiles=False, config=FAST)
    for number in shown:
        reconstructor.push(walk[1][number])
    reconstructor.finish()
    video = reconstructor.video()
    (track,) = video.tracks
    assert video.frame_rate == pytest.approx(rate) and track.frames.tolist() == list(range(len(shown)))
    assert float(procrustes_errors(torch.from_numpy(track.joints), walk[2][list(shown)]).mean()) < 0.08


@pytest.mark.samples
def test_a_film_of_one_frame_is_a_body(walk):
    reconstructor = VideoReconstructor(tiles=False)
    reconstructor.push(walk[1][0])
    reconstructor.finish()
    (track,) = reconstructor.video().tracks
    assert track.joints.shape == (1, 24, 3) and not track.contacts.any()
    ((number, person),) = reconstructor.video().frame(0).people
    assert number == 0 and torch.equal(person.joints, torch.from_numpy(track.joints[0]))


def test_frames_that_cannot_belong_to_a_film_are_refused():
    reconstructor = VideoReconstructor(tiles=False)
    frame = np.zeros((64, 48, 3), np.uint8)
    with pytest.raises(ValueError, match="not finished"):
        reconstructor.video()
    reconstructor.push(frame, 1.0)
    for wrong, time, word in (
        (frame[..., 0], 2.0, "RGB"),
        (frame[1:], 2.0, "48 x 63"),
        (frame, 1.0, "later than the last"),
        (frame, float("nan"), "later than the last"),
    ):
        with pytest.raises(ValueError, match=word):
            reconstructor.push(wrong, time)
    for option in ({"frame_rate": 0.0}, {"max_people": 0}):
        with pytest.raises(ValueError, match="must be"):
            VideoReconstructor(**option)
    nothing = VideoReconstructor()
    nothing.finish()
    with pytest.raises(ValueError, match="no frame"):
        nothing.video()
