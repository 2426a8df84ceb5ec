"""The commands that make the packaged priors, on a small folder of made-up motion capture."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kouros.data.mocap.bank import make_pose_bank
from kouros.data.mocap.motion import Motion, write_motion
from kouros.priors.gmm import read_gmm
from kouros.priors.limits import read_limits
from kouros.priors.packaged import FOLDER
from kouros.priors.rotation_experts import read_experts
from kouros.priors.training.commands import TRAINERS
from kouros.priors.training.gmm import MixtureConfig
from kouros.priors.training.poses import mirrored, read_poses, recombined, with_mirror_images
from kouros.priors.training.vae import VAETraining
from kouros.priors.vae import PoseVAEConfig, read_vae

READERS = {"gmm": read_gmm, "limits": read_limits, "rotation_experts": read_experts, "vae": read_vae}
SMALL = {
    "gmm": {"config": MixtureConfig(components=2, symmetric=0, iterations=2, starts=1)},
    "limits": {},
    "rotation_experts": {"experts": 4},
    "vae": {"training": VAETraining(model=PoseVAEConfig(hidden=8, latent=4), steps=3, batch=8)},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "sequences").mkdir()
    for name, split in (("a", "train"), ("b", "train"), ("c", "val")):
        poses = 0.3 * rng.normal(size=(60, 72)).astype(np.float32)
        valid = np.arange(60) != 7
        poses[7] = 50.0
        np.savez(tmp_path / "sequences" / f"{name}.npz", poses=poses, valid=valid, split=split)
    picked = 0.3 * rng.normal(size=(50, 72)).astype(np.float32)
    split = np.array(["train"] * 40 + ["val"] * 10)
    np.savez(tmp_path / "diverse_frames.npz", poses=picked, split=split)
    np.savez(tmp_path / "rest_skeleton.npz", joints=rng.normal(size=(24, 3)))
    return tmp_path


@pytest.mark.parametrize("name", list(TRAINERS))
def test_training_writes_a_file_that_reads_and_repeats(folder: Path, name: str):
    contents = []
    for out in (folder / "first.npz", folder / "second.npz"):
        TRAINERS[name](folder, out, seed=4, credit="from somebody's archive", **SMALL[name])
        READERS[name](out)
        with np.load(out) as arrays:
            contents.append({key: arrays[key] for key in arrays})
    for key, value in contents[0].items():
        np.testing.assert_array_equal(value, contents[1][key])
    meta = json.loads(str(contents[0]["meta"]))
    assert meta["seed"] == 4
    assert meta["credit"] == "from somebody's archive"
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize("name", list(TRAINERS))
def test_packaged_files_say_where_they_come_from(name: str):
    path = FOLDER / f"{name}.npz"
    with np.load(path) as arrays:
        meta = json.loads(str(arrays["meta"]))
    assert {"what", "credit", "seed", "settings", "data_sha256"} <= meta.keys()
    assert path.stat().st_size < 4e6


def test_invalid_frames_and_other_splits_are_left_out(folder: Path):
    train, val = read_poses(folder, "train"), read_poses(folder, "val")
    assert (len(train.frames), len(train.diverse), train.names) == (118, 40, ("a", "b"))
    assert (len(val.frames), len(val.diverse), val.names) == (59, 10, ("c",))
    assert np.abs(train.frames).max() < 10


def test_motions_that_do_not_say_their_split_have_the_pose_banks(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(20):
        poses = rng.normal(0, 0.3, (5, 72)).astype(np.float32)
        motion = Motion(poses, np.zeros((5, 3), np.float32), 30.0, subject=f"person{number}")
        write_motion(tmp_path / f"sequences/somewhere/{number}.npz", motion)
    with pytest.raises(ValueError, match=r"diverse_frames\.npz; make it with `kouros import pose-bank`"):
        read_poses(tmp_path, "train")
    np.savez(tmp_path / "diverse_frames.npz", poses=np.zeros((2, 72)), split=np.array(["train", "val"]))
    with pytest.raises(ValueError, match=r"0\.npz does not say its split"):
        read_poses(tmp_path, "train")
    (tmp_path / "diverse_frames.npz").unlink()  # nothing is written over
    make_pose_bank(tmp_path / "sequences", tmp_path)
    train, val = read_poses(tmp_path, "train"), read_poses(tmp_path, "val")
    assert (len(train.names), len(val.names)) == (18, 2)
    assert (len(train.frames), len(val.frames)) == (90, 10)
    TRAINERS["limits"](tmp_path, tmp_path / "limits.npz")
    read_limits(tmp_path / "limits.npz")
    with pytest.raises(ValueError, match=r"rest_skeleton\.npz; it holds `joints` \(24, 3\)"):
        TRAINERS["vae"](tmp_path, tmp_path / "vae.npz", **SMALL["vae"])


def test_bad_folders_are_named(folder: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="no motion capture of the split 'test'"):
        read_poses(folder, "test")
    poses = np.full((5, 72), np.nan)
    np.savez(folder / "sequences" / "a.npz", poses=poses, valid=np.ones(5, bool), split="train")
    with pytest.raises(ValueError, match=r"a.npz is not \(frames, 72\) finite"):
        read_poses(folder, "train")


def test_mirroring_twice_changes_nothing():
    poses = np.random.default_rng(0).normal(size=(5, 69))
    np.testing.assert_array_equal(mirrored(mirrored(poses)), poses)
    np.testing.assert_array_equal(with_mirror_images(poses)[5:], mirrored(poses))


def test_recombined_poses_take_whole_limbs():
    poses = np.arange(10.0)[:, None] * np.ones(69)
    mixed = torch.from_numpy(recombined(poses, 200, np.random.default_rng(0))).unflatten(-1, (23, 3))
    leg, arm, other_arm = (
        mixed[:, [0, 3, 6, 9]],
        mixed[:, [12, 15, 17, 19, 21]],
        mixed[:, [13, 16, 18, 20, 22]],
    )
    for limb in (leg, arm, other_arm):
        assert (limb == limb[:, :1, :1]).all()
    assert (arm[:, 0, 0] != other_arm[:, 0, 0]).float().mean() > 0.8
