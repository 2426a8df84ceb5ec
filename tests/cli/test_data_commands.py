"""Importing, looking at tables and training priors, as commands."""

import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import get_args

import docstring_parser
import numpy as np
import pytest
from PIL import Image

import kouros
from kouros.body.keypoints import COCO17
from kouros.cli import main
from kouros.cli.importing import IMPORTERS
from kouros.cli.train import Prior

pytest.importorskip("pyarrow")


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """A COCO file of two people in one black picture, and one in a picture that is missing."""
    Image.new("RGB", (200, 100)).save(tmp_path / "black.png")
    people = []
    for number, picture in enumerate((1, 1, 2)):
        points = [[20 + 8 * number + i, 30 + 2 * i, 2 if i % 2 else 1] for i in range(17)]
        points[3] = [0, 0, 0]
        person = {"id": number, "image_id": picture, "bbox": [10, 20, 60, 70], "num_keypoints": 16}
        people.append(person | {"category_id": 1, "keypoints": np.ravel(points).tolist()})
    pictures = [
        {"id": i, "file_name": name, "width": 200, "height": 100} for i, name in ((1, "black.png"), (2, "gone.png"))
    ]
    (tmp_path / "coco.json").write_text(json.dumps({"images": pictures, "annotations": people}))
    return tmp_path / "coco.json"


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_explains_each_of_its_own_options(name: str, capsys):
    assert main(["import", name, "--help"]) == 0
    said = " ".join(re.sub("[│`]", " ", capsys.readouterr().out).split())
    home, _, function = IMPORTERS[name][0].partition(":")
    importer = getattr(import_module(f"kouros.data.{home}"), function)
    explained = {p.arg_name: p.description for p in docstring_parser.parse(inspect.getdoc(importer)).params}
    assert explained.keys() == inspect.signature(importer).parameters.keys()
    for option, text in explained.items():
        assert option == "source" or f"--{option.replace('_', '-')}" in said
        assert " ".join(text.replace("`", " ").split()) in said


def test_the_list_of_data_sets_needs_no_package_but_tyro():
    code = (
        "import sys; from kouros.cli import main; main(['import', '--help']); "
        "sys.exit(bool({'torch', 'numpy', 'pyarrow', 'scipy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and all(name in ran.stdout for name in IMPORTERS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lsp", ".", "--out", "x", "--stride", "2"], ["Unrecognized", "--stride"]),
        (["cmu", ".", "--out", "x", "--split", "a"], ["Unrecognized", "--split"]),
        (["coco", ".", "--out", "x", "--turned", "3"], ["Unrecognized", "--turned"]),
        (["openpose", "x.parquet", "--out", "x"], ["Missing", "--detections"]),
        (["lsp", "."], ["Missing", "--out"]),
        (["lspp", ".", "--out", "x"], ["lspp", "lsp-extended"]),
    ],
)
def test_options_that_a_data_set_has_not_or_lacks_are_refused(arguments: list, words: list, tmp_path: Path, capsys):
    assert main(["import", *arguments]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words) and "Traceback" not in said


def test_a_wrong_option_is_named_where_the_extra_is_missing_too(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["body", "info", "--tpyo"]) == 2
    assert "--tpyo" in capsys.readouterr().err


def test_every_prior_that_can_be_trained_can_be_named():
    from kouros.priors.training.commands import TRAINERS

    with_names = Prior.__dataclass_fields__["name"].type
    assert set(get_args(get_args(with_names)[0])) == set(TRAINERS)


def test_an_import_says_what_it_wrote_and_what_it_left_out(coco: Path, tmp_path: Path, capsys):
    assert main(["import", "coco", str(coco), "--out", str(tmp_path / "out"), "--split", "mine"]) == 0
    said = capsys.readouterr()
    assert "coco_mine.parquet: 2 rows, 1 left out" in said.out
    assert "gone.png" in said.err and said.err.count("\n") == 1


def test_info_counts_fields_and_draws_people(coco: Path, tmp_path: Path, capsys):
    main(["import", "coco", str(coco), "--out", str(tmp_path / "out")])
    capsys.readouterr()
    assert main(["data", "info", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    rows = {words[0]: words[1:] for line in said.splitlines() if (words := line.split())}
    assert rows["keypoints_2d"] == ["2", "100", "%"]
    assert "pose" not in rows
    assert rows["16"][0] == "2"  # annotated keypoints: both people have 16
    sheet = np.asarray(Image.open(next((tmp_path / "out").glob("coco_*.png"))))
    assert sheet.shape == (256, 512, 3)
    assert (sheet == [255, 220, 0]).all(axis=-1).sum() > 500  # the square boxes' outlines


def test_a_keypoint_is_drawn_where_it_is(tmp_path: Path):
    from kouros.data.inspection import contact_sheet
    from kouros.data.schema import Sample, TableInfo
    from kouros.data.tables import AnnotationTable, write_table

    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[40, 20] = 255
    Image.fromarray(pixels).save(tmp_path / "dot.png")
    keypoints = np.zeros((17, 3))
    keypoints[5] = 20.5, 40.5, 1.0  # the centre of the white pixel
    box = {"box_center": np.array([32.0, 32.0]), "box_size": 64 / 1.25}
    bare = Sample("dot.png", **box)
    drawn = Sample("dot.png", keypoints_2d=keypoints, **box)
    info = TableInfo("toy", "test", str(tmp_path), COCO17)
    sheets = []
    for name, sample in (("bare", bare), ("drawn", drawn)):
        write_table(tmp_path / name, info, [sample])
        sheets.append(contact_sheet(AnnotationTable(tmp_path / name), side=256).astype(int))
    below_the_number = np.array([30, 0])
    photo = np.argwhere((sheets[0][30:] > 100).all(axis=-1)) + below_the_number
    point = np.argwhere((sheets[1] != sheets[0]).any(axis=-1))
    np.testing.assert_allclose(point.mean(axis=0), photo.mean(axis=0), atol=0.75)  # tile pixels: 1/4 of the photo's
    left = sheets[1][tuple(point.mean(axis=0).round().astype(int))]
    assert left[0] > left[2]  # a left keypoint is red


def test_a_table_becomes_spins_file_and_is_drawn_alike_again(coco: Path, tmp_path: Path, capsys):
    main(["import", "coco", str(coco), "--out", str(tmp_path / "out"), "--split", "val"])
    assert main(["data", "spin-npz", str(tmp_path / "out"), "--out", str(tmp_path / "spin")]) == 0
    assert f"2 rows; imgname is relative to {tmp_path}" in capsys.readouterr().out
    file = str(tmp_path / "spin/coco_val.npz")
    arguments = ["--images", str(tmp_path), "--dataset", "coco", "--split", "val", "--out", str(tmp_path / "again")]
    assert main(["import", "spin-npz", file, *arguments]) == 0
    for folder in ("out", "again"):
        assert main(["data", "info", str(tmp_path / folder)]) == 0
    first, again = (np.asarray(Image.open(tmp_path / f / "coco_val.png")).astype(int) for f in ("out", "again"))
    # The legs' lines, which are of the side's colour, are there in both.
    red = [(np.abs(sheet - [255, 96, 64]).max(axis=-1) < 40).sum() for sheet in (first, again)]
    assert red[1] > 0.8 * red[0] > 0


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["import", "coco", "missing", "--out", "x"], 1, "person_keypoints_train2017.json"),
        (["import", "cmu", ".", "--out", "x", "--source-rate", "-60"], 2, "--source-rate must be a positive number"),
        (["import", "pose-bank", ".", "--out", "x"], 1, "expected <motion>.npz"),
        (["import", "mpi-inf-3dhp-train", ".", "--out", "x", "--cameras", "0", "14"], 1, "it has 0 to 13"),
        (["import", "human36m", ".", "--out", "x", "--stride", "0"], 2, "at least 1"),
        (["data", "info", "."], 2, "no .parquet file"),
        (["data", "info", "missing.parquet"], 1, "no such annotation table"),
        (["data", "info", ".", "--people", "0"], 2, "at least 1"),
        (["train", "prior", "gmm", "--mocap", "missing", "--out", "x.npz"], 2, "no such folder"),
        (["train", "prior", "gmm", "--mocap", ".", "--out", "x.npz"], 1, "error: "),
        (["train", "lifter", "--data", "missing.npz", "--out", "x", "--max-steps", "0"], 2, "must be at least 1"),
        (["train", "lifter", "--data", "missing.npz", "--out", "x"], 1, "missing.npz"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    arguments: list[str], status: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    said = capsys.readouterr().err
    assert word in said and said.startswith("error: ") and said.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("arguments", [["import", "coco", ".", "--out", "x"], ["data", "info", "x.parquet"]])
def test_without_the_extra_the_sentence_names_it(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(kouros, "data", kouros.data)  # what is imported anew must not stay there
    for name in [n for n in sys.modules if n.split(".")[0] == "pyarrow" or n.startswith("kouros.data")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(arguments) == 1
    assert "kouros[train]" in capsys.readouterr().err


def test_a_prior_is_trained_from_motion_capture(samples: Path, tmp_path: Path, capsys):
    out = tmp_path / "limits.npz"
    assert main(["train", "prior", "limits", "--mocap", str(samples / "mocap"), "--out", str(out)]) == 0
    with np.load(out) as arrays:
        assert (arrays["lower"] <= arrays["upper"]).all() and arrays["lower"].shape == (69,)
