import numpy as np
import pytest
import torch

from kouros.body.keypoints import keypoint_set
from kouros.body.surface.atlas import joint_assignment, read_obj_uv, texel_centers, uv_atlas, uv_sampler
from kouros.body.surface.planar import signed_areas
from kouros.body.surface.symmetry import mesh_mirror


@pytest.fixture(scope="module")
def sampler(surface):
    return surface.sampler(128)


def test_mirror_of_the_body_is_a_flip_of_the_map(surface, mirror):
    atlas = surface.atlas
    assert atlas.symmetric
    corners = atlas.uv[atlas.uv_faces]
    image = torch.from_numpy(np.take_along_axis(atlas.uv_faces.numpy()[mirror.face], mirror.corner, axis=1))
    flipped = atlas.uv[image] * torch.tensor([-1.0, 1.0]) + torch.tensor([1.0, 0.0])
    torch.testing.assert_close(corners, flipped, atol=1e-6, rtol=0)


def test_islands_fill_the_square_without_overlap(surface):
    uv, faces = surface.atlas.uv.double().numpy(), surface.atlas.uv_faces.numpy()
    assert uv.min() >= 0
    assert uv.max() <= 1
    area = np.abs(signed_areas(uv, faces)).sum()
    covered = surface.sampler(256).valid.double().mean().item()
    # If islands lay over each other, the triangles' areas would add up to more than they cover.
    assert area == pytest.approx(covered, rel=0.02)
    assert area > 0.3


def test_left_side_of_the_body_is_on_the_right_of_the_map(free_body, sampler):
    x = sampler.to_image(free_body.v_template)[..., 0]
    assert (x[:, 64:][sampler.valid[:, 64:]] > -1e-6).all()
    assert (x[:, :64][sampler.valid[:, :64]] < 1e-6).all()


def test_texels_hold_the_points_whose_uv_they_are(surface, sampler):
    atlas = surface.atlas
    corners = atlas.uv[atlas.uv_faces[sampler.face]]
    places = (corners * sampler.barycentric[..., None]).sum(dim=-2)[sampler.valid]
    centers = torch.from_numpy(texel_centers(128)).float().reshape(128, 128, 2)[sampler.valid]
    torch.testing.assert_close(places, centers, atol=1e-5, rtol=0)


def test_uv_linear_fields_survive_the_way_to_the_image_and_back(surface):
    """What is linear in u and v bilinear sampling carries exactly, save where a texel is missing."""
    sampler = surface.sampler(256)
    u, v = torch.from_numpy(texel_centers(256)).float().reshape(256, 256, 2).unbind(-1)
    image = torch.stack([u, v], dim=-1) * sampler.valid[..., None]
    read = sampler.to_vertices(image)
    inside = _inner_vertices(surface, sampler)
    atlas = surface.atlas
    own = torch.zeros(len(read), 2).index_put_((atlas.faces.flatten(),), atlas.uv[atlas.uv_faces.flatten()])
    torch.testing.assert_close(read[inside], own[inside], atol=1e-5, rtol=0)
    assert inside.float().mean() > 0.7


def _inner_vertices(surface, sampler):
    """Vertices with one place on the map, whose four texels are all valid."""
    atlas = surface.atlas
    pairs = torch.unique(torch.stack([atlas.faces.flatten(), atlas.uv_faces.flatten()], dim=1), dim=0)
    places = torch.bincount(pairs[:, 0])
    vertices_from_image = sampler.vertices_from_image.coalesce()
    texels = torch.bincount(vertices_from_image.indices()[0], minlength=len(places))
    return (places == 1) & (texels == 4)


@pytest.mark.parametrize(("size", "mean_mm"), [(128, 3.0), (256, 1.5)])
def test_round_trip_of_the_template_loses_millimetres(free_body, surface, size, mean_mm):
    sampler = surface.sampler(size)
    back = sampler.to_vertices(sampler.to_image(free_body.v_template))
    assert (back - free_body.v_template).norm(dim=-1).mean().item() * 1000 < mean_mm


def test_rows_are_weights_and_batches_and_gradients_pass(free_body, surface, sampler):
    ones = torch.ones(len(free_body.v_template), 1)
    torch.testing.assert_close(sampler.to_image(ones)[..., 0], sampler.valid.float())
    torch.testing.assert_close(sampler.to_vertices(torch.ones(128, 128, 1)), ones)
    batch = torch.stack([free_body.v_template, 2 * free_body.v_template]).requires_grad_()
    image = sampler.to_image(batch)
    torch.testing.assert_close(image[1], 2 * image[0])
    image.sum().backward()
    # The sum counts each vertex as often as its column of weights says.
    share = sampler.image_from_vertices.to_dense().sum(dim=0)
    torch.testing.assert_close(batch.grad[0, :, 0], share, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="128 x 128"):
        sampler.to_vertices(torch.ones(64, 64, 1))
    with pytest.raises(ValueError, match="at least 2"):
        surface.sampler(1)


@pytest.mark.parametrize("joints", ["lsp14", "smpl24"])
@pytest.mark.parametrize("size", [64, 127])
def test_joint_assignment_is_symmetric_and_nearest(free_body, surface, joints, size):
    sampler = surface.sampler(size)
    assigned = joint_assignment(free_body, sampler, joints)
    assert ((assigned >= 0) == sampler.valid).all()
    swap = torch.tensor(keypoint_set(joints).mirror)
    image = sampler.mirror
    own = torch.arange(size * size).reshape(size, size)
    # The middle column of an odd size is its own mirror image, and may be a left or right joint's.
    mutual = (image >= 0) & (image != own) & (image.flatten()[image.clamp(min=0)] == own)
    assert mutual[sampler.valid].float().mean() > 0.9
    torch.testing.assert_close(assigned.flatten()[image[mutual]], swap[assigned[mutual]])
    place = free_body.joint_template if joints == "smpl24" else free_body.keypoint_positions(joints)[0]
    points = sampler.to_image(free_body.v_template)[sampler.valid]
    distance = torch.cdist(points, place)
    chosen = distance.gather(1, assigned[sampler.valid][:, None])[:, 0]
    # Vertices are assigned, then interpolated: near a border the other joint may be a face's size nearer.
    assert (chosen - distance.amin(dim=1)).max() < 0.03
    assert (chosen == distance.amin(dim=1)).float().mean() > 0.95


def test_obj_uv_maps_are_read_whatever_order_their_faces_have(tmp_path, free_body):
    rng = np.random.default_rng(0)
    faces, uv, uv_faces = (x.numpy() for x in (free_body.faces, free_body.uv, free_body.uv_faces))
    lines = [f"v {x} {y} {z}" for x, y, z in free_body.v_template.tolist()]
    lines += [f"vt {u} {v}" for u, v in uv.tolist()]
    for face in rng.permutation(len(faces)):
        turn = np.roll(np.arange(3), rng.integers(3))
        lines.append("f " + " ".join(f"{faces[face, k] + 1}/{uv_faces[face, k] + 1}" for k in turn))
    path = tmp_path / "map.obj"
    path.write_text("\n".join(lines))
    read, read_faces = read_obj_uv(path, faces)
    np.testing.assert_allclose(read[read_faces], uv[uv_faces], atol=1e-6)
    with pytest.raises(ValueError, match="this body's own mesh"):
        read_obj_uv(path, faces[:-1])
    path.write_text("f 1 2 3\n")
    with pytest.raises(ValueError, match="no texture coordinates"):
        read_obj_uv(path, faces[:1])


def test_body_without_uv_gets_its_charts_as_atlas(smpl_sized):
    found = mesh_mirror(smpl_sized)
    atlas = uv_atlas(smpl_sized, mirror=found)
    assert atlas.symmetric
    sampler = uv_sampler(atlas, found, 256)
    assert sampler.valid.float().mean() > 0.35
    back = sampler.to_vertices(sampler.to_image(smpl_sized.v_template))
    assert (back - smpl_sized.v_template).norm(dim=-1).mean().item() * 1000 < 3.0
