"""``kouros demo``: reconstruct the photos that come with the package, and say where to look."""

from dataclasses import dataclass
from pathlib import Path

from kouros.cli.reconstruct import Reconstruct
from kouros.cli.usage import UsageError

PHOTOS = Path(__file__).parents[1] / "data" / "demo"
"""Pictures that may be redistributed; their sources and licences are in the file beside them."""


@dataclass(frozen=True)
class Demo:
    """Reconstruct the demo photos that come with kouros."""

    out: Path = Path("demo-results")
    """Folder for the results; made where it is missing."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        if not PHOTOS.is_dir():
            raise UsageError("this installation has no demo photos; run `kouros reconstruct` on a photo of yours.")
        status = Reconstruct(images=(PHOTOS,), out=self.out).run()
        if status == 0:
            out = self.out.resolve()
            print(f"\nPictures: {out}/*.overlay.png\nMeshes:   {out}/*.glb (Blender: File > Import > glTF 2.0)")
        return status
