"""The pages are all listed, the commands of "own data" run as they stand, and the Dockerfile is sound."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kouros.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"(?:`(?P<file>[\w.]+)`[^`]*)?```(?P<kind>\w+)\n(?P<text>.*?)```", re.DOTALL)


def test_every_page_is_in_the_index():
    listed = (DOCS / "index.md").read_text().split("\n")
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages <= set(listed) and {"results/*", "api/*"} <= set(listed)


def test_modules_of_the_reference_exist():
    named = [m for page in (DOCS / "api").glob("*.md") for m in re.findall(r"automodule:: (\S+)", page.read_text())]
    places = [ROOT / "src" / Path(*name.split(".")) for name in named]
    assert len(named) > 20 and all(place.with_suffix(".py").exists() or place.is_dir() for place in places)


def test_the_commands_of_own_data_run_as_they_stand(tmp_path: Path, monkeypatch, capsys):
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)
    commands = 0
    for block in _BLOCK.finditer((DOCS / "own_data.md").read_text()):
        kind, text = block["kind"], block["text"]
        if kind == "python":
            exec(compile(text, "own_data.md", "exec"), {})
        elif kind == "sh":
            for line in text.splitlines():
                program, *words = shlex.split(line)
                assert program == "kouros" and main(words) == 0, capsys.readouterr().err
                commands += 1
        else:
            Path(block["file"]).write_text(text)
    assert commands == 2 and (tmp_path / "fitted" / "people.glb").exists()
    assert "mine train: 1 people" in capsys.readouterr().out


def test_the_dockerfile_is_sound():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint:
        done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    steps = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines() if line and line[0].isupper()]
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [source for step in steps if step[0] == "COPY" for source in step[1:-1]]
    assert steps[0][0] == "FROM" and ":" in steps[0][1]
    assert set(copied) == set(kept)
    assert all((ROOT / source).exists() for source in copied)
    users = [step[1] for step in steps if step[0] == "USER"]
    assert users and users[-1] != "0"


@pytest.mark.slow
def test_pages_and_reference_build_without_a_warning(tmp_path: Path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", DOCS, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "reconstruct" in (tmp_path / "api" / "1_kouros.html").read_text()
