"""MoveNet's two runners: keypoints in pixels of the image, however the network was made to look at it."""

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kouros
from kouros.body.keypoints import COCO17
from kouros.detection.movenet import MultiPose, SeenPerson, Thunder
from kouros.detection.regions import Pyramid, Region


@pytest.fixture(scope="module")
def thunder() -> Thunder:
    return Thunder(threads=1)


@pytest.fixture(scope="module")
def multipose() -> MultiPose:
    return MultiPose(threads=1)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Three people, 960 x 640 pixels."""
    return np.array(Image.open(Path(kouros.__file__).parent / "data" / "demo" / "people.jpg").convert("RGB"))


WAVING = Region(165.0, 430.0, 460.0)
"""Around the man on the left, who waves."""


def sure(people: list[SeenPerson]) -> list[SeenPerson]:
    """Left to right."""
    return sorted((person for person in people if person.score > 0.3), key=lambda person: person.box[0])


def test_keypoints_lie_where_they_are_to_be_seen(thunder: Thunder, photo: np.ndarray):
    seen = thunder.look(Pyramid(photo), WAVING)
    # Read off the picture; the man faces us, so that his right is on the left.
    for name, place in (("nose", (167, 295)), ("right_wrist", (116, 255)), ("left_ankle", (210, 595))):
        k = COCO17.index(name)
        assert np.linalg.norm(seen.points[k] - place) < 10, name
        assert seen.confidence[k] > 0.5


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [-0.7, 0.4, 0.7])
def test_a_region_may_be_turned_and_mirrored(thunder: Thunder, photo: np.ndarray, angle: float, mirrored: bool):
    pyramid = Pyramid(photo)
    upright = thunder.look(pyramid, WAVING)
    turned = thunder.look(pyramid, Region(WAVING.x, WAVING.y, WAVING.size, angle, mirrored))
    away = np.linalg.norm(turned.points - upright.points, axis=1)
    assert np.median(away) < 8 and (away < 40).all()  # of a person 360 pixels high


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_and_its_region_may_be_turned_together(thunder: Thunder, photo: np.ndarray, turns: int):
    square = np.ascontiguousarray(photo[:, :640])
    upright = thunder.look(Pyramid(square), WAVING)
    center = np.array([320.0, 320.0])
    quarter = np.array([[0.0, 1.0], [-1.0, 0.0]])  # anticlockwise as seen: what was right is above
    turn = np.linalg.matrix_power(quarter, turns)
    x, y = (turn @ (np.array([WAVING.x, WAVING.y]) - center) + center).tolist()
    turned = Pyramid(np.ascontiguousarray(np.rot90(square, turns)))
    seen = thunder.look(turned, Region(x, y, WAVING.size, -turns * math.pi / 2))
    expected = (upright.points - center) @ turn.T + center
    np.testing.assert_allclose(seen.points, expected, atol=0.5)
    np.testing.assert_allclose(seen.confidence, upright.confidence, atol=0.02)


def test_crops_are_taken_at_the_centres_of_pixels(thunder: Thunder, multipose: MultiPose, photo: np.ndarray):
    """A picture and its mirror image agree without a shift, of which half a crop pixel would be seen."""
    pyramid, mirrored = Pyramid(photo), Pyramid(np.ascontiguousarray(photo[:, ::-1]))
    order = list(COCO17.mirror)
    shifts = []
    for size in np.linspace(420, 520, 6).tolist():  # 256 pixels: a crop pixel is 1.6 to 2 of the image's
        region = Region(WAVING.x, WAVING.y, size)
        straight = thunder.look(pyramid, region)
        other = thunder.look(mirrored, Region(960.0 - WAVING.x, WAVING.y, size))
        sums = straight.points[:, 0] + other.points[order, 0] - 960
        shifts.append(np.median(sums) / 2 / (size / 256))
    assert abs(np.mean(shifts)) < 0.25


def test_several_people_are_found_with_their_boxes(multipose: MultiPose, photo: np.ndarray):
    people = sure(multipose.find(Pyramid(photo)))
    assert len(people) == 3
    # Read off the picture.
    for person, box in zip(people, ((92, 230, 235, 622), (422, 298, 590, 571), (688, 374, 845, 627)), strict=True):
        assert np.abs(person.box - box).max() < 15
        inside = (person.points >= person.box[:2] - 10) & (person.points <= person.box[2:] + 10)
        assert inside[person.confidence > 0.3].all()


@pytest.mark.parametrize(
    ("left", "top", "right", "size", "people"), [(0, 200, 960, (601, 277), 3), (40, 0, 290, (211, 541), 1)]
)
def test_tall_and_wide_pictures_are_seen_whole(
    multipose: MultiPose, photo: np.ndarray, left: int, top: int, right: int, size: tuple[int, int], people: int
):
    part = np.array(Image.fromarray(photo[top:, left:right]).resize(size))
    found = sure(multipose.find(Pyramid(part), side=256))
    assert len(found) == people
    scale = np.array([right - left, 640 - top]) / size
    for ours, expected in zip(found, sure(multipose.find(Pyramid(photo))), strict=False):
        points = ours.points * scale + (left, top)
        assert np.median(np.linalg.norm(points - expected.points, axis=1)) < 8
        assert np.abs(ours.box * np.tile(scale, 2) + (left, top, left, top) - expected.box).max() < 20


def test_a_square_piece_may_be_turned_and_mirrored(multipose: MultiPose, photo: np.ndarray):
    pyramid = Pyramid(photo)
    plain = sure(multipose.find_in(pyramid, Region(700.0, 400.0, 560.0)))
    turned = sure(multipose.find_in(pyramid, Region(700.0, 400.0, 560.0, 0.3, mirrored=True)))
    assert len(plain) == len(turned) == 2
    for a, b in zip(plain, turned, strict=True):
        assert np.median(np.linalg.norm(a.points - b.points, axis=1)) < 8
        assert (b.box[:2] <= a.box[:2] + 12).all() and (b.box[2:] >= a.box[2:] - 12).all()


def test_sides_that_do_not_divide_are_refused(multipose: MultiPose, photo: np.ndarray):
    for side in (0, -32, 300):
        with pytest.raises(ValueError, match=f"multiple of 32 pixels, not {side}"):
            multipose.find(Pyramid(photo), side=side)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (60, 3000)])
def test_nobody_is_seen_where_nobody_is(multipose: MultiPose, shape: tuple[int, int]):
    assert sure(multipose.find(Pyramid(np.full((*shape, 3), 128, dtype=np.uint8)))) == []
