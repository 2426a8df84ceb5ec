import math

import pytest
import torch
from torch.testing import assert_close

from kouros.geometry.tilt import tilt_of_up, up_of_tilt, upright_rotation


@pytest.mark.parametrize(
    ("tilt", "up"),
    [
        ((0.0, 0.0), (0.0, -1.0, 0.0)),
        ((math.pi / 2, 0.0), (0.0, 0.0, -1.0)),  # looks straight down: up is behind the camera
        ((0.0, math.pi / 2), (1.0, 0.0, 0.0)),  # rolled: up is to the right of the picture
        ((math.pi / 4, 0.0), (0.0, -math.sqrt(0.5), -math.sqrt(0.5))),
    ],
)
def test_pitch_looks_down_and_roll_leans_up_to_the_right(tilt, up):
    assert_close(up_of_tilt(torch.tensor(tilt)), torch.tensor(up), atol=1e-6, rtol=0)


def test_tilt_and_up_are_inverse():
    tilt = torch.tensor([[0.3, -0.2], [-1.2, 2.5], [1.4, -3.0]])
    assert_close(tilt_of_up(3.0 * up_of_tilt(tilt)), tilt, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (0.5, 0.3), (-0.4, -1.5), (math.pi / 2, 0.0), (-math.pi / 2, 0.0)])
def test_the_upright_rotation_puts_up_on_y_and_what_is_ahead_on_minus_z(tilt):
    up = up_of_tilt(torch.tensor(tilt))
    rotation = upright_rotation(2.0 * up)
    assert_close(rotation @ rotation.T, torch.eye(3), atol=1e-6, rtol=0)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1.0, abs=1e-6)
    assert_close(rotation @ up, torch.tensor([0.0, 1.0, 0.0]), atol=1e-6, rtol=0)
    ahead = rotation @ torch.tensor([0.0, 0.0, 1.0])
    assert float(ahead[0]) == pytest.approx(0.0, abs=1e-6) and float(ahead[2]) < 1e-6


def test_a_camera_that_looks_straight_down_has_the_top_of_its_picture_ahead():
    rotation = upright_rotation(torch.tensor([0.0, 0.0, -1.0]))
    assert_close(rotation @ torch.tensor([0.0, -1.0, 0.0]), torch.tensor([0.0, 0.0, -1.0]))
    rotation = upright_rotation(torch.tensor([0.0, 0.0, 1.0]))  # and straight up the bottom
    assert_close(rotation @ torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, -1.0]))
