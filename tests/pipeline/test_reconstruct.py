"""From photos and keypoints to people."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.body.smpl_files import smpl_arrays, write_pickle
from torch.testing import assert_close

import kouros
from kouros.body.keypoints import BLAZEPOSE33, keypoint_set
from kouros.notes import InputWarning
from kouros.pipeline import Person, fit, reconstruct

DEMO = Path(kouros.__file__).parent / "data" / "demo"
SIZE = (960, 640)


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return reconstruct(DEMO / "people.jpg")


@pytest.fixture(scope="module")
def landscape() -> np.ndarray:
    """Sky over grass."""
    rows = np.linspace(0, 1, 240)[:, None, None]
    sky, grass = np.array([120, 170, 230]), np.array([60, 130, 50])
    picture = np.where(rows < 0.6, sky * (0.7 + 0.4 * rows), grass * (1.3 - 0.5 * rows)) + np.zeros((240, 320, 1))
    noise = np.random.default_rng(0).normal(0, 6, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def _as_set(person: Person, set_name: str) -> np.ndarray:
    """The person's own projected keypoints, fully trusted."""
    points = person.keypoints_2d(set_name)
    return torch.cat([points, torch.ones(len(points), 1)], -1).numpy()


def _off(person: Person, set_name: str, keypoints: np.ndarray) -> float:
    """Mean distance of the body's keypoints from those seen, over the person's height in the picture."""
    seen = keypoints[:, 2] > 0.5
    apart = np.linalg.norm(person.keypoints_2d(set_name).numpy() - keypoints[:, :2], axis=-1)[seen]
    return float(apart.mean() / np.ptp(keypoints[seen, 1]))


def _assert_plausible(person: Person) -> None:
    for name in ("betas", "global_orient", "body_pose", "transl", "vertices", "joints"):
        assert torch.isfinite(getattr(person, name)).all(), name
    assert float(person.betas.abs().max()) < 4
    assert float(person.joints[:, 2].min()) > 0.1


def test_the_people_of_a_photo_come_from_left_to_right_and_are_plausible(people: list[Person]):
    assert len(people) == 3
    middles = [float(p.box[0] + p.box[2]) for p in people]
    assert middles == sorted(middles)
    for person in people:
        _assert_plausible(person)
        assert person.image_size == SIZE
        assert 0.5 < person.score <= 1
        assert 2 < float(person.transl[2]) < 15
        height = float(np.ptp(person.vertices[:, 1].numpy()))
        assert 0.7 < height < 2.1
        assert _off(person, "blazepose33", person.keypoints_detected.numpy()) < 0.03
        # Both cameras put the body at the same place.
        x0, y0, x1, y1 = person.crop_box.tolist()
        centred = person.weak_camera.project(torch.zeros(1, 3))[0]
        whole = person.camera.project(person.transl[None])[0]
        assert_close(torch.tensor([x0 + x1, y0 + y1]) / 2 + centred * (x1 - x0) / 2, whole, atol=0.1, rtol=0)


def test_fast_finds_the_same_people_nearly_where_they_are(people: list[Person]):
    quick = reconstruct(DEMO / "people.jpg", fast=True)
    assert len(quick) == len(people)
    for one, other in zip(quick, people, strict=True):
        _assert_plausible(one)
        apart = (one.keypoints_2d("coco17") - other.keypoints_2d("coco17")).norm(dim=-1).mean()
        assert float(apart) < 0.05 * float((other.box[2:] - other.box[:2]).max())
        assert not torch.equal(one.body_pose, other.body_pose)  # one look is not the mean of six


def test_the_same_photo_gives_the_same_people_however_it_is_given(people: list[Person]):
    pixels = np.asarray(Image.open(DEMO / "people.jpg").convert("RGB"))
    again = reconstruct(pixels)
    assert len(again) == len(people)
    for one, other in zip(people, again, strict=True):
        assert_close(one.body_pose, other.body_pose, atol=1e-4, rtol=0)
        assert_close(one.transl, other.transl, atol=1e-4, rtol=1e-4)


def test_keypoints_give_the_same_people_twice_to_the_bit(people: list[Person]):
    keypoints = np.stack([_as_set(p, "coco17") for p in people])
    one, other = (fit(keypoints, "coco17", image_size=SIZE) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.body_pose, b.body_pose) and torch.equal(a.transl, b.transl)


def test_a_picture_without_people_gives_nobody(landscape: np.ndarray):
    assert reconstruct(landscape) == []


def test_boxes_give_a_person_each_in_their_order(people: list[Person]):
    boxes = np.stack([people[i].box.numpy() for i in (2, 0)])
    found = reconstruct(DEMO / "people.jpg", boxes=boxes)
    for person, there in zip(found, (people[2], people[0]), strict=True):
        _assert_plausible(person)
        assert float((person.joints[0] - there.joints[0])[:2].norm()) < 0.4
        apart = (person.joints - person.joints[:1]) - (there.joints - there.joints[:1])
        assert float(apart.norm(dim=-1).mean()) < 0.15


@pytest.mark.parametrize("set_name", ["coco17", "openpose25"])
def test_bodies_stand_where_given_keypoints_are(set_name: str, people: list[Person]):
    keypoints = np.stack([_as_set(p, set_name) for p in people])
    found = reconstruct(DEMO / "people.jpg", keypoints=keypoints, keypoint_set=set_name)
    assert len(found) == 3
    for person, given in zip(found, keypoints, strict=True):
        _assert_plausible(person)
        assert person.keypoint_set == set_name
        assert _off(person, set_name, given) < 0.03


def test_one_persons_keypoints_need_no_leading_axis(people: list[Person]):
    (found,) = fit(_as_set(people[0], "coco17"), "coco17", image_size=SIZE)
    _assert_plausible(found)


def test_people_fitted_together_are_as_fitted_alone(people: list[Person]):
    keypoints = np.stack([_as_set(p, "coco17") for p in people])
    together = fit(keypoints, "coco17", image_size=SIZE)
    alone = fit(keypoints[1], "coco17", image_size=SIZE)[0]
    assert_close(together[1].joints, alone.joints, atol=5e-3, rtol=5e-3)


def test_a_longer_lens_puts_people_farther_away(people: list[Person]):
    keypoints = _as_set(people[0], "coco17")
    near, far = (fit(keypoints, "coco17", image_size=SIZE, focal_length=f)[0] for f in (1000.0, 2000.0))
    assert 1.6 < float(far.transl[2] / near.transl[2]) < 2.4


def test_the_callers_keypoints_are_left_alone(people: list[Person]):
    keypoints = _as_set(people[0], "coco17").astype(np.float64)
    keypoints[:, 2] = 3.0
    before = keypoints.copy()
    with pytest.warns(InputWarning, match="confidences above 1 were taken as 1"):
        fit(keypoints, "coco17", image_size=SIZE)
    np.testing.assert_array_equal(keypoints, before)


@pytest.mark.filterwarnings("ignore::kouros.notes.InputWarning")
def test_a_body_in_smpls_format_is_fitted_as_it_is(tmp_path: Path, people: list[Person]):
    """Random vertices make no human, so only the contract is asked: finite, its own mesh, its own betas."""
    body = kouros.load_body(write_pickle(tmp_path / "body.pkl", smpl_arrays(num_vertices=6890)))
    found = reconstruct(DEMO / "people.jpg", keypoints=_as_set(people[0], "coco17"), keypoint_set="coco17", body=body)
    detected = reconstruct(DEMO / "people.jpg", boxes=people[0].box.numpy(), body=body)
    for person in (*found, *detected):
        assert person.body is body
        assert person.vertices.shape == (6890, 3)
        assert person.betas.shape == (body.num_betas,)
        assert torch.isfinite(person.vertices).all()
    assert detected[0].keypoint_set == "blazepose33"
    assert len(detected[0].keypoints_detected) == 33


def test_somebody_cut_off_at_the_chest_stands_below_their_face():
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        (person,) = reconstruct(Image.open(file))
    _assert_plausible(person)
    points = person.keypoints_2d("blazepose33")
    # An officer in half profile: shoulders and nose where they are seen, hips below the picture.
    assert points[BLAZEPOSE33.index("left_hip"), 1] > 0.9 * person.image_size[1]
    seen = person.keypoints_detected
    for name in ("nose", "left_shoulder", "right_shoulder"):
        index = BLAZEPOSE33.index(name)
        assert float((points[index] - seen[index, :2]).norm()) < 0.15 * person.image_size[0]


# --- What is wrong with the input ------------------------------------------------------------------------------


def _blank(set_name: str = "coco17") -> np.ndarray:
    keypoints = np.random.default_rng(0).uniform(100, 500, (len(keypoint_set(set_name)), 3))
    keypoints[:, 2] = 1.0
    return keypoints


def test_a_point_that_is_no_number_is_not_seen_and_told_of_where_it_claims_to_be(people: list[Person]):
    keypoints = _as_set(people[0], "coco17").astype(np.float64)
    missing = keypoints.copy()
    missing[9] = 0
    (expected,) = fit(missing, "coco17", image_size=SIZE)
    keypoints[9] = np.nan, np.nan, 0  # as pandas and detectors write it: nothing to tell
    (silent,) = fit(keypoints, "coco17", image_size=SIZE)
    torch.testing.assert_close(silent.joints, expected.joints, rtol=0, atol=0)
    for wrong in ((np.nan, 5.0, 0.9), (5.0, np.inf, 0.9), (5.0, 5.0, -0.5)):
        keypoints[9] = wrong
        with pytest.warns(InputWarning, match="without a finite place, or with a confidence below 0"):
            (told,) = fit(keypoints, "coco17", image_size=SIZE)
        torch.testing.assert_close(told.joints, expected.joints, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(17, 2), (25, 3), (1, 1, 17, 3), (17,)])
def test_a_wrong_shape_is_answered_with_the_right_one(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"coco17 needs \(people, 17, 3\)"):
        fit(np.ones(shape), "coco17", image_size=SIZE)


def test_an_unknown_set_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="coco17"):
        fit(_blank(), "coco19", image_size=SIZE)


def test_keypoints_without_a_set_ask_for_it():
    with pytest.raises(ValueError, match="keypoint_set="):
        reconstruct(DEMO / "people.jpg", keypoints=_blank())


def test_too_few_keypoints_say_how_many_are_needed():
    keypoints = np.stack([_blank(), _blank()])
    keypoints[1, 3:, 2] = 0.0
    with pytest.raises(ValueError, match="person 0 of keypoints has 3 usable points; a body needs 4"):
        fit(keypoints[1], "coco17", image_size=SIZE)


@pytest.mark.parametrize("focal_length", [0.0, -100.0, float("nan"), float("inf")])
def test_a_focal_length_that_is_none_is_refused(focal_length: float):
    with pytest.raises(ValueError, match="1 to 10,000,000 pixels"):
        reconstruct(DEMO / "people.jpg", keypoints=_blank(), keypoint_set="coco17", focal_length=focal_length)


def test_an_image_without_a_size_is_refused():
    with pytest.raises(ValueError, match="positive width and height"):
        fit(_blank(), "coco17", image_size=(0, 640))


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (np.zeros((2, 3)), r"expected \(people, 4\)"),
        (np.array([10.0, 10.0, 5.0, 50.0]), "x0 < x1"),
        (np.array([[2000.0, 0.0, 2100.0, 50.0]]), "outside the image"),
    ],
)
def test_bad_boxes_are_answered_with_good_ones(boxes: np.ndarray, words: str):
    with pytest.raises(ValueError, match=words):
        reconstruct(DEMO / "people.jpg", boxes=boxes)


def test_no_people_in_no_people_out():
    assert fit(np.zeros((0, 17, 3)), "coco17", image_size=SIZE) == []
