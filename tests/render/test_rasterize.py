"""Coverage, depth and barycentric coordinates against analytic scenes, a plain reference, and embree."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.rasterize import Fragments, rasterize

METHODS = ["numba", "torch"]


def pinhole(focal=1.0, cx=0.0, cy=0.0, dtype=torch.float64):
    return PerspectiveCamera(torch.tensor(focal, dtype=dtype), torch.tensor([cx, cy], dtype=dtype))


def tensor(rows, dtype=torch.float64):
    return torch.tensor(rows, dtype=dtype)


def rectangle(x0, y0, x1, y1, z=1.0):
    """Two triangles, in pixels for `pinhole()`'s unit focal length."""
    corners = tensor([[x0, y0, 1], [x1, y0, 1], [x1, y1, 1], [x0, y1, 1]]) * z
    return corners[None], torch.tensor([[0, 1, 2], [0, 2, 3]])


def body_like(subdivisions=3, distance=50.0):
    """A crude person of ellipsoids: (1, V, 3) float32 and faces."""
    parts = []
    for x, y, rx, ry in [
        (0, -0.75, 0.10, 0.13),
        (0, -0.2, 0.2, 0.38),
        (0.12, 0.45, 0.09, 0.45),
        (-0.12, 0.45, 0.09, 0.45),
        (0.42, -0.38, 0.3, 0.06),
        (-0.42, -0.38, 0.3, 0.06),
    ]:
        part = trimesh.creation.icosphere(subdivisions=subdivisions)
        part.vertices = part.vertices * [rx, ry, min(rx, 0.12)] + [x, y, 0.3 * x]
        parts.append(part)
    mesh = trimesh.util.concatenate(parts)
    vertices = torch.tensor(mesh.vertices + np.array([0.013, 0.021, distance]), dtype=torch.float32)
    return vertices[None], torch.tensor(np.asarray(mesh.faces))


def reference(vertices, faces, camera, height, width, near=0.01):
    """Each pixel's ray solved against each triangle: ``[a b c] weights = ray``, and where that is unsure."""
    v = vertices.double().numpy()
    focal, (cx, cy) = float(camera.focal_length), camera.principal_point.tolist()
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([(columns - cx) / focal, (rows - cy) / focal, np.ones_like(rows)], axis=-1)
    face = np.full((height, width), -1)
    depth = np.full((height, width), np.inf)
    doubtful = np.zeros((height, width), dtype=bool)
    for index, corners in enumerate(v[faces.numpy()]):
        if abs(np.linalg.det(corners)) < 1e-9:
            doubtful[:] = True
            continue
        weights = rays @ np.linalg.inv(corners)
        total = weights.sum(axis=-1)
        with np.errstate(divide="ignore"):
            z = 1 / total
        inside = (weights >= 0).all(axis=-1) & (z >= near)
        doubtful |= (np.abs(weights) < 1e-6 * np.abs(weights).max()).any(axis=-1) | (np.abs(z - near) < 1e-6)
        rival = np.where(np.isfinite(depth), depth, -1)
        doubtful |= inside & (np.abs(z - rival) < 1e-5 * z)
        wins = inside & (z < depth)
        face[wins], depth[wins] = index, z[wins]
    return face, depth, doubtful


def assert_same(a: Fragments, b: Fragments) -> None:
    for name in ("face", "barycentric", "depth"):
        assert torch.equal(getattr(a, name).cpu(), getattr(b, name).cpu()), name


@pytest.mark.parametrize("method", METHODS)
class TestScenes:
    def test_rectangle_covers_the_pixels_whose_centres_it_holds(self, method):
        drawn = rasterize(*rectangle(2.0, 1.0, 5.0, 3.0), pinhole(), (4, 8), method=method)
        expected = torch.zeros(4, 8, dtype=torch.bool)
        expected[1:3, 2:5] = True
        assert torch.equal(drawn.mask[0], expected)

    def test_centres_on_left_and_top_edges_are_in_and_on_right_and_bottom_edges_out(self, method):
        drawn = rasterize(*rectangle(1.5, 1.5, 4.5, 3.5), pinhole(), (6, 6), method=method)
        expected = torch.zeros(6, 6, dtype=torch.bool)
        expected[1:3, 1:4] = True
        assert torch.equal(drawn.mask[0], expected)

    @pytest.mark.parametrize("size", [(1, 1), (37, 53)])
    def test_rectangle_larger_than_the_image_covers_all_of_it(self, method, size):
        drawn = rasterize(*rectangle(-1e6, -1e6, 1e6, 1e6, z=3.0), pinhole(), size, method=method)
        assert drawn.mask.all()
        torch.testing.assert_close(drawn.depth, torch.full((1, *size), 3.0, dtype=torch.float64))

    def test_floor_reaching_behind_the_camera_is_seen_up_to_the_horizon(self, method):
        vertices = tensor([[-1e3, 1, -50], [1e3, 1, -50], [1e3, 1, 1e4], [-1e3, 1, 1e4]])[None]
        faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
        drawn = rasterize(vertices, faces, pinhole(20.0, 16.0, 10.0), (24, 32), method=method)
        rows = torch.arange(24, dtype=torch.float64) + 0.5
        assert not drawn.mask[0, rows < 10].any()
        assert drawn.mask[0, rows > 10].all()
        expected = (20.0 / (rows - 10))[rows > 10, None].expand(-1, 32)  # height 1 m: Z = f / (v - cy)
        torch.testing.assert_close(drawn.depth[0, rows > 10], expected, rtol=1e-9, atol=0)

    def test_nothing_nearer_than_the_near_plane_is_drawn(self, method):
        vertices = tensor([[-1e3, 1, -50], [1e3, 1, -50], [1e3, 1, 1e4], [-1e3, 1, 1e4]])[None]
        faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
        drawn = rasterize(vertices, faces, pinhole(20.0, 16.0, 10.0), (24, 32), near=2.5, method=method)
        rows = torch.arange(24) + 0.5
        assert torch.equal(drawn.mask[0, :, 7], (rows > 10) & (rows < 18))  # 20 / 8 = 2.5 m

    @pytest.mark.parametrize("offset", [(0, 0, -10), (200, 0, 0), (-200, 0, 0), (0, 300, 0), (0, -300, 0)])
    def test_what_is_behind_or_beside_the_picture_is_not_drawn(self, method, offset):
        vertices, faces = rectangle(2.0, 1.0, 5.0, 3.0)
        drawn = rasterize(vertices + tensor(offset), faces, pinhole(), (4, 8), method=method)
        assert not drawn.mask.any()
        assert (drawn.face == -1).all()
        assert (drawn.barycentric == 0).all()
        assert torch.isinf(drawn.depth).all()

    def test_both_sides_of_a_face_are_seen(self, method):
        vertices, faces = rectangle(2.0, 1.0, 5.0, 3.0)
        front = rasterize(vertices, faces, pinhole(), (4, 8), method=method)
        back = rasterize(vertices, faces.flip(1), pinhole(), (4, 8), method=method)
        assert torch.equal(front.face, back.face)
        assert torch.equal(front.barycentric, back.barycentric.flip(-1))

    def test_nearer_face_wins_and_the_lower_index_wins_a_tie(self, method):
        near_quad, faces = rectangle(0.0, 0.0, 4.0, 4.0, z=1.0)
        far_quad, _ = rectangle(0.0, 0.0, 4.0, 4.0, z=2.0)
        vertices = torch.cat([far_quad, near_quad, near_quad], dim=1)
        drawn = rasterize(vertices, torch.cat([faces, faces + 4, faces + 8]), pinhole(), (4, 4), method=method)
        assert set(drawn.face.unique().tolist()) == {2, 3}

    def test_barycentric_coordinates_are_of_the_slanted_face_in_space(self, method):
        # z = 4 + x: the ray (x', y', 1) meets it at z = 4 / (1 - x').
        vertices = tensor([[-2, -9, 2], [4, -9, 8], [-2, 9, 2], [4, 9, 8]])[None]
        faces = torch.tensor([[0, 1, 2], [1, 3, 2]])
        drawn = rasterize(vertices, faces, pinhole(16.0, 8.0, 8.0), (16, 16), method=method)
        columns = (torch.arange(16, dtype=torch.float64) + 0.5 - 8) / 16
        seen = drawn.mask[0]
        assert seen[:, :15].all()
        torch.testing.assert_close(drawn.depth[0][seen], (4 / (1 - columns)).expand(16, 16)[seen])
        points = (drawn.barycentric[0][..., None] * vertices[0][faces[drawn.face[0]]]).sum(dim=-2)
        torch.testing.assert_close(points[..., 0][seen], (columns * 4 / (1 - columns)).expand(16, 16)[seen])

    def test_mirrored_scene_gives_the_mirrored_picture(self, method):
        vertices, faces = body_like()
        drawn = rasterize(vertices, faces, pinhole(2000.0, 31.3, 24.0), (48, 64), method=method)
        flipped = vertices * torch.tensor([-1.0, 1.0, 1.0])
        other = rasterize(flipped, faces, pinhole(2000.0, 64 - 31.3, 24.0), (48, 64), method=method)
        assert drawn.mask.any()
        assert torch.equal(drawn.face, other.face.flip(2))

    def test_degenerate_faces_cover_nothing(self, method):
        vertices = tensor([[0.0, 0, 1], [4, 4, 1], [2, 2, 1], [3, 0, 1], [0, 0, 0], [8, 8, 2]])[None]
        faces = torch.tensor([[0, 1, 2], [1, 1, 1], [0, 0, 3], [0, 3, 3], [0, 1, 4], [0, 1, 5]])
        assert not rasterize(vertices, faces, pinhole(), (5, 5), method=method).mask.any()

    @pytest.mark.parametrize(("batch", "verts", "count"), [(0, 5, 2), (2, 3, 0), (2, 0, 0), (0, 0, 0)])
    def test_empty_batches_and_meshes_give_empty_pictures(self, method, batch, verts, count):
        vertices = torch.ones(batch, verts, 3)
        faces = torch.zeros(count, 3, dtype=torch.int64)
        drawn = rasterize(vertices, faces, pinhole(), (4, 6), method=method)
        assert drawn.face.shape == (batch, 4, 6)
        assert drawn.barycentric.shape == (batch, 4, 6, 3)
        assert not drawn.mask.any()


def points(count, low, high):
    # Coarse steps: exact ties, coincident corners and edges through pixel centres turn up often.
    steps = st.integers(int(low * 4), int(high * 4)).map(lambda n: n / 4)
    return arrays(np.float64, (count, 3), elements=steps)


@settings(max_examples=60, deadline=None)
@given(corners=points(9, -4, 4))
@pytest.mark.parametrize("method", METHODS)
def test_random_triangles_around_the_camera_match_rays_solved_one_by_one(method, corners):
    vertices = torch.from_numpy(corners + np.array([0.03, 0.01, 0.6]))
    faces = torch.arange(9).reshape(3, 3)
    camera = pinhole(7.0, 8.2, 7.9)
    drawn = rasterize(vertices[None], faces, camera, (14, 17), method=method)
    face, depth, doubtful = reference(vertices, faces, camera, 14, 17)
    assert np.array_equal(drawn.face[0].numpy()[~doubtful], face[~doubtful])
    np.testing.assert_allclose(drawn.depth[0].numpy()[~doubtful], depth[~doubtful], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(corners=points(8, -3, 3), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_both_methods_return_the_same_bits(corners, dtype):
    vertices = torch.from_numpy(corners + np.array([0, 0, 1.0])).to(dtype)[None]
    faces = torch.tensor([[0, 1, 2], [2, 1, 3], [4, 5, 6], [5, 6, 7], [0, 4, 7]])
    camera = pinhole(8.0, 8.0, 6.0, dtype)
    a, b = (rasterize(vertices, faces, camera, (13, 16), method=method) for method in METHODS)
    assert_same(a, b)
    assert a.depth.dtype == a.barycentric.dtype == dtype


def twice_area(a, b, c):
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


@settings(max_examples=60, deadline=None)
@given(
    ring=st.lists(st.tuples(st.integers(0, 28), st.integers(0, 28)), min_size=3, max_size=3, unique=True),
    center=st.tuples(st.integers(-1, 1), st.integers(-1, 1)),
    scale=st.sampled_from([0.5, 1 / 3, 0.7137]),
    z=st.sampled_from([1.0, 49.3]),
)
def test_triangles_that_share_edges_draw_each_pixel_exactly_once(ring, center, scale, z):
    # A triangle, and the same triangle cut into three at an inner point: no pixel twice, none missing.
    inner = tuple((sum(axis) + shift) / 3 for axis, shift in zip(zip(*ring, strict=True), center, strict=True))
    vertices = tensor([[x * scale * z, y * scale * z, z] for x, y in (*ring, inner)])
    parts = [twice_area(*pair, inner) for pair in pairwise([*ring, ring[0]])]
    assume(min(parts) > 1e-6 or max(parts) < -1e-6)  # the inner point is inside
    # By rounding, a pixel's centre right on a vertex may fall on either side of each edge that ends there.
    offsets = [abs(x * scale % 1 - 0.5) + abs(y * scale % 1 - 0.5) for x, y in (*ring, inner)]
    assume(min(offsets) > 1e-6)

    def coverage(face):
        return rasterize(vertices[None], torch.tensor([face]), pinhole(), (15, 15)).mask[0].int()

    whole = coverage([0, 1, 2])
    assert torch.equal(coverage([0, 1, 3]) + coverage([1, 2, 3]) + coverage([2, 0, 3]), whole)


def test_closed_mesh_far_away_in_float32_has_no_pinholes():
    sphere = trimesh.creation.icosphere(subdivisions=5)
    vertices = torch.tensor(sphere.vertices + np.array([3.0, -2.0, 60.0]), dtype=torch.float32)[None]
    faces = torch.tensor(np.asarray(sphere.faces))
    camera = pinhole(5000.0, -150.0, 278.0)
    columns, rows = np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5)
    centre = camera.project(tensor([[3.0, -2.0, 60.0]]))[0].numpy()
    inner = np.hypot(columns - centre[0], rows - centre[1]) < 80  # its radius is 83 px
    assert rasterize(vertices, faces, camera, (224, 224)).mask[0].numpy()[inner].all()


def test_items_of_a_batch_do_not_depend_on_each_other_nor_on_threads():
    vertices, faces = body_like()
    batch = torch.cat([vertices, vertices + torch.tensor([0.1, 0.0, 5.0]), vertices * 1.01])
    cameras = PerspectiveCamera(
        torch.tensor([2500.0, 2000.0, 2700.0]), torch.tensor([[60.0, 50.0], [64.0, 64.0], [50.5, 70.25]])
    )
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = rasterize(batch, faces, cameras, (128, 120))
        torch.set_num_threads(1)
        alone = rasterize(batch, faces, cameras, (128, 120))
    finally:
        torch.set_num_threads(threads)
    assert_same(together, alone)
    assert_same(together, rasterize(batch, faces, cameras, (128, 120), method="torch"))
    for item in range(3):
        camera = PerspectiveCamera(cameras.focal_length[item], cameras.principal_point[item])
        single = rasterize(batch[item : item + 1], faces.int(), camera, (128, 120))
        assert torch.equal(single.face[0], together.face[item])
        assert torch.equal(single.depth[0], together.depth[item])


def test_one_item_drawn_in_bands_by_several_threads_is_the_same():
    vertices, faces = body_like()
    threads = torch.get_num_threads()
    pictures = []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            pictures.append(rasterize(vertices, faces, pinhole(18000.0, 400.0, 400.0), (800, 820)))
    finally:
        torch.set_num_threads(threads)
    assert_same(pictures[0], pictures[1])
    assert_same(pictures[0], pictures[2])


@pytest.mark.parametrize("shape", ["body", "torus", "cylinder"])
def test_agrees_with_embree_on_interior_pixels(shape):
    pytest.importorskip("embreex")
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    if shape == "body":
        vertices, faces = body_like(distance=5.0)
    else:
        mesh = (
            trimesh.creation.torus(0.6, 0.2) if shape == "torus" else trimesh.creation.cylinder(0.5, 1.2, sections=64)
        )
        turn = trimesh.transformations.rotation_matrix(1.1, [1, 2, 0.5])
        vertices = torch.tensor(mesh.apply_transform(turn).vertices + np.array([0, 0, 5.0]), dtype=torch.float32)[None]
        faces = torch.tensor(np.asarray(mesh.faces))
    camera = pinhole(500.0, 112.0, 112.0)
    drawn = rasterize(vertices, faces, camera, (224, 224))
    mesh = trimesh.Trimesh(vertices[0].numpy(), faces.numpy(), process=False)
    columns, rows = np.meshgrid(np.arange(224) + 0.5, np.arange(224) + 0.5)
    rays = np.stack([(columns - 112) / 500, (rows - 112) / 500, np.ones_like(rows)], axis=-1).reshape(-1, 3)
    hits = RayMeshIntersector(mesh).intersects_first(np.zeros_like(rays), rays).reshape(224, 224)
    ours = drawn.face[0].numpy()
    assert ((hits >= 0) != (ours >= 0)).mean() < 1e-4
    weights = drawn.barycentric[0].numpy()
    interior = (ours >= 0) & (weights.min(axis=-1) > 1e-3)  # embree computes edges in float32
    assert interior.sum() > 2000
    assert (hits[interior] == ours[interior]).mean() >= 0.999


class TestBadInput:
    vertices, faces = rectangle(0.0, 0.0, 4.0, 4.0)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_vertices_that_are_not_finite(self, value):
        vertices = self.vertices.repeat(3, 1, 1)
        vertices[1, 2, 0] = value
        with pytest.raises(ValueError, match=r"NaN or infinite.*items \[1\]"):
            rasterize(vertices, self.faces, pinhole(), (4, 4))

    @pytest.mark.parametrize("index", [-1, 4])
    def test_faces_that_name_no_vertex(self, index):
        faces = self.faces.clone()
        faces[1, 1] = index
        with pytest.raises(ValueError, match="there are 4"):
            rasterize(self.vertices, faces, pinhole(), (4, 4))

    @pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4)])
    def test_images_without_pixels(self, size):
        with pytest.raises(ValueError, match="at least 1"):
            rasterize(self.vertices, self.faces, pinhole(), size)

    @pytest.mark.parametrize("focal", [0.0, -3.0, np.nan])
    def test_focal_lengths_that_are_not_positive(self, focal):
        with pytest.raises(ValueError, match="focal length must be positive"):
            rasterize(self.vertices, self.faces, pinhole(focal), (4, 4))

    def test_cameras_that_do_not_fit_the_batch(self):
        cameras = PerspectiveCamera(torch.ones(2), torch.zeros(2, 2))
        with pytest.raises(ValueError, match="for a batch of 3"):
            rasterize(self.vertices.repeat(3, 1, 1), self.faces, cameras, (4, 4))

    def test_near_plane_at_the_camera(self):
        with pytest.raises(ValueError, match="near is 0"):
            rasterize(self.vertices, self.faces, pinhole(), (4, 4), near=0.0)

    @pytest.mark.parametrize(
        ("vertices", "faces"),
        [
            (vertices.half(), faces),
            (vertices.int(), faces),
            (vertices, faces.float()),
            (vertices, faces.bool()),
        ],
    )
    def test_wrong_dtypes(self, vertices, faces):
        with pytest.raises(TypeError):
            rasterize(vertices, faces, pinhole(), (4, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_returns_the_cpu_s_bits():
    vertices, faces = body_like()
    camera = pinhole(5000.0, 112.0, 112.0, torch.float32)
    cpu = rasterize(vertices, faces, camera, (224, 224))
    gpu_camera = PerspectiveCamera(camera.focal_length.cuda(), camera.principal_point.cuda())
    gpu = rasterize(vertices.cuda(), faces.cuda(), gpu_camera, (224, 224))
    assert gpu.face.is_cuda
    assert_same(cpu, gpu)
