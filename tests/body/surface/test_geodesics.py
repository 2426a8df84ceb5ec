import numpy as np
import pytest
import torch
import trimesh

from kouros.body.surface.geodesics import Geodesics


def test_distances_on_a_sphere_are_arcs():
    sphere = trimesh.creation.icosphere(subdivisions=4, radius=0.2)
    vertices, faces = torch.from_numpy(sphere.vertices.copy()), torch.from_numpy(sphere.faces.copy())
    found = Geodesics(vertices, faces).from_vertices(torch.tensor([0, 100]))
    for row, source in zip(found.double(), (0, 100), strict=True):
        arcs = 0.2 * torch.arccos((vertices @ vertices[source] / 0.04).clamp(-1, 1))
        far = arcs > 0.02
        ratio = (row / arcs)[far]
        assert ratio.min() > 0.995  # chords of the facets cut a little
        assert ratio.max() < 1.025
        assert ratio.mean() < 1.012


def _grid(n: int):
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
    vertices = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], axis=1)
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    quads = np.stack([corner, corner + 1, corner + n + 1, corner + n], axis=1)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return torch.from_numpy(vertices), torch.from_numpy(faces)


def _random_points(vertices, faces, count, seed):
    generator = torch.Generator().manual_seed(seed)
    face = torch.randint(len(faces), (count,), generator=generator)
    weights = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    weights = weights / weights.sum(dim=1, keepdim=True)
    return face, weights, (vertices[faces[face]] * weights[..., None]).sum(dim=1)


def test_distances_between_points_inside_faces_of_a_plane_are_straight():
    vertices, faces = _grid(15)
    face_a, weight_a, a = _random_points(vertices, faces, 300, 0)
    face_b, weight_b, b = _random_points(vertices, faces, 300, 1)
    found = Geodesics(vertices, faces).between(face_a, weight_a, face_b, weight_b)
    truth = (a - b).norm(dim=1)
    # The graph's paths may be 2.5 % too long, and float16 keeps 3 digits.
    assert ((found - truth).abs() < 0.025 * truth + 2e-3).all()


def test_points_of_one_face_are_as_far_apart_as_they_are():
    vertices, faces = _grid(4)
    _, weight_a, _ = _random_points(vertices, faces, 50, 2)
    _, weight_b, _ = _random_points(vertices, faces, 50, 3)
    face = torch.zeros(50, dtype=torch.long)
    found = Geodesics(vertices, faces).between(face, weight_a, face, weight_b)
    a, b = ((vertices[faces[face]] * w[..., None]).sum(dim=1) for w in (weight_a, weight_b))
    torch.testing.assert_close(found, (a - b).norm(dim=1), atol=2e-3, rtol=1e-2)
    same = Geodesics(vertices, faces).between(face, weight_a, face, weight_a)
    assert same.max() < 5e-3


def test_distance_is_the_same_both_ways_and_never_less_than_straight(free_body, surface):
    generator = torch.Generator().manual_seed(0)
    part = torch.randint(1, 25, (12,), generator=generator)
    uv = torch.rand(12, 2, generator=generator).double() * 0.3 + 0.35
    face, weight, _ = surface.charts.locate(part, uv)
    other, other_weight = face.flip(0), weight.flip(0)
    geodesics = Geodesics(free_body.v_template, free_body.faces)
    there = geodesics.between(face[:6], weight[:6], other[:6], other_weight[:6])
    back = geodesics.between(other[:6], other_weight[:6], face[:6], weight[:6])
    torch.testing.assert_close(there, back, atol=2e-3, rtol=0.01)
    corners = free_body.v_template.double()[free_body.faces]
    points = (corners[face] * weight[..., None]).sum(dim=1)
    straight = (points - points.flip(0)).norm(dim=1)[:6]
    assert (there > straight - 2e-3).all()


def test_beyond_the_limit_and_on_other_pieces_it_is_infinite():
    vertices, faces = _grid(6)
    two = torch.cat([vertices, vertices + torch.tensor([0, 0, 1.0])])
    both = torch.cat([faces, faces + len(vertices)])
    row = Geodesics(two, both, limit=0.5).from_vertices(torch.tensor([0]))[0]
    assert row[len(vertices) :].isinf().all()
    assert row[: len(vertices)][vertices.norm(dim=1) > 0.55].isinf().all()
    assert row[: len(vertices)][vertices.norm(dim=1) < 0.45].isfinite().all()


def test_nan_vertices_are_refused():
    vertices, faces = _grid(3)
    vertices[4, 1] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinite"):
        Geodesics(vertices, faces)
