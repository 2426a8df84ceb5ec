"""Zip, ``.npz`` and ``.npy`` files from strangers: sizes are counted while unpacking, never believed.

An archive can claim any size, unpack to a million times its own, or hold what is no array. All of these end in one
exception, `ArchiveError`, whose message says what is wrong and leaves the name of the file to the caller. Only members
that are stored or deflated are read, as numpy and everybody else writes them.

Imports nothing of kouros.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

MAX_BYTES = 2**30
"""Of one archive, unpacked: more than any file of this field whose content must be in memory at once."""
_CHUNK = 2**20
_MAX_MEMBERS = 100_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_KINDS = {"f": "fiub", "i": "iub", "u": "iub", "b": "b", "U": "US"}
"""Which kinds of arrays become which when they are read."""

Wanted = tuple[tuple[int | None, ...] | None, str]
"""What an array must be: its shape (None: any size, or any shape), and its type, one of numpy's, or ``"text"``.

Numbers are converted to the type, and those of floating point must be finite then: 1e39 is not in float32. With
``"nan float32"`` they may be NaN, which stands for what is not known.
"""


class ArchiveError(ValueError):
    """A file that is damaged, too large or something else; the message says "it ...", without the file's name."""


def read_members(
    source: str | Path | BufferedIOBase, names: Iterable[str] | None = None, *, max_bytes: int = MAX_BYTES
) -> dict[str, bytearray]:
    """Members of a zip file, unpacked; those of ``names`` that are there, by default all.

    Raises:
        ArchiveError: the file is no zip file, is damaged, or unpacks to more than ``max_bytes``.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            if len(archive.infolist()) > _MAX_MEMBERS:
                raise ArchiveError(f"it holds more than {_MAX_MEMBERS:,} files")
            wanted = None if names is None else set(names)
            members, left = {}, max_bytes
            for member in archive.infolist():
                if wanted is None or member.filename in wanted:
                    members[member.filename] = content = _unpacked(archive, member, left, max_bytes)
                    left -= len(content)
            return members
    except (ArchiveError, FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # zipfile, zlib, struct and the codecs each have their own
        raise ArchiveError(_brief(error, "it is no readable zip archive")) from error


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo, left: int, max_bytes: int) -> bytearray:
    if member.compress_type not in _METHODS:
        raise ArchiveError(f"{member.filename[:80]!r} is packed by a method other than deflate")
    content = bytearray()
    with archive.open(member) as stream:
        while chunk := stream.read(_CHUNK):  # to the end, where its checksum is compared
            content += chunk
            if len(content) > left:
                raise ArchiveError(f"it unpacks to more than {max_bytes // 2**20} MiB")
    return content


def read_npz(
    source: str | Path | BufferedIOBase,
    wanted: Mapping[str, Wanted],
    *,
    optional: Mapping[str, Wanted] | None = None,
    max_bytes: int = MAX_BYTES,
) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file, each of the shape and type that is wanted; the others are not unpacked.

    Args:
        source: the file.
        wanted: the arrays that it must hold.
        optional: arrays that it may hold.
        max_bytes: of the arrays together.

    Raises:
        ArchiveError: it is no such file, is damaged, or lacks an array or has another one of that name.
        OSError: it cannot be read.
    """
    specified = dict(wanted) | dict(optional or {})
    members = read_members(source, [f"{name}.npy" for name in specified], max_bytes=max_bytes)
    if missing := [name for name in wanted if f"{name}.npy" not in members]:
        raise ArchiveError(f"it has no {', '.join(missing)}")
    return {
        name: as_wanted(parse_npy(members[f"{name}.npy"], name=name), spec, name=name)
        for name, spec in specified.items()
        if f"{name}.npy" in members
    }


def read_all_npz(
    source: str | Path | BufferedIOBase,
    *,
    read_objects: Callable[[BufferedIOBase], Any] | None = None,
    max_bytes: int = MAX_BYTES,
) -> dict[str, Any]:
    """All arrays of an ``.npz`` file, as they are.

    Args:
        source: the file.
        read_objects: reads the pickle of an array of objects; without it such arrays are left out.
        max_bytes: of the arrays together.

    Raises:
        ArchiveError: it is no such file or is damaged.
        OSError: it cannot be read.
    """
    arrays = {}
    for member, content in read_members(source, max_bytes=max_bytes).items():
        name = member.removesuffix(".npy")
        array = parse_npy(content, name=name, read_objects=read_objects or _left_out)
        if array is not None:
            arrays[name] = array
    return arrays


def npz_names(source: str | Path) -> tuple[str, ...]:
    """Names of the arrays in an ``.npz`` file, which are not looked at.

    Raises:
        ArchiveError: it is no zip file.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return tuple(name.removesuffix(".npy") for name in archive.namelist())
    except OSError:
        raise
    except Exception as error:
        raise ArchiveError(_brief(error, "it is no readable zip archive")) from error


def read_npy(source: str | Path, wanted: Wanted | None = None, *, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """The array of a ``.npy`` file; without ``wanted`` as it is, but numbers, truth values or text.

    Raises:
        ArchiveError: it is no such file, is damaged, or the array is another one.
        OSError: it cannot be read.
    """
    with Path(source).open("rb") as file:
        content = bytearray(file.read(max_bytes + 1))
    if len(content) > max_bytes:
        raise ArchiveError(f"it has more than {max_bytes // 2**20} MiB")
    array = parse_npy(content)
    return array if wanted is None else as_wanted(array, wanted)


def map_npy(source: str | Path) -> np.ndarray:
    """The array of a ``.npy`` file, read-only and left on the disk until it is looked at.

    Raises:
        ArchiveError: it is no such file or shorter than it says.
        OSError: it cannot be read.
    """
    path = Path(source)
    with path.open("rb") as file:
        shape, fortran_order, dtype = _header(file, "the array")
        offset, size = file.tell(), path.stat().st_size
    if dtype.kind not in "biufcSU" or dtype.itemsize == 0 or size - offset != math.prod(shape) * dtype.itemsize:
        raise ArchiveError("it is shorter or longer than it says, or holds no numbers")
    if math.prod(shape) == 0:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=shape, order="F" if fortran_order else "C")


def parse_npy(
    content: bytearray, *, name: str = "the array", read_objects: Callable[[BufferedIOBase], Any] | None = None
) -> Any:
    """The array in the content of a ``.npy`` file.

    Raises:
        ArchiveError: it is none, or holds objects and ``read_objects`` is not given.
    """
    stream = io.BytesIO(content)
    shape, fortran_order, dtype = _header(stream, name)
    if dtype.hasobject:
        if read_objects is None:
            raise ArchiveError(f"{name} holds objects, where numbers were expected")
        return read_objects(stream)
    if dtype.kind not in "biufcSU" or (dtype.itemsize == 0 and math.prod(shape) > 1):
        raise ArchiveError(f"{name} holds {dtype}, where numbers or text were expected")
    start = stream.tell()
    if len(content) - start != math.prod(shape) * dtype.itemsize:
        raise ArchiveError(f"{name} is shorter or longer than its shape {shape}")
    if math.prod(shape) == 0 or dtype.itemsize == 0:
        return np.zeros(shape, dtype)
    array = np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran_order else "C")
    return np.require(array, requirements="A")


def as_wanted(array: np.ndarray, wanted: Wanted, *, name: str = "the array") -> np.ndarray:
    """The array in the type that is wanted.

    Raises:
        ArchiveError: it has another shape or kind, or numbers that are not finite in that type.
    """
    shape, kind = wanted
    may_be_unknown, kind = kind.startswith("nan "), kind.removeprefix("nan ")
    if shape is not None and not (
        len(shape) == array.ndim and all(want in (None, n) for want, n in zip(shape, array.shape, strict=True))
    ):
        sizes = ", ".join("any" if n is None else str(n) for n in shape)
        raise ArchiveError(f"{name} has shape {array.shape}, where ({sizes}) was expected")
    dtype = np.dtype(np.str_ if kind == "text" else kind)
    if array.dtype.kind not in _KINDS[dtype.kind]:
        raise ArchiveError(f"{name} holds {array.dtype}, where {kind} was expected")
    if dtype.kind == "U":
        return array if array.dtype.kind == "U" else np.char.decode(array, "utf-8", "replace")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(dtype, copy=False)
    if dtype.kind == "f" and not (np.isfinite(converted) | (may_be_unknown & np.isnan(array))).all():
        raise ArchiveError(f"{name} holds numbers that are not finite")
    if dtype.kind in "iu" and not (converted == array).all():
        raise ArchiveError(f"{name} holds numbers too large for {kind}")
    return converted


def _header(stream: BufferedIOBase, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        if version not in _READ_HEADER:
            raise ArchiveError(f"{name} is an array of the unknown format {version}")
        shape, fortran_order, dtype = _READ_HEADER[version](stream)
    except ArchiveError:
        raise
    except Exception as error:  # numpy parses the header as Python: its tokenizer, parser and dtype each fail their way
        raise ArchiveError(_brief(error, f"{name} is no array of numpy")) from error
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise ArchiveError(f"{name} has an impossible shape")
    return shape, fortran_order, dtype


def _left_out(_: BufferedIOBase) -> None:
    """Reads nothing."""


def _brief(error: Exception, what: str) -> str:
    said = " ".join(str(error).split())[:120] or type(error).__name__
    return f"{what} ({said})"
