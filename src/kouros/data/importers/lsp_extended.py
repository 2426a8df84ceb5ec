"""Leeds Sports Pose Extended, and its high-resolution release HR-LSPET: up to 10,000 training images.

Format: the README distributed with the data set (Johnson and Everingham, CVPR 2011). The annotations were
crowd-sourced and exchange left and right here and there. The third column of ``joints`` is 1 for visible
joints, the opposite of LSP's; the coordinates of the others are unreliable, so they count as not annotated.
"""

from pathlib import Path

import numpy as np

from kouros.body.keypoints import LSP14
from kouros.data.importers.boxes import box_around
from kouros.data.importers.lsp import MATLAB_OFFSET
from kouros.data.importers.matlab import load_mat
from kouros.data.importers.running import ImportReport, image_size, require, row_blocks, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo


def import_lsp_extended(source: Path, out: Path, *, like_spin: bool = False, check_images: bool = True) -> ImportReport:
    """Import ``lspet_dataset`` (``images/im00001.jpg``) or ``hr-lspet`` (``im00001.png`` beside
    ``joints.mat``).

    Row i of the annotations belongs to the i-th image in sorted order of HR-LSPET, whose numbers have gaps, and to
    the image of number i + 1 otherwise. Joints that are flagged as invisible or lie outside the image count as not
    annotated.

    Args:
        source: the folder with ``joints.mat``.
        out: folder for the table; made where it is missing.
        like_spin: give all 14 joints confidence 1, whatever their flags, as SPIN does.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the folder holds no LSP-extended, or not as many images of HR-LSPET as annotations.
    """
    joints = load_mat(require("LSP-extended", source, "joints.mat"), "joints")["joints"]
    if joints.ndim != 3 or joints.shape[:2] != (14, 3):
        hint = " (3 first is LSP)" if joints.ndim == 3 and joints.shape[0] == 3 else ""
        raise DatasetError(f"{source / 'joints.mat'}: joints has shape {joints.shape}; expected (14, 3, images){hint}.")
    names = _image_names(source, joints.shape[2])

    def convert(row: int) -> Sample:
        points = joints[:, :2, row].astype(np.float64) + MATLAB_OFFSET
        seen = joints[:, 2, row] == 1
        size = image_size(source / names[row])
        if not isinstance(size, str):
            seen &= ((points >= 0) & (points <= size)).all(axis=1)
        known = np.ones(14, dtype=bool) if like_spin else seen
        center, side = box_around(points[known])
        return Sample(
            image_path=names[row],
            box_center=center,
            box_size=side,
            keypoints_2d=np.where(known[:, None], np.c_[points, np.ones(14)], 0.0),
            visible=seen,
        )

    info = TableInfo(
        dataset="lsp_extended",
        split="train",
        image_root=str(source.resolve()),
        keypoints_2d=LSP14,
        provenance={
            "importer": "lsp_extended",
            "source": str(source.resolve()),
            "like_spin": like_spin,
            "keypoint_offset_px": MATLAB_OFFSET,
        },
    )
    units = row_blocks("images", range(len(names)), convert, lambda row: names[row])
    return run_import(out, info, units, check_images=check_images)


def _image_names(source: Path, count: int) -> list[str]:
    """The image of each row."""
    pictures = sorted(source.glob("im*.png"))
    if not pictures:
        return [f"images/im{number:05d}.jpg" for number in range(1, count + 1)]
    if len(pictures) != count:
        raise DatasetError(
            f"LSP-extended: {source} has {len(pictures)} images im*.png for {count} annotations; rows go by the "
            "images' order, so complete the folder first."
        )
    return [picture.name for picture in pictures]
