"""Imported motions: made again when asked otherwise, their splits, and the bank of poses made of them."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from kouros.data.mocap.aist import import_aist, read_aist
from kouros.data.mocap.amass import read_amass
from kouros.data.mocap.bank import make_pose_bank
from kouros.data.mocap.motion import Motion, read_motion, write_motion
from kouros.data.schema import DatasetError


def aist(folder: Path, name: str = "gBR_sBM_cAll_d04_mBR0_ch01") -> Path:
    rng = np.random.default_rng(0)
    content = {
        "smpl_poses": rng.normal(0, 0.3, (12, 72)),
        "smpl_scaling": np.array([90.0]),
        "smpl_trans": rng.normal(0, 50, (12, 3)),
        "smpl_loss": 0.1,
    }
    (folder / "motions").mkdir(exist_ok=True)
    path = folder / f"motions/{name}.pkl"
    path.write_bytes(pickle.dumps(content))
    return path


def test_motions_are_made_again_when_their_file_changes_and_never_written_over_by_others(tmp_path):
    path, out = aist(tmp_path), tmp_path / "out"
    assert import_aist(tmp_path, out).rows == 6
    assert import_aist(tmp_path, out).resumed_units == 1
    with pytest.raises(DatasetError, match="is there already, made with another frame_rate; name another --out"):
        import_aist(tmp_path, out, frame_rate=60.0)
    path.write_bytes(path.read_bytes() + b" ")  # another size: the file has changed
    assert import_aist(tmp_path, out).resumed_units == 0
    other = tmp_path / "other"
    (other / "motions").mkdir(parents=True)
    (other / "motions" / path.name).write_bytes(path.read_bytes() + b"  ")
    with pytest.raises(DatasetError, match=rf"is there already, made from {path}"):
        import_aist(other, out)
    mine = out / f"{path.stem}.npz"
    mine.write_bytes(b"something of mine")
    with pytest.raises(DatasetError, match="is no clip of an import, or damaged"):
        import_aist(tmp_path, out)
    assert mine.read_bytes() == b"something of mine"


def test_a_bank_of_other_motions_is_not_written_over(tmp_path):
    aist(tmp_path)
    import_aist(tmp_path, tmp_path / "clips")
    first = make_pose_bank(tmp_path / "clips", tmp_path)
    assert make_pose_bank(tmp_path / "clips", tmp_path) == first
    (clip,) = (tmp_path / "clips").iterdir()
    shutil.copy(clip, clip.with_name("another.npz"))
    with pytest.raises(DatasetError, match=r"diverse_frames\.npz is there already"):
        make_pose_bank(tmp_path / "clips", tmp_path)


def test_aist_dancer_is_in_the_name(tmp_path):
    assert read_aist(aist(tmp_path)).subject == "aist_d04"


@pytest.mark.parametrize(
    ("archive", "split"), [("KIT", "train"), ("SFU", "val"), ("MPI_mosh", "val"), ("SSM_synced", "test")]
)
def test_amass_archives_are_divided_as_is_usual(tmp_path, archive: str, split: str):
    folder = tmp_path / archive / "01"
    folder.mkdir(parents=True)
    arrays = {"poses": np.zeros((2, 156)), "trans": np.zeros((2, 3)), "mocap_framerate": np.array(120.0)}
    np.savez(folder / "a_poses.npz", **arrays)
    assert read_amass(folder / "a_poses.npz").split == split


def motion(poses: np.ndarray, **changes) -> Motion:
    return Motion(poses.astype(np.float32), np.zeros((len(poses), 3), np.float32), 30.0, **changes)


def test_a_frame_is_taken_when_a_joint_has_turned_since_the_last_one_taken(tmp_path):
    poses = np.zeros((61, 72))
    poses[:, 3 * 18 + 1] = np.radians(np.arange(61))  # the left elbow, one degree a frame
    valid = np.arange(61) != 30
    write_motion(tmp_path / "in/a.npz", motion(poses, valid=valid, split="train"))
    report = make_pose_bank(tmp_path / "in", tmp_path / "out", turned=9.9)
    with np.load(report.table) as bank:
        assert bank["frame"].tolist() == [0, 10, 20, 31, 41, 51]  # 30 is invalid
        np.testing.assert_allclose(bank["poses"], poses[bank["frame"]], atol=1e-6)
        assert set(bank["split"]) == {"train"}


def test_people_of_the_validation_are_not_those_of_the_training(tmp_path):
    for number in range(40):
        poses = np.random.default_rng(number).normal(0, 1, (5, 72))
        write_motion(tmp_path / f"in/{number}.npz", motion(poses, subject=f"person{number // 2}"))
    first = make_pose_bank(tmp_path / "in", tmp_path / "out")
    assert first.rows == 200
    with np.load(first.table) as bank:
        people = {split: set(bank["sequence"][bank["split"] == split] // 1) for split in ("train", "val")}
        person = {int(i): int(key) // 2 for i, key in enumerate(bank["keys"])}
    by_person = {split: {person[int(s)] for s in rows} for split, rows in people.items()}
    assert len(by_person["val"]) == 2 and len(by_person["train"]) == 18  # a tenth of 20
    assert not by_person["val"] & by_person["train"]


def test_synthetic_people_draw_from_the_bank(tmp_path):
    from kouros.data.mocap.recombination import read_bank, recorded_poses

    for number in range(3):
        write_motion(tmp_path / f"in/{number}.npz", motion(np.random.default_rng(number).normal(0, 1, (4, 72))))
    path = make_pose_bank(tmp_path / "in", tmp_path / "out", poses=10).table
    banks = {split: read_bank(path, split) for split in ("train", "val")}
    assert sum(len(bank.rotations) for bank in banks.values()) == 10
    assert recorded_poses(banks["val"], 3, torch.Generator().manual_seed(0)).shape == (3, 24, 3, 3)


def test_a_folder_without_motions_and_files_that_are_none(tmp_path):
    with pytest.raises(DatasetError, match=r"expected <motion>\.npz"):
        make_pose_bank(tmp_path, tmp_path / "out")
    (tmp_path / "a.npz").write_bytes(b"no")
    with pytest.raises(DatasetError, match="no motion could be read"):
        make_pose_bank(tmp_path, tmp_path / "out")
    write_motion(tmp_path / "b.npz", motion(np.zeros((2, 72))))
    report = make_pose_bank(tmp_path, tmp_path / "out")
    assert report.rows == 1 and [Path(p.where).name for p in report.problems] == ["a.npz"]
    assert len(read_motion(tmp_path / "b.npz").poses) == 2
