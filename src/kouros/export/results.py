"""The numbers of a photo's people: NPZ arrays for programs, and the same as JSON for humans and web pages.

NPZ keys (N people, in the order of the GLB; camera space is OpenCV's, metres; pixels have (0, 0) at the
top-left corner of the top-left pixel):

===================  =================  =================================================================
``betas``            (N, B) float32     shape coefficients; zeros, the average, fill shorter ones
``pose``             (N, 72) float32    rotation vectors: global_orient (to camera space), then joints 1 to 23
``transl``           (N, 3) float32     metres, camera space
``joints_3d``        (N, 24, 3)         metres, camera space; names in ``joint_names``
``joints_2d``        (N, 24, 2)         the same in the photo, pixels
``visibility``       (N, 24)            in [0, 1], of each joint: that the photo shows it; below 0.5 it was completed
``keypoints_2d``     (N, K, 3)          as detected: x, y in pixels, confidence (0: padding)
``keypoint_set``     (N,) str           of ``keypoints_2d``, a name in `kouros.body.keypoints`
``boxes``            (N, 4)             x0, y0, x1, y1, pixels
``crop_boxes``       (N, 4)             the square around each that systems look at, likewise
``uncertainty``      (N, 24)            expected distance of each joint from the truth, relative to the pelvis, metres;
                                        NaN: the system does not say
``scores``           (N,)               in [0, 1]
``reprojection``     (N, 2)             mean distance of the body's points from ``keypoints_2d``: pixels, and share of
                                        the person's size; NaN: the body has no such points
``distance_spread``  (N,)               standard deviation of the distance from the camera, as a share of it, by what
                                        is known of lens and height; NaN: unknown
``height_known``     (N,) bool          whether somebody said how tall the person is; else size and distance are assumed
``joints_world``     (N, 24, 3)         metres, in the world of the meshes: y up, the floor at height 0
``world_size``       (N,)               by how much each person is larger there, about the camera, than in camera space
``on_floor``         (N,) bool          who touches the floor
``T_world_camera``   (4, 4)             from camera space to the world, of what has size 1
``up_uncertainty``   () float32         radians: expected angle between that world's up and the true one; NaN: the files
                                        are in camera space (``--space camera``), in the axes of 3D files
``focal_length``     () float32         pixels, of the whole image
``principal_point``  (2,)               pixels
``image_size``       (2,) int32         width, height
``version``          () str             of kouros
===================  =================  =================================================================
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kouros import __version__
from kouros.body.keypoints import keypoint_set
from kouros.body.skeleton import JOINT_NAMES, NUM_JOINTS
from kouros.export.people import PosedPerson, colour_of, require_people
from kouros.pipeline.person import rounded
from kouros.pipeline.upright import World


def npz_bytes(people: Sequence[PosedPerson], world: World) -> bytes:
    """An NPZ file with the arrays that this module's docstring lists; it needs no pickle to be read.

    Raises:
        ValueError: there is nobody, or the people are from images of different sizes.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **result_arrays(people, world))  # type: ignore[arg-type]
    return buffer.getvalue()


def result_arrays(people: Sequence[PosedPerson], world: World) -> dict[str, np.ndarray]:
    """The arrays of the NPZ file by their key.

    Raises:
        ValueError: there is nobody, or the people are from images of different sizes.
    """
    require_people(people)
    first = people[0]
    if len({p.image_size for p in people}) > 1:
        raise ValueError("The people are from images of different sizes; expected those of one photo.")
    joints_2d = [p.camera.project(p.joints) for p in people]
    return {
        "betas": _padded([_numpy(p.betas) for p in people]),
        "pose": np.stack([np.concatenate([_numpy(p.global_orient), _numpy(p.body_pose)]) for p in people]),
        "transl": np.stack([_numpy(p.transl) for p in people]),
        "joints_3d": np.stack([_numpy(p.joints) for p in people]),
        "joints_2d": np.stack([_numpy(points) for points in joints_2d]),
        "joint_names": np.array(JOINT_NAMES),
        "visibility": np.stack([_numpy(p.visibility) for p in people]),
        "keypoints_2d": _padded([_numpy(p.keypoints_detected) for p in people]),
        "keypoint_set": np.array([p.keypoint_set for p in people]),
        "boxes": np.stack([_numpy(p.box) for p in people]),
        "crop_boxes": np.stack([_numpy(p.crop_box) for p in people]),
        "uncertainty": np.stack([_unknown() if p.uncertainty is None else _numpy(p.uncertainty) for p in people]),
        "scores": np.array([p.score for p in people], dtype=np.float32),
        "reprojection": np.array([_reprojection(p) for p in people], dtype=np.float32).reshape(-1, 2),
        "distance_spread": np.array(
            [np.nan if p.distance_spread is None else p.distance_spread for p in people], dtype=np.float32
        ),
        "height_known": np.array([p.height_known for p in people], dtype=bool),
        "joints_world": np.stack([_numpy(world.place(p.joints.detach(), i)) for i, p in enumerate(people)]),
        "world_size": _numpy(world.sizes),
        "on_floor": world.on_floor.numpy(),
        "T_world_camera": _numpy(world.T_world_camera),
        "up_uncertainty": np.array(world.uncertainty, dtype=np.float32),
        "focal_length": _numpy(first.camera.focal_length),
        "principal_point": _numpy(first.camera.principal_point),
        "image_size": np.array(first.image_size, dtype=np.int32),
        "version": np.array(__version__),
    }


def json_bytes(people: Sequence[PosedPerson], world: World, *, image: str | None = None, **extra: Any) -> bytes:
    """A JSON file of the same numbers as plain lists, with names and units.

    Args:
        world: in which the meshes stand.
        image: where the photo is, for whoever reads the file.
        extra: further entries at the top level, as they are.

    Raises:
        ValueError: as `result_arrays`; or a number is not finite, which JSON cannot hold.
    """
    arrays = result_arrays(people, world)
    sets = sorted({p.keypoint_set for p in people})
    document = {
        "version": __version__,
        "image": image,
        "image_size": dict(zip(("width", "height"), arrays["image_size"].tolist(), strict=True)),
        "units": {"length": "metre", "rotation": "radian", "joint_angles": "degree", "image": "pixel"},
        "conventions": {
            "camera": "x right, y down, z forward, at the origin",
            "pixels": "(0, 0) is the top-left corner of the top-left pixel",
            "world": "y up, floor at height 0; T_world_camera leads there from the camera, after a person's world_size"
            if world.has_floor
            else "the camera's, y up, z backward",
            "global_orient, body_pose": "rotation vectors; global_orient leads from body to camera space",
        },
        "camera": {
            "focal_length": rounded(arrays["focal_length"]),
            "principal_point": rounded(arrays["principal_point"]),
        },
        "world": {
            "T_world_camera": rounded(arrays["T_world_camera"]),
            "up_in_camera": rounded(_numpy(world.up)),
            "up_uncertainty_degrees": rounded(np.degrees(arrays["up_uncertainty"])) if world.has_floor else None,
        },
        "joint_names": list(JOINT_NAMES),
        "keypoint_names": {name: list(keypoint_set(name).names) for name in sets},
        **extra,
        "people": [_person(arrays, i, p) for i, p in enumerate(people)],
    }
    return (_dumps(document) + "\n").encode("utf-8")


def _person(arrays: Mapping[str, np.ndarray], i: int, person: PosedPerson) -> dict[str, Any]:
    of_the_photo = ("image_size", "camera", "body")
    return {
        "name": f"person_{i + 1}",
        "color": "#" + "".join(f"{round(255 * c):02x}" for c in colour_of(i)),
        **{name: value for name, value in person.to_dict().items() if name not in of_the_photo},
        "joints_world": rounded(arrays["joints_world"][i]),
        "world_size": rounded(arrays["world_size"][i]),
        "on_floor": bool(arrays["on_floor"][i]),
    }


def csv_bytes(people: Sequence[PosedPerson]) -> bytes:
    """A table of measurements (metres) and joint angles (degrees): a row a person, each value with its expected error.

    Raises:
        ValueError: there is nobody.
    """
    require_people(people)
    rows = []
    for i, person in enumerate(people):
        known = person.to_dict()
        row: dict[str, Any] = {"name": f"person_{i + 1}", "score": known["score"]}
        for name, value in known["measurements"].items():
            row[f"{name}_m"], row[f"{name}_m_error"] = value["metres"], value["expected_error"]
        for joint, angles in known["joint_angles"].items():
            for name, value in angles.items():
                column = f"{joint}_{name}_deg"
                row[column], row[f"{column}_error"] = value["degrees"], value["expected_error"]
        rows.append(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _unknown() -> np.ndarray:
    return np.full(NUM_JOINTS, np.nan, np.float32)


def _reprojection(person: PosedPerson) -> tuple[float, float]:
    found = person.reprojection
    return (np.nan, np.nan) if found is None else (found.pixels, found.share)


def _dumps(document: dict[str, Any]) -> str:
    """One line a top-level entry and a person's entry: short enough to read, long enough to stay small."""

    def entry(key: str, value: Any, indent: str) -> str:
        return f"{indent}{json.dumps(key)}: {json.dumps(value, allow_nan=False)}"

    people = document["people"]
    lines = [entry(k, v, " ") for k, v in document.items() if k != "people"]
    bodies = ["  {\n" + ",\n".join(entry(k, v, "   ") for k, v in p.items()) + "\n  }" for p in people]
    lines.append(' "people": [\n' + ",\n".join(bodies) + "\n ]")
    return "{\n" + ",\n".join(lines) + "\n}"


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """Stacked arrays that may differ in their first axis; zeros fill the shorter ones."""
    length = max(len(r) for r in rows)
    return np.stack([np.pad(r, [(0, length - len(r)), *[(0, 0)] * (r.ndim - 1)]) for r in rows])


def _numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().cpu().float().numpy()
