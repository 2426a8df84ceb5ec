"""Synthetic people, a small SPIN trained on them, its score, and what it makes of a photo: the commands, from Python.

python examples/6_train_and_judge.py [OUT] [STEPS]

Two steps teach nothing; they show the way. `kouros train spin --help` has all that can be chosen.
"""

import sys
import tempfile
from pathlib import Path

import kouros
from kouros.cli import main

out = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
steps = sys.argv[2] if len(sys.argv) > 2 else "2"


def command(*words: object) -> None:
    """One line of the command line."""
    print("\n$ kouros", *words)
    if main([str(w) for w in words]) != 0:
        raise SystemExit(1)


if __name__ == "__main__":  # worker processes import this file again
    command("synthesize", "--out", out / "people", "--people", 24, "--workers", 1)
    command(
        "train", "spin", "--data", out / "people", "--out", out / "run", "--backbone", 18, "--crop-size", 64,
        "--batch-size", 8, "--max-steps", steps, "--workers", 0, "--learn-from", "reprojection",
    )  # fmt: skip
    command("evaluate", out / "run", "--on", "table-3d", "--data", out / "people", "--people", 8)
    demo = Path(kouros.__file__).parent / "data" / "demo" / "people.jpg"
    command("reconstruct", demo, "--system", out / "run", "--out", out / "results")
    command("compare", demo, "--systems", "default", out / "run", "--out", out / "results")
