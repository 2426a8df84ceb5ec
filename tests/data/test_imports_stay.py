"""Imports beside one another, and tables that are moved."""

import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from kouros.cli import main
from kouros.data.images import find_images
from kouros.data.importers.coco import import_coco
from kouros.data.importers.running import Problem, Unit, run_import
from kouros.data.joined_tables import append_table
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.data.tables import AnnotationTable, TableError, write_table
from kouros.locks import BusyError
from kouros.notes import collected


def _coco(folder: Path, name: str, people: int) -> Path:
    folder.mkdir(exist_ok=True)
    Image.new("RGB", (64, 48)).save(folder / "a.png")
    keypoints = [n for k in range(17) for n in (5 + 2 * k, 5 + k, 2)]
    annotation = {"image_id": 1, "bbox": [4, 4, 30, 30], "keypoints": keypoints}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [{**annotation, "id": k} for k in range(people)],
    }
    (folder / name).write_text(json.dumps(content))
    return folder / name


def test_a_second_file_has_a_table_of_its_own_and_never_replaces_the_first(tmp_path: Path):
    first, second = (_coco(tmp_path / "photos", name, k) for k, name in ((3, "first.json"), (2, "second.json")))
    out = tmp_path / "out"
    assert [import_coco(file, out).rows for file in (first, second)] == [3, 2]
    assert {p.name for p in out.glob("*.parquet")} == {"coco_first.parquet", "coco_second.parquet"}
    assert import_coco(first, out, split="mine").rows == 3
    with pytest.raises(DatasetError, match=r"coco_mine\.parquet is there already, with source .*first\.json"):
        import_coco(second, out, split="mine")
    assert len(AnnotationTable(out / "coco_mine.parquet")) == 3
    assert import_coco(first, out, split="mine").rows == 3  # the same again


def test_rows_are_added_on_request_and_both_keep_their_pictures(tmp_path: Path):
    first, second = (_coco(tmp_path / place, "people.json", k) for place, k in (("here", 3), ("there", 2)))
    out, command = str(tmp_path / "out"), ["import", "coco"]
    for file in (first, second):
        assert main([*command, str(file), "--out", out, "--name", "all", "--append"]) == 0
    table = AnnotationTable(tmp_path / "out" / "all.parquet")
    assert [table.image_file(sample) for sample in table] == 3 * [tmp_path / "here/a.png"] + 2 * [
        tmp_path / "there/a.png"
    ]
    assert table.info.provenance["source (2)"] == str(second)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["all.parquet"]
    before = table.path.read_bytes()
    for arguments in ([str(second), "--append"], [str(second)], [str(first)]):  # there already; not asked for
        assert main([*command, *arguments, "--out", out, "--name", "all"]) == 1
    assert table.path.read_bytes() == before
    with pytest.raises(TableError, match="rows of 'other' cannot be added to a table of 'coco': another dataset, key"):
        write_table(tmp_path / "other.parquet", TableInfo("other", "train", "/"), [Sample("a.png")])
        append_table(table.path, tmp_path / "other.parquet")


def test_masks_of_added_rows_are_found_where_they_lie(tmp_path: Path):
    tables = []
    for place, masks in (("a", None), ("b", "b/masks")):
        provenance = {"source": place, "mask_root": masks and str(tmp_path / masks)}
        info = TableInfo("toy", "train", str(tmp_path / place), provenance=provenance)
        tables.append(tmp_path / f"{place}.parquet")
        write_table(tables[-1], info, [Sample("x.png", mask_path="m.png")])
    assert append_table(*tables) == 2
    table = AnnotationTable(tables[0])
    root = Path(table.info.provenance["mask_root"])
    assert [root / str(sample.mask_path) for sample in table] == [tmp_path / "a/m.png", tmp_path / "b/masks/m.png"]


def test_two_imports_into_one_table_do_not_take_each_others_parts(tmp_path: Path):
    def rows(key: str) -> Iterator[Sample]:
        yield Sample(f"{key}.png")
        with pytest.raises(BusyError, match=r"toy_train\.parquet: another process is writing it just now"):
            run_import(tmp_path, info, [], check_images=False)

    info = TableInfo("toy", "train", "/nowhere", provenance={"source": "a"})
    units = [Unit(key, partial(rows, key)) for key in "ab"]
    assert run_import(tmp_path, info, units, check_images=False).rows == 2
    assert run_import(tmp_path, info, units, check_images=False).rows == 2  # nothing is left locked


def test_a_unit_that_fails_whatever_it_raises_is_named_and_the_others_go_on(tmp_path: Path):
    def broken() -> Iterator[Sample]:
        yield Sample("b.png")
        raise RecursionError("deep")

    units = [Unit("a", lambda: [Sample("a.png")]), Unit("b", broken), Unit("c", lambda: [Sample("c.png")])]
    report = run_import(tmp_path, TableInfo("toy", "train", "/nowhere"), units, check_images=False)
    assert report.rows == 3 and report.problems == (Problem("b", "RecursionError: deep"),)


def test_pieces_that_the_disk_has_damaged_are_imported_again(tmp_path: Path):
    def interrupted() -> Iterator[Sample]:
        yield from ()
        raise KeyboardInterrupt

    info = TableInfo("toy", "train", "/nowhere")
    first = Unit("a", lambda: [Sample(f"{k:04}.png") for k in range(500)])
    with pytest.raises(KeyboardInterrupt):
        run_import(tmp_path, info, [first, Unit("b", interrupted)], check_images=False)
    (part,) = tmp_path.glob(".*/*.parquet")
    content = bytearray(part.read_bytes())
    content[200] ^= 1  # one bit of a page
    part.write_bytes(content)
    report = run_import(tmp_path, info, [first, Unit("b", lambda: [Sample("b.png")])], check_images=False)
    assert (report.rows, report.resumed_units) == (501, 0)


def test_a_table_moves_with_its_pictures_and_is_the_same_wherever_it_is_made(tmp_path: Path):
    tables = []
    for place in ("here", "there"):
        file = _coco(tmp_path / place, "people.json", 1)
        tables.append(import_coco(file, tmp_path / place / "out").table)
    assert tables[0].read_bytes() == tables[1].read_bytes()
    shutil.move(tmp_path / "here", tmp_path / "elsewhere")
    table = AnnotationTable(tmp_path / "elsewhere" / "out" / tables[0].name)
    assert table.image_file(table[0]).is_file()
    assert table.info.provenance["source"] == str((tmp_path / "elsewhere" / "people.json").resolve())


def test_pictures_of_a_folder_that_are_not_read_are_counted(tmp_path: Path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.jfif", "JPEG")
    for name in ("b.jxl", "c.JXL", "d.dng", "e.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "f.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with collected() as notes:
        assert find_images([tmp_path]) == [tmp_path / "a.jfif"]
    (note,) = notes
    assert "1 .dng, 2 .jxl, 1 link that leads nowhere" in note
