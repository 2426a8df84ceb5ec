"""EFT's fits, and OpenPose's detections joined to annotated people."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from kouros.body.keypoints import COCO17, LSP14, OPENPOSE25, SPIN49
from kouros.data.importers.eft import import_eft
from kouros.data.importers.openpose import join_openpose, match_detection
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.data.tables import AnnotationTable, write_table


def fit(name: str, number: int, **changes) -> dict:
    turns = Rotation.from_rotvec(np.random.default_rng(number).normal(0, 0.5, (24, 3)))
    keypoints = np.random.default_rng(number + 100).random((49, 3)) * 40
    keypoints[:, 2] = np.arange(49) % 2
    return {
        "parm_pose": turns.as_matrix().tolist(),
        "parm_shape": np.arange(10).tolist(),
        "parm_cam": [0.9, 0.1, 0.2],
        "bbox_scale": 1.25,
        "bbox_center": [30.0, 20.0],
        "gt_keypoint_2d": keypoints.tolist(),
        "joint_validity_openpose18": [True] * 18,
        "imageName": name,
        "annotId": 900 + number,
        **changes,
    }


def test_eft_fits_become_rotation_vectors_and_pictures_are_found(tmp_path):
    people = [fit("COCO_train2014_000000000009.jpg", 1), fit("COCO_train2014_000000000009.jpg", 2, smpltype="smplx")]
    (tmp_path / "COCO2014-Part-ver01.json").write_text(json.dumps({"ver": 0.1, "data": people}))
    (tmp_path / "coco/train2014").mkdir(parents=True)
    Image.new("RGB", (64, 48)).save(tmp_path / "coco/train2014/COCO_train2014_000000000009.jpg")
    report = import_eft(tmp_path / "COCO2014-Part-ver01.json", tmp_path / "out", images=tmp_path / "coco")
    (row,) = AnnotationTable(report.table)
    assert "body model 'smplx'" in report.problems[0].what
    assert row.image_path == "train2014/COCO_train2014_000000000009.jpg" and row.person == "901"
    assert row.box_size == 250 and row.gender == "neutral"
    turns = Rotation.from_rotvec(row.pose.reshape(24, 3)).as_matrix()
    np.testing.assert_allclose(turns, people[0]["parm_pose"], atol=1e-5)
    np.testing.assert_allclose(row.keypoints_2d[1], people[0]["gt_keypoint_2d"][1], rtol=1e-5)
    assert (row.keypoints_2d[::2] == 0).all()


def test_another_json_is_no_fits(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(DatasetError, match="a JSON object with `ver` and a list `data`"):
        import_eft(tmp_path / "a.json", tmp_path / "out")
    with pytest.raises(DatasetError, match="there is no such file"):
        import_eft(tmp_path / "b.json", tmp_path / "out")


# OpenPose's places of the limbs' joints, in the order of LSP's first twelve, as SPIN's preprocessing lists them.
LIMBS = [11, 10, 9, 12, 13, 14, 4, 3, 2, 5, 6, 7]


def lsp_person(x: float) -> np.ndarray:
    """(14, 3): 100 pixels high."""
    return np.c_[x + np.arange(14) % 3, 100 * np.arange(14) / 13, np.ones(14)]


def detection(person: np.ndarray, off: float) -> np.ndarray:
    result = np.full((25, 3), 0.0)
    result[LIMBS] = person[:12]
    result[LIMBS, 0] += off
    result[LIMBS, 2] = 0.8
    result[0] = (*person[13, :2], 0.9)
    return result


def openpose_file(folder: Path, stem: str, people: list[np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"version": 1.2, "people": [{"pose_keypoints_2d": p.ravel().tolist()} for p in people]}
    (folder / f"{stem}_keypoints.json").write_text(json.dumps(content))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    visible = np.arange(14) != 3
    rows = [
        Sample("images/im1.jpg", box_center=np.zeros(2), box_size=9.0, keypoints_2d=lsp_person(x), visible=visible)
        for x in (10.0, 60.0)
    ]
    rows.append(Sample("images/im2.jpg", keypoints_2d=lsp_person(10.0), visible=visible))
    write_table(tmp_path / "in/lsp_train.parquet", TableInfo("lsp", "train", "/nowhere", LSP14), rows)
    return tmp_path / "in/lsp_train.parquet"


def test_each_person_gets_the_nearest_detection_and_keeps_the_annotated_points(table, tmp_path):
    people = [detection(lsp_person(60.0), 2.0), detection(lsp_person(10.0), -1.0), np.zeros((25, 3))]
    openpose_file(tmp_path / "op", "im1", people)
    report = join_openpose(table, tmp_path / "out", detections=tmp_path / "op")
    joined = AnnotationTable(report.table)
    assert joined.info.keypoints_2d == SPIN49 and len(joined) == 3 and joined.info.dataset == "lsp"
    for row, x, off in ((joined[0], 10.0, -1.0), (joined[1], 60.0, 2.0)):
        np.testing.assert_allclose(row.keypoints_2d[25:39], lsp_person(x), rtol=1e-6)
        np.testing.assert_allclose(row.keypoints_2d[:25], detection(lsp_person(x), off), rtol=1e-5)
        assert not row.visible[28] and row.visible[27] and row.visible[0] and not row.visible[8]
    assert any("im2_keypoints.json" in p.what and "kept" in p.where for p in report.problems)
    assert any("person 2 has 0 usable points" in p.what for p in report.problems)
    assert (joined[2].keypoints_2d[:25] == 0).all() and joined[2].keypoints_2d[25, 2] == 1


def as_spin49(person: np.ndarray) -> np.ndarray:
    result = np.zeros((49, 3))
    result[25:39] = person
    return result


def test_a_far_detection_is_somebody_else(tmp_path):
    person = as_spin49(lsp_person(10.0))
    far = [detection(lsp_person(10.0), 15.0)]  # 15 of the person's 100 pixels
    assert match_detection(far, person) is None
    assert match_detection(far, person, limit=10.0) is not None  # SPIN's rule refuses only below the limit
    assert match_detection(far, person, limit=30.0) is None


def test_detections_without_all_limbs_and_people_without_enough_match_nobody():
    person, near = as_spin49(lsp_person(10.0)), detection(lsp_person(10.0), 0.0)
    cut = near.copy()
    cut[4] = 0  # no right wrist
    assert match_detection([cut], person) is None
    assert match_detection([], person) is None
    np.testing.assert_array_equal(match_detection([cut, near], person), near)
    few = person.copy()
    few[29:, 2] = 0  # four limb joints are left
    assert match_detection([near], few) is not None and match_detection([near], few, all_limbs=True) is None
    few[28, 2] = 0
    assert match_detection([near], few) is None


def test_cocos_points_meet_openposes_by_their_sides(tmp_path):
    keypoints = np.zeros((17, 3))
    found = np.zeros((25, 3))
    for number, name in enumerate(COCO17.names[5:]):
        keypoints[5 + number] = 10 * number, 100 - 5 * number, 1
        found[OPENPOSE25.index(name)] = 10 * number, 100 - 5 * number, 0.7
    found[0] = 1, 2, 0.7
    sample = Sample("a/b/1.jpg", keypoints_2d=keypoints)
    write_table(tmp_path / "in/c.parquet", TableInfo("coco", "val", "/nowhere", COCO17), [sample])
    openpose_file(tmp_path / "op/a/b", "1", [found])  # folders as the pictures'
    report = join_openpose(tmp_path / "in/c.parquet", tmp_path / "out", detections=tmp_path / "op", like_spin=True)
    (row,) = AnnotationTable(report.table)
    np.testing.assert_allclose(row.keypoints_2d[0], [1, 2, 0.7], rtol=1e-6)
    assert report.problems == () and row.visible is None


def test_what_cannot_be_joined_is_explained(table, tmp_path):
    with pytest.raises(DatasetError, match="has none"):
        join_openpose(table, tmp_path / "out", detections=tmp_path)
    openpose_file(tmp_path / "op", "im1", [])
    with pytest.raises(DatasetError, match="would be written over"):
        join_openpose(table, table.parent, detections=tmp_path / "op")
