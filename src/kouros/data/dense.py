"""What a batch carries of pixels besides colours: what a system asks for, and the values that answer it.

Maps are `kouros.render.maps.DenseMaps`. They are drawn from bodies (`kouros.data.dense_drawn`) or warped from what was
annotated (`kouros.data.dense_annotated`), always as the crop shows the person: turned, scaled, shifted, mirrored, and
behind the same occluder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.batched import Batched
from kouros.body.keypoints import KEYPOINT_SETS
from kouros.body.surface.parts import PART_SETS
from kouros.data.crops import CropTransform
from kouros.data.occlusion import Occluder
from kouros.render.maps import IMAGE_MAPS, UV_MAPS, DenseMaps, ImageMap, UvMap

IGNORED = 255
"""Label of pixels of which annotators say nothing: neither a part nor the background."""

_CHANNELS = {"iuv": 3, "uv": 2, "location": 3, "joint": 3, "displacement": 3, "normals": 3} | {
    "uv_location": 3, "uv_joint": 3, "uv_displacement": 3
}  # fmt: skip


@dataclass(frozen=True)
class HeatmapWants:
    """Heatmaps that a system learns 2D points from."""

    points: str
    """Which keypoint set's."""
    sigma: float = 1.5
    """Of the Gaussian around each point, pixels of the map."""

    def __post_init__(self) -> None:
        if self.points not in KEYPOINT_SETS:
            raise ValueError(f"There is no keypoint set {self.points!r}; the sets are: {', '.join(KEYPOINT_SETS)}.")
        if not self.sigma > 0:
            raise ValueError(f"sigma is {self.sigma}; expected a positive number of pixels.")


@dataclass(frozen=True)
class Wants:
    """What a system asks of each batch besides points and parameters. By default pictures, and nothing dense."""

    image: bool = True
    """Whether it looks at colours; without them nothing is read, or drawn in colour, and crops are black."""
    maps: tuple[ImageMap | UvMap, ...] = ()
    """Fields of `DenseMaps`."""
    parts: tuple[str, ...] = ()
    """Part sets (`kouros.body.surface.parts.PART_SETS`) whose label maps it learns from."""
    stride: int = 1
    """Pixels of the crop to a pixel of the maps and heatmaps, along each side."""
    uv_size: int = 128
    """Side of maps in UV space, texels."""
    joints: str = "lsp14"
    """The joints of joint maps, "lsp14" or "smpl24"."""
    dense_points: int = 0
    """How many DensePose points a person it takes at most."""
    heatmaps: HeatmapWants | None = None

    def __post_init__(self) -> None:
        for what, names, all_names in (
            ("map", self.maps, (*IMAGE_MAPS, *UV_MAPS)),
            ("part set", self.parts, tuple(PART_SETS)),
        ):
            for name in names:
                if name not in all_names:
                    raise ValueError(f"There is no {what} {name!r}; choose from: {', '.join(all_names)}.")
        if self.joints not in ("lsp14", "smpl24"):
            raise ValueError(f"joints is {self.joints!r}; joint maps are of lsp14 or smpl24.")
        if self.stride < 1 or self.uv_size < 2 or self.dense_points < 0:
            raise ValueError(
                f"stride is {self.stride}, uv_size {self.uv_size} and dense_points {self.dense_points}; expected "
                "at least 1, 2 and 0."
            )

    @property
    def dense(self) -> bool:
        """Whether it asks for any map."""
        return bool(self.maps or self.parts)

    @property
    def pixels(self) -> bool:
        """Whether it asks for anything that depends on what is seen."""
        return bool(self.parts) or any(name in (*IMAGE_MAPS, "uv_visible") for name in self.maps)

    def map_size(self, crop_size: int) -> int:
        """Side of maps and heatmaps, pixels.

        Raises:
            ValueError: the crop's side is no multiple of the stride.
        """
        if crop_size % self.stride:
            raise ValueError(f"Crops of {crop_size} pixels have no maps of stride {self.stride}; expected a multiple.")
        return crop_size // self.stride


@dataclass(frozen=True, eq=False)
class Look:
    """How a person is looked at."""

    crop: CropTransform
    photo: tuple[int, int] | None = None
    """Width and height, pixels: beyond them nothing is seen. None: that is not known."""
    occluder: Occluder | None = None
    """What covers some of the crop."""

    def at(self, size: int) -> "Look":
        """The same at another resolution."""
        crop, occluder = replace(self.crop, size=size), self.occluder
        if occluder is not None:
            x, y = (c * size / self.crop.size for c in occluder.center)
            occluder = replace(occluder, center=(x, y))
        return Look(crop, self.photo, occluder)

    @property
    def hidden(self) -> Bool[np.ndarray, "size size"]:
        """Pixels of the crop whose centres lie beyond the photo, or behind the occluder."""
        size = self.crop.size
        hidden = np.zeros((size, size), dtype=bool)
        if self.photo is not None:
            centers = np.arange(size) + 0.5
            for (by_x, by_y, first), limit in zip(self.crop.inverse, self.photo, strict=True):
                place = by_x * centers + (by_y * centers + first)[:, None]
                hidden |= (place < 0) | (place >= limit)
        return hidden if self.occluder is None else hidden | self.occluder.mask(size)


@dataclass(frozen=True)
class DensePoints(Batched):
    """Pixels whose place on the body's surface is known: equally many for everyone, of which the valid ones count."""

    pixels: Float[Tensor, "*batch points 2"]
    """x, y, pixels of the crop."""
    part: Int[Tensor, "*batch points"]
    """DensePose's, 1 to 24; 0 where not valid."""
    uv: Float[Tensor, "*batch points 2"]
    """On the part's chart, in [0, 1]."""
    valid: Bool[Tensor, "*batch points"]

    @staticmethod
    def chosen(rows: Sequence[Float[np.ndarray, "_ 5"]], count: int, seeds: Sequence[int]) -> "DensePoints":
        """Of each person's points (x, y, part, u, v) all, or ``count`` drawn by the person's seed."""
        table = np.zeros((len(rows), count, 5), dtype=np.float32)
        valid = np.zeros((len(rows), count), dtype=bool)
        for i, (points, seed) in enumerate(zip(rows, seeds, strict=True)):
            if len(points) > count:
                points = points[np.random.default_rng(seed).choice(len(points), count, replace=False)]
            table[i, : len(points)] = points
            valid[i, : len(points)] = True
        values = torch.from_numpy(table)
        return DensePoints(values[..., :2], values[..., 2].long(), values[..., 3:], torch.from_numpy(valid))


@dataclass(frozen=True)
class Heatmaps(Batched):
    """Where 2D points are, as pictures."""

    points: str
    """Name of their keypoint set."""
    values: Float[Tensor, "*batch points h w"]
    """A Gaussian of height 1 around each point; 0 everywhere where it is outside of the crop, or not known."""
    known: Bool[Tensor, "*batch points"]

    @staticmethod
    def of(wants: HeatmapWants, keypoints: Sequence[Float[np.ndarray, "points 3"]], size: int) -> "Heatmaps":
        """A batch of some size from each person's points, in pixels of the maps, with confidences."""
        known = [k[:, 2] > 0 for k in keypoints]
        values = [gaussians(k[:, :2], there, wants.sigma, size) for k, there in zip(keypoints, known, strict=True)]
        return Heatmaps(wants.points, torch.from_numpy(np.stack(values)), torch.from_numpy(np.stack(known)))


def seen_points(iuv: Float[np.ndarray, "h w 3"], stride: int) -> Float[np.ndarray, "points 5"]:
    """Every pixel of an IUV map that sees the body, as DensePose points: x, y in pixels of the crop, part, u, v."""
    row, column = np.nonzero(iuv[..., 0])
    return np.c_[(np.c_[column, row] + 0.5) * stride, iuv[row, column]]


def gaussians(
    points: Float[np.ndarray, "points 2"], known: Bool[np.ndarray, " points"], sigma: float, size: int
) -> Float[np.ndarray, "points {size} {size}"]:
    """A picture for each point, with a Gaussian of height 1 around it; black where it is not known.

    Args:
        points: x, y; like sigma in pixels of the pictures.
        size: of the pictures.
    """
    centers = np.arange(size) + 0.5
    across = np.exp(-0.5 * ((centers - points[:, :1]) / sigma) ** 2)
    down = np.exp(-0.5 * ((centers - points[:, 1:]) / sigma) ** 2) * known[:, None]
    return (down[:, :, None] * across[:, None]).astype(np.float32)


def gathered(
    count: int, size: int, wants: Wants, parts: Sequence[tuple[Sequence[int], DenseMaps]]
) -> tuple[DenseMaps, dict[str, Bool[Tensor, " batch"]]]:
    """One batch of maps from those of some of its rows each; and of which rows each map and part set is known.

    What is not known is 0.

    Args:
        count: rows of the batch.
        size: side of image maps.
        parts: numbers of rows, and their maps.
    """
    known = {name: torch.zeros(count, dtype=torch.bool) for name in (*wants.maps, *wants.parts)}

    def filled(name: str, empty: Tensor, values: Sequence[tuple[Sequence[int], Tensor | None]]) -> Tensor:
        there = [(rows, value) for rows, value in values if value is not None]
        if len(there) == 1 and list(there[0][0]) == list(range(count)):
            known[name][:] = True
            return there[0][1]
        for rows, value in there:
            empty[list(rows)] = value
            known[name][list(rows)] = True
        return empty

    made: dict[str, Any] = {}
    for name in wants.maps:
        side = wants.uv_size if name in UV_MAPS else size
        shape = (count, side, side) + ((_CHANNELS[name],) if name in _CHANNELS else ())
        empty = torch.zeros(shape, dtype=torch.bool if name in ("mask", "uv_visible") else torch.float32)
        made[name] = filled(name, empty, [(rows, getattr(maps, name)) for rows, maps in parts])
    labels = {
        name: filled(
            name,
            torch.zeros((count, size, size), dtype=torch.int64),
            [(rows, maps.labels.get(name)) for rows, maps in parts],
        )
        for name in wants.parts
    }
    return DenseMaps(labels=labels, **made), known
