"""The numbers of a film's people: arrays of all, AMASS's form of one, tables of joints, and a line of JSON a frame.

NPZ keys (T frames, P people; NaN where a person was not seen; camera space is OpenCV's, metres):

==================  ===================  =======================================================================
``times``           (T,) float64         seconds
``seen``            (T, P) bool          whether the person is in the frame
``betas``           (T, P, B) float32    equal over a smoothed person's frames
``pose``            (T, P, 72) float32   rotation vectors: global_orient (to camera space), then joints 1 to 23
``transl``          (T, P, 3) float32    metres, camera space
``joints_3d``       (T, P, 24, 3)        metres, camera space; names in ``joint_names``
``joints_2d``       (T, P, 24, 2)        the same in the picture, pixels
``joints_world``    (T, P, 24, 3)        metres, y up, the floor at 0
``contacts``        (T, P, 4) bool       whether left ankle, right ankle, left foot and right foot stand
``T_world_camera``  (4, 4) float32       of a person whose ``sizes`` is 1
``sizes``           (P,) float32         by how much each person is larger in the world, about the camera
``frame_rate``      () float64           frames a second
``smoothed``        () bool
``focal_length``    () float32           pixels
``image_size``      (2,) int32           width, height
``version``         () str               of kouros
==================  ===================  =======================================================================
"""

import json
from collections.abc import Iterator

import numpy as np
from scipy.spatial.transform import Rotation

from kouros import __version__
from kouros.body.skeleton import JOINT_NAMES
from kouros.export.motions import Motion
from kouros.files import npz_bytes
from kouros.pipeline.video import Track, Video

_PLACES = 5
_AMASS_JOINTS, _AMASS_BETAS = 22, 16


def video_arrays(video: Video) -> dict[str, np.ndarray]:
    """The arrays of the NPZ file by their key."""
    frames, people, world = len(video.times), len(video.tracks), video.world
    seen = np.zeros((frames, people), dtype=bool)
    columns: dict[str, np.ndarray] = {"seen": seen}
    for k, track in enumerate(video.tracks):
        seen[track.frames, k] = True
        of_track = {
            "betas": track.bodies.betas.numpy(force=True),
            "pose": track.pose,
            "transl": track.transl,
            "joints_3d": track.joints,
            "joints_2d": joints_2d(track),
            "joints_world": track.in_world(world),
            "contacts": track.contacts,
        }
        for key, values in of_track.items():
            nothing = False if values.dtype == bool else np.nan
            dtype = values.dtype if values.dtype == bool else np.float32
            shape = (frames, people, *values.shape[1:])
            columns.setdefault(key, np.full(shape, nothing, dtype=dtype))[track.frames, k] = values
    return columns | {
        "times": video.times,
        "T_world_camera": world.T_world_camera.numpy(),
        "sizes": world.sizes.numpy(),
        "joint_names": np.array(JOINT_NAMES),
        "frame_rate": np.array(video.frame_rate),
        "smoothed": np.array(video.smoothed),
        "focal_length": video.camera.focal_length.numpy(),
        "image_size": np.array(video.image_size, dtype=np.int32),
        "version": np.array(__version__),
    }


def joints_2d(track: Track) -> np.ndarray:
    """(T, 24, 2): the joints in the picture, pixels."""
    camera = track.bodies.camera
    points = track.joints[..., :2] / track.joints[..., 2:]
    focal = camera.focal_length.numpy(force=True)[:, None, None]
    return points * focal + camera.principal_point.numpy(force=True)[:, None]


def amass_bytes(track: Track, motion: Motion, frame_rate: float) -> bytes | memoryview:
    """A ``_poses.npz`` as AMASS has them (SMPL-H, z up), which `kouros import amass` and others' tools read.

    Hands are at rest. The model has no size of its own, so the motion is that of a person as large as its betas say.
    """
    even = motion.even(frame_rate)
    to_z_up = Rotation.from_euler("x", 90, degrees=True)
    turns = Rotation.from_matrix(even.turns[:, :_AMASS_JOINTS].reshape(-1, 3, 3)).as_rotvec()
    poses = np.zeros((len(even.times), 156))
    poses[:, : 3 * _AMASS_JOINTS] = turns.reshape(len(poses), -1)
    poses[:, :3] = (to_z_up * Rotation.from_matrix(even.turns[:, 0])).as_rotvec()
    betas = np.zeros(_AMASS_BETAS)
    betas[: len(track.betas)] = track.betas[:_AMASS_BETAS]
    return npz_bytes(
        {
            "poses": poses,
            # The model turns about its pelvis, which rests off the origin.
            "trans": to_z_up.apply(even.pelvis / even.size) - even.rest[0] / even.size,
            "betas": betas,
            "gender": np.array("neutral"),
            "mocap_framerate": np.array(float(frame_rate)),
        }
    )


def joints_csv(track: Track, motion: Motion, joints: np.ndarray) -> str:
    """A table with a row a frame: places of the joints in the world, metres, and their rotations relative to their
    parents, as X, Y, Z angles in degrees (``R = Rx Ry Rz``)."""
    names = [f"{joint}_{axis}" for joint in JOINT_NAMES for axis in "xyz"]
    turned = [f"{joint}_r{axis}" for joint in JOINT_NAMES for axis in "xyz"]
    angles = Rotation.from_matrix(motion.turns.reshape(-1, 3, 3)).as_euler("XYZ", degrees=True)
    rows = np.concatenate([joints.reshape(len(joints), -1), angles.reshape(len(joints), -1)], axis=1)
    lines = [",".join(["frame", "time", *names, *turned])]
    for frame, time, row in zip(track.frames, track.times, rows, strict=True):
        lines.append(f"{frame},{time:.6f}," + ",".join(f"{value:.5f}" for value in row))
    return "\n".join(lines) + "\n"


def trc_text(motion: Motion, joints: np.ndarray, frame_rate: float, name: str) -> str:
    """The joints as OpenSim's markers: millimetres in the world, y up."""
    count = len(joints)
    numbers = f"{frame_rate:g}\t{frame_rate:g}\t{count}\t{len(JOINT_NAMES)}\tmm\t{frame_rate:g}\t1\t{count}"
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{name}",
        "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
        numbers,
        "Frame#\tTime\t" + "\t\t\t".join(JOINT_NAMES),
        "\t\t" + "\t".join(f"{axis}{k}" for k in range(1, len(JOINT_NAMES) + 1) for axis in "XYZ"),
        "",
    ]
    for number, (time, row) in enumerate(zip(motion.times, 1e3 * joints.reshape(count, -1), strict=True), start=1):
        lines.append(f"{number}\t{time:.6f}\t" + "\t".join(f"{value:.3f}" for value in row))
    return "\n".join(lines) + "\n"


def json_lines(video: Video) -> Iterator[str]:
    """A line of JSON for each frame: who is there, and how."""
    contacts = [track.contacts for track in video.tracks]
    pixels = [joints_2d(track) for track in video.tracks]
    in_world = [track.in_world(video.world) for track in video.tracks]
    for frame, time in enumerate(video.times):
        people = []
        for k, track in enumerate(video.tracks):
            row = track.row_of(frame)
            if row is None:
                continue
            people.append(
                {
                    "name": f"person_{track.number + 1}",
                    "score": _rounded(track.scores[row]),
                    "box": _rounded(track.boxes[row]),
                    "betas": _rounded(track.bodies.betas[row].numpy(force=True)),
                    "global_orient": _rounded(track.pose[row, :3]),
                    "body_pose": _rounded(track.pose[row, 3:].reshape(-1, 3)),
                    "transl": _rounded(track.transl[row]),
                    "joints_3d": _rounded(track.joints[row]),
                    "joints_2d": _rounded(pixels[k][row]),
                    "joints_world": _rounded(in_world[k][row]),
                    "contacts": contacts[k][row].tolist(),
                }
            )
        yield json.dumps({"frame": frame, "time": round(float(time), 6), "people": people}, allow_nan=False)


def _rounded(values: np.ndarray | float) -> object:
    return np.round(np.asarray(values, dtype=np.float64), _PLACES).tolist()
