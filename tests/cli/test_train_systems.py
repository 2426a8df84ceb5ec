"""`kouros train spin` and `kouros train hkmr`, from a table of photos to a system that predicts."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("lightning")

from kouros.body.keypoints import SPIN49
from kouros.cli import main
from kouros.data.schema import Sample, TableInfo
from kouros.data.tables import write_table
from kouros.training.runs import load_run

_SMALL = ["--backbone", "18", "--crop-size", "64", "--batch-size", "2", "--workers", "0", "--max-steps", "2"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory, free_body) -> Path:
    """Four noisy photos of the body at rest, the last of which is missing."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))[None]
    points = free_body.keypoint_positions("spin49", global_orient=upright, pose2rot=False)[0].numpy()
    samples = []
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (100, 100, 3)).astype(np.uint8)).save(folder / f"{number}.png")
        flat = np.concatenate([50 + 40 * points[:, :2], np.ones((49, 1))], axis=1)
        space = np.concatenate([points, np.ones((49, 1))], axis=1)
        box = {"box_center": np.array([50.0, 50.0]), "box_size": 100.0}
        samples.append(Sample(f"{number}.png", keypoints_2d=flat, keypoints_3d=space, **box))
    info = TableInfo("toy", "train", str(folder), SPIN49, SPIN49, "root")
    write_table(folder / "toy.parquet", info, samples)
    (folder / "3.png").unlink()
    return folder / "toy.parquet"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*3.png")
@pytest.mark.parametrize("system", ["spin", "hkmr"])
def test_a_table_becomes_a_system_that_predicts(table: Path, tmp_path: Path, capsys, system: str):
    command = ["train", system, "--data", str(table), "--out", str(tmp_path / "run"), "--val", str(table)]
    assert main([*command, *_SMALL]) == 0
    said = capsys.readouterr()
    assert said.out.count("\n") == 1 and said.out.startswith("trained: 2 steps")
    assert "PA-MPJPE" in said.out and "(best)" in said.err
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["system"] == system and config["config"]["backbone"] == 18
    assert config["config"]["crop_size"] == 64 and config["config"]["augment"]["flipped"] == 0.5
    bodies = load_run(tmp_path / "run", which="best").predict(torch.rand(3, 3, 64, 64)).bodies
    assert bodies.pose.shape == (3, 72)

    assert main([*command, *_SMALL]) == 1
    assert "add --resume" in capsys.readouterr().err
    assert main([*command, *_SMALL, "--resume"]) == 0
    assert "complete already" in capsys.readouterr().out
    assert main([*command, *_SMALL, "--resume", "--seed", "3"]) == 1
    assert "--seed 0, now asked for 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["--data", "missing.parquet"], 1, "there is no such annotation table"),
        (["--ratios", "0.3"], 2, "--ratios has 1 numbers for 2 data sets"),
        (["--ratios", "0", "0"], 2, "not all 0"),
        (["--augment.scale.limit", "2"], 2, "scale"),
        (["--ema", "1"], 2, "--ema must be at least 0 and below 1"),
        (["--backbone", "19"], 2, "backbone"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, capsys, arguments: list, status: int, word: str):
    data = [] if "--data" in arguments else ["--data", "a.parquet", "b.parquet"]
    command = ["train", "spin", *data, "--out", str(tmp_path), "--max-steps", "1", *arguments]
    assert main(command) == status
    assert word in capsys.readouterr().err


def test_the_systems_own_options_are_the_commands(capsys):
    assert main(["train", "spin", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(
        option in said
        for option in ("--learn-from", "--start.backbone", "--weights.pose", "--max-steps", "--augment.flipped")
    )


def test_other_commands_do_not_load_systems():
    """Torch takes seconds to load, and `kouros --help` answers at once."""
    code = "import sys, kouros.cli; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
