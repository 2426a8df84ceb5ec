"""UP-3D, 3DOH50K, HumanEva-I, DensePose-COCO and Human3.6M, from files as their owners lay them out."""

import json
import pickle

import numpy as np
import pytest
import scipy.io
from PIL import Image
from scipy.spatial.transform import Rotation

from kouros.body.keypoints import H36M17
from kouros.data.importers.densepose import import_densepose
from kouros.data.importers.human36m import import_human36m, read_metadata
from kouros.data.importers.humaneva import HUMANEVA15, import_humaneva
from kouros.data.importers.three_doh import import_3doh
from kouros.data.importers.up_3d import import_up_3d
from kouros.data.schema import DatasetError
from kouros.data.tables import AnnotationTable


def picture(path, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def up_3d(folder, rt=(0.0, 0.0, 0.0)) -> np.ndarray:
    (folder / "val.txt").write_text("/00000_image.png\n/00001_image.png\n")
    joints = np.vstack([np.arange(28.0).reshape(2, 14), np.r_[np.zeros(3), np.ones(11)]])
    pose = np.random.default_rng(0).normal(0, 0.5, 72)
    for number in range(2):
        stem = folder / f"{number:05d}"
        picture(folder / f"{number:05d}_image.png")
        np.save(f"{stem}_joints.npy", joints)
        body = {
            "pose": pose, "betas": np.arange(10.0), "trans": np.array([0.1, 0.2, 0.3]), "t": np.array([0, 0,
            20.0]), "rt": np.array(rt), "f": 5000.0,
        }  # fmt: skip
        (folder / f"{number:05d}_body.pkl").write_bytes(pickle.dumps(body, protocol=0))
        render = np.full((48, 64, 3), 255, np.uint8)
        render[10:30, 20:35] = (255, 100, 255)
        Image.fromarray(render).save(f"{stem}_render_light.png")
        (folder / f"{number:05d}_fit_crop_info.txt").write_text("200 400 4 44 10 50")
    return pose


def test_up_3d_box_camera_and_parameters(tmp_path):
    pose = up_3d(tmp_path)
    table = AnnotationTable(import_up_3d(tmp_path, tmp_path / "out", split="val").table)
    assert len(table) == 2
    row = table[0]
    np.testing.assert_allclose(row.bbox, [20, 10, 35, 30])
    np.testing.assert_allclose(row.box_center, [27.5, 20])
    assert row.box_size == pytest.approx(24)
    assert (row.keypoints_2d[:3] == 0).all() and row.keypoints_2d[5].tolist() == [5, 19, 1]
    np.testing.assert_allclose(row.pose, pose, rtol=1e-5)
    np.testing.assert_allclose(row.transl, [0.1, 0.2, 20.3], rtol=1e-6)
    # A crop of 40x40 image pixels was fitted at 400x200: a tenth and a fifth of the focal length.
    np.testing.assert_allclose(row.intrinsics, [500, 1000, 30, 24])
    assert row.gender == "neutral"


def test_up_3d_turned_view_turns_the_body_and_missing_files_are_listed(tmp_path):
    pose = up_3d(tmp_path, rt=(np.pi, 0.0, 0.0))
    (tmp_path / "00001_body.pkl").unlink()
    report = import_up_3d(tmp_path, tmp_path / "out", split="val")
    assert [p.where for p in report.problems] == ["00001"] and "00001_body.pkl" in report.problems[0].what
    row = AnnotationTable(report.table)[0]
    turned = Rotation.from_rotvec(row.pose[:3]).as_matrix()
    np.testing.assert_allclose(turned, np.diag([1, -1, -1]) @ Rotation.from_rotvec(pose[:3]).as_matrix(), atol=1e-5)
    assert row.transl is None
    with pytest.raises(DatasetError, match=r"UP-3D: expected test\.txt in"):
        import_up_3d(tmp_path, tmp_path / "out", split="test")


def test_3doh_paths_open_and_orientation_is_the_cameras(tmp_path):
    rotation = Rotation.from_euler("y", 90, degrees=True).as_matrix()
    extrinsic = np.eye(4)
    extrinsic[:3] = np.c_[rotation, [0.1, 0.2, 3.0]]
    person = {
        "img_path": "images\\00000.jpg", "mask_path": "masks\\00000.png", "bbox": [[10, 5], [30, 45]],
        "intri": [[900, 0, 32], [0, 910, 24], [0, 0, 1]], "extri": extrinsic.tolist(),
        "pose": [[0.3, 0.1, -0.2] + [0.05] * 69], "betas": [list(range(10))], "trans": [[0, 0, 0]], "scale":
        [1.0], "smpl_joints_2d": np.arange(48).reshape(24, 2).tolist(), "lsp_joints_2d": np.zeros((14,
        2)).tolist(),
    }  # fmt: skip
    picture(tmp_path / "trainset/images/00000.jpg")
    content = {"00000": person, "00001": {"img_path": "images\\00000.jpg"}}
    (tmp_path / "trainset/annots.json").write_text(json.dumps(content))
    report = import_3doh(tmp_path, tmp_path / "out", split="train")
    assert [p.where for p in report.problems] == ["person 00001"]
    table = AnnotationTable(report.table)
    (row,) = table
    assert table.image_file(row).is_file() and row.mask_path == "masks/00000.png"
    expected = rotation @ Rotation.from_rotvec([0.3, 0.1, -0.2]).as_matrix()
    np.testing.assert_allclose(Rotation.from_rotvec(row.pose[:3]).as_matrix(), expected, atol=1e-5)
    np.testing.assert_allclose(row.box_center, [20, 25])
    assert row.box_size == pytest.approx(48)
    np.testing.assert_allclose(row.keypoints_2d[2], [4, 5, 1])
    with pytest.raises(DatasetError, match=r"expected testset/annots.json or test/annots.json in"):
        import_3doh(tmp_path, tmp_path / "out")


def test_humaneva_drops_invalid_frames_and_sees_people_in_front_of_the_cameras(tmp_path):
    folder = tmp_path / "converted_15j/Validate/S1"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 300, (4, 15, 3)) + np.array([0, 0, 900])  # near the middle of the room, z up
    joints[2, 3] = np.nan
    pixels = rng.random((3, 4, 15, 2)) * 400
    scipy.io.savemat(folder / "Walking_1.mat", {"poses_3d": joints, "poses_2d": pixels})
    (tmp_path / "S1/Image_Data").mkdir(parents=True)
    for camera in (1, 2, 3):
        (tmp_path / f"S1/Image_Data/Walking_1_(C{camera}).avi").touch()
    table = AnnotationTable(import_humaneva(tmp_path / "converted_15j", tmp_path / "out").table)
    assert table.info.keypoints_2d == HUMANEVA15
    # C1, C2, C3 show S1's first aligned frame after 82, 81 and 82 pictures; the validation part begins 5 later.
    assert table.column("frame").values.tolist() == [first + row for first in (87, 86, 87) for row in (0, 1, 3)]
    assert set(table.text("action")) == {"Walking"}
    for row, original in zip(table, [0, 1, 3] * 3, strict=True):
        seen = row.keypoints_3d[:, :3].astype(np.float64)
        assert (seen[:, 2] > 2).all()  # metres in front of each camera
        down = np.linalg.lstsq(joints[original] - joints[original].mean(0), seen - seen.mean(0), rcond=None)[0][2]
        assert down[1] < -0.0008  # the room's upward millimetres are the image's downward metres
        world = np.c_[joints[original] / 1000, np.ones(15)]
        np.testing.assert_allclose(world @ row.world_to_camera.T, seen, atol=1e-4)
    with pytest.raises(DatasetError, match="HumanEva-I: expected Train in"):
        import_humaneva(tmp_path / "converted_15j", tmp_path / "out", split="Train")


def test_densepose_points_and_parts(tmp_path):
    # A 256x256 mask whose first 300 pixels down the columns are background, then 20 of foreground, in COCO's
    # code.
    def code(number: int) -> str:
        text = ""
        while True:
            group, number = number & 31, number >> 5
            more = number != (-1 if group & 16 else 0)
            text += chr((group | 32 * more) + 48)
            if not more:
                return text

    counts = code(300) + code(20) + code(65536 - 320)
    masks = [[] for _ in range(14)]
    masks[13] = {"counts": counts, "size": [256, 256]}
    person = {
        "id": 7, "image_id": 1, "bbox": [10, 20, 25.5, 51], "iscrowd": 0, "category_id": 1, "dp_masks": masks,
        "dp_x": [0, 255, 127.5], "dp_y": [0, 255, 51], "dp_I": [1.0, 24.0, 3.0], "dp_U": [0.0, 1.0, 0.5],
        "dp_V": [0.1, 0.2, 0.3],
    }  # fmt: skip
    others = [{**person, "id": 8, "dp_I": [0.0, 1.0, 2.0]}, {"id": 9, "image_id": 1, "bbox": [0, 0, 5, 5]}]
    images = [{"id": 1, "file_name": "COCO_val2014_000000000001.jpg", "width": 64, "height": 80}]
    content = {"images": images, "annotations": [person, *others], "categories": []}
    (tmp_path / "densepose_coco_2014_minival.json").write_text(json.dumps(content))
    picture(tmp_path / "val2014/COCO_val2014_000000000001.jpg", (64, 80))
    report = import_densepose(tmp_path, tmp_path / "out")
    assert [p.where for p in report.problems] == ["annotation 8"]  # 9 has no points: passed over
    (row,) = AnnotationTable(report.table)
    np.testing.assert_allclose(row.dense_points[:, :2], [[10, 20], [35.5, 71], [22.75, 30.2]], rtol=1e-6)
    np.testing.assert_allclose(row.dense_points[:, 2:], [[1, 0, 0.1], [24, 1, 0.2], [3, 0.5, 0.3]], rtol=1e-6)
    parts = row.parts.decode()
    assert set(np.unique(parts)) == {0, 14} and (parts == 14).sum() == 20
    assert parts[300 - 256, 1] == 14  # the 300th pixel lies in the second column


def h36m(folder, subject: str = "S9") -> tuple[np.ndarray, np.ndarray]:
    cdfwrite = pytest.importorskip("cdflib.cdfwrite")
    rng = np.random.default_rng(0)
    joints = (rng.normal(0, 300, (7, 32, 3)) + np.array([0, 0, 5000])).astype(np.float32)
    pixels = (joints[..., :2] / joints[..., 2:] * 1145 + 512).astype(np.float32)
    for name, values in (("D3_Positions_mono", joints), ("D2_Positions", pixels)):
        target = folder / subject / "MyPoseFeatures" / name
        target.mkdir(parents=True)
        for clip in ("Sitting 1.55011271", "_ALL.55011271"):
            file = cdfwrite.CDF(target / f"{clip}.cdf", delete=True)
            spec = {
                "Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True,
                "Dim_Sizes": [7, values[0].size],
            }  # fmt: skip
            file.write_var(spec, var_data=values.reshape(1, 7, -1))
            file.close()
    (folder / subject / "Videos").mkdir()
    (folder / subject / "Videos/Sitting 1.55011271.mp4").touch()
    return joints, pixels


def test_h36m_keeps_every_fifth_frame_and_17_joints_in_metres(tmp_path):
    joints, pixels = h36m(tmp_path)
    report = import_human36m(tmp_path, tmp_path / "out", split="test")
    table = AnnotationTable(report.table)
    assert report.problems == () and table.column("frame").values.tolist() == [0, 5]
    row = table[1]
    assert row.image_path == "S9/Videos/Sitting 1.55011271.mp4"
    assert (row.subject, row.action, row.sequence, row.camera) == (
        "S9",
        "Sitting",
        "S9_Sitting 1",
        "55011271",
    )
    for name, raw in (("pelvis_h36m", 0), ("right_hip", 1), ("left_ankle", 8), ("head_top_h36m", 15),
                      ("left_shoulder", 17), ("right_wrist", 27)):  # fmt: skip
        np.testing.assert_allclose(row.keypoints_3d[H36M17.index(name), :3], joints[5, raw] / 1000, rtol=1e-5)
        np.testing.assert_allclose(row.keypoints_2d[H36M17.index(name), :2], pixels[5, raw], rtol=1e-5)


def test_h36m_boxes_come_from_the_masks(tmp_path):
    h36m(tmp_path)
    h5py = pytest.importorskip("h5py")
    target = tmp_path / "S9/MySegmentsMat/ground_truth_bb"
    target.mkdir(parents=True)
    with h5py.File(target / "Sitting 1.55011271.mat", "w") as file:
        references = file.create_dataset("Masks", (7, 1), dtype=h5py.ref_dtype)
        for frame in range(7):
            mask = np.zeros((1000, 1002), np.uint8)  # width, height: stored transposed
            mask[100:300, 50 : 450 + frame] = 1
            file[f"m{frame}"] = mask
            references[frame, 0] = file[f"m{frame}"].ref
    row = AnnotationTable(import_human36m(tmp_path, tmp_path / "out", split="test").table)[1]
    np.testing.assert_allclose(row.bbox, [100, 50, 300, 455])
    assert row.box_size == pytest.approx(0.9 * 405)


def test_h36m_fits_go_with_every_fifth_frame(tmp_path):
    h36m(tmp_path, "S1")
    poses = np.random.default_rng(1).normal(0, 0.3, (2, 72))
    (tmp_path / "mosh/S1").mkdir(parents=True)
    fit = {"new_poses": poses, "betas": np.arange(10.0)}
    (tmp_path / "mosh/S1/Sitting 1_cam1_aligned.pkl").write_bytes(pickle.dumps(fit, protocol=2))
    report = import_human36m(tmp_path, tmp_path / "out", stride=2, mosh=tmp_path / "mosh")
    table = AnnotationTable(report.table)
    assert table.has("pose").tolist() == [True, False, False, False]  # frames 0, 2, 4, 6
    got = Rotation.from_rotvec(table[0].pose[:3]).as_matrix()
    np.testing.assert_allclose(got, Rotation.from_rotvec(poses[0, :3]).as_matrix() @ np.diag([1, -1, -1]), atol=1e-5)
    np.testing.assert_allclose(table[0].pose[3:], poses[0, 3:], rtol=1e-5)


def test_h36m_metadata_follows_the_release_code(tmp_path):
    rng = np.random.default_rng(0)
    numbers = rng.random(300) * 2 - 1
    text = "[" + " ".join(f"{n:.17g}" for n in numbers) + "]"
    (tmp_path / "metadata.xml").write_text(f"<data><w0>{text}</w0></data>")
    intrinsics, extrinsics = read_metadata(tmp_path / "metadata.xml")["S9", "58860488"]
    np.testing.assert_array_equal(intrinsics, numbers[264 + 18 : 264 + 22])
    a, b, g, *center = numbers[6 * (11 * 2 + 8) :][:6]

    def turns(angle):
        return np.cos(angle), np.sin(angle)

    (cx, sx), (cy, sy), (cz, sz) = turns(-a), turns(b), turns(-g)
    rx = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    camera_to_world = (rx @ ry @ rz).T
    np.testing.assert_allclose(extrinsics[:, :3], camera_to_world.T, atol=1e-12)
    np.testing.assert_allclose(extrinsics @ [*np.array(center) / 1000, 1], 0, atol=1e-12)
    (tmp_path / "metadata.xml").write_text("<data></data>")
    with pytest.raises(DatasetError, match=r"no metadata\.xml of Human3\.6M"):
        read_metadata(tmp_path / "metadata.xml")


def test_h36m_in_the_wrong_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"expected S9/MyPoseFeatures/D3_Positions_mono/<Action>"):
        import_human36m(tmp_path, tmp_path / "out", split="test")
