"""COCO: a file written by hand, its mask encodings, and the sample photos."""

import json

import numpy as np
import pytest
from PIL import Image

from kouros.body.keypoints import COCO17, MPI_INF_3DHP17
from kouros.data.importers.coco import coco_mask, decompress_counts, import_coco, mask_runs
from kouros.data.schema import DatasetError
from kouros.data.tables import AnnotationTable


def annotation(number: int, labelled: int = 17, **changes) -> dict:
    keypoints = [v for i in range(17) for v in ((i, 2 * i, 1 + i % 2) if i < labelled else (0, 0, 0))]
    return {
        "id": number,
        "image_id": 36,
        "category_id": 1,
        "bbox": [10.5, 20.0, 8.0, 16.0],
        "iscrowd": 0,
        "segmentation": [[2, 3, 6, 3, 6, 9, 2, 9]],
        "keypoints": keypoints,
        "num_keypoints": labelled,
    } | changes


def write(folder, annotations: list[dict]):
    (folder / "annotations").mkdir()
    (folder / "train2017").mkdir()
    Image.new("RGB", (40, 30)).save(folder / "train2017/000000000036.jpg")
    images = [{"id": 36, "file_name": "000000000036.jpg", "width": 40, "height": 30}]
    content = {"images": images, "annotations": annotations, "categories": []}
    (folder / "annotations/person_keypoints_train2017.json").write_text(json.dumps(content))
    return folder


def test_person_arrives_with_box_flags_and_mask(tmp_path):
    report = import_coco(write(tmp_path, [annotation(5, labelled=12)]), tmp_path / "out")
    (person,) = AnnotationTable(report.table)
    assert person.person == "5"
    np.testing.assert_allclose(person.bbox, [10.5, 20, 18.5, 36])
    np.testing.assert_allclose(person.box_center, [14.5, 28])
    assert person.box_size == pytest.approx(1.2 * 16)
    # Index 3 of a pixel is its centre at 3.5; what is not labelled stays zero.
    np.testing.assert_allclose(person.keypoints_2d[3], [3.5, 6.5, 1])
    assert (person.keypoints_2d[12:] == 0).all()
    assert person.visible.tolist() == [i % 2 == 1 and i < 12 for i in range(17)]
    mask = person.mask.decode()
    assert mask.shape == (30, 40) and mask[5, 4] == 1 and mask[10, 4] == 0 and 24 <= mask.sum() <= 35


def test_people_without_keypoints_are_passed_over_and_broken_ones_listed(tmp_path):
    crowd = annotation(2, 0, iscrowd=1, segmentation={"counts": [5, 3, 1192], "size": [30, 40]})
    people = [
        annotation(1),
        crowd,
        annotation(3, image_id=99),
        annotation(4, bbox=[1, 2, 0, 0]),
        annotation(6, 16),
    ]
    report = import_coco(write(tmp_path, people), tmp_path / "out")
    assert AnnotationTable(report.table).text("person") == ["1", "6"]
    assert [p.where for p in report.problems] == ["annotation 3", "annotation 4"]
    assert "no extent" in report.problems[1].what
    spins = import_coco(tmp_path, tmp_path / "spin", complete_limbs=True)
    assert AnnotationTable(spins.table).text("person") == ["1"]


def test_run_lengths_start_with_background_and_go_down_columns():
    runs = coco_mask({"counts": [1, 2, 3], "size": [2, 3]}, (3, 2))
    np.testing.assert_array_equal(runs.decode(), [[0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(mask_runs([0, 4], 2, 2).decode(), np.ones((2, 2)))


def compress(counts: list[int]) -> str:
    """COCO's encoder (its API's maskApi), written from its description."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != -1 if group & 16 else value != 0
            text += chr((group | 32 if more else group) + 48)
    return text


@pytest.mark.parametrize("counts", [[], [0, 5], [6, 1, 40, 4, 5, 4, 5, 4, 21], [100000, 3, 17, 99999, 1, 2, 16, 15]])
def test_compressed_counts_are_read_back(counts: list[int]):
    assert decompress_counts(compress(counts)) == counts


def test_a_known_compressed_mask():
    # Found in the tests of several readers of the format: a mask of 9x10.
    assert decompress_counts("61X13mN000`0") == [6, 1, 40, 4, 5, 4, 5, 4, 21]


@pytest.mark.parametrize("text", ["\x01", "P"])
def test_damaged_counts_are_refused(text: str):
    with pytest.raises(ValueError, match="run lengths"):
        decompress_counts(text)


def test_wrong_folders_and_files_are_explained(tmp_path):
    with pytest.raises(DatasetError, match=r"expected annotations/person_keypoints_val2017.json in"):
        import_coco(tmp_path, tmp_path / "out", split="val2017")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DatasetError, match="lists `images` and `annotations`"):
        import_coco(tmp_path / "x.json", tmp_path / "out")


@pytest.mark.samples
def test_sample_photos_have_three_people_with_keypoints(samples, tmp_path):
    report = import_coco(samples / "coco_sample/annotations.json", tmp_path, split="val2017")
    table = AnnotationTable(report.table)
    assert report.problems == () and table.text("person") == ["442619", "198196", "230195"]
    skier = table[0]
    np.testing.assert_allclose(skier.keypoints_2d[COCO17.index("nose")], [367.5, 81.5, 1])
    x, y = skier.keypoints_2d[:, :2].astype(int).T
    assert skier.mask.decode()[y, x].mean() > 0.8  # her keypoints lie on her mask


def test_files_in_its_form_with_other_points_come_into_the_set_that_has_most_of_them(tmp_path):
    """CrowdPose has fourteen points, its own top of the head and neck among them."""
    numbers = [n for k in range(14) for n in (10 + k, 20 + k, 2)]
    file = tmp_path / "crowd.json"
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 40, 40], "keypoints": numbers}
    pictures = [{"id": 1, "file_name": "a.jpg", "width": 64, "height": 64}]
    file.write_text(
        json.dumps({"images": pictures, "annotations": [one, one | {"id": 2, "keypoints": [1, 2, 2] * 17}]})
    )
    report = import_coco(file, tmp_path / "out", keypoint_set="crowdpose14", check_images=False)
    assert report.rows == 1 and "17 keypoints; crowdpose14 has 14" in report.problems[0].what
    table = AnnotationTable(report.table)
    assert table.info.keypoints_2d is MPI_INF_3DHP17
    found = dict(zip(MPI_INF_3DHP17.names, table[0].keypoints_2d.tolist(), strict=True))
    assert found["left_shoulder"] == [10.5, 20.5, 1.0] and found["neck_3dhp"] == [23.5, 33.5, 1.0]
    assert found["pelvis_3dhp"][2] == 0
    own = tmp_path / "own.toml"
    own.write_text('points = ["left_hip", "right_hip", "", "left_knee", "right_knee"]')
    file.write_text(json.dumps({"images": pictures, "annotations": [one | {"keypoints": numbers[:15]}]}))
    report = import_coco(file, tmp_path / "own", keypoint_set=str(own), check_images=False)
    assert (AnnotationTable(report.table)[0].keypoints_2d[:, 2] > 0).sum() == 4
    with pytest.raises(ValueError, match="There is no keypoint set 'crowd'"):
        import_coco(file, tmp_path / "no", keypoint_set="crowd")
