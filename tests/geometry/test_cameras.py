"""Cameras: hand-computed projections, agreement of the two models, and the way between them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from kouros.geometry.cameras import (
    PerspectiveCamera,
    WeakPerspectiveCamera,
    full_image_translation,
    perspective_translation,
    weak_perspective_of,
)


def pinhole() -> PerspectiveCamera:
    return PerspectiveCamera(torch.tensor(1000.0), torch.tensor([320.0, 240.0]))


def test_point_on_the_axis_falls_on_the_principal_point():
    pixel = pinhole().project(torch.tensor([[0.0, 0.0, 4.0]]))
    assert_close(pixel, torch.tensor([[320.0, 240.0]]))


def test_right_is_right_and_down_is_down_and_twice_as_far_is_half_as_big():
    near, far = pinhole().project(torch.tensor([[0.1, 0.2, 2.0], [0.1, 0.2, 4.0]]))
    assert_close(near, torch.tensor([370.0, 340.0]))
    assert_close(far, torch.tensor([345.0, 290.0]))


def test_rays_project_back_to_their_pixels():
    pixels = torch.tensor([[0.0, 0.0], [640.0, 480.0], [12.5, 300.0]])
    rays = pinhole().rays(pixels)
    assert (rays[:, 2] == 1).all()
    assert_close(pinhole().project(3.7 * rays), pixels)


def test_each_of_a_batch_has_its_own_camera():
    camera = PerspectiveCamera(torch.tensor([100.0, 200.0]), torch.tensor([[0.0, 0.0], [10.0, 20.0]]))
    points = torch.tensor([[[1.0, 2.0, 2.0]], [[1.0, 2.0, 2.0]]])
    assert_close(camera.project(points), torch.tensor([[[50.0, 100.0]], [[110.0, 220.0]]]))


def test_weak_perspective_translates_before_it_scales():
    camera = WeakPerspectiveCamera(torch.tensor(0.5), torch.tensor([1.0, -1.0]))
    assert_close(camera.project(torch.tensor([[0.2, 0.4, 9.0]])), torch.tensor([[0.6, -0.3]]))


def test_perspective_translation_has_spins_depth():
    camera = WeakPerspectiveCamera(torch.tensor(0.9), torch.tensor([0.1, -0.2]))
    expected = torch.tensor([0.1, -0.2, 2 * 5000 / (224 * 0.9)])
    assert_close(perspective_translation(camera), expected)


def test_both_models_agree_on_points_at_the_bodys_depth_and_nearly_beside_it():
    weak = WeakPerspectiveCamera(torch.tensor(0.8), torch.tensor([0.15, -0.1]))
    crop_camera = PerspectiveCamera(torch.tensor(5000.0), torch.tensor([112.0, 112.0]))
    flat = torch.tensor([[0.3, -0.5, 0.0], [-0.2, 0.7, 0.0]])
    deep = flat + torch.tensor([0.0, 0.0, 0.3])
    translation = perspective_translation(weak)
    in_pixels = (weak.project(flat) + 1) * 112
    assert_close(crop_camera.project(flat + translation), in_pixels, atol=1e-3, rtol=0)
    assert (crop_camera.project(deep + translation) - in_pixels).abs().max() < 1.0


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.5, 40), st.floats(20, 3000), st.floats(0, 4000))
def test_the_way_to_the_crop_and_back_keeps_the_translation(x, y, z, size, center):
    transl = torch.tensor([x, y, z], dtype=torch.float64)
    camera = PerspectiveCamera(
        torch.tensor(1500.0, dtype=torch.float64), torch.tensor([960.0, 540.0], dtype=torch.float64)
    )
    box_center = torch.tensor([center, 0.5 * center], dtype=torch.float64)
    box_size = torch.tensor(size, dtype=torch.float64)
    weak = weak_perspective_of(transl, camera, box_center, box_size)
    assert_close(full_image_translation(weak, camera, box_center, box_size), transl)


def test_the_crops_camera_sees_the_origin_where_the_whole_images_camera_does():
    transl = torch.tensor([0.6, -0.3, 5.0])
    box_center, box_size = torch.tensor([450.0, 200.0]), torch.tensor(300.0)
    weak = weak_perspective_of(transl, pinhole(), box_center, box_size)
    in_crop = weak.project(torch.zeros(1, 3))[0]
    in_image = box_center + in_crop * box_size / 2
    assert_close(in_image, pinhole().project(transl[None])[0])
    # A metre at the body's depth covers focal / depth = 200 pixels, two thirds of the crop.
    assert_close(weak.scale, torch.tensor(2 * 200 / 300))


def test_gradients_reach_the_camera_and_the_points():
    points = torch.tensor([[0.1, 0.2, 2.0]], dtype=torch.float64, requires_grad=True)
    focal = torch.tensor(1000.0, dtype=torch.float64, requires_grad=True)
    center = torch.tensor([320.0, 240.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p, f, c: PerspectiveCamera(f, c).project(p), (points, focal, center))


def test_point_on_the_cameras_plane_is_infinitely_far_away():
    assert pinhole().project(torch.tensor([[1.0, 1.0, 0.0]])).isinf().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_follows_the_input(dtype: torch.dtype):
    weak = WeakPerspectiveCamera(torch.ones(2, dtype=dtype), torch.zeros(2, 2, dtype=dtype))
    assert perspective_translation(weak).dtype == dtype
