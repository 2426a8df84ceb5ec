"""Annotation tables: one Parquet file for each data set and split, written in a stream, read column by
column.

A table carries the schema's version, the keypoint sets' names and its provenance in the file's metadata, so
it is understood without this package. Its paths are relative to its own folder, so that it may be moved with its
pictures. Unknown values are Parquet nulls. Needs pyarrow, from the ``train``
extra.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import numpy as np

from kouros.body.keypoints import KEYPOINT_SETS, KeypointSet
from kouros.data.schema import (
    SAMPLE_FIELDS,
    SCHEMA_VERSION,
    Origin,
    RunLengths,
    Sample,
    TableInfo,
    array_shapes,
    check_sample,
)
from kouros.documents import parse_json
from kouros.files import aside_of
from kouros.sentences import first_line

try:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq
except ImportError as error:
    raise ImportError("Annotation tables need pyarrow: pip install 'kouros[train]'.") from error

_METADATA_KEY = b"kouros"
_ROW_GROUP = 4096
_TEXT = (
    "image_path", "gender", "mask_path", "parts_path", "iuv_path", "subject", "action", "sequence", "camera",
    "person",
)  # fmt: skip
_RUNS = pa.struct(
    [
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("labels", pa.list_(pa.uint8())),
        ("counts", pa.list_(pa.int32())),
    ]
)


class TableError(ValueError):
    """A file that is no annotation table of this version; the message says what it is instead."""


def arrow_schema(info: TableInfo, folder: Path | None = None) -> pa.Schema:
    """Columns of a table: a field that it cannot hold (no keypoint set) has none.

    Args:
        folder: where the table is to lie; its description's paths are relative to it. Default: as they are.
    """
    shapes = array_shapes(info)
    columns = []
    for name in SAMPLE_FIELDS:
        if name in _TEXT:
            kind = pa.string()
        elif name in ("mask", "parts"):
            kind = _RUNS
        elif name == "image_size":
            kind = pa.list_(pa.int32(), 2)
        elif name == "box_size":
            kind = pa.float64()
        elif name == "frame":
            kind = pa.int64()
        elif name == "dense_points":
            kind = pa.list_(pa.float32())
        elif name in shapes:
            scalar = {"visible": pa.bool_(), "box_center": pa.float64()}.get(name, pa.float32())
            kind = pa.list_(scalar, int(np.prod(shapes[name])))
        else:
            continue
        columns.append(pa.field(name, kind, nullable=name != "image_path"))
    return pa.schema(columns, metadata={_METADATA_KEY: _info_to_json(info, folder)})


class TableWriter:
    """Writes samples as they come; the file appears whole when the block ends well, and not at all otherwise.

    Use as ``with TableWriter(path, info) as writer: writer.write(sample)``.
    """

    def __init__(self, path: Path, info: TableInfo) -> None:
        self.path = path
        self.info = info
        self.rows = 0
        self._schema = arrow_schema(info, path.parent)
        self._pending: list[Sample] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._aside = aside_of(path)
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> "TableWriter":
        self._file = pq.ParquetWriter(self._aside, self._schema, compression="zstd", write_page_checksum=True)
        return self

    def write(self, sample: Sample) -> None:
        """Add one row.

        Raises:
            SampleError: the row breaks the schema; rows before it stay written.
        """
        check_sample(sample, self.info)
        self._pending.append(sample)
        self.rows += 1
        if len(self._pending) == _ROW_GROUP:
            self._flush()

    def copy_rows(self, path: Path, prefixes: Mapping[str, str] | None = None) -> None:
        """Add all rows of another table with the same columns.

        Args:
            prefixes: folders, with ``/`` at their ends, to put before the paths of the named columns.
        """
        self._flush()
        with pq.ParquetFile(path, memory_map=True, page_checksum_verification=True) as part:
            for batch in part.iter_batches(_ROW_GROUP):
                self._open_file().write_batch(_moved(batch, prefixes or {}).cast(self._schema))
                self.rows += batch.num_rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._open_file().close()
            if kind is None:
                self._aside.replace(self.path)
        finally:
            with contextlib.suppress(OSError):
                self._aside.unlink(missing_ok=True)

    def _open_file(self) -> pq.ParquetWriter:
        if self._file is None:
            raise RuntimeError("TableWriter is used in a with block, which opens the file.")
        return self._file

    def _flush(self) -> None:
        if self._pending:
            columns = [
                pa.array([_to_arrow(getattr(s, column.name)) for s in self._pending], column.type)
                for column in self._schema
            ]
            self._open_file().write_batch(pa.record_batch(columns, schema=self._schema))
            self._pending = []


def _moved(batch: pa.RecordBatch, prefixes: Mapping[str, str]) -> pa.RecordBatch:
    """Rows whose paths have folders put before them."""
    columns = [
        pc.binary_join_element_wise(prefixes[name], column, "") if prefixes.get(name) else column
        for name, column in zip(batch.schema.names, batch.columns, strict=True)
    ]
    return pa.record_batch(columns, schema=batch.schema)


def write_table(path: Path, info: TableInfo, samples: Iterable[Sample]) -> int:
    """Write a table whole or not at all; returns its number of rows.

    Raises:
        SampleError: a row breaks the schema; no file is left.
    """
    with TableWriter(path, info) as writer:
        for sample in samples:
            writer.write(sample)
    return writer.rows


@dataclass(frozen=True, eq=False)
class Column:
    """One field of many rows."""

    values: np.ndarray
    """(rows, ...): rows that lack the field hold zeros."""
    has: np.ndarray
    """(rows,) bool."""


class AnnotationTable:
    """A table on disk. The file is memory-mapped, and a column is decoded when first asked for, then kept."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._file = pq.ParquetFile(self.path, memory_map=True, page_checksum_verification=True)
        except FileNotFoundError:
            raise TableError(f"{self.path}: there is no such annotation table.") from None
        except (pa.ArrowException, OSError) as error:
            raise TableError(f"{self.path}: this is no Parquet file ({first_line(error)}).") from None
        schema = self._file.schema_arrow
        self.info = _info_from_json(self.path, (schema.metadata or {}).get(_METADATA_KEY))
        expected = arrow_schema(self.info)
        if schema.names != expected.names or schema.types != expected.types:
            wrong = sorted(set(schema.names) ^ set(expected.names)) or "types"
            raise TableError(f"{self.path}: its columns are not those of schema {SCHEMA_VERSION}: {wrong}.")
        self._shapes = array_shapes(self.info)
        self._names = tuple(expected.names)
        self._columns: dict[str, pa.Array] = {}

    def __len__(self) -> int:
        return self._file.metadata.num_rows

    def __getitem__(self, row: int) -> Sample:
        if not -len(self) <= row < len(self):
            raise IndexError(f"Row {row} of a table of {len(self)} rows.")
        row %= len(self)
        values = {name: self._value(name, row) for name in self._names}
        return Sample(**values)

    def __iter__(self) -> Iterator[Sample]:
        return (self[row] for row in range(len(self)))

    def check(self) -> None:
        """Read all there is.

        Raises:
            TableError: a column is damaged.
        """
        for name in self._names:
            self._arrow(name)

    def has(self, name: str) -> np.ndarray:
        """(rows,) bool: where a field is known."""
        if name not in self._names:
            if name not in SAMPLE_FIELDS:
                raise KeyError(f"Samples have no field {name!r}; they have: {', '.join(SAMPLE_FIELDS)}.")
            return np.zeros(len(self), dtype=bool)
        return ~self._arrow(name).is_null().to_numpy(zero_copy_only=False)

    def column(self, name: str, rows: Sequence[int] | np.ndarray | None = None) -> Column:
        """A numeric field of all rows, or of the given ones in their order.

        Raises:
            KeyError: the field is unknown, the table cannot hold it, or it has no fixed size.
        """
        shape = () if name in ("box_size", "frame") else (2,) if name == "image_size" else self._shapes.get(name)
        if shape is None or -1 in shape:
            raise KeyError(f"{self.path.name} has no column {name!r} of numbers of a fixed shape.")
        array = self._arrow(name) if rows is None else self._arrow(name).take(pa.array(np.asarray(rows)))
        has = ~array.is_null().to_numpy(zero_copy_only=False)
        if shape:
            kind = array.type.value_type.to_pandas_dtype()
            values = np.zeros((len(array), *shape), dtype=kind)
            values[has] = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)
        else:
            values = array.fill_null(0).to_numpy(zero_copy_only=False)
        return Column(values, has)

    def text(self, name: str) -> list[str | None]:
        """A text field of all rows.

        Raises:
            KeyError: it is no text field.
        """
        if name not in _TEXT:
            raise KeyError(f"{name!r} is no text field; those are: {', '.join(_TEXT)}.")
        return self._arrow(name).to_pylist()

    def image_file(self, sample: Sample) -> Path:
        """Where the sample's image lies."""
        return Path(self.info.image_root) / sample.image_path

    def _arrow(self, name: str) -> pa.Array:
        if name not in self._columns:
            try:
                chunked = self._file.read([name]).column(name)
            except (pa.ArrowException, OSError) as error:
                raise TableError(f"{self.path}: its column {name} is damaged ({first_line(error)}).") from None
            if len(chunked) != len(self):
                raise TableError(f"{self.path}: its column {name} is damaged: {len(chunked)} of {len(self)} rows.")
            self._columns[name] = (
                (chunked.chunk(0) if chunked.num_chunks == 1 else pa.concat_arrays(chunked.chunks))
                if chunked.num_chunks
                else pa.array([], chunked.type)
            )
        return self._columns[name]

    def _value(self, name: str, row: int) -> Any:
        scalar = self._arrow(name)[row]
        if not scalar.is_valid:
            return None
        if name in ("mask", "parts"):
            labels = scalar["labels"].values.to_numpy(zero_copy_only=False)
            counts = scalar["counts"].values.to_numpy(zero_copy_only=False)
            return RunLengths(scalar["height"].as_py(), scalar["width"].as_py(), labels, counts)
        if name == "image_size":
            width, height = scalar.as_py()
            return (width, height)
        if name in self._shapes:
            return scalar.values.to_numpy(zero_copy_only=False).reshape(self._shapes[name])
        return scalar.as_py()


def _to_arrow(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.ravel()
    if isinstance(value, RunLengths):
        return vars(value)
    return value


def _info_to_json(info: TableInfo, folder: Path | None) -> bytes:
    def names(points: KeypointSet | None) -> dict[str, Any] | None:
        return None if points is None else {"name": points.name, "names": points.names, "edges": points.edges}

    paths = [k for k, v in info.provenance.items() if isinstance(v, str) and Path(v).is_absolute()]
    moved = {key: _relative(info.provenance[key], folder) for key in paths}
    content = {
        "schema_version": SCHEMA_VERSION,
        "dataset": info.dataset,
        "split": info.split,
        "image_root": _relative(info.image_root, folder),
        "keypoints_2d": names(info.keypoints_2d),
        "keypoints_3d": names(info.keypoints_3d),
        "keypoints_3d_origin": info.keypoints_3d_origin,
        "provenance": info.provenance | moved,
        "provenance_paths": paths,
        "part_set": info.part_set,
    }
    return json.dumps(content).encode()


def _relative(path: str, folder: Path | None) -> str:
    """As seen from a folder; as it is, where no way leads there (another drive)."""
    if folder is None or not Path(path).is_absolute():
        return path
    try:
        return Path(os.path.relpath(path, folder.resolve())).as_posix()
    except ValueError:
        return path


def _found(path: str, folder: Path) -> str:
    """The inverse of `_relative`; tables of before have absolute paths, which stay."""
    return os.path.normpath(folder.resolve() / path)


def _info_from_json(path: Path, text: bytes | None) -> TableInfo:
    if text is None:
        raise TableError(f"{path}: this Parquet file is no annotation table of kouros (it has no description).")
    try:
        content = parse_json(text)
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise TableError(
                f"{path}: this table has schema {version}, this version of kouros reads {SCHEMA_VERSION}; "
                f"import "
                f"the data set again."
            )
        origin = content["keypoints_3d_origin"]
        if origin not in (None, *get_args(Origin)):
            raise KeyError("keypoints_3d_origin")
        return TableInfo(
            dataset=content["dataset"],
            split=content["split"],
            image_root=_found(content["image_root"], path.parent),
            keypoints_2d=_keypoints(content["keypoints_2d"]),
            keypoints_3d=_keypoints(content["keypoints_3d"]),
            keypoints_3d_origin=origin,
            provenance=content["provenance"]
            | {key: _found(content["provenance"][key], path.parent) for key in content.get("provenance_paths", ())},
            part_set=content.get("part_set"),
        )
    except TableError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(f"{path}: the table's description cannot be read ({error!r}).") from None


def _keypoints(content: dict[str, Any] | None) -> KeypointSet | None:
    if content is None:
        return None
    known = KEYPOINT_SETS.get(content["name"])
    names = tuple(content["names"])
    if known is not None and known.names == names:
        return known
    return KeypointSet(content["name"], names, tuple((a, b) for a, b in content["edges"]))
