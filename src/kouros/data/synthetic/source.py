"""A folder of synthetic people as a source: samples from its table, pictures rendered from stored scenes when asked."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from kouros.body.keypoints import KeypointSet
from kouros.data.crops import CropTransform
from kouros.data.dense import Look, Wants
from kouros.data.images import read_image
from kouros.data.schema import RunLengths, Sample, TableInfo
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.labels import image_index
from kouros.data.synthetic.proxies import Proxies, proxies_of
from kouros.data.synthetic.scenes import PackedScenes, Scene
from kouros.data.tables import AnnotationTable
from kouros.documents import read_json
from kouros.render.maps import DenseMaps

CONFIG, SCENES = "synthetic.json", "scenes"
_REMEMBERED = 2048
"""Files of scenes, some 50 KB each."""
_SAMPLES = 1024
_NEAR = 0.1
"""Metres before the camera, nearer than which nothing is in the picture."""


class SyntheticSource:
    """People of a folder that `kouros synthesize` made.

    Rendering is deterministic: a row's picture is the same whenever, wherever in the order, and in whichever process it
    is asked for. Pickles without its body, which the process at the other end reads again.

    Raises:
        ValueError: the folder is not complete, or another version's.
        kouros.data.tables.TableError: its table cannot be read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            config = read_json(self.folder / CONFIG)
            self._per_shard = int(config["shard"])
            self._written = bool(config["images"])
            self._backgrounds = None if config["backgrounds"] is None else Path(config["backgrounds"])
            # Older folders know of none.
            self._wardrobe = None if config.get("wardrobe") is None else Path(config["wardrobe"])
            path = self.folder / f"synthetic_{config['split']}.parquet"
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.folder} holds no synthetic people ({error}); make some: kouros synthesize."
            ) from error
        self.table = AnnotationTable(path)
        self._reset()

    def _reset(self) -> None:
        self._stage: Stage | None = None
        self._shards: OrderedDict[int, PackedScenes] = OrderedDict()
        self._last: tuple[int, np.ndarray] | None = None
        # A batch asks for its samples, then for their scenes, maps and points.
        self._sample = lru_cache(_SAMPLES)(self.table.__getitem__)

    def __reduce__(self) -> tuple[type["SyntheticSource"], tuple[Path]]:
        return SyntheticSource, (self.folder,)

    @property
    def info(self) -> TableInfo:
        """What holds for all samples."""
        return self.table.info

    def __len__(self) -> int:
        """People."""
        return len(self.table)

    def sample(self, row: int) -> Sample:
        """What is known of one person, but for the dense maps, which `maps` renders."""
        return self._sample(row)

    def has(self, name: str) -> bool:
        """Whether any sample knows a field."""
        return bool(self.table.has(name).any())

    def scene(self, row: int) -> Scene:
        """Parameters of the picture that a person is in.

        Raises:
            ValueError: the file of scenes is missing or broken.
        """
        index = image_index(self.sample(row).image_path)
        shard = index // self._per_shard
        if shard not in self._shards:
            path = self.folder / SCENES / f"{shard:06d}.npz"
            try:
                content = path.read_bytes()
            except OSError as error:
                raise ValueError(f"{path} cannot be read ({error}); synthesize into this folder again.") from error
            self._shards[shard] = PackedScenes(content, str(path))
            while len(self._shards) > _REMEMBERED:
                self._shards.popitem(last=False)
        return self._shards[shard][self._shards[shard].numbers.index(index)]

    def image(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The whole picture, RGB: read where pictures were written, else rendered.

        Raises:
            kouros.data.images.ImageError: a written picture, or the user's background, cannot be read.
            ValueError: as `scene`.
        """
        sample = self.sample(row)
        if self._written:
            return read_image(self.folder / sample.image_path).pixels
        index = image_index(sample.image_path)
        if self._last is None or self._last[0] != index:
            self._last = (index, self.stage.picture(self.scene(row)))
        return self._last[1].copy()

    def look(self, row: int, margin: float = 1.0, size: int = 224) -> Look:
        """At the square region around a person's box, of any resolution."""
        sample = self.sample(row)
        square = CropTransform(np.asarray(sample.box_center), margin * float(sample.box_size or 0), size)
        return Look(square, sample.image_size)

    def maps(self, rows: Sequence[int], looks: Sequence[Look], wants: Wants) -> DenseMaps:
        """What is wanted of people, as far as they are seen: a batch.

        Raises:
            ValueError: as `scene` and `Stage.maps`.
        """
        return self.stage.maps([(self.scene(row), int(self.sample(row).person or 0)) for row in rows], looks, wants)

    def points(self, rows: Sequence[int], points: KeypointSet) -> Float[np.ndarray, "rows points 3"]:
        """2D keypoints of any set that the body can place: pixels of the picture, and confidence 0 outside of it.

        Raises:
            KeyError: the body cannot place that set.
        """
        people = [self.sample(row) for row in rows]
        parameters = (np.stack([getattr(sample, name) for sample in people]) for name in ("pose", "betas", "transl"))
        placed = self.stage.drawer.keypoints(points.name, *parameters).astype(np.float64)
        intrinsics = np.stack([np.asarray(sample.intrinsics) for sample in people])[:, None]
        pixels = placed[..., :2] / placed[..., 2:] * intrinsics[..., :2] + intrinsics[..., 2:]
        sizes = np.array([sample.image_size for sample in people])[:, None]
        inside = ((pixels >= 0) & (pixels < sizes)).all(axis=-1) & (placed[..., 2] > _NEAR)
        return np.concatenate([np.where(inside[..., None], pixels, 0.0), inside[..., None]], axis=-1)

    def masked(self, row: int) -> Sample:
        """The sample with the mask of what is seen of the person."""
        sample = self.sample(row)
        whole = self.scene(row).size
        look = Look(CropTransform(np.full(2, whole / 2), float(whole), whole))
        seen = self.maps([row], [look], Wants(maps=("mask",))).need("mask")[0].numpy()
        return replace(sample, mask=RunLengths.encode(seen))

    def proxies(self, row: int, look: Look, parts: str = "parts24", sigma: float = 2.0) -> Proxies:
        """What a network that never sees colours is given of a region; see `proxies`.

        Raises:
            ValueError: as `maps`.
        """
        sample = self.sample(row)
        keypoints = np.array(sample.keypoints_2d, dtype=np.float64)
        keypoints[:, :2] = look.crop.points(keypoints[:, :2])
        seen = np.ones(len(keypoints), dtype=bool) if sample.visible is None else sample.visible
        maps = self.maps([row], [look], Wants(maps=("mask", "depth"), parts=(parts,)))
        return proxies_of(maps[0], parts, keypoints, seen, sigma)

    @property
    def stage(self) -> Stage:
        """What renders; made when first needed."""
        if self._stage is None:
            self._stage = Stage(backgrounds=self._backgrounds, wardrobe=self._wardrobe)
        return self._stage
