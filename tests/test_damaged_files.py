"""What people bring damaged: JSON, tensors, MATLAB files, pictures, names and disks that fail."""

import errno
import io
import json
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kouros.cli import main
from kouros.data.images import ImageError, read_image
from kouros.data.importers.coco import coco_mask
from kouros.data.importers.matlab import load_mat, seconds_for
from kouros.data.importers.running import image_size
from kouros.data.mocap.motion import Motion
from kouros.data.schema import DatasetError, Sample, SampleError, TableInfo, check_sample
from kouros.documents import DocumentError, parse_json
from kouros.files import write_files
from kouros.isolated import IsolatedError, isolated
from kouros.tensors import TensorFileError, check_finite, load_tensors


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 200_000, b"\xff\xfe\xfa", b"1" * 10_000, b"{'a': 1}"])
def test_what_is_no_json_is_refused(content: bytes):
    with pytest.raises(DocumentError, match=r"^it "):
        parse_json(content)


# ---- tensors


def saved(path: Path, content: object, **options: bool) -> bytes:
    torch.save(content, path, **options)
    return path.read_bytes()


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_read_in_both_of_torch_s_formats(tmp_path: Path, zipped: bool):
    content = {"state_dict": torch.nn.Linear(3, 2).state_dict(), "epoch": 3, "size": torch.Size([1])}
    saved(tmp_path / "a.pt", content, _use_new_zipfile_serialization=zipped)
    read = load_tensors(tmp_path / "a.pt", mapped=True)
    assert read["epoch"] == 3
    torch.testing.assert_close(read["state_dict"], content["state_dict"])


def test_a_flipped_bit_of_a_weight_is_noticed(tmp_path: Path):
    path = tmp_path / "a.pt"
    content = bytearray(saved(path, {"w": torch.full((1000,), 0.5)}))
    place = content.index(np.float32(0.5).tobytes() * 10) + 400
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(TensorFileError, match="CRC"):
        load_tensors(path)


def test_a_hostile_pickle_among_tensors_is_refused(tmp_path: Path):
    path = tmp_path / "a.pt"
    saved(tmp_path / "good.pt", {"w": torch.ones(3)})
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(path, "w") as bad:
        for member in good.namelist():
            hostile = b"\x80\x02})" + b"\x85" * 20_000 + b"Ns."
            bad.writestr(member, hostile if member.endswith("data.pkl") else good.read(member))
    with pytest.raises(TensorFileError, match="key"):
        load_tensors(path)
    path.write_bytes(pickle.dumps(os.getcwd))
    with pytest.raises(TensorFileError):
        load_tensors(path)


def test_weights_that_are_infinite_in_float32_are_refused():
    check_finite({"a": torch.ones(2), "n": torch.tensor(3)})
    with pytest.raises(TensorFileError, match="weights b"):
        check_finite({"b": torch.tensor([1e39], dtype=torch.float64)})


# ---- libraries that crash or hang


def test_a_call_that_hangs_crashes_or_fails_is_over_and_the_next_one_works():
    start = time.perf_counter()
    with pytest.raises(IsolatedError, match="did not end"):
        isolated(time.sleep, 60, seconds=0.5)
    with pytest.raises(IsolatedError, match="crashed"):
        isolated(os._exit, 3, seconds=20.0)
    with pytest.raises(IsolatedError, match="no such") as raised:
        isolated(os.rmdir, "/no such folder", seconds=20.0)
    assert raised.value.kind == "FileNotFoundError"
    assert isolated(os.path.basename, "a/b", seconds=20.0) == "b"
    assert time.perf_counter() - start < 60


def test_damaged_matlab_files_are_one_sentence(tmp_path: Path):
    scipy_io = pytest.importorskip("scipy.io")
    path = tmp_path / "a.mat"
    scipy_io.savemat(path, {"joints": np.arange(6.0).reshape(2, 3), "s": {"x": [1, 2]}})
    np.testing.assert_array_equal(load_mat(path, "joints")["joints"], np.arange(6.0).reshape(2, 3))
    assert load_mat(path, "s", squeeze=True)["s"].x.tolist() == [1, 2]
    assert seconds_for(path) < 16
    good = path.read_bytes()
    for place in range(128, len(good), 17):
        path.write_bytes(good[:place] + bytes([good[place] ^ 0xFF]) + good[place + 1 :])
        try:
            load_mat(path, "joints", "s")
        except DatasetError as error:
            assert str(path) in str(error)


# ---- pictures


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 0 if mode == "1" else None).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PPM", "TGA", "JPEG2000", "EPS", "PCX", "ICO", "SGI"])
def test_formats_that_are_not_announced_are_refused_whatever_their_name(kind: str, tmp_path: Path):
    try:
        content = encoded(kind)
    except OSError:
        pytest.skip("Pillow cannot write it here")
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(ImageError, match="expected JPEG, PNG"):
        read_image(tmp_path / "a.jpg")
    assert "cannot be read" in str(image_size(tmp_path / "a.jpg"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_over_white_is_the_same_in_strips(mode: str, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    rgba = rng.integers(0, 256, (50, 40, 4), np.uint8)
    picture = Image.fromarray(rgba).convert(mode) if mode != "P" else Image.fromarray(rgba[..., 0]).convert("P")
    if mode == "P":
        picture.info["transparency"] = 7
    whole = read_image(picture).pixels
    monkeypatch.setattr("kouros.data.images._STRIP", 70)
    np.testing.assert_array_equal(read_image(picture).pixels, whole)
    full = np.asarray(picture.convert("RGBA")).astype(float)
    expected = full[..., :3] * full[..., 3:] / 255 + 255 - full[..., 3:]
    assert np.abs(whole - expected).max() <= (0.51 if mode != "RGB" else 0)


def test_sixteen_bits_and_floats_are_the_same_in_strips(monkeypatch: pytest.MonkeyPatch):
    deep = np.random.default_rng(0).integers(0, 65536, (50, 40, 4)).astype(np.uint16)
    arrays = (deep, deep[..., 0], deep / 65535.0)
    whole = [read_image(array).pixels for array in arrays]
    monkeypatch.setattr("kouros.data.images._STRIP", 70)
    for array, before in zip(arrays, whole, strict=True):
        np.testing.assert_array_equal(read_image(array).pixels, before)


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [60_000, 60_000], "counts": [3_600_000_000]},
        {"size": [10, 10], "counts": [50, 49]},
        {"size": [10, 10], "counts": [2**40, 1]},
        {"size": [-1, -100], "counts": [100]},
    ],
)
def test_masks_that_no_picture_has_are_refused_before_they_are_made(mask: dict):
    with pytest.raises(ValueError, match="mask"):
        coco_mask(mask, (10, 10))
    with pytest.raises(ValueError, match="mask"):
        coco_mask([[0, 0, 1, 1, 0, 1]], (60_000, 60_000))


# ---- numbers that are infinite once they are stored


def test_a_row_that_would_be_infinite_in_the_table_is_refused():
    info = TableInfo("d", "s", "root")
    check_sample(Sample("a.jpg", pose=np.zeros(72), box_size=10.0), info)
    for bad in (Sample("a.jpg", pose=np.full(72, 1e39)), Sample("a.jpg", box_size=1e39)):
        with pytest.raises(SampleError):
            check_sample(bad, info)


@pytest.mark.parametrize("betas", [np.full(10, np.inf), np.zeros((2, 10)), np.array(["a"] * 10)])
def test_a_motion_s_betas_are_checked(betas: np.ndarray):
    with pytest.raises(DatasetError):
        Motion(np.zeros((2, 72), np.float32), np.zeros((2, 3), np.float32), 30.0, betas=betas)


def test_infinite_rotations_of_eft_are_left_out_and_the_others_come_in(tmp_path: Path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    turns = np.tile(np.eye(3), (24, 1, 1)).tolist()
    good = {"imageName": "a.jpg", "parm_pose": turns, "parm_shape": [0.0] * 10,
            "gt_keypoint_2d": [[1.0, 2.0, 1.0]] * 49, "bbox_center": [30, 30], "bbox_scale": 0.3}  # fmt: skip
    rows = [good, good | {"parm_pose": "INF"}, good | {"parm_shape": None}, {}, good | {"bbox_scale": {}}]
    text = json.dumps({"ver": 0.1, "data": rows}).replace('"INF"', json.dumps(turns).replace("1.0", "1e999", 1))
    (tmp_path / "fits.json").write_text(text)
    assert main(["import", "eft", str(tmp_path / "fits.json"), "--out", str(tmp_path / "out")]) == 0
    assert "1 rows, 4 left out" in capsys.readouterr().out


# ---- what is written


def test_a_name_that_is_too_long_leaves_nothing_of_the_set(tmp_path: Path):
    name = "n" * 251
    with pytest.raises(OSError, match="long") as raised:
        write_files({tmp_path / f"{name}.glb": b"1", tmp_path / f"{name}.json": b"2"})
    assert raised.value.errno == errno.ENAMETOOLONG and not list(tmp_path.iterdir())


def test_a_folder_in_the_way_leaves_nothing_of_the_set(tmp_path: Path):
    (tmp_path / "a.json").mkdir()
    with pytest.raises(IsADirectoryError):
        write_files({tmp_path / "a.glb": b"1", tmp_path / "a.json": b"2"})
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_killed_runs_left_is_removed_and_what_others_are_writing_stays(tmp_path: Path):
    old, new = tmp_path / ".kouros-00.part", tmp_path / ".kouros-11.part"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    write_files({tmp_path / "a.json": b"{}"})
    assert sorted(p.name for p in tmp_path.iterdir()) == [new.name, "a.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("streams", [">/dev/full", ">&-", ">&- 2>&-", "2>/dev/full"])
def test_streams_that_are_full_or_closed_are_no_traceback(streams: str):
    command = f"exec {sys.executable} -m kouros data {streams}"
    ran = subprocess.run(
        ["sh", "-c", command.replace(" data ", " --version ")], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in ran.stderr and "Exception ignored" not in ran.stderr
    assert ran.returncode == (1 if streams == ">/dev/full" else 0)
    if streams == ">/dev/full":
        assert "No space left" in ran.stderr
