"""EFT's pseudo ground truth: SMPL fits of people in photos of COCO, MPII, LSP-extended, PoseTrack and OCHuman.

Format: the JSON files of the fits' release (Joo et al., 3DV 2021), ``{"ver": ..., "data": [...]}``. Boxes and keypoints
are SPIN's; pictures are named without the folder that their data set has them in.
"""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.body.keypoints import SPIN49
from kouros.data.importers.numbers import finite
from kouros.data.importers.running import ImportReport, row_blocks, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.documents import read_json

_FOLDERS = ("", "train2014/", "val2014/", "images/")
_TRIED = 50
"""Pictures looked for to tell in which folder they are."""


def import_eft(
    source: Path, out: Path, *, images: Path | None = None, split: str = "train", check_images: bool = True
) -> ImportReport:
    """Import a file of fits, such as ``COCO2014-All-ver01.json``.

    Args:
        source: the file.
        out: folder for the table; made where it is missing.
        images: folder of the pictures, or of their ``train2014``, ``val2014`` or ``images``; default: the file's own.
        split: name of the table's split; the file does not say it.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the file is missing or is none of EFT's.
    """
    people = _read(source)
    root = images or source.parent
    folder = _folder(root, [str(person.get("imageName")) for person in people[:_TRIED]])

    def convert(entry: tuple[int, dict[str, Any]]) -> Sample:
        row, person = entry
        kind = str(person.get("smpltype", "smpl")).lower()
        if kind != "smpl":
            raise ValueError(f"the fit is of the body model {kind!r}; expected smpl")
        turns = finite(person["parm_pose"], 24, 3, 3)
        keypoints = np.array(person["gt_keypoint_2d"], dtype=np.float64).reshape(49, 3)
        confidence = keypoints[:, 2:].clip(0, 1)
        return Sample(
            image_path=folder + person["imageName"],
            box_center=np.array(person["bbox_center"], dtype=np.float64).reshape(2),
            box_size=200 * float(np.ravel(person["bbox_scale"])[0]),
            keypoints_2d=np.where(confidence > 0, np.c_[keypoints[:, :2], confidence], 0.0),
            pose=Rotation.from_matrix(turns).as_rotvec().reshape(72),
            betas=np.array(person["parm_shape"], dtype=np.float64).reshape(10),
            gender="neutral",
            subject=str(person["subjectId"]) if "subjectId" in person else None,
            person=str(person.get("annotId", row)),
        )

    info = TableInfo(
        dataset=f"eft_{source.stem.lower()}",
        split=split,
        image_root=str(root.resolve()),
        keypoints_2d=SPIN49,
        provenance={"importer": "eft", "source": str(source.resolve())},
    )
    units = row_blocks("people", list(enumerate(people)), convert, lambda e: f"fit {e[0]} ({e[1].get('imageName')})")
    return run_import(out, info, units, check_images=check_images)


def _read(source: Path) -> list[dict[str, Any]]:
    try:
        content = read_json(source)
    except FileNotFoundError:
        raise DatasetError(f"{source}: there is no such file; expected EFT's fits (JSON).") from None
    except (ValueError, OSError) as error:
        raise DatasetError(f"{source}: this is no readable JSON file ({error}).") from None
    people = content.get("data") if isinstance(content, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise DatasetError(f"{source}: expected EFT's fits, a JSON object with `ver` and a list `data`.")
    return people


def _folder(root: Path, names: list[str]) -> str:
    """The folder, with ``/``, below the root that holds one of the pictures; the root itself where none does."""
    return next((f for f in _FOLDERS if any((root / f / name).is_file() for name in names)), "")
