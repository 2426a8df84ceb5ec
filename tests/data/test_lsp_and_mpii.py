"""LSP, LSP-extended and MPII, from MATLAB files written as their owners lay them out."""

import numpy as np
import pytest
import scipy.io
from PIL import Image

from kouros.body.keypoints import MPII16
from kouros.data.importers.lsp import import_lsp
from kouros.data.importers.lsp_extended import import_lsp_extended
from kouros.data.importers.mpii import import_mpii
from kouros.data.schema import DatasetError
from kouros.data.tables import AnnotationTable


def picture(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def lsp(folder, images: int = 1003) -> np.ndarray:
    joints = np.zeros((3, 14, images))
    joints[0] = np.arange(1, 15)[:, None] * 2
    joints[1] = np.arange(1, 15)[:, None] * 3
    joints[0, 0] = np.arange(images) % 20 + 1
    joints[2, 4] = 1  # hidden
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    for number in (1, 2, 1001, 1002, 1003):
        picture(folder / f"images/im{number:04d}.jpg")
    return joints


def test_lsp_splits_flags_and_origin(tmp_path):
    joints = lsp(tmp_path)
    test = AnnotationTable(import_lsp(tmp_path, tmp_path / "out", split="test").table)
    assert test.text("image_path") == [f"images/im{n}.jpg" for n in (1001, 1002, 1003)]
    np.testing.assert_allclose(test[1].keypoints_2d[:, :2], joints[:2, :, 1001].T - 0.5)
    assert (test[0].keypoints_2d[:, 2] == 1).all()
    assert np.flatnonzero(~test[0].visible).tolist() == [4]  # 1 means hidden in LSP
    report = import_lsp(tmp_path, tmp_path / "out", split="train")
    assert report.rows == 2 and len(report.problems) == 998  # the missing images are listed


def test_lsp_box_is_the_longer_extent_of_all_joints_and_a_fifth(tmp_path):
    lsp(tmp_path)
    first = AnnotationTable(import_lsp(tmp_path, tmp_path / "out", split="test").table)[0]
    assert first.box_size == pytest.approx(1.2 * (14 * 3 - 3))
    assert first.box_center[1] == pytest.approx((3 + 42) / 2 - 0.5)


def test_lsp_notes_the_masks_when_their_folder_is_given(tmp_path):
    lsp(tmp_path)
    (tmp_path / "upi/data/lsp").mkdir(parents=True)
    table = AnnotationTable(import_lsp(tmp_path, tmp_path / "out", split="test", masks=tmp_path / "upi").table)
    assert table[0].parts_path == "data/lsp/im1001_part_segmentation.png"
    assert table.info.provenance["mask_root"] == str(tmp_path / "upi")
    with pytest.raises(DatasetError, match="UPi-S1h: expected data/lsp"):
        import_lsp(tmp_path, tmp_path / "out", masks=tmp_path / "images")


def test_lsp_extended_flags_mean_the_opposite_and_rows_follow_sorted_names(tmp_path):
    joints = np.zeros((14, 3, 3))
    joints[:, 0] = np.arange(1, 15)[:, None]
    joints[:, 1] = 2 * np.arange(1, 15)[:, None]
    joints[:, 2] = 1
    joints[0, :, 1] = (-500, 0, 0)  # not visible: its place means nothing
    joints[3, 0, 2] = 40
    joints[:, 2, 2] = [1] * 14
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    for name in ("im00007.png", "im00002.png", "im00100.png"):  # HR-LSPET has gaps
        picture(tmp_path / name)
    table = AnnotationTable(import_lsp_extended(tmp_path, tmp_path / "out").table)
    assert table.text("image_path") == ["im00002.png", "im00007.png", "im00100.png"]
    assert table[1].keypoints_2d[0].tolist() == [0, 0, 0] and not table[1].visible[0]
    assert table[1].box_size == pytest.approx(1.2 * 24)  # of the 13 visible joints
    assert table[2].keypoints_2d[3, 0] == 39.5
    (tmp_path / "im00100.png").unlink()
    with pytest.raises(DatasetError, match=r"2 images .* for 3 annotations"):
        import_lsp_extended(tmp_path, tmp_path / "out")


def test_the_two_lsps_are_not_mistaken_for_each_other(tmp_path):
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.zeros((14, 3, 5))})
    with pytest.raises(DatasetError, match=r"expected \(3, 14, images\) \(14 first is LSP-extended\)"):
        import_lsp(tmp_path, tmp_path / "out")
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 14, 5))})
    with pytest.raises(DatasetError, match=r"expected \(14, 3, images\) \(3 first is LSP\)"):
        import_lsp_extended(tmp_path, tmp_path / "out")


def test_damaged_and_missing_matlab_files_are_explained(tmp_path):
    with pytest.raises(DatasetError, match=r"LSP: expected joints.mat in"):
        import_lsp(tmp_path, tmp_path / "out")
    (tmp_path / "joints.mat").write_bytes(b"rubbish" * 100)
    with pytest.raises(DatasetError, match="no readable MATLAB file"):
        import_lsp(tmp_path, tmp_path / "out")
    scipy.io.savemat(tmp_path / "joints.mat", {"other": 1})
    with pytest.raises(DatasetError, match="no variable joints"):
        import_lsp(tmp_path, tmp_path / "out")


def point(number: int, visible="1") -> dict:
    return {"x": 10.0 + number, "y": 20.0 + 2 * number, "id": number, "is_visible": visible}


def person(points: list[dict], **changes) -> dict:
    head = {"x1": 5.0, "y1": 6.0, "x2": 9.0, "y2": 12.0}
    fields = {"scale": 1.5, "objpos": {"x": 30.0, "y": 25.0}, "annopoints": {"point": points}}
    return {k: v for k, v in (head | fields | changes).items() if v is not None}


def struct_array(items: list[dict]) -> np.ndarray:
    result = np.empty(len(items), dtype=[(key, object) for key in items[0]])
    for i, item in enumerate(items):
        result[i] = tuple(item.values())
    return result


def mpii(folder) -> None:
    names = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    one = person(struct_array([point(i) for i in range(16)]))  # a lone person: a scalar struct once squeezed
    without = {"scale": 1.0, "objpos": {"x": 1.0, "y": 1.0}}
    two = struct_array(
        [
            person(struct_array([point(0, "0"), point(1, ""), point(9, "1")])),
            person({**point(3)}, scale=2.0),  # a lone point
            person(struct_array([point(0), point(1)]), scale=np.array([])),
        ]
    )
    rects = [one, without, two, person(struct_array([point(0), point(5)]))]
    annolist = struct_array([{"image": {"name": n}, "annorect": r} for n, r in zip(names, rects, strict=True)])
    acts = struct_array([{"act_name": f"sport {n}", "cat_name": "x", "act_id": i} for i, n in enumerate(names)])
    release = {"annolist": annolist, "img_train": np.array([1, 1, 1, 0]), "act": acts, "version": "12"}
    (folder / "annotations").mkdir()
    scipy.io.savemat(folder / "annotations/mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    for name in names:
        picture(folder / "images" / name)


def test_mpii_people_with_points_heads_and_visibility(tmp_path):
    mpii(tmp_path)
    report = import_mpii(tmp_path, tmp_path / "out")
    table = AnnotationTable(report.table)
    # b has a person without points, d is a test image, and the last person of c has no scale.
    assert table.text("image_path") == ["images/a.jpg", "images/c.jpg", "images/c.jpg"]
    assert table.text("person") == ["0.0", "2.0", "2.1"]
    assert [p.where for p in report.problems] == ["image 2 person 2 (from 0)"]
    first, second, third = table
    assert first.action == "sport a.jpg" and first.visible.all()
    np.testing.assert_allclose(first.keypoints_2d[4], [13.5, 27.5, 1])
    np.testing.assert_allclose(first.head_box, [4.5, 5.5, 8.5, 11.5])
    np.testing.assert_allclose(first.box_center, [29.5, 24.5])
    assert first.box_size == 300
    annotated = np.flatnonzero(second.keypoints_2d[:, 2]).tolist()
    assert annotated == [0, 1, MPII16.index("head_top")]
    assert np.flatnonzero(second.visible).tolist() == [9]  # "0" and empty are annotated but hidden
    assert np.flatnonzero(third.keypoints_2d[:, 2]).tolist() == [3]


def test_mpii_in_the_wrong_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"expected annotations/mpii_human_pose_v1_u12_1.mat or "):
        import_mpii(tmp_path, tmp_path / "out")
