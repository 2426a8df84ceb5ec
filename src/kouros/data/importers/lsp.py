"""Leeds Sports Pose: 1,000 training and 1,000 test images with 14 joints.

Format: the README distributed with the data set (Johnson and Everingham, BMVC 2010). Coordinates are
MATLAB's, the first pixel's centre being (1, 1). The third row of ``joints`` is 1 for hidden joints, the
opposite of LSP-extended's.
"""

from pathlib import Path

import numpy as np

from kouros.body.keypoints import LSP14
from kouros.data.importers.boxes import box_around
from kouros.data.importers.matlab import load_mat
from kouros.data.importers.running import ImportReport, require, row_blocks, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo

MATLAB_OFFSET = -0.5
"""Takes MATLAB's pixel coordinates to ours, where the first pixel's centre is (0.5, 0.5)."""


def import_lsp(
    source: Path, out: Path, *, split: str = "train", masks: Path | None = None, check_images: bool = True
) -> ImportReport:
    """Import ``lsp_dataset`` or ``lsp_dataset_original``: images 1 to 1000 are ``train``, the others
    ``test``.

    All joints are annotated, hidden ones by guess: their confidence is 1, and ``visible`` tells them apart.

    Args:
        source: the folder with ``joints.mat`` and ``images/``.
        out: folder for the table; made where it is missing.
        split: train or test.
        masks: folder of UPi-S1h, whose silhouettes and part maps (of ``lsp_dataset``'s size) are noted when
            given.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the folder holds no LSP; the split is unknown.
    """
    if split not in ("train", "test"):
        raise DatasetError(f"LSP has no split {split!r}; its splits are train and test.")
    joints = load_mat(require("LSP", source, "joints.mat"), "joints")["joints"]
    if joints.ndim != 3 or joints.shape[:2] != (3, 14):
        hint = " (14 first is LSP-extended)" if joints.ndim == 3 and joints.shape[0] == 14 else ""
        raise DatasetError(f"{source / 'joints.mat'}: joints has shape {joints.shape}; expected (3, 14, images){hint}.")
    if masks is not None:
        require("UPi-S1h", masks, "data/lsp")

    def convert(number: int) -> Sample:
        x, y, hidden = joints[:, :, number - 1].astype(np.float64)
        points = np.c_[x, y] + MATLAB_OFFSET
        center, size = box_around(points)
        return Sample(
            image_path=f"images/im{number:04d}.jpg",
            box_center=center,
            box_size=size,
            keypoints_2d=np.c_[points, np.ones(14)],
            visible=hidden == 0,
            mask_path=f"data/lsp/im{number:04d}_segmentation.png" if masks else None,
            parts_path=f"data/lsp/im{number:04d}_part_segmentation.png" if masks else None,
        )

    info = TableInfo(
        dataset="lsp",
        split=split,
        image_root=str(source.resolve()),
        keypoints_2d=LSP14,
        provenance={
            "importer": "lsp",
            "source": str(source.resolve()),
            "mask_root": str(masks.resolve()) if masks else None,
            "keypoint_offset_px": MATLAB_OFFSET,
        },
        part_set="lsp6" if masks else None,
    )
    numbers = range(1, joints.shape[2] + 1)
    numbers = numbers[:1000] if split == "train" else numbers[1000:]
    units = row_blocks("images", numbers, convert, lambda number: f"image {number}")
    return run_import(out, info, units, check_images=check_images)
