import copy

import numpy as np
import pytest
import torch
import trimesh

from kouros.body.surface.atlas import uv_atlas, uv_sampler
from kouros.body.surface.charts import build_charts, chart_points, place_points
from kouros.body.surface.flatten import flatten
from kouros.body.surface.parts import DENSEPOSE24, face_labels
from kouros.body.surface.planar import signed_areas
from kouros.body.surface.symmetry import mesh_mirror


@pytest.fixture(scope="module")
def charts(surface):
    return surface.charts


@pytest.fixture(scope="module")
def on_chart(charts):
    """A few thousand points (part, uv) on the charts, and where they are on the mesh."""
    generator = torch.Generator().manual_seed(0)
    part = torch.randint(1, 25, (6000,), generator=generator)
    uv = torch.rand(6000, 2, generator=generator)
    face, weights, inside = charts.locate(part, uv)
    return part[inside], uv[inside], face[inside], weights[inside]


def _pose(count, scale, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return {
        "betas": torch.randn(count, 10, generator=generator),
        "body_pose": scale * torch.randn(count, 69, generator=generator),
        "global_orient": torch.randn(count, 3, generator=generator),
        "transl": torch.randn(count, 3, generator=generator),
    }


def test_flat_cylinder_is_its_own_unrolling():
    """A half cylinder is developable: the plane's distances are known."""
    angle, height = np.meshgrid(np.linspace(0, np.pi, 25), np.linspace(0, 0.4, 20))
    points = np.stack([0.1 * np.cos(angle), 0.1 * np.sin(angle), height], axis=-1).reshape(-1, 3)
    corner = (np.arange(19)[:, None] * 25 + np.arange(24)).ravel()
    faces = np.concatenate([
        np.stack([corner, corner + 1, corner + 26], axis=1),
        np.stack([corner, corner + 26, corner + 25], axis=1),
    ])  # fmt: skip
    flat = flatten(points, faces)
    truth = np.stack([0.1 * angle.ravel(), height.ravel()], axis=1)
    ours = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    theirs = np.linalg.norm(truth[:, None] - truth[None], axis=-1)
    assert np.abs(ours - theirs).max() < 0.06 * theirs.max()  # the graph's paths are some % too long
    assert (signed_areas(flat, faces) > 0).all()


def test_every_face_is_on_one_chart_and_none_is_folded(free_body, surface, charts):
    torch.testing.assert_close(charts.face_part, surface.face_labels["densepose24"])
    a, b, c = charts.face_uv.double().unbind(1)
    cross = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert (cross > 0).all()
    assert charts.face_uv.min() >= 0
    assert charts.face_uv.max() <= 1


def test_chart_of_a_right_part_is_the_left_one_mirrored(charts, mirror):
    swap = torch.tensor(DENSEPOSE24.mirror)
    image_uv = torch.empty_like(charts.face_uv)
    corner = torch.from_numpy(mirror.corner)[..., None].expand(-1, -1, 2)
    image_uv.scatter_(1, corner, charts.face_uv * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(charts.face_uv[mirror.face], image_uv, atol=1e-6, rtol=0)
    torch.testing.assert_close(charts.valid, charts.valid[swap[1:] - 1].flip(2))


def test_lookups_agree_with_the_mesh_to_fractions_of_a_millimetre(free_body, charts, on_chart):
    part, uv, face, weights = on_chart
    params = _pose(2, 0.3)
    vertices = free_body(**params).vertices
    truth = (vertices[:, free_body.faces[face]] * weights[..., None]).sum(dim=2)
    found = chart_points(free_body, charts, part, uv, **params)
    gap = (found - truth).norm(dim=-1) * 1000
    assert gap.mean() < 0.5
    assert gap.flatten().quantile(0.99) < 4.0


def test_chart_to_mesh_to_chart_comes_back(free_body, charts, on_chart):
    """By trimesh's nearest point on the template, which knows nothing of charts."""
    part, uv, _, _ = (x[:1500] for x in on_chart)
    points = chart_points(free_body, charts, part, uv)[0].double()
    error = torch.full((len(part),), torch.nan, dtype=torch.float64)
    for label in part.unique().tolist():
        # The nearest point of the same part, as a finger's may be on the next finger.
        faces = torch.nonzero(charts.face_part == label)[:, 0]
        mesh = trimesh.Trimesh(free_body.v_template.numpy(), free_body.faces[faces].numpy(), process=False)
        mine = part == label
        near, _, triangle = trimesh.proximity.closest_point_naive(mesh, points[mine].numpy())
        weights = trimesh.triangles.points_to_barycentric(mesh.triangles[triangle], near)
        back = (charts.face_uv[faces[triangle]].double() * torch.from_numpy(weights)[..., None]).sum(dim=1)
        error[mine] = ((back - uv[mine]) * charts.size[label - 1]).norm(dim=-1)
    assert (error * 1000).mean() < 1.0
    assert (error * 1000).quantile(0.95) < 3.0


def test_points_looked_up_once_serve_any_pose_and_each_body_may_have_its_own(free_body, charts, on_chart):
    part, uv = on_chart[0][:60], on_chart[1][:60]
    params = _pose(3, 0.3)
    shared = chart_points(free_body, charts, part, uv, **params)
    torch.testing.assert_close(place_points(free_body, charts.lookup(part, uv), **params), shared)
    own = chart_points(free_body, charts, part.expand(3, -1), uv.expand(3, -1, -1), **params)
    torch.testing.assert_close(own, shared, atol=1e-5, rtol=0)
    one_pose = chart_points(free_body, charts, part.expand(3, -1), uv.expand(3, -1, -1))
    torch.testing.assert_close(one_pose[2], chart_points(free_body, charts, part, uv)[0], atol=1e-5, rtol=0)


def test_gradients_reach_uv_and_parameters(free_body, charts, on_chart):
    part, uv = on_chart[0][:200], on_chart[1][:200].clone()
    params = {name: value.requires_grad_() for name, value in _pose(1, 0.2).items()}
    uv.requires_grad_()
    points = chart_points(free_body, charts, part, uv, **params)
    direction = torch.randn(points.shape, generator=torch.Generator().manual_seed(2))
    grads = torch.autograd.grad((points * direction).sum(), [uv, *params.values()])
    step = 1e-3
    with torch.no_grad():
        for value, grad in zip([uv, *params.values()], grads, strict=True):
            change = torch.randn(value.shape, generator=torch.Generator().manual_seed(3)) * step
            # Bilinear pieces meet at the grid's lines; steps this small seldom cross one.
            ends = []
            for sign in (1, -1):
                moved = value + sign * change
                given = {n: (moved if v is value else v) for n, v in params.items()}
                ends.append(chart_points(free_body, charts, part, moved if value is uv else uv, **given))
            slope = ((ends[0] - ends[1]) / 2 * direction).sum()
            expected = (grad * change).sum()
            torch.testing.assert_close(slope, expected, rtol=0.03, atol=2e-3 * step * 100)


def test_invalid_nodes_are_marked(charts):
    """A node is valid just where the chart's triangles cover it."""
    along = torch.arange(32) / 31
    v, u = torch.meshgrid(along, along, indexing="ij")
    uv = torch.stack([u, v], dim=-1).reshape(-1, 2)
    for part in (1, 4, 6, 24):
        _, _, inside = charts.locate(torch.full((1024,), part), uv)
        torch.testing.assert_close(charts.valid[part - 1].flatten(), inside)
        assert 0.3 < inside.float().mean() < 0.9


def test_wrong_parts_and_nan_are_refused_and_uv_is_clamped(free_body, charts):
    with pytest.raises(ValueError, match="numbered 1 to 24"):
        charts.lookup(torch.tensor([0]), torch.zeros(1, 2))
    with pytest.raises(ValueError, match="NaN"):
        charts.lookup(torch.tensor([1]), torch.full((1, 2), torch.nan))
    far = charts.lookup(torch.tensor([2]), torch.tensor([[7.0, -1.0]]))
    torch.testing.assert_close(far.position, charts.lookup(torch.tensor([2]), torch.tensor([[1.0, 0.0]])).position)
    assert charts.lookup(torch.zeros(0, dtype=torch.long), torch.zeros(0, 2)).position.shape == (0, 3)


@pytest.mark.parametrize("symmetric", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_smpl_sized_body_gets_charts_as_good(smpl_sized, symmetric):
    if not symmetric:
        smpl_sized = _with_one_quad_cut_the_other_way(smpl_sized)
        assert (mesh_mirror(smpl_sized).face < 0).sum() == 4
        atlas = uv_atlas(smpl_sized)
        assert not atlas.symmetric
        areas = np.abs(signed_areas(atlas.uv.double().numpy(), atlas.uv_faces.numpy())).sum()
        covered = uv_sampler(atlas, mesh_mirror(smpl_sized), 256).valid.double().mean().item()
        assert areas == pytest.approx(covered, rel=0.03)
    charts = build_charts(smpl_sized)
    generator = torch.Generator().manual_seed(0)
    part, uv = torch.randint(1, 25, (4000,), generator=generator), torch.rand(4000, 2, generator=generator)
    face, weights, inside = charts.locate(part, uv)
    truth = (smpl_sized.v_template[smpl_sized.faces[face]] * weights[..., None]).sum(dim=1)
    found = chart_points(smpl_sized, charts, part, uv)[0]
    assert (found - truth).norm(dim=-1)[inside].mean() * 1000 < 0.5


def _with_one_quad_cut_the_other_way(body):
    """A body whose triangulation is not symmetric, in the middle of the left thigh's front."""
    body = copy.deepcopy(body)
    faces = body.faces.numpy()
    thigh = np.flatnonzero(face_labels(body, DENSEPOSE24) == DENSEPOSE24.label("left_thigh_front"))
    inner = thigh[np.argsort(np.abs(body.v_template.numpy()[faces[thigh]].mean(axis=1)[:, 1] + 0.3))]
    first = inner[0]
    for a, b, c in (np.roll(faces[first], k) for k in range(3)):
        for second in thigh:
            rest = set(faces[second].tolist()) - {int(a), int(b)}
            if second != first and len(rest) == 1:
                d = rest.pop()
                body.faces[first] = torch.tensor([a, d, c])
                body.faces[second] = torch.tensor([d, b, c])
                return body
    raise AssertionError("no neighbour found")
