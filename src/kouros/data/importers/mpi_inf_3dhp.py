"""MPI-INF-3DHP: training sequences, test sequences, and the 17-joint ``.npz`` that mmpose made of them.

Formats: the readme files and MATLAB scripts distributed with the data set (Mehta et al., 3DV 2017). Positions
are in each camera's frame, millimetres in the files. Training's 28 joints are brought to the test's 17.
"""

import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from kouros.body.keypoints import MPI_INF_3DHP17
from kouros.data.importers.boxes import box_around
from kouros.data.importers.matlab import load_mat, load_mat73
from kouros.data.importers.running import ImportReport, Problem, Unit, converted, require, row_blocks, run_import
from kouros.data.importers.spin_npz import decode_names, load_npz
from kouros.data.schema import DatasetError, Sample, TableInfo

TRAIN_TO_17 = (7, 5, 14, 15, 16, 9, 10, 11, 23, 24, 25, 18, 19, 20, 4, 3, 6)
CHEST_CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""Of 14, those that HMR, SPIN and most after them use."""
_FRAMES = {
    "S1": (6416, 12430), "S2": (6502, 6081), "S3": (12488, 12283), "S4": (6171, 6675),
    "S5": (12820, 12312), "S6": (6188, 6145), "S7": (6239, 6320), "S8": (6468, 6054),
}  # fmt: skip
"""Pictures in the videos of both sequences, as mmpose's converter counts them; annotations can be longer."""
_ACTIVITIES = {
    1: "standing/walking",
    2: "exercising",
    3: "sitting",
    4: "reaching/crouching",
    5: "on the floor",
    6: "sports",
    7: "miscellaneous",
}
_MAX_RESIDUAL = 5.0
"""Pixels on average, beyond which fitted intrinsics are not believed."""
_EXTRACTED = ("imageFrames/video_{}/frame_{:06d}.jpg", "video_{}/{:06d}.jpg")
"""Where SPIN's and mmhuman3d's converters put the videos' pictures, numbered from 1."""


def import_mpi_inf_3dhp_npz(
    source: Path, out: Path, *, images: Path | None = None, split: str = "train", check_images: bool = True
) -> ImportReport:
    """Import mmpose's form: ``imgname center scale part S`` with 17 joints in the test's order, absolute
    metres.

    Args:
        source: the file.
        out: folder for the table; made where it is missing.
        images: folder that ``imgname`` is relative to; default: the file's own.
        split: name of the table's split; the file does not say it.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the file is none of this kind.
    """
    arrays = load_npz(source, ("imgname", "center", "scale", "part", "S"))
    names = decode_names(arrays["imgname"])
    shapes = {"center": (2,), "scale": (), "part": (17, 3), "S": (17, 4)}
    for key, shape in shapes.items():
        if arrays[key].shape != (len(names), *shape):
            raise DatasetError(f"{source}: {key} has shape {arrays[key].shape}; expected {(len(names), *shape)}.")
    info = _info(split, images or source.parent, {"importer": "mpi_inf_3dhp_npz", "source": str(source.resolve())})

    def convert(row: int) -> Sample:
        subject, sequence, camera, frame = _of_name(names[row])
        return Sample(
            image_path=names[row],
            box_center=arrays["center"][row],
            box_size=200 * float(arrays["scale"][row]),
            keypoints_2d=arrays["part"][row],
            keypoints_3d=arrays["S"][row],
            subject=subject,
            sequence=sequence,
            camera=camera,
            frame=frame,
        )

    units = row_blocks("rows", range(len(names)), convert, lambda row: f"row {row} ({names[row]})")
    return run_import(out, info, units, check_images=check_images)


def _of_name(name: str) -> tuple[str | None, str | None, str | None, int | None]:
    """Subject, sequence, camera and frame (from 0) that mmpose's names of pictures (from 1) tell."""
    match = re.search(r"(S\d)_(Seq\d)_Cam(\d+)_(\d+)\.\w+$", name)
    if match is None:
        return None, None, None, None
    subject, sequence, camera, number = match.groups()
    return subject, f"{subject}_{sequence}", camera, int(number) - 1


def import_mpi_inf_3dhp_train(
    source: Path,
    out: Path,
    *,
    cameras: tuple[int, ...] = CHEST_CAMERAS,
    stride: int = 10,
    check_images: bool = True,
) -> ImportReport:
    """Import the training sequences ``S1/Seq1`` to ``S8/Seq2`` that are there.

    Pictures are ``imageFrames/video_<k>/frame_000001.jpg`` where extracted as SPIN does, or
    ``video_<k>/000001.jpg`` (mmhuman3d), else the videos themselves.

    Args:
        source: the folder with ``S1`` ... ``S8``.
        out: folder for the table; made where it is missing.
        cameras: numbers of the cameras to take, 0 to 13; default: those at chest height.
        stride: keep every so many-th frame.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: there is no ``S<k>/Seq<k>/annot.mat``; a camera is none of the 14.
    """
    if not cameras or not set(cameras) <= set(range(14)):
        raise DatasetError(
            f"MPI-INF-3DHP has no cameras {', '.join(map(str, cameras)) or '(none given)'}; it has 0 to 13."
        )
    sequences = sorted(source.glob("S[1-8]/Seq[12]"))
    sequences = [folder for folder in sequences if (folder / "annot.mat").is_file()]
    if not sequences:
        require("MPI-INF-3DHP (train)", source, "S1/Seq1/annot.mat")
    provenance = {
        "importer": "mpi_inf_3dhp_train",
        "source": str(source.resolve()),
        "stride": stride,
        "cameras": list(cameras),
    }
    units = (
        Unit(
            f"{folder.parent.name}/{folder.name}/{camera}",
            partial(_train_rows, source, folder, camera, stride),
        )
        for folder in sequences
        for camera in cameras
    )
    return run_import(out, _info("train", source, provenance), units, check_images=check_images)


def _train_rows(source: Path, folder: Path, camera: int, stride: int) -> Iterable[Sample | Problem]:
    subject, sequence = folder.parent.name, folder.name
    where = f"{subject}/{sequence} camera {camera}"
    try:
        content = load_mat(folder / "annot.mat", "annot2", "annot3", "univ_annot3", optional=("frames",))
        pixels, joints, universal = (
            np.asarray(content[key].ravel()[camera], dtype=np.float64).reshape(-1, 28, size)[:, list(TRAIN_TO_17)]
            for key, size in (("annot2", 2), ("annot3", 3), ("univ_annot3", 3))
        )
        calibration = read_calibration(folder / "camera.calibration")[camera]
    except (ValueError, IndexError, KeyError) as error:
        yield Problem(where, str(error))
        return
    intrinsics, world_to_camera, size = calibration
    extracted = next((e for e in _EXTRACTED if (folder / e.format(camera, 1)).parent.is_dir()), None)
    rows = min(len(pixels), len(joints))
    # The number of each row's picture in its video.
    numbers = np.ravel(content["frames"]).astype(int) if "frames" in content else np.arange(rows)
    if len(numbers) < rows:
        yield Problem(where, f"frames has {len(numbers)} numbers for {rows} rows")
        return
    last = _FRAMES[subject][int(sequence[-1]) - 1]

    def convert(row: int) -> Sample:
        frame = int(numbers[row])
        name = extracted.format(camera, frame + 1) if extracted else f"imageSequence/video_{camera}.avi"
        inside = ((pixels[row] >= 0) & (pixels[row] < size)).all(axis=1)
        center, side = box_around(pixels[row])
        return Sample(
            image_path=f"{subject}/{sequence}/{name}",
            image_size=size,
            box_center=center,
            box_size=side,
            keypoints_2d=np.c_[pixels[row], inside],
            keypoints_3d=_metres(joints[row]),
            keypoints_3d_universal=_metres(universal[row]),
            intrinsics=intrinsics,
            world_to_camera=world_to_camera,
            subject=subject,
            sequence=f"{subject}_{sequence}",
            camera=str(camera),
            frame=frame,
        )

    wanted = [row for row in range(rows) if numbers[row] % stride == 0 and 0 <= numbers[row] < last]
    yield from converted(wanted, convert, lambda row: f"{where} frame {numbers[row]}")


def import_mpi_inf_3dhp_test(source: Path, out: Path, *, check_images: bool = True) -> ImportReport:
    """Import the valid frames of the test sequences ``TS1`` to ``TS6`` that are there.

    Metrics are computed on ``keypoints_3d_universal``. The files hold no intrinsics: they are what best takes the
    joints to their pixels.

    Args:
        source: the folder with ``TS1`` ... ``TS6``, or with ``mpi_inf_3dhp_test_set``.
        out: folder for the table; made where it is missing.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: there is no ``TS<k>/annot_data.mat``.
    """
    if not (source / "TS1").exists() and (source / "mpi_inf_3dhp_test_set").is_dir():
        source = source / "mpi_inf_3dhp_test_set"
    sequences = [f for f in sorted(source.glob("TS[1-6]")) if (f / "annot_data.mat").is_file()]
    if not sequences:
        require("MPI-INF-3DHP (test)", source, "TS1/annot_data.mat")
    info = _info("test", source, {"importer": "mpi_inf_3dhp_test", "source": str(source.resolve())})
    units = (Unit(folder.name, partial(_test_rows, folder)) for folder in sequences)
    return run_import(out, info, units, check_images=check_images)


def _test_rows(folder: Path) -> Iterator[Sample | Problem]:
    keys = ("annot2", "annot3", "univ_annot3", "valid_frame", "activity_annotation")
    try:
        content = load_mat73(folder / "annot_data.mat", *keys)
    except DatasetError as error:
        yield Problem(folder.name, str(error))
        return
    frames = len(content["valid_frame"])
    shapes = ((17, 2), (17, 3), (17, 3))
    for key, shape in zip(keys, shapes, strict=False):
        if content[key].shape != (frames, 1, *shape):
            yield Problem(folder.name, f"{key} has shape {content[key].shape}; expected {(frames, 1, *shape)}")
            return
    valid = content["valid_frame"].reshape(frames) == 1
    intrinsics = _fitted_intrinsics(content["annot3"][valid, 0], content["annot2"][valid, 0])

    def convert(frame: int) -> Sample:
        pixels = content["annot2"][frame, 0].astype(np.float64)
        center, side = box_around(pixels)
        activity = int(content["activity_annotation"].reshape(frames)[frame])
        return Sample(
            image_path=f"{folder.name}/imageSequence/img_{frame + 1:06d}.jpg",
            box_center=center,
            box_size=side,
            keypoints_2d=np.c_[pixels, np.ones(17)],
            keypoints_3d=_metres(content["annot3"][frame, 0]),
            keypoints_3d_universal=_metres(content["univ_annot3"][frame, 0]),
            intrinsics=intrinsics,
            subject=folder.name,
            sequence=folder.name,
            action=_ACTIVITIES.get(activity, str(activity)),
            frame=frame,
        )

    yield from converted(np.flatnonzero(valid).tolist(), convert, lambda frame: f"{folder.name} frame {frame}")


def _fitted_intrinsics(joints: np.ndarray, pixels: np.ndarray) -> np.ndarray | None:
    """Intrinsics (fx, fy, cx, cy) of the pinhole camera that projects (..., 3) joints onto their pixels best; None
    where there are no such, because the two do not belong together.
    """
    joints, pixels = joints.reshape(-1, 3).astype(np.float64), pixels.reshape(-1, 2).astype(np.float64)
    if len(joints) < 2 or not (joints[:, 2] > 0).all():
        return None
    fits = []
    for axis in (0, 1):
        slope = np.c_[joints[:, axis] / joints[:, 2], np.ones(len(joints))]
        fits.append(np.linalg.lstsq(slope, pixels[:, axis], rcond=None)[0])
        if not np.abs(slope @ fits[-1] - pixels[:, axis]).mean() < _MAX_RESIDUAL:
            return None
    (fx, cx), (fy, cy) = fits
    return np.array([fx, fy, cx, cy])


def read_calibration(path: Path) -> dict[int, tuple[np.ndarray, np.ndarray, tuple[int, int]]]:
    """Intrinsics (fx, fy, cx, cy; pixels), world-to-camera (3, 4; metres) and image size of each camera.

    Raises:
        DatasetError: the file is missing or is no Skeletool calibration.
    """
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
        cameras: dict[int, dict[str, list[str]]] = {}
        current: dict[str, list[str]] = {}
        for words in lines[1:]:
            if words and words[0] == "name":
                current = cameras.setdefault(int(words[1]), {})
            elif words:
                current[words[0]] = words[1:]
        result = {}
        for number, entry in cameras.items():
            matrix = np.array(entry["intrinsic"], dtype=np.float64).reshape(4, 4)
            extrinsic = np.array(entry["extrinsic"], dtype=np.float64).reshape(4, 4)[:3]
            extrinsic[:, 3] /= 1000
            intrinsics = np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]])
            result[number] = (intrinsics, extrinsic, (int(entry["size"][0]), int(entry["size"][1])))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DatasetError(f"{path}: this is no readable camera calibration ({error!r}).") from None
    return result


def _metres(joints: np.ndarray) -> np.ndarray:
    return np.c_[joints.astype(np.float64) / 1000, np.ones(len(joints))]


def _info(split: str, images: Path, provenance: dict) -> TableInfo:
    return TableInfo(
        dataset="mpi_inf_3dhp",
        split=split,
        image_root=str(images.resolve()),
        keypoints_2d=MPI_INF_3DHP17,
        keypoints_3d=MPI_INF_3DHP17,
        keypoints_3d_origin="camera",
        provenance=provenance,
    )
