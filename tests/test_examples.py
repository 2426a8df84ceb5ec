"""The examples run as they stand."""

import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from tests.body.smpl_files import smpl_arrays, write_pickle

EXAMPLES = Path(__file__).parents[1] / "examples"
NEED_TRAINING = ("5_own_data.py", "6_train_and_judge.py", "7_own_regressor.py", "10_own_system.py")


def _run(name: str, *arguments: object) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_told_of_and_run_here():
    names = {path.name for path in EXAMPLES.glob("*.py")}
    told, here = (EXAMPLES / "README.md").read_text(), Path(__file__).read_text()
    assert names and all(f"`{name}`" in told and name in here for name in names)


def test_a_photo(tmp_path: Path):
    demo = EXAMPLES.parent / "src" / "kouros" / "data" / "demo" / "people.jpg"
    assert "person 3:" in _run("1_photo.py", demo, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {f"people.{s}" for s in ("glb", "overlay.png", "npz", "json")}


def test_keypoints_of_a_video():
    jitter = [float(line.split()[-5]) for line in _run("2_keypoints_of_a_video.py").splitlines()]
    assert jitter[1] < 0.5 * jitter[0]


def test_an_smpl_file(tmp_path: Path):
    assert "7000 vertices" in _run("3_smpl_file.py")
    path = write_pickle(tmp_path / "SMPL_NEUTRAL.pkl", smpl_arrays(num_vertices=6890))
    assert "6890 vertices" in _run("3_smpl_file.py", path)


def test_own_keypoints():
    assert float(_run("4_own_keypoints.py").split()[4]) < 10


def test_own_data(tmp_path: Path):
    pytest.importorskip("pyarrow")
    assert "wrote 4 people" in _run("5_own_data.py", tmp_path)


def test_train_and_judge(tmp_path: Path):
    pytest.importorskip("lightning")
    said = _run("6_train_and_judge.py", tmp_path)
    assert "PA-MPJPE" in said and "joints apart, mm" in said
    assert (tmp_path / "results" / "people.glb").exists()


def test_an_own_regressor(tmp_path: Path):
    pytest.importorskip("pyarrow")
    lines = _run("7_own_regressor.py", tmp_path).splitlines()
    assert len(lines) == 2 and "fits trusted" in lines[0]


def test_an_own_estimator():
    rows = [[float(v) for v in line[18:].replace("mm", "").split()] for line in _run("8_own_estimator.py").splitlines()]
    apart = np.array(rows)
    assert apart.shape == (3, 3) and apart[0, 2] < apart[0, 1]  # the fit brings it nearer to the default


def test_an_own_system(tmp_path: Path):
    pytest.importorskip("lightning")
    lines = _run("10_own_system.py", tmp_path, 1).splitlines()
    assert [line.split("(")[0] for line in lines[-3:]] == ["Person"] * 3
    assert (tmp_path / "run" / "weights.pt").exists()


def test_a_server_answers_with_people_and_refuses_what_is_no_photo():
    """One photo a run; the second is none."""
    demo = EXAMPLES.parent / "src" / "kouros" / "data" / "demo" / "people.jpg"
    for photo, status, key in ((demo.read_bytes(), 200, "people"), (b"no photo", 400, "error")):
        command = [sys.executable, str(EXAMPLES / "9_server.py"), "--port", "0", "--workers", "1", "--once"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
            assert serving.stdout is not None
            url = serving.stdout.readline().strip()
            try:
                with urlopen(url, data=photo, timeout=200) as answer:
                    found, content = answer.status, answer.read()
            except HTTPError as error:
                found, content = error.code, error.read()
            assert found == status and json.loads(content)[key]
        assert serving.returncode == 0
