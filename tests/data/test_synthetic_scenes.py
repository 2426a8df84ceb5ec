"""Synthetic people's scenes: the same from the same numbers, physically plausible, and labelled as they are drawn."""

import numpy as np
import pytest
import torch

from kouros.body.keypoints import SPIN49
from kouros.data.crops import CropTransform
from kouros.data.dense import Look, Wants
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.labels import image_index, image_name, label, thickness
from kouros.data.synthetic.poses import draw_people, interpenetration
from kouros.data.synthetic.props import BLOB, BOX, Prop, hidden_by, upright
from kouros.data.synthetic.proxies import proxies_of
from kouros.data.synthetic.scenes import SceneConfig, draw_scene, pack, people_in, unpack
from kouros.files import npz_bytes

CONFIG = SceneConfig(size=96)


@pytest.fixture(scope="module")
def stage():
    return Stage()


@pytest.fixture(scope="module")
def scenes(free_body):
    return [draw_scene(5, index, free_body, None, CONFIG) for index in range(12)]


def test_a_scene_depends_on_its_seed_and_number_alone(free_body, scenes):
    again = draw_scene(5, 7, free_body, None, CONFIG)
    other = draw_scene(6, 7, free_body, None, CONFIG)
    assert again.pose.tobytes() == scenes[7].pose.tobytes()
    assert again.transl.tobytes() == scenes[7].transl.tobytes()
    assert other.pose.tobytes() != again.pose.tobytes()


def test_scenes_come_back_from_their_file_as_they_were(scenes):
    back = unpack(bytes(npz_bytes(pack(scenes))), "memory")
    for one, two in zip(scenes, back, strict=True):
        np.testing.assert_array_equal(one.pose, two.pose)
        np.testing.assert_array_equal(one.shot.world_to_camera, two.shot.world_to_camera)
        assert (one.index, one.family, one.shot.focal) == (two.index, two.family, two.shot.focal)
        for a, b in zip(one.props, two.props, strict=True):
            np.testing.assert_array_equal(a.packed(), b.packed())


def test_a_broken_file_of_scenes_is_named(scenes):
    content = bytes(npz_bytes(pack(scenes)))
    with pytest.raises(ValueError, match="shard 3"):
        unpack(content[: len(content) // 2], "shard 3")


def test_parameters_take_less_than_a_kilobyte_a_person(scenes):
    assert len(npz_bytes(pack(scenes))) < 1000 * sum(map(len, scenes))


def test_pictures_are_the_same_in_any_order(stage, scenes, free_body):
    first = {s.index: stage.picture(s) for s in scenes[:3]}
    fresh = Stage(free_body)
    for scene in reversed(scenes[:3]):
        np.testing.assert_array_equal(fresh.picture(scene), first[scene.index])


def test_everyone_stands_on_the_floor_before_the_camera(stage, scenes):
    for scene in scenes:
        camera = scene.shot.world_to_camera
        vertices = stage.staged(scene).bodies.vertices.numpy()
        world = (vertices - camera[:, 3]) @ camera[:, :3]
        # Poses are rounded to float16: some millimetres at the end of a leg.
        np.testing.assert_allclose(world[..., 1].min(axis=1), 0.0, atol=0.02)
        assert vertices[..., 2].min() > 0.3
        assert scene.shot.eye[1] > 0.0


def test_most_people_look_upright_to_the_camera(free_body):
    """The picture's down is the world's down, give or take a roll and tilt."""
    down = [draw_scene(8, i, free_body, None, CONFIG).shot.world_to_camera[:, :3] @ [0, -1, 0] for i in range(12)]
    assert all(d[1] > 0.3 and abs(d[0]) < 0.35 for d in down)


def test_limbs_mostly_keep_out_of_the_body(free_body):
    people = draw_people(40, None, free_body, torch.Generator().manual_seed(1))
    depth = interpenetration(people.rotations, free_body)
    assert (depth < 0.03).float().mean() > 0.9


def test_people_in_athletic_poses_stand_free_of_themselves_and_on_the_floor(free_body):
    people = draw_people(40, None, free_body, torch.Generator().manual_seed(1), athletic=1.0)
    assert set(people.family) == {"athletic"}
    assert (interpenetration(people.rotations, free_body) < 0.03).float().mean() > 0.9
    scene = draw_scene(5, 0, free_body, None, SceneConfig(size=96, athletic=1.0))
    [back] = unpack(bytes(npz_bytes(pack([scene]))), "memory")
    assert back.family == scene.family == ("athletic",) * len(scene)


def test_a_share_of_people_in_athletic_poses_leaves_the_others_what_they_do(free_body):
    plain, some = (
        draw_people(60, None, free_body, torch.Generator().manual_seed(2), athletic=share).family
        for share in (0.0, 0.4)
    )
    assert "athletic" not in plain
    assert 10 < some.count("athletic") < 38
    assert all(b in (a, "athletic") for a, b in zip(plain, some, strict=True))


def test_an_arm_through_the_trunk_is_noticed(free_body):
    rotations = torch.eye(3).expand(2, 24, 3, 3).clone()
    rotations[1, 16] = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])  # the left arm points right
    depth = interpenetration(rotations, free_body)
    assert depth[0] < 0.01
    assert depth[1] > 0.05


def test_labels_lie_where_the_camera_projects_them(stage, scenes, free_body):
    flesh = thickness(free_body)
    rows = [(scene, row) for scene in scenes for row in label(stage, scene, flesh)]
    assert len(rows) > 8
    for scene, row in rows:
        points = row.keypoints_3d[:, :3]
        fx, fy, cx, cy = row.intrinsics
        pixels = points[:, :2] / points[:, 2:] * [fx, fy] + [cx, cy]
        known = row.keypoints_2d[:, 2] > 0
        np.testing.assert_allclose(row.keypoints_2d[known, :2], pixels[known], atol=0.3)
        posed = free_body(
            torch.from_numpy(row.betas)[None],
            torch.from_numpy(row.pose[3:])[None],
            torch.from_numpy(row.pose[:3])[None],
            torch.from_numpy(row.transl)[None],
        )
        np.testing.assert_allclose(free_body.keypoints_3d(posed, SPIN49.name)[0].numpy(), points, atol=2e-4)
        assert not (row.visible & ~known).any()
        assert image_index(row.image_path) == scene.index


def test_a_wall_before_everyone_leaves_no_labels(stage, scenes, free_body):
    from dataclasses import replace

    scene = next(s for s in scenes if len(s))
    ahead = scene.shot.world_to_camera[2, :3]
    turn = scene.shot.world_to_camera[:, :3].T
    wall = Prop(BOX, scene.shot.eye + 0.3 * ahead, np.array([5.0, 5.0, 0.01]), turn, np.ones(3))
    assert label(stage, scene, thickness(free_body))
    hidden = replace(scene, props=(wall,))
    assert label(stage, hidden, thickness(free_body)) == []
    assert not stage.maps([(hidden, 0)], [whole(hidden)], Wants(maps=("mask",))).mask.any()


def whole(scene) -> Look:
    return Look(CropTransform(np.full(2, scene.size / 2), float(scene.size), scene.size))


def test_people_are_seen_where_the_pictures_z_buffer_has_them(stage, scenes):
    """The maps of a person, drawn alone and cut by whoever is nearer, against one z-buffer over everybody."""
    for scene in scenes:
        if not len(scene):
            continue
        staged = stage.staged(scene)
        seen = stage.fragments(scene, staged).face[0]
        owner = torch.where(seen < staged.people_faces, seen // len(stage.body.faces), -1)
        wants = Wants(maps=("mask", "depth"), parts=("parts24",))
        maps = stage.maps([(scene, k) for k in range(len(scene))], [whole(scene)] * len(scene), wants)
        for k in range(len(scene)):
            mine = owner == k
            assert (maps.mask[k] != mine).sum() <= 2  # rounding at an edge
            face = (seen - k * len(stage.body.faces))[mine & maps.mask[k]]
            labels = stage.drawer.surface.face_labels["parts24"][face]
            assert (maps.labels["parts24"][k][mine & maps.mask[k]] == labels).float().mean() > 0.999
            assert maps.depth[k][~maps.mask[k]].isinf().all()


def test_maps_of_a_region_are_the_pictures_own(stage, scenes):
    scene = next(s for s in scenes if len(s) > 1)
    wants = Wants(maps=("mask", "iuv"), parts=("parts1",))
    region = Look(CropTransform(np.array([40.0, 48.0]), 48.0, 48))
    all_of_it, part = (stage.maps([(scene, 0)], [look], wants) for look in (whole(scene), region))
    assert (all_of_it.mask[:, 24:72, 16:64] == part.mask).float().mean() > 0.999
    assert part.mask.any() and not part.iuv[~part.mask].any()
    assert set(all_of_it.iuv[..., 0].unique().tolist()) <= set(range(25))
    assert torch.equal(all_of_it.labels["parts1"] > 0, all_of_it.mask)


def test_proxies_show_one_person(stage, scenes, free_body):
    scene = next(s for s in scenes if label(stage, s, thickness(free_body)))
    row = label(stage, scene, thickness(free_body))[0]
    maps = stage.maps([(scene, int(row.person))], [whole(scene)], Wants(maps=("mask", "depth"), parts=("parts24",)))
    proxies = proxies_of(maps[0], "parts24", row.keypoints_2d, row.visible, 2.0)
    np.testing.assert_array_equal(proxies.silhouette, proxies.parts > 0)
    assert proxies.edges.any()
    seen = np.flatnonzero(row.visible)
    for point in range(49):
        peak = proxies.heatmaps[point].max()
        assert (peak > 0.9) if point in seen else (peak == 0)


def test_sight_lines_meet_boxes_and_balls():
    eye = np.array([0.0, 0.0, -5.0])
    points = np.array([[0.0, 0.0, 5.0], [0.0, 3.0, 5.0], [0.0, 0.0, -3.0]])
    for kind in (BOX, BLOB):
        thing = Prop(kind, np.zeros(3), np.array([1.0, 1.0, 1.0]), upright(0.4), np.zeros(3))
        assert hidden_by(thing, eye, points).tolist() == [True, False, False]


def test_the_number_of_people_is_known_beforehand(scenes):
    drawn = [people_in(5, s.index, CONFIG) for s in scenes]
    assert all(len(s) <= n for s, n in zip(scenes, drawn, strict=True))
    assert max(drawn) > 1


def test_image_names_tell_the_picture():
    assert [image_index(image_name(i)) for i in (0, 7, 123456)] == [0, 7, 123456]
