"""Leeds Sports Pose Extended, and its high-resolution release HR-LSPET: up to 10,000 training images.

Format: the README distributed with the data set (Johnson and Everingham, CVPR 2011). The annotations were
crowd- sourced and exchange left and right here and there. The third column of ``joints`` is 1 for visible
joints, the opposite of LSP's; the coordinates of the others are unreliable, so they count as not annotated.
"""

from pathlib import Path

import numpy as np

from kouros.body.keypoints import LSP14
from kouros.data.importers.boxes import box_around
from kouros.data.importers.lsp import MATLAB_OFFSET
from kouros.data.importers.matlab import load_mat
from kouros.data.importers.running import DatasetError, ImportReport, require, row_blocks, run_import
from kouros.data.schema import Sample, TableInfo


def import_lsp_extended(source: Path, out: Path, *, check_images: bool = True) -> ImportReport:
    """Import ``lspet_dataset`` (``images/im00001.jpg``) or ``hr-lspet`` (``im00001.png`` beside
    ``joints.mat``).

    Row i of the annotations belongs to the i-th image in sorted order, since HR-LSPET's numbers have gaps.

    Raises:
        DatasetError: the folder holds no LSP-extended, or not as many images as annotations.
    """
    joints = load_mat(require("LSP-extended", source, "joints.mat"), "joints")["joints"]
    if joints.ndim != 3 or joints.shape[:2] != (14, 3):
        hint = " (3 first is LSP)" if joints.ndim == 3 and joints.shape[0] == 3 else ""
        raise DatasetError(f"{source / 'joints.mat'}: joints has shape {joints.shape}; expected (14, 3, images){hint}.")
    images = sorted(source.glob("im*.png")) or sorted((source / "images").glob("im*.jpg"))
    if len(images) != joints.shape[2]:
        raise DatasetError(
            f"LSP-extended: {source} has {len(images)} images (im*.png, or images/im*.jpg) for "
            f"{joints.shape[2]} "
            f"annotations; rows go by the images' order, so complete the folder first."
        )

    def convert(row: int) -> Sample:
        points = joints[:, :2, row].astype(np.float64) + MATLAB_OFFSET
        seen = joints[:, 2, row] == 1
        center, size = box_around(points[seen])
        return Sample(
            image_path=images[row].relative_to(source).as_posix(),
            box_center=center,
            box_size=size,
            keypoints_2d=np.where(seen[:, None], np.c_[points, np.ones(14)], 0.0),
            visible=seen,
        )

    info = TableInfo(
        dataset="lsp_extended",
        split="train",
        image_root=str(source.resolve()),
        keypoints_2d=LSP14,
        provenance={
            "importer": "lsp_extended", "source": str(source.resolve()), "keypoint_offset_px": MATLAB_OFFSET
        },
    )  # fmt: skip
    units = row_blocks("images", range(len(images)), convert, lambda row: images[row].name)
    return run_import(out, info, units, check_images=check_images)
