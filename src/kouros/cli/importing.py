"""``kouros import``: a data set's own files in, an annotation table (or motion files) out.

Each data set is a sub-command whose options and help are the importer function's own; here is only where it is.
"""

import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Union

import tyro

from kouros.cli.late import LateCommand, late_command
from kouros.cli.outputs import check_out
from kouros.cli.usage import UsageError
from kouros.sentences import explained

if TYPE_CHECKING:
    from kouros.data.importers.running import ImportReport

_SHOWN_PROBLEMS = 10
IMPORTERS = {
    "3doh": ("importers.three_doh:import_3doh", "3DOH50K: people behind objects, with SMPL fits."),
    "3dpw": ("importers.three_dpw:import_3dpw", "3D Poses in the Wild: video of people outdoors, with SMPL fits."),
    "aist": ("mocap.aist:import_aist", "AIST++: dances as SMPL motions, into clips."),
    "amass": ("mocap.amass:import_amass", "AMASS: many archives of motion capture, into clips."),
    "cmu": ("mocap.cmu:import_cmu", "CMU's motion capture, into clips."),
    "coco": ("importers.coco:import_coco", "COCO: people in photos, with 17 keypoints and masks."),
    "densepose": ("importers.densepose:import_densepose", "DensePose-COCO: points on people's surface."),
    "eft": ("importers.eft:import_eft", "EFT's SMPL fits of people in other data sets' photos."),
    "human36m": ("importers.human36m:import_human36m", "Human3.6M as its owners distribute it."),
    "humaneva": ("importers.humaneva:import_humaneva", "HumanEva-I, as VideoPose3D's preparation exports it."),
    "lsp": ("importers.lsp:import_lsp", "Leeds Sports Pose."),
    "lsp-extended": ("importers.lsp_extended:import_lsp_extended", "Leeds Sports Pose Extended, and HR-LSPET."),
    "mpi-inf-3dhp-npz": ("importers.mpi_inf_3dhp:import_mpi_inf_3dhp_npz", "MPI-INF-3DHP, as mmpose's .npz."),
    "mpi-inf-3dhp-test": ("importers.mpi_inf_3dhp:import_mpi_inf_3dhp_test", "MPI-INF-3DHP's test sequences."),
    "mpi-inf-3dhp-train": ("importers.mpi_inf_3dhp:import_mpi_inf_3dhp_train", "MPI-INF-3DHP's training sequences."),
    "mpii": ("importers.mpii:import_mpii", "MPII Human Pose."),
    "openpose": ("importers.openpose:join_openpose", "OpenPose's detections, joined to a table."),
    "pose-bank": ("mocap.bank:make_pose_bank", "A folder of clips, into a bank of poses."),
    "spin-npz": ("importers.spin_npz:import_spin_npz", "The .npz files of SPIN and its successors."),
    "up-3d": ("importers.up_3d:import_up_3d", "UP-3D: photos with SMPL fits."),
}
"""By name: the function, within `kouros.data`, and what the list of data sets says of it."""
_NO_TABLES = ("aist", "amass", "cmu", "pose-bank")
_NAMING = ("name", "append")


def into_table(
    importer: Callable[[Path], "ImportReport"], out: Path, *, name: str | None = None, append: bool = False
) -> "ImportReport":
    """Import into the table that is asked for.

    Args:
        importer: imports into a folder, or into a table, ``.parquet``.
        out: folder.
        name: of the table; default: the data set's and the split's (of COCO the file's).
        append: add the rows to the table of that name, where there is one. Without it, another import's table stays.

    Raises:
        UsageError: the name is none of a file.
    """
    if name is not None:
        name = name.removesuffix(".parquet")
        if not name or Path(name).name != name or name.startswith("."):
            raise UsageError(f"--name is the table's name in --out, without folders, not {name!r}.")
    from kouros.data.importers.running import TABLE_SUFFIX

    def within(folder: Path) -> Path:
        return folder if name is None else folder / f"{name}{TABLE_SUFFIX}"

    if not append:
        return importer(within(out))
    from kouros.data.joined_tables import append_table

    report = importer(within(out / ".appended"))
    table = out / report.table.name
    try:
        append_table(table, report.table)
    finally:
        report.table.unlink()
        with contextlib.suppress(OSError):  # another one is at work there
            report.table.parent.rmdir()
    return replace(report, table=table)


@dataclass(frozen=True)
class Importing(LateCommand):
    """An importer, and what it is to be called with."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if self.arguments.get("stride", 1) < 1:
            raise UsageError(f"--stride must be at least 1, not {self.arguments['stride']}.")
        for option in ("frame_rate", "source_rate", "turned", "poses"):
            value = self.arguments.get(option, 1)
            if not 0 < value < float("inf"):
                raise UsageError(f"--{option.replace('_', '-')} must be a positive number, not {value}.")
        check_out(self.arguments["out"])
        own = {key: value for key, value in self.arguments.items() if key not in _NAMING or not self.shared}
        naming = {key: value for key, value in self.arguments.items() if key not in own}
        try:
            if self.shared:
                report = self.shared(lambda out: self.function(**own | {"out": out}), own["out"], **naming)
            else:
                report = self.function(**own)
        except (ImportError, OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        for problem in report.problems[:_SHOWN_PROBLEMS]:
            print(f"left out: {problem.where}: {problem.what}", file=sys.stderr)
        if len(report.problems) > _SHOWN_PROBLEMS:
            print(f"left out: {len(report.problems) - _SHOWN_PROBLEMS} more", file=sys.stderr)
        what = "rows" if report.table.suffix == ".parquet" else "frames"
        before = f"; {report.resumed_units} pieces were there from before" if report.resumed_units else ""
        print(f"{report.table}: {report.rows} {what}, {len(report.problems)} left out{before}")
        return 0


def _importers() -> Any:
    kinds = [
        late_command(Importing, name, f"kouros.data.{at}", says, None if name in _NO_TABLES else into_table)
        for name, (at, says) in IMPORTERS.items()
    ]
    return Union[tuple(kinds)]  # noqa: UP007


@dataclass(frozen=True)
class Import:
    """Read a data set's own files and write what they say of each person as a table, DIR/NAME_SPLIT.parquet.

    Pictures stay where they are. Motion capture (aist, amass, cmu) becomes one .npz file a clip, and a folder of clips,
    by pose-bank, a bank of poses. openpose joins OpenPose's detections to a table. An interrupted import goes on where
    it was. `kouros import NAME --help` explains one. Needs kouros[train].
    """

    what: Annotated[Importing, tyro.conf.arg(name="", constructor_factory=_importers)]

    def run(self) -> int:
        """Do it; returns the exit status."""
        return self.what.run()
