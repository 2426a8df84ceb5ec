"""Tables keep what they were given, tell absent from zero, and appear whole or not at all."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kouros.body.keypoints import COCO17, LSP14, KeypointSet
from kouros.data.schema import SAMPLE_FIELDS, RunLengths, Sample, SampleError, TableInfo, check_sample
from kouros.data.tables import AnnotationTable, TableError, TableWriter, write_table

INFO = TableInfo("toy", "train", "/pictures", COCO17, LSP14, "camera", provenance={"source": "made up", "rows": [1, 2]})


def full_sample(rng: np.random.Generator) -> Sample:
    return Sample(
        image_path="a/b.jpg",
        image_size=(7, 5),
        box_center=np.array([3.123456789, 2.5]),
        box_size=4.25,
        bbox=np.array([1.0, 0.5, 5.0, 4.5]),
        head_box=np.array([2.0, 1.0, 3.0, 2.0]),
        keypoints_2d=rng.random((17, 3)),
        visible=rng.random(17) < 0.5,
        keypoints_3d=rng.random((14, 4)),
        keypoints_3d_universal=rng.random((14, 4)),
        pose=rng.random(72),
        betas=rng.random(10),
        transl=rng.random(3),
        gender="female",
        intrinsics=np.array([500.0, 501.0, 3.5, 2.5]),
        world_to_camera=rng.random((3, 4)),
        mask_path="m.png",
        parts_path="p.png",
        iuv_path="i.png",
        mask=RunLengths.encode(rng.integers(0, 2, (5, 7))),
        parts=RunLengths.encode(rng.integers(0, 15, (8, 8))),
        dense_points=rng.random((6, 5)),
        subject="S1",
        action="Walking",
        sequence="S1_Walking",
        camera="2",
        frame=0,
        person="17",
    )


def assert_same(actual: Sample, expected: Sample) -> None:
    for name in SAMPLE_FIELDS:
        a, e = getattr(actual, name), getattr(expected, name)
        if isinstance(e, np.ndarray):
            np.testing.assert_allclose(a, e, rtol=1e-6, err_msg=name)
            assert a.shape == e.shape
        elif isinstance(e, RunLengths):
            np.testing.assert_array_equal(a.decode(), e.decode())
        else:
            assert a == e, name


def test_every_field_comes_back_and_absent_stays_absent(tmp_path):
    samples = [full_sample(np.random.default_rng(0)), Sample("only/a/path.png")]
    assert all(samples[0].has(name) for name in SAMPLE_FIELDS)
    assert write_table(tmp_path / "t.parquet", INFO, samples) == 2
    table = AnnotationTable(tmp_path / "t.parquet")
    assert len(table) == 2
    for got, given_sample in zip(table, samples, strict=True):
        assert_same(got, given_sample)
    assert [name for name in SAMPLE_FIELDS if table[1].has(name)] == ["image_path"]
    assert table[0].box_center[0] == 3.123456789  # boxes keep double precision
    assert_same(table[-1], samples[1])
    with pytest.raises(IndexError):
        table[2]


def test_columns_tell_absent_from_zero(tmp_path):
    samples = [
        Sample("0.png", box_size=2.0, betas=np.zeros(10)),
        Sample("1.png"),
        Sample("2.png", box_size=3.0, betas=np.ones(10)),
    ]
    write_table(tmp_path / "t.parquet", INFO, samples)
    table = AnnotationTable(tmp_path / "t.parquet")
    betas = table.column("betas")
    assert betas.has.tolist() == [True, False, True]
    assert betas.values[:, 0].tolist() == [0, 0, 1]
    picked = table.column("betas", [2, 1, 2])
    assert picked.has.tolist() == [True, False, True] and picked.values[0].sum() == 10
    assert table.column("box_size").values.tolist() == [2, 0, 3]
    assert table.text("image_path") == ["0.png", "1.png", "2.png"]
    assert table.has("gender").tolist() == [False] * 3
    with pytest.raises(KeyError, match="no column 'dense_points'"):
        table.column("dense_points")
    with pytest.raises(KeyError, match="no field 'colour'"):
        table.has("colour")


def test_description_comes_back_with_sets_of_its_own(tmp_path):
    own = KeypointSet("mine3", ("left_a", "right_a", "b"), (("left_a", "b"),))
    info = TableInfo("toy", "val", "/x", own, COCO17, "root", provenance={"note": "ü"})
    write_table(tmp_path / "t.parquet", info, [])
    table = AnnotationTable(tmp_path / "t.parquet")
    assert table.info == info and len(table) == 0
    assert table.info.keypoints_2d.mirror == (1, 0, 2)
    assert table.info.keypoints_3d is COCO17
    assert table.column("betas").values.shape == (0, 10)


def test_more_rows_than_a_group_keep_their_order(tmp_path):
    write_table(tmp_path / "t.parquet", INFO, (Sample(f"{i}.png", frame=i) for i in range(5000)))
    table = AnnotationTable(tmp_path / "t.parquet")
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups > 1
    assert (table.column("frame").values == np.arange(5000)).all()
    assert table[4321].image_path == "4321.png"


def test_interrupted_write_leaves_the_old_table_and_no_debris(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(path, INFO, [Sample("old.png")])
    with pytest.raises(KeyboardInterrupt), TableWriter(path, INFO) as writer:
        writer.write(Sample("new.png"))
        raise KeyboardInterrupt
    assert AnnotationTable(path)[0].image_path == "old.png"
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_bad_row_leaves_no_file(tmp_path):
    with pytest.raises(SampleError):
        write_table(tmp_path / "t.parquet", INFO, [Sample("ok.png"), Sample("bad.png", box_size=-1.0)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keypoints_2d": np.zeros((17, 2))}, r"x.png: keypoints_2d has shape \(17, 2\); expected \(17, 3\)"),
        ({"keypoints_2d": np.full((17, 3), 2.0)}, r"keypoints_2d has confidences outside \[0, 1\]"),
        ({"betas": np.full(10, np.nan)}, r"betas is nan at \(0,\)"),
        ({"dense_points": np.zeros((3, 4))}, r"dense_points has shape \(3, 4\); expected \('any', 5\)"),
        ({"box_size": 0.0}, "box_size is 0.0; expected a positive"),
        ({"box_size": float("nan")}, "box_size is nan"),
        ({"gender": "m"}, "gender is 'm'; expected one of female, male, neutral"),
        ({"image_size": (0, 5)}, "image_size"),
        ({"mask": RunLengths(2, 2, np.zeros(1, np.uint8), np.array([3]))}, "runs of 3 pixels, expected 2x2"),
        (
            {"image_size": (3, 2), "mask": RunLengths.encode(np.zeros((3, 2)))},
            r"mask is 2x3, but the image \(3, 2\)",
        ),
    ],
)
def test_what_breaks_the_schema_is_named(fields: dict, message: str):
    with pytest.raises(SampleError, match=message):
        check_sample(Sample("x.png", **fields), INFO)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x.png", "a/../../x.png", "a\\b.png"])
def test_paths_outside_the_image_root_are_refused(path: str):
    with pytest.raises(SampleError, match="below the image root"):
        check_sample(Sample(path), INFO)


def test_keypoints_without_a_named_set_are_refused():
    with pytest.raises(SampleError, match="names no keypoint set"):
        check_sample(Sample("x.png", keypoints_3d=np.zeros((3, 4))), TableInfo("toy", "train", "/x"))


def test_foreign_files_are_explained(tmp_path):
    with pytest.raises(TableError, match="no such annotation table"):
        AnnotationTable(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("hello")
    with pytest.raises(TableError, match="no Parquet file"):
        AnnotationTable(tmp_path / "text.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(TableError, match="no annotation table of kouros"):
        AnnotationTable(tmp_path / "foreign.parquet")
    newer = pa.table({"x": [1]}).replace_schema_metadata({"kouros": '{"schema_version": 99}'})
    pq.write_table(newer, tmp_path / "newer.parquet")
    with pytest.raises(TableError, match="schema 99"):
        AnnotationTable(tmp_path / "newer.parquet")


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_run_lengths_undo_themselves(height: int, width: int, seed: int):
    label_map = np.random.default_rng(seed).integers(0, 3, (height, width))
    np.testing.assert_array_equal(RunLengths.encode(label_map).decode(), label_map)


def test_runs_go_down_the_columns():
    runs = RunLengths.encode(np.array([[0, 1], [0, 1], [1, 1]]))
    assert runs.labels.tolist() == [0, 1] and runs.counts.tolist() == [2, 4]


def test_a_damaged_column_is_one_sentence(tmp_path: Path):
    """Pages are read when they are asked for, long after the file was opened."""
    path = tmp_path / "people.parquet"
    info = TableInfo("toy", "train", ".", COCO17)
    rows = [Sample(f"{k}.jpg", box_size=80.0, keypoints_2d=np.full((17, 3), 0.5)) for k in range(5)]
    write_table(path, info, rows)
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    table = AnnotationTable(path)
    with pytest.raises(TableError, match=r"people.parquet: its column \w+ is damaged \([^\n]*\)\.$"):
        for row in range(5):
            table[row]
