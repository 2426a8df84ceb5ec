"""The house's order: a folder imports those below it, never above, and no more than it says of itself."""

import re
from pathlib import Path

import pytest

import kouros
from house import LEVELS, below, broken_rules, declared

PACKAGE = Path(kouros.__file__).parent


def test_no_import_points_up():
    assert broken_rules(PACKAGE) == []


def test_contributing_lists_the_folders_in_the_house_s_order():
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = re.findall(r"^(\w+)  +\w", text.split("```")[3], flags=re.MULTILINE)
    there = [name for names in LEVELS for name in names if (PACKAGE / name).is_dir()]
    assert listed == there


_READERS = {
    r"np\.load\(": "archives.py",
    r"zipfile\.|ZipFile\(": "archives.py tensors.py",
    r"json\.loads?\(": "documents.py",
    r"torch\.load\(": "tensors.py",
    r"pickle\.(loads?|Unpickler)\(|np\.lib\.format": "archives.py",
    r"loadmat\(": "matlab.py",
    r"Image\.open\(": "images.py",
}
"""How files are opened that may come from strangers, and where alone that is done."""


@pytest.mark.parametrize("pattern", _READERS)
def test_files_of_strangers_are_opened_in_one_place(pattern: str):
    found = [
        f"{file.relative_to(PACKAGE)}: {line.strip()}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.name not in _READERS[pattern].split()
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.search(pattern, line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("from kouros.systems.spin import SpinConfig", "up"),
        ("def late():\n    import kouros.systems.spin", "up, when called"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from kouros.cli import main", "up, for types"),
        ("WHERE = 'kouros.systems.spin:SpinConfig'", "up, by name"),
        ("from kouros.priors.gmm import Gmm", "below, but not what the folder says of itself"),
        ("from kouros import reconstruct", "a public name"),
        ("import kouros", "all public names"),
        ("from . import metrics", "not its whole name"),
    ],
)
def test_a_wrong_import_is_found(source: str, why: str, tmp_path: Path):
    for name in ("systems", "data", "body", "priors", "cli"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('"""One. May import: nothing."""\n')
    (tmp_path / "files.py").write_text("import os\n")
    (tmp_path / "data" / "__init__.py").write_text('"""One.\n\nMay import:\nbody.\n"""\n')
    (tmp_path / "data" / "good.py").write_text("from kouros.body import load_body\nimport kouros.files\nimport cv2\n")
    assert broken_rules(tmp_path) == []
    (tmp_path / "data" / "bad.py").write_text(source)
    (found,) = broken_rules(tmp_path)
    assert found.startswith("data/bad.py:"), why


@pytest.mark.parametrize(
    ("docstring", "words"),
    [
        ("Bodies.", "does not say"),
        ("Bodies. May import: cli.", "not below it"),
        ("Bodies. May import: bodies.", "not below it"),
    ],
)
def test_a_folder_that_says_nothing_or_too_much_of_itself_is_found(docstring: str, words: str, tmp_path: Path):
    (tmp_path / "body").mkdir()
    (tmp_path / "body" / "__init__.py").write_text(f'"""{docstring}"""\n')
    (found,) = broken_rules(tmp_path)
    assert words in found


def test_a_folder_without_a_place_is_found(tmp_path: Path):
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils" / "__init__.py").write_text('"""Odds and ends."""\n')
    assert broken_rules(tmp_path) == ["utils: has no place in the house's order"]


def test_a_module_at_the_root_knows_no_folder(tmp_path: Path):
    (tmp_path / "geometry").mkdir()
    (tmp_path / "geometry" / "__init__.py").write_text('"""Rotations. May import: nothing."""\n')
    (tmp_path / "files.py").write_text("from kouros.geometry import rotations\n")
    assert broken_rules(tmp_path) == ["files.py:1: imports kouros.geometry.rotations"]


def test_a_sub_folder_may_know_less_than_its_parent(tmp_path: Path):
    for name in ("body", "fitting", "fitting/kernels", "fitting/terms"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('"""Fits. May import: nothing."""\n')
    (tmp_path / "fitting/__init__.py").write_text('"""Fits. May import: body."""\n')
    (tmp_path / "fitting/terms/__init__.py").write_text('"""What is weighed. May import: kernels, body."""\n')
    (tmp_path / "fitting/terms/a.py").write_text("from kouros.fitting.kernels import b\nimport kouros.body.lbs\n")
    assert broken_rules(tmp_path) == []
    (tmp_path / "fitting/kernels/b.py").write_text("from kouros.fitting.terms import a\nimport kouros.body.lbs\n")
    assert broken_rules(tmp_path) == [
        "fitting/kernels/b.py:1: imports kouros.fitting.terms.a",
        "fitting/kernels/b.py:2: imports kouros.body.lbs",
    ]


def test_what_a_folder_may_import_is_read_from_its_docstring():
    assert declared(PACKAGE, "geometry") == frozenset()
    assert declared(PACKAGE, "render") == {"body", "geometry"}
    assert declared(PACKAGE, "systems") == below("systems") > {"data", "geometry"}
