"""What a path on the command line names: a table of photos, or a folder of synthetic people."""

from pathlib import Path
from typing import TYPE_CHECKING

from kouros.cli.usage import UsageError

if TYPE_CHECKING:
    from kouros.data.sources import Source


def open_source(path: Path) -> "Source":
    """The samples and pictures of a table (.parquet), of a folder with one table, or of synthetic people.

    Raises:
        UsageError: a folder with no table, or with several.
        ValueError: the file is no annotation table.
    """
    folder = path if path.is_dir() else path.parent
    if (folder / "synthetic.json").is_file():
        from kouros.data.synthetic import SyntheticSource

        return SyntheticSource(folder)
    from kouros.data.table_source import TableSource

    if path.is_dir():
        tables = sorted(path.glob("*.parquet"))
        if len(tables) != 1:
            found = "no .parquet file" if not tables else f"{len(tables)} tables ({', '.join(t.name for t in tables)})"
            raise UsageError(f"{path}: the folder holds {found}; name one table.")
        path = tables[0]
    return TableSource(path)
