"""How the command line is told which camera took a picture, and how tall people are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kouros.cli.usage import UsageError

if TYPE_CHECKING:
    from kouros.data.calibration import Calibration
    from kouros.data.images import Photo

ASSUMED = "none known: the picture's diagonal is assumed"


@dataclass(frozen=True)
class CameraGiven:
    """What ``--focal-length`` and ``--camera`` say."""

    focal_length: float | None = None
    calibration: "Calibration | None" = None

    def of(self, size: tuple[int, int], known: float | None = None) -> "Calibration":
        """The camera of a picture of that size, which itself says ``known`` of its focal length.

        Raises:
            ValueError: it is the camera of pictures of another shape.
        """
        from kouros.pipeline.reconstructor import lens_of

        return lens_of(self.calibration, size, self.focal_length, known)

    def of_photo(self, photo: "Photo") -> "Calibration":
        """The same of a photo with its EXIF."""
        return self.of(photo.size, photo.focal_length_px)

    def source(self, of_picture: str | None = None) -> str:
        """Where the focal length is from, for whoever reads the results."""
        if self.calibration is not None:
            return "--camera"
        if self.focal_length is not None:
            return "--focal-length"
        return of_picture or ASSUMED


def camera_given(focal_length: float | None, camera: Sequence[str]) -> CameraGiven:
    """What the options ``--focal-length`` and ``--camera`` mean.

    Raises:
        UsageError: they are no camera, or both are given.
    """
    if focal_length is not None:
        from kouros.geometry.cameras import check_focal_length

        try:
            check_focal_length(focal_length, "--focal-length")
        except ValueError as error:
            raise UsageError(str(error)) from None
    if not camera:
        return CameraGiven(focal_length)
    if focal_length is not None:
        raise UsageError("--camera and --focal-length both say how long the lens is; give one of them.")
    from kouros.data.calibration_files import as_calibration

    try:
        if len(camera) == 1 and not _is_number(camera[0]):
            return CameraGiven(None, as_calibration(Path(camera[0])))
        if len(camera) != 4 or not all(map(_is_number, camera)):
            raise ValueError(f"expected FX FY CX CY in pixels, or a file; got {' '.join(camera)}.")
        return CameraGiven(None, as_calibration([float(number) for number in camera]))
    except ValueError as error:
        raise UsageError(f"--camera: {error}") from None


def check_heights_given(heights: Sequence[float]) -> None:
    """Raises UsageError where ``--height`` names none of a person."""
    if heights:
        from kouros.pipeline.heights import check_heights

        try:
            check_heights(heights)
        except ValueError as error:
            raise UsageError(f"--height: {error}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
