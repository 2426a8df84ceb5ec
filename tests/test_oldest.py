"""`make test-oldest` tries what pyproject.toml promises: the lowest release of each package."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_oldest_releases_are_those_that_are_promised():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"]]
    for extra in ("train", "heic", "video", "usd"):
        needed += project["optional-dependencies"][extra]
    promised = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", need).groups() for need in needed)
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    tried = dict(re.fullmatch(r"([\w-]+)==([\d.]+?)(?:\.\*)?", line).groups() for line in lines if line[0] != "#")
    assert tried == promised
