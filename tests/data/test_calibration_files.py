"""Camera files as the programs write them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kouros.data.calibration import Calibration
from kouros.data.calibration_files import read_calibration

MATRIX = np.array([[900.0, 0, 499.5], [0, 880, 389.5], [0, 0, 1]])
DISTORTION = np.array([[-0.28, 0.09, 0.001, -0.0005, -0.01]])
CAMERA = Calibration((900.0, 880.0), (500.0, 390.0), tuple(DISTORTION[0]), (1000, 800))
POSE2SIM = """
[cam_01]
name = "left"
size = [ 1000.0, 800.0]
matrix = [ [ 900.0, 0.0, 499.5], [ 0.0, 880.0, 389.5], [ 0.0, 0.0, 1.0]]
distortions = [ -0.28, 0.09, 0.001, -0.0005]
rotation = [ 1.2, 0.0, 0.0]
translation = [ 0.1, 0.2, 3.0]
fisheye = false
"""


@pytest.mark.parametrize("suffix", [".yml", ".xml", ".json"])
def test_what_opencv_writes_is_read(tmp_path: Path, suffix: str):
    path = tmp_path / f"camera{suffix}"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for name, value in (("image_width", 1000), ("image_height", 800)):
        storage.write(name, value)
    storage.write("camera_matrix", MATRIX)
    storage.write("distortion_coefficients", DISTORTION)
    storage.release()
    assert read_calibration(path) == CAMERA


def test_plain_json_is_read(tmp_path: Path):
    path = tmp_path / "camera.json"
    path.write_text(json.dumps({"K": MATRIX.tolist(), "dist": DISTORTION[0].tolist(), "width": 1000, "height": 800}))
    assert read_calibration(path) == CAMERA
    path.write_text(json.dumps({"fx": 900, "fy": 880, "cx": 499.5, "cy": 389.5}))
    assert read_calibration(path) == Calibration((900.0, 880.0), (500.0, 390.0))


def test_of_several_cameras_one_must_be_named(tmp_path: Path):
    path = tmp_path / "Calib.toml"
    path.write_text(POSE2SIM)
    four = Calibration(CAMERA.focal_length, CAMERA.principal_point, CAMERA.distortion[:4], (1000, 800))
    assert read_calibration(path) == four
    second = POSE2SIM.replace("cam_01", "cam_02").replace("left", "right").replace("900.0", "901.0")
    path.write_text(POSE2SIM + second + "[metadata]\nadjusted = false\n")
    with pytest.raises(ValueError, match=r"2 cameras \(left, right\); name one: .*toml#left"):
        read_calibration(path)
    assert read_calibration(f"{path}#right").focal_length[0] == 901
    with pytest.raises(ValueError, match="no camera 'top'"):
        read_calibration(f"{path}#top")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "no JSON"),
        ("a.json", "[1, 2]", "describes no camera"),
        ("a.json", '{"K": "no"}', "no list of numbers"),
        ("a.json", '{"K": [[1e999, 0, 0], [0, 1, 0], [0, 0, 1]]}', "finite|not"),
        ("a.json", '{"K": [1, 2, 3, 4], "dist": [1, 2]}', "coefficients of distortion"),
        ("a.toml", "[a", "Expected"),
        ("a.toml", POSE2SIM.replace("false", "true"), "fisheye"),
        ("a.yml", "%YAML:1.0\n---\nK: !!opencv-matrix\n", "camera|OpenCV"),
        ("a.yml", "", "no JSON"),
    ],
)
def test_what_is_no_camera_file_is_refused(tmp_path: Path, name: str, content: str, said: str):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=said) as refused:
        read_calibration(path)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_calibration(tmp_path / "none.yml")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused(tmp_path: Path, data):
    text = bytearray(POSE2SIM.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.toml"
    path.write_bytes(bytes(text))
    try:
        assert np.isfinite(read_calibration(path).focal_length).all()
    except ValueError as error:
        assert str(path) in str(error)
