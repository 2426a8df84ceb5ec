"""A share of `benchmarks/fuzz.py`: damaged files of every kind are read or refused, never more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("av")

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_six_hundred_damaged_files_are_read_or_refused():
    command = [sys.executable, "fuzz.py", "--inputs", "640", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(rows) == 16 and sum(row["inputs"] for row in rows) == 640, done.stderr
    assert [row for row in rows if row["must not be"]] == [], done.stderr
    assert all(row["refused"] for row in rows)
