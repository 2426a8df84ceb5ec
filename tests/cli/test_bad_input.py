"""Every bad input is answered by one sentence and a status, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kouros.cli import main
from kouros.cli.batch import Done, Job, Reporting, run_jobs


def test_every_bad_photo_gets_one_sentence_and_nothing_is_written(bad_photos, tmp_path: Path, capsys):
    out = tmp_path / "out"
    assert main(["reconstruct", *map(str, bad_photos), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[0] == f"{len(bad_photos)} of {len(bad_photos)} failed:"
    for path, word in bad_photos.items():
        (line,) = [line for line in lines if f"{path}:" in line]
        assert word in line and line.startswith("error: ")
    assert "Traceback" not in printed.err
    assert not out.exists()


def test_json_has_a_line_for_each_photo_and_nothing_else(bad_photos, tmp_path: Path, capsys):
    assert main(["reconstruct", *map(str, bad_photos), "--out", str(tmp_path / "out"), "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["source"] for line in lines} == {str(p) for p in bad_photos}
    assert all(line["error"] and line["outputs"] == [] and line["people"] == 0 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["reconstruct"], "no photo"),
        (["reconstruct", "a.jpg", "--focal-length", "-5"], "--focal-length"),
        (["reconstruct", "a.jpg", "--focal-length", "nan"], "--focal-length"),
        (["reconstruct", "a.jpg", "--max-people", "0"], "--max-people"),
        (["reconstruct", "a.jpg", "--keypoints", "k.json", "--boxes", "0", "0", "9", "9"], "one of them"),
        (["reconstruct", "a.jpg", "b.jpg", "--boxes", "0", "0", "9", "9"], "one photo"),
        (["reconstruct", "a.jpg", "--body", "missing.pkl"], "missing.pkl"),
        (["reconstruct", "a.jpg", "--format", "fbx"], "fbx"),
        (["reconstruct", "a.jpg", "--boxes", "1", "2", "3"], "boxes"),
        (["fit", "k.json", "--image-size", "0", "5"], "--image-size"),
        (["fit", "k.json", "--focal-length", "1e300"], "--focal-length must be 1 to 10,000,000 pixels"),
        (["fit", "k.json", "--camera", "1e300", "1e300", "3", "4"], "focal length must be 1 to 10,000,000 pixels"),
        (["fit", "k.json", "--camera", "900", "900", "1e30", "4"], "principal point"),
        (["fit", "k.json", "--keypoint-set", "body26"], "halpe26"),
        (["nothing"], "nothing"),
        ([], "subcommand"),
    ],
)
def test_options_that_make_no_sense_end_with_status_two(arguments: list[str], word: str, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert word in (printed.err + printed.out) and "Traceback" not in printed.err


def test_out_that_is_a_file_is_refused(tmp_path: Path, capsys):
    (tmp_path / "out").write_bytes(b"mine")
    assert main(["reconstruct", "a.jpg", "--out", str(tmp_path / "out")]) == 2
    assert "is a file" in capsys.readouterr().err


NUMBERS = [100.0, 100.0, 0.9] * 25
BAD_KEYPOINTS = {
    "shape": json.dumps({"people": [{"pose_keypoints_2d": NUMBERS[:-1]}]}),
    "nan": json.dumps({"people": [{"pose_keypoints_2d": [float("nan"), *NUMBERS[1:]]}]}),
    "texts": json.dumps({"people": [{"pose_keypoints_2d": ["x"] * 75}]}),
    "nobody": json.dumps({"people": []}),
    "no_json": "{",
    "other_json": "[1, 2]",
    "empty": "",
    "coco_shape": json.dumps(
        {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "keypoints": [1, 2]}]}
    ),
}


@pytest.mark.parametrize("kind", [*BAD_KEYPOINTS, "missing"])
def test_a_bad_keypoint_file_gets_one_sentence(kind: str, tmp_path: Path, capsys):
    path, out = tmp_path / f"{kind}.json", tmp_path / "out"
    if kind in BAD_KEYPOINTS:
        path.write_text(BAD_KEYPOINTS[kind])
    assert main(["fit", str(path), "--image-size", "640", "480", "--out", str(out)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and path.name in line and "unexpected" not in line
    assert not out.exists()


def test_a_photo_without_a_person_says_what_to_try(tmp_path: Path, capsys):
    photo = tmp_path / "wall.png"
    Image.fromarray(np.full((200, 300, 3), 180, np.uint8)).save(photo)
    assert main(["reconstruct", str(photo), "--out", str(tmp_path / "out"), "--quiet"]) == 1
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if line.startswith("error:")]
    assert "no person" in line and "--boxes" in line and printed.out == ""
    assert not (tmp_path / "out").exists()


def test_a_file_name_that_is_no_text_is_still_answered(tmp_path: Path, capsys):
    strange = str(tmp_path) + "/[red]\udcff\n.jpg"
    assert main(["reconstruct", strange, "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no such file" in line


def test_the_program_itself_fails_without_a_traceback(tmp_path: Path):
    ran = subprocess.run(
        [sys.executable, "-m", "kouros", "reconstruct", str(tmp_path / "missing.jpg")],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == [f"error: {tmp_path}/missing.jpg: there is no such file."]
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_that_a_job_turns_into_another_error_ends_the_work_all_the_same(capsys):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells leave it ignored where they start jobs aside
    begun = []

    def swallows_it() -> Done:
        begun.append("first")
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise RuntimeError("from far below") from None
        return Done(0, ())

    def second() -> Done:
        begun.append("second")
        return Done(0, ())

    jobs = [Job(Path("0.jpg"), swallows_it), Job(Path("1.jpg"), second)]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, Reporting())
    assert begun == ["first"] and "far below" not in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_an_interrupt_ends_with_130_and_leaves_no_part(portrait: Path, tmp_path: Path):
    photos = tmp_path / "in"
    photos.mkdir()
    for i in range(200):
        (photos / f"{i}.jpg").symlink_to(portrait)
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "kouros", "reconstruct", str(photos), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not (out / "1.json").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "interrupted" in err
    assert list(out.glob(".kouros-*")) == []


def test_a_folder_that_takes_no_files_is_refused_before_anything_is_computed(tmp_path: Path, capsys):
    (tmp_path / "file").write_text("x")
    out = tmp_path / "file" / "out"
    for command in (["reconstruct", "a.jpg"], ["fit", "k.json"]):
        assert main([*command, "--out", str(out)]) == 2
        assert "nothing can be written there" in capsys.readouterr().err
    assert main(["fit", "k.json", "--out", str(tmp_path / "new" / "out")]) == 1
    assert not (tmp_path / "new").exists()  # trying leaves nothing


def test_a_body_that_cannot_place_the_points_is_refused_before_anything_is_computed(tmp_path: Path, capsys):
    """Sixty vertices are a body, but of a mesh on which no keypoint set has its places."""
    rng = np.random.default_rng(0)
    parents = [2**32 - 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
    shares = rng.dirichlet(np.ones(24), 60)
    arrays = {
        "v_template": rng.uniform(-1, 1, (60, 3)), "shapedirs": rng.normal(0, 0.01, (60, 3, 10)),
        "posedirs": np.zeros((60, 3, 207)), "J_regressor": rng.dirichlet(np.ones(60), 24), "weights": shares,
        "f": rng.integers(0, 60, (99, 3)), "kintree_table": np.array([parents, range(24)]),
    }  # fmt: skip
    body = tmp_path / "sixty.npz"
    np.savez(body, **arrays)
    photo, out = tmp_path / "a.png", tmp_path / "out"
    Image.new("RGB", (64, 64)).save(photo)
    assert main(["reconstruct", str(photo), "--body", str(body), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --body {body}: This body cannot place the keypoint set 'openpose25'")
    keypoints = tmp_path / "k.json"
    keypoints.write_text(json.dumps({"people": [{"pose_keypoints_2d": rng.uniform(9, 90, 75).tolist()}]}))
    assert main(["fit", str(keypoints), "--image-size", "99", "99", "--body", str(body), "--out", str(out)]) == 1
    assert "This body cannot place the keypoint set 'openpose25'" in capsys.readouterr().err
