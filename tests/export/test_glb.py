import json
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.export.glb import glb_bytes
from kouros.export.meshes import obj_bytes
from kouros.export.rigs import JOINTS, ROOT
from kouros.pipeline.upright import World, world_of
from kouros.systems.estimator import Estimate

KINDS = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """A reader of its own, after the glTF 2.0 specification: chunks, accessors, node transforms, skins."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON"
        self.json = json.loads(data[20 : 20 + size])
        self.binary = data[28 + size :]

    def accessor(self, index: int) -> np.ndarray:
        accessor = self.json["accessors"][index]
        view = self.json["bufferViews"][accessor["bufferView"]]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        width = WIDTHS[accessor["type"]]
        values = np.frombuffer(self.binary, KINDS[accessor["componentType"]], accessor["count"] * width, start)
        return values.reshape(-1, width)

    def local(self, node: dict) -> np.ndarray:
        transform = np.eye(4)
        transform[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
        transform[:3, 3] = node.get("translation", [0, 0, 0])
        return transform

    def world(self) -> dict[int, np.ndarray]:
        nodes, found = self.json["nodes"], {}

        def visit(index: int, above: np.ndarray) -> None:
            found[index] = above @ self.local(nodes[index])
            for child in nodes[index].get("children", []):
                visit(child, found[index])

        for root in self.json["scenes"][0]["nodes"]:
            visit(root, np.eye(4))
        return found

    def skinned(self, node: dict) -> np.ndarray:
        attributes = self.json["meshes"][node["mesh"]]["primitives"][0]["attributes"]
        skin, world = self.json["skins"][node["skin"]], self.world()
        bind = self.accessor(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        matrices = np.stack([world[j] for j in skin["joints"]]) @ bind
        position = self.accessor(attributes["POSITION"]).astype(float)
        position = np.column_stack([position, np.ones(len(position))])
        total = np.zeros((len(position), 4))
        for s in range(2):
            if f"JOINTS_{s}" in attributes:
                joints, weights = (self.accessor(attributes[f"{k}_{s}"]) for k in ("JOINTS", "WEIGHTS"))
                for k in range(4):
                    moved = np.einsum("vij,vj->vi", matrices[joints[:, k]], position)
                    total += weights[:, k, None] * moved
        return total[:, :3]

    def meshes(self) -> list[dict]:
        return [node for node in self.json["nodes"] if "mesh" in node]


@pytest.fixture(scope="module")
def world(people) -> World:
    return world_of(people)


@pytest.fixture(scope="module")
def glb(people, world: World) -> Glb:
    return Glb(glb_bytes(people, world))


@pytest.mark.parametrize("space", ["world", "camera"])
def test_a_viewer_that_skins_the_mesh_gets_our_vertices(people, world: World, space: str):
    chosen = world if space == "world" else World.of_camera(len(people))
    glb = Glb(glb_bytes(people, chosen))
    for k, (node, person) in enumerate(zip(glb.meshes(), people, strict=True)):
        expected = chosen.place(person.vertices, k).numpy()
        skinned = glb.skinned(node)
        corners = expected[person.body.faces.numpy()]
        triangles = glb.accessor(glb.json["meshes"][node["mesh"]]["primitives"][0]["indices"]).reshape(-1, 3)
        assert_allclose(skinned[triangles], corners, atol=2e-5)
        if space == "world":
            assert skinned[:, 1].min() == pytest.approx(0.0, abs=2e-5)


def test_the_camera_sees_in_the_world_what_it_saw_in_the_photo(glb: Glb, people, world: World):
    assert float((world.sizes - 1).abs().max()) > 1e-3  # who is moved to the floor is seen where they were
    (index,) = [i for i, node in enumerate(glb.json["nodes"]) if "camera" in node]
    inverse = np.linalg.inv(glb.world()[index])
    perspective = glb.json["cameras"][0]["perspective"]
    for node, person in zip(glb.meshes(), people, strict=True):
        seen = glb.skinned(node) @ inverse[:3, :3].T + inverse[:3, 3]
        # glTF 2.0, 3.10: the camera looks along -z; yfov is the whole vertical angle.
        scale = 240 / np.tan(perspective["yfov"] / 2)
        pixels = np.stack([320 - scale * seen[:, 0] / seen[:, 2], 240 + scale * seen[:, 1] / seen[:, 2]], axis=1)
        triangles = glb.accessor(glb.json["meshes"][node["mesh"]]["primitives"][0]["indices"]).reshape(-1, 3)
        ours = person.camera.project(person.vertices).numpy()[person.body.faces.numpy()]
        assert_allclose(pixels[triangles], ours, atol=0.02)


def test_bones_are_named_nested_and_where_our_joints_are(glb: Glb, people, world: World):
    placed = glb.world()
    for k, (skin, person) in enumerate(zip(glb.json["skins"], people, strict=True)):
        root, *joints = skin["joints"]
        nodes = [glb.json["nodes"][j] for j in joints]
        assert [n["name"] for n in nodes] == list(JOINT_NAMES)
        assert glb.json["nodes"][root]["name"] == "root" and glb.json["nodes"][root]["children"] == [joints[0]]
        for joint, parent in enumerate(PARENTS[1:], start=1):
            assert joints[joint] in nodes[parent]["children"]
        positions = np.stack([placed[j][:3, 3] for j in joints])
        assert_allclose(positions, world.place(person.joints, k).numpy(), atol=2e-5)
        # The root is on the floor below the pelvis, upright.
        assert_allclose(placed[root][:3, 3], positions[0] * [1, 0, 1], atol=2e-5)
        assert_allclose(placed[root][:3, 1], [0, 1, 0], atol=1e-6)


def test_bones_point_along_the_limbs_in_every_pose(glb: Glb):
    placed = glb.world()
    for skin in glb.json["skins"]:
        bone = dict(zip(("root", *JOINT_NAMES), (placed[j] for j in skin["joints"]), strict=True))
        for one, other in (
            ("left_hip", "left_knee"), ("right_knee", "right_ankle"), ("left_ankle", "left_foot"),
            ("right_shoulder", "right_elbow"), ("left_elbow", "left_wrist"), ("left_wrist", "left_hand"),
            ("spine1", "spine2"), ("neck", "head"), ("left_collar", "left_shoulder"),
        ):  # fmt: skip
            along = bone[other][:3, 3] - bone[one][:3, 3]
            assert_allclose(bone[one][:3, 1], along / np.linalg.norm(along), atol=1e-4)


def test_only_what_the_photo_shows_is_in_the_mesh_if_that_is_asked(people, world: World):
    legs = torch.ones(24)
    legs[[JOINT_NAMES.index(f"{side}_{part}") for side in ("left", "right") for part in ("knee", "ankle", "foot")]] = 0
    cut = replace(people[0], estimate=Estimate(visibility=legs))
    body, glb = cut.body, Glb(glb_bytes([cut, people[1]], world, only_seen=True))
    first = glb.meshes()[0]
    triangles = glb.accessor(glb.json["meshes"][first["mesh"]]["primitives"][0]["indices"]).reshape(-1, 3)
    seen = (cut.vertices_seen >= 0.5).numpy()
    expected = body.faces.numpy()[seen[body.faces.numpy()].all(axis=1)]
    assert 0.4 * len(body.faces) < len(triangles) == len(expected) < 0.9 * len(body.faces)
    placed = world.place(cut.vertices, 0).numpy()
    assert_allclose(glb.skinned(first)[triangles], placed[expected], atol=2e-5)
    lines = obj_bytes([cut], World.of_camera(1), only_seen=True).decode().splitlines()
    assert sum(line.startswith("f ") for line in lines) == len(expected)


def posed_by(data: bytes, name: str) -> Glb:
    """The file with one of its animations' first frames as its pose."""
    glb = Glb(data)
    (animation,) = [a for a in glb.json["animations"] if a["name"] == name]
    for channel in animation["channels"]:
        sampler, target = animation["samplers"][channel["sampler"]], channel["target"]
        assert glb.accessor(sampler["input"]).tolist() == [[0.0]]
        glb.json["nodes"][target["node"]][target["path"]] = glb.accessor(sampler["output"])[0].tolist()
    return glb


def test_the_photos_pose_is_an_animation_and_so_is_the_t_pose(people, world: World):
    data = glb_bytes(people, world)
    plain, photo, t_pose = Glb(data), posed_by(data, "photo"), posed_by(data, "T-pose")
    for k, (node, person) in enumerate(zip(plain.meshes(), people, strict=True)):
        assert_allclose(photo.skinned(node), plain.skinned(node), atol=1e-5)
        skin = plain.json["skins"][node["skin"]]
        joints = np.stack([t_pose.world()[j][:3, 3] for j in skin["joints"][1:]])
        rest = (person.body.joint_template + person.body.joint_shapedirs @ person.betas).numpy()
        apart, expected = (np.linalg.norm(p[:, None] - p[None], axis=-1) for p in (joints, rest))
        assert_allclose(apart, float(world.sizes[k]) * expected, atol=1e-4)
        spine = joints[JOINT_NAMES.index("spine3")] - joints[0]
        assert spine[1] / np.linalg.norm(spine) > 0.98  # upright
        # Blend shapes of the photo's pose stay in the mesh, so soles are only nearly flat.
        assert t_pose.skinned(node)[:, 1].min() == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("rig", list(JOINTS))
def test_bones_have_the_names_that_were_asked_for(people, world: World, rig: str):
    glb = Glb(glb_bytes(people[:1], World.of_camera(1), rig))
    names = [glb.json["nodes"][j]["name"] for j in glb.json["skins"][0]["joints"]]
    assert names == [ROOT[rig], *JOINTS[rig]] and len(set(names)) == 25
    left, right = (names[1 + JOINT_NAMES.index(f"{side}_elbow")] for side in ("left", "right"))
    swapped = left.replace("Left", "Right").replace("left", "right")
    assert right == (swapped if rig != "unreal" else left.removesuffix("_l") + "_r")


def test_everybody_is_of_one_neutral_grey(glb: Glb):
    (material,) = glb.json["materials"]
    red, green, blue, alpha = material["pbrMetallicRoughness"]["baseColorFactor"]
    assert red == green == blue and 0.2 < red < 0.5 and alpha == 1.0


def test_turning_a_joint_node_moves_only_what_hangs_on_it(people):
    glb = Glb(glb_bytes(people[:1], World.of_camera(1)))
    (node,) = glb.meshes()
    before = glb.skinned(node)
    elbow = next(n for n in glb.json["nodes"] if n.get("name") == "left_elbow")
    turned = Rotation.from_quat(elbow["rotation"]) * Rotation.from_rotvec([1.0, 0, 0])  # y is along the bone
    elbow["rotation"] = turned.as_quat().tolist()
    moved = np.linalg.norm(glb.skinned(node) - before, axis=1)
    assert 0.01 < (moved > 1e-6).mean() < 0.4 and moved.max() > 0.1


def test_normals_are_unit_and_point_outward(glb: Glb):
    for mesh in glb.json["meshes"]:
        primitive = mesh["primitives"][0]
        position, normal = (glb.accessor(primitive["attributes"][k]) for k in ("POSITION", "NORMAL"))
        assert_allclose(np.linalg.norm(normal, axis=1), 1, atol=1e-5)
        a, b, c = position[glb.accessor(primitive["indices"]).reshape(-1, 3)].transpose(1, 0, 2)
        face = np.cross(b - a, c - a)
        corner = normal[glb.accessor(primitive["indices"]).reshape(-1, 3)[:, 0]]
        assert ((face * corner).sum(1) > 0)[np.linalg.norm(face, axis=1) > 1e-9].mean() > 0.98


def test_texture_coordinates_are_the_bodys_with_v_down(glb: Glb, people):
    body = people[0].body
    primitive = glb.json["meshes"][0]["primitives"][0]
    uv = glb.accessor(primitive["attributes"]["TEXCOORD_0"])
    triangles = glb.accessor(primitive["indices"]).reshape(-1, 3)
    expected = body.uv.numpy()[body.uv_faces.numpy()] * [1, -1] + [0, 1]
    assert_allclose(uv[triangles], expected, atol=1e-6)


def test_the_camera_has_the_photos_field_of_view(glb: Glb):
    perspective = glb.json["cameras"][0]["perspective"]
    assert np.tan(perspective["yfov"] / 2) == pytest.approx(240 / 600)
    assert perspective["aspectRatio"] == pytest.approx(640 / 480)


def test_a_person_stays_under_two_megabytes_and_a_second_costs_less(people, world: World):
    one, two = len(glb_bytes(people[:1], World.of_camera(1))), len(glb_bytes(people, world))
    assert one < 2e6 and two < 1.6 * one


def test_nobody_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        glb_bytes([], World.of_camera(0))


_VALIDATE = """
const { validateBytes } = require('gltf-validator');
const data = require('fs').readFileSync(process.argv[1]);
validateBytes(new Uint8Array(data)).then(r => console.log(JSON.stringify(r.issues)));
"""


@pytest.mark.slow
def test_khronos_validator_finds_neither_errors_nor_warnings(people, world: World, tmp_path: Path):
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    installed = subprocess.run([npm, "install", "gltf-validator"], cwd=tmp_path, capture_output=True, timeout=120)
    if installed.returncode:
        pytest.skip("gltf-validator cannot be installed here")
    (tmp_path / "two.glb").write_bytes(glb_bytes(people, world))
    ran = subprocess.run(
        ["node", "-e", _VALIDATE, "two.glb"], cwd=tmp_path, capture_output=True, check=True, timeout=60
    )
    issues = json.loads(ran.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]
