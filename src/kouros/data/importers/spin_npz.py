"""SPIN's annotation files: the ``.npz`` that SPIN, GraphCMR, VIBE and most of their successors read, both
ways.

Keys and orders are those of SPIN's ``datasets/base_dataset.py`` and ``constants.py``: one row a person;
``part`` holds SPIN's 24 joints, ``openpose`` BODY_25's detections; together they are the set ``spin49``.
Everything is in the camera's frame; ``scale`` is the box's side over 200.
"""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from kouros.body.keypoints import SPIN49
from kouros.data.importers.running import DatasetError, ImportReport, row_blocks, run_import
from kouros.data.schema import Sample, TableInfo
from kouros.data.tables import AnnotationTable
from kouros.files import npz_bytes, write_file

_GENDERS = {"m": "male", "f": "female", "male": "male", "female": "female", "neutral": "neutral"}
_ROOT = 14
"""Of the 24: the pelvis."""

TO_SPIN24 = {
    "lsp14": tuple(range(14)),
    "coco17": (19, 20, 21, 22, 23, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0),
    "mpii16": (0, 1, 2, 3, 4, 5, 14, 15, 12, 13, 6, 7, 8, 9, 10, 11),
    # The data sets' hips go to LSP's, the necks to the neck, and the top of the head to the "head" of 3D
    # metrics.
    "h36m17": (14, 2, 1, 0, 3, 4, 5, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6),
    "mpi_inf_3dhp17": (18, 12, 8, 7, 6, 9, 10, 11, 2, 1, 0, 3, 4, 5, 14, 16, 17),
}
"""For each keypoint set, which of SPIN's 24 joints each point fills, as in SPIN's preprocessing."""

_SHAPES = {
    "center": (2,), "scale": (), "part": (24, 3), "openpose": (25, 3), "S": (24, 4), "pose": (72,), "shape":
    (10,), "has_smpl": (), "gender": (), "maskname": (), "partname": (), "iuv_names": (),
}  # fmt: skip


def load_npz(source: Path, required: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` without pickled objects.

    Raises:
        DatasetError: there is no such file, it is something else, or it lacks a required key.
    """
    if not source.is_file():
        raise DatasetError(f"{source}: there is no such file; expected an .npz with {', '.join(required)}.")
    try:
        with np.load(source, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except (OSError, ValueError, BadZipFile, AttributeError) as error:
        raise DatasetError(f"{source}: this is no .npz of plain arrays ({error}).") from None
    missing = [key for key in required if key not in arrays]
    if missing:
        raise DatasetError(f"{source}: the file has no {', '.join(missing)}; it has {', '.join(arrays) or 'nothing'}.")
    return arrays


def decode_names(names: np.ndarray) -> list[str]:
    """Names as text, however they were written (str, bytes)."""
    return [n.decode() if isinstance(n, bytes) else str(n) for n in names.tolist()]


def import_spin_npz(
    source: Path,
    out: Path,
    *,
    images: Path | None = None,
    dataset: str | None = None,
    split: str = "train",
    check_images: bool = True,
) -> ImportReport:
    """Import a SPIN-style ``.npz``.

    Every key but ``imgname``, ``center`` and ``scale`` may be missing. Whether ``S`` is relative to the
    pelvis (SPIN) or absolute (DecoMR) is read off the pelvis's positions.

    Args:
        source: the file.
        images: folder that ``imgname`` is relative to; default: the file's own.
        dataset: name of the table; default: the file's.

    Raises:
        DatasetError: the file is none of this kind.
    """
    arrays = load_npz(source, ("imgname", "center", "scale"))
    names = decode_names(arrays["imgname"])
    for key, shape in _SHAPES.items():
        if key in arrays and arrays[key].shape != (len(names), *shape):
            expected = (len(names), *shape)
            hint = " (mmpose's 17-joint files: import_mpi_inf_3dhp_npz)" if key in ("part", "S") else ""
            raise DatasetError(f"{source}: {key} has shape {arrays[key].shape}; expected {expected}{hint}.")
    joints = arrays.get("S")
    rooted = joints is None or not np.abs(joints[joints[:, _ROOT, 3] > 0, _ROOT, :3]).max(initial=0) > 1e-6
    has_2d = "part" in arrays or "openpose" in arrays
    info = TableInfo(
        dataset=dataset or source.stem,
        split=split,
        image_root=str((images or source.parent).resolve()),
        keypoints_2d=SPIN49 if has_2d else None,
        keypoints_3d=None if joints is None else SPIN49,
        keypoints_3d_origin=None if joints is None else "root" if rooted else "camera",
        provenance={"importer": "spin_npz", "source": str(source.resolve())},
    )
    genders = decode_names(arrays["gender"]) if "gender" in arrays else None
    texts = {key: decode_names(arrays[key]) for key in ("maskname", "partname", "iuv_names") if key in arrays}

    def convert(row: int) -> Sample:
        keypoints = np.concatenate(
            [arrays[key][row] if key in arrays else np.zeros(_SHAPES[key]) for key in ("openpose", "part")]
        )
        keypoints[:, 2] = keypoints[:, 2].clip(0, 1)  # OpenPose's scores exceed 1 by rounding
        has_smpl = "pose" in arrays and "shape" in arrays
        has_smpl = has_smpl and ("has_smpl" not in arrays or bool(arrays["has_smpl"][row]))
        gender = _GENDERS[genders[row]] if genders else "neutral" if has_smpl else None
        return Sample(
            image_path=names[row],
            box_center=arrays["center"][row],
            box_size=200 * float(arrays["scale"][row]),
            keypoints_2d=keypoints if has_2d else None,
            keypoints_3d=None if joints is None else np.concatenate([np.zeros((25, 4)), joints[row]]),
            pose=arrays["pose"][row] if has_smpl else None,
            betas=arrays["shape"][row] if has_smpl else None,
            gender=gender,
            mask_path=texts["maskname"][row] if "maskname" in texts else None,
            parts_path=texts["partname"][row] if "partname" in texts else None,
            iuv_path=texts["iuv_names"][row] if "iuv_names" in texts else None,
        )

    units = row_blocks("rows", range(len(names)), convert, lambda row: f"row {row} ({names[row]})")
    return run_import(out, info, units, check_images=check_images)


def export_spin_npz(table: AnnotationTable, out: Path) -> int:
    """Write a table as SPIN-style ``.npz``; returns the number of rows.

    Points without a place among SPIN's joints are left out.

    Raises:
        ValueError: a row has no box, or the table's keypoint set has no known place among SPIN's joints.
    """
    rows = len(table)
    center, size = table.column("box_center"), table.column("box_size")
    boxed = center.has & size.has
    if not boxed.all():
        row = int(np.flatnonzero(~boxed)[0])
        raise ValueError(f"Row {row} of {table.path.name} has no box, which SPIN's files need; drop such rows.")
    arrays = {
        "imgname": np.array(table.text("image_path"), dtype=np.str_),
        "center": center.values,
        "scale": size.values / 200,
    }
    if table.info.keypoints_2d is not None:
        keypoints = table.column("keypoints_2d").values.astype(np.float64)
        name = table.info.keypoints_2d.name
        if name == "openpose25":
            arrays["openpose"] = keypoints
        elif name == "spin49":
            arrays["openpose"], arrays["part"] = keypoints[:, :25], keypoints[:, 25:]
        else:
            arrays["part"] = _spin24(name, keypoints)
    if table.info.keypoints_3d is not None:
        joints = table.column("keypoints_3d").values.astype(np.float64)
        name = table.info.keypoints_3d.name
        arrays["S"] = joints[:, 25:] if name == "spin49" else _spin24(name, joints)
    pose, betas = table.column("pose"), table.column("betas")
    has_smpl = pose.has & betas.has
    if has_smpl.any():
        arrays["pose"] = pose.values.astype(np.float64)
        arrays["shape"] = betas.values.astype(np.float64)
        arrays["has_smpl"] = has_smpl.astype(np.float64)
    genders = table.text("gender")
    if any(g in ("male", "female") for g in genders):
        # SPIN knows no third: what is not "m" is read as female.
        if not all(g in ("male", "female") for g in genders):
            raise ValueError("SPIN's files give every row a gender m or f, or none; split the table by gender.")
        arrays["gender"] = np.array([g[0] for g in genders if g])
    for key, field in (("maskname", "mask_path"), ("partname", "parts_path"), ("iuv_names", "iuv_path")):
        if table.has(field).all() and rows:
            arrays[key] = np.array(table.text(field), dtype=np.str_)
    write_file(out, npz_bytes(arrays, compressed=False))
    return rows


def _spin24(name: str, points: np.ndarray) -> np.ndarray:
    if name not in TO_SPIN24:
        raise ValueError(
            f"The keypoint set {name} has no known place among SPIN's joints; known are {', '.join(TO_SPIN24)}."
        )
    result = np.zeros((len(points), 24, points.shape[2]))
    result[:, list(TO_SPIN24[name])] = points
    return result
