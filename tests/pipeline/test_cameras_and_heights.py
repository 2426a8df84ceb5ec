"""What people know of the camera and of who stands before it goes into the result."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import kouros
from kouros.body.files import shared_body
from kouros.body.growth import GROWN, child_betas, child_body
from kouros.body.stature import of_stature, stature
from kouros.data.calibration import Calibration
from kouros.export.glb import glb_bytes
from kouros.export.results import npz_bytes
from kouros.notes import collected
from kouros.pipeline.person import Person
from kouros.pipeline.upright import world_of

SIZE = (1000, 800)
FOCAL = 900.0


def _standing(body, betas, place) -> np.ndarray:
    """OpenPose's 25 points of somebody who stands there, arms down; metres, camera axes."""
    body_pose = torch.zeros(1, 69)
    body_pose[:, 47], body_pose[:, 50] = -1.1, 1.1
    out = body(betas=betas, body_pose=body_pose, global_orient=torch.tensor([[np.pi, 0, 0]]), transl=place)
    return body.keypoints_3d(out, "openpose25")[0].double().numpy()


def _seen(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)


@pytest.fixture(scope="module")
def points(free_body) -> np.ndarray:
    return _standing(free_body, torch.zeros(1, 10), torch.tensor([[0.4, 0.2, 4.0]]))


def test_a_cropped_photo_has_its_people_where_they_are_once_the_camera_is_given(points):
    pixels = FOCAL * points[:, :2] / points[:, 2:] + [300, 250]
    told = kouros.fit(_seen(pixels), "openpose25", image_size=(800, 800), camera=(FOCAL, FOCAL, 300, 250))
    shifted = _seen(pixels - [250, 100])
    (person,) = kouros.fit(shifted, "openpose25", image_size=(600, 650), camera=(FOCAL, FOCAL, 50, 150))
    np.testing.assert_allclose(person.joints, told[0].joints, atol=0.03)
    np.testing.assert_allclose(person.keypoints_3d("openpose25")[8, :2], points[8, :2], atol=0.06)
    (untold,) = kouros.fit(shifted, "openpose25", image_size=(600, 650), focal_length=FOCAL)
    assert abs(float(untold.joints[0, 0]) - points[8, 0]) > 0.5


def test_a_lens_that_distorts_is_straightened(points):
    lens = Calibration((FOCAL, FOCAL), (500.0, 400.0), (-0.3, 0.1, 0.0, 0.0), SIZE)
    matrix = np.array([[FOCAL, 0, 500], [0, FOCAL, 400], [0, 0, 1]])
    crooked, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(lens.distortion))
    (person,) = kouros.fit(_seen(crooked[:, 0]), "openpose25", image_size=SIZE, camera=lens)
    straight = _seen(FOCAL * points[:, :2] / points[:, 2:] + [500, 400])
    (expected,) = kouros.fit(straight, "openpose25", image_size=SIZE, focal_length=FOCAL)
    np.testing.assert_allclose(person.joints, expected.joints, atol=5e-3)


def test_two_cameras_at_once_are_refused(points):
    with pytest.raises(ValueError, match="give one of them"):
        kouros.fit(_seen(points[:, :2]), "openpose25", image_size=SIZE, focal_length=900.0, camera=(1, 1, 1, 1))


@pytest.mark.parametrize("height", [1.5, 1.68, 1.95])
def test_a_body_has_the_height_that_is_asked_for(free_body, height: float):
    betas = of_stature(free_body, 0.5 * torch.randn(3, 10, generator=torch.Generator().manual_seed(0)),
                       torch.full((3,), height))  # fmt: skip
    vertices = free_body(betas=betas, body_pose=torch.zeros(3, 69)).vertices
    np.testing.assert_allclose((vertices[..., 1].amax(-1) - vertices[..., 1].amin(-1)), height, atol=1e-3)
    np.testing.assert_allclose(stature(free_body, betas), height, atol=1e-3)


@pytest.mark.parametrize(("height", "distance"), [(1.05, 3.0), (1.5, 4.0), (1.95, 5.0)])
def test_whose_height_is_known_stands_at_the_right_distance(free_body, height: float, distance: float):
    body, betas = free_body, of_stature(free_body, torch.zeros(1, 10), torch.tensor([height]))
    if height < GROWN:
        body, betas = child_body(), child_betas(height)[None]
    points = _standing(body, betas, torch.tensor([[0.1, 0.1, distance]]))
    pixels = _seen(FOCAL * points[:, :2] / points[:, 2:] + np.array(SIZE) / 2)
    with collected() as notes:
        (person,) = kouros.fit(pixels, "openpose25", image_size=SIZE, focal_length=FOCAL, height=height)
    assert any("average child of that height, 4 years" in note for note in notes) == (height < GROWN)
    assert float(stature(person.body, person.betas[None])) == pytest.approx(height, abs=2e-3)
    assert float(person.joints[0, 2]) == pytest.approx(distance, rel=0.06)
    assert person.reprojection_error < 8
    assert person.distance_spread < 0.05
    (untold,) = kouros.fit(pixels, "openpose25", image_size=SIZE, focal_length=FOCAL)
    assert 0.05 < untold.distance_spread < 0.1
    (nothing,) = kouros.fit(pixels, "openpose25", image_size=SIZE)
    assert nothing.distance_spread > 0.3
    assert abs(float(untold.joints[0, 2]) - distance) > abs(float(person.joints[0, 2]) - distance)


@pytest.mark.parametrize("height", [0.6, 0.9, 1.2, GROWN])
def test_children_have_their_height_and_larger_heads(height: float):
    """In the population, measured from crown to neck joint: 21 % of a newborn's height, 15 % of an adult's."""
    body, betas = child_body(), child_betas(height)[None]
    assert float(stature(body, betas)) == pytest.approx(height, abs=5e-3)
    rest = body(betas=betas, body_pose=torch.zeros(1, 69))
    crown, neck = float(rest.vertices[0, :, 1].max()), float(rest.joints[0, 12, 1])
    assert (crown - neck) / height == pytest.approx(
        np.interp(height, [0.6, 1.04, 1.35], [0.209, 0.176, 0.164]), abs=0.02
    )
    assert torch.equal(child_body().shapedirs[..., :10], shared_body().shapedirs)


def test_a_child_among_adults_comes_back_from_its_files(points, tmp_path: Path):
    pixels = _seen(FOCAL * points[:, :2] / points[:, 2:] + np.array(SIZE) / 2)
    both = np.stack([pixels, pixels + np.array([200, 0, 0])])
    with collected():
        people = kouros.fit(both, "openpose25", image_size=SIZE, focal_length=FOCAL, height=[1.0, None])
    assert [len(person.betas) for person in people] == [14, 10]
    world = world_of(people)
    (tmp_path / "a.npz").write_bytes(npz_bytes(people, world))
    again = Person.from_npz(tmp_path / "a.npz")
    for person, same in zip(people, again, strict=True):
        np.testing.assert_allclose(same.vertices, person.vertices, atol=1e-5)
        assert same.height_known == person.height_known == person.to_dict()["height_known"]
    assert pickle.loads(pickle.dumps(people[0])) == people[0]
    assert glb_bytes(people, world)


def test_heights_must_be_heights_of_the_people(points):
    pixels = _seen(FOCAL * points[:, :2] / points[:, 2:] + np.array(SIZE) / 2)
    both = np.stack([pixels, pixels + np.array([200, 0, 0])])

    def fit(height):
        return kouros.fit(both, "openpose25", image_size=SIZE, focal_length=FOCAL, height=height)

    with pytest.raises(ValueError, match="1 heights are given for 2 people"):
        fit(1.8)
    with pytest.raises(ValueError, match="Is it in centimetres"):
        fit([180, 170])
    tall, free = fit([1.9, None])
    assert float(stature(tall.body, tall.betas[None])) == pytest.approx(1.9, abs=2e-3)
    again = fit([float("nan"), float("nan")])
    assert torch.equal(free.vertices, again[1].vertices)


def test_whose_height_is_known_keeps_it_in_the_world_and_carries_the_others_floor(free_body):
    small, tall = (of_stature(free_body, torch.zeros(1, 10), torch.tensor([h])) for h in (1.55, 1.95))
    seen = []
    for betas, x in ((small, -0.8), (tall, 0.8)):
        soles = -float((free_body.v_template[:, 1] + free_body.shapedirs[:, 1] @ betas[0]).min())
        points = _standing(free_body, betas, torch.tensor([[x, 1.0 - soles, 4.0]]))
        seen.append(_seen(FOCAL * points[:, :2] / points[:, 2:] + np.array(SIZE) / 2))
    people = kouros.fit(np.stack(seen), "openpose25", image_size=SIZE, focal_length=FOCAL, height=[1.55, None])
    world = world_of(people)
    assert float(world.sizes[0]) == 1.0 and bool(world.on_floor.all())
    assert float(world.sizes[1]) > 1.02  # the fit has made the tall one smaller, and nearer
