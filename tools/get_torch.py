"""Installs torch where there is none yet, as small as the package index allows, and says what is large beforehand.

    .venv/bin/python tools/get_torch.py            # into the environment of this Python
    .venv/bin/python tools/get_torch.py --dry-run  # only says what would be done

A torch that is there is kept. With an NVIDIA GPU it is torch as the index has it, else the release of constraints.txt:
as a build for CPUs (+cpu) where the index has one. Of anything else it says first how much there is to download.
"""

import argparse
import importlib.metadata
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
LARGE = 1e9
SMALL = (
    "small are PyTorch's own builds for CPUs (pytorch.org/get-started says how; uv: pip install torch --torch-backend "
    "cpu); install one first, and it is kept"
)


def _pip(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", *arguments]


def _size(url: str) -> int:
    """Bytes of a file to download; 0 where nobody says."""
    if url.startswith("file://"):
        return Path(urllib.request.url2pathname(url.removeprefix("file://"))).stat().st_size
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10) as answer:
            return int(answer.headers.get("Content-Length", 0))
    except (OSError, ValueError):
        return 0


def _download(what: str) -> tuple[int, int, int]:
    """Packages that installing would download, how many of them are CUDA's, and bytes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        subprocess.run(_pip("--dry-run", "--report", str(report), what), check=True)
        entries = json.loads(report.read_text())["install"]
    cuda = sum(entry["metadata"]["name"].lower().startswith(("nvidia", "cuda", "triton")) for entry in entries)
    return len(entries), cuda, sum(_size(entry["download_info"]["url"]) for entry in entries)


def main() -> int:
    """Do it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    options = parser.parse_args()
    try:
        print(f"torch {importlib.metadata.version('torch')} is there and is kept.")
        return 0
    except importlib.metadata.PackageNotFoundError:
        pass
    lines = [line.split("#")[0].strip() for line in CONSTRAINTS.read_text().splitlines()]
    wanted = "torch" if shutil.which("nvidia-smi") else next(line for line in lines if line.startswith("torch"))
    if wanted != "torch":
        small = subprocess.run(
            _pip("--dry-run", "--no-deps", "--no-build-isolation", f"{wanted}+cpu"), capture_output=True, check=False
        )
        if small.returncode == 0:
            wanted += "+cpu"
    packages, cuda, size = _download(wanted)
    print(f"{wanted}: {packages} packages, {size / 1e9:.1f} GB to download, several times that on disk.", flush=True)
    if cuda and not shutil.which("nvidia-smi") and size > LARGE:
        print(f"{cuda} of them are for NVIDIA's GPUs, and this machine shows none: {SMALL}.", flush=True)
    return 0 if options.dry_run else subprocess.run(_pip(wanted), check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
