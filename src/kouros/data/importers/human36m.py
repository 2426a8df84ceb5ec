"""Human3.6M as its owners distribute it: poses in CDF files, boxes as masks, videos, one ``metadata.xml``.

Format: the data set's documentation and release code (Ionescu et al., TPAMI 2014). For files in SPIN's form
use `spin_npz`. The 32 raw joints are brought to the 17 that are not copies or ends of hands and feet. Reading
CDF needs cdflib, and the boxes' MATLAB 7.3 files h5py.
"""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from kouros.body.keypoints import H36M17
from kouros.data.importers.boxes import box_around, box_of_corners
from kouros.data.importers.human36m_cameras import known_cameras
from kouros.data.importers.matlab import seconds_for
from kouros.data.importers.pickles import load_pickle
from kouros.data.importers.running import ImportReport, Problem, Unit, converted, require, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo
from kouros.isolated import IsolatedError, isolated

RAW_TO_17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
"""In the data set's own order: camera k of HMR's files is the k-th."""
SPLITS = {"train": ("S1", "S5", "S6", "S7", "S8"), "test": ("S9", "S11")}
_ACTIONS = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
"""What some subjects' files call two of the actions."""


def import_human36m(
    source: Path,
    out: Path,
    *,
    split: str = "train",
    stride: int = 5,
    images: Path | None = None,
    mosh: Path | None = None,
    check_images: bool = True,
) -> ImportReport:
    """Import all clips of the split's subjects that are there, every ``stride``-th frame from the first.

    Boxes are 0.9 times the data set's own (SPIN's factor) where ``MySegmentsMat`` is there, else around the
    joints. The clip S11 Directions of camera 54138969 is left out: its video is corrupt.

    Args:
        source: the folder with ``S1`` ... ``S11`` and, if it is there, ``metadata.xml`` with the cameras.
        out: folder for the table; made where it is missing.
        split: train or test.
        stride: keep every so many-th frame.
        images: folder of extracted pictures ``S9_Directions_1.54138969_000001.jpg``; default: the videos are
            named.
        mosh: folder of ``S1/<Action>_cam<k>_aligned.pkl`` with SMPL fits at 10 frames a second.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the folder holds no Human3.6M, or the split is unknown.
    """
    if split not in SPLITS:
        raise DatasetError(f"Human3.6M has no split {split!r}; its splits are train and test.")
    clips = []
    for subject in SPLITS[split]:
        positions = _folder(source / subject, "MyPoseFeatures", "D3_Positions_mono")
        files = [] if positions is None else sorted(positions.glob("*.cdf"))
        clips += [(subject, f) for f in files if not f.name.startswith("_ALL")]
    clips = [c for c in clips if not (c[0] == "S11" and c[1].name == "Directions.54138969.cdf")]
    if not clips:
        require("Human3.6M", source, f"{SPLITS[split][0]}/MyPoseFeatures/D3_Positions_mono/<Action>.<camera>.cdf")
    metadata = source / "metadata.xml"
    calibration = read_metadata(metadata) if metadata.is_file() else known_cameras()
    info = TableInfo(
        dataset="human36m",
        split=split,
        image_root=str((images or source).resolve()),
        keypoints_2d=H36M17,
        keypoints_3d=H36M17,
        keypoints_3d_origin="camera",
        provenance={
            "importer": "human36m",
            "source": str(source.resolve()),
            "stride": stride,
            "mosh": str(mosh.resolve()) if mosh else None,
            "distortion": "keypoints include the lens's distortion, intrinsics do not",
        },
    )
    units = (
        Unit(f"{subject}/{file.name}", partial(_rows, source, subject, file, stride, images, mosh, calibration))
        for subject, file in clips
    )
    return run_import(out, info, units, check_images=check_images)


Calibration = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


def _rows(
    source: Path,
    subject: str,
    file: Path,
    stride: int,
    images: Path | None,
    mosh: Path | None,
    calibration: Calibration,
) -> Iterator[Sample | Problem]:
    action, camera = file.stem.rsplit(".", 1)
    name_of_action = action.split(" ")[0]
    clip = f"{subject}/{action}.{camera}"
    try:
        flat = _folder(source / subject, "MyPoseFeatures", "D2_Positions")
        if flat is None:
            raise DatasetError(f"{source / subject} has no MyPoseFeatures/D2_Positions")
        joints = _read_cdf(file, 3)[:, list(RAW_TO_17)] / 1000
        pixels = _read_cdf(flat / file.name, 2)[:, list(RAW_TO_17)]
        boxes = _folder(source / subject, "MySegmentsMat", "ground_truth_bb")
        masks = None if boxes is None else _mask_boxes(boxes / f"{file.stem}.mat")
    except (ValueError, OSError) as error:
        yield Problem(clip, str(error))
        return
    fit = None
    if mosh is not None:
        try:
            fit = _mosh_fit(mosh / subject, action, CAMERAS.index(camera))
        except (ValueError, OSError) as error:
            yield Problem(f"{clip}, its fits (the clip is imported without)", str(error))
    intrinsics, world_to_camera = calibration.get((subject, camera), (None, None))
    video = source / subject / "Videos" / f"{file.stem}.mp4"
    lengths = [len(joints), len(pixels), None if masks is None else len(masks)]
    # The videos' lengths differ from the poses'.
    lengths.append(None if images else _video_length(video))
    count = min(n for n in lengths if n is not None)

    def convert(frame: int) -> Sample:
        name = f"{subject}_{action.replace(' ', '_')}.{camera}_{frame + 1:06d}.jpg"
        if masks is None:
            center, size = box_around(pixels[frame])
        else:
            center, size = box_of_corners(masks[frame, :2], masks[frame, 2:], 0.9)
        fitted = fit is not None and frame % 5 == 0 and frame // 5 < len(fit[0])
        return Sample(
            image_path=name if images else f"{subject}/Videos/{file.stem}.mp4",
            box_center=center,
            box_size=size,
            bbox=None if masks is None else masks[frame],
            keypoints_2d=np.c_[pixels[frame], np.ones(17)],
            keypoints_3d=np.c_[joints[frame], np.ones(17)],
            pose=fit[0][frame // 5] if fit is not None and fitted else None,
            betas=fit[1] if fit is not None and fitted else None,
            gender="neutral" if fitted else None,
            intrinsics=intrinsics,
            world_to_camera=world_to_camera,
            subject=subject,
            action=_ACTIONS.get(name_of_action, name_of_action),
            sequence=f"{subject}_{action}",
            camera=camera,
            frame=frame,
        )

    yield from converted(range(0, count, stride), convert, lambda frame: f"{clip} frame {frame}")


def _video_length(path: Path) -> int | None:
    """Pictures in a video; None where it cannot be read."""
    if not path.is_file():
        return None
    video = cv2.VideoCapture(str(path))
    try:
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        return count if count > 0 else None
    finally:
        video.release()


def _folder(parent: Path, *names: str) -> Path | None:
    """A folder below ``parent``; tools that unpack the data set differ in case and underscores."""
    for name in names:
        wanted = name.lower().replace("_", "")
        entries = sorted(parent.iterdir()) if parent.is_dir() else []
        found = [e for e in entries if e.is_dir() and e.name.lower().replace("_", "") == wanted]
        if not found:
            return None
        parent = found[0]
    return parent


def _read_cdf(path: Path, axes: int) -> np.ndarray:
    """(frames, 32, axes) of the variable ``Pose``."""
    try:
        import cdflib  # noqa: F401 - the other process needs it
    except ImportError:
        raise ImportError(f"{path}: Human3.6M's CDF files need cdflib: pip install 'kouros[train]'.") from None
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file.")
    try:
        values = isolated(read_pose_variable, str(path), seconds=seconds_for(path))
    except (IsolatedError, OSError) as error:
        raise DatasetError(f"{path}: this CDF file cannot be read ({error}).") from None
    if values.ndim != 3 or values.shape[0] != 1 or values.shape[2] != 32 * axes:
        raise DatasetError(f"{path}: Pose has shape {values.shape}; expected (1, frames, {32 * axes}).")
    return values.reshape(-1, 32, axes)


def read_pose_variable(path: str) -> np.ndarray:
    """What cdflib makes of a file; damaged ones keep it busy for ever, so this runs in another process."""
    import cdflib

    return np.asarray(cdflib.CDF(path).varget("Pose"), dtype=np.float64)


def _mask_boxes(path: Path) -> np.ndarray:
    """(frames, 4) x0, y0, x1, y1 of the masks, which are stored transposed."""
    try:
        import h5py  # noqa: F401 - the other process needs it
    except ImportError:
        raise ImportError(f"{path}: Human3.6M's boxes need h5py: pip install 'kouros[train]'.") from None
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file.")
    try:
        return isolated(read_mask_boxes, str(path), seconds=seconds_for(path))
    except (IsolatedError, OSError) as error:
        raise DatasetError(f"{path}: this file of masks cannot be read ({error}).") from None


def read_mask_boxes(path: str) -> np.ndarray:
    """Boxes of a file's masks; read in another process, likewise."""
    import h5py

    boxes = []
    with h5py.File(path, "r") as file:
        for reference in file["Masks"][:, 0]:
            mask = np.asarray(file[reference]) == 1
            across, down = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
            empty = not len(across)
            boxes.append([0.0] * 4 if empty else [across[0], down[0], across[-1] + 1, down[-1] + 1])
    return np.array(boxes, dtype=np.float64)


def _mosh_fit(folder: Path, action: str, camera: int) -> tuple[np.ndarray, np.ndarray]:
    content = load_pickle(folder / f"{action}_cam{camera}_aligned.pkl")
    if "new_poses" not in content or "betas" not in content:
        raise DatasetError(f"{folder / action}: the fit has no new_poses and betas.")
    poses = np.array(content["new_poses"], dtype=np.float64).reshape(-1, 72)
    # These fits rest upside down: mmhuman3d's converter turns the root by half a turn about x first.
    half_turn = Rotation.from_rotvec([np.pi, 0, 0])
    poses[:, :3] = (Rotation.from_rotvec(poses[:, :3]) * half_turn).as_rotvec()
    return poses, np.ravel(content["betas"])[:10].astype(np.float64)


def read_metadata(path: Path) -> Calibration:
    """Intrinsics (fx, fy, cx, cy; pixels) and world-to-camera (3, 4; metres) by subject and camera.

    Raises:
        DatasetError: the file is no metadata of Human3.6M.
    """
    try:
        element = ElementTree.parse(path).getroot().find("w0")
        text = "" if element is None or element.text is None else element.text
        numbers = np.array([float(n) for n in re.split(r"[\s,;\[\]]+", text) if n])
        outer, inner = numbers[:264].reshape(4, 11, 6), numbers[264:300].reshape(4, 9)
    except (ElementTree.ParseError, ValueError, OSError) as error:
        raise DatasetError(f"{path}: this is no metadata.xml of Human3.6M ({error}).") from None
    result = {}
    for index, camera in enumerate(CAMERAS):
        for subject in range(11):
            a, b, g = outer[index, subject, :3]
            # The release's code builds camera to world as the transpose of this product.
            turn = (Rotation.from_euler("x", a) * Rotation.from_euler("y", b) * Rotation.from_euler("z", g)).as_matrix()
            shift = -turn @ outer[index, subject, 3:] / 1000
            result[f"S{subject + 1}", camera] = (inner[index, :4], np.c_[turn, shift])
    return result
