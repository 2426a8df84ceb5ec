"""DensePose-COCO: COCO's people with points whose place on the body's surface was annotated, and coarse part
masks.

Format: the annotation format in the data set's own repository (Güler et al., CVPR 2018). Points are in the
person's box stretched to 256 x 256; as in its evaluation code, coordinate 255 is the box's far side.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kouros.body.keypoints import COCO17
from kouros.data.importers.coco import coco_person, decompress_counts, mask_runs, read_coco_json
from kouros.data.importers.running import ImportReport, require, row_blocks, run_import
from kouros.data.schema import RunLengths, Sample, TableInfo


def import_densepose(
    source: Path,
    out: Path,
    *,
    split: str = "minival",
    images: Path | None = None,
    check_images: bool = True,
) -> ImportReport:
    """Import the people that have dense points.

    Args:
        source: a file ``densepose_coco_2014_<split>.json``, or the folder that holds it (or ``annotations/``
            with it).
        out: folder for the table; made where it is missing.
        split: train, valminusminival or minival.
        images: folder of COCO's ``train2014`` or ``val2014`` images; default: that folder in the source.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the file or the images' folder is missing, or the file is no COCO annotation file.
    """
    name = f"densepose_coco_2014_{split}.json"
    file = source if source.is_file() else require("DensePose-COCO", source, name, f"annotations/{name}")
    pictures_of = "train2014" if split == "train" else "val2014"
    folder = images or require(
        "DensePose-COCO", source if source.is_dir() else source.parent, pictures_of, f"../{pictures_of}"
    )
    content = read_coco_json(file)
    pictures = {picture["id"]: picture for picture in content["images"]}

    def convert(annotation: dict[str, Any]) -> Sample | None:
        if "dp_x" not in annotation:
            return None
        columns = [np.array(annotation[key], dtype=np.float64) for key in ("dp_x", "dp_y", "dp_I", "dp_U", "dp_V")]
        points = np.stack(columns, axis=1)
        if not ((points[:, 2] >= 1) & (points[:, 2] <= 24)).all():
            raise ValueError(f"dp_I holds patches outside 1 to 24: {sorted(set(points[:, 2]))}")
        x, y, width, height = annotation["bbox"]
        points[:, :2] = np.array([x, y]) + points[:, :2] * np.array([width, height]) / 255
        keypoints = np.array(annotation.get("keypoints") or np.zeros(51), dtype=np.float64).reshape(17, 3)
        labelled = keypoints if (keypoints[:, 2] > 0).any() else None
        person = coco_person(annotation, pictures[annotation["image_id"]], labelled)
        fields = {**vars(person), "dense_points": points, "parts": part_map(annotation.get("dp_masks", []))}
        return Sample(**fields)

    info = TableInfo(
        dataset="densepose_coco",
        split=split,
        image_root=str(folder.resolve()),
        keypoints_2d=COCO17,
        provenance={"importer": "densepose", "source": str(file.resolve()), "keypoint_offset_px": 0.5},
        part_set="densepose14",
    )
    people = content["annotations"]
    units = row_blocks("people", people, convert, lambda a: f"annotation {a.get('id')}")
    return run_import(out, info, units, check_images=check_images)


def part_map(masks: list[Any]) -> RunLengths | None:
    """Coarse parts 1 to 14 over the box: mask i paints i over the ones before; None without masks."""
    painted: np.ndarray | None = None
    for part, mask in enumerate(masks, start=1):
        if not mask:
            continue
        height, width = mask["size"]
        area = mask_runs(decompress_counts(mask["counts"]), height, width).decode()
        if painted is None:
            painted = np.zeros((height, width), dtype=np.uint8)
        painted[area > 0] = part
    return None if painted is None else RunLengths.encode(painted)
