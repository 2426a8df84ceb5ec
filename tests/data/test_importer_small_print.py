"""The small print of the data sets' formats: what is easily read wrong, from files in their documented form."""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from PIL import Image

from kouros.body.keypoints import COCO17, OPENPOSE25, SMPL24
from kouros.data.importers.coco import import_coco
from kouros.data.importers.densepose import import_densepose
from kouros.data.importers.human36m import CAMERAS, import_human36m
from kouros.data.importers.human36m_cameras import known_cameras
from kouros.data.importers.humaneva import import_humaneva
from kouros.data.importers.lsp_extended import import_lsp_extended
from kouros.data.importers.mpi_inf_3dhp import (
    import_mpi_inf_3dhp_npz,
    import_mpi_inf_3dhp_test,
    import_mpi_inf_3dhp_train,
)
from kouros.data.importers.mpii import import_mpii
from kouros.data.importers.spin_npz import export_spin_npz, import_spin_npz
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.data.tables import AnnotationTable, write_table


def picture(path: Path, size=(64, 48), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)


# --- LSP-extended ------------------------------------------------------------------------------------------------


def lspet(folder: Path, images: int = 3) -> None:
    joints = np.ones((14, 3, images))
    joints[:, 0] = np.arange(1, 15)[:, None]
    joints[:, 1] = 2 * np.arange(1, 15)[:, None]
    joints[2, :2, 1] = (100, 10)  # flagged as visible, but right of the image
    joints[5, 2, 1] = 0
    scipy.io.savemat(folder / "joints.mat", {"joints": joints})
    for number in range(1, images + 1):
        picture(folder / f"images/im{number:05d}.jpg")


def test_lsp_extended_joints_outside_the_image_are_not_annotated(tmp_path):
    lspet(tmp_path)
    row = AnnotationTable(import_lsp_extended(tmp_path, tmp_path / "out").table)[1]
    assert np.flatnonzero(row.keypoints_2d[:, 2] == 0).tolist() == [2, 5]
    assert row.box_size == pytest.approx(1.2 * 26)  # the far joint would make it 1.2 * 99


def test_lsp_extended_as_spin_took_it_trusts_every_joint(tmp_path):
    lspet(tmp_path)
    row = AnnotationTable(import_lsp_extended(tmp_path, tmp_path / "out", like_spin=True).table)[1]
    assert (row.keypoints_2d[:, 2] == 1).all()
    assert np.flatnonzero(~row.visible).tolist() == [2, 5]


def test_lsp_extended_numbers_tell_the_image_where_one_is_missing(tmp_path):
    lspet(tmp_path)
    (tmp_path / "images/im00002.jpg").unlink()
    report = import_lsp_extended(tmp_path, tmp_path / "out")
    assert AnnotationTable(report.table).text("image_path") == ["images/im00001.jpg", "images/im00003.jpg"]
    assert [p.where for p in report.problems] == ["images/im00002.jpg"]


# --- MPII --------------------------------------------------------------------------------------------------------


def struct_array(items: list[dict]) -> np.ndarray:
    result = np.empty(len(items), dtype=[(key, object) for key in items[0]])
    for i, item in enumerate(items):
        result[i] = tuple(item.values())
    return result


def mpii(folder: Path) -> None:
    def person(x: float, joints: range) -> dict:
        # Whether it is visible as a number: files written anew have it so.
        points = [{"x": x + j, "y": 20.0 + j, "id": j, "is_visible": float(j % 2)} for j in joints]
        head = {"x1": 5.0, "y1": 6.0, "x2": 9.0, "y2": 12.0}
        return head | {"scale": 1.0, "objpos": {"x": x, "y": 25.0}, "annopoints": {"point": struct_array(points)}}

    rects = [struct_array([person(10, range(16)), person(40, range(14))]), person(30, range(16))]
    annolist = struct_array(
        [{"image": {"name": n}, "annorect": r} for n, r in zip(("a.jpg", "b.jpg"), rects, strict=True)]
    )
    release = {"annolist": annolist, "img_train": np.array([1, 1]), "version": "12"}
    (folder / "annotations").mkdir()
    scipy.io.savemat(folder / "annotations/mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    for name in "ab":
        picture(folder / f"images/{name}.jpg")


def json_list(path: Path) -> Path:
    people = [{"image": "a.jpg", "center": [40.0, 25.0], "scale": 1.0, "joints": [[0, 0]] * 16, "joints_vis": [1] * 16}]
    path.write_text(json.dumps(people))
    return path


def hdf5_list(path: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["imgname"] = np.array([b"a.jpg"])
        file["center"] = np.array([[40.0, 25.0]])
    return path


@pytest.mark.parametrize(("write", "name"), [(json_list, "mpii_val.json"), (hdf5_list, "valid.h5")])
def test_mpii_listed_people_are_the_validation(tmp_path, write, name: str):
    mpii(tmp_path)
    report = import_mpii(tmp_path, tmp_path / "out", split="val", people=write(tmp_path / name))
    assert report.table.name == "mpii_val.parquet"
    (row,) = AnnotationTable(report.table)
    assert row.person == "0.1" and row.box_center.tolist() == [39.5, 24.5]
    assert np.flatnonzero(row.visible).tolist() == [1, 3, 5, 7, 9, 11, 13]


def test_mpii_listed_images_are_taken_whole(tmp_path):
    mpii(tmp_path)
    (tmp_path / "val.txt").write_text("a.jpg\n")
    report = import_mpii(tmp_path, tmp_path / "out", split="val", people=tmp_path / "val.txt")
    assert AnnotationTable(report.table).text("person") == ["0.0", "0.1"]


def test_mpii_as_spin_took_it_needs_every_keypoint(tmp_path):
    mpii(tmp_path)
    table = AnnotationTable(import_mpii(tmp_path, tmp_path / "out", like_spin=True).table)
    assert table.text("person") == ["0.0", "1.0"]


def test_mpii_division_needs_a_list_and_a_list_of_its_own_kind(tmp_path):
    mpii(tmp_path)
    with pytest.raises(DatasetError, match=r"'val' must be listed: give valid\.h5"):
        import_mpii(tmp_path, tmp_path / "out", split="val")
    with pytest.raises(DatasetError, match="there is no such list"):
        import_mpii(tmp_path, tmp_path / "out", split="val", people=tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"images": []}')
    with pytest.raises(DatasetError, match="expected a JSON list of people"):
        import_mpii(tmp_path, tmp_path / "out", split="val", people=tmp_path / "x.json")


# --- SPIN's files ------------------------------------------------------------------------------------------------


def spin(folder: Path, **changes) -> Path:
    arrays = {
        "imgname": np.array(["0.png", "1.png"]),
        "center": np.full((2, 2), 30.0),
        "scale": np.full(2, 0.2),
        "pose": np.zeros((2, 72)),
        "shape": np.zeros((2, 10)),
        **changes,
    }
    for number in range(2):
        picture(folder / f"{number}.png")
    np.savez(folder / "spin.npz", **arrays)
    return folder / "spin.npz"


def test_spin_names_may_be_python_objects(tmp_path):
    names = np.array(["0.png", b"1.png"], dtype=object)
    table = AnnotationTable(import_spin_npz(spin(tmp_path, imgname=names), tmp_path / "out").table)
    assert table.text("image_path") == ["0.png", "1.png"]


class _Hostile:
    def __init__(self, flag: Path):
        self.flag = flag

    def __reduce__(self):
        return os.system, (f"touch {self.flag}",)


def test_spin_objects_that_would_run_something_are_refused(tmp_path):
    file = spin(tmp_path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|O", "fortran_order": False, "shape": (2,)})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("gender.npy", header.getvalue() + pickle.dumps(_Hostile(tmp_path / "ran"), protocol=2))
    with pytest.raises(DatasetError, match="neither an array nor a container"):
        import_spin_npz(file, tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_spin_fits_take_the_place_of_the_files_own(tmp_path):
    file = spin(tmp_path, gender=np.array(["m", "f"]))
    fits = {"pose": np.full((2, 72), 0.25), "betas": np.full((2, 10), 0.5), "valid_fit": np.array([0, 1])}
    np.savez(tmp_path / "fits.npz", **fits)
    table = AnnotationTable(import_spin_npz(file, tmp_path / "out", fits=tmp_path / "fits.npz").table)
    assert table.has("pose").tolist() == [False, True]
    assert (table[1].pose == 0.25).all() and (table[1].betas == 0.5).all() and table[1].gender == "neutral"
    np.savez(tmp_path / "fits.npz", **{key: value[:1] for key, value in fits.items()})
    with pytest.raises(DatasetError, match=r"expected \(2, 72\).*a fit for each row"):
        import_spin_npz(file, tmp_path / "out", fits=tmp_path / "fits.npz")


def test_spin_masks_have_a_root_of_their_own(tmp_path):
    names = np.array(["data/lsp/im1001_segmentation.png"] * 2)
    file = spin(tmp_path, maskname=names, partname=names)
    table = AnnotationTable(import_spin_npz(file, tmp_path / "out", masks=tmp_path / "upi").table)
    assert table.info.provenance["mask_root"] == str(tmp_path / "upi")
    assert table[0].mask_path == "data/lsp/im1001_segmentation.png"


def test_spin_files_hold_3d_joints_from_the_pelvis(tmp_path):
    rng = np.random.default_rng(0)
    joints = rng.normal((0.3, 0.2, 4.0), 0.4, (24, 3))
    keypoints = np.zeros((25, 3))
    keypoints[OPENPOSE25.index("left_wrist")] = 5, 6, 0.5
    sample = Sample(
        "a.png",
        box_center=np.zeros(2),
        box_size=10.0,
        keypoints_2d=keypoints,
        keypoints_3d=np.c_[joints, np.ones(24)],
        pose=np.zeros(72),
        betas=np.zeros(10),
        gender="female",
    )
    write_table(tmp_path / "t.parquet", TableInfo("3dpw", "test", "/x", OPENPOSE25, SMPL24, "camera"), [sample])
    export_spin_npz(AnnotationTable(tmp_path / "t.parquet"), tmp_path / "t.npz")
    with np.load(tmp_path / "t.npz") as file:
        assert file["gender"].tolist() == ["f"] and "part" not in file.files
        np.testing.assert_allclose(file["openpose"][0, 7], [5, 6, 0.5])
        knee = joints[SMPL24.index("right_knee")] - joints[0]
        np.testing.assert_allclose(file["S"][0, 1], [*knee, 1], atol=1e-6)  # right knee is second of SPIN's 24
        assert (file["S"][0, 2] == 0).all()  # SMPL has no hip of LSP's


# --- Human3.6M ---------------------------------------------------------------------------------------------------


def h36m(folder: Path, action: str = "TakingPhoto 1", frames: int = 12) -> None:
    cdfwrite = pytest.importorskip("cdflib.cdfwrite")
    rng = np.random.default_rng(0)
    joints = (rng.normal(0, 300, (frames, 32, 3)) + np.array([0, 0, 5000])).astype(np.float32)
    pixels = (joints[..., :2] / joints[..., 2:] * 1145 + 512).astype(np.float32)
    for name, values in (("D3_Positions_Mono", joints), ("D2Positions", pixels)):  # as some tools spell them
        target = folder / "S1/MyPoseFeatures" / name
        target.mkdir(parents=True)
        file = cdfwrite.CDF(target / f"{action}.58860488.cdf", delete=True)
        size = values[0].size
        spec = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": [frames, size]}
        file.write_var(spec, var_data=values.reshape(1, frames, -1))
        file.close()
    (folder / "S1/Videos").mkdir()


def test_h36m_clip_without_fits_is_imported_without_and_listed(tmp_path):
    h36m(tmp_path)
    (tmp_path / "S1/Videos/TakingPhoto 1.58860488.mp4").touch()
    (tmp_path / "mosh").mkdir()
    report = import_human36m(tmp_path, tmp_path / "out", mosh=tmp_path / "mosh")
    table = AnnotationTable(report.table)
    assert len(table) == 3 and not table.has("pose").any()
    (problem,) = report.problems
    assert "imported without" in problem.where and "TakingPhoto 1_cam2_aligned.pkl" in problem.what
    assert set(table.text("action")) == {"Photo"}  # other subjects' name of the action
    assert set(table.text("sequence")) == {"S1_TakingPhoto 1"}


def test_h36m_stops_where_the_video_does(tmp_path):
    h36m(tmp_path)
    path = tmp_path / "S1/Videos/TakingPhoto 1.58860488.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 50, (64, 64))
    if not video.isOpened():
        pytest.skip("this OpenCV writes no mp4")
    for _ in range(8):
        video.write(np.zeros((64, 64, 3), np.uint8))
    video.release()
    table = AnnotationTable(import_human36m(tmp_path, tmp_path / "out").table)
    assert table.column("frame").values.tolist() == [0, 5]  # the poses go on to 10


def test_h36m_known_cameras_stand_around_the_room_and_see_its_middle():
    cameras = known_cameras()
    assert {key[0] for key in cameras} == {"S1", "S5", "S6", "S7", "S8", "S9", "S11"}
    for (subject, name), ((fx, fy, cx, cy), pose) in cameras.items():
        assert name in CAMERAS
        center = -pose[:, :3].T @ pose[:, 3]
        assert 3.5 < np.hypot(*center[:2]) < 6.5 and 1.4 < center[2] < 1.7, (subject, name)
        x, y, z = pose @ [0, 0, 0.9, 1]  # a standing person's pelvis
        assert 3.5 < z < 6.5 and abs(fx * x / z + cx - 500) < 300 and abs(fy * y / z + cy - 500) < 150
        assert pose[1, 2] < -0.9  # upwards in the room is upwards in the image


def test_h36m_without_metadata_has_the_known_cameras(tmp_path):
    h36m(tmp_path)
    (tmp_path / "S1/Videos/TakingPhoto 1.58860488.mp4").touch()
    row = AnnotationTable(import_human36m(tmp_path, tmp_path / "out").table)[0]
    np.testing.assert_allclose(row.intrinsics, [1149.14075, 1148.79895, 519.815857, 501.402649], rtol=1e-6)
    np.testing.assert_allclose(row.world_to_camera @ [-1.846778, 5.215046, 1.491972, 1], 0, atol=1e-5)


# --- MPI-INF-3DHP ------------------------------------------------------------------------------------------------

CALIBRATION = "\n".join(
    ["Skeletool Camera Calibration File V1.0"]
    + [
        line
        for number in range(14)
        for line in (
            f"name          {number}",
            "  sensor      10 10",
            "  size        2048 2048",
            "  animated    0",
            "  intrinsic   1500 0 1024 0 0 1490 1030 0 0 0 1 0 0 0 0 1 ",
            "  extrinsic   1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1 ",
            "  radial      0",
        )
    ]
)


def test_3dhp_rows_belong_to_the_frames_the_file_names(tmp_path):
    sequence = tmp_path / "S1/Seq1"
    pixels, joints = np.random.default_rng(0).random((2, 3, 84)) * 500
    cells = {key: np.empty((14, 1), dtype=object) for key in ("annot2", "annot3", "univ_annot3")}
    for camera in range(14):
        cells["annot2"][camera, 0] = pixels[:, :56]
        cells["annot3"][camera, 0] = cells["univ_annot3"][camera, 0] = joints
    # The second row is of the video's 10th frame; the last is beyond the 6416 pictures of the video.
    frames = np.array([[5], [10], [7000]])
    sequence.mkdir(parents=True)
    (sequence / "camera.calibration").write_text(CALIBRATION)
    scipy.io.savemat(sequence / "annot.mat", cells | {"frames": frames})
    for number in (6, 11):
        picture(sequence / f"video_3/{number:06d}.jpg", (2048, 2048))  # mmhuman3d's places
    report = import_mpi_inf_3dhp_train(tmp_path, tmp_path / "out", cameras=(3,), stride=5)
    table = AnnotationTable(report.table)
    assert table.text("image_path") == ["S1/Seq1/video_3/000006.jpg", "S1/Seq1/video_3/000011.jpg"]
    assert table.column("frame").values.tolist() == [5, 10] and report.problems == ()
    np.testing.assert_allclose(table[1].keypoints_2d[14, :2], pixels[1, 8:10], rtol=1e-5)  # pelvis: 14th and 4th
    with pytest.raises(DatasetError, match="no cameras 3, 14; it has 0 to 13"):
        import_mpi_inf_3dhp_train(tmp_path, tmp_path / "out", cameras=(3, 14))


def test_3dhp_test_cameras_are_found_from_the_annotations(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(1)
    joints = rng.normal(0, 300, (3, 1, 17, 3)) + np.array([0, 0, 3000])
    pixels = joints[..., :2] / joints[..., 2:] * [1683.5, 1671.9] + [939.9, 560.2]
    pixels[2] = 1e6  # an invalid frame
    (tmp_path / "TS5").mkdir()
    with h5py.File(tmp_path / "TS5/annot_data.mat", "w") as file:
        file["annot2"], file["annot3"], file["univ_annot3"] = pixels, joints, joints
        file["valid_frame"] = np.array([[1.0], [1.0], [0.0]])
        file["activity_annotation"] = np.ones((3, 1))
    for number in (1, 2):
        picture(tmp_path / f"TS5/imageSequence/img_{number:06d}.jpg", (1920, 1080))
    table = AnnotationTable(import_mpi_inf_3dhp_test(tmp_path, tmp_path / "out").table)
    assert len(table) == 2
    np.testing.assert_allclose(table[0].intrinsics, [1683.5, 1671.9, 939.9, 560.2], rtol=1e-5)


def test_3dhp_names_of_mmposes_pictures_tell_the_frame(tmp_path):
    picture(tmp_path / "S4_Seq2_Cam0_001033.jpg")
    arrays = {"imgname": np.array(["S4_Seq2_Cam0_001033.jpg"]), "center": np.zeros((1, 2)), "scale": np.ones(1)}
    np.savez(tmp_path / "a.npz", **arrays, part=np.zeros((1, 17, 3)), S=np.zeros((1, 17, 4)))
    (row,) = AnnotationTable(import_mpi_inf_3dhp_npz(tmp_path / "a.npz", tmp_path / "out").table)
    assert (row.subject, row.sequence, row.camera, row.frame) == ("S4", "S4_Seq2", "0", 1032)


# --- HumanEva-I --------------------------------------------------------------------------------------------------


def test_humaneva_training_rows_begin_where_validation_ends(tmp_path):
    folder = tmp_path / "converted_15j/Train/S3"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    content = {"poses_3d": rng.random((2, 15, 3)) * 900, "poses_2d": rng.random((3, 2, 15, 2)) * 400}
    scipy.io.savemat(folder / "Jog_1.mat", content)
    (tmp_path / "S3/Image_Data").mkdir(parents=True)
    for camera in (1, 2, 3):
        (tmp_path / f"S3/Image_Data/Jog_1_(C{camera}).avi").touch()
    table = AnnotationTable(import_humaneva(tmp_path / "converted_15j", tmp_path / "out", split="Train").table)
    assert table.column("frame").values.tolist() == [65 + 401, 65 + 402] * 3


# --- COCO and DensePose ------------------------------------------------------------------------------------------


def coco(folder: Path, name: str, pictures: str, **person) -> Path:
    keypoints = [[5 + i, 6 + i, 2] for i in range(17)]
    annotation = {"id": 1, "image_id": 1, "bbox": [4, 5, 20, 30], "keypoints": np.ravel(keypoints).tolist(), **person}
    images = [{"id": 1, "file_name": "000000000001.jpg", "width": 64, "height": 48}]
    path = folder / "annotations" / name
    path.parent.mkdir()
    path.write_text(json.dumps({"images": images, "annotations": [annotation]}))
    picture(folder / pictures / "000000000001.jpg")
    return path


def test_coco_file_named_alone_finds_its_pictures_beside_its_folder(tmp_path):
    file = coco(tmp_path, "person_keypoints_val2017.json", "val2017")
    table = AnnotationTable(import_coco(file, tmp_path / "out", split="val2017").table)
    assert table.info.image_root == str(tmp_path / "val2017")


def test_coco_minival_pictures_are_in_val2014(tmp_path):
    coco(tmp_path, "person_keypoints_minival2014.json", "val2014")
    assert import_coco(tmp_path, tmp_path / "out", split="minival2014").rows == 1


def test_coco_pictures_of_another_size_than_annotated_are_listed(tmp_path):
    file = coco(tmp_path, "person_keypoints_val2017.json", "val2017")
    picture(tmp_path / "val2017/000000000001.jpg", (32, 24))
    with pytest.raises(DatasetError, match="the image has 32 x 24 pixels, but was annotated at 64 x 48"):
        import_coco(file, tmp_path / "out", split="val2017")


def test_pictures_are_measured_upright_as_they_are_read(tmp_path):
    file = coco(tmp_path, "person_keypoints_val2017.json", "val2017")
    exif = Image.Exif()
    exif[0x0112] = 6  # a camera held upright: the stored picture lies on its side
    picture(tmp_path / "val2017/000000000001.jpg", (48, 64), exif=exif)
    table = AnnotationTable(import_coco(file, tmp_path / "out", split="val2017").table)
    assert table[0].image_size == (64, 48) and table.info.keypoints_2d == COCO17


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_that_are_cut_off_are_listed(tmp_path, suffix: str):
    file = spin(tmp_path, imgname=np.array([f"whole.{suffix}", f"cut.{suffix}"]))
    pixels = np.random.default_rng(0).integers(0, 255, (100, 100, 3), dtype=np.uint8)
    for name in ("whole", "cut"):
        Image.fromarray(pixels).save(tmp_path / f"{name}.{suffix}")
    content = (tmp_path / f"cut.{suffix}").read_bytes()
    (tmp_path / f"cut.{suffix}").write_bytes(content[: len(content) // 2])
    report = import_spin_npz(file, tmp_path / "out")
    assert [p.where for p in report.problems] == [f"cut.{suffix}"] and "cannot be read" in report.problems[0].what
    assert report.rows == 1


def test_densepose_people_without_keypoints_have_none_and_pictures_lie_beside_the_annotations(tmp_path):
    dense = {"dp_x": [0.0], "dp_y": [255.0], "dp_I": [1.0], "dp_U": [0.5], "dp_V": [0.5], "keypoints": [0] * 51}
    file = coco(tmp_path, "densepose_coco_2014_minival.json", "val2014", **dense)
    (row,) = AnnotationTable(import_densepose(file, tmp_path / "out").table)
    assert row.keypoints_2d is None and row.visible is None
    np.testing.assert_allclose(row.dense_points[0, :2], [4, 35])
