"""Protocols over films: accelerations known beforehand, one track a person, and the packaged clips."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import Oracle, Rows, box

from kouros.body.keypoints import SMPL24
from kouros.body.parameters import Bodies
from kouros.data.schema import Sample, TableInfo
from kouros.data.synthetic import clips
from kouros.data.synthetic.validation import thumbnail
from kouros.documents import read_json
from kouros.evaluation.judge import judge
from kouros.evaluation.protocols import ProtocolError, protocol
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.filmed import Filmed, _assigned
from kouros.pipeline.video import Track

FRAMES = (0, 1, 2, 3, 4, 8, 9, 10, 14, 15)
"""Runs of five, three and two; the last has no acceleration."""


@pytest.fixture
def rows() -> Rows:
    rng = np.random.default_rng(0)
    samples = [
        Sample(
            image_path=f"imageFiles/a/image_{frame:05d}.jpg",
            keypoints_3d=np.c_[rng.normal(0, 0.4, (24, 3)) + np.array([0, 0, 4]), np.ones(24)],
            pose=np.zeros(72),
            betas=np.zeros(10),
            gender="male",
            sequence="a",
            frame=frame,
            person="0",
            **box(k),
        )
        for k, frame in enumerate(FRAMES)
    ]
    info = TableInfo("3dpw", "test", "/nowhere", keypoints_3d=SMPL24, keypoints_3d_origin="camera")
    return Rows(info, samples)


def test_accelerations_are_of_consecutive_frames_about_the_root(rows: Rows, free_body):
    chosen = protocol("3dpw-smpl24-video")
    moved = {f: torch.tensor([0.01 * f, 0.0, 0.002 * f**2]) for f in FRAMES}  # of everybody: the root's is taken off
    bent = {f: torch.tensor([0.0, 0.003 * f**2, 0.0]) for f in FRAMES}  # of all joints but the root
    shown = iter(FRAMES)

    def change(points: torch.Tensor) -> torch.Tensor:
        frame = next(shown)
        return points + moved[frame] + torch.arange(24)[:, None].clamp(max=1) * bent[frame]

    verdict = judge(chosen, rows, Oracle(rows, change=change), mean_body=free_body)
    # The second difference of 0.003 f^2 is 0.006 in 23 of 24 joints.
    assert verdict.scores["acceleration"] == pytest.approx(0.006 * 23 / 24, rel=1e-4)
    apart = replace(rows, samples=[replace(s, frame=5 * k) for k, s in enumerate(rows.samples)])
    still = judge(chosen, apart, Oracle(apart), mean_body=free_body)
    assert "acceleration" not in still.scores and still.scores["mpjpe"] == pytest.approx(0, abs=1e-6)


def _track(number: int, frames: range, x: float, free_body) -> Track:
    count = len(frames)
    camera = PerspectiveCamera(torch.full((count,), 500.0), torch.full((count, 2), 160.0))
    transl = torch.tensor([x, 0.0, 4.0]).expand(count, -1)
    return Track(
        number, np.array(frames), np.array(frames) / 30, Bodies(torch.zeros(count, 72), torch.zeros(count, 10), transl,
        camera), torch.zeros(count, 33, 3), "blazepose33", np.tile([x, 0.0, x + 50, 100.0], (count, 1)),
        np.ones(count), (320, 320), free_body,
    )  # fmt: skip


def test_a_person_is_answered_by_one_track_and_missed_by_others(free_body):
    samples = {f: Sample("a", sequence="a", frame=f, person="0") for f in range(10)}
    samples |= {10 + f: Sample("a", sequence="a", frame=f, person="1") for f in range(10)}
    boxes = {row: np.array([100.0 * (row // 10), 0, 100.0 * (row // 10) + 50, 100]) for row in samples}
    # Of the first person two tracks, of which the longer counts; the second's begins late.
    tracks = [
        _track(0, range(0, 4), 0.0, free_body),
        _track(1, range(4, 10), 0.0, free_body),
        _track(2, range(3, 10), 100.0, free_body),
    ]
    found = _assigned(tracks, range(10), samples, boxes)
    assert sorted(found) == [*range(4, 10), *range(13, 20)]
    assert float(found[13].bodies.transl[0]) == 100.0 and _assigned([], range(10), samples, boxes) == {}


def test_films_are_no_photos(rows: Rows, free_body):
    film = Filmed(body=free_body)
    with pytest.raises(ValueError, match="sees films and no photos"):
        film.estimate([])
    with pytest.raises(ProtocolError, match="sees all frames"):
        judge(protocol("3dpw-smpl24-video"), rows, film, mean_body=free_body, people=2)
    unnamed = replace(rows, samples=[replace(s, sequence=None) for s in rows.samples])
    with pytest.raises(ValueError, match="which frame of which sequence"):
        judge(protocol("3dpw-smpl24-video"), unnamed, film, mean_body=free_body)


def test_the_packaged_clips_are_twenty_and_look_as_they_did():
    source = clips.SyntheticVideo()
    sums = dict(read_json(clips._SUMS))["pictures"]
    assert len(clips.packaged_clips()) == 20 and len(source) == 24 * clips.FRAMES
    row = 600
    np.testing.assert_allclose(thumbnail(source.image(row)), sums[str(row)], atol=3)
    sample = source.sample(row)
    assert (sample.sequence, sample.frame, sample.person) == ("clip_10", 0, "0") and sample.bbox.shape == (4,)


@pytest.mark.slow
def test_the_road_of_films_is_judged_on_clips(free_body):
    class Short(clips.SyntheticVideo):
        """The beginnings of two clips, one of them with two people."""

        def __init__(self) -> None:
            super().__init__()
            self._rows = [row for row in self._rows if row[0] in (13, 17) and row[1] < 24]

    source = Short()
    verdict = judge(protocol("synthetic-video"), source, Filmed(fast=True), mean_body=free_body)
    assert len(verdict.rows) == 3 * 24 and len(verdict.missed) < 10
    assert verdict.scores["pa_mpjpe"] < 0.06 and verdict.scores["acceleration"] < 0.015
