"""Films are read frame by frame as they are meant to be seen; what is broken is said, and the rest is read."""

import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kouros.data.calibration import Calibration
from kouros.data.video import Part, VideoError, is_film, open_film
from kouros.notes import InputWarning

av = pytest.importorskip("av")

RATE = 30


def colour(number: int) -> int:
    return 8 * number


def picture(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """Red says which frame it is; the upper quarter is green."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = colour(number) % 256
    pixels[: height // 4, :, 1] = 255
    return pixels


def film(
    path: Path,
    times: list[int] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    noise: int = 0,
    **of_stream,
) -> Path:
    """A film with a frame at each of ``times``, in thirtieths of a second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={"g": "10", "bf": "0"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        for name, value in of_stream.items():
            setattr(stream, name, value)
        for number, time in enumerate(range(30) if times is None else times):
            shown = picture(number)
            shown[..., 2] = rng.integers(0, noise + 1, shown.shape[:2])
            frame = av.VideoFrame.from_ndarray(shown, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "libx264", "yuv420p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
    ],
)
def test_frames_come_in_order_with_their_times(name: str, codec: str, pixels: str, tmp_path: Path):
    found = open_film(film(tmp_path / name, codec=codec, pixels=pixels))
    frames = list(found.frames())
    assert (found.size, found.length, found.frame_rate) == ((96, 64), 30, RATE)
    np.testing.assert_allclose([f.time for f in frames], np.arange(30) / RATE, atol=1e-3)
    reds = [int(f.pixels[40, 48, 0]) for f in frames]
    np.testing.assert_allclose(reds, [colour(k) for k in range(30)], atol=15)


def test_a_gif_that_moves_is_a_film_and_one_that_does_not_is_a_photo(tmp_path: Path):
    moving, still = tmp_path / "moving.gif", tmp_path / "still.gif"
    pictures = [Image.fromarray(picture(k)) for k in range(5)]
    pictures[0].save(moving, save_all=True, append_images=pictures[1:], duration=100)
    pictures[0].save(still)
    assert is_film(moving) and not is_film(still) and not is_film(tmp_path / "missing.gif")
    np.testing.assert_allclose([f.time for f in open_film(moving).frames()], 0.1 * np.arange(5), atol=1e-6)


def test_frames_keep_their_own_times_where_the_rate_varies(tmp_path: Path):
    times = [0, 1, 2, 7, 8, 20, 21, 22]
    frames = list(open_film(film(tmp_path / "a.mp4", times)).frames())
    np.testing.assert_allclose([f.time for f in frames], np.array(times) / RATE, atol=1e-4)


def test_who_knows_the_rate_better_may_say_so(tmp_path: Path):
    slow = open_film(film(tmp_path / "a.mp4"), frame_rate=240.0)
    np.testing.assert_allclose([f.time for f in slow.frames()], np.arange(30) / 240)
    with pytest.raises(VideoError, match="positive number"):
        open_film(tmp_path / "a.mp4", frame_rate=0.0)


def test_a_part_of_a_film_is_the_same_frames(tmp_path: Path):
    path = film(tmp_path / "a.mp4", list(range(30)) + list(range(90, 150)))  # long enough to be sought in
    everything = list(open_film(path).frames())
    part = open_film(path, Part(3.2, 4.5, 3))
    frames = list(part.frames())
    wanted = [f for f in everything if 3.2 - 1e-6 <= f.time < 4.5 - 1e-6][::3]
    assert [f.time for f in frames] == [f.time for f in wanted]
    assert all((a.pixels == b.pixels).all() for a, b in zip(frames, wanted, strict=True))
    assert part.frame_rate == pytest.approx(open_film(path).frame_rate / 3)


@pytest.mark.parametrize(
    ("matrix", "green"),
    [  # of the track header, as telephones write it: x' = a x + c y, y' = b x + d y
        ((0, 1, -1, 0), np.s_[:, -8:]),  # a quarter turn clockwise: what was above lies right
        ((0, -1, 1, 0), np.s_[:, :8]),
        ((-1, 0, 0, -1), np.s_[-8:, :]),
    ],
)
def test_films_are_turned_as_their_header_says(matrix: tuple[int, ...], green: tuple[slice, slice], tmp_path: Path):
    path = film(tmp_path / "a.mp4")
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    turned = open_film(path)
    frame = next(turned.frames()).pixels
    assert turned.size == (frame.shape[1], frame.shape[0]) == ((64, 96) if matrix[0] == 0 else (96, 64))
    assert frame[green][..., 1].mean() > 200 > 100 > frame[..., 1].mean()


def test_pixels_that_are_wider_than_high_become_square(tmp_path: Path):
    path = film(tmp_path / "a.mkv", codec="mpeg4", sample_aspect_ratio=Fraction(4, 3))
    assert open_film(path).size == (128, 64)


def test_of_a_film_that_breaks_off_the_beginning_is_read(tmp_path: Path):
    path = film(tmp_path / "a.mkv", noise=255)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(InputWarning, match=r"should last 1\.00 s, but its pictures end after"):
        frames = list(open_film(path).frames())
    assert 0 < len(frames) < 30


def test_damage_in_the_middle_costs_what_it_hits(tmp_path: Path):
    path = film(tmp_path / "a.mkv", noise=255)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
    path.write_bytes(data)
    with pytest.warns(InputWarning, match=r"damaged pieces? of the film could not be decoded|break"):
        frames = list(open_film(path).frames())
    assert len(frames) >= 10 and frames[-1].time == pytest.approx(29 / RATE, abs=2e-3)


def _folder(path: Path) -> Path:
    path.mkdir()
    for number in (2, 10, 1):  # by number, not by name
        Image.fromarray(picture(number)).save(path / f"f{number}.png")
    return path


def test_a_folder_of_numbered_pictures_is_a_film_of_a_given_rate(tmp_path: Path):
    folder = _folder(tmp_path / "frames")
    frames = list(open_film(folder, frame_rate=4.0).frames())
    assert [(f.name, f.time, f.pixels[40, 40, 0]) for f in frames] == [("f1", 0, 8), ("f2", 0.25, 16), ("f10", 0.5, 80)]
    with pytest.raises(VideoError, match="--fps"):
        open_film(folder)
    (folder / "f3.png").write_bytes(b"no picture")
    with pytest.warns(InputWarning, match=r"1 of 4 pictures cannot be read \(f3.png\)"):
        assert [f.time for f in open_film(folder, frame_rate=4.0).frames()] == [0, 0.25, 0.75]


def test_frames_of_another_size_are_scaled_and_of_another_shape_end_the_film(tmp_path: Path):
    folder = _folder(tmp_path / "frames")
    Image.fromarray(picture(2, 192, 128)).save(folder / "f2.png")
    with pytest.warns(InputWarning, match="scaled to 96 x 64"):
        assert {f.pixels.shape for f in open_film(folder, frame_rate=4.0).frames()} == {(64, 96, 3)}
    Image.fromarray(picture(2, 64, 96)).save(folder / "f2.png")
    with pytest.warns(InputWarning, match="changes from 96 x 64 to 64 x 96 pixels after 0.25 s"):
        assert len(list(open_film(folder, frame_rate=4.0).frames())) == 1


def test_a_stream_whose_size_changes_is_scaled_to_its_beginning(tmp_path: Path):
    small, large, both = (tmp_path / f"{name}.ts" for name in ("small", "large", "both"))
    film(small)
    with av.open(str(large), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 192, 128, "yuv420p"
        for number in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number, 192, 128), format="rgb24")))
        container.mux(stream.encode())
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.warns(InputWarning, match="scaled to 96 x 64"):
        frames = list(open_film(both).frames())
    assert {f.pixels.shape for f in frames} == {(64, 96, 3)} and len(frames) > 50
    assert all(a.time < b.time for a, b in pairwise(frames))


def test_frames_of_a_lens_that_distorts_come_straightened(tmp_path: Path):
    plain = open_film(film(tmp_path / "a.mp4"))
    lens = Calibration((80.0, 80.0), (48.0, 32.0), (-0.3, 0.1, 0.0, 0.0), (96, 64))
    bent, straight = next(plain.frames()).pixels, next(replace(plain, lens=lens).frames()).pixels
    assert np.array_equal(straight, lens.straightened_picture(bent)) and not np.array_equal(straight, bent)
    assert replace(plain, lens=lens).fingerprint != plain.fingerprint


def _no_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        container.start_encoding()


def _sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("name", "make", "sentence"),
    [
        ("missing.mp4", lambda path: None, "no such file"),
        ("empty.mp4", lambda path: path.write_bytes(b""), "the file is empty"),
        ("letter.mp4", lambda path: path.write_text("Dear Sir or Madam" * 99), "damaged, cut short, or no film"),
        ("sound.mp4", _sound, "no pictures"),
        ("none.mkv", _no_frames, "damaged, cut short, or no film"),
        ("cut.mp4", lambda path: path.write_bytes(film(path).read_bytes()[:900]), "damaged"),
        ("none", lambda path: path.mkdir(), "no pictures"),
    ],
)
def test_what_is_no_film_is_said_in_a_sentence(name: str, make, sentence: str, tmp_path: Path):
    make(tmp_path / name)
    with pytest.raises(VideoError, match=sentence):
        open_film(tmp_path / name, frame_rate=30.0 if name == "none" else None)


def test_a_part_beyond_the_film_is_no_film(tmp_path: Path):
    path = film(tmp_path / "a.mp4")
    with pytest.raises(VideoError, match=r"no frame from 5 s on"):
        open_film(path, Part(5.0))
    for wrong in ({"start": -1.0}, {"start": 2.0, "end": 1.0}, {"every": 0}):
        with pytest.raises(ValueError, match="must"):
            Part(**wrong)
