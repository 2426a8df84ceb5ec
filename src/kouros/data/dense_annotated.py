"""Dense targets from what was annotated of a photo: pictures of masks, parts and IUV, run lengths, DensePose points.

They are warped as the crop is: labels by nearest neighbours, left and right exchanged in mirrored crops.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from kouros.body.keypoints import KeypointSet
from kouros.body.surface.parts import DENSEPOSE24, PartSet, part_set
from kouros.data.augment import mirror_iuv, mirror_rows
from kouros.data.crops import CropTransform, nearest
from kouros.data.dense import IGNORED, Look, Wants
from kouros.data.images import ImageError, read_image, read_labels
from kouros.data.schema import OWN_CHARTS, Sample, TableInfo
from kouros.data.spin_joints import spin49_slots, to_spin49
from kouros.render.maps import DenseMaps


def annotated_maps(sample: Sample, info: TableInfo, look: Look, wants: Wants) -> DenseMaps:
    """What is known of the maps that are wanted, of one person: a batch of one row.

    A mask is also known where parts or IUV are, and part labels where finer ones are. In mirrored crops IUV is known
    only on charts whose mirror images are (`kouros.data.augment.mirror_iuv`): the free body's.

    Raises:
        ImageError: a picture that the sample names cannot be used.
    """
    look = look.at(wants.map_size(look.crop.size))
    crop, seen = look.crop, np.logical_not(look.hidden)
    person = _mask(sample, info, crop) if "mask" in wants.maps else None
    more = bool(wants.parts) or ("mask" in wants.maps and person is None)
    labelled = _parts(sample, info, crop) if more else []
    iuv = _iuv(sample, info, crop) if more or "iuv" in wants.maps else None
    if iuv is not None:
        labelled.append((DENSEPOSE24, iuv[..., 0].astype(np.uint8)))
    if person is None and labelled:
        person = (labelled[0][1] > 0) & (labelled[0][1] != IGNORED)
    labels = {}
    for name in wants.parts:
        for finer, values in labelled:
            if (joined := _joined(finer, part_set(name))) is not None:
                exchange = joined[list(finer.mirror)] if crop.flipped else joined
                labels[name] = _row(_exchanged(values, exchange, sample) * seen)
                break
    if iuv is not None and crop.flipped:
        iuv = mirror_iuv(iuv) if info.provenance.get("surface") == OWN_CHARTS else None
    return DenseMaps(
        mask=_row(person & seen) if "mask" in wants.maps and person is not None else None,
        labels=labels,
        iuv=_row(iuv * seen[..., None]) if "iuv" in wants.maps and iuv is not None else None,
    )


def annotated_points(sample: Sample, info: TableInfo, look: Look) -> Float[np.ndarray, "points 5"]:
    """The DensePose points that the crop shows: x, y in its pixels, part, u, v.

    None in mirrored crops, as IUV there.
    """
    if sample.dense_points is None or (look.crop.flipped and info.provenance.get("surface") != OWN_CHARTS):
        return np.zeros((0, 5))
    xy = look.crop.points(np.asarray(sample.dense_points[:, :2], dtype=np.float64))
    iuv = np.asarray(sample.dense_points[:, 2:], dtype=np.float64)
    if look.crop.flipped:
        iuv = mirror_iuv(iuv[None])[0]
    column, row = np.floor(xy).astype(int).clip(0, look.crop.size - 1).T
    shown = ((xy >= 0) & (xy < look.crop.size)).all(axis=1) & ~look.hidden[row, column]
    return np.c_[xy, iuv][shown]


def annotated_keypoints(sample: Sample, info: TableInfo, points: KeypointSet) -> Float[np.ndarray, "points 3"]:
    """2D keypoints of any set, pixels of the photo and confidence: by way of SPIN's where the table has others.

    Raises:
        ValueError: the set has no point among SPIN's.
    """
    if sample.keypoints_2d is None or info.keypoints_2d is None:
        return np.zeros((len(points), 3))
    if info.keypoints_2d.names == points.names:
        return np.asarray(sample.keypoints_2d, dtype=np.float64)
    there = np.r_[to_spin49(sample.keypoints_2d, info.keypoints_2d), np.zeros((1, 3))]
    return there[[-1 if slot is None else slot for slot in spin49_slots(points)]]


def crop_keypoints(
    keypoints: Float[np.ndarray, "points 3"], points: KeypointSet, crop: CropTransform
) -> Float[np.ndarray, "points 3"]:
    """Keypoints of the photo in the crop, left and right exchanged where it is mirrored."""
    placed = np.c_[crop.points(keypoints[:, :2]), keypoints[:, 2]]
    return mirror_rows(placed, points.mirror) if crop.flipped else placed


def _mask(sample: Sample, info: TableInfo, crop: CropTransform) -> Bool[np.ndarray, "size size"] | None:
    if sample.mask is not None:
        return crop.labels(sample.mask.decode()) > 0
    if sample.mask_path is not None:
        return crop.labels(_read(sample, info, sample.mask_path)) > 0
    return None


def _parts(
    sample: Sample, info: TableInfo, crop: CropTransform
) -> list[tuple[PartSet, UInt8[np.ndarray, "size size"]]]:
    """Part labels in the crop, not yet exchanged, and their set."""
    if info.part_set is None:
        return []
    if sample.parts_path is not None:
        return [(part_set(info.part_set), crop.labels(_read(sample, info, sample.parts_path)))]
    if sample.parts is not None and sample.bbox is not None:
        corner, far = np.asarray(sample.bbox, dtype=np.float64).reshape(2, 2)
        stretch = np.array([sample.parts.width, sample.parts.height]) / (far - corner)
        to_map = crop.inverse * stretch[:, None]
        to_map[:, 2] -= corner * stretch
        return [(part_set(info.part_set), nearest(sample.parts.decode(), to_map, (crop.size, crop.size)))]
    return []


def _iuv(sample: Sample, info: TableInfo, crop: CropTransform) -> Float[np.ndarray, "size size 3"] | None:
    if sample.iuv_path is None:
        return None
    file = _root(info) / sample.iuv_path
    channels = read_image(file).pixels[..., ::-1]
    _require_size(file, channels.shape, sample)
    iuv = np.stack([crop.labels(np.ascontiguousarray(channels[..., c])) for c in range(3)], axis=-1)
    if iuv[..., 0].max(initial=0) > len(DENSEPOSE24):
        raise ImageError(f"{file}: the blue channel holds {iuv[..., 0].max()}; expected DensePose's parts, 0 to 24.")
    person = iuv[..., :1] > 0
    return np.concatenate([iuv[..., :1], iuv[..., 1:] / 255 * person], axis=-1).astype(np.float32)


def _read(sample: Sample, info: TableInfo, path: str) -> UInt8[np.ndarray, "height width"]:
    file = _root(info) / path
    labels = read_labels(file)
    _require_size(file, labels.shape, sample)
    return labels


def _root(info: TableInfo) -> Path:
    return Path(info.provenance.get("mask_root") or info.image_root)


def _require_size(file: Path, shape: tuple[int, ...], sample: Sample) -> None:
    if sample.image_size is not None and (shape[1], shape[0]) != sample.image_size:
        raise ImageError(
            f"{file} is {shape[1]} x {shape[0]} pixels, but the photo {sample.image_size[0]} x "
            f"{sample.image_size[1]}; import the data set again, with the annotations that belong to these photos."
        )


@cache
def _joined(finer: PartSet, coarser: PartSet) -> Int[np.ndarray, " labels"] | None:
    """For each label of a set, 0 first, that of the other set which has its part; None if some part is cut."""
    owner = [[c for c, joints in enumerate(coarser.joints, 1) if set(joints) >= set(part)] for part in finer.joints]
    if finer != coarser and (coarser.towards is not None or not all(len(found) == 1 for found in owner)):
        return None
    return np.arange(len(finer) + 1) if finer == coarser else np.array([0, *(found[0] for found in owner)])


def _exchanged(
    values: UInt8[np.ndarray, "size size"], exchange: Int[np.ndarray, " labels"], sample: Sample
) -> Int[np.ndarray, "size size"]:
    table = np.full(256, -1)
    table[: len(exchange)] = exchange
    table[IGNORED] = IGNORED
    result = table[values]
    if (result < 0).any():
        raise ImageError(
            f"{sample.image_path}: its part labels go up to {values[values != IGNORED].max()}; expected 0 to "
            f"{len(exchange) - 1}, or {IGNORED} for pixels without annotation."
        )
    return result


def _row(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))[None]
