import json
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.export.glb import glb_bytes

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
def glb(people) -> Glb:
    return Glb(glb_bytes(people))


def test_a_viewer_that_skins_the_mesh_gets_our_vertices(glb: Glb, people):
    for node, person in zip(glb.meshes(), people, strict=True):
        expected = person.vertices.numpy() * [1, -1, -1]
        skinned = glb.skinned(node)
        corners = expected[person.body.faces.numpy()]
        triangles = glb.accessor(glb.json["meshes"][node["mesh"]]["primitives"][0]["indices"]).reshape(-1, 3)
        assert_allclose(skinned[triangles], corners, atol=1e-5)


def test_joint_nodes_are_named_nested_and_where_our_joints_are(glb: Glb, people):
    world = glb.world()
    for skin, person in zip(glb.json["skins"], people, strict=True):
        nodes = [glb.json["nodes"][j] for j in skin["joints"]]
        assert [n["name"] for n in nodes] == list(JOINT_NAMES)
        for joint, parent in enumerate(PARENTS[1:], start=1):
            assert skin["joints"][joint] in nodes[parent]["children"]
        positions = np.stack([world[j][:3, 3] for j in skin["joints"]])
        assert_allclose(positions, person.joints.numpy() * [1, -1, -1], atol=1e-5)


def test_turning_a_joint_node_moves_only_what_hangs_on_it(people):
    glb = Glb(glb_bytes(people[:1]))
    (node,) = glb.meshes()
    before = glb.skinned(node)
    elbow = next(n for n in glb.json["nodes"] if n.get("name") == "left_elbow")
    turned = Rotation.from_quat(elbow["rotation"]) * Rotation.from_rotvec([0, 1.0, 0])
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


def test_a_person_stays_under_two_megabytes_and_a_second_costs_less(people):
    one, two = len(glb_bytes(people[:1])), len(glb_bytes(people))
    assert one < 2e6 and two < 1.6 * one


def test_nobody_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        glb_bytes([])


_VALIDATE = """
const { validateBytes } = require('gltf-validator');
const data = require('fs').readFileSync(process.argv[1]);
validateBytes(new Uint8Array(data)).then(r => console.log(JSON.stringify(r.issues)));
"""


@pytest.mark.slow
def test_khronos_validator_finds_neither_errors_nor_warnings(people, tmp_path: Path):
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("needs node and npm")
    installed = subprocess.run([npm, "install", "gltf-validator"], cwd=tmp_path, capture_output=True, timeout=120)
    if installed.returncode:
        pytest.skip("gltf-validator cannot be installed here")
    (tmp_path / "two.glb").write_bytes(glb_bytes(people))
    ran = subprocess.run(
        ["node", "-e", _VALIDATE, "two.glb"], cwd=tmp_path, capture_output=True, check=True, timeout=60
    )
    issues = json.loads(ran.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues["messages"]
