"""Animated USD: the people of a film as UsdSkel has them, with the skeletons of the GLB's and the camera.

Needs usd-core (the ``usd`` extra). Metres, y up; a time code is a frame at the film's rate, and frames that come at
other times lie between them. Names hold no colons, which USD keeps for itself (``mixamorig_Hips``).
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from kouros.export.animation import at_rest, ground_of, keyed
from kouros.export.colours import GREY
from kouros.export.glb import BONE_PARENTS, Figure, RiggedMesh, srgb_to_linear
from kouros.export.motions import Motion
from kouros.export.rigs import JOINTS, ROOT, RigNames
from kouros.pipeline.upright import World
from kouros.pipeline.video import Track

_FOCAL = 50.0
"""Of the camera, in tenths of a unit, as USD likes it; what counts is its ratio to the aperture."""


def usd_bytes(
    tracks: Sequence[Track], world: World, frame_rate: float, rig: RigNames = "smpl", *, start: float = 0.0
) -> bytes:
    """A binary ``.usd`` file of people who move, and the camera that stands.

    Args:
        world: where they are; it has a size for each track of the film.
        frame_rate: time codes a second.
        rig: whose names the joints have.
        start: the film's time, seconds, that is time code 0.

    Raises:
        ValueError: there is nobody.
        ImportError: usd-core is missing.
    """
    if not tracks:
        raise ValueError("There is nobody to export; expected at least one track.")
    writer = _Writer(frame_rate, start, rig)
    writer.add_camera(tracks[0], world)
    for track in tracks:
        writer.add_track(track, world)
    return writer.finish()


class _Writer:
    def __init__(self, frame_rate: float, start: float, rig: RigNames) -> None:
        try:
            from pxr import Gf, Usd, UsdGeom, UsdSkel, Vt
        except ImportError:
            raise ImportError("Writing USD needs usd-core: pip install 'kouros[usd]'.") from None
        self._gf, self._usd, self._geom, self._skel, self._vt = Gf, Usd, UsdGeom, UsdSkel, Vt
        self._rate, self._start, self._first, self._last = frame_rate, start, np.inf, -np.inf
        self._joints = _paths((ROOT[rig], *JOINTS[rig]))
        self._stage: Any = Usd.Stage.CreateInMemory()
        UsdGeom.SetStageUpAxis(self._stage, UsdGeom.Tokens.y)
        UsdGeom.SetStageMetersPerUnit(self._stage, 1.0)
        self._stage.SetTimeCodesPerSecond(frame_rate)
        self._stage.SetFramesPerSecond(frame_rate)
        self._stage.SetDefaultPrim(UsdGeom.Xform.Define(self._stage, "/film").GetPrim())

    def finish(self) -> bytes:
        """The file."""
        self._stage.SetStartTimeCode(float(self._first))
        self._stage.SetEndTimeCode(float(self._last))
        with tempfile.TemporaryDirectory() as folder:  # USD writes to names only
            path = Path(folder) / "film.usdc"
            self._stage.GetRootLayer().Export(str(path))
            return path.read_bytes()

    def add_camera(self, track: Track, world: World) -> None:
        """Where the film was taken, with its field of view and principal point."""
        person = track.person(0)
        (width, height), focal = person.image_size, float(person.camera.focal_length)
        cx, cy = person.camera.principal_point.tolist()
        camera = self._geom.Camera.Define(self._stage, "/film/camera")
        camera.CreateFocalLengthAttr(_FOCAL)
        camera.CreateHorizontalApertureAttr(_FOCAL * width / focal)
        camera.CreateVerticalApertureAttr(_FOCAL * height / focal)
        camera.CreateHorizontalApertureOffsetAttr(_FOCAL * (width / 2 - cx) / focal)
        camera.CreateVerticalApertureOffsetAttr(_FOCAL * (cy - height / 2) / focal)
        camera.CreateClippingRangeAttr(self._gf.Vec2f(0.05, 1000.0))
        place = np.eye(4)
        place[:3, :3] = world.rotation.double().numpy() @ np.diag([1.0, -1.0, -1.0])  # it looks along -z, y up
        place[:3, 3] = world.translation.double().numpy()
        camera.AddTransformOp().Set(self._matrix(place))

    def add_track(self, track: Track, world: World) -> None:
        """A person: mesh, skeleton and motion under a root that binds them."""
        name = f"/film/person_{track.number + 1}"
        person, motion = at_rest(track), Motion.of(track, world)
        mesh, figure = RiggedMesh.of(person.body), Figure.of(person, world, track.number)
        root = self._skel.Root.Define(self._stage, name)
        skeleton = self._skel.Skeleton.Define(self._stage, f"{name}/skeleton")
        skeleton.CreateJointsAttr(self._joints)
        bound = np.tile(np.eye(4), (len(BONE_PARENTS), 1, 1))
        bound[:, :3, :3], bound[:, :3, 3] = figure.bound.axes, figure.bound.places
        skeleton.CreateBindTransformsAttr(self._matrices(bound))
        rest = bound.copy()
        rest[1:] = np.linalg.inv(bound[list(BONE_PARENTS[1:])]) @ bound[1:]
        skeleton.CreateRestTransformsAttr(self._matrices(rest))
        animation = self._animation(f"{name}/skeleton/motion", motion, ground_of(track, world), rest[:, :3, 3])
        binding = self._skel.BindingAPI.Apply(skeleton.GetPrim())
        binding.CreateAnimationSourceRel().SetTargets([animation.GetPath()])
        self._mesh(f"{name}/mesh", mesh, figure, skeleton)
        # Wherever the person goes is within the box.
        reach = np.ptp(figure.vertices, axis=0).max()
        around = np.stack([motion.pelvis.min(axis=0) - reach, motion.pelvis.max(axis=0) + reach])
        self._geom.Boundable(root).CreateExtentAttr(self._vectors(around))

    def _animation(self, name: str, motion: Motion, floor: float, rest: Float[np.ndarray, "25 3"]) -> Any:
        animation = self._skel.Animation.Define(self._stage, name)
        animation.CreateJointsAttr(self._joints)
        rotations, root, pelvis = keyed(motion, floor)
        turn, move = animation.CreateRotationsAttr(), animation.CreateTranslationsAttr()
        animation.CreateScalesAttr(self._vt.Vec3hArray(len(self._joints), self._gf.Vec3h(1)))
        for row, time in enumerate(motion.times):
            code = (float(time) - self._start) * self._rate
            code = round(code) if abs(code - round(code)) < 1e-6 else code
            self._first, self._last = min(self._first, code), max(self._last, code)
            places = np.concatenate([root[row][None], pelvis[row][None], rest[2:]])
            move.Set(self._vectors(places), code)
            turns = [self._gf.Quatf(float(w), float(x), float(y), float(z)) for x, y, z, w in rotations[row]]
            turn.Set(self._vt.QuatfArray(turns), code)
        return animation

    def _mesh(self, name: str, mesh: RiggedMesh, figure: Figure, skeleton: Any) -> None:
        made = self._geom.Mesh.Define(self._stage, name)
        points = figure.vertices[mesh.source]
        made.CreatePointsAttr(self._vectors(points))
        made.CreateExtentAttr(self._vectors(np.stack([points.min(axis=0), points.max(axis=0)])))
        made.CreateFaceVertexCountsAttr(self._integers(np.full(len(mesh.triangles), 3)))
        made.CreateFaceVertexIndicesAttr(self._integers(mesh.triangles.ravel()))
        made.CreateNormalsAttr(self._vectors(mesh.normals(figure.vertices)[mesh.source]))
        made.SetNormalsInterpolation(self._geom.Tokens.vertex)
        made.CreateSubdivisionSchemeAttr(self._geom.Tokens.none)
        made.CreateDoubleSidedAttr(True)
        made.CreateDisplayColorAttr(self._vectors(srgb_to_linear(np.full((1, 3), GREY))))
        if mesh.uv is not None:
            from pxr import Sdf

            up = np.ascontiguousarray(mesh.uv * [1.0, -1.0] + [0.0, 1.0], dtype=np.float32)
            uv = self._geom.PrimvarsAPI(made).CreatePrimvar(
                "st", Sdf.ValueTypeNames.TexCoord2fArray, self._geom.Tokens.vertex
            )
            uv.Set(self._vt.Vec2fArray.FromNumpy(up))
        binding = self._skel.BindingAPI.Apply(made.GetPrim())
        binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
        binding.CreateGeomBindTransformAttr(self._gf.Matrix4d(1))
        influences = mesh.joints.shape[1]
        binding.CreateJointIndicesPrimvar(False, influences).Set(self._integers(mesh.joints.ravel()))
        weights = np.ascontiguousarray(mesh.weights.ravel(), dtype=np.float32)
        binding.CreateJointWeightsPrimvar(False, influences).Set(self._vt.FloatArray.FromNumpy(weights))

    def _matrix(self, matrix: Float[np.ndarray, "4 4"]) -> Any:
        return self._gf.Matrix4d(matrix.T.tolist())  # USD's vectors are rows

    def _matrices(self, matrices: Float[np.ndarray, "joints 4 4"]) -> Any:
        return self._vt.Matrix4dArray([self._matrix(matrix) for matrix in matrices])

    def _vectors(self, vectors: Float[np.ndarray, "vectors 3"]) -> Any:
        return self._vt.Vec3fArray.FromNumpy(np.ascontiguousarray(vectors, dtype=np.float32))

    def _integers(self, values: np.ndarray) -> Any:
        return self._vt.IntArray.FromNumpy(np.ascontiguousarray(values, dtype=np.int32))


def _paths(names: Sequence[str]) -> list[str]:
    """Of joints, below each other, as USD names them."""
    paths: list[str] = []
    for name, parent in zip(names, BONE_PARENTS, strict=True):
        above = f"{paths[parent]}/" if parent >= 0 else ""
        paths.append(above + name.replace(":", "_"))
    return paths
