"""MakeHuman's garments: read from their files, hung on the free body, and seen in pictures and part labels."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kouros.body import load_body
from kouros.body.free.base_mesh import NUM_VERTICES
from kouros.body.surface.parts import PARTS12, PARTS24
from kouros.data.crops import CropTransform
from kouros.data.dense import Look, Wants
from kouros.data.mhclo import GarmentError, read_garment
from kouros.data.synthetic import SyntheticSource
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.garments import BaseMesh, BoundGarment, Wardrobe, nearest_on_mesh
from kouros.data.synthetic.generate import Order, synthesize
from kouros.data.synthetic.scenes import Scene, SceneConfig, draw_scene
from kouros.render.attributes import vertex_normals

SIZE = 96
HEADER = ("basemesh hm08", "name cape", "obj_file cape.obj", "x_scale 0 1 2.0", "y_scale 0 2 4.0", "z_scale 0 3 5.0")
VERTICES = (" 4", "1 2 3 0.5 0.25 0.25 1.0 -1.0 0.5", "2 2 2 1 0 0 0 0 0", "3 1 0 1.5 -0.5 0 0 0 0")
OBJ = "o cape\nv 0 0 0\nv 0 0 0\nv 0 0 0\nv 0 0 0\nf 1/1 2/2 3/3 4/4\nf -4 -3 -2\n"


def written(folder: Path, header=HEADER, vertices=VERTICES, obj=OBJ, after=("delete_verts", "7 - 9 12")) -> Path:
    (folder / "cape.obj").write_text(obj)
    path = folder / "cape.mhclo"
    path.write_text("\n".join(["# by hand", *header, "verts 0", "material cape.mhmat", *vertices, "", *after]))
    return path


def test_vertices_are_shares_of_the_base_mesh_and_scaled_offsets(tmp_path):
    garment = read_garment(written(tmp_path), 5)
    base = np.array([[0, 0, 0], [0.4, 0, 0], [0, 0.2, 0], [0, 0, 1.0], [7, 8, 9]])
    # 0.4 m are twice 2 dm along x; likewise half along y and twice along z. Offsets are decimetres.
    scale = np.array([2.0, 0.5, 2.0])
    second = 0.5 * base[1] + 0.25 * base[2] + 0.25 * base[3] + 0.1 * scale * [1.0, -1.0, 0.5]
    np.testing.assert_allclose(garment.on(base), [base[4], second, base[2], 1.5 * base[3] - 0.5 * base[1]])
    assert garment.name == "cape"
    assert garment.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"header": ("basemesh alpha7", *HEADER[1:])}, "alpha7.*expected hm08"),
        ({"header": HEADER[:2]}, "obj_file"),
        ({"header": (*HEADER[:2], "obj_file ../cape.obj")}, "beside it"),
        ({"header": (*HEADER[:2], "obj_file other.obj")}, "not beside it"),
        ({"header": (*HEADER[:4], "y_scale 0 99 1.0")}, "y_scale"),
        ({"header": (*HEADER[:4], "y_scale 0 1 nan")}, "y_scale"),
        ({"vertices": ()}, "places 0 vertices"),
        ({"vertices": ("1 2 3", *VERTICES[1:])}, "3 numbers"),
        ({"vertices": ("5", *VERTICES[1:])}, "are 0 to 4"),
        ({"vertices": ("1.5", *VERTICES[1:])}, "are 0 to 4"),
        ({"vertices": ("1 2 3 nan 0 0 0 0 0", *VERTICES[1:])}, "not finite"),
        ({"vertices": ("1 2 3 0,5 0 0 0 0 0", *VERTICES[1:])}, "line 10: expected numbers"),
        ({"vertices": VERTICES[1:]}, "do not belong together"),
        ({"obj": "v 0 0 0\n" * 4}, "0 faces"),
        ({"obj": "v 0 0 0\n" * 4 + "f 1 2\n"}, "line 5: expected a face"),
        ({"obj": "v 0 0 0\n" * 4 + "f 1 2 five\n"}, "line 5: expected the corners"),
        ({"obj": "v 0 0 0\n" * 4 + "f 1 2 5\n"}, "vertex 5 of 4"),
    ],
)
def test_what_is_wrong_with_a_garment_is_said(tmp_path, change, message):
    with pytest.raises(GarmentError, match=message):
        read_garment(written(tmp_path, **change), 5)


def test_the_nearest_point_of_a_triangle_is_inside_on_an_edge_or_a_corner():
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = np.array([[0.25, 0.25, 3.0], [0.5, -1, 0.2], [-2, -1, 0], [1, 1, 0]])
    face, shares = nearest_on_mesh(points, triangle, np.array([[0, 1, 2]]))
    assert face.tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(shares, [[0.5, 0.25, 0.25], [0.5, 0.5, 0], [1, 0, 0], [0, 0.5, 0.5]], atol=1e-12)


# ---- on the free body


@cache
def kept() -> np.ndarray:
    """Of each vertex of the free body, its number in the base mesh."""
    base = BaseMesh.packaged()
    rows = {tuple(point): number for number, point in enumerate(base.points)}
    return np.array([rows[tuple(point)] for point in base.skin])


def shell(folder: Path, name: str, joints: tuple[str, ...], away: float) -> np.ndarray:
    """A garment ``away`` metres from the skin that these joints move; returns the body's vertices that it has."""
    body, base = load_body(), BaseMesh.packaged()
    owner = body.weights.argmax(1).numpy()
    mine = np.isin(owner, [PARTS24.label(joint) - 1 for joint in joints])
    verts = np.flatnonzero(mine)
    normals = vertex_normals(torch.from_numpy(base.skin).float()[None], body.faces)[0]
    offsets = 10 * away * torch.nn.functional.normalize(normals, dim=-1).numpy()[verts]
    number = np.cumsum(mine)
    faces = number[body.faces.numpy()[mine[body.faces.numpy()].all(axis=1)]]
    rows = [f"{n} {n} {n} 1 0 0 {x:.6f} {y:.6f} {z:.6f}" for n, (x, y, z) in zip(kept()[verts], offsets, strict=True)]
    (folder / f"{name}.mhclo").write_text("\n".join([f"obj_file {name}.obj", "verts 0", *rows]))
    corners = [f"f {a} {b} {c}" for a, b, c in faces]
    (folder / f"{name}.obj").write_text("\n".join([*["v 0 0 0"] * len(verts), *corners]))
    return verts


TRUNK = ("pelvis", "spine1", "spine2", "spine3", "left_hip", "right_hip")


@pytest.fixture(scope="module")
def wardrobe(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wardrobe")
    (folder / "hats").mkdir()
    shell(folder, "shirt", TRUNK, 0.05)
    shell(folder / "hats", "hat", ("head",), 0.06)
    return folder


@pytest.fixture(scope="module")
def stage(wardrobe) -> Stage:
    return Stage(wardrobe=wardrobe)


def by_name(wardrobe: Path) -> dict[str, BoundGarment]:
    return {garment.name: garment for garment in Wardrobe(wardrobe, load_body()).garments}


def test_a_garment_stays_as_far_from_the_skin_in_any_pose_and_shape(tmp_path):
    verts = shell(tmp_path, "sleeve", ("left_elbow", "left_wrist"), 0.01)
    body = load_body()
    wardrobe = Wardrobe(tmp_path, body)
    (sleeve,) = wardrobe.garments
    generator = torch.Generator().manual_seed(0)
    pose = 0.5 * torch.randn(1, 72, generator=generator)
    posed = body(torch.randn(1, 10, generator=generator), pose[:, 3:], pose[:, :3])
    there = sleeve.posed(posed.vertices[0], wardrobe.turns(pose.numpy())[0])
    normals = torch.nn.functional.normalize(vertex_normals(posed.vertices, body.faces)[0, verts], dim=-1)
    away = there - posed.vertices[0, verts]
    assert_close(away.norm(dim=1), torch.full((len(verts),), 0.01), atol=2.5e-3, rtol=0)
    assert (away * normals).sum(1).median() > 0.0095


def test_two_that_cover_the_same_skin_are_not_worn_together(wardrobe, tmp_path):
    for name in ("coat", "dress"):
        shell(tmp_path, name, TRUNK, 0.02)
    rng, many = np.random.default_rng(0), Wardrobe(tmp_path, load_body())
    assert {len(many.outfit(rng)) for _ in range(50)} == {0, 1}
    both = Wardrobe(wardrobe, load_body())
    assert {len(both.outfit(rng)) for _ in range(50)} == {0, 1, 2}


def test_only_what_is_on_the_head_hangs_on_the_head_alone(wardrobe):
    garments = by_name(wardrobe)
    assert garments["hat"].on_head
    assert not garments["shirt"].on_head
    body = load_body()
    head = PARTS24.label("head") - 1
    assert (body.weights.argmax(1)[garments["hat"].corners] == head).all()


# ---- in pictures


def dressed(stage: Stage) -> Scene:
    """Somebody alone who wears all there is."""
    for index in range(20):
        scene = draw_scene(5, index, stage.body, None, SceneConfig(size=SIZE, most_people=1, occluded=0.0))
        scene = replace(scene, props=())
        if (
            len(scene)
            and len(stage.outfits(scene)[0]) == 2
            and whole(stage, scene).labels["parts12"].bool().sum() > 800
        ):
            return scene
    raise AssertionError("nobody is dressed")


def whole(stage: Stage, scene: Scene):
    look = Look(CropTransform(np.full(2, SIZE / 2), float(SIZE), SIZE), (SIZE, SIZE))
    return stage.maps([(scene, 0)], [look], Wants(maps=("mask", "iuv", "depth"), parts=("parts12",)))[0]


def test_clothes_are_labelled_as_what_they_cover_and_leave_the_surface_alone(stage):
    scene, plain = dressed(stage), Stage()
    with_clothes, without = whole(stage, scene), whole(plain, scene)
    labels, naked = with_clothes.labels["parts12"], without.labels["parts12"]
    assert with_clothes.mask is not None
    assert without.mask is not None
    assert_close(with_clothes.mask, labels > 0)
    assert (with_clothes.mask | ~without.mask).all()
    added = with_clothes.mask & ~without.mask
    assert added.sum() > 50
    # Upper arms and lower legs begin on the garment: parts end where faces do, not where another joint moves the skin.
    forearms = {PARTS12.label("left_forearm"), PARTS12.label("right_forearm")}
    assert not forearms & set(labels[labels != naked].tolist())
    assert_close(with_clothes.iuv, without.iuv)
    assert_close(with_clothes.depth, without.depth)


def test_clothes_hide_those_behind(stage):
    scene = dressed(stage)
    turned = np.concatenate([scene.pose, scene.pose])
    # The same person again, 20 cm farther off.
    transl = np.concatenate([scene.transl, scene.transl * (1 + 0.2 / scene.transl[:, 2:])])
    pair = replace(scene, pose=turned, betas=np.tile(scene.betas, (2, 1)), transl=transl, family=scene.family * 2)
    look = Look(CropTransform(np.full(2, SIZE / 2), float(SIZE), SIZE), (SIZE, SIZE))
    wants = Wants(maps=("mask",))
    behind, plain = (s.maps([(pair, 1)], [look], wants).need("mask").sum() for s in (stage, Stage()))
    assert behind < plain


def test_pictures_show_the_clothes_and_a_folder_remembers_them(wardrobe, tmp_path):
    order = Order(people=6, seed=8, scene=SceneConfig(size=64))
    synthesize(order, tmp_path / "plain")
    synthesize(replace(order, wardrobe=wardrobe), tmp_path / "dressed")
    shard = "scenes/000000.npz"
    assert (tmp_path / "plain" / shard).read_bytes() == (tmp_path / "dressed" / shard).read_bytes()
    plain, clothed = (SyntheticSource(tmp_path / name) for name in ("plain", "dressed"))
    assert any((plain.image(row) != clothed.image(row)).any() for row in range(len(plain)))
    np.testing.assert_array_equal(clothed.image(0), SyntheticSource(tmp_path / "dressed").image(0))


def test_a_folder_without_garments_is_refused_before_anything_is_made(tmp_path):
    order = Order(people=6, seed=8, wardrobe=tmp_path / "none", scene=SceneConfig(size=64))
    with pytest.raises(GarmentError, match="holds no garments"):
        synthesize(order, tmp_path / "people")
    assert not (tmp_path / "people").exists()


def test_the_base_mesh_has_the_free_body_in_it():
    base, body = BaseMesh.packaged(), load_body()
    assert len(base.points) == NUM_VERTICES
    # Edges are as long in both poses where nothing bends.
    shin = body.faces.numpy()[
        (body.weights.numpy()[body.faces.numpy()][:, :, PARTS24.label("left_knee") - 1] > 0.95).all(1)
    ]
    lengths = [np.linalg.norm(p[shin[:, 0]] - p[shin[:, 1]], axis=1) for p in (base.skin, body.v_template.numpy())]
    np.testing.assert_allclose(lengths[0], lengths[1], rtol=0.1, atol=5e-4)
