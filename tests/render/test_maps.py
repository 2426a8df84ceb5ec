import math

import pytest
import torch

from kouros.body.keypoints import LSP14
from kouros.body.surface import PART_SETS, body_surface
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.maps import (
    body_dense_maps,
    dense_maps,
    image_to_uv,
    mirror_maps,
    splat_to_uv,
    uv_to_image,
    view_texels,
)

SIZE = (160, 140)
CAMERA = PerspectiveCamera(torch.tensor(220.0), torch.tensor([70.0, 80.0]))


@pytest.fixture(scope="module")
def surface(free_body):
    return body_surface(free_body)


@pytest.fixture(scope="module")
def params(free_body):
    generator = torch.Generator().manual_seed(5)
    return {
        "betas": torch.randn(2, 10, generator=generator),
        "body_pose": 0.25 * torch.randn(2, 69, generator=generator),
        "global_orient": torch.tensor([[math.pi, 0.0, 0.0], [3.0, 0.3, 0.9]]),
        "transl": torch.tensor([[0.05, 0.0, 2.9], [-0.1, 0.1, 3.3]]) - free_body.joint_template[0],
    }


@pytest.fixture(scope="module")
def maps(free_body, surface, params):
    return body_dense_maps(free_body, surface, CAMERA, SIZE, **params)


def test_location_is_where_the_pixels_ray_meets_the_body(free_body, maps, params):
    root = free_body.joint_positions(**params)[:, 0]
    points = maps.location + root[:, None, None]
    batch, row, column = torch.nonzero(maps.mask, as_tuple=True)
    seen = points[batch, row, column]
    projected = CAMERA.project(seen)
    centers = torch.stack([column, row], dim=-1) + 0.5
    torch.testing.assert_close(projected, centers, atol=2e-2, rtol=0)
    torch.testing.assert_close(seen[:, 2], maps.depth[maps.mask], atol=1e-4, rtol=0)


def test_displacement_is_location_less_joint_in_the_image_and_in_uv(free_body, surface, maps, params):
    assert torch.equal(maps.displacement, maps.location - maps.joint)
    sampler = surface.sampler(96)
    vertices = free_body(**params).vertices
    view = view_texels(vertices, free_body.faces, sampler, CAMERA, maps.fragments)
    uv_d, uv_l, uv_j = (image_to_uv(x, view, maps.fragments) for x in (maps.displacement, maps.location, maps.joint))
    torch.testing.assert_close(uv_d, uv_l - uv_j, atol=1e-6, rtol=0)


def test_joint_map_holds_the_joints_nearest_in_the_t_pose(free_body, surface, maps, params):
    posed = free_body(**params)
    joints = free_body.keypoints_3d(posed, "lsp14") - posed.joints[:, :1]
    gap = torch.cdist(maps.joint.flatten(1, 2).double(), joints.double()).amin(dim=-1).reshape(maps.mask.shape)
    assert gap[maps.mask].max() < 1e-5
    rest = free_body.v_template[free_body.faces[maps.fragments.face.clamp(min=0)]]
    places = (rest * maps.fragments.barycentric[..., None]).sum(dim=-2)
    nearest = torch.cdist(places, free_body.keypoint_positions("lsp14")[0][None, None]).argmin(dim=-1)
    chosen = torch.cdist(maps.joint.flatten(1, 2), joints).argmin(dim=-1).reshape(maps.mask.shape)
    assert (nearest == chosen)[maps.mask].float().mean() > 0.93


def test_labels_iuv_and_continuous_uv_name_the_same_surface(free_body, surface, maps):
    part, uv = maps.iuv[..., 0].long(), maps.iuv[..., 1:]
    assert torch.equal(part, maps.labels["densepose24"])
    assert torch.equal(part > 0, maps.mask)
    face, weights, inside = surface.charts.locate(part[maps.mask], uv[maps.mask])
    assert inside.float().mean() > 0.999
    corners = free_body.v_template[free_body.faces]
    from_charts = (corners[face] * weights[..., None]).sum(dim=1)
    seen = (corners[maps.fragments.face] * maps.fragments.barycentric[..., None]).sum(dim=-2)[maps.mask]
    assert (from_charts - seen).norm(dim=-1).quantile(0.999) < 1e-3
    template = surface.sampler(512)
    image = template.to_image(free_body.v_template)[None].expand(2, -1, -1, -1)
    from_atlas = uv_to_image(image, maps.uv, maps.mask, template.valid)[maps.mask]
    assert (from_atlas - seen).norm(dim=-1).mean() < 1e-3


def test_normals_are_unit_and_turned_to_the_camera(maps):
    normals = maps.normals[maps.mask]
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones(len(normals)), atol=1e-5, rtol=0)
    rays = CAMERA.rays(torch.nonzero(maps.mask)[:, [2, 1]] + 0.5)
    assert ((normals * rays).sum(dim=-1) < 0.05).float().mean() > 0.99


def test_background_is_zero_and_infinitely_far(maps):
    outside = ~maps.mask
    for values in (maps.iuv, maps.uv, maps.location, maps.joint, maps.displacement, maps.normals):
        assert not values[outside].any()
    assert all(not label[outside].any() for label in maps.labels.values())
    assert maps.depth[outside].isinf().all()


def test_warping_to_uv_and_back_reproduces_what_was_visible(free_body, surface, maps, params):
    sampler = surface.sampler(256)
    posed = free_body(**params)
    view = view_texels(posed.vertices, free_body.faces, sampler, CAMERA, maps.fragments)
    uv_l = image_to_uv(maps.location, view, maps.fragments)
    assert not uv_l[~view.visible].any()
    truth = sampler.to_image(posed.vertices - posed.joints[:, :1])
    error = (uv_l - truth).norm(dim=-1)[view.visible]
    assert error.mean() < 4e-3  # a pixel is 13 mm wide here
    back = uv_to_image(uv_l, maps.uv, maps.mask, view.visible)
    error = (back - maps.location).norm(dim=-1)[maps.mask]
    assert error.quantile(0.9) < 5e-3
    assert (error < 0.02).float().mean() > 0.97


def test_only_texels_in_sight_are_visible(free_body, surface, maps, params):
    """A texel is visible if the ray from the eye meets nothing before it: by embree, on the same mesh."""
    from trimesh import Trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    sampler = surface.sampler(96)
    vertices = free_body(**params).vertices
    view = view_texels(vertices, free_body.faces, sampler, CAMERA, maps.fragments)
    points = sampler.to_image(vertices)
    for item in range(2):
        mesh = Trimesh(vertices[item].numpy(), free_body.faces.numpy(), process=False)
        target = points[item][sampler.valid].double()
        reach = target.norm(dim=-1)
        hits = RayMeshIntersector(mesh).intersects_location(
            torch.zeros_like(target).numpy(), (target / reach[:, None]).numpy(), multiple_hits=False
        )
        first = torch.full((len(target),), torch.inf, dtype=torch.float64)
        first[torch.from_numpy(hits[1])] = torch.from_numpy(hits[0]).norm(dim=-1).double()
        in_sight = first > reach - 2e-3
        ours = view.visible[item][sampler.valid]
        # They may differ within a pixel of an outline.
        assert (ours == in_sight).float().mean() > 0.94
        deep = first < reach - 0.04
        assert ours[deep].float().mean() < 0.02


def test_uv_images_warp_to_the_image_and_splats_return_them(surface, maps):
    u = (torch.arange(64) + 0.5) / 64
    field = torch.stack([u.expand(64, 64), (1 - u)[:, None].expand(64, 64)], dim=-1)[None].expand(2, -1, -1, -1)
    seen = uv_to_image(field, maps.uv, maps.mask)
    torch.testing.assert_close(seen[maps.mask], maps.uv[maps.mask], atol=1e-5, rtol=0)
    splat, weight = splat_to_uv(seen, maps.uv, maps.mask, 64)
    assert weight.sum() == pytest.approx(maps.mask.sum().item(), rel=1e-3)
    # Each texel's mean comes from within a texel of it.
    assert ((splat - field).abs().amax(dim=-1) * (weight > 0)).max() < 1 / 64 + 1e-6


def test_gradients_pass_the_warps(maps):
    uv_image = torch.rand(2, 16, 16, 1, requires_grad=True)
    uv_to_image(uv_image, maps.uv, maps.mask).sum().backward()
    assert uv_image.grad.sum() == pytest.approx(maps.mask.sum().item(), rel=1e-3)


def test_mirror_of_the_maps_is_the_maps_of_the_mirrored_body(free_body, surface, params, maps):
    # Shapes are only nearly symmetric, so the mirrored mesh is made from the vertices.
    posed = free_body(**params)
    image = torch.from_numpy(surface.mirror.vertex)
    reflect = torch.tensor([-1.0, 1.0, 1.0])
    swap = torch.tensor(LSP14.mirror)
    joints = free_body.keypoints_3d(posed, "lsp14")
    camera = PerspectiveCamera(CAMERA.focal_length, torch.tensor([SIZE[1] - 70.0, 80.0]))
    mirrored = dense_maps(
        surface,
        posed.vertices[:, image] * reflect,
        joints[:, swap] * reflect,
        posed.joints[:, 0] * reflect,
        camera,
        SIZE,
    )
    ours = mirror_maps(maps, surface)
    assert (mirrored.mask == ours.mask).float().mean() > 0.9999
    both = mirrored.mask & ours.mask
    for name in PART_SETS:
        assert (mirrored.labels[name] == ours.labels[name])[both].float().mean() > 0.999
    for name, atol in (("iuv", 1e-3), ("uv", 1e-4), ("location", 1e-4), ("joint", 1e-4), ("normals", 1e-2)):
        gap = (getattr(mirrored, name) - getattr(ours, name)).abs().amax(dim=-1)[both]
        assert (gap < atol).float().mean() > 0.998, name
    assert (mirrored.fragments.face == ours.fragments.face)[both].float().mean() > 0.999


def test_wrong_joints_and_unknown_sets_are_refused(free_body, surface, params):
    posed = free_body(**params)
    with pytest.raises(ValueError, match="'lsp14'"):
        dense_maps(surface, posed.vertices, posed.joints, posed.joints[:, 0], CAMERA, SIZE)
    with pytest.raises(KeyError, match="parts1"):
        body_dense_maps(free_body, surface, CAMERA, SIZE, **params, part_sets=("parts5",))
    with pytest.raises(ValueError, match="NaN or infinite"):
        joints = free_body.keypoints_3d(posed, "lsp14")
        dense_maps(surface, posed.vertices * torch.nan, joints, posed.joints[:, 0], CAMERA, SIZE)
