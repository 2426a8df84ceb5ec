"""What estimators are shown and how their answers come back into the photo."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kouros.body.parameters import Bodies
from kouros.evaluation.baselines import MeanPose
from kouros.geometry.cameras import WeakPerspectiveCamera, nominal_crop_camera, perspective_translation
from kouros.systems.estimator import CropEstimator, Estimate, PersonInPhoto


def person(center: tuple[float, float] = (300.0, 200.0), side: float = 112.0) -> PersonInPhoto:
    half = side / 2
    box = np.array([center[0] - half, center[1] - half, center[0] + half, center[1] + half])
    return PersonInPhoto(np.zeros((480, 640, 3), np.uint8), (640, 480), np.array(center), side, box)


class Seen:
    """A network that answers with what it is told and remembers what it was shown."""

    points_3d = None
    points_2d = None

    def __init__(self, crop_size: int, answer) -> None:
        self.crop_size, self._answer = crop_size, answer

    def predict(self, image: torch.Tensor) -> Estimate:
        self.shown = image
        return self._answer(image)


def standing(image: torch.Tensor, weak: WeakPerspectiveCamera) -> Bodies:
    count = len(image)
    camera = nominal_crop_camera(count, image)
    return Bodies(torch.zeros(count, 72), torch.zeros(count, 10), perspective_translation(weak), camera)


def in_the_middle(image: torch.Tensor) -> Bodies:
    return standing(image, WeakPerspectiveCamera(torch.ones(len(image)), torch.zeros(len(image), 2)))


def test_a_network_sees_each_persons_own_square_in_the_unit_range(free_body):
    def brightness(image: torch.Tensor) -> Estimate:
        betas = torch.zeros(len(image), 10)
        betas[:, 0] = image.mean(dim=(1, 2, 3))
        return Estimate(bodies=replace(in_the_middle(image), betas=betas))

    bright, dark = person(), person(center=(400.0, 300.0))
    image = bright.image.copy()
    image[144:256, 244:356] = 255
    network = CropEstimator(Seen(32, brightness), free_body, "brightness")
    answers = network.estimate([replace(bright, image=image), replace(dark, image=np.zeros_like(image))])
    assert [float(a.bodies.betas[0]) for a in answers] == pytest.approx(
        [1.0, 0.0], abs=0.03
    )  # its edges are mixed with what is beside it
    assert network.estimate([]) == []


def test_large_photos_are_averaged_and_not_picked_from(free_body):
    """A fine chequerboard is grey from afar."""
    board = 255 * (np.add.outer(np.arange(2048), np.arange(2048)) % 2).astype(np.uint8)
    one = PersonInPhoto(np.repeat(board[..., None], 3, 2), (2048, 2048), np.full(2, 1024.0), 2048.0, np.zeros(4))
    network = Seen(64, lambda image: Estimate(bodies=in_the_middle(image)))
    CropEstimator(network, free_body, "x").estimate([one])
    assert_close(network.shown, torch.full((1, 3, 64, 64), 0.5), atol=0.01, rtol=0)


def test_without_a_photo_it_asks_for_one(free_body):
    network = CropEstimator(Seen(32, lambda image: Estimate()), free_body, "x")
    with pytest.raises(ValueError, match="Give it the photo"):
        network.estimate([replace(person(), image=None)])


@pytest.mark.parametrize(("scale", "tx", "ty"), [(0.9, 0.0, 0.0), (0.5, 0.3, -0.2)])
def test_a_crops_camera_lays_body_mesh_and_points_where_the_crop_had_them(
    scale: float, tx: float, ty: float, free_body
):
    one, weak = person(), WeakPerspectiveCamera(torch.tensor([scale]), torch.tensor([[tx, ty]]))
    around = torch.zeros(1, 24, 3)
    around[0, 1] = torch.tensor([0.4, -0.3, 0.0])

    def answer(image: torch.Tensor) -> Estimate:
        bodies = standing(image, weak)
        mesh = around + bodies.transl[:, None]
        crop = 16 * (1 + weak.project(around))  # pixels of the crop
        return Estimate(bodies=bodies, vertices=mesh, joints=mesh, points_2d=crop)

    (laid,) = CropEstimator(Seen(32, answer), free_body, "x").estimate([one])
    expected = one.crop_center + one.crop_side / 2 * weak.project(around)[0].numpy()
    np.testing.assert_allclose(laid.bodies.camera.project(around[0] + laid.bodies.transl), expected, atol=1e-3)
    np.testing.assert_allclose(laid.seen_by.project(laid.vertices), expected, atol=1e-3)
    np.testing.assert_allclose(laid.points_2d, expected, atol=1e-3)
    assert laid.square.tolist() == [300.0, 200.0, 112.0]


def test_the_mean_pose_stands_upright_in_its_box_facing_the_camera(free_body):
    (answer,) = MeanPose(free_body).estimate([person()])
    joints = answer.bodies.map(lambda t: t[None]).keypoints_by(free_body, "coco17")[0]
    pixels = dict(zip(("nose", "left_shoulder", "right_shoulder", "left_ankle"),
                      answer.bodies.camera.project(joints[[0, 5, 6, 15]]).tolist(), strict=True))  # fmt: skip
    assert pixels["nose"][1] < pixels["left_shoulder"][1] < pixels["left_ankle"][1]
    assert pixels["left_shoulder"][0] > pixels["right_shoulder"][0]  # facing us, the left is on the right
    assert all(244 < x < 356 and 144 < y < 256 for x, y in pixels.values())
