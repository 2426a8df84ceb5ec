"""Animated GLB: the people of a film, with the skeletons of a photo's GLB (`kouros.export.glb`), keyed at its frames.

Each person's mesh and skin come once; what moves are the nodes. The animation "motion" has the frames at the film's
times; "T-pose" holds the pose at rest. The mesh is that of the T-pose: a skeleton does not move blend shapes.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pygltflib
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from kouros.body.skeleton import PARENTS
from kouros.export.glb import Bones, GlbWriter
from kouros.export.motions import Motion
from kouros.export.rigs import RigNames, bone_axes
from kouros.pipeline.person import Person
from kouros.pipeline.upright import World
from kouros.pipeline.video import Track

_FACING = 0.9
"""How steep the pelvis may look up or down and still face somewhere."""


def animated_glb_bytes(tracks: Sequence[Track], world: World, rig: RigNames = "smpl", *, start: float = 0.0) -> bytes:
    """A GLB file of people who move, and the camera that stands.

    Args:
        world: where they are; it has a size for each track of the film.
        rig: whose names the bones have.
        start: the film's time, seconds, that is the animation's 0.

    Raises:
        ValueError: there is nobody.
    """
    if not tracks:
        raise ValueError("There is nobody to export; expected at least one track.")
    writer = _FilmWriter(rig)
    writer.add_camera(tracks[0].person(0), world)
    for track in tracks:
        writer.add_track(track, world, start)
    return writer.finish()


class _FilmWriter(GlbWriter):
    """The writer of photos' files, whose first animation has a film's frames."""

    def __init__(self, rig: RigNames) -> None:
        super().__init__(rig)
        self._photo.name, self._gltf.scenes[0].name = "motion", "film"
        self._motion: Motion | None = None
        self._since, self._floor = 0.0, 0.0

    def add_track(self, track: Track, world: World, start: float) -> None:
        """One person, at rest but for the nodes."""
        self._motion, self._since, self._floor = Motion.of(track, world), start, ground_of(track, world)
        self.add_person(at_rest(track), world, track.number)

    def _animate(self, animation: pygltflib.Animation, first: int, bones: Bones) -> None:
        if animation is not self._photo:
            super()._animate(animation, first, bones)
            return
        assert self._motion is not None
        rotations, root, pelvis = keyed(self._motion, self._floor)
        keys = (self._motion.times - self._since).astype("<f4")[:, None]
        times = self._add_array(keys, pygltflib.SCALAR)
        self._gltf.accessors[times].min, self._gltf.accessors[times].max = [float(keys.min())], [float(keys.max())]
        for bone in range(rotations.shape[1]):
            self._add_channel(animation, first + bone, "rotation", rotations[:, bone], pygltflib.VEC4, times)
        for bone, places in ((0, root), (1, pelvis)):
            self._add_channel(animation, first + bone, "translation", places, pygltflib.VEC3, times)


def at_rest(track: Track) -> Person:
    """The person with all joints at rest: whose mesh the skeleton moves."""
    person = track.person(0)
    pose = person.parameters.pose.clone()
    pose[3:] = 0
    return person.moved(replace(person.parameters, pose=pose))


def ground_of(track: Track, world: World) -> float:
    """The height that the root stands at."""
    return 0.0 if world.has_floor else float(track.in_world(world)[..., 1].min())


def keyed(
    motion: Motion, floor: float
) -> tuple[Float[np.ndarray, "frames 25 4"], Float[np.ndarray, "frames 3"], Float[np.ndarray, "frames 3"]]:
    """Rotations of the bones relative to their parents (quaternions x, y, z, w), and the places of root and pelvis.

    The root goes along on the floor, and faces where the pelvis does.
    """
    axes = bone_axes(motion.rest)
    root = motion.pelvis.copy()
    root[:, 1] = floor
    facing = _facing(motion.turns[:, 0])
    heading = Rotation.from_rotvec(facing[:, None] * [0.0, 1.0, 0.0]).as_matrix()
    back = heading.transpose(0, 2, 1)
    above = axes[list(PARENTS[1:])].transpose(0, 2, 1)
    local = np.concatenate(
        [heading[:, None], (back @ motion.turns[:, 0] @ axes[0])[:, None], above @ motion.turns[:, 1:] @ axes[1:]],
        axis=1,
    )
    quaternions = Rotation.from_matrix(local.reshape(-1, 3, 3)).as_quat().reshape(len(local), -1, 4)
    # The two quaternions of a rotation are far apart; viewers that interpolate must not go the long way.
    turned = (quaternions[1:] * quaternions[:-1]).sum(-1) < 0
    sign = np.concatenate([np.ones((1, quaternions.shape[1])), np.where(turned, -1.0, 1.0)]).cumprod(axis=0)
    pelvis = (back @ (motion.pelvis - root)[..., None])[..., 0]
    return quaternions * sign[..., None], root, pelvis


def _facing(pelvis: Float[np.ndarray, "frames 3 3"]) -> Float[np.ndarray, " frames"]:
    """Angle about the vertical, without jumps; as before and after where somebody lies."""
    front = pelvis[:, :, 2]
    upright = np.abs(front[:, 1]) < _FACING
    if not upright.any():
        return np.zeros(len(pelvis))
    angle = np.unwrap(np.arctan2(front[upright, 0], front[upright, 2]))
    return np.interp(np.arange(len(pelvis)), np.flatnonzero(upright), angle)
