"""Where each photo's results go, so that no photo's results ever replace another's, nor any other file."""

import os
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from kouros.documents import read_json


class Destinations:
    """Gives every source a name in one folder: its stem, or with its folder's name before it where that is
    taken.

    A name is taken where another source of this run has it, or where files of that name exist that are not
    results of the same source; a second run over the same photos so replaces its own results and nothing
    else.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str]) -> None:
        """``suffixes``: of the files to be written beside ``.json``, dots included."""
        self.folder = folder
        self._suffixes = suffixes
        self._given: set[str] = set()

    def name_for(self, source: Path) -> str:
        """Name, without suffix, of the results of ``source``."""
        for name in _candidates(source):
            # Folded, because on some file systems Photo.glb and photo.glb are one file.
            if name.casefold() not in self._given and self._is_free(name, source):
                self._given.add(name.casefold())
                return name
        raise AssertionError("the candidates never end")

    def are_there(self, name: str) -> bool:
        """Whether all results of that name exist."""
        return all((self.folder / f"{name}{suffix}").is_file() for suffix in (".json", *self._suffixes))

    def reference_to(self, source: Path) -> str:
        """``source`` as the results name it: relative to their folder, so that both may be moved together."""
        try:
            return Path(os.path.relpath(source.resolve(), self.folder.resolve())).as_posix()
        except ValueError:  # on another drive
            return source.resolve().as_posix()

    def _is_free(self, name: str, source: Path) -> bool:
        results = self.folder / f"{name}.json"
        if os.path.lexists(results):
            return _source_of(results) == self.reference_to(source)
        return not any(os.path.lexists(self.folder / f"{name}{suffix}") for suffix in self._suffixes)


def _candidates(source: Path) -> Iterator[str]:
    stem, folder, suffix = source.stem, source.absolute().parent.name, source.suffix.lstrip(".")
    yield stem
    longer = "_".join(part for part in (folder, stem) if part)
    yield longer
    longer = "_".join(part for part in (folder, stem, suffix) if part)
    yield longer
    for number in count(2):
        yield f"{longer}_{number}"


def _source_of(results: Path) -> str | None:
    """Which photo a JSON file of ours is about; None for any other file."""
    try:
        document = read_json(results)
    except (OSError, ValueError):
        return None
    return document.get("image") if isinstance(document, dict) and "people" in document else None
