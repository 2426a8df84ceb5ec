"""The commands on good input, with the real detector, fit and body."""

import json
from pathlib import Path

import numpy as np
import pytest

import kouros
from kouros.cli import main


def test_version_and_help_answer(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"kouros {kouros.__version__}"
    for arguments in (["--help"], ["reconstruct", "--help"], ["fit", "--help"], ["body", "build", "--help"]):
        assert main(arguments) == 0
        assert "usage: kouros" in capsys.readouterr().out


def test_a_bad_photo_does_not_stop_the_others(portrait: Path, bad_photos, tmp_path: Path, capsys):
    out = tmp_path / "out"
    bad = next(iter(bad_photos))
    assert main(["reconstruct", str(bad), str(portrait), "--out", str(out), "--json", "--no-tiles"]) == 1
    failed, done = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert failed["error"] and failed["people"] == 0
    assert done["error"] is None and done["people"] == 1
    expected = {f"grace_hopper{s}" for s in (".glb", ".overlay.png", ".npz", ".json")}
    assert {p.name for p in out.iterdir()} == expected == {Path(p).name for p in done["outputs"]}


def test_two_photos_of_one_name_both_keep_their_results(portrait: Path, tmp_path: Path, capsys):
    copies = [tmp_path / folder / "photo.jpg" for folder in ("x", "y")]
    for copy in copies:
        copy.parent.mkdir()
        copy.symlink_to(portrait)
    out = tmp_path / "out"
    arguments = ["reconstruct", *map(str, copies), "--out", str(out), "--quiet", "--no-overlay", "--no-tiles"]
    assert main([*arguments, "--format", "obj", "ply"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and "error" not in printed.err
    assert {p.name for p in out.iterdir()} == {
        f"{name}{suffix}" for name in ("photo", "y_photo") for suffix in (".obj", ".ply", ".npz", ".json")
    }


def test_openpose_keypoints_are_fitted_without_a_photo(free_body, tmp_path: Path):
    import torch

    out = free_body(transl=torch.tensor([[0.0, 0.0, 3.0]]), global_orient=torch.tensor([[np.pi, 0.0, 0.0]]))
    points = free_body.keypoints_3d(out, "openpose25")[0].numpy()
    pixels = 800 * points[:, :2] / points[:, 2:] + [320, 400]
    numbers = np.column_stack([pixels, np.ones(25)]).ravel().tolist()
    path = tmp_path / "standing.json"
    path.write_text(json.dumps({"people": [{"pose_keypoints_2d": numbers}]}))
    arguments = ["fit", str(path), "--image-size", "640", "800", "--focal-length", "800"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--quiet", "--traceback"]) == 0
    with np.load(tmp_path / "out" / "standing.npz") as arrays:
        knees = arrays["joints_2d"][0, 4:6]
        assert np.linalg.norm(knees - pixels[[13, 10]], axis=1).max() < 30
        assert arrays["focal_length"] == pytest.approx(800)


def test_body_info_describes_the_free_body(capsys):
    assert main(["body", "info"]) == 0
    assert "coco17" in capsys.readouterr().out


def test_workers_make_the_same_results_and_those_that_are_there_are_left_alone(portrait: Path, tmp_path: Path, capsys):
    photos = [tmp_path / f"{name}.jpg" for name in "ab"]
    for photo in photos:
        photo.symlink_to(portrait)
    broken = tmp_path / "c.jpg"
    broken.write_bytes(b"no picture")
    options = ["--no-overlay", "--no-tiles", "--json"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert main(["reconstruct", str(photos[0]), "--out", str(alone), *options]) == 0
    capsys.readouterr()
    sources = [str(photos[0]), str(broken), str(photos[1])]
    assert main(["reconstruct", *sources, "--out", str(shared), "--workers", "2", *options]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["people"] for line in lines] == [1, 0, 1] and "not a picture" in lines[1]["error"]
    with np.load(alone / "a.npz") as one, np.load(shared / "a.npz") as other:
        np.testing.assert_allclose(one["joints_3d"], other["joints_3d"], atol=1e-4)
    before = {path: path.stat().st_mtime_ns for path in shared.iterdir()}
    (shared / "b.npz").unlink()
    assert main(["reconstruct", *sources, "--out", str(shared), "--skip-existing", *options]) == 1
    printed = capsys.readouterr()
    assert [json.loads(line)["people"] for line in printed.out.splitlines()] == [0, 1]
    assert "1 of 3 photos have their results" in printed.err
    after = {path: path.stat().st_mtime_ns for path in shared.iterdir()}
    assert set(before) == set(after) and {p.stem for p in after if after[p] != before[p]} == {"b"}


def test_warmup_does_what_a_first_photo_waits_for(capsys):
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out.startswith("ready: 3 people in ")
