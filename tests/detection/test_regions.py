import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kouros.detection.regions import Pyramid, Region, covering_regions, upright_region

REGIONS = st.builds(
    Region,
    x=st.floats(-500, 500),
    y=st.floats(-500, 500),
    size=st.floats(1, 2000),
    angle=st.floats(-math.pi, math.pi),
    mirrored=st.booleans(),
)


@given(REGIONS)
def test_going_to_the_crop_and_back_changes_nothing(region: Region):
    points = np.array([[0.0, 0.0], [100.0, -3.0], [7.5, 640.0]])
    np.testing.assert_allclose(region.to_image(region.to_crop(points)), points, atol=1e-6)


@given(REGIONS)
def test_a_region_is_a_square_of_its_size(region: Region):
    sides = np.linalg.norm(np.diff(region.corners(), axis=0, append=region.corners()[:1]), axis=1)
    np.testing.assert_allclose(sides, region.size, rtol=1e-9)


def test_the_mirror_exchanges_left_and_right_of_the_crop():
    region = Region(50.0, 40.0, 20.0, angle=0.3)
    np.testing.assert_allclose(
        region.varied(mirrored=True).to_image(np.array([0.2, 0.7])), region.to_image(np.array([0.8, 0.7]))
    )


@pytest.mark.parametrize("direction", [0.0, 1.0, 2.0, math.pi, 4.0, 6.0])
def test_a_body_stands_upright_in_its_region(direction: float):
    hips = np.array([100.0, 200.0])
    above = hips + 30 * np.array([math.cos(direction), math.sin(direction)])
    region = upright_region(hips, above)
    assert region.size == pytest.approx(2 * 1.25 * 30)
    np.testing.assert_allclose(region.to_crop(hips), [0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(region.to_crop(above), [0.5, 0.5 - 30 / region.size], atol=1e-12)


def test_a_crop_at_full_size_is_a_cut_of_the_image():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    # Samples lie on pixel centres, half a pixel from the pixels' corners.
    crop = Pyramid(image).crop(Region(10.5 + 16, 20.5 + 16, 32.0), 32, replicate_border=False)
    np.testing.assert_array_equal(crop, image[20:52, 10:42])


def test_a_mirrored_crop_is_the_crop_of_the_mirrored_image():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    region = Region(30.0, 25.0, 20.0, angle=0.4)
    flipped = Region(80 - 30.0, 25.0, 20.0, angle=-0.4)
    mirrored = Pyramid(image).crop(region.varied(mirrored=True), 64, replicate_border=True)
    direct = Pyramid(image[:, ::-1].copy()).crop(flipped, 64, replicate_border=True)
    assert np.abs(mirrored.astype(int) - direct).max() <= 2


def test_outside_the_image_is_black_or_its_edge():
    image = np.full((10, 10, 3), 200, dtype=np.uint8)
    beside = Region(-100.0, 5.0, 8.0)
    assert (Pyramid(image).crop(beside, 16, replicate_border=False) == 0).all()
    assert (Pyramid(image).crop(beside, 16, replicate_border=True) == 200).all()


def test_a_strongly_shrunk_crop_sees_every_pixel():
    # A fine checkerboard: sampling single pixels of it gives black or white, seeing all of them grey.
    image = np.zeros((1024, 1024, 3), dtype=np.uint8)
    image[::2, 1::2] = image[1::2, ::2] = 255
    crop = Pyramid(image).crop(Region(512.5, 512.5, 1024.0), 128, replicate_border=True)
    assert np.abs(crop[2:-2, 2:-2].astype(int) - 127).max() <= 2


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_tiles_cover_the_whole_image(width: int, height: int):
    first, *tiles = covering_regions(width, height)
    assert first.size == max(width, height)
    assert len(tiles) <= 150
    sides = {tile.size for tile in tiles}
    for side in sides:
        for x, y in ((0.5, 0.5), (width - 0.5, height - 0.5), (width / 2, height / 2)):
            assert any(
                abs(tile.x - x) <= side / 2 and abs(tile.y - y) <= side / 2 for tile in tiles if tile.size == side
            )


def test_ordinary_photos_take_few_tiles_and_tiny_ones_none():
    assert 10 <= len(covering_regions(640, 480)) <= 21
    assert len(covering_regions(40, 30)) == 1
    assert len(covering_regions(640, 480, levels=1)) == 1


def test_a_panorama_is_walked_along():
    sizes = {region.size for region in covering_regions(8000, 1000)[1:]}
    assert max(sizes) == 2000
