"""MPI-INF-3DHP and 3DPW, from files written as their owners lay them out, and mmpose's sample of 3DHP."""

import os
import pickle

import numpy as np
import pytest
import scipy.io
from PIL import Image
from scipy.spatial.transform import Rotation

from kouros.body.keypoints import MPI_INF_3DHP17, OPENPOSE25
from kouros.data.importers.mpi_inf_3dhp import (
    import_mpi_inf_3dhp_npz,
    import_mpi_inf_3dhp_test,
    import_mpi_inf_3dhp_train,
    read_calibration,
)
from kouros.data.importers.pickles import load_pickle
from kouros.data.importers.three_dpw import import_3dpw
from kouros.data.schema import DatasetError
from kouros.data.tables import AnnotationTable

TRAIN_JOINTS = [
    "spine3",
    "spine4",
    "spine2",
    "spine",
    "pelvis",
    "neck",
    "head",
    "head_top",
    "left_clavicle",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "left_hand",
    "right_clavicle",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "right_hand",
    "left_hip",
    "left_knee",
    "left_ankle",
    "left_foot",
    "left_toe",
    "right_hip",
    "right_knee",
    "right_ankle",
    "right_foot",
    "right_toe",
]


def calibration(cameras: int = 14) -> str:
    lines = ["Skeletool Camera Calibration File V1.0"]
    for number in range(cameras):
        lines += [
            f"name          {number}",
            "  sensor      10 10",
            "  size        2048 2048",
            "  animated    0",
            "  intrinsic   1500 0 1024 0 0 1490 1030 0 0 0 1 0 0 0 0 1 ",
            f"  extrinsic   0 0 1 {100 * number} 0 1 0 200 -1 0 0 300 0 0 0 1 ",
            "  radial      0",
        ]
    return "\n".join(lines) + "\n"


def train_sequence(folder, frames: int = 25):
    sequence = folder / "S1/Seq1"
    (sequence / "imageSequence").mkdir(parents=True)
    (sequence / "camera.calibration").write_text(calibration())
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 300, (14, frames, 28, 3)) + np.array([0, 0, 3500])
    pixels = joints[..., :2] / joints[..., 2:] * [1500, 1490] + [1024, 1030]
    pixels[0, 0, TRAIN_JOINTS.index("left_knee")] = (-5, 100)

    def cells(values):
        result = np.empty((14, 1), dtype=object)
        for camera in range(14):
            result[camera, 0] = values[camera].reshape(frames, -1)
        return result

    content = {"annot2": cells(pixels), "annot3": cells(joints), "univ_annot3": cells(joints * 0.9)}
    scipy.io.savemat(sequence / "annot.mat", content | {"frames": np.arange(frames)[:, None]})
    for camera in (0, 2):
        (sequence / f"imageSequence/video_{camera}.avi").touch()
    return joints, pixels


def test_3dhp_training_joints_become_the_tests_in_metres(tmp_path):
    joints, pixels = train_sequence(tmp_path)
    report = import_mpi_inf_3dhp_train(tmp_path, tmp_path / "out", cameras=(0, 2))
    table = AnnotationTable(report.table)
    assert table.column("frame").values.tolist() == [0, 10, 20] * 2
    assert table.text("camera") == ["0"] * 3 + ["2"] * 3
    row = table[4]
    for name in (
        "pelvis_3dhp",
        "head_top",
        "left_wrist",
        "right_ankle",
        "spine_3dhp",
        "neck_3dhp",
        "head_3dhp",
    ):
        old, new = TRAIN_JOINTS.index(name.removesuffix("_3dhp")), MPI_INF_3DHP17.index(name)
        np.testing.assert_allclose(row.keypoints_3d[new, :3], joints[2, 10, old] / 1000, rtol=1e-5)
        np.testing.assert_allclose(row.keypoints_2d[new, :2], pixels[2, 10, old], rtol=1e-5)
    np.testing.assert_allclose(row.keypoints_3d_universal[:, :3], 0.9 * row.keypoints_3d[:, :3], rtol=1e-5)
    fx, fy, cx, cy = row.intrinsics
    projected = row.keypoints_3d[:, :2] / row.keypoints_3d[:, 2:3] * [fx, fy] + [cx, cy]
    assert np.abs(projected - row.keypoints_2d[:, :2]).max() < 0.01
    np.testing.assert_allclose(row.world_to_camera[:, 3], [0.2, 0.2, 0.3])
    assert row.image_path == "S1/Seq1/imageSequence/video_2.avi"
    knee = MPI_INF_3DHP17.index("left_knee")
    assert table[0].keypoints_2d[knee, 2] == 0 and table[0].keypoints_3d[knee, 3] == 1  # outside the image


def test_3dhp_missing_video_is_listed_and_extracted_frames_are_preferred(tmp_path):
    train_sequence(tmp_path)
    frames = tmp_path / "S1/Seq1/imageFrames/video_2"
    frames.mkdir(parents=True)
    for number in (1, 21):
        Image.new("RGB", (2048, 2048)).save(frames / f"frame_{number:06d}.jpg")
    report = import_mpi_inf_3dhp_train(tmp_path, tmp_path / "out", cameras=(2, 4))
    assert AnnotationTable(report.table).column("frame").values.tolist() == [0, 20]
    missing = {(p.where, p.what) for p in report.problems}
    assert ("S1/Seq1/imageSequence/video_4.avi", "there is no such video") in missing
    assert ("S1/Seq1/imageFrames/video_2/frame_000011.jpg", "there is no such image") in missing


def test_3dhp_damaged_calibration_is_a_problem_of_its_sequence(tmp_path):
    train_sequence(tmp_path)
    (tmp_path / "S1/Seq1/camera.calibration").write_text("Skeletool\nname 0\n  size 2048\n")
    with pytest.raises(DatasetError, match=r"no row of .*S1/Seq1 camera 0.*no readable camera calibration"):
        import_mpi_inf_3dhp_train(tmp_path, tmp_path / "out", cameras=(0,))
    with pytest.raises(DatasetError, match="no readable camera calibration"):
        read_calibration(tmp_path / "missing")


def test_3dhp_test_frames_are_the_valid_ones(tmp_path):
    h5py = pytest.importorskip("h5py")
    folder = tmp_path / "mpi_inf_3dhp_test_set/TS5"
    (folder / "imageSequence").mkdir(parents=True)
    rng = np.random.default_rng(1)
    joints = rng.normal(0, 300, (3, 1, 17, 3)) + np.array([0, 0, 3000])
    with h5py.File(folder / "annot_data.mat", "w") as file:
        file["annot2"] = rng.random((3, 1, 17, 2)) * 900
        file["annot3"] = joints
        file["univ_annot3"] = joints * 1.1
        file["valid_frame"] = np.array([[1.0], [0.0], [1.0]])
        file["activity_annotation"] = np.array([[1.0], [1.0], [5.0]])
    for number in (1, 2, 3):
        Image.new("RGB", (1920, 1080)).save(folder / f"imageSequence/img_{number:06d}.jpg")
    table = AnnotationTable(import_mpi_inf_3dhp_test(tmp_path, tmp_path / "out").table)
    assert table.column("frame").values.tolist() == [0, 2]
    assert table.text("action") == ["standing/walking", "on the floor"]
    np.testing.assert_allclose(table[1].keypoints_3d_universal[:, :3], joints[2, 0] * 1.1e-3, rtol=1e-5)
    assert table[1].image_path == "TS5/imageSequence/img_000003.jpg" and table[1].image_size == (1920, 1080)


def test_3dhp_in_the_wrong_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"expected S1/Seq1/annot.mat in"):
        import_mpi_inf_3dhp_train(tmp_path, tmp_path / "out")
    with pytest.raises(DatasetError, match=r"expected TS1/annot_data.mat in"):
        import_mpi_inf_3dhp_test(tmp_path, tmp_path / "out")


@pytest.mark.samples
def test_3dhp_sample_projects_onto_its_own_keypoints(samples, tmp_path):
    report = import_mpi_inf_3dhp_npz(samples / "mpi_inf_3dhp_sample/annotations.npz", tmp_path)
    table = AnnotationTable(report.table)
    assert (len(table), report.problems) == (2, ())
    for row in table:
        assert row.image_size == (2048, 2048)
        joints, pixels = row.keypoints_3d.astype(np.float64), row.keypoints_2d.astype(np.float64)
        # The camera's focal length and centre, by least squares over both axes, leave a few pixels at most.
        for axis in (0, 1):
            slope = np.c_[joints[:, axis] / joints[:, 2], np.ones(17)]
            solution, *_ = np.linalg.lstsq(slope, pixels[:, axis], rcond=None)
            assert 1450 < solution[0] < 1550 and 1000 < solution[1] < 1100
            assert np.abs(slope @ solution - pixels[:, axis]).max() < 4
        thigh = np.linalg.norm(joints[MPI_INF_3DHP17.index("left_hip")] - joints[MPI_INF_3DHP17.index("left_knee")])
        assert 0.3 < thigh < 0.55
        assert (np.abs(pixels[:, :2] - row.box_center) < 0.6 * row.box_size).all()


def dpw(folder, frames: int = 3) -> dict:
    rng = np.random.default_rng(2)
    cameras = np.tile(np.eye(4), (frames, 1, 1))
    cameras[:, :3, :3] = Rotation.from_quat(rng.normal(size=(frames, 4))).as_matrix()
    cameras[:, :3, 3] = [0.1, 0.2, 5.0]
    detections = np.zeros((2, frames, 3, 18))
    detections[0] = rng.random((frames, 3, 18)) * [[200], [300], [1]]
    content = {
        "sequence": "downtown_toy_00",
        "poses": [rng.normal(0, 0.3, (frames, 72)) for _ in range(2)],
        "trans": [rng.normal(0, 0.3, (frames, 3)) for _ in range(2)],
        "betas": [rng.normal(0, 1, 10), np.r_[rng.normal(0, 1, 10), np.zeros(290)]],
        "genders": ["m", "f"],
        "jointPositions": [rng.normal(0, 0.4, (frames, 72)) for _ in range(2)],
        "poses2d": list(detections),
        "campose_valid": [np.array([1, 0, 1]), np.array([1, 1, 1])],
        "cam_poses": cameras,
        "cam_intrinsics": np.array([[1960.0, 0, 540], [0, 1960, 960], [0, 0, 1]]),
        "img_frame_ids": np.arange(frames),
    }
    target = folder / "sequenceFiles/test"
    target.mkdir(parents=True)
    (target / "downtown_toy_00.pkl").write_bytes(pickle.dumps(content, protocol=2))
    for frame in range(frames):
        path = folder / f"imageFiles/downtown_toy_00/image_{frame:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (108, 192)).save(path)
    return content


def test_3dpw_people_are_turned_into_the_cameras_frame(tmp_path):
    content = dpw(tmp_path)
    table = AnnotationTable(import_3dpw(tmp_path, tmp_path / "out").table)
    assert table.text("person") == ["0", "0", "1", "1", "1"]
    assert table.column("frame").values.tolist() == [0, 2, 0, 1, 2]  # one frame has no valid camera
    assert table.text("gender") == ["male"] * 2 + ["female"] * 3
    row = table[1]
    camera = content["cam_poses"][2]
    world = content["jointPositions"][0][2].reshape(24, 3)
    expected = world @ camera[:3, :3].T + camera[:3, 3]
    np.testing.assert_allclose(row.keypoints_3d[:, :3], expected, rtol=1e-4, atol=1e-5)
    turned = Rotation.from_rotvec(row.pose[:3]).as_matrix()
    root = Rotation.from_rotvec(content["poses"][0][2, :3]).as_matrix()
    np.testing.assert_allclose(turned, camera[:3, :3] @ root, atol=1e-5)
    np.testing.assert_allclose(row.pose[3:], content["poses"][0][2, 3:], rtol=1e-5)
    np.testing.assert_allclose(table[2].betas, content["betas"][1][:10], rtol=1e-5)
    # SMPL with these parameters puts its pelvis (rest + transl) where the camera sees it.
    rest = world[0] - content["trans"][0][2]
    np.testing.assert_allclose(row.transl + rest, expected[0], atol=1e-5)


def test_3dpw_detections_find_their_names_and_people_without_get_a_box(tmp_path):
    content = dpw(tmp_path)
    table = AnnotationTable(import_3dpw(tmp_path, tmp_path / "out").table)
    detected = content["poses2d"][0][0]
    wrist = OPENPOSE25.index("left_wrist")
    np.testing.assert_allclose(table[0].keypoints_2d[wrist], detected[:, 7], rtol=1e-5)
    assert table[0].keypoints_2d[OPENPOSE25.index("mid_hip"), 2] == 0
    extent = (detected[:2].max(axis=1) - detected[:2].min(axis=1)).max()
    assert table[0].box_size == pytest.approx(1.2 * extent)
    assert not table[2].has("keypoints_2d") and table[2].box_size > 0


def test_3dpw_broken_sequence_is_listed_and_the_others_imported(tmp_path):
    dpw(tmp_path)
    (tmp_path / "sequenceFiles/test/broken.pkl").write_bytes(b"\x80\x02nonsense")
    report = import_3dpw(tmp_path, tmp_path / "out")
    assert report.rows == 5
    assert [p.where for p in report.problems] == ["broken.pkl"]


def test_3dpw_in_the_wrong_folder(tmp_path):
    with pytest.raises(DatasetError, match="expected sequenceFiles/validation or sequenceFiles/val in"):
        import_3dpw(tmp_path, tmp_path / "out", split="validation")


class _Hostile:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("function", [os.system, eval, np.load, np.array, getattr], ids=lambda f: f.__name__)
def test_pickles_that_call_anything_are_refused_uncalled(tmp_path, function):
    flag = tmp_path / "ran"
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"poses": _Hostile(function, f"touch {flag}")}, protocol=2))
    with pytest.raises(DatasetError, match="neither an array nor a container"):
        load_pickle(tmp_path / "x.pkl")
    assert not flag.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_arrays_of_every_protocol_are_read(tmp_path, protocol: int):
    arrays = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": [np.float32(2.5), "m"],
        "c": np.array(["x"], dtype=object),
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(arrays, protocol=protocol))
    read = load_pickle(tmp_path / "x.pkl")
    np.testing.assert_array_equal(read["a"], arrays["a"])
    assert read["b"] == [2.5, "m"] and read["c"].tolist() == ["x"]
    read["a"] += 1  # an array of one's own, not a view of the file's bytes


def test_pickled_arrays_of_arrays_and_cycles_are_read(tmp_path):
    ragged = np.empty((2, 2), dtype=object, order="F")
    ragged[:] = [[np.zeros(1), np.ones(2)], [np.arange(3), None]]
    alike = np.empty(2, dtype=object)
    alike[0], alike[1] = np.zeros(2), np.ones(2)
    content = {"ragged": ragged, "alike": alike, "pair": (np.ones(2), 1)}
    content["self"] = content
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    read = load_pickle(tmp_path / "x.pkl")
    assert [[np.size(v) for v in row] for row in read["ragged"]] == [[1, 2], [3, 1]]
    assert type(read["ragged"][1, 0]) is np.ndarray and read["ragged"][1, 1] is None
    np.testing.assert_array_equal(read["pair"][0], [1, 1])
    assert read["alike"].shape == (2,) and read["alike"][1].tolist() == [1, 1]
    assert read["self"] is read


def test_a_list_of_lists_that_would_unfold_without_end_is_refused(tmp_path):
    level: list = []
    for _ in range(60):
        level = [level] * 10
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": level}))
    with pytest.raises(DatasetError, match="nested too deeply"):
        load_pickle(tmp_path / "x.pkl")


def test_objects_are_no_arrays(tmp_path):
    sparse = pytest.importorskip("scipy.sparse").csc_matrix(np.eye(2))
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"a": sparse}))
    with pytest.raises(DatasetError, match=r"holds a scipy\.sparse.*csc_matrix"):
        load_pickle(tmp_path / "x.pkl")
