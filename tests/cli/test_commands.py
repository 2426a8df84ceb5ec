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
