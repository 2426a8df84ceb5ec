"""``kouros evaluate``: what it prints, what it writes, and what it says of bad input."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import tyro
from PIL import Image

from kouros.body.keypoints import SMPL24
from kouros.cli.evaluate import Evaluate, ProtocolName, estimator_of, names_in, source_for
from kouros.cli.usage import UsageError
from kouros.data.schema import Sample, TableInfo
from kouros.data.tables import write_table
from kouros.evaluation.protocols import all_protocols
from kouros.pipeline.detecting import overlap


def evaluate(*arguments: object) -> int:
    return tyro.cli(Evaluate, args=[str(a) for a in arguments]).run()


def test_every_protocol_can_be_named():
    assert set(get_args(ProtocolName)) == set(all_protocols())


def test_the_card_the_row_and_the_counts_are_printed_and_written(table: Path, tmp_path: Path, capsys):
    assert evaluate("mean-pose", "--on", "table-3d", "--data", table, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    for words in ("alignment", "this run: mean pose", "2 of 2 people scored; 0 not found", "PA-MPJPE"):
        assert words in printed
    content = json.loads((tmp_path / "out/mean-pose.table-3d.json").read_text())
    assert content["card"]["joints"].startswith("12") and content["counts"] == {
        "selected": 2, "scored": 2, "missed": 0, "unreadable": 0,
    }  # fmt: skip
    assert content["scores"]["pa_mpjpe"]["unit"] == "mm" and content["versions"]["torch"]
    each = content["per_person"]
    assert each["row"] == [0, 1] and each["image"] == ["0.png", "1.png"]
    assert np.mean(each["mpjpe"]) == pytest.approx(content["scores"]["mpjpe"]["value"], rel=1e-4)
    with Image.open(tmp_path / "out/mean-pose.table-3d.png") as plot:
        assert plot.size[0] > 300


def test_json_alone_is_printed_for_programs(table: Path, capsys):
    assert evaluate("mean-pose", "--on", "table-2d", "--data", table.parent, "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["protocol"] == "table-2d" and content["curve"]["x"][0] == 0


def test_the_packaged_detector_is_a_baseline(table: Path, capsys):
    assert evaluate("blazepose", "--on", "table-3d", "--data", table, "--people", 1) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "BlazePose" in printed and "1 of the protocol's 2 rows" in printed


def test_unreadable_pictures_fail_the_command_after_the_rest_is_scored(table: Path, tmp_path: Path, capsys):
    (tmp_path / "1.png").write_bytes(b"no picture")
    assert evaluate("mean-pose", "--on", "table-3d", "--data", table) == 1
    captured = capsys.readouterr()
    assert "1 of 2 people scored" in captured.out and "unreadable: 1.png" in captured.err


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("human36m-p1-spin", "error: this is a table of 'toy', but the protocol is for human36m"),
        ("lsp", "make its table with `kouros import lsp"),
    ],
)
def test_a_wrong_table_is_one_sentence(table: Path, protocol: str, sentence: str, capsys):
    assert evaluate("mean-pose", "--on", protocol, "--data", table) == 1
    assert sentence in capsys.readouterr().err


def test_a_missing_table_and_a_folder_of_none_or_two_are_explained(table: Path, tmp_path: Path, capsys):
    assert evaluate("mean-pose", "--on", "table-3d", "--data", tmp_path / "none.parquet") == 1
    assert "there is no such annotation table" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"the folder holds no \.parquet file"):
        source_for(tmp_path / "empty", "table-3d")
    (tmp_path / "b.parquet").write_bytes(table.read_bytes())
    with pytest.raises(UsageError, match=r"2 tables \(b\.parquet, toy\.parquet\); name one"):
        source_for(tmp_path, "table-3d")


def test_systems_that_are_none_are_refused(tmp_path: Path, free_body):
    with pytest.raises(ValueError, match=r"no system .defualt.: expected default, .*, spin, hkmr, .*, the folder"):
        estimator_of("defualt", None)
    with pytest.raises(ValueError, match="a body means nothing to blazepose"):
        estimator_of("blazepose", free_body)
    with pytest.raises(ValueError, match="no weights of Neural Body Fitting, parts come with kouros; train some"):
        estimator_of("nbf-parts", None)


def test_mediapipe_is_asked_for_by_name_where_it_is_missing():
    try:
        import mediapipe  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match="pip install mediapipe"):
            estimator_of("mediapipe", None)
    else:
        assert estimator_of("mediapipe", None).name == "MediaPipe Pose"


def test_options_that_make_no_sense(table: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="--people must be at least 1"):
        evaluate("mean-pose", "--on", "table-3d", "--data", table, "--people", 0)
    with pytest.raises(UsageError, match="this is a file; expected a folder"):
        evaluate("mean-pose", "--on", "table-3d", "--data", table, "--out", table)
    with pytest.raises(UsageError, match="expected SMPL_NEUTRAL"):
        evaluate("mean-pose", "--on", "table-3d", "--data", table, "--smpl", tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        names_in(tmp_path / "missing.txt")
    (tmp_path / "list.txt").write_text("\n/00000_image.png\n")
    assert names_in(tmp_path / "list.txt") == {"00000_image.png"}


def test_overlap_of_boxes():
    a = np.array([0.0, 0.0, 10.0, 10.0])
    assert overlap(a, a) == 1
    assert overlap(a, np.array([5.0, 0.0, 15.0, 10.0])) == pytest.approx(50 / 150)
    assert overlap(a, np.array([10.0, 0.0, 15.0, 10.0])) == 0


@pytest.mark.parametrize(("system", "down_to"), [("default", 1.6), ("search", 1.0)])  # given: down to unseen feet
def test_the_default_pipeline_misses_nobody_in_a_portrait(
    system: str, down_to: float, portrait: Path, tmp_path: Path, capsys
):
    with Image.open(portrait) as photo:
        width, height = photo.size
        photo.convert("RGB").save(tmp_path / "portrait.png")
    info = TableInfo("toy", "x", str(tmp_path), keypoints_3d=SMPL24, keypoints_3d_origin="root")
    sample = Sample(
        "portrait.png",
        box_center=np.array([width / 2, height / 2]),
        box_size=float(height),
        bbox=np.array([0.0, 0.0, width, down_to * height]),
        keypoints_3d=np.c_[np.random.default_rng(0).normal(0, 0.4, (24, 3)), np.ones(24)],
    )
    write_table(tmp_path / "t.parquet", info, [sample])
    assert evaluate(system, "--on", "table-3d", "--data", tmp_path / "t.parquet", "--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["counts"]["missed"] == 0 and content["estimator"].startswith("kouros default")


def test_a_nearly_black_picture_of_nobody_is_a_miss_when_people_are_searched(table: Path, capsys):
    assert evaluate("search", "--on", "table-3d", "--data", table, "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"]["missed"] == 2
