"""SPIN's annotation files: the ``.npz`` that SPIN, GraphCMR, VIBE and most of their successors read, both
ways.

Keys and orders are those of SPIN's ``datasets/base_dataset.py`` and ``constants.py``: one row a person;
``part`` holds SPIN's 24 joints, ``openpose`` BODY_25's detections; together they are the set ``spin49``.
Everything is in the camera's frame; ``scale`` is the box's side over 200.
"""

from io import BufferedIOBase
from pathlib import Path
from pickle import UnpicklingError

import numpy as np

from kouros.archives import ArchiveError, read_all_npz
from kouros.body.keypoints import OPENPOSE25, SPIN49, KeypointSet
from kouros.body.unpickling import as_array, as_plain, read_pickle
from kouros.data.importers.running import ImportReport, row_blocks, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.data.spin_joints import from_pelvis, spin49_slots
from kouros.data.tables import AnnotationTable
from kouros.files import npz_bytes, write_file

_GENDERS = {"m": "male", "f": "female", "male": "male", "female": "female", "neutral": "neutral"}
_ROOT = 14
"""Of the 24: the pelvis."""
_DETECTED = len(OPENPOSE25)

_SHAPES = {
    "center": (2,),
    "scale": (),
    "part": (24, 3),
    "openpose": (25, 3),
    "S": (24, 4),
    "pose": (72,),
    "shape": (10,),
    "has_smpl": (),
    "gender": (),
    "maskname": (),
    "partname": (),
    "iuv_names": (),
}


def load_npz(source: Path, required: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; pickled objects in it may be texts and numbers, and nothing in it is run.

    Raises:
        DatasetError: there is no such file, it is something else, or it lacks a required key.
    """
    if not source.is_file():
        raise DatasetError(f"{source}: there is no such file; expected an .npz with {', '.join(required)}.")
    try:
        arrays = read_all_npz(source, read_objects=_objects)
    except (OSError, ArchiveError) as error:
        raise DatasetError(f"{source}: this is no .npz of plain arrays ({error}).") from None
    missing = [key for key in required if key not in arrays]
    if missing:
        raise DatasetError(f"{source}: the file has no {', '.join(missing)}; it has {', '.join(arrays) or 'nothing'}.")
    return arrays


def _objects(stream: BufferedIOBase) -> np.ndarray:
    """An array of objects, as some write names; the pickle is read without running it."""
    try:
        return as_array(as_plain(read_pickle(stream)))
    except (UnpicklingError, ValueError, TypeError, IndexError) as error:
        raise ArchiveError(f"an array of objects in it cannot be read: {error}") from None


def decode_names(names: np.ndarray) -> list[str]:
    """Names as text, however they were written (str, bytes)."""
    return [n.decode(errors="replace") if isinstance(n, bytes) else str(n) for n in names.tolist()]


def import_spin_npz(
    source: Path,
    out: Path,
    *,
    images: Path | None = None,
    masks: Path | None = None,
    fits: Path | None = None,
    dataset: str | None = None,
    split: str = "train",
    check_images: bool = True,
) -> ImportReport:
    """Import a SPIN-style ``.npz``.

    Every key but ``imgname``, ``center`` and ``scale`` may be missing. Whether ``S`` is relative to the
    pelvis (SPIN) or absolute (DecoMR) is read off the pelvis's positions.

    Args:
        source: the file.
        out: folder for the table; made where it is missing.
        images: folder that ``imgname`` is relative to; default: the file's own.
        masks: folder that ``maskname`` and ``partname`` are relative to (UPi-S1h's); default: the images'.
        fits: SPIN's fits of the same rows, which take the place of the file's own: ``pose``, ``betas`` and
            ``valid_fit`` (or ``shape`` and ``has_smpl``) in an ``.npz``.
        dataset: name of the table, by which evaluation knows it; default: the file's.
        split: name of the table's split; the file does not say it.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: a file is none of this kind, or the fits are of other rows.
    """
    arrays = load_npz(source, ("imgname", "center", "scale"))
    names = decode_names(arrays["imgname"])
    for key, shape in _SHAPES.items():
        if key in arrays and arrays[key].shape != (len(names), *shape):
            expected = (len(names), *shape)
            hint = " (mmpose's 17-joint files: import_mpi_inf_3dhp_npz)" if key in ("part", "S") else ""
            raise DatasetError(f"{source}: {key} has shape {arrays[key].shape}; expected {expected}{hint}.")
    if fits is not None:
        arrays |= _read_fits(fits, len(names))
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
        provenance={
            "importer": "spin_npz",
            "source": str(source.resolve()),
            "mask_root": str(masks.resolve()) if masks else None,
            "fits": str(fits.resolve()) if fits else None,
        },
        part_set="lsp6" if "partname" in arrays else None,  # SPIN's files name the part pictures of LSP alone
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
        # Fits are of the neutral body, whoever the person is.
        gender = _GENDERS[genders[row]] if genders and fits is None else "neutral" if has_smpl else None
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


def _read_fits(path: Path, rows: int) -> dict[str, np.ndarray]:
    """Pose, shape and has_smpl of fits.

    Raises:
        DatasetError: the file is none of fits, or of another number of rows.
    """
    found = load_npz(path, ("pose",))
    betas = found.get("betas", found.get("shape"))
    valid = found.get("valid_fit", found.get("has_smpl", np.ones(len(found["pose"]))))
    if betas is None:
        raise DatasetError(f"{path}: the file has no betas; it has {', '.join(found)}.")
    shapes = (found["pose"].shape, betas.shape, valid.shape)
    if shapes != ((rows, 72), (rows, 10), (rows,)):
        raise DatasetError(
            f"{path}: pose, betas and valid_fit have shapes {', '.join(map(str, shapes))}; expected "
            f"({rows}, 72), ({rows}, 10) and ({rows},), a fit for each row of the annotations."
        )
    return {"pose": found["pose"], "shape": betas, "has_smpl": valid}


def export_spin_npz(table: AnnotationTable, out: Path) -> int:
    """Write a table as SPIN-style ``.npz``; returns the number of rows.

    Points without a place among SPIN's joints are left out: of 3D joints also OpenPose's, for which the format has
    no place. 3D joints become relative to the pelvis, as the format has them.

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
    info = table.info
    if info.keypoints_2d is not None:
        keypoints = _spin49(info.keypoints_2d, table.column("keypoints_2d").values)
        slots = [slot for slot in spin49_slots(info.keypoints_2d) if slot is not None]
        if min(slots) < _DETECTED:
            arrays["openpose"] = keypoints[:, :_DETECTED]
        if max(slots) >= _DETECTED:
            arrays["part"] = keypoints[:, _DETECTED:]
    if info.keypoints_3d is not None:
        joints = _spin49(info.keypoints_3d, table.column("keypoints_3d").values)
        rooted = info.keypoints_3d_origin == "root"
        if not rooted:
            joints = np.stack([from_pelvis(j, rooted) for j in joints]) if rows else joints
        arrays["S"] = joints[:, _DETECTED:]
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


def _spin49(points: KeypointSet, values: np.ndarray) -> np.ndarray:
    """(rows, 49, columns) of (rows, points, columns)."""
    result = np.zeros((len(values), len(SPIN49), values.shape[2]))
    for point, slot in enumerate(spin49_slots(points)):
        if slot is not None:
            result[:, slot] = values[:, point]
    return result
