"""HumanEva-I, from the positions that VideoPose3D's preparation exports with the data set's own MATLAB code.

Ground truth needs that code (Sigal et al., IJCV 2010), so the importer reads its output:
``converted_15j/<Train|Validate>/S1/Walking_1.mat`` with ``poses_3d`` (frames, 15, 3), millimetres in the
world's frame, NaN where invalid, and ``poses_2d`` (3 cameras, frames, 15, 2), pixels.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.body.keypoints import KeypointSet
from kouros.data.importers.boxes import box_around
from kouros.data.importers.matlab import load_mat
from kouros.data.importers.running import ImportReport, Problem, Unit, converted, require, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo

HUMANEVA15 = KeypointSet(
    "humaneva15",
    (
        "pelvis_humaneva", "thorax_humaneva", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder",
        "right_elbow", "right_wrist", "left_hip", "left_knee", "left_ankle", "right_hip", "right_knee",
        "right_ankle", "head_humaneva",
    ),
    (
        ("pelvis_humaneva", "thorax_humaneva"), ("thorax_humaneva", "head_humaneva"),
        *((f"{s}_{a}", f"{s}_{b}") for s in ("left", "right")
          for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))),
    ),
)  # fmt: skip


_CAMERAS = {
    ("S1", 1): ((0.424207, -0.498365, -0.580298, 0.484701), (4062.227, 663.2477, 1528.397)),
    ("S1", 2): ((0.650335, -0.74816, -0.0919284, 0.0941766), (844.8131, -3805.2092, 1504.9929)),
    ("S1", 3): ((0.0664734, -0.0690535, 0.741642, -0.663913), (-797.67377, 3916.3174, 1433.6602)),
    ("S2", 1): ((0.421475, -0.496149, -0.583827, 0.485119), (4112.9121, 626.4929, 1545.2988)),
    ("S2", 2): ((0.650139, -0.747659, -0.0954617, 0.0959808), (923.574, -3877.9243, 1504.5518)),
    ("S2", 3): ((0.0699353, -0.0712403, 0.742164, -0.662742), (-781.4915, 3838.8853, 1444.9929)),
    ("S3", 1): ((0.424207, -0.498365, -0.580298, 0.484701), (4062.2271, 663.2477, 1528.397)),
    ("S3", 2): ((0.650335, -0.74816, -0.0919284, 0.0941766), (844.8131, -3805.2092, 1504.9929)),
    ("S3", 3): ((0.0664734, -0.0690535, 0.741642, -0.663913), (-797.6738, 3916.3174, 1433.6602)),
}
"""Camera-to-world quaternions (w, x, y, z) and centres (mm), as VideoPose3D lists them."""


_START_OF_VALIDATION = 5
_TRAINING = {
    "Walking_1": {"S1": (590, 1203), "S2": (438, 876), "S3": (448, 939)},
    "Jog_1": {"S1": (367, 740), "S2": (398, 795), "S3": (401, 842)},
    "ThrowCatch_1": {"S1": (473, 945), "S2": (550, 1128), "S3": (493, 1027)},
    "Gestures_1": {"S1": (395, 801), "S2": (500, 901), "S3": (533, 1102)},
    "Box_1": {"S1": (385, 789), "S2": (382, 734), "S3": (512, 1021)},
}
"""Numbers of the training part's frames (the end excluded) once video and motion capture are aligned; the validation
part is what comes before."""
_SKIPPED = {
    "Walking_1": {"S1": (82, 81, 82), "S2": (115, 115, 114), "S3": (80, 80, 80)},
    "Jog_1": {"S1": (51, 51, 50), "S2": (100, 100, 99), "S3": (65, 65, 65)},
    "ThrowCatch_1": {"S1": (61, 61, 60), "S2": (127, 127, 127), "S3": (79, 79, 79)},
    "Gestures_1": {"S1": (45, 45, 44), "S2": (122, 122, 121), "S3": (83, 83, 82)},
    "Box_1": {"S1": (57, 57, 56), "S2": (119, 119, 117), "S3": (1, 1, 1)},
}
"""Pictures of the videos of C1, C2, C3 before the first aligned frame."""


def import_humaneva(
    source: Path,
    out: Path,
    *,
    split: str = "Validate",
    images: Path | None = None,
    check_images: bool = True,
) -> ImportReport:
    """Import a part (``Train`` or ``Validate``) of the export.

    Positions are taken to each camera's frame; the cameras' focal lengths are in files of another kind and unknown.
    A row of the export is a frame after video and motion capture were aligned, so `frame` counts from the picture
    where that begins; of a trial whose alignment is unknown it counts rows.

    Args:
        source: the folder ``converted_15j``.
        out: folder for the table; made where it is missing.
        split: Train or Validate.
        images: folder of the videos, ``S1/Image_Data/Walking_1_(C1).avi``; default: the source's parent.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the folder holds no such export.
    """
    folder = require("HumanEva-I", source, split)
    files = sorted(folder.glob("S[1-3]/*.mat"))
    if not files:
        require("HumanEva-I", folder, "S1/Walking_1.mat")
    info = TableInfo(
        dataset="humaneva",
        split=split.lower(),
        image_root=str((images or source.parent).resolve()),
        keypoints_2d=HUMANEVA15,
        keypoints_3d=HUMANEVA15,
        keypoints_3d_origin="camera",
        provenance={"importer": "humaneva", "source": str(source.resolve())},
    )
    units = (Unit(f"{f.parent.name}/{f.stem}", partial(_rows, f, split)) for f in files)
    return run_import(out, info, units, check_images=check_images)


def _rows(file: Path, split: str) -> Iterator[Sample | Problem]:
    subject, trial = file.parent.name, file.stem
    try:
        content = load_mat(file, "poses_3d", "poses_2d")
    except DatasetError as error:
        yield Problem(f"{subject}/{trial}", str(error))
        return
    joints, pixels = (np.asarray(content[key], dtype=np.float64) for key in ("poses_3d", "poses_2d"))
    frames = len(joints)
    if joints.shape != (frames, 15, 3) or pixels.shape != (3, frames, 15, 2):
        what = f"poses_3d has shape {joints.shape}, poses_2d {pixels.shape}; expected (F, 15, 3), (3, F, 15, 2)"
        yield Problem(f"{subject}/{trial}", what)
        return
    valid = np.isfinite(joints).all(axis=(1, 2)) & np.isfinite(pixels).all(axis=(0, 2, 3))

    def convert(entry: tuple[int, int]) -> Sample:
        camera, frame = entry
        center, size = box_around(pixels[camera, frame])
        (w, x, y, z), place = _CAMERAS[subject, camera + 1]
        turn = Rotation.from_quat([x, y, z, w]).inv()
        return Sample(
            image_path=f"{subject}/Image_Data/{trial}_(C{camera + 1}).avi",
            box_center=center,
            box_size=size,
            keypoints_2d=np.c_[pixels[camera, frame], np.ones(15)],
            keypoints_3d=np.c_[turn.apply(joints[frame] - place) / 1000, np.ones(15)],
            world_to_camera=np.c_[turn.as_matrix(), -turn.apply(place) / 1000],
            subject=subject,
            action=trial.rpartition("_")[0] or trial,
            sequence=f"{subject}_{trial}",
            camera=f"C{camera + 1}",
            frame=_first_picture(subject, trial, split, camera) + frame,
        )

    entries = [(camera, int(frame)) for camera in range(3) for frame in np.flatnonzero(valid)]
    yield from converted(entries, convert, lambda e: f"{subject}/{trial} C{e[0] + 1} frame {e[1]}")


def _first_picture(subject: str, trial: str, split: str, camera: int) -> int:
    """Number of the video's picture that belongs to the export's first row."""
    if trial not in _SKIPPED:
        return 0
    start = _TRAINING[trial][subject][0] if split == "Train" else _START_OF_VALIDATION
    return _SKIPPED[trial][subject][camera] + start
