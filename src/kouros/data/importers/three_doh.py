"""3DOH50K: indoor images of people behind objects, with masks and SMPL parameters.

Format: ``annots.json`` as distributed with the data set (Zhang et al., CVPR 2020). The orientation in the
files is the world's; here it is turned into the camera's. The units of the files' 3D joints differ from their
translation's, so joints are left to be computed from the parameters, as PARE does.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.body.keypoints import SMPL24
from kouros.data.importers.boxes import box_of_corners
from kouros.data.importers.numbers import finite
from kouros.data.importers.running import ImportReport, require, row_blocks, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.documents import read_json

_FOLDERS = {"train": ("trainset", "train"), "test": ("testset", "test")}


def import_3doh(source: Path, out: Path, *, split: str = "test", check_images: bool = True) -> ImportReport:
    """Import a split of 3DOH50K.

    Args:
        source: the folder with ``trainset`` or ``testset``.
        out: folder for the table; made where it is missing.
        split: train or test.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the folder holds no such split.
    """
    if split not in _FOLDERS:
        raise DatasetError(f"3DOH50K has no split {split!r}; its splits are train and test.")
    file = require("3DOH50K", source, *(f"{folder}/annots.json" for folder in _FOLDERS[split]))
    try:
        content = read_json(file)
        people = sorted(content.items())
    except (ValueError, AttributeError) as error:
        raise DatasetError(f"{file}: expected a JSON object of people by number ({error}).") from None

    def convert(entry: tuple[str, dict[str, Any]]) -> Sample:
        number, person = entry
        extrinsic = finite(person["extri"], 4, 4)[:3]
        matrix = np.array(person["intri"], dtype=np.float64).reshape(3, 3)
        pose = np.array(person["pose"], dtype=np.float64).reshape(72)
        turn = Rotation.from_matrix(extrinsic[:, :3])
        pose[:3] = (turn * Rotation.from_rotvec(pose[:3])).as_rotvec()
        low, high = np.array(person["bbox"], dtype=np.float64).reshape(2, 2)
        center, size = box_of_corners(low, high)
        keypoints = np.array(person["smpl_joints_2d"], dtype=np.float64).reshape(24, 2)
        mask = person.get("mask_path") or None
        return Sample(
            image_path=person["img_path"].replace("\\", "/"),
            box_center=center,
            box_size=size,
            bbox=np.concatenate([low, high]),
            keypoints_2d=np.c_[keypoints, np.ones(24)],
            pose=pose,
            betas=np.array(person["betas"], dtype=np.float64).reshape(10),
            gender="neutral",
            intrinsics=np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]),
            world_to_camera=extrinsic,
            mask_path=mask.replace("\\", "/") if mask else None,
            person=number,
        )

    info = TableInfo(
        dataset="3doh",
        split=split,
        image_root=str(file.parent.resolve()),
        keypoints_2d=SMPL24,
        provenance={"importer": "three_doh", "source": str(file.resolve())},
    )
    units = row_blocks("people", people, convert, lambda entry: f"person {entry[0]}")
    return run_import(out, info, units, check_images=check_images)
