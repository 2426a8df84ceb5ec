"""Where samples with their pictures come from: a table of photos, or people drawn on demand."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from kouros.body.keypoints import KeypointSet
from kouros.data.dense import Look, Wants
from kouros.data.schema import Sample, TableInfo
from kouros.render.maps import DenseMaps


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


@runtime_checkable
class DrawnSource(Source, Protocol):
    """A source that knows the bodies in its pictures, and draws what each pixel sees of them.

    A row of an answer must not depend on the others that are asked for with it.
    """

    def maps(self, rows: Sequence[int], looks: Sequence[Look], wants: Wants) -> DenseMaps:
        """What is wanted of people, as they are looked at; all crops are of one size."""
        ...

    def points(self, rows: Sequence[int], points: KeypointSet) -> Float[np.ndarray, "rows points 3"]:
        """2D keypoints of a set: pixels of the picture, and confidence."""
        ...
