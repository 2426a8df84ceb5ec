"""Films on the command line: what is written, whoever cannot be used is said, and nothing is left half-written."""

import io
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kouros.cli import main
from kouros.cli.preview import Preview
from kouros.data.mocap.motion import read_motion
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.films import Played, synthetic_film
from kouros.data.video import open_film
from kouros.export.destinations import Destinations
from kouros.pipeline.stretches import frames_kept
from kouros.pipeline.video import reconstruct_video

av = pytest.importorskip("av")
SIZE, FRAMES, RATE = 256, 14, 10


def write_film(path: Path, pictures: list[np.ndarray], *, sound: bool = False) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "12"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        tone = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        for number in range(len(pictures) * 8000 // RATE // 1024 if tone is not None else 0):
            wave = np.sin(np.arange(1024) / 5)[None].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, 1024 * number
            container.mux(tone.encode(frame))
        if tone is not None:
            container.mux(tone.encode())
    return path


@pytest.fixture(scope="module")
def walk(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody walks for a second and a half, with a tone."""
    stage = Stage()
    motion = read_motion(samples / "mocap/sequences/cmux_walking_extra_test_18.npz").every(3).between(0, FRAMES)
    film = synthetic_film([Played(motion)], stage.body, seed=101, size=SIZE)
    pictures = [film.picture(stage, t) for t in range(FRAMES)]
    return write_film(tmp_path_factory.mktemp("films") / "walk.mp4", pictures, sound=True)


@pytest.mark.samples
def test_of_a_film_come_animations_tables_and_a_film_with_its_sound(walk: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    options = ["--out", str(out), "--fast", "--json", "--motion", "glb", "bvh", "amass", "csv", "jsonl", "trc"]
    assert main(["reconstruct", str(walk), *options]) == 0
    line = json.loads(capsys.readouterr().out)
    one = "walk.person_1"
    names = {
        "walk.glb", f"{one}.bvh", f"{one}_poses.npz", f"{one}.csv", f"{one}.trc", "walk.jsonl", "walk.npz", "walk.json",
        "walk.overlay.mp4",
    }  # fmt: skip
    assert {Path(path).name for path in line["outputs"]} == names == {path.name for path in out.iterdir()}
    assert line["people"] == 1 and line["reprojection_error"]["share"] < 0.05
    document = json.loads((out / "walk.json").read_text())
    assert document["frames"] == FRAMES and document["frame_rate"] == pytest.approx(RATE)
    assert document["people"][0]["frames"] == FRAMES
    assert len((out / "walk.jsonl").read_text().splitlines()) == FRAMES
    shown = list(open_film(out / "walk.overlay.mp4").frames())
    assert len(shown) == FRAMES and shown[0].pixels.shape == (SIZE, SIZE, 3)
    seen = next(open_film(walk).frames()).pixels.astype(int)
    assert (np.abs(shown[0].pixels.astype(int) - seen).max(axis=2) > 40).mean() > 0.01  # somebody is drawn
    with av.open(str(out / "walk.overlay.mp4")) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]
        tones = [p for p in container.demux(audio=0) if p.size]
    with av.open(str(walk)) as container:
        assert len([p for p in container.demux(audio=0) if p.size]) == len(tones) > 5
    imported = tmp_path / "motions"
    assert main(["import", "amass", str(out), "--out", str(imported), "--frame-rate", "10"]) == 0
    assert len(read_motion(next(imported.rglob("*.npz"))).poses) == FRAMES
    # Again, for a part: its own results are replaced, and by no others'.
    again = ["--start", "0.5", "--end", "1.0", "--no-overlay", "--quiet", "--fast", "--side-by-side"]
    assert main(["reconstruct", str(walk), "--out", str(out), *again]) == 0
    assert json.loads((out / "walk.json").read_text())["frames"] == 5
    assert Destinations(out, [".npz"]).name_for(tmp_path / "walk.png") != "walk"


@pytest.mark.samples
def test_numbered_pictures_are_a_film_where_their_rate_is_given(walk: Path, tmp_path: Path):
    folder, out = tmp_path / "shots", tmp_path / "out"
    folder.mkdir()
    for number, frame in enumerate(open_film(walk).frames()):
        if number < 6:
            Image.fromarray(frame.pixels).save(folder / f"{number}.png")
    options = ["--fps", "10", "--fast", "--quiet", "--side-by-side", "--motion", "bvh", "--bvh-names", "cmu"]
    assert main(["reconstruct", str(folder), "--out", str(out), *options]) == 0
    assert "Frames: 6" in (out / "shots.person_1.bvh").read_text() and not (out / "shots.glb").exists()
    assert open_film(out / "shots.overlay.mp4").size == (2 * SIZE, SIZE)


@pytest.mark.samples
def test_who_was_interrupted_goes_on_and_ends_as_if_nothing_had_happened(walk: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("kouros.pipeline.video.STRETCH", 4)
    through = reconstruct_video(walk, fast=True, keep=tmp_path / "through")
    assert frames_kept(tmp_path / "through") == FRAMES
    kept, told = tmp_path / "walk.unfinished", []

    def tell(done: int, of: int | None) -> None:
        told.append(done)
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct_video(walk, fast=True, keep=kept, progress=tell)
    assert frames_kept(kept) == 8
    (kept / "000000008.npz").write_bytes((kept / "000000008.npz").read_bytes()[:-99])  # a damaged one is seen anew
    told.clear()
    went_on = reconstruct_video(walk, fast=True, keep=kept, progress=told_to(told))
    assert told == list(range(5, FRAMES + 1))
    (a,), (b,) = through.tracks, went_on.tracks
    assert np.array_equal(a.joints, b.joints) and np.array_equal(a.times, b.times)
    assert np.array_equal(through.world.T_world_camera, went_on.world.T_world_camera)
    # Seen otherwise, they are of no use; and the command removes them when its results are written.
    again: list[int] = []
    reconstruct_video(walk, end=0.3, fast=True, keep=kept, progress=told_to(again))
    assert again == [1, 2, 3]
    assert main(["reconstruct", str(walk), "--out", str(tmp_path), "--fast", "--end", "0.3", "--no-overlay"]) == 0
    assert not kept.exists() and (tmp_path / "walk.glb").exists()


BROWSER = """
import os, signal, sys, urllib.request
assert b"<img" in urllib.request.urlopen(sys.argv[1], timeout=60).read()
pictures, seen = urllib.request.urlopen(sys.argv[1] + "pictures", timeout=60), 0
while seen < 8:
    seen += pictures.readline().startswith(b"Content-Type: image/jpeg")
os.kill(os.getppid(), signal.SIGINT)  # whoever watches presses Ctrl-C
"""


@pytest.mark.samples
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # webbrowser leaves browsers alone
def test_a_camera_is_a_film_that_is_shown_until_it_is_interrupted(walk: Path, tmp_path: Path, capsys, monkeypatch):
    out, browser = tmp_path / "out", tmp_path / "browser.py"
    browser.write_text(BROWSER)
    monkeypatch.setenv("BROWSER", f"{sys.executable} {browser} %s &")
    camera = f"lavfi:movie=filename={walk}:loop=0,setpts=N/(5*TB),realtime"
    assert main(["reconstruct", camera, "--out", str(out), "--fast", "--motion", "bvh", "--preview"]) == 0
    said = capsys.readouterr().err
    assert "seen until Ctrl-C" in said and "is shown in the browser: http://127.0.0.1:" in said
    (taken,) = out.glob("camera_*[0-9].mp4")
    (arrays,) = out.glob("camera_*.npz")
    with np.load(arrays) as found:
        times = found["times"]
        assert len(list(open_film(taken).frames())) == len(times) == len(found["seen"])
        assert len(times) >= 8 and found["seen"].any()
    assert open_film(out / f"{taken.stem}.overlay.mp4").size == (SIZE, SIZE)
    # Where there is no camera, or something is asked that no camera can do, that is all that is said.
    for arguments, sentence in (
        (["999"], "there is no such camera"),
        (["lavfi:nonsense"], "this device cannot be opened"),
        (["dshow:video=a"], "PyAV cannot open dshow devices here"),
        (["0", str(walk)], "a camera is seen alone"),
        (["0", "--start", "1"], "--start is for films"),
    ):
        assert main(["reconstruct", *arguments, "--out", str(tmp_path / "none")]) != 0
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_what_is_seen_is_shown_on_a_page_that_nobody_else_finds():
    page = Preview()
    try:
        page.show(np.full((40, 60, 3), (200, 30, 30), np.uint8))
        with urllib.request.urlopen(page.url) as answer:
            assert b'<img src="pictures"' in answer.read()
        with urllib.request.urlopen(f"{page.url}pictures") as answer:
            assert answer.readline() == b"--picture\r\n"
            length = int(next(line for line in answer if line.startswith(b"Content-Length")).split()[1])
            assert answer.readline() == b"\r\n"
            shown = Image.open(io.BytesIO(answer.read(length)))
            assert shown.size == (60, 40) and np.abs(np.array(shown).mean((0, 1)) - [200, 30, 30]).max() < 5
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(page.url.replace(page.url.split("/")[3], "guess"))
    finally:
        page.close()


def told_to(numbers: list[int]):
    return lambda done, of: numbers.append(done)


def test_a_film_in_which_nobody_is_ends_in_a_sentence_and_leaves_nothing(tmp_path: Path, capsys):
    film = write_film(tmp_path / "wall.mp4", [np.full((64, 96, 3), 90, np.uint8)] * 5)
    out = tmp_path / "out"
    assert main(["reconstruct", str(film), "--out", str(out), "--fast"]) == 1
    assert "nobody was found in the 5 frames" in capsys.readouterr().err
    assert not out.exists() or list(out.iterdir()) == []


@pytest.mark.samples
def test_an_overlay_that_cannot_be_written_leaves_nothing(walk: Path, tmp_path: Path, capsys):
    out = tmp_path / "out"
    (out / "walk.overlay.mp4").mkdir(parents=True)  # a folder in the place of the film
    status = main(["reconstruct", str(walk), "--out", str(out), "--fast", "--end", "0.4"])
    assert status == 0  # it goes by another name
    assert sorted(p.suffix for p in out.glob("*.mp4")) == [".mp4", ".mp4"]
