"""MoveNet's two networks: 17 keypoints of the person in a region, and of up to six people in a whole picture.

The networks' layers, and how keypoints are read off their answers, are in `kouros.networks.movenet`; here they run in
LiteRT, which is the fastest on a CPU (docs/results/movenet.md). Thunder is at ease with people turned by up to a right
angle from upright; beyond that its points are less sure, and some change places. Both may be used by several threads.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float16, UInt8

from kouros.body.keypoints import COCO17
from kouros.detection.model_files import Network, packaged_movenet
from kouros.detection.regions import Pyramid, Region
from kouros.networks.movenet import (
    COARSEST,
    KEYPOINTS,
    PIXEL,
    THUNDER_SIZE,
    MultiPoseHeads,
    SeveralPeople,
    ThunderHeads,
    packed_features,
)

_MIRROR = np.array(COCO17.mirror)
_STRIDE = 4
_THUNDER_ANSWERS = (1, KEYPOINTS, 2 * KEYPOINTS, 2 * KEYPOINTS)
_MULTIPOSE_ANSWERS = (1, 2, 2, KEYPOINTS, 2 * KEYPOINTS, 2 * KEYPOINTS)
_MAPS = ((1, 64, 64, 40), (1, 32, 32, 56), (1, 16, 16, 168), (1, 8, 8, 560))
"""The trunk's last map of each size, from within the network."""
_SIZES_KEPT = 6
"""Each size of picture is a network of its own, 30 to 90 MB a thread."""


@dataclass(frozen=True, eq=False)
class SeenKeypoints:
    """What Thunder saw in one region: always a person. Left and right are the person's, even in a mirror."""

    region: Region
    points: Float[np.ndarray, "17 2"]
    """COCO's, pixels of the image."""
    confidence: Float[np.ndarray, " 17"]
    """In [0, 1], as the network gives it."""
    insides: Sequence[Float[torch.Tensor, "1 _ _ _"]]
    """The heat of the keypoints, and the trunk's maps, as they came out of the network."""

    @cached_property
    def features(self) -> Float16[np.ndarray, "16 16 421"]:
        """What the network made of the region on the way, for others to go on from: `packed_features`. In a mirror, of
        the mirror image. Most looks are at nobody, so it is made when asked for."""
        heat, *maps = self.insides
        return packed_features(heat.sigmoid(), maps)[0].half().numpy()


class Thunder:
    """The network for one person in a square.

    Args:
        threads: CPU threads; default: as many as there are cores, at most 4.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        # Here, because it takes flatbuffers, which machines that train need not have.
        from kouros.networks.tflite_writing import answering_too

        cells = (THUNDER_SIZE // _STRIDE) ** 2
        answers = (*(numbers * cells for numbers in _THUNDER_ANSWERS), *(math.prod(shape) for shape in _MAPS))
        shape = (1, THUNDER_SIZE, THUNDER_SIZE, 3)
        model = answering_too(packaged_movenet().thunder, _MAPS)
        self.network = Network(model, shape, answers, threads or _default_threads())

    def look(self, image: Pyramid, region: Region, within: Float[np.ndarray, " 4"] | None = None) -> SeenKeypoints:
        """The keypoints of the person nearest to the middle of a region; beyond the image all is black.

        Args:
            within: x0, y0, x1, y1, pixels of the image: all beyond is made black too, so that neighbours cannot be
                taken for the person.
        """
        crop = image.crop(_between_pixels(region, THUNDER_SIZE), THUNDER_SIZE, replicate_border=False)
        if within is not None:
            x0, y0, x1, y1 = within.tolist()
            corners = region.to_crop(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])) * THUNDER_SIZE
            shown = cv2.fillConvexPoly(np.zeros(crop.shape[:2], np.uint8), np.round(corners).astype(np.int32), 1)
            crop = crop * shown[..., None]
        answers = _answers(self.network, crop)
        (found,) = ThunderHeads(*answers[:4]).keypoints().numpy().astype(np.float64)
        # In a mirror the network calls the person's left hand the right one.
        found = found[_MIRROR] if region.mirrored else found
        return SeenKeypoints(region, region.to_image(found[:, :2]), found[:, 2], (answers[1], *answers[4:]))

    def look_all(self, image: Pyramid, regions: Sequence[Region]) -> list[SeenKeypoints]:
        """The same for several regions; no faster than one by one."""
        return [self.look(image, region) for region in regions]

    def read(self, crops: UInt8[np.ndarray, "crops 256 256 3"]) -> Float[np.ndarray, "crops 17 3"]:
        """Of RGB crops: x, y, confidence; (0, 0) is the first corner of the crop, (1, 1) the opposite one."""
        answers = [_answers(self.network, crop)[:4] for crop in crops]
        heads = ThunderHeads(*(torch.cat(parts) for parts in zip(*answers, strict=True)))
        return heads.keypoints().numpy().astype(np.float64)


@dataclass(frozen=True, eq=False)
class SeenPerson:
    """One of the up to six people that MultiPose sees."""

    score: float
    """In [0, 1]: ``likelihood`` times the mean confidence of the keypoints that are not hopeless."""
    likelihood: float
    """In [0, 1]: that a person's middle lies where it was seen."""
    box: Float[np.ndarray, " 4"]
    """x0, y0, x1, y1, pixels of the image; upright, around the box seen in a region that is turned."""
    points: Float[np.ndarray, "17 2"]
    """COCO's, pixels of the image. Left and right are the person's, even in a mirror."""
    confidence: Float[np.ndarray, " 17"]
    """In [0, 1], as the network gives it: less the further from where the middle expects the point."""


class MultiPose:
    """The network for up to six people in a picture of any shape.

    Args:
        threads: CPU threads; default: as many as there are cores, at most 4.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        self._threads = threads or _default_threads()
        self.network = lru_cache(_SIZES_KEPT)(self._load)

    def _load(self, rows: int, columns: int) -> Network:
        # Here, because it takes flatbuffers, which machines that train need not have.
        from kouros.networks.tflite_writing import resized

        cells = (rows // _STRIDE) * (columns // _STRIDE)
        model = resized(packaged_movenet().multipose, rows, columns)
        answers = tuple(numbers * cells for numbers in _MULTIPOSE_ANSWERS)
        return Network(model, (1, rows, columns, 3), answers, self._threads)

    def find(self, image: Pyramid, side: int = 320) -> list[SeenPerson]:
        """People in a whole image, best middle first; most are nobody: judge by the score.

        Args:
            side: pixels to which the image's longer side is brought, a multiple of 32. The network was made for 256;
                larger ones show smaller people and take longer.

        Raises:
            ValueError: ``side`` is no positive multiple of 32.
        """
        longest = max(image.width, image.height)
        rows, columns = (_covering(length * side / longest) for length in (image.height, image.width))
        return self._find(
            image, Region(longest / 2, longest / 2, float(longest)), side, min(rows, side), min(columns, side)
        )

    def find_in(self, image: Pyramid, region: Region, side: int = 320) -> list[SeenPerson]:
        """The same for one square piece of an image, turned and mirrored as the region is.

        Raises:
            ValueError: ``side`` is no positive multiple of 32.
        """
        return self._find(image, region, side, side, side)

    def read(self, picture: UInt8[np.ndarray, "rows columns 3"]) -> SeveralPeople:
        """People in an RGB picture whose sides are multiples of 32 pixels; a batch of one."""
        return MultiPoseHeads(*_answers(self.network(*picture.shape[:2]), picture)).people()

    def _find(self, image: Pyramid, region: Region, side: int, rows: int, columns: int) -> list[SeenPerson]:
        """In the first rows and columns of a region brought to ``side`` pixels."""
        if side < COARSEST or side % COARSEST:
            raise ValueError(f"side must be a multiple of {COARSEST} pixels, not {side}.")
        crop = image.crop(_between_pixels(region, side), side, replicate_border=False)[:rows, :columns]
        found = self.read(crop)
        part = np.array([columns, rows]) / side
        keypoints = found.keypoints[0].numpy().astype(np.float64)
        if region.mirrored:
            keypoints = keypoints[:, _MIRROR]
        points = region.to_image(keypoints[..., :2] * part)
        boxes = found.boxes[0].numpy().astype(np.float64)
        corners = region.to_image(boxes[:, _CORNERS].reshape(-1, 4, 2) * part)
        return [
            SeenPerson(
                score=float(found.score[0, k]),
                likelihood=float(found.likelihood[0, k]),
                box=np.concatenate([corners[k].min(axis=0), corners[k].max(axis=0)]),
                points=points[k],
                confidence=keypoints[k, :, 2],
            )
            for k in range(len(boxes))
        ]


_CORNERS = (0, 1, 2, 1, 2, 3, 0, 3)
"""Of a box x0, y0, x1, y1: its four corners' coordinates."""


def _answers(network: Network, crop: UInt8[np.ndarray, "rows columns 3"]) -> list[Float[torch.Tensor, "1 _ _ _"]]:
    """The heads' maps, numbers first, as `kouros.networks` has them."""
    picture = crop[None].astype(np.float32) * np.float32(PIXEL) - np.float32(1)
    return [torch.from_numpy(answer).permute(0, 3, 1, 2) for answer in network(picture)]


def _between_pixels(region: Region, size: int) -> Region:
    """Where `Pyramid.crop`, which samples at 0, 1, ... of ``size``, meets the centres of pixels, as MoveNet does."""
    middle = 0.5 + 0.5 / size
    x, y = region.to_image(np.array([middle, middle])).tolist()
    return Region(x, y, region.size, region.angle, region.mirrored)


def _covering(pixels: float) -> int:
    """The least multiple of 32 that is not smaller."""
    return COARSEST * max(1, int(np.ceil(pixels / COARSEST - 1e-9)))


def _default_threads() -> int:
    return min(4, os.cpu_count() or 1)
