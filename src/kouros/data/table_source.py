"""An annotation table and the photos it speaks of, as a source of samples."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kouros.data.images import ImageError, read_image
from kouros.data.schema import Sample, TableInfo
from kouros.data.tables import AnnotationTable


class TableSource:
    """The rows of an annotation table with their photos, which are read when asked for and not kept.

    Pickled, it is only the table's path: every process opens the file for itself, when it first needs it.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a table.

        Raises:
            kouros.data.tables.TableError: there is none, or it is something else.
        """
        self.path = Path(path)
        self._opened: AnnotationTable | None = AnnotationTable(self.path)
        # A photo is mostly asked for right after its sample, of which it needs the path and the size.
        self._last: tuple[int, Sample] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_opened": None, "_last": None}

    @property
    def _table(self) -> AnnotationTable:
        if self._opened is None:
            self._opened = AnnotationTable(self.path)
        return self._opened

    @property
    def info(self) -> TableInfo:
        """What holds for all rows."""
        return self._table.info

    def __len__(self) -> int:
        return len(self._table)

    def sample(self, row: int) -> Sample:
        """What the table knows of one person."""
        if self._last is None or self._last[0] != row:
            self._last = (row, self._table[row])
        return self._last[1]

    def image(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The photo of a row, RGB.

        Raises:
            ImageError: it cannot be read, or has another size than the table says.
        """
        sample = self.sample(row)
        file = self._table.image_file(sample)
        photo = read_image(file)
        if sample.image_size is not None and photo.size != sample.image_size:
            width, height = sample.image_size
            raise ImageError(
                f"{file}: the picture is {photo.size[0]} x {photo.size[1]} pixels, but {self.path.name} was made for "
                f"{width} x {height}; restore the picture or import the data set again."
            )
        return photo.pixels

    def has(self, name: str) -> bool:
        """Whether any row knows a field."""
        return bool(self._table.has(name).any())
