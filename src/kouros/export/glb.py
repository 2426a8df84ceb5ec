"""Rigged GLB: every person of a photo as a skinned mesh with a skeleton of named joints, placed in the
photo's camera.

A glTF skin is linear blend skinning with the joints' node transforms, so a body is carried over exactly:
the mesh is the shaped T-pose, each joint's node turns as the pose says, and a viewer that opens the file
shows our vertices. The pose blend shapes of the present pose are baked into the mesh; whoever poses it
anew, in Blender say, keeps those. Names of nodes are `kouros.body.skeleton.JOINT_NAMES`. Format: glTF 2.0
specification, 3.7.3 (skins).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import pygltflib
import torch
from jaxtyping import Float, Int
from scipy import sparse
from scipy.spatial.transform import Rotation

from kouros import __version__
from kouros.body import BodyModel
from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.export.people import CAMERA_TO_FILE, PosedPerson, colour_of, require_people

MAX_INFLUENCES = 8
"""Joints that move a vertex: two sets of four, which every common viewer reads."""
_NEAR_PLANE = 0.05


def glb_bytes(people: Sequence[PosedPerson]) -> bytes:
    """A GLB file of the people of one photo, with a camera of the photo's field of view at the origin.

    The camera is the first person's; glTF cannot shift a principal point, so one off the image's centre is
    lost. People of the same body model share what depends on the model only.

    Raises:
        ValueError: there is nobody.
    """
    require_people(people)
    writer = _Writer()
    writer.add_camera(people[0])
    for index, person in enumerate(people):
        writer.add_person(person, index)
    return writer.finish()


@dataclass(frozen=True, eq=False)
class RiggedMesh:
    """What of a skinned mesh depends on the body model only, laid out as glTF wants it.

    A glTF vertex has one texture coordinate: body vertices on a seam of the UV map occur once for each side
    of it.
    """

    source: Int[np.ndarray, " corners"]
    """Vertex of the body that each glTF vertex is."""
    triangles: Int[np.ndarray, "faces 3"]
    """Of glTF vertices."""
    uv: Float[np.ndarray, "corners 2"] | None
    """v down, as glTF has it."""
    joints: Int[np.ndarray, "corners influences"]
    weights: Float[np.ndarray, "corners influences"]
    faces: Int[np.ndarray, "faces 3"]
    """Of body vertices."""
    num_vertices: int

    @staticmethod
    def of(body: BodyModel) -> "RiggedMesh":
        """The rigged mesh of a body model; computed once for each."""
        if body not in _RIGGED:
            _RIGGED[body] = _rig(body)
        return _RIGGED[body]

    @cached_property
    def faces_of_vertex(self) -> sparse.csr_array:
        """(num_vertices, faces): 1 where a face touches a vertex."""
        ones = np.ones(self.faces.size)
        columns = np.repeat(np.arange(len(self.faces)), 3)
        return sparse.csr_array((ones, (self.faces.ravel(), columns)), shape=(self.num_vertices, len(self.faces)))

    def normals(self, vertices: Float[np.ndarray, "vertices 3"]) -> Float[np.ndarray, "vertices 3"]:
        """Unit normals of the body's vertices: the mean over the faces around, weighted by area."""
        a, b, c = (vertices[self.faces[:, i]] for i in range(3))
        summed = self.faces_of_vertex @ np.cross(b - a, c - a)
        length = np.linalg.norm(summed, axis=1, keepdims=True)
        # A vertex without area around it has no normal, but the file needs a unit vector.
        return np.where(length > 1e-20, summed / np.maximum(length, 1e-20), [0.0, 1.0, 0.0])


_RIGGED: "WeakKeyDictionary[BodyModel, RiggedMesh]" = WeakKeyDictionary()


def _rig(body: BodyModel) -> RiggedMesh:
    faces = body.faces.numpy().astype(np.int64)
    uv = None
    if body.uv is not None and body.uv_faces is not None:
        corners = np.stack([faces.ravel(), body.uv_faces.numpy().astype(np.int64).ravel()], axis=1)
        unique, inverse = np.unique(corners, axis=0, return_inverse=True)
        source, triangles = unique[:, 0], inverse.reshape(faces.shape)
        uv = body.uv.numpy()[unique[:, 1]].astype(np.float64)
        uv = np.stack([uv[:, 0], 1.0 - uv[:, 1]], axis=1)
    else:
        source, triangles = np.arange(len(body.v_template)), faces
    dense = body.weights.numpy().astype(np.float64)
    used = int(min((dense > 0).sum(axis=1).max(), MAX_INFLUENCES))
    joints = np.argsort(-dense, axis=1, kind="stable")[:, : 4 * math.ceil(used / 4)]
    weights = np.take_along_axis(dense, joints, axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    joints = np.where(weights > 0, joints, 0)  # glTF: an unused influence names joint 0
    return RiggedMesh(
        source=source,
        triangles=triangles,
        uv=uv,
        joints=joints[source],
        weights=weights[source],
        faces=faces,
        num_vertices=len(body.v_template),
    )


@dataclass(frozen=True, eq=False)
class _RestBody:
    """A person's mesh before skinning, and what the joints' nodes need; body space, metres."""

    vertices: Float[np.ndarray, "vertices 3"]
    """Shaped T-pose with the present pose's blend shapes."""
    joints: Float[np.ndarray, "24 3"]
    """Of the shaped T-pose."""
    rotations: Float[np.ndarray, "24 3 3"]
    """Relative to the parent; the root's leads to camera space."""

    @staticmethod
    def of(person: PosedPerson) -> "_RestBody":
        body, betas = person.body, person.betas
        rotvecs = torch.cat([person.global_orient, person.body_pose]).reshape(-1, 3)
        rotations = Rotation.from_rotvec(rotvecs.detach().double().numpy()).as_matrix()
        with torch.no_grad():
            shaped = body.v_template + body.shapedirs[..., : len(betas)] @ betas
            joints = body.joint_regressor @ shaped
            features = torch.from_numpy((rotations[1:] - np.eye(3)).ravel()).to(shaped.dtype)
            posed = shaped + (features @ body.posedirs).reshape(-1, 3)
        return _RestBody(posed.double().numpy(), joints.double().numpy(), rotations)


class _Writer:
    """Builds one glTF document and its binary buffer."""

    def __init__(self) -> None:
        self._gltf = pygltflib.GLTF2(
            asset=pygltflib.Asset(generator=f"kouros {__version__}"),
            scene=0,
            scenes=[pygltflib.Scene(name="photo")],
        )
        self._chunks: list[bytes] = []
        self._offset = 0
        self._shared: dict[int, _SharedAccessors] = {}

    def finish(self) -> bytes:
        self._gltf.buffers = [pygltflib.Buffer(byteLength=self._offset)]
        self._gltf.set_binary_blob(b"".join(self._chunks))
        return b"".join(self._gltf.save_to_bytes())

    def add_camera(self, person: PosedPerson) -> None:
        width, height = person.image_size
        focal_length = float(person.camera.focal_length)
        perspective = pygltflib.Perspective(
            aspectRatio=width / height, yfov=2 * math.atan(height / (2 * focal_length)), znear=_NEAR_PLANE
        )
        self._gltf.cameras.append(pygltflib.Camera(type="perspective", perspective=perspective, name="photo_camera"))
        self._add_to_scene(pygltflib.Node(camera=0, name="photo_camera"))

    def add_person(self, person: PosedPerson, index: int) -> None:
        name = f"person_{index + 1}"
        mesh, rest = RiggedMesh.of(person.body), _RestBody.of(person)
        skin = self._add_skin(name, rest, person.transl.detach().double().numpy())
        self._gltf.materials.append(_material(name, colour_of(index)))
        attributes = pygltflib.Attributes(
            POSITION=self._add_vectors(rest.vertices[mesh.source], bounds=True),
            NORMAL=self._add_vectors(mesh.normals(rest.vertices)[mesh.source]),
        )
        shared = self._shared_of(person.body, mesh)
        for semantic, accessor in shared.attributes.items():
            setattr(attributes, semantic, accessor)
        primitive = pygltflib.Primitive(
            attributes=attributes, indices=shared.indices, material=len(self._gltf.materials) - 1
        )
        self._gltf.meshes.append(pygltflib.Mesh(primitives=[primitive], name=name))
        # Beside the skeleton, not under it: the node of a skinned mesh takes no part in placing it.
        self._add_to_scene(pygltflib.Node(mesh=len(self._gltf.meshes) - 1, skin=skin, name=f"{name}_mesh"))

    def _add_skin(self, name: str, rest: _RestBody, transl: Float[np.ndarray, "3"]) -> int:
        """The joints' nodes under one node that carries the person's name, and the skin that binds them."""
        holder = self._add_to_scene(pygltflib.Node(name=name))
        first = len(self._gltf.nodes)
        rotations, places = rest.rotations.copy(), rest.joints.copy()
        places[1:] -= rest.joints[list(PARENTS[1:])]
        # The root leads from body space to the file's, through the camera's.
        rotations[0], places[0] = CAMERA_TO_FILE @ rotations[0], CAMERA_TO_FILE @ (places[0] + transl)
        quaternions = Rotation.from_matrix(rotations).as_quat()
        for joint, joint_name in enumerate(JOINT_NAMES):
            node = pygltflib.Node(
                name=joint_name,
                translation=places[joint].tolist(),
                rotation=quaternions[joint].tolist(),
                children=[first + child for child, parent in enumerate(PARENTS) if parent == joint],
            )
            self._gltf.nodes.append(node)
        self._gltf.nodes[holder].children.append(first)
        # From rest mesh to joint: in the T-pose a joint's frame has the body's axes.
        inverse_bind = np.tile(np.eye(4), (len(PARENTS), 1, 1))
        inverse_bind[:, :3, 3] = -rest.joints
        accessor = self._add_array(
            inverse_bind.transpose(0, 2, 1).reshape(-1, 16).astype("<f4"),
            pygltflib.MAT4,  # column-major
        )
        self._gltf.skins.append(
            pygltflib.Skin(
                inverseBindMatrices=accessor,
                joints=list(range(first, first + len(PARENTS))),
                skeleton=first,
                name=name,
            )
        )
        return len(self._gltf.skins) - 1

    def _shared_of(self, body: BodyModel, mesh: RiggedMesh) -> "_SharedAccessors":
        if id(body) not in self._shared:
            attributes = {}
            if mesh.uv is not None:
                attributes["TEXCOORD_0"] = self._add_array(
                    mesh.uv.astype("<f4"), pygltflib.VEC2, target=pygltflib.ARRAY_BUFFER
                )
            for i in range(mesh.joints.shape[1] // 4):
                columns = slice(4 * i, 4 * i + 4)
                attributes[f"JOINTS_{i}"] = self._add_array(
                    mesh.joints[:, columns].astype("u1"), pygltflib.VEC4, target=pygltflib.ARRAY_BUFFER
                )
                attributes[f"WEIGHTS_{i}"] = self._add_array(
                    mesh.weights[:, columns].astype("<f4"), pygltflib.VEC4, target=pygltflib.ARRAY_BUFFER
                )
            # 65,535 itself restarts a strip in 16-bit indices.
            integer = "<u2" if len(mesh.source) < 65535 else "<u4"
            indices = self._add_array(
                mesh.triangles.reshape(-1).astype(integer),
                pygltflib.SCALAR,
                target=pygltflib.ELEMENT_ARRAY_BUFFER,
            )
            self._shared[id(body)] = _SharedAccessors(attributes, indices)
        return self._shared[id(body)]

    def _add_to_scene(self, node: pygltflib.Node) -> int:
        self._gltf.nodes.append(node)
        self._gltf.scenes[0].nodes.append(len(self._gltf.nodes) - 1)
        return len(self._gltf.nodes) - 1

    def _add_vectors(self, vectors: Float[np.ndarray, "vertices 3"], *, bounds: bool = False) -> int:
        values = vectors.astype("<f4")
        accessor = self._add_array(values, pygltflib.VEC3, target=pygltflib.ARRAY_BUFFER)
        if bounds:
            self._gltf.accessors[accessor].min = values.min(axis=0).tolist()
            self._gltf.accessors[accessor].max = values.max(axis=0).tolist()
        return accessor

    def _add_array(self, values: np.ndarray, kind: str, target: int | None = None) -> int:
        data = values.tobytes()
        self._gltf.bufferViews.append(
            pygltflib.BufferView(buffer=0, byteOffset=self._offset, byteLength=len(data), target=target)
        )
        padding = -len(data) % 4  # accessors start at multiples of four
        self._chunks.append(data + bytes(padding))
        self._offset += len(data) + padding
        self._gltf.accessors.append(
            pygltflib.Accessor(
                bufferView=len(self._gltf.bufferViews) - 1,
                componentType=_COMPONENT_TYPES[values.dtype.str.lstrip("<|")],
                count=len(values),
                type=kind,
            )
        )
        return len(self._gltf.accessors) - 1


_COMPONENT_TYPES = {
    "u1": pygltflib.UNSIGNED_BYTE,
    "u2": pygltflib.UNSIGNED_SHORT,
    "u4": pygltflib.UNSIGNED_INT,
    "f4": pygltflib.FLOAT,
}


@dataclass(frozen=True)
class _SharedAccessors:
    """Accessors that all people of one body model use."""

    attributes: dict[str, int]
    indices: int


def _material(name: str, color: tuple[float, float, float]) -> pygltflib.Material:
    # Double-sided: a body is open at the mouth and the eyes, where a viewer would look through its back.
    return pygltflib.Material(
        name=name,
        doubleSided=True,
        pbrMetallicRoughness=pygltflib.PbrMetallicRoughness(
            baseColorFactor=[*map(_srgb_to_linear, color), 1.0], metallicFactor=0.0, roughnessFactor=0.8
        ),
    )


def _srgb_to_linear(value: float) -> float:
    """IEC 61966-2-1; glTF's factors are linear."""
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
