"""``kouros data info``: what annotation tables hold, in numbers and in one picture each."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from kouros.cli.sources import open_source
from kouros.cli.usage import UsageError
from kouros.sentences import explained

if TYPE_CHECKING:
    from kouros.data.tables import AnnotationTable

_BAR = 30


@dataclass(frozen=True)
class Data:
    """info: count what annotation tables know, and draw people with their boxes and keypoints on a contact sheet.
    spin-npz: write them again as the .npz files that SPIN and its successors read.

    Needs kouros[train].
    """

    action: Annotated[Literal["info", "spin-npz"], tyro.conf.Positional]
    """What to do."""
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Folder of tables (.parquet), or one table."""
    out: Path | None = None
    """Folder for the sheets, TABLE.png, or for TABLE.npz; without it, where the table is."""
    people: int = 24
    """How many are drawn."""
    seed: int = 0
    """Which are drawn: chosen at random."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if self.people < 1:
            raise UsageError(f"--people must be at least 1, not {self.people}.")
        try:
            from kouros.data.tables import AnnotationTable

            for path in self._tables():
                table, folder = AnnotationTable(path), self.out or path.parent
                if self.action == "info":
                    self._show(table, folder / f"{path.stem}.png")
                else:
                    _export(table, folder / f"{path.stem}.npz")
        except (ImportError, OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        return 0

    def _show(self, table: "AnnotationTable", sheet: Path) -> None:
        from kouros.data.inspection import contact_sheet
        from kouros.export.pictures import png_bytes
        from kouros.files import write_file

        _print(table)
        write_file(
            sheet, png_bytes(contact_sheet(table, people=self.people, seed=self.seed, source=open_source(table.path)))
        )
        print(f"people: {sheet}\n")

    def _tables(self) -> list[Path]:
        if not self.source.is_dir():
            return [self.source]
        found = sorted(self.source.glob("*.parquet"))
        if not found:
            raise UsageError(f"{self.source}: the folder holds no .parquet file; make one with `kouros import`.")
        return found


def _export(table: "AnnotationTable", target: Path) -> None:
    from kouros.data.importers.spin_npz import export_spin_npz

    rows = export_spin_npz(table, target)
    print(f"{target}: {rows} rows; imgname is relative to {table.info.image_root}")


def _print(table: "AnnotationTable") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from kouros.data.inspection import counts, histograms

    console, info = Console(highlight=False), table.info
    console.print(Text(f"{info.dataset} {info.split}: {len(table)} people, pictures in {info.image_root}"))
    for what, points in (("2D", info.keypoints_2d), ("3D", info.keypoints_3d)):
        if points is not None:
            console.print(Text(f"{what} keypoints: {points.name}, {len(points)} points"))
    fields = Table(box=None, pad_edge=False, header_style="bold")
    fields.add_column("field")
    fields.add_column("rows", justify="right")
    fields.add_column("share", justify="right")
    for name, count in counts(table).items():
        if count:
            fields.add_row(name, str(count), f"{100 * count / len(table):.0f} %")
    console.print(fields)
    for histogram in histograms(table):
        rows = Table(box=None, pad_edge=False, header_style="bold")
        rows.add_column(histogram.what, justify="right")
        rows.add_column("rows", justify="right")
        rows.add_column("")
        for values, count in zip(histogram.bins, histogram.counts, strict=True):
            rows.add_row(values, str(count), "#" * round(_BAR * count / max(histogram.counts)))
        console.print(rows)
