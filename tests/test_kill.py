"""A share of `benchmarks/kill.py`: commands that are killed leave nothing half-written and can be given again."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pyarrow")

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to kill")
def test_killed_commands_leave_nothing_half_written_and_end_the_same_when_given_again():
    command = [
        sys.executable,
        "kill.py",
        "--kills",
        "2",
        "--seed",
        "1",
        "--commands",
        "import",
        "synthesize",
        "convert",
    ]
    done = subprocess.run(command, cwd=ROOT / "benchmarks", capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [row["command"] for row in rows] == ["import", "synthesize", "convert"], done.stderr
    assert sum(row["at work"] for row in rows) > 0
    assert [row for row in rows if row["must not be"]] == [], done.stderr
