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
    "3doh", "3dpw", "aist", "amass", "cmu", "coco", "densepose", "eft", "human36m", "humaneva", "lsp", "lsp-extended",
    "mpi-inf-3dhp-npz", "mpi-inf-3dhp-test", "mpi-inf-3dhp-train", "mpii", "openpose", "pose-bank", "spin-npz", "up-3d",
]  # fmt: skip
_SHOWN_PROBLEMS = 10


@dataclass(frozen=True)
class Import:
    """Read a data set's own files and write what they say of each person as a table, DIR/NAME_SPLIT.parquet.

    Pictures stay where they are. Motion capture (aist, amass, cmu) becomes one .npz file a clip, and a folder of clips,
    by pose-bank, a bank of poses. openpose joins OpenPose's detections to a table. An interrupted import goes on where
    it was. Needs kouros[train].
    """

    name: Annotated[Dataset, tyro.conf.Positional]
    """The data set."""
    source: Annotated[Path, tyro.conf.Positional]
    """Its folder, as its owners distribute it; or the annotation file (coco, densepose, eft, and those in -npz); or the
    table (openpose) or folder of clips (pose-bank)."""
    out: Path
    """Folder for the table; made where it is missing."""
    split: str | None = None
    """Which part of it, by the data set's own word; without it, the importer's default."""
    images: Path | None = None
    """Folder of the pictures, where they are not where the data set has them."""
    stride: int | None = None
    """Keep every so many-th frame of a video (human36m, mpi-inf-3dhp-train)."""
    cameras: tuple[int, ...] | None = None
    """Cameras of mpi-inf-3dhp-train, 0 to 13; without it, 0 1 2 4 5 6 7 8."""
    frame_rate: float | None = None
    """Frames a second to keep of motion capture."""
    source_rate: float | None = None
    """Frames a second that cmu was recorded at; without it, 120."""
    dataset: str | None = None
    """Name of the table (spin-npz), by which evaluation knows it; without it, the file's."""
    people: Path | None = None
    """Which people of mpii (with --split val): the hourglass network's valid.h5, HRNet's mpii_val.json, or a file
    of image names (.txt)."""
    detections: Path | None = None
    """Folder of OpenPose's files (openpose)."""
    fits: Path | None = None
    """SPIN's fits (.npz) of the rows of spin-npz."""
    masks: Path | None = None
    """UPi-S1h's folder, for the silhouettes of lsp and of spin-npz."""
    mosh: Path | None = None
    """Folder of SMPL fits of Human3.6M."""
    complete_limbs: Flag = False
    """COCO: only people whose arms and legs are annotated whole."""
    like_spin: Flag = False
    """Take annotations as SPIN did, flaws included (lsp-extended, mpii, openpose)."""
    turned: float | None = None
    """Degrees that some joint must turn from one pose of pose-bank to the next; without it, 15."""
    poses: int | None = None
    """Most poses of pose-bank; without it, 500000."""
    check_images: bool = True
    """Open each picture's header; leave out those that are missing or broken, and list them."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"--stride must be at least 1, not {self.stride}.")
        for option in ("frame_rate", "source_rate", "turned", "poses"):
            value = getattr(self, option)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"--{option.replace('_', '-')} must be a positive number, not {value}.")
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
        before = f"; {report.resumed_units} pieces were there from before" if report.resumed_units else ""
        print(f"{report.table}: {report.rows} {what}, {len(report.problems)} left out{before}")
        return 0

    def _options(self, function: "Callable[..., ImportReport]") -> dict[str, object]:
        """The options that were given, all of which the importer must know."""
        given: dict[str, object] = {
            "split": self.split,
            "images": self.images,
            "stride": self.stride,
            "cameras": self.cameras,
            "frame_rate": self.frame_rate,
            "source_rate": self.source_rate,
            "dataset": self.dataset,
            "people": self.people,
            "detections": self.detections,
            "fits": self.fits,
            "masks": self.masks,
            "mosh": self.mosh,
            "complete_limbs": self.complete_limbs or None,
            "like_spin": self.like_spin or None,
            "turned": self.turned,
            "poses": self.poses,
            "check_images": None if self.check_images else False,
        }
        given = {name: value for name, value in given.items() if value is not None}
        known = inspect.signature(function).parameters
        for name in given:
            if name not in known:
                option = "no-check-images" if name == "check_images" else name.replace("_", "-")
                raise UsageError(f"--{option} means nothing to {self.name}; leave it out.")
        for name, parameter in known.items():
            needed = parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.default is inspect.Parameter.empty
            if needed and name not in given:
                raise UsageError(f"{self.name} needs --{name.replace('_', '-')}.")
        return given


def importers() -> "dict[str, Callable[..., ImportReport]]":
    """The function for each name.

    Raises:
        ImportError: pyarrow is not installed.
    """
    from kouros.data.importers.coco import import_coco
    from kouros.data.importers.densepose import import_densepose
    from kouros.data.importers.eft import import_eft
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
    from kouros.data.importers.openpose import join_openpose
    from kouros.data.importers.spin_npz import import_spin_npz
    from kouros.data.importers.three_doh import import_3doh
    from kouros.data.importers.three_dpw import import_3dpw
    from kouros.data.importers.up_3d import import_up_3d
    from kouros.data.mocap.aist import import_aist
    from kouros.data.mocap.amass import import_amass
    from kouros.data.mocap.bank import make_pose_bank
    from kouros.data.mocap.cmu import import_cmu

    return {
        "3doh": import_3doh,
        "3dpw": import_3dpw,
        "aist": import_aist,
        "amass": import_amass,
        "cmu": import_cmu,
        "coco": import_coco,
        "densepose": import_densepose,
        "eft": import_eft,
        "human36m": import_human36m,
        "humaneva": import_humaneva,
        "lsp": import_lsp,
        "lsp-extended": import_lsp_extended,
        "mpi-inf-3dhp-npz": import_mpi_inf_3dhp_npz,
        "mpi-inf-3dhp-test": import_mpi_inf_3dhp_test,
        "mpi-inf-3dhp-train": import_mpi_inf_3dhp_train,
        "mpii": import_mpii,
        "openpose": join_openpose,
        "pose-bank": make_pose_bank,
        "spin-npz": import_spin_npz,
        "up-3d": import_up_3d,
    }
