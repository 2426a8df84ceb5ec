"""3DPW: people outdoors with SMPL parameters from worn sensors and a moving camera.

Format: the readme and ``readData`` script distributed with the data set (von Marcard et al., ECCV 2018). Its
poses are in the world's frame; here they are turned into the camera's. Betas belong to the male and female
models.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.body.keypoints import OPENPOSE25, SMPL24
from kouros.data.importers.boxes import box_around
from kouros.data.importers.pickles import load_pickle
from kouros.data.importers.running import ImportReport, Problem, Unit, converted, require, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo

_SPLITS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
_COCO18 = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
_TO_OPENPOSE = [OPENPOSE25.index(name) for name in _COCO18]
_GENDERS = {"m": "male", "f": "female"}


def import_3dpw(source: Path, out: Path, *, split: str = "test", check_images: bool = True) -> ImportReport:
    """Import every person in every frame whose camera pose is valid for that person.

    Boxes go around the OpenPose detections, as in SPIN's protocol; where there are none, around the projected
    joints.

    Args:
        source: the folder with ``sequenceFiles`` and ``imageFiles``.
        out: folder for the table; made where it is missing.
        split: train, validation or test.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the folder holds no 3DPW, or not this split.
    """
    if split not in _SPLITS:
        raise DatasetError(f"3DPW has no split {split!r}; its splits are {', '.join(_SPLITS)}.")
    folder = require("3DPW", source, *(f"sequenceFiles/{name}" for name in _SPLITS[split]))
    files = sorted(folder.glob("*.pkl"))
    if not files:
        require("3DPW", folder, "<sequence>.pkl")
    info = TableInfo(
        dataset="3dpw",
        split=split,
        image_root=str(source.resolve()),
        keypoints_2d=OPENPOSE25,
        keypoints_3d=SMPL24,
        keypoints_3d_origin="camera",
        provenance={"importer": "three_dpw", "source": str(source.resolve())},
    )
    units = (Unit(file.stem, partial(_rows, file)) for file in files)
    return run_import(out, info, units, check_images=check_images)


def _rows(file: Path) -> Iterator[Sample | Problem]:
    try:
        content = load_pickle(file)
        cameras = np.asarray(content["cam_poses"], dtype=np.float64)[:, :3]
        matrix = np.asarray(content["cam_intrinsics"], dtype=np.float64)
        # The readme spells these two otherwise than the files.
        genders = content["genders" if "genders" in content else "gender"]
        detections = content["poses2d" if "poses2d" in content else "poses2D"]
        people = range(len(content["poses"]))
    except (DatasetError, KeyError, IndexError, TypeError) as error:
        yield Problem(file.name, f"{type(error).__name__}: {error}")
        return
    intrinsics = np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]])
    sequence = content.get("sequence", file.stem)

    def convert(entry: tuple[int, int]) -> Sample | None:
        person, frame = entry
        if not content["campose_valid"][person][frame]:
            return None
        turn, shift = cameras[frame, :, :3], cameras[frame, :, 3]
        world = np.asarray(content["jointPositions"][person][frame], dtype=np.float64).reshape(24, 3)
        joints = world @ turn.T + shift
        pose = np.array(content["poses"][person][frame], dtype=np.float64)
        pose[:3] = (Rotation.from_matrix(turn) * Rotation.from_rotvec(pose[:3])).as_rotvec()
        # The model turns about its resting pelvis, which stays where it is in the model's frame.
        resting_pelvis = world[0] - content["trans"][person][frame]
        keypoints = np.zeros((25, 3))
        detected = np.asarray(detections[person][frame], dtype=np.float64).T
        keypoints[_TO_OPENPOSE] = np.where(detected[:, 2:] > 0, detected, 0).clip(max=[np.inf, np.inf, 1])
        seen = keypoints[keypoints[:, 2] > 0, :2]
        projected = joints[:, :2] / joints[:, 2:] * intrinsics[:2] + intrinsics[2:]
        center, size = box_around(seen if len(seen) else projected)
        return Sample(
            image_path=f"imageFiles/{sequence}/image_{frame:05d}.jpg",
            box_center=center,
            box_size=size,
            keypoints_2d=keypoints if len(seen) else None,
            keypoints_3d=np.c_[joints, np.ones(24)],
            pose=pose,
            betas=np.asarray(content["betas"][person], dtype=np.float64).ravel()[:10],
            transl=joints[0] - resting_pelvis,
            gender=_GENDERS[genders[person]],
            intrinsics=intrinsics,
            world_to_camera=cameras[frame],
            sequence=sequence,
            frame=frame,
            person=str(person),
        )

    entries = [(person, frame) for person in people for frame in range(len(cameras))]
    yield from converted(entries, convert, lambda e: f"{file.name} person {e[0]} frame {e[1]}")
