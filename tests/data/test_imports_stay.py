"""Imports beside one another, and tables that are moved."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from kouros.data.images import find_images
from kouros.data.importers.coco import import_coco
from kouros.data.schema import DatasetError
from kouros.data.tables import AnnotationTable
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
