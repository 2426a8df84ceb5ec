"""``kouros import``: a data set's own files in, an annotation table (or motion files) out."""

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from kouros.cli.usage import Flag, UsageError

if TYPE_CHECKING:
    from kouros.data.importers.running import ImportReport

Dataset = Literal[
    "3doh", "3dpw", "aist", "amass", "cmu", "coco", "densepose", "human36m", "humaneva", "lsp", "lsp-extended",
    "mpi-inf-3dhp-npz", "mpi-inf-3dhp-test", "mpi-inf-3dhp-train", "mpii", "spin-npz", "up-3d",
]  # fmt: skip
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Import:
    """Read a data set's own files and write what they say of each person as a table, DIR/NAME_SPLIT.parquet.

    Pictures stay where they are. Motion capture (aist, amass, cmu) becomes one .npz file a clip. An interrupted
    import goes on where it was. Needs kouros[train].
    """

    name: Annotated[Dataset, tyro.conf.Positional]
    """The data set."""
    source: Annotated[Path, tyro.conf.Positional]
    """Its folder, as its owners distribute it; or the annotation file (coco, densepose, and those in -npz)."""
    out: Path
    """Folder for the table; made where it is missing."""
    split: str | None = None
    """Which part of it, by the data set's own word; without it, the importer's default."""
    images: Path | None = None
    """Folder of the pictures, where they are not where the data set has them."""
    stride: int | None = None
    """Keep every so many-th frame of a video (human36m, mpi-inf-3dhp-train)."""
    frame_rate: float | None = None
    """Frames a second to keep of motion capture."""
    masks: Path | None = None
    """UPi-S1h's folder, for LSP's silhouettes."""
    mosh: Path | None = None
    """Folder of SMPL fits of Human3.6M."""
    complete_limbs: Flag = False
    """COCO: only people whose arms and legs are annotated whole."""
    check_images: bool = True
    """Open each picture's header; leave out those that are missing or broken, and list them."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"--stride must be at least 1, not {self.stride}.")
        if self.frame_rate is not None and not 0 < self.frame_rate < float("inf"):
            raise UsageError(f"--frame-rate must be a positive number, not {self.frame_rate}.")
        try:
            function = importers()[self.name]
            report = function(self.source, self.out, **self._options(function))
        except (ImportError, OSError, ValueError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        for problem in report.problems[:_SHOWN_PROBLEMS]:
            print(f"left out: {problem.where}: {problem.what}", file=sys.stderr)
        if len(report.problems) > _SHOWN_PROBLEMS:
            print(f"left out: {len(report.problems) - _SHOWN_PROBLEMS} more", file=sys.stderr)
        what = "rows" if report.table.suffix == ".parquet" else "frames"
        print(f"{report.table}: {report.rows} {what}, {len(report.problems)} left out")
        return 0

    def _options(self, function: "Callable[..., ImportReport]") -> dict[str, object]:
        """The options that were given, all of which the importer must know."""
        given: dict[str, object] = {
            "split": self.split,
            "images": self.images,
            "stride": self.stride,
            "frame_rate": self.frame_rate,
            "masks": self.masks,
            "mosh": self.mosh,
            "complete_limbs": self.complete_limbs or None,
            "check_images": None if self.check_images else False,
        }
        given = {name: value for name, value in given.items() if value is not None}
        known = inspect.signature(function).parameters
        for name in given:
            if name not in known:
                option = "no-check-images" if name == "check_images" else name.replace("_", "-")
                raise UsageError(f"--{option} means nothing to {self.name}; leave it out.")
        return given


def importers() -> "dict[str, Callable[..., ImportReport]]":
    """The function for each name.

    Raises:
        ImportError: pyarrow is not installed.
    """
    from kouros.data.importers.coco import import_coco
    from kouros.data.importers.densepose import import_densepose
    from kouros.data.importers.human36m import import_human36m
    from kouros.data.importers.humaneva import import_humaneva
    from kouros.data.importers.lsp import import_lsp
    from kouros.data.importers.lsp_extended import import_lsp_extended
    from kouros.data.importers.mpi_inf_3dhp import (
        import_mpi_inf_3dhp_npz,
        import_mpi_inf_3dhp_test,
        import_mpi_inf_3dhp_train,
    )
    from kouros.data.importers.mpii import import_mpii
    from kouros.data.importers.spin_npz import import_spin_npz
    from kouros.data.importers.three_doh import import_3doh
    from kouros.data.importers.three_dpw import import_3dpw
    from kouros.data.importers.up_3d import import_up_3d
    from kouros.data.mocap.aist import import_aist
    from kouros.data.mocap.amass import import_amass
    from kouros.data.mocap.cmu import import_cmu

    return {
        "3doh": import_3doh,
        "3dpw": import_3dpw,
        "aist": import_aist,
        "amass": import_amass,
        "cmu": import_cmu,
        "coco": import_coco,
        "densepose": import_densepose,
        "human36m": import_human36m,
        "humaneva": import_humaneva,
        "lsp": import_lsp,
        "lsp-extended": import_lsp_extended,
        "mpi-inf-3dhp-npz": import_mpi_inf_3dhp_npz,
        "mpi-inf-3dhp-test": import_mpi_inf_3dhp_test,
        "mpi-inf-3dhp-train": import_mpi_inf_3dhp_train,
        "mpii": import_mpii,
        "spin-npz": import_spin_npz,
        "up-3d": import_up_3d,
    }
