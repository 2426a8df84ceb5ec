"""MPII Human Pose: 16 keypoints, head rectangles and visibility of the people in frames of online videos.

Format: the README and evaluation code distributed with the data set (Andriluka et al., CVPR 2014), release
``mpii_human_pose_v1_u12``. Coordinates are MATLAB's. A keypoint that is listed is annotated; ``is_visible``
empty or 0 means that it is hidden; one that is not listed is not annotated.
"""

from pathlib import Path
from typing import Any

import numpy as np

from kouros.body.keypoints import MPII16
from kouros.data.importers.lsp import MATLAB_OFFSET
from kouros.data.importers.matlab import load_mat, many, number
from kouros.data.importers.mpii_people import PeopleList
from kouros.data.importers.running import ImportReport, require, row_blocks, run_import
from kouros.data.schema import DatasetError, Sample, TableInfo


def import_mpii(
    source: Path,
    out: Path,
    *,
    split: str = "train",
    people: Path | None = None,
    like_spin: bool = False,
    check_images: bool = True,
) -> ImportReport:
    """Import the annotated people of the training images; the test images' annotations are not public.

    Args:
        source: the folder with ``annotations/mpii_human_pose_v1_u12_1.mat`` and ``images/``.
        out: folder for the table; made where it is missing.
        split: name of the table; MPII itself has only ``train``, any other is what ``people`` lists.
        people: list of the people to import: the hourglass network's ``valid.h5``, HRNet's ``mpii_val.json``, or
            image names (``.txt``); default: all.
        like_spin: leave out people who lack a keypoint or have one at coordinates not above 0, as SPIN does.
        check_images: open each picture's header; leave out those that are missing or broken, and list them.

    Raises:
        DatasetError: the folder holds no MPII, the list is none, or another split than train was asked without it.
    """
    name = "mpii_human_pose_v1_u12_1.mat"
    folders = ("annotations/", "", "mpii_human_pose_v1_u12_2/")
    file = require("MPII", source, *(folder + name for folder in folders))
    if split != "train" and people is None:
        raise DatasetError(
            f"MPII's own files do not divide the training images, so who is {split!r} must be listed: give valid.h5 of "
            "the hourglass network or HRNet's mpii_val.json with --people."
        )
    wanted = None if people is None else PeopleList(people)
    release = load_mat(file, "RELEASE", squeeze=True)["RELEASE"]
    pictures, training = many(getattr(release, "annolist", None)), many(getattr(release, "img_train", None))
    if len(pictures) != len(training):
        raise DatasetError(f"{file}: annolist has {len(pictures)} images, img_train {len(training)}.")
    acts = many(getattr(release, "act", None))
    found = [
        (index, rank, picture, person)
        for index, (picture, train) in enumerate(zip(pictures, training, strict=True))
        if int(train) == 1 and (wanted is None or picture.image.name in wanted)
        for rank, person in enumerate(many(getattr(picture, "annorect", None)))
    ]

    def convert(entry: tuple[int, int, Any, Any]) -> Sample | None:
        index, rank, picture, person = entry
        keypoints, visible = _points(person)
        if keypoints is None:
            return None
        scale, objpos = number(getattr(person, "scale", None)), getattr(person, "objpos", None)
        head = [number(getattr(person, key, None)) for key in ("x1", "y1", "x2", "y2")]
        x, y = (number(getattr(objpos, key, None)) for key in ("x", "y"))
        if scale is None or x is None or y is None:
            raise ValueError("the person has keypoints but no scale or centre")
        center = np.array([x, y])
        if wanted is not None and not wanted.wants(picture.image.name, center):
            return None
        # MATLAB's coordinates not above 0, as SPIN finds them.
        if like_spin and not ((keypoints[:, 2] > 0).all() and (keypoints[:, :2] > MATLAB_OFFSET).all()):
            return None
        action = getattr(acts[index], "act_name", None) if index < len(acts) else None
        return Sample(
            image_path=f"images/{picture.image.name}",
            box_center=center + MATLAB_OFFSET,
            box_size=200 * scale,
            head_box=None if None in head else np.array(head, dtype=np.float64) + MATLAB_OFFSET,
            keypoints_2d=keypoints,
            visible=visible,
            action=action if isinstance(action, str) and action else None,
            person=f"{index}.{rank}",
        )

    info = TableInfo(
        dataset="mpii",
        split=split,
        image_root=str(source.resolve()),
        keypoints_2d=MPII16,
        provenance={
            "importer": "mpii",
            "source": str(file.resolve()),
            "people": str(people.resolve()) if people else None,
            "like_spin": like_spin,
            "keypoint_offset_px": MATLAB_OFFSET,
        },
    )
    units = row_blocks("people", found, convert, lambda e: f"image {e[0]} person {e[1]} (from 0)")
    return run_import(out, info, units, check_images=check_images)


def _points(person: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    points = many(getattr(getattr(person, "annopoints", None), "point", None))
    if not points:
        return None, None
    keypoints, visible = np.zeros((16, 3)), np.zeros(16, dtype=bool)
    for point in points:
        if not 0 <= int(point.id) < 16:
            raise ValueError(f"a keypoint has the id {point.id}; expected 0 to 15")
        keypoints[int(point.id)] = (point.x + MATLAB_OFFSET, point.y + MATLAB_OFFSET, 1)
        flag = np.ravel(getattr(point, "is_visible", ""))
        # A text in the release; files written anew may hold the number.
        visible[int(point.id)] = flag.size == 1 and str(flag[0]).strip() in ("1", "1.0", "True")
    return keypoints, visible
