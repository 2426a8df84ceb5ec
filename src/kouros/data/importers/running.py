"""What every importer does alike: check the folder, run piece by piece, list what is broken, resume, report.

An importer splits its data set into units (a sequence, a block of rows). Each finished unit is a small table
of its own beside the final one, so that an interrupted import repeats only the unit it was in; at the end
they become one table. A row that is broken, or whose image is, becomes a problem in the report and the others
go on.
"""

import functools
import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from PIL import ExifTags, Image

from kouros.data.images import open_picture
from kouros.data.schema import SCHEMA_VERSION, DatasetError, Sample, TableInfo
from kouros.data.tables import AnnotationTable, TableWriter
from kouros.documents import read_json
from kouros.files import write_file
from kouros.locks import only_writer
from kouros.sentences import first_line

VIDEO_SUFFIXES = frozenset({".avi", ".mp4"})
TABLE_SUFFIX = ".parquet"
_BLOCK = 4096
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL = 4096
"""Bytes at a picture's end, within which its format's last mark is looked for."""
_TURNED = (5, 6, 7, 8)
"""EXIF's orientations that exchange width and height."""
_Row = TypeVar("_Row")


@dataclass(frozen=True)
class Problem:
    """Something that could not be imported."""

    where: str
    """File, row or person."""
    what: str


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote and what it left out."""

    table: Path
    rows: int
    problems: tuple[Problem, ...]
    resumed_units: int
    """Units that an earlier, interrupted import had finished."""


@dataclass(frozen=True)
class Unit:
    """A piece of a data set that is imported whole."""

    key: str
    """Unique in its data set, and the same in every run."""
    rows: Callable[[], Iterable[Sample | Problem]]


def require(dataset: str, source: Path, *expected: str) -> Path:
    """The first of the ``expected`` files or folders (relative, with /) that exists in ``source``.

    Raises:
        DatasetError: none does.
    """
    for name in expected:
        if (source / name).exists():
            return source / name
    listing = " or ".join(expected)
    state = "has no such entry" if source.is_dir() else "is no folder" if source.exists() else "does not exist"
    raise DatasetError(f"{dataset}: expected {listing} in {source}, which {state}; give the folder that holds it.")


def row_blocks(
    name: str, rows: Sequence[_Row], convert: Callable[[_Row], Sample | None], label: Callable[[_Row], str]
) -> Iterator[Unit]:
    """Units of some thousand rows; a row whose conversion fails becomes a problem, None is passed over."""
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        yield Unit(f"{name}:{start}", functools.partial(converted, block, convert, label))


def converted(
    rows: Iterable[_Row], convert: Callable[[_Row], Sample | None], label: Callable[[_Row], str]
) -> Iterator[Sample | Problem]:
    """Convert rows one by one; broken ones become problems."""
    for row in rows:
        try:
            sample = convert(row)
        except Exception as error:  # a damaged row, whatever it raises, must not lose the good ones
            yield Problem(_labelled(row, label), f"{type(error).__name__}: {str(error)[:300]}")
        else:
            if sample is not None:
                yield sample


def _labelled(row: _Row, label: Callable[[_Row], str]) -> str:
    try:
        return label(row)
    except Exception:  # it is not even of the kind that has a name
        return f"the row {str(row)[:60]}"


def table_path(out: Path, info: TableInfo) -> Path:
    """Where an import's table is to lie: ``<out>/<dataset>_<split>.parquet``, or ``out`` itself, if it ends in
    ``.parquet``.
    """
    return out if out.suffix == TABLE_SUFFIX else out / f"{info.dataset}_{info.split}{TABLE_SUFFIX}"


def run_import(out: Path, info: TableInfo, units: Iterable[Unit], *, check_images: bool = True) -> ImportReport:
    """Import all units into one table, at `table_path`.

    Args:
        check_images: open each image's header, list images that are missing or broken, and note their sizes.

    The same import again replaces its own table; the table of another source or of other options stays.

    Raises:
        DatasetError: not one row could be imported, or another import's table has the name.
        BusyError: another process is importing into that table.
    """
    table = table_path(out, info)
    with only_writer(table):
        return _run_import(table, info, units, check_images)


def _run_import(table: Path, info: TableInfo, units: Iterable[Unit], check_images: bool) -> ImportReport:
    _require_free(table, info)
    parts = table.with_name(f".{table.stem}.parts")
    _keep_only_if_same(parts, info, check_images)
    finished: list[tuple[Path, Path]] = []
    resumed = 0
    for unit in units:
        stem = hashlib.sha256(unit.key.encode()).hexdigest()[:24]
        part, done = parts / f"{stem}.parquet", parts / f"{stem}.json"
        if _is_finished(part, done):
            resumed += 1
        else:
            problems = _write_part(part, info, unit, check_images)
            write_file(done, json.dumps([[p.where, p.what] for p in problems]).encode())
        finished.append((part, done))
    problems = [Problem(*entry) for _, done in finished for entry in read_json(done)]
    with TableWriter(table, info) as writer:
        for part, _ in finished:
            writer.copy_rows(part)
        if not writer.rows:
            first = f" The first problem: {problems[0].where}: {problems[0].what}" if problems else ""
            raise DatasetError(
                f"{info.dataset}: no row of {info.image_root} could be imported.{first or ' It has no rows.'}"
            )
    shutil.rmtree(parts)
    return ImportReport(table, writer.rows, tuple(problems), resumed)


def _is_finished(part: Path, done: Path) -> bool:
    """Whether a piece is there and sound; one that a disk has damaged since is imported again."""
    try:
        entries = read_json(done)
        AnnotationTable(part).check()
    except (OSError, ValueError):
        return False
    return isinstance(entries, list) and all(isinstance(e, list) and len(e) == 2 for e in entries)


def _require_free(table: Path, info: TableInfo) -> None:
    if not table.exists():
        return
    there = AnnotationTable(table).info.provenance
    changed = [key for key in {**there, **info.provenance} if there.get(key) != info.provenance.get(key)]
    if changed:
        key = "source" if "source" in changed else changed[0]
        if key not in info.provenance and "source (2)" in there:
            raise DatasetError(
                f"{table} is there already, and rows of {there['source (2)']!r} were added to it; name another --name "
                "or --out, or remove it."
            )
        raise DatasetError(
            f"{table} is there already, with {key} {there.get(key)!r} and not {info.provenance.get(key)!r}; name "
            "another --name or --out, add to that table by --append, or remove it."
        )


def _keep_only_if_same(parts: Path, info: TableInfo, check_images: bool) -> None:
    """Forget pieces of an import that had another source or other options."""
    description: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "root": info.image_root,
        "sets": [s and [s.name, *s.names] for s in (info.keypoints_2d, info.keypoints_3d)],
        "origin": info.keypoints_3d_origin,
        "provenance": info.provenance,
        "check_images": check_images,
        "states": {key: _state(Path(value)) for key, value in info.provenance.items() if isinstance(value, str)},
    }
    text = json.dumps(description, sort_keys=True)
    marker = parts / "import.json"
    if parts.exists() and not (marker.exists() and marker.read_text() == text):
        shutil.rmtree(parts)
    write_file(marker, text.encode())


def _state(source: Path) -> list[int]:
    """What changes when an annotation file is replaced by another of its name."""
    if not source.is_file():
        return []
    stat = source.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _write_part(part: Path, info: TableInfo, unit: Unit, check_images: bool) -> list[Problem]:
    problems: list[Problem] = []
    sizes: dict[str, tuple[int, int] | str] = {}
    with TableWriter(part, info) as writer:
        for row in _rows_of(unit):
            if isinstance(row, Problem):
                problems.append(row)
                continue
            if check_images:
                if row.image_path not in sizes:
                    sizes[row.image_path] = image_size(Path(info.image_root, row.image_path))
                size = sizes[row.image_path]
                if not isinstance(size, str) and size[0] and row.image_size not in (None, size):
                    annotated = "{} x {}".format(*row.image_size or ())
                    size = f"the image has {size[0]} x {size[1]} pixels, but was annotated at {annotated}"
                if isinstance(size, str):
                    problems.append(Problem(row.image_path, size))
                    continue
                if size[0]:
                    row = replace(row, image_size=size)
            try:
                writer.write(row)
            except ValueError as error:
                problems.append(Problem(row.image_path, str(error)))
    return problems


def _rows_of(unit: Unit) -> Iterator[Sample | Problem]:
    """A unit's rows; what goes wrong on the way to them becomes its last problem, and the other units go on."""
    try:
        yield from unit.rows()
    except ImportError:  # a missing package concerns all
        raise
    except Exception as error:  # whatever a damaged file makes its reader raise
        yield Problem(unit.key, f"{type(error).__name__}: {first_line(error)[:300]}")


def image_size(path: Path) -> tuple[int, int] | str:
    """Width and height from the file's header, as `kouros.data.images` reads it (upright); (0, 0) for a video; or
    what is wrong.
    """
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return (0, 0) if path.is_file() else "there is no such video"
    try:
        with warnings.catch_warnings(action="ignore"), open_picture(path) as image:  # Pillow warns about odd metadata
            if not _ends_well(path, image.format):
                image.load()  # the whole picture tells whether something is missing
            return image.size[::-1] if _orientation(image) in _TURNED else image.size
    except FileNotFoundError:
        return "there is no such image"
    except Exception as error:  # decoders raise anything on damaged files
        return f"the image cannot be read ({error})"


def _ends_well(path: Path, kind: str | None) -> bool:
    """Whether a file has the end that its format prescribes; a download that was cut off has not."""
    end = _ENDS.get(kind or "")
    if end is None:
        return True
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        return end in file.read()


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF in a sound picture
        return 1
