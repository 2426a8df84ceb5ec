"""Where samples with their pictures come from: a table of photos, or people drawn on demand."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from kouros.data.schema import Sample, TableInfo


@runtime_checkable
class Source(Protocol):
    """A data set's samples and pictures, by number. Sources are pickled to worker processes."""

    @property
    def info(self) -> TableInfo:
        """What holds for all samples."""
        ...

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def sample(self, row: int) -> Sample:
        """What is known of one person."""
        ...

    def image(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The whole picture, RGB.

        Raises:
            kouros.data.images.ImageError: it cannot be read.
        """
        ...

    def has(self, name: str) -> bool:
        """Whether any sample knows a field."""
        ...
