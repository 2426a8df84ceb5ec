"""Imports are resumed, restarted when the source changed, and clean up behind them."""

from collections.abc import Iterator

import pytest

from kouros.data.importers.running import Problem, Unit, require, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.data.tables import AnnotationTable

INFO = TableInfo("toy", "train", "/nowhere", provenance={"source": "a"})


def units(log: list[str], fail_at: str | None = None) -> Iterator[Unit]:
    def rows(key: str):
        log.append(key)
        yield Sample(f"{key}/0.png")
        yield Problem(f"{key} row 1", "broken")
        if key == fail_at:
            raise KeyboardInterrupt
        yield Sample(f"{key}/2.png")

    return (Unit(key, lambda key=key: rows(key)) for key in "abcd")


def test_an_interrupted_import_goes_on_where_it_was(tmp_path):
    first: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_import(tmp_path, INFO, units(first, fail_at="c"), check_images=False)
    assert not (tmp_path / "toy_train.parquet").exists()
    second: list[str] = []
    report = run_import(tmp_path, INFO, units(second), check_images=False)
    assert (first, second) == (["a", "b", "c"], ["c", "d"])
    assert report.resumed_units == 2
    assert [p.where for p in report.problems] == [f"{k} row 1" for k in "abcd"]  # of the earlier run too
    paths = AnnotationTable(report.table).text("image_path")
    assert paths == [f"{k}/{i}.png" for k in "abcd" for i in (0, 2)]
    assert [p.name for p in tmp_path.iterdir()] == ["toy_train.parquet"]


def test_pieces_of_another_source_are_not_mixed_in(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_import(tmp_path, INFO, units([], fail_at="c"), check_images=False)
    log: list[str] = []
    other = TableInfo("toy", "train", "/nowhere", provenance={"source": "b"})
    assert run_import(tmp_path, other, units(log), check_images=False).resumed_units == 0
    assert log == ["a", "b", "c", "d"]


def test_pieces_of_a_file_that_was_replaced_are_not_mixed_in(tmp_path):
    source = tmp_path / "annotations.json"
    source.write_text("old")
    info = TableInfo("toy", "train", "/nowhere", provenance={"source": str(source)})
    with pytest.raises(KeyboardInterrupt):
        run_import(tmp_path, info, units([], fail_at="c"), check_images=False)
    source.write_text("newer")
    assert run_import(tmp_path, info, units([]), check_images=False).resumed_units == 0


def test_pieces_are_not_mixed_when_another_file_of_theirs_was_replaced(tmp_path):
    listing = tmp_path / "people.json"
    listing.write_text("old")
    info = TableInfo("toy", "train", "/nowhere", provenance={"source": "a", "people": str(listing)})
    with pytest.raises(KeyboardInterrupt):
        run_import(tmp_path, info, units([], fail_at="c"), check_images=False)
    listing.write_text("newer")
    assert run_import(tmp_path, info, units([]), check_images=False).resumed_units == 0


def test_wrong_folder_says_what_was_expected_where(tmp_path):
    with pytest.raises(DatasetError, match=r"LSP: expected joints.mat in .*, which has no such entry; give"):
        require("LSP", tmp_path, "joints.mat")
    with pytest.raises(DatasetError, match=r"expected a.mat or b.mat in .*missing, which does not exist"):
        require("LSP", tmp_path / "missing", "a.mat", "b.mat")
    (tmp_path / "b.mat").touch()
    assert require("LSP", tmp_path, "a.mat", "b.mat") == tmp_path / "b.mat"
