"""What does a film tell beyond its frames, how fast, and in how much memory?

Renders of held-out motion capture before a camera that stands, with the truth in each frame: people found and followed
by the packaged networks; each frame alone, each frame alone and its joints smoothed by a one-euro filter (Casiez et al.
2012) or Savitzky and Golay's, and the frames together. The filters get each frame's joints in the camera; of several
settings the one with the least PA-MPJPE is taken, which flatters them. Prints mm: MPJPE (pelvis to pelvis), PA-MPJPE,
acceleration error (a frame squared, in the camera), distance of the pelvis, and the speed of feet that truly stand (mm
a second), and how far the lowest point of the body is below the floor that was found.

With ``--speed``: frames a second by stage, from a file to a film with people drawn over it, of one and of four people,
at 640 and 1,280 px, by default and with --fast, as a table; on a machine that has nothing else to do. With
``--memory 100 1000 10000``: resident memory while a film grows.

``python benchmarks/video.py --mocap ../shared/data/mocap [--clips 6] [--size 480] [--fast] [--speed] [--memory 100]``
"""

import argparse
import json
import math
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.signal import savgol_filter
from torch import Tensor

from kouros.data.mocap.motion import read_motion
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.films import Played, SyntheticFilm, synthetic_film
from kouros.data.video import open_film
from kouros.detection import PoseDetector
from kouros.evaluation.metrics.pose import joint_errors, procrustes_errors
from kouros.export.films import recording, write_overlay_film
from kouros.geometry.cameras import PerspectiveCamera
from kouros.pipeline.sequence import FEET
from kouros.pipeline.video import FAST, Video, VideoConfig, VideoReconstructor, standing

CLIPS = (
    ("cmux_walking_extra_test_10", 0, 108), ("cmux_walking_extra_test_18", 0, 120), ("cmux_jumping_test_01", 100, 220),
    ("cmux_basketball_signal_train_05", 200, 320), ("cmux_soccer_test_01", 0, 120), ("cmui_05_12", 50, 170),
    ("cmu_02_06", 100, 220), ("cmu_03_01", 0, 108), ("cmui_06_11", 60, 180), ("cmu_02_08", 60, 180),
)  # fmt: skip
"""Held-out motions and the frames that are filmed; seeds are 100 and up."""
RATE = 30.0


def filmed(folder: Path, number: int, body_stage: Stage, size: int) -> SyntheticFilm:
    key, first, last = CLIPS[number]
    motion = read_motion(folder / "sequences" / f"{key}.npz").between(first, last)
    return synthetic_film([Played(motion)], body_stage.body, seed=100 + number, size=size, share=0.85)


def one_euro(values: np.ndarray, cutoff: float, beta: float) -> np.ndarray:
    """Of (frames, ...) at `RATE`; every coordinate alone, as its authors' code does."""

    def share(cut: np.ndarray | float) -> np.ndarray | float:
        return 1 / (1 + RATE / (2 * math.pi * cut))

    smooth, slope, out = values[0], np.zeros_like(values[0]), [values[0]]
    for value in values[1:]:
        slope = slope + share(1.0) * ((value - smooth) * RATE - slope)
        smooth = smooth + share(cutoff + beta * np.abs(slope)) * (value - smooth)
        out.append(smooth)
    return np.stack(out)


def filters(values: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for cutoff in (0.5, 1.0, 2.0, 4.0):
        for beta in (0.2, 1.0, 5.0):
            yield "one-euro", one_euro(values, cutoff, beta)
    for window in (7, 11, 15, 21):
        yield "savitzky-golay", savgol_filter(values, window, 2, axis=0)


def measures(found: np.ndarray, true: Tensor) -> list[float]:
    """MPJPE, PA-MPJPE, acceleration error, distance of the pelvis, all mm; speed of standing feet, mm a second."""
    mine = torch.from_numpy(np.asarray(found, np.float32))
    centred = joint_errors(mine, true, predicted_root=mine[:, 0], target_root=true[:, 0]).mean()
    away = mine - true
    jerk = (away[2:] - 2 * away[1:-1] + away[:-2]).norm(dim=-1).mean()
    feet = list(FEET)
    stands = standing(true[:, feet].numpy(), np.arange(len(true)) / RATE)
    still = torch.from_numpy(stands[1:] & stands[:-1])
    speed = RATE * (mine[1:, feet] - mine[:-1, feet]).norm(dim=-1)
    return [1e3 * float(v) for v in (
        centred, procrustes_errors(mine, true).mean(), jerk, away[:, 0].norm(dim=-1).mean(), speed[still].mean(),
    )]  # fmt: skip


def sunk(video: Video) -> float:
    """How far the lowest point of the body is below the floor, mm, a mean over frames in which it may be above."""
    (track,) = video.tracks
    people = [track.person(row).vertices for row in range(0, len(track), 4)]
    heights = [float(video.world.place(vertices, track.number)[:, 1].min()) for vertices in people]
    return 1e3 * float(np.maximum(-np.array(heights), 0).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mocap", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--size", type=int, default=480, help="side of the square pictures, pixels")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--memory", type=int, nargs="*", default=(), help="frames at which memory is told")
    parser.add_argument("--speed", action="store_true", help="frames a second by stage, and nothing else")
    options = parser.parse_args()
    stage, detector = Stage(), PoseDetector()
    config = FAST if options.fast else VideoConfig()
    if options.speed:
        speed(options.mocap, stage, detector)
        return
    if options.memory:
        memory(stage, detector, config, filmed(options.mocap, 1, stage, options.size), options.memory)
        return
    rows: dict[str, list[list[float]]] = {}
    sinks: dict[str, list[float]] = {}
    for number in range(min(options.clips, len(CLIPS))):
        film = filmed(options.mocap, number, stage, options.size)
        shot, true = film.scenes[0].shot, film.joints(stage.body)[:, 0]
        camera = PerspectiveCamera(torch.tensor(shot.focal), torch.from_numpy(shot.center).float())
        made = VideoReconstructor(camera=camera, tiles=False, detector=detector, config=config)
        pictures = [film.picture(stage, t) for t in range(len(film))]
        for picture in pictures:
            made.push(picture)
        made.finish()
        video = made.video()
        made.config = replace(config, sides=False)
        video_alone = made.video(smooth=False)
        made.config = config
        (together,), (alone,) = video.tracks, video_alone.tracks
        for name, one in (("each frame", video_alone), ("together", video)):
            sinks.setdefault(name, []).append(sunk(one))
        seen = true[torch.from_numpy(together.frames)]
        results = {"each frame": measures(alone.joints, seen), "together": measures(together.joints, seen)}
        for name, values in filters(alone.joints):
            found = measures(values, seen)
            results[name] = min(results.get(name, found), found, key=lambda m: m[1])
        for name, values_of in results.items():
            rows.setdefault(name, []).append(values_of)
        print(
            CLIPS[number][0],
            {name: [round(v, 1) for v in values_of] for name, values_of in results.items()},
            flush=True,
        )
    print(json.dumps({"below_the_floor_mm": {name: round(float(np.mean(v)), 1) for name, v in sinks.items()}}))
    names = ("mpjpe_mm", "pa_mpjpe_mm", "acceleration_mm", "place_mm", "skate_mm_s")
    print(f"{'':>15} " + " ".join(f"{name:>15}" for name in names))
    for name, values_all in rows.items():
        mean = np.mean(values_all, axis=0)
        print(f"{name:>15} " + " ".join(f"{value:15.2f}" for value in mean))
        print(
            json.dumps(
                {"what": "video", "fit": name, "clips": len(values_all)} | dict(zip(names, mean.tolist(), strict=True))
            )
        )


STAGES = ("read", "follow", "estimate", "fit", "draw and write")
SPEED_FRAMES = 90


def speed(mocap: Path, stage: Stage, detector: PoseDetector) -> None:
    """A table in Markdown: frames a second of each stage, and of all one after the other."""
    print(f"| people, pixels | how | {' | '.join(STAGES)} | all |\n|---|---|{'---|' * (len(STAGES) + 1)}")
    warm = False
    walks = [read_motion(mocap / "sequences" / f"cmux_walking_extra_test_{k}.npz") for k in (10, 13, 16, 18)]
    for people in (1, 4):
        played = [Played(walk.between(0, SPEED_FRAMES), (1.3 * k, 0.8 * k)) for k, walk in enumerate(walks[:people])]
        for size in (640, 1280):
            film = synthetic_film(played, stage.body, seed=100, size=size, share=0.9)
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "clip.mp4"
                with recording(path) as stream:
                    for t in range(len(film)):
                        stream.add(film.picture(stage, t), t / RATE)
                for how, config in (("default", VideoConfig()), ("--fast", FAST)):
                    if not warm:
                        timed_film(path, config, detector)  # what is read and compiled once is no speed
                        warm = True
                    spent, found = timed_film(path, config, detector)
                    rates = [SPEED_FRAMES / spent[name] for name in STAGES] + [SPEED_FRAMES / sum(spent.values())]
                    cells = " | ".join(f"{rate:.1f}" for rate in rates)
                    print(f"| {people} ({found} found), {size} | {how} | {cells} |", flush=True)


def timed_film(path: Path, config: VideoConfig, detector: PoseDetector) -> tuple[dict[str, float], int]:
    """Seconds by stage, and how many people were found."""
    film = open_film(path)
    made = VideoReconstructor(frame_rate=film.frame_rate, detector=detector, config=config)
    spent = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def clock(name: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        spent[name] += time.perf_counter() - begun

    frames = film.frames()
    while True:
        with clock("read"):
            frame = next(frames, None)
        if frame is None:
            break
        with clock("follow"):
            made.look(frame.pixels, frame.time)
        with clock("estimate"):
            made.estimate_waiting()
    with clock("estimate"):
        made.finish()
    with clock("fit"):
        video = made.video()
        assert video.world is not None
    with clock("draw and write"):
        write_overlay_film(path.with_name("overlay.mp4"), film, video)
    return spent, len(video.tracks)


def memory(stage: Stage, detector: PoseDetector, config: VideoConfig, film: SyntheticFilm, counts: list[int]) -> None:
    """A film that goes forwards and backwards: resident memory while it is seen, and the most until it is fitted."""
    pictures = [film.picture(stage, t) for t in range(40)]
    there_and_back = pictures + pictures[-2:0:-1]
    for count in counts:
        made = VideoReconstructor(tiles=False, detector=detector, config=config)
        for t in range(count):
            made.push(there_and_back[t % len(there_and_back)])
        made.finish()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        seen = pages * resource.getpagesize() / 2**20
        made.video()
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(json.dumps({"frames": count, "seen_mib": round(seen), "most_mib": round(most)}), flush=True)


if __name__ == "__main__":
    main()
