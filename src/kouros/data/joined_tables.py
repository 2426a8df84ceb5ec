"""Adding the rows of one annotation table to another: both keep their pictures where they are."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from kouros.data.schema import TableInfo
from kouros.data.tables import AnnotationTable, TableError, TableWriter
from kouros.locks import only_writer

_SAME = ("dataset", "keypoints_2d", "keypoints_3d", "keypoints_3d_origin", "part_set")
_MASKS = ("mask_path", "parts_path", "iuv_path")
_MASK_ROOT = "mask_root"


def append_table(table: Path, more: Path) -> int:
    """Add another table's rows at the end of a table, which is replaced whole or not at all; a table that is not there
    begins with them. Returns the number of rows then.

    Paths become relative to a folder above the pictures of both. Of two tables' provenance, the second's has a number
    behind its keys: ``source (2)``.

    Raises:
        TableError: the two are not of one kind, or the rows are in the table already.
        BusyError: another process is writing the table.
    """
    with only_writer(table):
        added = AnnotationTable(more)
        first = AnnotationTable(table) if table.exists() else None
        info = _for_both(table, first.info, added.info) if first else added.info
        with TableWriter(table, info) as writer:
            for part in [first, added] if first else [added]:
                writer.copy_rows(part.path, _prefixes(part.info, info))
        return writer.rows


def _for_both(table: Path, first: TableInfo, added: TableInfo) -> TableInfo:
    different = [name for name in _SAME if getattr(first, name) != getattr(added, name)]
    if first.provenance.get("surface") != added.provenance.get("surface"):
        different.append("surface")
    if different:
        raise TableError(
            f"{table}: rows of {added.dataset!r} cannot be added to a table of {first.dataset!r}: another "
            f"{', '.join(different)}; give them a table of their own (training takes several)."
        )
    parts = 1
    while _of_part(first.provenance, parts):
        if _plain(_of_part(first.provenance, parts)) == _plain(added.provenance):
            raise TableError(f"{table}: the rows of {added.provenance.get('source')} are in this table already.")
        parts += 1
    numbered = {f"{key} ({parts})": value for key, value in added.provenance.items() if key != _MASK_ROOT}
    provenance = {**first.provenance, **numbered}
    if _mask_root(first) != first.image_root or _mask_root(added) != added.image_root:
        provenance[_MASK_ROOT] = _above(table, _mask_root(first), _mask_root(added))
    return replace(first, image_root=_above(table, first.image_root, added.image_root), provenance=provenance)


def _of_part(provenance: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What a table says of the rows that came to it as the so many-th, from 1."""
    if number == 1:
        return {key: value for key, value in provenance.items() if not key.endswith(")")}
    end = f" ({number})"
    return {key.removesuffix(end): value for key, value in provenance.items() if key.endswith(end)}


def _plain(provenance: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in provenance.items() if key != _MASK_ROOT}


def _mask_root(info: TableInfo) -> str:
    return info.provenance.get(_MASK_ROOT) or info.image_root


def _above(table: Path, one: str, other: str) -> str:
    try:
        return os.path.commonpath([one, other])
    except ValueError:  # two drives
        raise TableError(
            f"{table}: no folder is above {one} and {other}; give the rows a table of their own."
        ) from None


def _prefixes(info: TableInfo, joined: TableInfo) -> dict[str, str]:
    pictures = _from(joined.image_root, info.image_root)
    masks = _from(_mask_root(joined), _mask_root(info))
    return {"image_path": pictures, **dict.fromkeys(_MASKS, masks)}


def _from(above: str, folder: str) -> str:
    way = PurePath(folder).relative_to(above).as_posix()
    return "" if way == "." else f"{way}/"
