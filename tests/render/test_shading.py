"""Overlays and side views: what is drawn where, in which colour, and how edges blend."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import trimesh
from torch.testing import assert_close

from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.shading import (
    PERSON_COLOURS,
    DirectionalLight,
    Lighting,
    Texture,
    overlay,
    shade,
    side_view,
)

FLAT = Lighting(sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0), lights=(), rim=0.0, specular=0.0)
"""Light that leaves colours as they are."""
RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def pinhole(focal=1.0, cx=0.0, cy=0.0):
    return PerspectiveCamera(torch.tensor(focal), torch.tensor([cx, cy]))


def rectangle(x0, y0, x1, y1, z=1.0):
    """In pixels for `pinhole()`'s unit focal length."""
    corners = torch.tensor([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]]) * z
    return corners.float(), torch.tensor([[0, 2, 1], [0, 3, 2]])


def ball(x, y, z, radius=0.5, subdivisions=3):
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return torch.tensor(sphere.vertices + np.array([x, y, z]), dtype=torch.float32), torch.tensor(sphere.faces)


def photo(height=60, width=80, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestOverlay:
    def test_opaque_rectangle_replaces_its_pixels_and_leaves_all_others(self):
        background = photo(8, 10)
        before = background.copy()
        drawn = overlay(background, [rectangle(2, 1, 6, 5)], pinhole(), [RED], alpha=1.0, lighting=FLAT)
        expected = background.copy()
        expected[1:5, 2:6] = (255, 0, 0)
        assert np.array_equal(drawn, expected)
        assert np.array_equal(background, before)

    def test_pixels_on_an_edge_blend_by_how_much_of_them_is_covered(self):
        grey = np.full((4, 6, 3), 100, dtype=np.uint8)
        drawn = overlay(grey, [rectangle(1.5, 0, 4, 4)], pinhole(), [BLUE], alpha=1.0, lighting=FLAT)
        assert drawn[2].tolist() == [
            [100, 100, 100], [50, 50, 178], [0, 0, 255], [0, 0, 255], [100, 100, 100], [100, 100, 100]
        ]  # fmt: skip

    @pytest.mark.parametrize(("alpha", "value"), [(0.0, 100), (0.4, 162), (1.0, 255)])
    def test_alpha_mixes_person_and_photo(self, alpha, value):
        grey = np.full((4, 4, 3), 100, dtype=np.uint8)
        drawn = overlay(grey, [rectangle(0, 0, 4, 4)], pinhole(), [(1.0, 1.0, 1.0)], alpha=alpha, lighting=FLAT)
        assert (drawn == value).all()

    def test_nearer_person_hides_the_farther_in_either_order(self):
        people = [rectangle(1, 1, 5, 5, z=3.0), rectangle(3, 1, 8, 5, z=2.0)]
        drawn = overlay(photo(6, 9), people, pinhole(), [RED, BLUE], alpha=1.0, lighting=FLAT)
        swapped = overlay(photo(6, 9), people[::-1], pinhole(), [BLUE, RED], alpha=1.0, lighting=FLAT)
        assert (drawn[1:5, 1:3] == (255, 0, 0)).all()
        assert (drawn[1:5, 3:8] == (0, 0, 255)).all()
        assert np.array_equal(drawn, swapped)

    def test_people_who_pass_through_each_other_are_each_in_front_where_they_are_nearer(self):
        first, faces = rectangle(0, 0, 8, 4, z=2.0)
        slanted = first * torch.tensor([1.0, 1.5, 1.5, 1.0])[:, None]  # nearer on the left
        second = first * 1.2
        drawn = overlay(
            photo(4, 8), [(slanted, faces), (second, faces)], pinhole(), [RED, BLUE], alpha=1.0, lighting=FLAT
        )
        assert (drawn[:, 0] == (255, 0, 0)).all()
        assert (drawn[:, 7] == (0, 0, 255)).all()

    def test_people_apart_from_each_other_are_drawn_as_each_alone(self):
        camera = pinhole(100.0, 40.0, 30.0)
        people = [ball(-1.0, 0.0, 4.0), ball(1.0, 0.3, 4.0)]
        colours = [RED, BLUE]
        one_by_one = photo()
        for person, colour in zip(people, colours, strict=True):
            one_by_one = overlay(one_by_one, [person], camera, [colour])
        assert np.array_equal(overlay(photo(), people, camera, colours), one_by_one)
        assert not np.array_equal(one_by_one, photo())

    def test_large_photo_drawn_in_pieces_equals_the_picture_drawn_at_once(self):
        camera = pinhole(540.0, 480.0, 360.0)
        black = np.zeros((720, 960, 3), dtype=np.uint8)
        person = ball(0.1, 0.0, 1.5, radius=0.95)
        drawn = overlay(black, [person], camera, [RED], alpha=1.0)
        rgba = shade(person[0][None], person[1], camera, (720, 960), torch.tensor(RED))
        whole = np.rint(rgba[0, ..., :3].numpy() * 255)
        assert (rgba[0, ..., 3] > 0).float().mean() > 0.5
        assert np.abs(drawn.astype(float) - whole).max() <= 1  # float32 rays of shifted cameras

    def test_person_partly_outside_the_photo_or_behind_the_camera(self):
        camera = pinhole(100.0, 40.0, 30.0)
        cut = overlay(photo(), [ball(1.6, 0.0, 4.0)], camera)
        assert not np.array_equal(cut[:, 60:], photo()[:, 60:])
        assert np.array_equal(cut[:, :60], photo()[:, :60])
        for person in (ball(9.0, 0.0, 4.0), ball(0.0, 0.0, -4.0)):
            assert np.array_equal(overlay(photo(), [person], camera), photo())
        around = overlay(photo(), [ball(0.0, 0.0, 0.0, radius=2.0)], camera, [RED], alpha=1.0, lighting=FLAT)
        assert (around == (255, 0, 0)).all()

    def test_no_people_leave_the_photo_as_it_is(self):
        assert np.array_equal(overlay(photo(), [], pinhole()), photo())
        nobody = torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64)
        assert np.array_equal(overlay(photo(), [nobody], pinhole()), photo())

    def test_colours_may_differ_from_vertex_to_vertex(self):
        vertices, faces = rectangle(0, 0, 8, 4)
        left_to_right = torch.tensor([RED, BLUE, BLUE, RED])
        drawn = overlay(photo(4, 8), [(vertices, faces)], pinhole(), [left_to_right], alpha=1.0, lighting=FLAT)
        expected = np.rint((np.arange(8) + 0.5) / 8 * 255)
        assert np.abs(drawn[..., 2] - expected).max() <= 1
        assert np.abs(drawn[..., 0] - (255 - expected)).max() <= 1

    def test_more_people_than_palette_colours_are_drawn(self):
        people = [rectangle(i, 0, i + 1, 1) for i in range(len(PERSON_COLOURS) + 1)]
        drawn = overlay(photo(1, len(people)), people, pinhole(), alpha=1.0, lighting=FLAT)
        assert np.array_equal(drawn[0, 0], drawn[0, -1])
        assert len(np.unique(drawn[0], axis=0)) == len(PERSON_COLOURS)


class TestShade:
    def test_sphere_is_brightest_towards_the_light(self):
        camera = pinhole(100.0, 32.0, 32.0)
        vertices, faces = ball(0.0, 0.0, 4.0, radius=1.0)
        lighting = dataclasses.replace(FLAT, sky=(0.0, 0.0, 0.0), ground=(0.0, 0.0, 0.0), wrap=0.0)
        # 45 degrees round the sphere is 0.707 m aside at a depth of 3.293 m: 21.4 pixels.
        for towards, row, column in [
            ((-1.0, 0.0, -1.0), 32, 10.6),
            ((0.0, -1.0, -1.0), 10.6, 32),
            ((0.0, 0.0, -1.0), 32, 32),
        ]:
            light = DirectionalLight(towards=towards, colour=(1.0, 1.0, 1.0))
            lit = dataclasses.replace(lighting, lights=(light,))
            rgba = shade(vertices[None], faces, camera, (64, 64), torch.ones(3), lighting=lit)
            brightest = np.unravel_index(rgba[0, ..., 0].argmax().item(), (64, 64))
            assert math.hypot(brightest[0] - row, brightest[1] - column) < 5

    def test_lambert_s_law_holds_on_a_sphere(self):
        camera = pinhole(1e5, 32.0, 32.0)  # so far that all rays are parallel
        vertices, faces = ball(0.0, 0.0, 4000.0, radius=1.0, subdivisions=5)
        light = DirectionalLight(towards=(0.0, 0.0, -2.0), colour=(0.8, 0.8, 0.8))
        lighting = dataclasses.replace(FLAT, sky=(0.0, 0.0, 0.0), ground=(0.0, 0.0, 0.0), wrap=0.0, lights=(light,))
        rgba = shade(vertices[None], faces, camera, (64, 64), torch.ones(3), lighting=lighting)
        offset = (torch.arange(64) + 0.5 - 32) / 25
        cosine = (1 - offset[:, None] ** 2 - offset**2).clamp(min=0).sqrt()
        inner = cosine > 0.3
        assert_close(rgba[0, ..., 1][inner], 0.8 * cosine[inner], atol=0.01, rtol=0)

    def test_faces_turned_inside_out_are_lit_the_same(self):
        camera = pinhole(100.0, 32.0, 32.0)
        vertices, faces = ball(0.2, 0.1, 4.0)
        args = camera, (64, 64), torch.tensor([0.7, 0.6, 0.5])
        assert_close(shade(vertices[None], faces, *args), shade(vertices[None], faces.flip(1), *args))

    def test_alpha_is_the_covered_share_and_colours_carry_it(self):
        vertices, faces = ball(0.0, 0.0, 4.0, radius=1.0, subdivisions=5)
        rgba = shade(
            vertices[None], faces, pinhole(60.0, 32.0, 32.0), (64, 64), torch.ones(3), lighting=FLAT,
            supersample=4,
        )  # fmt: skip
        outline = 60.0 * 1.0 / math.sqrt(4.0**2 - 1.0**2)
        assert rgba[..., 3].sum().item() == pytest.approx(math.pi * outline**2, rel=2e-3)
        assert_close(rgba[..., 0], rgba[..., 3])
        assert len(rgba[..., 3].unique()) > 8

    def test_batch_items_are_drawn_independently(self):
        vertices, faces = ball(0.0, 0.0, 4.0)
        batch = torch.stack([vertices, vertices + torch.tensor([0.2, 0.1, 1.0])])
        cameras = PerspectiveCamera(torch.tensor([100.0, 90.0]), torch.tensor([[20.0, 15.0], [18.0, 17.0]]))
        colours = torch.rand(2, len(vertices), 3, generator=torch.Generator().manual_seed(0))
        together = shade(batch, faces, cameras, (32, 40), colours)
        for item in range(2):
            camera = PerspectiveCamera(cameras.focal_length[item], cameras.principal_point[item])
            alone = shade(batch[item : item + 1], faces, camera, (32, 40), colours[item])
            assert_close(together[item : item + 1], alone)

    def test_texture_lies_with_v_up(self):
        vertices, faces = rectangle(0, 0, 4, 4)
        image = torch.tensor([[RED, RED], [BLUE, BLUE]])
        uv = torch.tensor([[0.0, 1], [1, 1], [1, 0], [0, 0]])
        rgba = shade(
            vertices[None], faces, pinhole(), (4, 4), Texture(image, uv, faces), lighting=FLAT
        )  # v = 1 is at the top of the image and, here, of the picture
        assert_close(rgba[0, 0, :, :3], torch.tensor(RED).expand(4, 3))
        assert_close(rgba[0, 3, :, :3], torch.tensor(BLUE).expand(4, 3))


class TestSideView:
    camera = pinhole(200.0, 80.0, 60.0)

    def drawn(self, meshes, size=(120, 160), **options):
        """Where the view differs from one of nobody by more than a shadow does."""
        view = side_view(meshes, self.camera, size, lighting=FLAT, **options).astype(int)
        return np.ptp(view, axis=-1) > 20  # shadows are grey

    def extent(self, mask):
        rows, columns = np.nonzero(mask)
        return np.ptp(rows) + 1, np.ptp(columns) + 1, (columns.min() + columns.max() + 1) / 2

    def box(self, size, position):
        box = trimesh.creation.box(size)
        return torch.tensor(box.vertices + position, dtype=torch.float32), torch.tensor(box.faces)

    def test_shows_the_depth_of_a_box_as_its_width_in_the_photo_s_scale(self):
        height, width, middle = self.extent(self.drawn([self.box((1.6, 1.0, 0.2), (0.7, 0.1, 8.0))]))
        assert height == pytest.approx(1.0 * 200 / 8, rel=0.15)  # the near side is 10 % nearer
        assert width == pytest.approx(0.2 * 200 / 8, abs=1.5)
        assert middle == pytest.approx(80, abs=1)

    def test_what_is_farther_from_the_camera_stands_to_the_right(self):
        people = [self.box((0.3, 1, 0.3), (0.0, 0, 7.0)), self.box((0.3, 1, 0.3), (0.2, 0, 8.5))]
        view = side_view(people, self.camera, (120, 160), [RED, BLUE], lighting=FLAT)
        red, blue = (np.abs(view.astype(int) - np.array(c) * 255).sum(axis=-1) < 20 for c in (RED, BLUE))
        assert np.nonzero(red)[1].max() < np.nonzero(blue)[1].min()

    def test_people_far_apart_in_depth_are_shrunk_to_fit(self):
        people = [self.box((0.3, 1, 0.3), (0, 0, z)) for z in (3.0, 12.0, 30.0)]
        mask = self.drawn(people)
        assert not mask[:, [0, -1]].any()
        assert np.nonzero(np.diff(mask.any(axis=0).astype(int)) == 1)[0].size == 3

    def test_nobody_gives_the_background(self):
        view = side_view([], self.camera, (6, 5), background=(1.0, 0.0, 0.0))
        assert view.shape == (6, 5, 3)
        assert (view == (255, 0, 0)).all()


class TestBadInput:
    def test_photo_of_another_type(self):
        for wrong in (photo().astype(np.float32), photo()[..., 0], photo()[:0]):
            with pytest.raises((ValueError, TypeError)):
                overlay(wrong, [], pinhole())

    def test_nan_vertices(self):
        vertices, faces = ball(0, 0, 4.0)
        vertices[3, 1] = torch.nan
        for draw in (overlay, lambda *a: side_view(*a[1:], (4, 4))):
            with pytest.raises(ValueError, match="NaN"):
                draw(photo(), [(vertices, faces)], pinhole())

    @pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
    def test_alpha_outside_its_range(self, alpha):
        with pytest.raises(ValueError, match="alpha is"):
            overlay(photo(), [], pinhole(), alpha=alpha)

    def test_fewer_colours_than_people(self):
        with pytest.raises(ValueError, match="1 for 2 people"):
            overlay(photo(), [ball(0, 0, 4.0)] * 2, pinhole(), [RED])

    def test_colours_of_another_mesh(self):
        with pytest.raises(ValueError, match="642"):
            overlay(photo(), [ball(0, 0, 4.0)], pinhole(), [torch.ones(5, 3)])

    def test_no_samples_in_a_pixel(self):
        with pytest.raises(ValueError, match="supersample is 0"):
            overlay(photo(), [], pinhole(), supersample=0)

    def test_side_view_without_pixels(self):
        with pytest.raises(ValueError, match="at least 1"):
            side_view([], pinhole(), (0, 5))


def test_palette_stays_distinct_for_red_and_green_blind_eyes():
    # Viénot, Brettel and Mollon 1999: projections of linear RGB onto what protanopes and deuteranopes see.
    linear = np.array(PERSON_COLOURS) ** 2.2
    for seen in (
        [[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]],
        [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]],
    ):
        colours = (linear @ np.array(seen).T).clip(0, 1) ** (1 / 2.2)
        gaps = np.linalg.norm(colours[:, None] - colours, axis=-1)[np.triu_indices(len(colours), k=1)]
        assert gaps.min() > 0.1
