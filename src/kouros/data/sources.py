"""Where samples with their pictures come from: a table of photos, or people drawn on demand."""

from collections.abc import Iterable, Sequence
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

    A row of an answer must not depend on the others that are asked for with it (but, alone, for its last bits).
    """

    def maps(self, rows: Sequence[int], looks: Sequence[Look], wants: Wants) -> DenseMaps:
        """What is wanted of people, as they are looked at; all crops are of one size."""
        ...

    def points(self, rows: Sequence[int], points: KeypointSet) -> Float[np.ndarray, "rows points 3"]:
        """2D keypoints of a set: pixels of the picture, and confidence."""
        ...


def source_name(source: Source) -> str:
    """What to call a source in a message: its file or folder, or else the data set and split."""
    path = getattr(source, "path", None)
    return str(path) if path is not None else f"{source.info.dataset} ({source.info.split})"


def require_fields(
    sources: Sequence[Source], needs: Iterable[str], names: Sequence[str] = (), learner: str = "this system"
) -> None:
    """Stop sources that could teach nothing.

    Args:
        sources: to learn from.
        needs: fields of `Sample` that every source must know of some sample.
        names: what to call the sources; default: `source_name`.
        learner: who would learn from them.

    Raises:
        ValueError: with the source, the fields that it lacks and what to do.
    """
    needs = tuple(needs)
    for source, name in zip(sources, names or map(source_name, sources), strict=True):
        if not len(source):
            raise ValueError(f"{name} has no samples; import the data set again, or leave it out.")
        missing = [field for field in needs if not source.has(field)]
        if missing:
            raise ValueError(
                f"{name} knows no {' and no '.join(missing)}, without which it teaches {learner} nothing; leave it "
                "out, or import it with these annotations."
            )
