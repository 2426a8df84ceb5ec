"""Reading photos: whatever a file or array holds becomes upright 8-bit RGB and a focal length, if known.

Pictures come from strangers: each way in which one can be unusable ends in an `ImageError` of one sentence.
"""

import importlib
import importlib.util
import io
import math
import re
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, features

from kouros.notes import note

MAX_PIXELS = 100_000_000
"""Larger pictures are refused from their header, before anything is decoded."""
MIN_SIDE = 16
"""A shorter side, pixels, cannot show a person."""
_AVIF = frozenset({".avif"}) if "avif" in features.modules and features.check("avif") else frozenset[str]()
_HEIF_READER = next((name for name in ("pi_heif", "pillow_heif") if importlib.util.find_spec(name)), None)
"""Package that teaches Pillow the pictures of phones, where one is installed (the extra `heic`)."""
_HEIF = frozenset({".heic", ".heif", ".hif"}) if _HEIF_READER else frozenset[str]()
IMAGE_SUFFIXES = _AVIF | _HEIF | {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
"""What `find_images` takes from a folder; a file named directly may have any suffix."""

_OTHER_PICTURES = frozenset(
    {
        ".avif", ".heic", ".heif", ".hif", ".jxl", ".jp2", ".psd", ".svg", ".raw", ".dng", ".cr2", ".cr3", ".nef",
        ".arw", ".orf", ".rw2", ".raf", ".tga", ".ppm", ".eps",
    }
)  # fmt: skip
"""Suffixes of pictures that are not read; in a folder they are counted."""
FORMATS = (
    "JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", *(["AVIF"] if _AVIF else []), *(["HEIF"] if _HEIF else []),
)  # fmt: skip
"""Of pictures that are opened, whatever the file's name says; Pillow knows more, some of which start other programs."""
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_STRIP = 2**20
"""Pixels that are composed or scaled at a time, in wider numbers than they are stored in."""

_FULL_FRAME_DIAGONAL = math.hypot(36.0, 24.0)
_MILLIMETRES_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # EXIF FocalPlaneResolutionUnit
# As a multiple of the picture's diagonal: a fisheye's 4 mm to a telescope's 4,300 mm on full frame. EXIF
# beyond is wrong.
_PLAUSIBLE_FOCAL_LENGTH = (0.1, 100.0)


class ImageError(ValueError):
    """A picture that cannot be used; the message is one sentence for the person who named it."""


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright picture."""

    pixels: UInt8[np.ndarray, "height width 3"]
    """RGB."""
    name: str = "image"
    """The file's name without folder and suffix."""
    focal_length_px: float | None = None
    """From the file's EXIF, pixels of this picture; None where EXIF has none that can be believed."""
    focal_source: str | None = None
    """The EXIF fields that the focal length comes from."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


def read_image(source: str | Path | bytes | Image.Image | np.ndarray | Photo) -> Photo:
    """Read a picture from a file, from a file's bytes, from a PIL image or from an array.

    Orientation (EXIF) is applied; transparent pixels are laid over white; 16-bit values are scaled, not
    clipped; of an animation the first frame counts; colour profiles are ignored. Arrays are (H, W),
    (H, W, 3) RGB or (H, W, 4) RGBA of uint8, uint16 (full range) or floats in [0, 1].

    Raises:
        ImageError: the picture is missing, empty, broken, no picture, too small or too large, or the
            array has another shape, type or range.
    """
    if isinstance(source, Photo):
        return source
    if isinstance(source, np.ndarray):
        return Photo(pixels=_array_to_rgb(source))
    if isinstance(source, Image.Image):
        return _from_pil(source, name="image", label="the image")
    if isinstance(source, bytes):
        return _decode(source, name="image", label="the image")
    if isinstance(source, str | Path):
        path = Path(source)
        return _decode(_read_bytes(path), name=path.stem, label=str(path))
    raise ImageError(
        f"an image must be a path, a file's bytes, a PIL image or a numpy array, not {type(source).__name__}."
    )


def read_labels(path: str | Path) -> UInt8[np.ndarray, "height width"]:
    """Read a picture whose values are labels: grey levels or a palette's numbers as they are stored, never colours.

    Raises:
        ImageError: the picture is missing, broken, too large, or holds colours or labels above 255.
    """
    path = Path(path)
    image = _opened(_read_bytes(path), str(path))
    _check_size(*image.size, str(path))
    try:
        values = np.asarray(image)
    except Exception as error:  # decoders raise anything on hostile files
        raise ImageError(f"{path}: this picture cannot be decoded ({error}).") from None
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.max() > 255:
        raise ImageError(f"{path}: this picture holds colours or numbers above 255; expected one label a pixel.")
    return values.astype(np.uint8)


def open_picture(path: Path) -> Image.Image:
    """A picture of the announced formats whose header says a size within `MAX_PIXELS`; not yet decoded.

    Raises:
        OSError: it is missing, no such picture, or too large.
    """
    _teach_heif()
    try:
        image = Image.open(path, formats=FORMATS)
    except (Image.DecompressionBombError, SyntaxError) as error:
        raise OSError(str(error)) from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise OSError(f"{image.width:,} x {image.height:,} pixels exceed the limit of {MAX_PIXELS:,}")
    return image


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The picture files that ``paths`` name: files as they are, and for a folder the pictures directly in it.

    A folder's pictures (by suffix, `IMAGE_SUFFIXES`; hidden files and sub-folders left out) come in natural
    order, ``2.jpg`` before ``10.jpg``. A file is passed on unchecked: `read_image` says what is wrong with
    it. Each comes once.

    Raises:
        ImageError: a folder holds no picture or cannot be listed.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            found.update(dict.fromkeys(_images_in(path)))
        else:
            found[path] = None
    return list(found)


def _images_in(folder: Path) -> list[Path]:
    try:
        named = [p for p in folder.iterdir() if not p.name.startswith(".")]
        files = [p for p in named if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file()]
        _note_the_rest(folder, named)
    except OSError as error:
        raise ImageError(f"{folder}: this folder cannot be listed ({error.strerror or error}).") from None
    if not files:
        raise ImageError(
            f"{folder}: this folder holds no pictures ({' '.join(sorted(IMAGE_SUFFIXES - _AVIF - _HEIF))}); "
            "sub-folders are not searched."
        )
    return sorted(files, key=_natural_order)


def _note_the_rest(folder: Path, named: Sequence[Path]) -> None:
    """Say which pictures of a folder are passed over: of kinds that are not read, and links that lead nowhere."""
    kinds = [p.suffix.lower() for p in named if p.suffix.lower() in _OTHER_PICTURES - IMAGE_SUFFIXES and p.is_file()]
    dead = [p for p in named if p.is_symlink() and not p.exists()]
    passed = [f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))]
    if dead:
        passed.append(f"{len(dead)} {'link that leads' if len(dead) == 1 else 'links that lead'} nowhere")
    if passed:
        note(f"{folder}: passed over {', '.join(passed)}; convert what you need to JPEG or PNG.")


def _natural_order(path: Path) -> tuple[list[tuple[int, int, str]], str]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p], path.name


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ImageError(f"{path}: this is a folder, not a picture.")
        if path.exists() and not path.is_file():  # a pipe or device might never end
            raise ImageError(f"{path}: this is not a regular file.")
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise ImageError(f"{path}: this file cannot be read ({error.strerror or error}).") from None
    except ValueError as error:  # a null byte in the name
        raise ImageError(f"{str(path)!r}: this is no file name ({error}).") from None


def _decode(data: bytes, *, name: str, label: str) -> Photo:
    return _from_pil(_opened(data, label), name=name, label=label)


def _opened(data: bytes, label: str) -> Image.Image:
    if not data:
        raise ImageError(f"{label}: the file is empty.")
    _teach_heif()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about sizes and metadata; the limits here are our own
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError:
        raise ImageError(_too_large(label)) from None
    except Exception:  # decoders raise anything on hostile files
        if not _HEIF and data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
            raise ImageError(
                f"{label}: this is a HEIC picture, as phones take them; pip install 'kouros[heic]' to read it, or "
                "convert it to JPEG."
            ) from None
        raise ImageError(
            f"{label}: this is not a picture in a format that can be read; expected JPEG, PNG, WebP, TIFF, BMP or GIF."
        ) from None


@cache
def _teach_heif() -> None:
    """Let Pillow open HEIC, if somebody can."""
    if _HEIF_READER:
        importlib.import_module(_HEIF_READER).register_heif_opener()


def _too_large(label: str, size: tuple[int, int] | None = None) -> str:
    has = "this picture" if size is None else f"{size[0]:,} x {size[1]:,} pixels"
    return f"{label}: {has} exceeds the limit of {MAX_PIXELS // 1_000_000} megapixels; scale it down first."


def _check_size(width: int, height: int, label: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(_too_large(label, (width, height)))
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{label}: {width} x {height} pixels are too few to show a person; each side needs at least {MIN_SIDE}."
        )


def _from_pil(image: Image.Image, *, name: str, label: str) -> Photo:
    _check_size(*image.size, label)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
            focal_length, source = _focal_length(image)
            pixels = _pil_to_rgb(_upright(image), label)
    except ImageError:
        raise
    except Exception as error:  # decoders raise anything on hostile files
        reason = "it is cut short" if "truncated" in str(error).lower() else "its data are damaged"
        raise ImageError(f"{label}: this picture cannot be decoded: {reason}.") from None
    return Photo(pixels=pixels, name=name, focal_length_px=focal_length, focal_source=source)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image) or image
    except (ValueError, TypeError, KeyError, SyntaxError, struct.error):  # broken EXIF in a sound picture
        return image


def _pil_to_rgb(image: Image.Image, label: str) -> UInt8[np.ndarray, "height width 3"]:
    mode = image.mode
    if mode.startswith("I;16"):
        return _array_to_rgb(np.asarray(image).astype(np.uint16), label)
    if mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{label}: 32-bit pixel values cannot be read; expected 8 or 16 bits a channel.")
        return _array_to_rgb(values.astype(np.uint16), label)
    if mode == "F":
        return _array_to_rgb(np.asarray(image), label)
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        made = np.empty((image.height, image.width, 3), np.uint8)
        for rows in _strips(image.height, image.width):
            strip = image.crop((0, rows.start, image.width, rows.stop)).convert("RGBA")
            made[rows] = _over_white(np.asarray(strip))
        return made
    # Not `np.asarray` of a view: the array must be the caller's own to write to.
    return np.array(image if mode == "RGB" else image.convert("RGB"))


def _array_to_rgb(array: np.ndarray, label: str = "the array") -> UInt8[np.ndarray, "height width 3"]:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ImageError(
            f"{label}: its shape is {tuple(array.shape)}; expected (height, width), (height, width, 3) RGB "
            "or (height, width, 4) RGBA."
        )
    _check_size(array.shape[1], array.shape[0], label)
    if np.issubdtype(array.dtype, np.floating):
        # One comparison that NaN fails as well.
        if not (array.min() >= 0.0 and array.max() <= 1.0):
            raise ImageError(
                f"{label}: floating-point pixel values must lie in [0, 1] without NaN; scale them, or pass uint8."
            )
    elif array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"{label}: pixel values of type {array.dtype} cannot be read; expected uint8, uint16 or floats in [0, 1]."
        )
    made = np.empty((*array.shape[:2], 3), np.uint8)
    for rows in _strips(*array.shape[:2]):
        strip = _eight_bits(array[rows])
        if strip.ndim == 2:
            made[rows] = strip[..., None]
        else:
            made[rows] = strip if strip.shape[2] == 3 else _over_white(strip)
    return made


def _strips(height: int, width: int) -> Iterator[slice]:
    """Rows of a picture, so many at a time that their number of pixels is bounded."""
    step = max(1, _STRIP // width)
    return (slice(start, min(height, start + step)) for start in range(0, height, step))


def _eight_bits(array: np.ndarray) -> np.ndarray:
    if np.issubdtype(array.dtype, np.floating):
        return np.rint(array * 255.0).astype(np.uint8)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return array


def _over_white(array: UInt8[np.ndarray, "height width 4"]) -> UInt8[np.ndarray, "height width 3"]:
    color, alpha = array[..., :3].astype(np.uint32), array[..., 3:].astype(np.uint32)
    return ((color * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _focal_length(image: Image.Image) -> tuple[float | None, str | None]:
    """Focal length, pixels, and the EXIF fields it is from.

    EXIF 2.3: FocalLengthIn35mmFilm is the length at which 36 x 24 mm film would see the same angle, which
    makers take over the diagonal; else FocalLength in mm times FocalPlaneXResolution, sensor pixels a unit
    of length. A picture that was cropped keeps its fields, so that both come out too short for it; nothing
    in the file tells.
    """
    try:
        fields: dict[int, Any] = dict(image.getexif().get_ifd(ExifTags.IFD.Exif))
    except Exception:  # broken EXIF in a sound picture
        return None, None
    diagonal = math.hypot(*image.size)
    film = _positive(fields.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if film is not None and _is_plausible(film / _FULL_FRAME_DIAGONAL):
        return film / _FULL_FRAME_DIAGONAL * diagonal, "EXIF FocalLengthIn35mmFilm"
    length = _positive(fields.get(ExifTags.Base.FocalLength))
    density = _positive(fields.get(ExifTags.Base.FocalPlaneXResolution))
    unit = _MILLIMETRES_PER_UNIT.get(fields.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    if length is not None and density is not None and unit is not None:
        # The density counts pixels of the sensor's picture, which may since have been scaled.
        taken_width = _positive(fields.get(ExifTags.Base.ExifImageWidth)) or image.width
        pixels = length * density / unit * image.width / taken_width
        if _is_plausible(pixels / diagonal):
            return pixels, "EXIF FocalLength and FocalPlaneXResolution"
    return None, None


def _positive(value: Any) -> float | None:
    """A number of EXIF, where 0, fractions over 0 and wrong types all mean that it is not known."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _is_plausible(focal_over_diagonal: float) -> bool:
    low, high = _PLAUSIBLE_FOCAL_LENGTH
    return low <= focal_over_diagonal <= high
