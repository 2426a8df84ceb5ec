"""What a path on the command line names: a table of photos, synthetic people, or motion capture."""

from pathlib import Path
from typing import TYPE_CHECKING

from kouros.cli.usage import UsageError

if TYPE_CHECKING:
    from kouros.data.sources import Source


def open_source(path: Path, split: str = "train") -> "Source":
    """The samples and pictures of a table (.parquet), of a folder with one table, or of synthetic people; or, without
    pictures, what the detector saw of synthetic people, or motion capture (.npz, or a folder of such files).

    Args:
        split: of files that hold several.

    Raises:
        UsageError: a folder with no table, or with several.
        ValueError: the file is no annotation table, or no motion capture.
    """
    folder = path if path.is_dir() else path.parent
    if (folder / "synthetic.json").is_file():
        from kouros.data.synthetic import SyntheticSource

        return SyntheticSource(folder)
    if (path / "detections.json").is_file():
        from kouros.data.detections import DetectionSource

        return DetectionSource(path)
    if path.suffix == ".npz" or (path.is_dir() and not any(path.glob("*.parquet")) and any(path.rglob("*.npz"))):
        from kouros.data.mocap.source import MocapSource

        return MocapSource(path, split)
    from kouros.data.table_source import TableSource

    if path.is_dir():
        tables = sorted(path.glob("*.parquet"))
        if len(tables) != 1:
            found = "no .parquet file" if not tables else f"{len(tables)} tables ({', '.join(t.name for t in tables)})"
            raise UsageError(f"{path}: the folder holds {found}; name one table.")
        path = tables[0]
    return TableSource(path)
