"""Interpolation, its gradients, and smooth normals."""

import dataclasses

import pytest
import torch
import trimesh
from torch.autograd import gradcheck
from torch.testing import assert_close

from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.attributes import interpolate, vertex_normals, visible_barycentric
from kouros.render.rasterize import Fragments, rasterize

FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [4, 5, 6]])
CAMERA = PerspectiveCamera(
    torch.tensor([6.0, 7.0], dtype=torch.float64), torch.tensor([[4.1, 4.2], [4.0, 3.9]], dtype=torch.float64)
)


@pytest.fixture
def vertices():
    """A slanted quad behind a triangle that crosses the camera's plane; two of them."""
    one = torch.tensor(
        [
            [-1.5, -1.4, 2.5], [1.3, -1.6, 3.5], [1.5, 1.4, 3.0], [-1.2, 1.5, 2.2],
            [-0.8, 0.7, 1.5], [0.9, 0.6, 1.9], [0.1, 0.5, -0.7],
        ],
        dtype=torch.float64,
    )  # fmt: skip
    return torch.stack([one, one * torch.tensor([0.9, 1.1, 1.05], dtype=torch.float64)])


@pytest.fixture
def fragments(vertices):
    drawn = rasterize(vertices, FACES, CAMERA, (8, 8))
    assert set(drawn.face.unique().tolist()) == {-1, 0, 1, 2}
    return drawn


def test_interpolated_positions_project_to_the_centres_of_their_pixels(vertices, fragments):
    points = interpolate(vertices, FACES, fragments)
    pixels = CAMERA.project(points.reshape(2, 64, 3)).reshape(2, 8, 8, 2)
    rows, columns = torch.meshgrid(torch.arange(8.0) + 0.5, torch.arange(8.0) + 0.5, indexing="ij")
    centres = torch.stack([columns, rows], dim=-1).double().expand(2, 8, 8, 2)
    assert_close(pixels[fragments.mask], centres[fragments.mask])
    assert_close(points[..., 2][fragments.mask], fragments.depth[fragments.mask])
    assert (points[~fragments.mask] == 0).all()


def test_attributes_shared_by_the_batch_equal_attributes_repeated_for_each_item(vertices, fragments):
    attributes = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    shared = interpolate(attributes, FACES, fragments)
    assert shared.shape == (2, 8, 8, 5)
    assert shared.dtype == torch.float32
    assert_close(shared, interpolate(attributes.repeat(2, 1, 1), FACES, fragments))
    assert_close(shared, interpolate(attributes[None], FACES, fragments))


def test_interpolation_has_the_right_gradients(fragments):
    attributes = torch.randn(2, 7, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def values(attributes, barycentric):
        return interpolate(attributes, FACES, dataclasses.replace(fragments, barycentric=barycentric))

    inputs = attributes.requires_grad_(), fragments.barycentric.clone().requires_grad_()
    assert gradcheck(values, inputs)


def test_recomputed_barycentric_coordinates_equal_the_rasterizer_s(vertices, fragments):
    again = visible_barycentric(vertices, FACES, CAMERA, fragments)
    assert_close(again, fragments.barycentric)
    single = rasterize(vertices.float(), FACES, CAMERA, (8, 8))
    assert_close(visible_barycentric(vertices.float(), FACES, CAMERA, single), single.barycentric)


def test_barycentric_coordinates_have_the_right_gradients_with_respect_to_vertices(vertices, fragments):
    def weights(vertices):
        return visible_barycentric(vertices, FACES, CAMERA, fragments)

    assert gradcheck(weights, vertices.requires_grad_())


def test_depth_s_gradient_is_that_of_rasterizing_moved_vertices(vertices, fragments):
    direction = torch.randn(2, 7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def depth(vertices):
        weights = visible_barycentric(vertices, FACES, CAMERA, fragments)
        return interpolate(vertices[..., 2:], FACES, dataclasses.replace(fragments, barycentric=weights))[..., 0]

    _, derivative = torch.func.jvp(depth, (vertices,), (direction,))
    step = 1e-6
    ahead, behind = (rasterize(vertices + s * direction, FACES, CAMERA, (8, 8)) for s in (step, -step))
    same = (ahead.face == behind.face) & (ahead.face == fragments.face) & fragments.mask
    assert same.sum() > 40
    assert_close(derivative[same], ((ahead.depth - behind.depth) / (2 * step))[same], rtol=1e-5, atol=1e-7)


def test_pictures_that_show_nothing_interpolate_to_zero():
    nothing = Fragments(
        face=torch.full((1, 3, 4), -1),
        barycentric=torch.zeros(1, 3, 4, 3),
        depth=torch.full((1, 3, 4), torch.inf),
    )
    attributes = torch.ones(7, 2, requires_grad=True)
    values = interpolate(attributes, FACES, nothing)
    assert (values == 0).all()
    values.sum().backward()
    assert (attributes.grad == 0).all()


@pytest.mark.parametrize("shape", [(7,), (3, 7, 2), (1, 2, 7, 2)])
def test_attributes_of_another_shape_are_refused(fragments, shape):
    with pytest.raises((ValueError, TypeError)):
        interpolate(torch.ones(shape), FACES, fragments)


@pytest.mark.parametrize("radius", [1e-6, 1.0, 1e4])
def test_normals_of_a_sphere_point_outward_at_any_size(radius):
    sphere = trimesh.creation.icosphere(subdivisions=3)
    positions = torch.tensor(sphere.vertices, dtype=torch.float32)
    normals = vertex_normals(radius * positions, torch.tensor(sphere.faces))
    assert_close(normals.norm(dim=-1), torch.ones(len(positions)))
    assert ((normals * positions).sum(dim=-1) > 0.999).all()


def test_normals_follow_rotations_and_batches():
    mesh = trimesh.creation.torus(1.0, 0.3)
    positions = torch.tensor(mesh.vertices)
    faces = torch.tensor(mesh.faces)
    turn = torch.tensor(trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])[:3, :3])
    straight, turned = vertex_normals(torch.stack([positions, positions @ turn.T]), faces)
    assert_close(turned, straight @ turn.T)


def test_normals_weight_faces_by_area_as_trimesh_s_cross_products_say():
    mesh = trimesh.creation.box((1.0, 2.0, 3.0))
    expected = torch.zeros(8, 3, dtype=torch.float64)
    for face, normal, area in zip(mesh.faces, mesh.face_normals, mesh.area_faces, strict=True):
        expected[face] += torch.tensor(normal * area)
    expected /= expected.norm(dim=-1, keepdim=True)
    assert_close(vertex_normals(torch.tensor(mesh.vertices), torch.tensor(mesh.faces)), expected)


def test_vertices_of_no_face_have_no_normal():
    positions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [2, 2, 2]])
    normals = vertex_normals(positions, torch.tensor([[0, 1, 2], [3, 3, 4]]))
    assert_close(normals, torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]]))
