"""Trains the default's weights from nothing: draws people, learns depths of joints, then the start, and judges them.

    .venv/bin/python tools/train_default.py --mocap MOCAP --out runs/default [--wardrobe ASSETS] [--times 10]

MOCAP is a folder with diverse_frames.npz, ASSETS one of MakeHuman's garments (docs/synthetic.md). Everything has a seed
and a number of steps; what is done already is not done again, and what was broken off goes on, so call it as often as
needed. --times makes it so many times as large: people and steps. Leaves joint_depths.npz and lifter.npz in --out, and
prints what each step took. docs/results/learned_start.md says what comes out.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

PEOPLE, HELD_OUT = 16_000, 1_000
DEPTH_STEPS, START_STEPS = 4_000, 6_000
_BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "learned_start.py"


def run(command: Sequence[str | Path], done: Path | None = None) -> None:
    """One step, but where its result is there; ends the program where it fails."""
    if done is not None and done.exists():
        return
    start = time.monotonic()
    if subprocess.run([str(word) for word in command], check=False).returncode:
        sys.exit(f"This failed: {' '.join(map(str, command))}; call me again to go on.")
    print(
        json.dumps({"step": " ".join(map(str, command[1:4])), "seconds": round(time.monotonic() - start)}), flush=True
    )


def main() -> None:
    """Step after step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mocap", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--wardrobe", type=Path)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--accelerator", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    out, kouros = given.out, Path(sys.executable).with_name("kouros")
    drawn = ["--mocap", given.mocap, "--size", "288", "--detections", "--features", "--workers", given.workers]
    dressed = [] if given.wardrobe is None else ["--wardrobe", given.wardrobe]
    wide = ["--athletic", "0.25", "--people", PEOPLE * given.times]
    held = ["--split", "val", "--people", HELD_OUT, "--seed", "1"]
    sets = {"people": [*wide, *dressed, "--seed", "280001"], "held_out": held}
    for name, options in sets.items():
        run([kouros, "synthesize", "--out", out / name, *drawn, *options])
    people, held_out = out / "people" / "detections", out / "held_out" / "detections"
    shared = ["--val", held_out, "--resume", "--accelerator", given.accelerator]
    depths, start = out / "depths", out / "lifter"
    steps = ["--max-steps", DEPTH_STEPS * given.times]
    run([kouros, "train", "depths", "--data", people, *shared, *steps, "--out", depths], out / "joint_depths.npz")
    run([kouros, "models", "pack", depths, "--out", out / "joint_depths.npz"], out / "joint_depths.npz")
    data = [given.mocap / "diverse_frames.npz", people]
    steps = ["--max-steps", START_STEPS * given.times, "--athletic", "0.25"]
    run([kouros, "train", "lifter", "--data", *data, *shared, *steps, "--out", start], out / "lifter.npz")
    run([kouros, "models", "pack", start, "--out", out / "lifter.npz"], out / "lifter.npz")
    run([sys.executable, _BENCHMARK, held_out, out / "lifter.npz"])


if __name__ == "__main__":
    main()
