"""``kouros compare``: a picture and a table."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kouros
from kouros.body.keypoints import BLAZEPOSE33
from kouros.cli import main

DEMO = Path(kouros.__file__).parent / "data" / "demo" / "people.jpg"


def test_two_systems_side_by_side(tmp_path: Path, capsys):
    assert main(["compare", str(DEMO), "--systems", "default", "mean-pose", "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "joints apart, mm" in said and "mean-pose" in said
    with Image.open(tmp_path / "people.compare.png") as picture, Image.open(DEMO) as photo:
        assert picture.width > 2 * 600 and photo.width == 960


def test_where_the_truth_is_known_errors_are_told(tmp_path: Path, capsys):
    pytest.importorskip("pyarrow")
    from kouros.data.schema import Sample, TableInfo
    from kouros.data.tables import write_table

    person = kouros.reconstruct(DEMO)[0]
    info = TableInfo("toy", "x", str(DEMO.parent), BLAZEPOSE33, BLAZEPOSE33, "camera")
    space = np.c_[person.keypoints_3d("blazepose33").numpy(), np.ones(33)].astype(np.float32)
    write_table(tmp_path / "t.parquet", info, [Sample(DEMO.name, bbox=person.box.numpy(), keypoints_3d=space)])
    command = ["compare", str(DEMO), "--systems", "default", "mean-pose", "--out", str(tmp_path)]
    assert main([*command, "--truth", str(tmp_path / "t.parquet")]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line.strip()}
    ours, mean = float(rows["default"][-1]), float(rows["mean-pose"][-1])
    assert ours < 60 < mean  # told the box instead of searching, the default is near to itself


def test_nobody_no_system_and_a_system_twice(tmp_path: Path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "black.png")
    assert main(["compare", str(tmp_path / "black.png"), "--systems", "default", "--out", str(tmp_path)]) == 1
    assert "no person was found" in capsys.readouterr().err
    assert main(["compare", str(DEMO), "--systems", "default", "default"]) == 2
    assert "names default twice" in capsys.readouterr().err
    assert main(["compare", str(DEMO), "--systems", "nbf-parts"]) == 1
    assert "no weights of Neural Body Fitting, parts come with kouros" in capsys.readouterr().err
