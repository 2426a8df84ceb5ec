"""What estimators are shown and how their answers come back into the photo."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from kouros.evaluation.estimators import CropNetwork, MeanPose, PersonInPhoto, crop, in_photo

from kouros.geometry.cameras import WeakPerspectiveCamera
from kouros.systems.system import Bodies


def person(center: tuple[float, float] = (300.0, 200.0), side: float = 112.0) -> PersonInPhoto:
    half = side / 2
    box = np.array([center[0] - half, center[1] - half, center[0] + half, center[1] + half])
    return PersonInPhoto(np.zeros((480, 640, 3), np.uint8), np.array(center), side, box)


def test_a_crop_shows_its_square_pixel_by_pixel():
    one = person(side=64.0, center=(100.0, 80.0))
    image = np.random.default_rng(0).integers(0, 255, one.image.shape).astype(np.uint8)
    shown = crop(replace(one, image=image), 64)
    np.testing.assert_array_equal(shown, image[48:112, 68:132])
    doubled = crop(replace(one, image=image), 32)  # every pixel of it the middle of four
    np.testing.assert_allclose(doubled[0, 0], image[48:50, 68:70].mean(axis=(0, 1)), atol=1)


def test_a_crop_beyond_the_photo_is_black_there():
    one = person(center=(0.0, 0.0), side=100.0)
    shown = crop(replace(one, image=np.full_like(one.image, 255)), 100)
    assert (shown[:50] == 0).all() and (shown[:, :50] == 0).all() and (shown[51:, 51:] == 255).all()


@pytest.mark.parametrize(("scale", "tx", "ty"), [(0.9, 0.0, 0.0), (0.5, 0.3, -0.2)])
def test_a_crops_camera_lays_the_body_where_the_crop_had_it(scale: float, tx: float, ty: float):
    one = person()
    camera = WeakPerspectiveCamera(torch.tensor(scale), torch.tensor([tx, ty]))
    body = in_photo(torch.eye(3), torch.eye(3).expand(23, 3, 3), torch.zeros(10), camera, one)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.4, -0.3, 0.0]])
    pixels = body.camera.project(points + body.transl)
    weak = one.crop_center + one.crop_side / 2 * camera.project(points).numpy()
    np.testing.assert_allclose(pixels, weak, atol=1e-3)


def test_the_mean_pose_stands_upright_in_its_box_facing_the_camera(free_body):
    (answer,) = MeanPose(free_body).estimate([person()])
    body = answer.body
    with torch.no_grad():
        joints = free_body.keypoint_positions(
            "coco17", betas=body.betas[None], body_pose=body.body_pose[None],
            global_orient=body.global_orient[None], transl=body.transl[None], pose2rot=False,
        )[0]  # fmt: skip
    pixels = dict(zip(("nose", "left_shoulder", "right_shoulder", "left_ankle"),
                      body.camera.project(joints[[0, 5, 6, 15]]).tolist(), strict=True))  # fmt: skip
    assert pixels["nose"][1] < pixels["left_shoulder"][1] < pixels["left_ankle"][1]
    assert pixels["left_shoulder"][0] > pixels["right_shoulder"][0]  # facing us, the left is on the right
    assert all(244 < x < 356 and 144 < y < 256 for x, y in pixels.values())


class Brightness:
    """A network whose first beta is the mean of what it is shown."""

    crop_size = 32

    def predict(self, image: torch.Tensor) -> Bodies:
        count = len(image)
        betas = torch.zeros(count, 10)
        betas[:, 0] = image.mean(dim=(1, 2, 3))
        eye = torch.eye(3)
        camera = WeakPerspectiveCamera(torch.ones(count), torch.zeros(count, 2))
        return Bodies(eye.expand(count, 3, 3), eye.expand(count, 23, 3, 3), betas, camera)


def test_a_crop_network_sees_each_persons_own_square_in_the_unit_range(free_body):
    bright, dark = person(), person(center=(400.0, 300.0))
    image = bright.image.copy()
    image[144:256, 244:356] = 255
    network = CropNetwork(Brightness(), free_body, "brightness")
    answers = network.estimate([replace(bright, image=image), replace(dark, image=np.zeros_like(image))])
    assert [float(a.body.betas[0]) for a in answers] == pytest.approx([1.0, 0.0], abs=1e-3)
    assert network.estimate([]) == []
