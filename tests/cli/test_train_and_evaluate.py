"""The commands one after the other, as a visitor would: people made, a system trained on them, and judged."""

import json
import math
from pathlib import Path

import pytest

pytest.importorskip("lightning")

from kouros.cli import main


def test_synthetic_people_become_a_trained_system_and_its_scores(tmp_path: Path, capsys):
    people, run = str(tmp_path / "people"), str(tmp_path / "run")
    assert main(["synthesize", "--out", people, "--people", "8", "--size", "64", "--workers", "1"]) == 0
    small = ["--backbone", "18", "--crop-size", "64", "--batch-size", "2", "--workers", "0", "--max-steps", "2"]
    assert main(["train", "spin", "--data", people, "--out", run, *small]) == 0
    assert "trained: 2 steps" in capsys.readouterr().out
    assert main(["evaluate", run, "--on", "table-3d", "--data", people, "--people", "2", "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert judged["estimator"] == "run" and judged["counts"]["scored"] == 2
    assert 0 < judged["scores"]["pa_mpjpe"]["value"] < judged["scores"]["mpjpe"]["value"] < math.inf
