"""Motion capture as a source: the poses of one split, with the clip around each, and no pictures."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from kouros.data.images import ImageError
from kouros.data.mocap.motion import Motion, write_motion
from kouros.data.mocap.source import MocapSource
from kouros.data.schema import DatasetError


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    poses = np.arange(10 * 72, dtype=np.float32).reshape(10, 72)
    np.savez(tmp_path / "diverse_frames.npz", poses=poses, split=np.array(["train", "val"] * 5))
    return tmp_path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Of two people who train, with frames that say who and when; the second one's third frame is broken. And of one
    who validates."""
    for number, (who, split) in enumerate((("ann", "train"), ("bea", "train"), ("cid", "val"))):
        poses = np.full((5, 72), 10.0 * number, np.float32) + np.arange(5, dtype=np.float32)[:, None]
        valid = np.arange(5) != 2 if who == "bea" else None
        motion = Motion(poses, np.zeros((5, 3), np.float32), 30.0, valid, subject=who, split=split)
        write_motion(tmp_path / who / "walk.npz", motion)
    return tmp_path


@pytest.mark.parametrize("named", ["", "diverse_frames.npz"])
def test_a_bank_gives_the_poses_of_its_split(bank: Path, named: str):
    for split, first in (("train", 0), ("val", 1)):
        source = pickle.loads(pickle.dumps(MocapSource(bank / named, split)))  # as worker processes get it
        assert len(source) == 5 and source.has("pose") and not source.has("keypoints_2d")
        np.testing.assert_array_equal(source.poses([3, 0])[:, 0], [72 * (first + 6), 72 * first])
        np.testing.assert_array_equal(source.sample(3).pose, source.poses([3])[0])
        assert source.clip(0, 2) is None
    with pytest.raises(ImageError, match="has no pictures"):
        source.image(0)


def test_motions_give_their_valid_frames_and_what_follows_them(clips: Path):
    source = MocapSource(clips)
    assert len(source) == 9
    np.testing.assert_array_equal(source.poses(range(9))[:, 0], [0, 1, 2, 3, 4, 10, 11, 13, 14])
    assert [source.sample(row).frame for row in (4, 5, 7)] == [4, 0, 3]
    assert source.sample(7).subject == "bea" and source.has("frame")
    clip = source.clip(1, 4)
    assert clip is not None
    np.testing.assert_array_equal(clip.poses[:, 0], [1, 2, 3, 4])
    assert source.clip(1, 5) is None  # one frame too many
    assert source.clip(5, 3) is None  # over the broken one
    assert len(MocapSource(clips, "val")) == 5


def test_what_holds_no_poses_is_refused(tmp_path: Path, bank: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"expected diverse_frames\.npz or <motion>\.npz"):
        MocapSource(tmp_path / "empty")
    with pytest.raises(DatasetError, match="holds no poses of the split 'test'"):
        MocapSource(bank, "test")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(DatasetError, match=r"broken\.npz: this is no \.npz"):
        MocapSource(tmp_path / "broken.npz")
