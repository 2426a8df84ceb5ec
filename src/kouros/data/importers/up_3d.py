"""UP-3D: photos from LSP, LSP-extended and MPII with SMPL fits that people judged good.

Format: the files and toolkit distributed with the data set (Lassner et al., CVPR 2017). The fits are of the
neutral body, in the camera of a crop of the image.
"""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from kouros.archives import read_npy
from kouros.body.keypoints import LSP14
from kouros.data.images import open_picture
from kouros.data.importers.boxes import box_of_corners
from kouros.data.importers.pickles import load_pickle
from kouros.data.importers.running import ImportReport, require, row_blocks, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo


def import_up_3d(source: Path, out: Path, *, split: str = "train", check_images: bool = True) -> ImportReport:
    """Import a list of UP-3D.

    Args:
        source: the folder with ``train.txt`` and ``00000_image.png``.
        out: folder for the table; made where it is missing.
        split: name of the list: train, val, trainval or test.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: there is no such list.
    """
    listing = require("UP-3D", source, f"{split}.txt")
    stems = [line.strip().lstrip("/").removesuffix("_image.png") for line in listing.read_text().splitlines()]

    def convert(stem: str) -> Sample:
        joints = read_npy(source / f"{stem}_joints.npy", ((3, 14), "float64"))
        body = load_pickle(source / f"{stem}_body.pkl")
        view = Rotation.from_rotvec(np.ravel(body["rt"]))
        pose = np.array(body["pose"], dtype=np.float64).ravel()
        pose[:3] = (view * Rotation.from_rotvec(pose[:3])).as_rotvec()
        # A turned view moves the translation by the resting pelvis, which only the body model knows.
        still = view.magnitude() < 1e-9
        translation = np.ravel(body["trans"]).astype(np.float64) + np.ravel(body["t"])
        with open_picture(source / f"{stem}_render_light.png") as render:
            drawn = np.asarray(render.convert("RGB")).min(axis=2) < 255
        rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
        if not len(rows):
            raise ValueError(f"{stem}_render_light.png shows no body")
        low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1.0
        center, size = box_of_corners(low, high)
        flags = joints[2] > 0
        return Sample(
            image_path=f"{stem}_image.png",
            box_center=center,
            box_size=size,
            bbox=np.concatenate([low, high]),
            keypoints_2d=np.where(flags[:, None], np.c_[joints[:2].T, flags], 0.0),
            visible=flags,
            pose=pose,
            betas=np.ravel(body["betas"])[:10],
            transl=translation if still else None,
            gender="neutral",
            intrinsics=_intrinsics(source / f"{stem}_fit_crop_info.txt", float(np.ravel(body["f"])[0])),
            person=stem,
        )

    info = TableInfo(
        dataset="up_3d",
        split=split,
        image_root=str(source.resolve()),
        keypoints_2d=LSP14,
        provenance={"importer": "up_3d", "source": str(listing.resolve())},
    )
    units = row_blocks("images", [s for s in stems if s], convert, lambda stem: stem)
    return run_import(out, info, units, check_images=check_images)


def _intrinsics(path: Path, focal_length: float) -> np.ndarray:
    """Of the whole image: the fit saw the crop y0 y1 x0 x1 of it, resized to a height and a width."""
    numbers = [int(n) for n in path.read_text().split()]
    if len(numbers) != 6:
        raise DatasetError(f"{path.name} has {len(numbers)} numbers; expected 6")
    height, width, y0, y1, x0, x1 = numbers
    scale = np.array([(x1 - x0) / width, (y1 - y0) / height])
    return np.array([*(focal_length * scale), (x0 + x1) / 2, (y0 + y1) / 2])
