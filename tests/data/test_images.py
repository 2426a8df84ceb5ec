import base64
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kouros.data import images
from kouros.data.images import ImageError, find_images, read_image

RED_LEFT = np.zeros((32, 64, 3), np.uint8)
RED_LEFT[:, :32, 0] = 255


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    def chunk(tag: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright_whatever_its_exif_orientation(orientation: int):
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the PIL transpose that stores it so
    stored = Image.fromarray(RED_LEFT)
    if orientation > 1:
        stored = stored.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_image(encoded(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(photo.pixels, RED_LEFT)


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 64).astype(np.uint16)
    grey = np.tile(ramp, (32, 1))
    expected = np.rint(ramp / 257.0)
    for photo in (read_image(encoded(Image.fromarray(grey), "PNG")), read_image(grey)):
        np.testing.assert_allclose(photo.pixels[0, :, 1], expected, atol=1)


def test_transparency_is_laid_over_white():
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[:, 16:, 3] = 128
    for photo in (read_image(encoded(Image.fromarray(rgba), "PNG")), read_image(rgba)):
        assert (photo.pixels[:, :16] == 255).all()
        assert (photo.pixels[:, 16:] == 127).all()


def test_cmyk_grey_palette_and_animation_become_rgb():
    picture = Image.fromarray(RED_LEFT)
    cases = {
        "cmyk": encoded(picture.convert("CMYK"), "JPEG", quality=95),
        "palette": encoded(picture.convert("P"), "PNG"),
        "animation": encoded(picture, "GIF", save_all=True, append_images=[Image.new("RGB", (64, 32), "blue")]),
    }
    for name, data in cases.items():
        pixels = read_image(data).pixels.astype(int)
        assert pixels.shape == (32, 64, 3), name
        np.testing.assert_allclose(pixels[4:28, 4:24], np.broadcast_to([255, 0, 0], (24, 20, 3)), atol=40)
    assert read_image(encoded(picture.convert("L"), "PNG")).pixels.shape == (32, 64, 3)


def test_focal_length_of_full_frame_optics_is_in_pixels_of_the_diagonal():
    exif = Image.Exif()
    exif[0x8769] = {0xA405: 50}
    photo = read_image(encoded(Image.new("RGB", (360, 240)), "JPEG", exif=exif))
    assert photo.focal_length_px == pytest.approx(500)  # 36 mm are 360 pixels, so 50 mm are 500
    assert "35mm" in photo.focal_source


def test_focal_length_from_the_sensors_density_follows_a_scaled_picture():
    exif = Image.Exif()
    exif[0x8769] = {0x920A: 5.0, 0xA20E: 200.0, 0xA210: 4, 0xA002: 400}
    photo = read_image(encoded(Image.new("RGB", (200, 100)), "JPEG", exif=exif))
    assert photo.focal_length_px == pytest.approx(500)  # 200 px/mm on 400 px; half of that here


@pytest.mark.parametrize("value", [0, -3])
def test_an_unbelievable_focal_length_is_none(value: int):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x920A] = float(value)
    assert read_image(encoded(Image.new("RGB", (64, 64)), "JPEG", exif=exif)).focal_length_px is None


def test_each_unusable_file_ends_in_one_sentence(tmp_path: Path):
    photo = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)), "JPEG")
    files = {
        "empty.jpg": (b"", "empty"),
        "text.jpg": (b"Dear Sir or Madam", "not a picture"),
        "cut.jpg": (photo[: len(photo) // 2], "cut short"),
        "head.jpg": (photo[:40], "not a picture|cut short|damaged"),
        "dot.png": (encoded(Image.new("RGB", (1, 1)), "PNG"), "too few"),
        "bomb.png": (png_claiming(20_000, 20_000), "100 megapixels"),
        "large.png": (png_claiming(12_000, 9_000), "12,000 x 9,000"),
    }
    for name, (data, message) in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(ImageError, match=message) as caught:
            read_image(path)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="folder"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((32, 32, 3), np.nan), "NaN"),
        (np.full((32, 32, 3), 200.0), r"\[0, 1\]"),
        (np.zeros((32, 32, 3), np.int64), "int64"),
        (np.zeros((3, 32, 32), np.uint8), "shape"),
        (np.zeros((32,), np.uint8), "shape"),
        (np.zeros((0, 32, 3), np.uint8), "too few"),
    ],
)
def test_an_array_of_the_wrong_kind_is_refused(array: np.ndarray, message: str):
    with pytest.raises(ImageError, match=message):
        read_image(array)


def test_the_callers_array_is_not_shared():
    array = np.zeros((32, 32, 3), np.uint8)
    read_image(array).pixels[:] = 255
    assert not array.any()


_JPEG = encoded(Image.fromarray(RED_LEFT), "JPEG")


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(_JPEG) - 1), st.binary(min_size=1, max_size=8), st.booleans())
def test_damaged_files_give_a_picture_or_an_image_error(at: int, damage: bytes, cut: bool):
    data = _JPEG[:at] + damage + (b"" if cut else _JPEG[at + len(damage) :])
    try:
        assert read_image(data).pixels.dtype == np.uint8
    except ImageError as error:
        assert "\n" not in str(error)


def test_a_folder_gives_its_pictures_in_natural_order(tmp_path: Path):
    for name in ("b10.jpg", "b2.JPG", "a.png", "notes.txt", ".hidden.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "deep.jpg").write_bytes(b"x")
    assert [p.name for p in find_images([tmp_path])] == ["a.png", "b2.JPG", "b10.jpg"]
    assert len(find_images([tmp_path, tmp_path / "a.png"])) == 3
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="no pictures"):
        find_images([tmp_path / "none"])


HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAEgAAgAAAAACNAABAAAAAAAAAEIAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
    "5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEA"
    "AQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAJJtZGF0AAAARCgBr1jm9Oq//9nD//q5Mh8u7/1//Cr1X7gmz/sD"
    "JUjV3CiZmVKqfPVjmCnuEKkHuGo86Ah9UjO1NwJomJo7Tn6rtq7gAAAABkV4aWYAAE1NACoAAAAIAAIBEgADAAAAAQAGAACHaQAE"
    "AAAAAQAAACYAAAAAAAGkBQADAAAAAQAaAAAAAAAA"
)
"""64 x 48 pixels, the left half red and the right one blue, to be shown a quarter turned; EXIF of a lens of 26 mm."""


def test_a_phones_picture_is_upright_and_knows_its_lens():
    pytest.importorskip("pi_heif")
    photo = read_image(HEIC)
    assert photo.size == (48, 64)
    assert photo.focal_length_px == pytest.approx(26 / np.hypot(36, 24) * 80, rel=0.01)
    top, bottom = photo.pixels[8, 24].astype(int), photo.pixels[-8, 24].astype(int)
    assert top[0] > top[2] + 80 and bottom[2] > bottom[0] + 80


def test_a_phones_picture_that_nobody_can_read_says_what_to_install(monkeypatch):
    monkeypatch.setattr(images, "_HEIF", frozenset())
    monkeypatch.setattr(images, "FORMATS", ("JPEG", "PNG"))
    with pytest.raises(ImageError, match=r"kouros\[heic\]"):
        read_image(HEIC)
