"""Importing many motions: file by file, those that were converted alike before are kept."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kouros.data.importers.running import ImportReport, Problem
from kouros.data.mocap.motion import ORIGIN, Motion, load_arrays, write_motion
from kouros.data.schema import DatasetError
from kouros.documents import parse_json
from kouros.locks import only_writer


def import_motions(
    files: Iterable[tuple[Path, Path]],
    convert: Callable[[Path], Motion],
    out: Path,
    frame_rate: float,
    options: Mapping[str, float] | None = None,
) -> ImportReport:
    """Convert files one by one; those that were converted alike before are kept, those that fail are listed. The
    clip of another file, or of other options, is never written over.

    Args:
        files: source, and name below ``out``.
        frame_rate: see `Motion.at_most`.
        options: what else the result depends on.

    Raises:
        DatasetError: not one could be converted.
        BusyError: another process is importing into that folder.
    """
    with only_writer(out / "motions"):
        return _import_motions(files, convert, out, frame_rate, options or {})


def _import_motions(
    files: Iterable[tuple[Path, Path]],
    convert: Callable[[Path], Motion],
    out: Path,
    frame_rate: float,
    options: Mapping[str, float],
) -> ImportReport:
    rows = resumed = 0
    problems = []
    for source, name in files:
        target = out / name
        try:
            origin = _Origin.of(source, frame_rate, options)
            there = _Imported.read(target)
            if there is not None and there.origin.same_as(origin):
                rows += there.frames
                resumed += 1
                continue
            if there is not None and not there.origin.replaced_by(origin):
                raise DatasetError(f"{target} is there already, {there.origin.unlike(origin)}; name another --out.")
            motion = convert(source).at_most(frame_rate)
            write_motion(target, motion, origin=json.dumps(origin.content))
            rows += len(motion.poses)
        except Exception as error:  # one damaged file, whatever it raises, must not lose the good ones
            problems.append(Problem(str(source), str(error) or type(error).__name__))
    if not rows:
        first = f" The first problem: {problems[0].what}" if problems else ""
        raise DatasetError(f"No motion could be imported into {out}.{first}")
    return ImportReport(out, rows, tuple(problems), resumed)


@dataclass(frozen=True)
class _Origin:
    """What a clip was made from, and how."""

    content: dict[str, Any]

    @staticmethod
    def of(source: Path, frame_rate: float, options: Mapping[str, float]) -> "_Origin":
        state = source.stat()
        which = {"file": str(source.resolve()), "size": state.st_size, "modified": state.st_mtime_ns}
        return _Origin({**which, "frame_rate": frame_rate, **options})

    def _without(self, *keys: str) -> dict[str, Any]:
        return {key: value for key, value in self.content.items() if key not in keys}

    def same_as(self, other: "_Origin") -> bool:
        """Whether it is of the same file, wherever that lies now, and made alike."""
        same_name = Path(str(self.content.get("file"))).name == Path(other.content["file"]).name
        return same_name and self._without("file") == other._without("file")

    def replaced_by(self, other: "_Origin") -> bool:
        """Whether it is of the file of that place as it was before."""
        return self._without("size", "modified") == other._without("size", "modified")

    def unlike(self, other: "_Origin") -> str:
        if self.content.get("file") != other.content["file"]:
            return f"made from {self.content.get('file')}"
        keys = [key for key in {**self.content, **other.content} if self.content.get(key) != other.content.get(key)]
        return "made with another " + ", ".join(key for key in keys if key not in ("size", "modified"))


@dataclass(frozen=True)
class _Imported:
    """A clip that is there."""

    origin: _Origin
    frames: int

    @staticmethod
    def read(path: Path) -> "_Imported | None":
        """None where there is none.

        Raises:
            DatasetError: what is there is no imported clip, or damaged.
        """
        if not path.exists():
            return None
        try:
            arrays = load_arrays(path, (ORIGIN, "poses"))
            content = parse_json(str(arrays[ORIGIN]))
            return _Imported(_Origin(dict(content)), len(arrays["poses"]))
        except (ValueError, TypeError) as error:
            raise DatasetError(
                f"{path} is there already and is no clip of an import, or damaged ({error}); remove it, or name "
                "another --out."
            ) from None
