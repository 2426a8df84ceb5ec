"""``kouros warmup``: what a first photo waits for, done beforehand."""

import time
from dataclasses import dataclass
from pathlib import Path

from kouros.cli.demo import PHOTOS
from kouros.cli.usage import Flag, UsageError


@dataclass(frozen=True)
class Warmup:
    """Compile the inner loops for this processor and read the networks once, as a first photo would.

    For images of machines: run it when one is built, with NUMBA_CACHE_DIR set to a folder that stays.
    """

    quiet: Flag = False
    """Say nothing but errors."""

    def run(self) -> int:
        """Do it; returns the exit status."""
        photo = PHOTOS / "people.jpg"
        if not photo.is_file():
            raise UsageError("this installation has no demo photos; run `kouros reconstruct` on a photo of yours.")
        start = time.perf_counter()
        people = self._once(photo)
        if not self.quiet:
            print(f"ready: {len(people)} people in {time.perf_counter() - start:.1f} s; the next process starts warm.")
        return 0

    def _once(self, photo: Path) -> list[object]:
        from kouros.data.images import read_image
        from kouros.export.bundle import result_files
        from kouros.pipeline import reconstruct

        picture = read_image(photo)
        people = reconstruct(picture)
        result_files(people, ("glb",), pixels=picture.pixels)
        return list(people)
