"""A folder of synthetic people as a source: samples from its table, pictures rendered from stored scenes when asked."""

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from kouros.data.images import read_image
from kouros.data.schema import RunLengths, Sample, TableInfo
from kouros.data.synthetic.draw import SeenMaps, Stage, View
from kouros.data.synthetic.labels import image_index
from kouros.data.synthetic.proxies import Proxies, proxies_of
from kouros.data.synthetic.scenes import Scene, unpack
from kouros.data.tables import AnnotationTable

CONFIG, SCENES = "synthetic.json", "scenes"
_REMEMBERED = 8


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
            config = json.loads((self.folder / CONFIG).read_text())
            self._per_shard = int(config["shard"])
            self._written = bool(config["images"])
            self._backgrounds = None if config["backgrounds"] is None else Path(config["backgrounds"])
            path = self.folder / f"synthetic_{config['split']}.parquet"
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.folder} holds no synthetic people ({error}); make some: kouros synthesize."
            ) from error
        self.table = AnnotationTable(path)
        self._reset()

    def _reset(self) -> None:
        self._stage: Stage | None = None
        self._shards: OrderedDict[int, dict[int, Scene]] = OrderedDict()
        self._last: tuple[int, np.ndarray] | None = None

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
        return self.table[row]

    def has(self, name: str) -> bool:
        """Whether any sample knows a field."""
        return bool(self.table.has(name).any())

    def scene(self, row: int) -> Scene:
        """Parameters of the picture that a person is in.

        Raises:
            ValueError: the file of scenes is missing or broken.
        """
        index = image_index(self.table[row].image_path)
        shard = index // self._per_shard
        if shard not in self._shards:
            path = self.folder / SCENES / f"{shard:06d}.npz"
            try:
                content = path.read_bytes()
            except OSError as error:
                raise ValueError(f"{path} cannot be read ({error}); synthesize into this folder again.") from error
            self._shards[shard] = {scene.index: scene for scene in unpack(content, str(path))}
            while len(self._shards) > _REMEMBERED:
                self._shards.popitem(last=False)
        return self._shards[shard][index]

    def image(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The whole picture, RGB: read where pictures were written, else rendered.

        Raises:
            kouros.data.images.ImageError: a written picture, or the user's background, cannot be read.
            ValueError: as `scene`.
        """
        sample = self.table[row]
        if self._written:
            return read_image(self.folder / sample.image_path).pixels
        index = image_index(sample.image_path)
        if self._last is None or self._last[0] != index:
            self._last = (index, self.stage.picture(self.scene(row)))
        return self._last[1].copy()

    def maps(self, row: int, view: View | None = None, parts: tuple[str, ...] = ("parts24",)) -> SeenMaps:
        """What each pixel of the picture, or of a region at any resolution, sees of whom.

        The person of the row is number ``int(sample(row).person)`` in them.

        Raises:
            KeyError, ValueError: no such part set; as `scene`.
        """
        return self.stage.maps(self.scene(row), view=view, parts=parts)

    def masked(self, row: int) -> Sample:
        """The sample with the mask of what is seen of the person."""
        sample = self.table[row]
        seen = self.maps(row, parts=()).mask(int(sample.person or 0))
        return replace(sample, mask=RunLengths.encode(seen))

    def proxies(self, row: int, view: View, parts: str = "parts24", sigma: float = 2.0) -> Proxies:
        """What a network that never sees colours is given of a region; see `proxies`.

        Raises:
            KeyError, ValueError: as `maps`.
        """
        sample = self.table[row]
        scale = view.size / view.side
        points: Float[np.ndarray, "points 3"] = np.array(sample.keypoints_2d)
        points[:, :2] = (points[:, :2] - [view.left, view.top]) * scale
        seen = np.ones(len(points), dtype=bool) if sample.visible is None else sample.visible
        maps = self.maps(row, view, (parts,))
        return proxies_of(maps, int(sample.person or 0), parts, points, seen, sigma)

    def crop(self, row: int, margin: float = 1.0, size: int = 224) -> View:
        """The square region around a person's box."""
        sample = self.table[row]
        center, side = np.asarray(sample.box_center), margin * float(sample.box_size or 0)
        return View(float(center[0] - side / 2), float(center[1] - side / 2), side, size)

    @property
    def stage(self) -> Stage:
        """What renders; made when first needed."""
        if self._stage is None:
            self._stage = Stage(backgrounds=self._backgrounds)
        return self._stage
