"""Crops and their changes: exact both ways, and everything that is known of a person follows the picture."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kouros.body.keypoints import COCO17, SPIN49
from kouros.body.skeleton import JOINT_NAMES, MIRROR
from kouros.body.surface.parts import DENSEPOSE24
from kouros.data.augment import (
    NBF_AUGMENTATION,
    SPIN_AUGMENTATION,
    AugmentConfig,
    Change,
    Spread,
    coloured,
    mirror_iuv,
    mirror_labels,
    mirror_rows,
)
from kouros.data.crops import CropTransform, nearest
from kouros.fitting.schedules.fits_store import Augmentation

TURNS = st.floats(-math.pi, math.pi)
CROPS = st.builds(
    CropTransform,
    st.tuples(st.floats(-500, 2000), st.floats(-500, 2000)).map(np.array),
    st.floats(5, 3000),
    st.integers(16, 256),
    TURNS,
    st.booleans(),
)


def smooth_photo(width: int = 320, height: int = 240) -> np.ndarray:
    """A photo whose colour at any point is known: 40 + x / 2, 30 + y / 2 (pixel centres at halves), 90."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.rint(np.stack([40 + x / 2, 30 + y / 2, np.full_like(x, 90)], axis=-1)).astype(np.uint8)


@given(CROPS)
def test_points_come_back_from_the_crop(crop):
    points = np.random.default_rng(0).uniform(-1000, 3000, (20, 2))
    assert np.allclose(crop.points_back(crop.points(points)), points, atol=1e-6)
    both = np.vstack([crop.matrix, [0, 0, 1]]) @ np.vstack([crop.inverse, [0, 0, 1]])
    assert np.allclose(both, np.eye(3), atol=1e-6)


@given(CROPS)
def test_the_square_fills_the_crop(crop):
    assert np.allclose(crop.points(crop.center), crop.size / 2)
    assert np.allclose(
        np.linalg.norm(crop.points(crop.center + np.array([crop.side / 2, 0])) - crop.size / 2), crop.size / 2
    )
    assert math.isclose(np.linalg.det(crop.matrix[:, :2]), (crop.size / crop.side) ** 2 * (-1 if crop.flipped else 1))


def test_a_quarter_turn_is_clockwise_as_seen_and_the_mirror_image_comes_after():
    center = np.array([100.0, 50.0])
    turned = CropTransform(center, 80.0, 80, math.pi / 2)
    assert np.allclose(turned.points(np.array([110.0, 50.0])), [40, 50])  # right goes down
    mirrored = CropTransform(center, 80.0, 80, math.pi / 4, True)
    down_right = 40 + 10 * np.array([math.sqrt(0.5), math.sqrt(0.5)])
    assert np.allclose(mirrored.points(np.array([110.0, 50.0])), [80 - down_right[0], down_right[1]])


@settings(deadline=None, max_examples=40)
@given(st.floats(40, 100), TURNS, st.booleans(), st.sampled_from([48, 96, 150]))
def test_the_crop_shows_what_lies_where_the_transform_says(side, rotation, flipped, size):
    crop = CropTransform(np.array([161.3, 118.7]), side, size, rotation, flipped)
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    source = crop.points_back(np.stack([x, y], axis=-1))
    seen = crop.image(smooth_photo()).astype(float)
    assert np.abs(seen[..., 0] - (40 + source[..., 0] / 2)).max() <= 1.1  # two roundings to whole values
    assert np.abs(seen[..., 1] - (30 + source[..., 1] / 2)).max() <= 1.1


@pytest.mark.parametrize("flipped", [False, True])
def test_a_much_smaller_crop_averages_pixels_and_stays_in_place(flipped):
    photo = smooth_photo()
    # Single-pixel stripes along one side: 128 on average, and nothing else if every pixel counts.
    photo[..., 2] = (np.arange(320) % 2 * 255)[None, :]
    crop = CropTransform(np.array([160.0, 120.0]), 200.0, 25, 0.0, flipped)
    seen = crop.image(photo).astype(float)
    x, y = np.meshgrid(np.arange(25) + 0.5, np.arange(25) + 0.5)
    source = crop.points_back(np.stack([x, y], axis=-1))
    assert np.abs(seen[..., 0] - (40 + source[..., 0] / 2)).max() <= 1.1
    assert np.abs(seen[..., 1] - (30 + source[..., 1] / 2)).max() <= 1.1
    assert np.abs(seen[..., 2] - 127.5).max() <= 1.0


@pytest.mark.parametrize(
    "crop",
    [
        CropTransform(np.array([1024.0, 1024.0]), 2048.0, 224),
        CropTransform(np.array([1000.3, 1101.7]), 1500.0, 224, 0.5, True),
        CropTransform(np.array([700.0, 800.0]), 700.0, 256, -1.0),
    ],
)
def test_crops_of_large_photos_are_averages_over_each_pixels_area(crop):
    """A sharp photo of 2,048 pixels, against 12 x 12 samples in each of the crop's pixels."""
    rng = np.random.default_rng(6)
    photo = np.kron(rng.integers(0, 256, (64, 64, 3)), np.ones((32, 32, 1))) / 2 + rng.integers(0, 128, (2048, 2048, 3))
    photo = photo.astype(np.uint8)
    along = (np.arange(12 * crop.size) + 0.5) / 12
    at = np.floor(crop.points_back(np.stack(np.meshgrid(along, along), axis=-1))).astype(int)
    inside = ((at >= 0) & (at < 2048)).all(axis=-1)
    samples = np.where(inside[..., None], photo[at[..., 1].clip(0, 2047), at[..., 0].clip(0, 2047)], 0)
    area = samples.reshape(crop.size, 12, crop.size, 12, 3).mean(axis=(1, 3))
    x, y = (p - 0.5 for p in crop.points_back(np.stack(np.meshgrid(along[6::12], along[6::12]), -1)).transpose(2, 0, 1))
    plain = cv2.remap(photo, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)

    def gap(picture: np.ndarray) -> float:
        return float(np.abs(picture.astype(float) - area).mean())

    ours = gap(crop.image(photo))
    assert ours < 6 and ours < 0.4 * gap(plain)  # bilinear lookups alone pass over most pixels


def test_a_crop_of_whole_pixels_is_that_part_of_the_photo_and_black_beyond():
    photo = np.random.default_rng(1).integers(1, 256, (60, 70, 3)).astype(np.uint8)
    inside = CropTransform(np.array([30.0, 25.0]), 40.0, 40)
    assert np.array_equal(inside.image(photo), photo[5:45, 10:50])
    across = CropTransform(np.array([10.0, 25.0]), 40.0, 40).image(photo)
    assert not across[:, :10].any() and np.array_equal(across[:, 10:], photo[5:45, :30])
    assert not CropTransform(np.array([-900.0, 25.0]), 40.0, 40).image(photo).any()


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-3, 1e7), st.floats(-1e6, 1e6), TURNS)
def test_any_square_gives_a_crop(side, x, rotation):
    assert CropTransform(np.array([x, 20.0]), side, 32, rotation).image(smooth_photo(64, 48)).shape == (32, 32, 3)


def test_augment_then_undo_gives_the_photo_back():
    """Twice as fine a crop, laid back by an independent resampler, differs by interpolation alone."""
    photo = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (96, 96, 3)).astype(np.uint8), (0, 0), 4)
    crop = CropTransform(np.array([48.0, 48.0]), 140.0, 280, 0.7, True)
    x, y = np.meshgrid(np.arange(96) + 0.5, np.arange(96) + 0.5)
    at = crop.points(np.stack([x, y], axis=-1)).astype(np.float32) - 0.5
    back = cv2.remap(crop.image(photo), at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    assert np.abs(back[4:-4, 4:-4].astype(int) - photo[4:-4, 4:-4]).max() <= 4


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("flipped", [False, True])
def test_labels_of_quarter_turns_come_back_exactly(turns, flipped):
    labels = np.random.default_rng(3).integers(0, 25, (40, 40)).astype(np.uint8)
    crop = CropTransform(np.array([20.0, 20.0]), 40.0, 40, turns * math.pi / 2, flipped)
    turned = np.rot90(labels, -turns)
    assert np.array_equal(crop.labels(labels), turned[:, ::-1] if flipped else turned)
    assert np.array_equal(crop.labels_back(crop.labels(labels), 40, 40), labels)


def test_labels_of_any_turn_come_back_where_they_are_not_at_a_border():
    labels = np.kron(np.arange(1, 10).reshape(3, 3), np.ones((20, 20))).astype(np.int32)
    crop = CropTransform(np.array([30.0, 30.0]), 100.0, 150, 0.4, True)
    back = crop.labels_back(crop.labels(labels), 60, 60)
    inner = (np.arange(60) % 20 > 1) & (np.arange(60) % 20 < 18)
    assert np.array_equal(back[np.ix_(inner, inner)], labels[np.ix_(inner, inner)])
    assert back.dtype == labels.dtype


def test_labels_beyond_the_map_are_background():
    shifted = np.array([[1.0, 0.0, -3.0], [0.0, 1.0, 0.0]])
    assert nearest(np.ones((4, 5), np.uint8), shifted, (8, 4)).tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]] * 4


@given(TURNS, st.booleans(), st.floats(0.5, 2), st.integers(0, 99))
def test_projecting_the_changed_3d_lands_on_the_changed_2d(rotation, flipped, scale, seed):
    """Weak perspective: pixels of the photo are a scale and an offset away from metres."""
    space = np.random.default_rng(seed).standard_normal((49, 3))
    pixels_per_metre, root = 90.0, np.array([210.0, 160.0])
    seen = root + pixels_per_metre * space[:, :2]
    change = Change(rotation, flipped, scale, (0.05, -0.1))
    crop = change.crop(np.array([200.0, 150.0]), 240.0, 224)
    changed = crop.directions(space)
    projected = crop.points(root) + pixels_per_metre * 224 / crop.side * changed[:, :2]
    assert np.allclose(projected, crop.points(seen))
    assert np.allclose(crop.directions_back(changed), space)


@settings(deadline=None, max_examples=15)
@given(TURNS, st.booleans(), st.integers(0, 99))
def test_the_changed_pose_puts_the_joints_where_the_changed_keypoints_are(free_body, rotation, flipped, seed):
    rng = np.random.default_rng(seed)
    pose = torch.from_numpy(0.4 * rng.standard_normal((1, 72))).float()

    def joints(of):
        positions = free_body.joint_positions(global_orient=of[:, :3], body_pose=of[:, 3:])[0]
        return (positions - positions[0]).double().numpy()

    crop = CropTransform(np.array([100.0, 100.0]), 200.0, 224, rotation, flipped)
    expected = crop.directions(joints(pose))
    if flipped:
        expected = mirror_rows(expected, MIRROR)
    changed = Augmentation(torch.tensor([rotation]), torch.tensor([flipped])).apply(pose)
    # The free body's own halves differ by a few millimetres.
    assert np.abs(joints(changed) - expected).max() < (0.01 if flipped else 1e-4)


def test_flips_are_involutions_and_exchange_left_and_right():
    points = np.random.default_rng(4).uniform(size=(17, 3))
    mirrored = mirror_rows(points, COCO17.mirror)
    assert np.array_equal(mirrored[COCO17.index("left_wrist")], points[COCO17.index("right_wrist")])
    assert np.array_equal(mirror_rows(mirrored, COCO17.mirror), points)
    assert [SPIN49.mirror[i] for i in SPIN49.mirror] == list(range(49))
    labels = np.arange(25, dtype=np.uint8).reshape(5, 5)
    assert np.array_equal(mirror_labels(mirror_labels(labels, DENSEPOSE24.mirror), DENSEPOSE24.mirror), labels)
    assert mirror_labels(labels, DENSEPOSE24.mirror).flat[0] == 0
    iuv = np.stack([labels, *np.random.default_rng(5).uniform(size=(2, 5, 5))], axis=-1)
    mirrored = mirror_iuv(iuv)
    assert np.allclose(mirror_iuv(mirrored), iuv) and not np.allclose(mirrored, iuv)
    assert np.array_equal(mirrored[..., 2], iuv[..., 2]) and mirrored[0, 0, 1] == iuv[0, 0, 1]
    assert len(JOINT_NAMES) == len(MIRROR)


def test_colours_are_multiplied_and_stop_at_white():
    crop = np.full((2, 2, 3), 100, np.uint8)
    assert coloured(crop, (1.0, 0.5, 3.0))[0, 0].tolist() == [100, 50, 255]
    assert (crop == 100).all()


def test_spins_ranges_are_kept():
    drawn = [SPIN_AUGMENTATION.draw(np.random.default_rng([0, i])) for i in range(4000)]
    degrees = np.degrees([c.rotation for c in drawn])
    turned = degrees[degrees != 0]
    assert abs(len(turned) / 4000 - 0.4) < 0.03
    assert np.abs(turned).max() == pytest.approx(60) and abs(np.abs(turned[np.abs(turned) < 59.9]).mean() - 22.8) < 2
    scales = np.array([c.scale for c in drawn])
    assert scales.min() == 0.75 and scales.max() == 1.25
    assert abs((scales == 1.25).mean() - 0.159) < 0.025  # of a normal number beyond one deviation
    assert abs(np.mean([c.flipped for c in drawn]) - 0.5) < 0.03
    colours = np.array([c.colour for c in drawn])
    assert colours.min() >= 0.6 and colours.max() <= 1.4 and np.ptp(colours) > 0.79
    assert all(c.shift == (0, 0) for c in drawn)


def test_neural_body_fittings_ranges_are_kept():
    drawn = [NBF_AUGMENTATION.draw(np.random.default_rng([1, i])) for i in range(1000)]
    assert 44 < max(math.degrees(c.rotation) for c in drawn) <= 45
    assert 0.9 <= min(c.scale for c in drawn) < 0.91 and 1.09 < max(c.scale for c in drawn) <= 1.1
    assert 0.09 < max(abs(s) for c in drawn for s in c.shift) <= 0.1


def test_an_option_changes_its_own_part_alone():
    plain, mirrored = (AugmentConfig(flipped=f).draw(np.random.default_rng(8)) for f in (0.0, 1.0))
    assert not plain.flipped and mirrored.flipped
    assert (plain.rotation, plain.scale, plain.colour) == (mirrored.rotation, mirrored.scale, mirrored.colour)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AugmentConfig(flipped=1.5),
        lambda: AugmentConfig(occluded=math.nan),
        lambda: AugmentConfig(scale=Spread(1.0)),
        lambda: Spread(-1.0),
        lambda: Spread(1.0, math.nan),
        lambda: CropTransform(np.array([1.0, 2.0]), 0.0, 224),
        lambda: CropTransform(np.array([math.nan, 2.0]), 10.0, 224),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match=r"expected|spread"):
        make()
