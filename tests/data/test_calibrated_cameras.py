"""Lenses that distort, against OpenCV's own projection."""

import cv2
import numpy as np
import pytest

from kouros.data.calibration import Calibration

LENS = Calibration((900.0, 880.0), (500.0, 390.0), (-0.28, 0.09, 0.001, -0.0005, -0.01), (1000, 800))


def test_straightened_points_are_where_a_pinhole_sees_them():
    points = np.random.default_rng(0).uniform((-1.0, -0.8, 2.0), (1.0, 0.8, 4.0), (50, 3))
    matrix = np.array([[900.0, 0, 500], [0, 880, 390], [0, 0, 1]])
    seen, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(LENS.distortion))
    focal = float(LENS.pinhole.focal_length)
    expected = focal * points[:, :2] / points[:, 2:] + [500, 390]
    np.testing.assert_allclose(LENS.straightened(seen[:, 0]), expected, atol=1e-3)
    assert np.abs(seen[:, 0] - expected).max() > 5  # the lens does distort


def test_a_straightened_picture_shows_things_where_straightened_points_are():
    picture = np.zeros((800, 1000, 3), np.uint8)
    places = np.array([[120, 90], [860, 130], [200, 700], [520, 410]])
    for x, y in places:
        cv2.circle(picture, (int(x), int(y)), 5, (255, 255, 255), -1)
    straight = LENS.straightened_picture(picture)[..., 0].astype(float)
    grid = np.moveaxis(np.mgrid[:800, :1000], 0, -1)[..., ::-1] + 0.5
    for place in LENS.straightened(places + 0.5):
        near = np.linalg.norm(grid - place, axis=-1) < 12
        weight = straight * near
        middle = (weight[..., None] * grid).sum((0, 1)) / weight.sum()
        assert np.linalg.norm(middle - place) < 0.3


def test_a_pinhole_changes_nothing():
    pinhole = Calibration((700.0, 700.0), (300.0, 200.0))
    points, picture = np.array([[1.0, 2.0]]), np.zeros((4, 4, 3), np.uint8)
    assert pinhole.is_pinhole and not LENS.is_pinhole and LENS.ideal.is_pinhole
    assert pinhole.straightened(points) is points and pinhole.straightened_picture(picture) is picture


def test_a_picture_of_half_the_size_has_half_the_numbers_and_one_of_another_shape_is_refused():
    half = LENS.of_size(500, 400)
    assert half.focal_length == (450.0, 440.0) and half.principal_point == (250.0, 195.0)
    assert half.distortion == LENS.distortion
    with pytest.raises(ValueError, match="cropped or turned"):
        LENS.of_size(800, 1000)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([1, 2, 3], "fx, fy, cx, cy or a 3 x 3"),
        ("no", "fx, fy, cx, cy or a 3 x 3"),
        ([0, 5, 1, 1], "focal length must be 1 to 10,000,000"),
        ([float("nan"), 5, 1, 1], "finite"),
        ([100, 9000, 1, 1], "of no camera"),
        (np.eye(3)[::-1], "is not"),
    ],
)
def test_what_is_no_camera_is_refused(numbers, said: str):
    with pytest.raises(ValueError, match=said):
        Calibration.of_numbers(numbers)


def test_a_matrix_and_its_numbers_are_the_same_camera():
    matrix = [[900, 0, 500], [0, 880, 390], [0, 0, 1]]
    assert Calibration.of_numbers(matrix) == Calibration.of_numbers([900, 880, 500, 390])
