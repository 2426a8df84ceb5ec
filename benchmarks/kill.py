"""What is left when a command is killed? Nothing half-written, and the same command then ends as if it had not been.

    python benchmarks/kill.py --kills 10 --seed 0

Runs each long command once to its end. Then, again and again, begins it anew, kills it and all its processes
(kill -9) at a random moment, looks at what lies there, and gives the same command again. Prints, command by command,
how many kills fell before its end, how many found finished files, and what must not be: a file under its final name
that is not the finished one, a second run that fails, results that differ from those of the run that was not
killed, something of the killed run that stays.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import show

_OLD = 7200.0
"""Seconds by which what a killed run was writing is made older: younger files may be another process's."""


@dataclass(frozen=True)
class Command:
    """One command: its arguments but --out, and which files are its results."""

    arguments: Sequence[str]
    results: tuple[str, ...] = ("*",)
    """Patterns of names; those of a training run are its weights, whose log also says when."""
    by_value: bool = False
    """Files of tensors, which are compared as such."""
    once: bool = False
    """It refuses to write over what it has finished."""


def _commands(work: Path) -> dict[str, Command]:
    """Every long command, on small inputs that are made in a folder."""
    photos, people, bank = work / "people" / "images", work / "people", work / "poses" / "bank.npz"
    _kouros("synthesize", "--people", "40", "--size", "192", "--images", "--workers", "1", "--out", str(people))
    photos = _few(photos, work / "photos", 4)
    _write_poses(bank)
    _write_checkpoint(work / "spin.pt")
    _write_coco(work / "coco" / "people.json")
    small = "--network.width 16 --network.refiner-width 16 --network.refiner-blocks 1 --network.blocks 1"
    pace = "--batch-size 4 --checkpoint-every 3 --log-every 10 --validate-every 1000 --pictures-every 0 --workers 0"
    ik = f"train best-of-both-worlds-ik --data {bank} --max-steps 60 {pace} {small} --resume"
    return {
        "reconstruct": Command(["reconstruct", str(photos), "--no-tiles"]),
        "import": Command(["import", "coco", str(work / "coco" / "people.json")]),
        "synthesize": Command(["synthesize", "--people", "300", "--size", "48", "--images", "--workers", "2"]),
        "train": Command(ik.split(), ("weights.pt",), by_value=True),
        "evaluate": Command(["evaluate", "mean-pose", "--on", "table-3d", "--data", str(people)]),
        "convert": Command(["models", "convert", str(work / "spin.pt")], by_value=True, once=True),
    }


def _few(folder: Path, to: Path, count: int) -> Path:
    to.mkdir()
    for file in sorted(folder.rglob("*.jpg"))[:count]:
        shutil.copy(file, to)
    return to


def _write_poses(path: Path) -> None:
    rng = np.random.default_rng(0)
    path.parent.mkdir()
    split = np.array(["train"] * 180 + ["val"] * 20)
    np.savez(path, poses=rng.normal(0, 0.2, (200, 72)).astype(np.float32), split=split)


def _write_checkpoint(path: Path) -> None:
    import torch

    from kouros.networks.hmr_regressor import HmrRegressor
    from kouros.networks.resnet import ResNet

    torch.manual_seed(0)
    torch.save({"model": ResNet(50).state_dict() | HmrRegressor(2048).state_dict()}, path)


def _write_coco(path: Path, people: int = 30_000) -> None:
    from PIL import Image

    path.parent.mkdir()
    Image.new("RGB", (64, 48)).save(path.parent / "a.png")
    keypoints = [n for k in range(17) for n in (5 + 2 * k, 5 + k, 2)]
    one = {"image_id": 1, "category_id": 1, "bbox": [4, 4, 30, 30], "keypoints": keypoints}
    pictures = [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}]
    path.write_text(json.dumps({"images": pictures, "annotations": [one | {"id": k} for k in range(people)]}))


def _kouros(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "kouros", *arguments], check=True, capture_output=True)


# --- One command, killed ------------------------------------------------------------------------------------------


def _begun(command: Command, out: Path) -> subprocess.Popen[bytes]:
    # Results may say what they were asked for, so it is the same of all.
    arguments = [sys.executable, "-m", "kouros", *command.arguments, "--out", out.name]
    out.parent.mkdir(parents=True, exist_ok=True)
    # The group of its own is what is killed, so that its workers are too.
    return subprocess.Popen(
        arguments, cwd=out.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def _content(command: Command) -> Callable[[Path], object]:
    if not command.by_value:
        return Path.read_bytes
    from kouros.tensors import load_tensors

    def content(path: Path) -> object:
        return path.read_bytes() if path.suffix != ".pt" else str(load_tensors(path))

    return content


def _results(command: Command, out: Path) -> dict[str, Path]:
    """What lies under final names."""
    files = [file for pattern in command.results for file in out.rglob(pattern) if file.is_file()]
    named = {file.relative_to(out): file for file in files}
    return {str(name): file for name, file in named.items() if not any(p.startswith(".") for p in name.parts)}


def _left(out: Path) -> list[str]:
    """What no finished run leaves: hidden files and folders."""
    return [str(p.relative_to(out)) for p in out.rglob(".*")]


def _killed(command: Command, out: Path, after: float) -> bool:
    """Begin a command and kill it; whether it was still at work."""
    process = _begun(command, out)
    time.sleep(after)
    at_work = process.poll() is None
    if at_work:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return at_work


def trial(command: Command, wanted: dict[str, object], out: Path, after: float) -> dict[str, object]:
    """Kill a command once, so many seconds after its start, and give it again."""
    content = _content(command)
    at_work = _killed(command, out, after)
    faults: list[str] = []
    finished = whole = 0
    for name, file in _results(command, out).items():
        try:
            finished += 1
            if name not in wanted:
                faults.append(f"{name} is no file of a finished run")
            # A training run's weights are those of its newest checkpoint until its end.
            elif content(file) == wanted[name]:
                whole += 1
            elif "train" not in command.arguments:
                faults.append(f"{name} was not whole when the command was killed")
        except (OSError, ValueError) as error:
            faults.append(f"{name} could not be read when the command was killed: {error}")
    for file in out.rglob(".kouros-*.part"):
        os.utime(file, (time.time() - _OLD,) * 2)
    if command.once and whole == len(wanted):
        return {"at work": at_work, "finished": finished, "faults": faults}
    again = _begun(command, out)
    said = again.communicate()[1].decode(errors="replace")
    if again.returncode:
        faults.append(f"the second run failed: {said.strip().splitlines()[-1:]}")
    else:
        made = {name: content(file) for name, file in _results(command, out).items()}
        faults += [f"{n} differs or is missing" for n in sorted(wanted.keys() | made) if made.get(n) != wanted.get(n)]
        faults += [f"{name} stays" for name in _left(out)]
    return {"at work": at_work, "finished": finished, "faults": faults}


def campaign(names: Sequence[str], kills: int, seed: int, work: Path) -> list[dict[str, object]]:
    """Rows of the table."""
    commands, rng, rows = _commands(work), np.random.default_rng(seed), []
    for name in names or commands:
        command = commands[name]
        whole = work / name / "whole" / "out"
        begun = time.perf_counter()
        process = _begun(command, whole)
        said = process.communicate()[1].decode(errors="replace")
        seconds = time.perf_counter() - begun
        if process.returncode:
            raise SystemExit(f"{name} fails when it is not killed: {said}")
        wanted = {key: _content(command)(file) for key, file in _results(command, whole).items()}
        counts: Counter[str] = Counter()
        for number in range(kills):
            # Its end is where files appear; commands spend their first second on imports.
            after = float(rng.uniform(0.3, 1.0)) * seconds
            seen = trial(command, wanted, work / name / f"{number:05}" / "out", after)
            shutil.rmtree(work / name / f"{number:05}")
            counts["at work"] += bool(seen["at work"])
            counts["with results"] += bool(seen["at work"] and seen["finished"])
            for fault in seen["faults"]:  # type: ignore[attr-defined]
                counts["must not be"] += 1
                print(json.dumps({"command": name, "after": round(after, 2), "fault": fault}), file=sys.stderr)
        row: dict[str, object] = {"what": "Killed commands", "command": name, "files": len(wanted), "kills": kills}
        row |= {key: counts[key] for key in ("at work", "with results", "must not be")}
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """The campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="*", default=[], help="some of them, by name")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        rows = campaign(options.commands, options.kills, options.seed, Path(work))
    show(rows)
    sys.exit(any(row["must not be"] for row in rows))


if __name__ == "__main__":
    main()
