"""Rigged GLB: every person of a photo as a skinned mesh with a skeleton of named bones, standing in an upright world,
and the photo's camera.

A glTF skin is linear blend skinning with the joints' node transforms, so a body is carried over exactly: the mesh is
the shaped T-pose, each joint's node turns as the pose says, and a viewer that opens the file shows our vertices. The
pose blend shapes of the present pose are baked into the mesh; whoever poses it anew, in Blender say, keeps those. Bones
are those of `kouros.export.rigs`; two animations of one frame, "photo" and "T-pose", hold the poses. Format: glTF 2.0
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
from kouros.body.skeleton import NUM_JOINTS, PARENTS, forward_kinematics
from kouros.export.colours import GREY
from kouros.export.people import PosedPerson, faces_shown, require_people
from kouros.export.rigs import JOINTS, ROOT, RigNames, bone_axes
from kouros.pipeline.upright import World

MAX_INFLUENCES = 8
"""Joints that move a vertex: two sets of four, which every common viewer reads."""
_NEAR_PLANE = 0.05


BONE_PARENTS = (-1, *(parent + 1 for parent in PARENTS))
"""Of the bones: the root, then the joints."""
_NUM_BONES = NUM_JOINTS + 1


def glb_bytes(
    people: Sequence[PosedPerson],
    world: World,
    rig: RigNames = "smpl",
    *,
    only_seen: bool = False,
    colours: Sequence[Float[np.ndarray, "_ 3"]] | None = None,
) -> bytes:
    """A GLB file of the people of one photo, with a camera of the photo's field of view where the photo was taken.

    The camera is the first person's; glTF cannot shift a principal point, so one off the image's centre is
    lost. People of the same body model share what depends on the model only.

    Args:
        world: where the people stand.
        rig: whose names the bones have.
        only_seen: leave out the faces that the photo does not show; the bones stay.
        colours: of each person's vertices, sRGB in [0, 1]; default: everybody is grey.

    Raises:
        ValueError: there is nobody.
    """
    require_people(people)
    writer = GlbWriter(rig)
    writer.add_camera(people[0], world)
    for index, person in enumerate(people):
        own = None if colours is None else colours[index]
        writer.add_person(person, world, index, only_seen=only_seen, colours=own)
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
    """Numbers of bones."""
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
    joints = np.where(weights > 0, joints, -1)  # glTF: an unused influence names joint 0
    return RiggedMesh(
        source=source,
        triangles=triangles,
        uv=uv,
        joints=joints[source] + 1,  # bone 0 is the root
        weights=weights[source],
        faces=faces,
        num_vertices=len(body.v_template),
    )


@dataclass(frozen=True, eq=False)
class Bones:
    """Where the bones of a skeleton are: the root, then the joints."""

    axes: Float[np.ndarray, "25 3 3"]
    """As columns."""
    places: Float[np.ndarray, "25 3"]

    def local(self) -> tuple[Float[np.ndarray, "25 4"], Float[np.ndarray, "25 3"]]:
        """Rotations (quaternions x, y, z, w) and translations relative to the parent bones."""
        rotations, places = self.axes.copy(), self.places.copy()
        parents = list(BONE_PARENTS[1:])
        above = self.axes[parents].transpose(0, 2, 1)
        rotations[1:] = above @ self.axes[1:]
        places[1:] = (above @ (self.places[1:] - self.places[parents])[..., None])[..., 0]
        return Rotation.from_matrix(rotations).as_quat(), places


@dataclass(frozen=True, eq=False)
class Figure:
    """A person's mesh before skinning, above the origin and on its soles, and the bones that carry it; metres."""

    vertices: Float[np.ndarray, "vertices 3"]
    """Shaped T-pose with the present pose's blend shapes, as large as the person is in the world."""
    bound: Bones
    """In the T-pose of the mesh."""
    posed: Bones
    """In the world, as in the photo."""
    at_rest: Bones
    """In the world, the T-pose where the person stands."""

    @staticmethod
    def of(person: PosedPerson, world: World, index: int) -> "Figure":
        """Of the person with that place among the world's."""
        body, betas, size = person.body, person.betas, float(world.sizes[index])
        rotvecs = torch.cat([person.global_orient, person.body_pose]).reshape(-1, 3)
        rotations = Rotation.from_rotvec(rotvecs.detach().double().numpy()).as_matrix()
        with torch.no_grad():
            shaped = body.v_template + body.shapedirs[..., : len(betas)] @ betas
            joints = (body.joint_regressor @ shaped).double()
            features = torch.from_numpy((rotations[1:] - np.eye(3)).ravel()).to(shaped.dtype)
            mesh = shaped + (features @ body.posedirs).reshape(-1, 3)
            turned, positions = forward_kinematics(torch.from_numpy(rotations), joints)
            places = world.place((positions + person.transl).float(), index).double().numpy()
            ground = 0.0 if world.has_floor else float(world.place(person.vertices.detach(), index)[:, 1].min())
        rest = size * joints.numpy()
        sole = size * float(shaped[:, 1].min())
        axes = bone_axes(rest)
        in_world = world.rotation.double().numpy() @ turned.numpy()
        heading = _heading(in_world[0])
        root = np.array([places[0, 0], ground, places[0, 2]])
        under = np.array([rest[0, 0], sole, rest[0, 2]])
        standing = (rest - under) @ heading.T + root
        return Figure(
            size * mesh.double().numpy() - under,
            Bones(np.concatenate([np.eye(3)[None], axes]), np.concatenate([np.zeros((1, 3)), rest - under])),
            Bones(np.concatenate([heading[None], in_world @ axes]), np.concatenate([root[None], places])),
            Bones(np.concatenate([heading[None], heading @ axes]), np.concatenate([root[None], standing])),
        )


def _heading(pelvis: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation about the vertical to where the pelvis faces; of somebody who lies, to where the head points."""
    front = pelvis[:, 2] if abs(pelvis[1, 2]) < 0.9 else pelvis[:, 1]
    angle = math.atan2(front[0], front[2])
    return Rotation.from_rotvec([0.0, angle, 0.0]).as_matrix()


class GlbWriter:
    """Builds one glTF document and its binary buffer."""

    def __init__(self, rig: RigNames) -> None:
        self._names = (ROOT[rig], *JOINTS[rig])
        self._gltf = pygltflib.GLTF2(
            asset=pygltflib.Asset(generator=f"kouros {__version__}"),
            scene=0,
            scenes=[pygltflib.Scene(name="photo")],
        )
        self._chunks: list[bytes] = []
        self._offset = 0
        self._shared: dict[int, _SharedAccessors] = {}
        self._photo, self._t_pose = (pygltflib.Animation(name=name) for name in ("photo", "T-pose"))
        self._gltf.animations = [self._photo, self._t_pose]
        self._gltf.materials.append(_material("body", GREY))
        self._start: int | None = None

    def finish(self) -> bytes:
        """The file."""
        self._gltf.buffers = [pygltflib.Buffer(byteLength=self._offset)]
        self._gltf.set_binary_blob(b"".join(self._chunks))
        return b"".join(self._gltf.save_to_bytes())

    def add_camera(self, person: PosedPerson, world: World) -> None:
        """Where the picture was taken, with the field of view of the person's picture."""
        width, height = person.image_size
        focal_length = float(person.camera.focal_length)
        perspective = pygltflib.Perspective(
            aspectRatio=width / height, yfov=2 * math.atan(height / (2 * focal_length)), znear=_NEAR_PLANE
        )
        self._gltf.cameras.append(pygltflib.Camera(type="perspective", perspective=perspective, name="photo_camera"))
        # A glTF camera looks along its -z, with y up.
        turn = world.rotation.double().numpy() @ np.diag([1.0, -1.0, -1.0])
        place = world.translation.tolist()
        quaternion = Rotation.from_matrix(turn).as_quat().tolist()
        self._add_to_scene(pygltflib.Node(camera=0, name="photo_camera", translation=place, rotation=quaternion))

    def add_person(
        self,
        person: PosedPerson,
        world: World,
        index: int,
        *,
        only_seen: bool = False,
        colours: Float[np.ndarray, "_ 3"] | None = None,
    ) -> None:
        """A mesh with its skeleton; ``index`` is the person's place among the world's."""
        name = f"person_{index + 1}"
        mesh, figure = RiggedMesh.of(person.body), Figure.of(person, world, index)
        skin = self._add_skin(name, figure)
        attributes = pygltflib.Attributes(
            POSITION=self._add_vectors(figure.vertices[mesh.source], bounds=True),
            NORMAL=self._add_vectors(mesh.normals(figure.vertices)[mesh.source]),
        )
        shared = self._shared_of(person.body, mesh)
        for semantic, accessor in shared.attributes.items():
            setattr(attributes, semantic, accessor)
        indices = shared.indices
        if not (shown := faces_shown(person, only_seen)).all():
            indices = self._add_triangles(mesh, mesh.triangles[shown])
        material = 0
        if colours is not None:
            linear = srgb_to_linear(colours[mesh.source])
            attributes.COLOR_0 = self._add_array(linear.astype("<f4"), pygltflib.VEC3, target=pygltflib.ARRAY_BUFFER)
            material = self._painted()
        primitive = pygltflib.Primitive(attributes=attributes, indices=indices, material=material)
        self._gltf.meshes.append(pygltflib.Mesh(primitives=[primitive], name=name))
        # Beside the skeleton, not under it: the node of a skinned mesh takes no part in placing it.
        self._add_to_scene(pygltflib.Node(mesh=len(self._gltf.meshes) - 1, skin=skin, name=f"{name}_mesh"))

    def _painted(self) -> int:
        """The material of those whose vertices have colours, which it leaves as they are."""
        if len(self._gltf.materials) == 1:
            self._gltf.materials.append(_material("photo", 1.0))
        return 1

    def _add_skin(self, name: str, figure: Figure) -> int:
        """The bones' nodes under one node that carries the person's name, the skin that binds them, and their poses."""
        holder = self._add_to_scene(pygltflib.Node(name=name))
        first = len(self._gltf.nodes)
        rotations, places = figure.posed.local()
        for bone, bone_name in enumerate(self._names):
            node = pygltflib.Node(
                name=bone_name,
                translation=places[bone].tolist(),
                rotation=rotations[bone].tolist(),
                children=[first + child for child, parent in enumerate(BONE_PARENTS) if parent == bone],
            )
            self._gltf.nodes.append(node)
        self._gltf.nodes[holder].children.append(first)
        self._animate(self._photo, first, figure.posed)
        self._animate(self._t_pose, first, figure.at_rest)
        inverse_bind = np.tile(np.eye(4), (_NUM_BONES, 1, 1))
        inverse_bind[:, :3, :3] = figure.bound.axes.transpose(0, 2, 1)
        inverse_bind[:, :3, 3] = -(inverse_bind[:, :3, :3] @ figure.bound.places[..., None])[..., 0]
        accessor = self._add_array(
            inverse_bind.transpose(0, 2, 1).reshape(-1, 16).astype("<f4"),
            pygltflib.MAT4,  # column-major
        )
        self._gltf.skins.append(
            pygltflib.Skin(
                inverseBindMatrices=accessor,
                joints=list(range(first, first + _NUM_BONES)),
                skeleton=first,
                name=name,
            )
        )
        return len(self._gltf.skins) - 1

    def _animate(self, animation: pygltflib.Animation, first: int, bones: Bones) -> None:
        """Hold a pose for one frame; bones do not grow, so only the root and the pelvis are moved."""
        if self._start is None:
            self._start = self._add_array(np.zeros((1, 1), "<f4"), pygltflib.SCALAR)
            self._gltf.accessors[self._start].min = self._gltf.accessors[self._start].max = [0.0]
        rotations, places = bones.local()
        for bone in range(_NUM_BONES):
            self._add_channel(animation, first + bone, "rotation", rotations[[bone]], pygltflib.VEC4, self._start)
        for bone in (0, 1):
            self._add_channel(animation, first + bone, "translation", places[[bone]], pygltflib.VEC3, self._start)

    def _add_channel(
        self,
        animation: pygltflib.Animation,
        node: int,
        path: str,
        values: Float[np.ndarray, "keys numbers"],
        kind: str,
        times: int,
    ) -> None:
        output = self._add_array(values.astype("<f4"), kind)
        animation.samplers.append(pygltflib.AnimationSampler(input=times, output=output))
        target = pygltflib.AnimationChannelTarget(node=node, path=path)
        animation.channels.append(pygltflib.AnimationChannel(sampler=len(animation.samplers) - 1, target=target))

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
            self._shared[id(body)] = _SharedAccessors(attributes, self._add_triangles(mesh, mesh.triangles))
        return self._shared[id(body)]

    def _add_triangles(self, mesh: RiggedMesh, triangles: Int[np.ndarray, "faces 3"]) -> int:
        # 65,535 itself restarts a strip in 16-bit indices.
        integer = "<u2" if len(mesh.source) < 65535 else "<u4"
        return self._add_array(
            triangles.reshape(-1).astype(integer), pygltflib.SCALAR, target=pygltflib.ELEMENT_ARRAY_BUFFER
        )

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


def _material(name: str, grey: float) -> pygltflib.Material:
    # Double-sided: a body is open at the mouth and the eyes, where a viewer would look through its back.
    linear = float(srgb_to_linear(np.array(grey)))
    return pygltflib.Material(
        name=name,
        doubleSided=True,
        pbrMetallicRoughness=pygltflib.PbrMetallicRoughness(
            baseColorFactor=[linear, linear, linear, 1.0], metallicFactor=0.0, roughnessFactor=0.8
        ),
    )


def srgb_to_linear(values: Float[np.ndarray, "*values"]) -> Float[np.ndarray, "*values"]:
    """IEC 61966-2-1; glTF's factors and vertex colours are linear."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
