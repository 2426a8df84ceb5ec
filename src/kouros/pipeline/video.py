"""Films in, moving people out: who is who, one body a person, feet that stand.

Frame by frame the people are followed (`kouros.pipeline.following`) and estimated one by one; of that a few hundred
numbers a person and frame are kept, no pictures. Then sides that were exchanged are put right, one shape is found for
each person from stretches all over the film, and the frames are fitted together in windows that overlap
(`kouros.fitting.schedules.sequence`). Whoever cannot wait for the end gets each window's frames once it is full.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.batched import concatenate
from kouros.body import BodyModel
from kouros.body.parameters import Bodies, BodyParameters
from kouros.data.crops import square_around
from kouros.data.video import Film, Part, open_film
from kouros.detection import DetectedPerson, PoseDetector, default_detector
from kouros.detection.usable import MINIMUM_KEYPOINTS
from kouros.fitting.schedules.keypoint_fit import FitConfig
from kouros.fitting.schedules.sequence import Floor, SmoothConfig
from kouros.geometry.cameras import PerspectiveCamera
from kouros.notes import note
from kouros.pipeline.following import FollowConfig, Followed, Follower
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import Reconstructor, default_body, default_estimator
from kouros.pipeline.sequence import FEET, fitted_together
from kouros.pipeline.sides import chosen_sides, exchanged
from kouros.pipeline.stretches import STRETCH, Stretches
from kouros.pipeline.upright import World, world_of
from kouros.systems.estimator import PersonInPhoto, assumed_camera
from kouros.systems.refined import ANY_START

_BATCH = 32
"""People estimated at a time."""
_SHAPE_STRETCHES, _SHAPE_FRAMES = 5, 48
"""How many stretches of how many frames decide on a person's shape."""
_STANDS = 0.15
"""Metres a second: a slower foot stands."""
_TELLING = 8
"""Frames of each person that tell where the floor is."""
_POSED_AT_ONCE = 256
_NEAR_FLOOR, _FLAT = 0.1, 0.85
"""Metres from the floor within which this share of the feet that stand must be, for it to be what they stand on."""


@dataclass(frozen=True)
class VideoConfig:
    """How a film is seen, and how people move."""

    follow: FollowConfig = field(default_factory=FollowConfig)
    motion: SmoothConfig = field(default_factory=lambda: SmoothConfig(window=400, overlap=200))
    evidence: FitConfig = field(default_factory=lambda: replace(ANY_START, landmark_sigma=(0.06, 0.06, 0.06)))
    """Trust in the detected keypoints and in each frame's own points in space, over time."""
    sides: bool = True
    """Put sides right that were exchanged (`kouros.pipeline.sides`); else each frame's are as they were read."""
    smooth: bool = True
    """Fit the frames of each person together; else each stays as it was estimated alone."""
    floor: bool = True
    """Once it is known where the floor is, fit again: no foot sinks in. Not of live films."""
    shortest: float = 0.25
    """Seconds that somebody must be seen at least, in a film that is longer than twice that."""


FAST = VideoConfig(follow=FollowConfig(crops=0, search_every=1.0, tiles_every=float("inf")))
"""One look of each network a frame; no search for small people."""
LIVE = VideoConfig(motion=SmoothConfig(window=60, overlap=30))
"""Frames are answered two seconds late at most, at 30 a second."""


@dataclass(frozen=True, eq=False)
class Track:
    """One person through a film; T frames in which they were seen. Camera space, metres, unless it says world."""

    number: int
    """Counts the film's people from 0, as they came up."""
    frames: Int[np.ndarray, " frames"]
    """Places in the film."""
    times: Float[np.ndarray, " frames"]
    """Seconds."""
    bodies: Bodies
    """Pose, shape and place in each frame, and the camera; smoothed, the shape is the same in all."""
    keypoints: Float[Tensor, "frames points 3"]
    """As detected: pixels, confidence."""
    keypoint_set: str
    boxes: Float[np.ndarray, "frames 4"]
    """x0, y0, x1, y1, pixels."""
    scores: Float[np.ndarray, " frames"]
    """In [0, 1]: that somebody is there."""
    image_size: tuple[int, int]
    body: BodyModel = field(repr=False)

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def betas(self) -> Float[np.ndarray, " betas"]:
        """The shape: the median where frames differ."""
        return np.median(self.bodies.betas.numpy(force=True), axis=0)

    @property
    def pose(self) -> Float[np.ndarray, "frames 72"]:
        """Rotation vectors: global_orient, then joints 1 to 23."""
        return self.bodies.pose.numpy(force=True)

    @property
    def transl(self) -> Float[np.ndarray, "frames 3"]:
        """Added after the pose."""
        return self.bodies.transl.numpy(force=True)

    @cached_property
    def joints(self) -> Float[np.ndarray, "frames 24 3"]:
        """The skeleton; names in `kouros.body.skeleton.JOINT_NAMES`."""
        parts = []
        for at in range(0, len(self), _POSED_AT_ONCE):
            some = self.bodies[torch.arange(at, min(at + _POSED_AT_ONCE, len(self)))]
            parts.append(self.body.joint_positions(some.betas, some.body_pose, some.global_orient, some.transl))
        return torch.cat(parts).numpy(force=True)

    @property
    def contacts(self) -> Bool[np.ndarray, "frames 4"]:
        """Whether left ankle, right ankle, left foot and right foot stand still (`kouros.pipeline.sequence.FEET`)."""
        return standing(self.joints[:, list(FEET)], self.times)

    def person(self, row: int) -> Person:
        """The person in the ``row``-th of the track's frames."""
        box = np.asarray(self.boxes[row], dtype=np.float64)
        center, side = square_around(box.reshape(2, 2))
        square = torch.from_numpy(np.concatenate([center - side / 2, center + side / 2])).float()
        return Person(
            parameters=self.bodies[row],
            crop_box=square,
            box=torch.from_numpy(box).float(),
            score=float(self.scores[row]),
            keypoints_detected=self.keypoints[row],
            keypoint_set=self.keypoint_set,
            image_size=self.image_size,
            body=self.body,
        )

    def row_of(self, frame: int) -> int | None:
        """Which of the track's frames a frame of the film is; None: the person is not seen there."""
        row = int(np.searchsorted(self.frames, frame))
        return row if row < len(self) and self.frames[row] == frame else None

    def in_world(self, world: World) -> Float[np.ndarray, "frames 24 3"]:
        """The joints in a world that has a size for each track of the film."""
        return world.place(torch.from_numpy(self.joints), self.number).numpy()


@dataclass(frozen=True, eq=False)
class SeenFrame:
    """Who is in a frame."""

    number: int
    """Place in the film."""
    time: float
    people: tuple[tuple[int, Person], ...]
    """With the numbers of their tracks."""


@dataclass(frozen=True, eq=False)
class Video:
    """All people of a film."""

    times: Float[np.ndarray, " frames"]
    """Of all frames, seconds."""
    frame_rate: float
    """Frames a second, on average."""
    image_size: tuple[int, int]
    camera: PerspectiveCamera
    """That stands and sees all frames."""
    tracks: tuple[Track, ...]
    smoothed: bool
    known_world: World | None = None
    """On whose floor the people were put."""

    @cached_property
    def world(self) -> World:
        """Where up is and where the floor lies, as the people stand on it; with one size for each track."""
        if self.known_world is not None:
            return self.known_world
        told = [(track.number, track.person(row)) for track in self.tracks for row in _telling(track)]
        if not told:
            return World.of_camera(0)
        found = world_of([person for _, person in told])
        whose = torch.tensor([number for number, _ in told])
        tracks = [whose == track.number for track in self.tracks]
        sizes = torch.stack([found.sizes[mine].median() for mine in tracks])
        on_floor = torch.stack([found.on_floor[mine].any() for mine in tracks])
        return replace(found, sizes=sizes, on_floor=on_floor)

    def frame(self, number: int) -> SeenFrame:
        """Who is in a frame of the film."""
        rows = [(t, row) for t in self.tracks if (row := t.row_of(number)) is not None]
        return SeenFrame(number, float(self.times[number]), tuple((t.number, t.person(row)) for t, row in rows))


@dataclass
class _Rows:
    """What is kept of somebody: a few hundred numbers a frame."""

    frames: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    estimates: list[Float[np.ndarray, "2 numbers"]] = field(default_factory=list)
    """Of the keypoints as they were read, and of the exchanged ones: see `_packed`."""
    keypoints: list[Float[np.ndarray, "2 points 3"]] = field(default_factory=list)
    """Of both."""
    boxes: list[Float[np.ndarray, "4"]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    set_name: str = ""
    betas: Tensor | None = None
    """Once a live film's first window has decided on them."""
    answered: Bodies | None = None
    """Of a live film: the last window's frames that were answered."""
    first_sides: dict[int, bool] = field(default_factory=dict)
    """Which sides the last window took, by frame."""

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """What grows with the frames."""
        return self.frames, self.times, self.estimates, self.keypoints, self.boxes, self.scores

    def since(self, first: int) -> dict[str, np.ndarray]:
        """The columns of the frames from that one on, as arrays."""
        begin = bisect_left(self.frames, first)
        return {name: np.array(column[begin:]) for name, column in zip(_COLUMNS, self.columns, strict=True)}

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Put in what `since` has given."""
        for name, column in zip(_COLUMNS, self.columns, strict=True):
            values = columns[name]
            column += values.tolist() if values.ndim == 1 else list(values)

    def forget(self, before: int) -> None:
        """Keep nothing of the frames before that one."""
        gone = bisect_left(self.frames, before)
        for column in self.columns:
            del column[:gone]


_COLUMNS = ("frames", "times", "estimates", "keypoints", "boxes", "scores")


class VideoReconstructor:
    """Takes the frames of one film one by one.

    Args:
        frame_rate: frames a second, about; where `push` is told no times, they are this far apart.
        focal_length: pixels; default: the frame's diagonal.
        camera: instead, all of a camera that stands.
        live: answer while the film runs, `delay` frames late; each person's shape is then the first window's.
        fast: see `FAST`.
        max_people: follow so many at a time at most, the largest.
        tiles: also search parts of the frame, for small people, now and then.
        body: default: the free body.
        detector: default: the packaged one.
        config: default: as ``live`` and ``fast`` say.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        frame_rate: float = 30.0,
        focal_length: float | None = None,
        camera: PerspectiveCamera | None = None,
        live: bool = False,
        fast: bool = False,
        max_people: int | None = None,
        tiles: bool = True,
        body: BodyModel | None = None,
        detector: PoseDetector | None = None,
        config: VideoConfig | None = None,
    ) -> None:
        if not (isfinite(frame_rate) and frame_rate > 0):
            raise ValueError(f"frame_rate must be a positive number of frames a second, got {frame_rate}.")
        if max_people is not None and max_people < 1:
            raise ValueError(f"max_people must be at least 1, not {max_people}; None keeps everybody.")
        base = FAST if fast else VideoConfig()
        self.config = config or (replace(base, motion=LIVE.motion) if live else base)
        self._frame_rate, self._focal_length, self._live = float(frame_rate), focal_length, live
        self._body = body or default_body()
        detector = detector or default_detector()
        self._reconstructor = Reconstructor(detector, default_estimator(self._body), self._body)
        self._follower = Follower(detector, self.config.follow, max_people=max_people, tiles=tiles)
        self._camera = camera
        self._size: tuple[int, int] | None = None
        self._times: list[float] = []
        self._waiting: list[tuple[int, float, Followed]] = []
        self._rows: dict[int, _Rows] = {}
        self._window_first = self._answered = 0
        self._ended = False
        self.followed: tuple[Followed, ...] = ()
        """Who was seen in the newest frame, as the networks saw them."""

    @property
    def delay(self) -> int | None:
        """How many frames `push` is late at most; None: all are answered by `finish`."""
        return self.config.motion.window if self._live else None

    @property
    def frames(self) -> int:
        """How many frames came so far."""
        return len(self._times)

    def push(self, pixels: np.ndarray, time: float | None = None) -> list[SeenFrame]:
        """The next frame, RGB; returns those that are finished by now, in order (live), or none.

        Args:
            pixels: (height, width, 3) uint8; all frames have the same size.
            time: seconds, later than the frame before.

        Raises:
            ValueError: the frame is no RGB of the film's size, or its time is not later.
        """
        self.look(pixels, time)
        self.estimate_waiting()
        return self._answers() if self._live else []

    def look(self, pixels: np.ndarray, time: float | None = None) -> None:
        """The first half of `push`: who is where; `estimate_waiting` is the other."""
        if self._ended:
            raise ValueError("this film is finished; make another VideoReconstructor for the next one.")
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"a frame must be RGB, uint8 of shape (height, width, 3), not {pixels.shape}.")
        size = pixels.shape[1], pixels.shape[0]
        if self._size is None:
            self._size = size
            self._camera = self._camera or assumed_camera(*size, self._focal_length)
        if size != self._size:
            raise ValueError(f"a frame has {size[0]} x {size[1]} pixels; the film's first has {self._size}.")
        if time is None:
            time = len(self._times) / self._frame_rate
        if self._times and not time > self._times[-1]:
            raise ValueError(f"a frame's time, {time} s, must be later than the last one's, {self._times[-1]} s.")
        number = len(self._times)
        self._times.append(float(time))
        self.followed = tuple(self._follower.look(np.ascontiguousarray(pixels), time))
        self._waiting += [(number, time, one) for one in self.followed]

    def estimate_waiting(self) -> None:
        """Estimate the bodies of those who were seen, once they are enough for a batch."""
        if len(self._waiting) >= _BATCH:
            self._estimate()

    def finish(self) -> list[SeenFrame]:
        """The rest of the frames of a live film; nothing can be pushed after. `video` has all of it."""
        self._estimate()
        self._ended = True
        return self._answers() if self._live else []

    def video(self, *, smooth: bool | None = None) -> Video:
        """All people of the finished film, each with one body.

        Args:
            smooth: in place of what the configuration says.

        Raises:
            ValueError: the film is not finished, had no frame, or was live.
        """
        if not self._ended:
            raise ValueError("the film is not finished: call finish() after the last frame.")
        if self._live:
            raise ValueError("a live film's frames were answered while it ran, and are not kept.")
        if self._size is None or self._camera is None:
            raise ValueError("the film has no frame.")
        smooth = self.config.smooth if smooth is None else smooth
        span = self._times[-1] - self._times[0]
        least = self.config.shortest if span > 2 * self.config.shortest else 0.0
        stayed = [rows for rows in self._rows.values() if rows.times[-1] - rows.times[0] >= least]
        if brief := len(self._rows) - len(stayed):
            note(f"left out: {brief} who could be followed for less than {least:g} s.")
        tracks = tuple(self._track(number, rows, smooth) for number, rows in enumerate(stayed))
        intervals = np.diff(self._times)
        rate = self._frame_rate if not len(intervals) else 1 / float(np.median(intervals))
        found = Video(np.array(self._times), rate, self._size, self._camera, tracks, smooth)
        if not (smooth and self.config.floor and found.world.has_floor):
            return found
        settled = (
            self._above_floor(track, rows, found.world) if found.world.on_floor[track.number] else track
            for track, rows in zip(tracks, stayed, strict=True)
        )
        return replace(found, tracks=tuple(settled), known_world=found.world)

    # --- Stretches that are kept -------------------------------------------------------------------------------

    @property
    def seen_how(self) -> tuple[object, ...]:
        """What stretches depend on beside the film."""
        camera, template = self._camera, self._body.v_template.numpy(force=True)
        lens = None if camera is None else (camera.focal_length.tolist(), camera.principal_point.tolist())
        body = sha256(np.ascontiguousarray(template).tobytes()).hexdigest()
        return self.config.follow, self._focal_length, lens, *self._follower.options, body

    def stretch(self, since: int) -> dict[str, np.ndarray]:
        """What was seen from the ``since``-th frame on, and all that the next ones depend on, as arrays.

        `restore` takes the stretches of a film in order. People who wait for their batch are estimated first, so
        equal stretches give equal results.
        """
        self._estimate()
        arrays = {"times": np.array(self._times[since:], dtype=np.float64), "size": np.array(self._size or (0, 0))}
        arrays |= {f"follow.{name}": values for name, values in self._follower.state().items()}
        tracks = [(k, rows) for k, rows in self._rows.items() if rows.frames and rows.frames[-1] >= since]
        arrays["tracks"] = np.array([k for k, _ in tracks], dtype=np.int64)
        arrays["sets"] = np.array([rows.set_name for _, rows in tracks], dtype=np.str_)
        for number, rows in tracks:
            arrays |= {f"{number}.{name}": values for name, values in rows.since(since).items()}
        return arrays

    def restore(self, stretches: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Go on after stretches of the same film, seen with the same options.

        Raises:
            KeyError, ValueError, IndexError: they are none.
        """
        for arrays in stretches:
            self._times += arrays["times"].tolist()
            width, height = arrays["size"].tolist()
            self._size = width, height
            for number, name in zip(arrays["tracks"].tolist(), arrays["sets"].tolist(), strict=True):
                columns = {column: arrays[f"{number}.{column}"] for column in _COLUMNS}
                self._rows.setdefault(number, _Rows(set_name=name)).add(columns)
        if stretches:
            self._camera = self._camera or assumed_camera(*(self._size or (0, 0)), self._focal_length)
            self._follower.restore({
                name.removeprefix("follow."): values
                for name, values in stretches[-1].items() if name.startswith("follow.")
            })  # fmt: skip

    # --- Frame by frame ----------------------------------------------------------------------------------------

    def _estimate(self) -> None:
        """The people who wait, each frame alone: as they were read, and with their sides exchanged."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        usable = [w for w in waiting if _usable(w[2].person)]
        seen = self._people([w[2].person for w in usable])
        other = self._people([exchanged(w[2].person) for w in usable])
        for (number, time, one), a, b in zip(usable, seen, other, strict=True):
            if a is None or b is None:
                continue
            rows = self._rows.setdefault(one.track, _Rows(set_name=one.person.keypoint_set))
            rows.frames.append(number)
            rows.times.append(time)
            rows.estimates.append(np.stack([_packed(a), _packed(b)]))
            rows.keypoints.append(np.stack([a.keypoints_detected.numpy(), b.keypoints_detected.numpy()]))
            rows.boxes.append(one.person.box)
            rows.scores.append(float(one.person.score))

    def _people(self, found: Sequence[DetectedPerson]) -> list[Person | None]:
        assert self._size is not None
        people = [PersonInPhoto.found(p, None, self._size, self._camera) for p in found]
        return self._reconstructor.people(people)

    # --- Together ----------------------------------------------------------------------------------------------

    def _track(self, number: int, rows: _Rows, smooth: bool) -> Track:
        start, keypoints = self._righted(rows, slice(None))
        bodies = start
        if smooth:
            times = torch.tensor(rows.times, dtype=torch.float64)
            spread = _spread(len(times))
            at_once = replace(self.config.motion, window=len(spread))
            shape = self._fitted(start[spread], keypoints[spread], rows, times[spread], motion=at_once).betas[0]
            bodies = self._fitted(start, keypoints, rows, times, shape)
        return self._tracked(number, rows, slice(None), bodies, keypoints)

    def _above_floor(self, track: Track, rows: _Rows, world: World) -> Track:
        """Fitted once more, now that it is known where the floor is: no foot sinks in."""
        body, betas = track.body, torch.from_numpy(track.betas)
        rest = (body.joint_template + body.joint_shapedirs @ betas)[list(FEET), 1]
        sole = (body.v_template + body.shapedirs[..., : len(betas)] @ betas)[:, 1].min()
        floor = Floor(
            up=world.up,
            height=-float(world.translation[1] / world.sizes[track.number]),
            clearance=rest - sole,
        )
        feet = torch.from_numpy(track.joints[:, list(FEET)])
        near = (feet @ floor.up - floor.height - floor.clearance).abs()[torch.from_numpy(track.contacts)] < _NEAR_FLOOR
        if not len(near) or near.float().mean() < _FLAT:  # stairs, a hill: no one plane is under these feet
            return track
        times = torch.tensor(rows.times, dtype=torch.float64)
        start, keypoints = self._righted(rows, slice(None))
        bodies = self._fitted(start, keypoints, rows, times, betas, begin=track.bodies, floor=floor)
        return replace(track, bodies=bodies)

    def _tracked(self, number: int, rows: _Rows, some: slice, bodies: Bodies, keypoints: Tensor) -> Track:
        return Track(
            number=number,
            frames=np.array(rows.frames[some]),
            times=np.array(rows.times[some]),
            bodies=bodies,
            keypoints=keypoints,
            keypoint_set=rows.set_name,
            boxes=np.stack(rows.boxes[some]),
            scores=np.array(rows.scores[some]),
            image_size=self._size or (0, 0),
            body=self._body,
        )

    def _righted(self, rows: _Rows, some: slice, before: bool | None = None) -> tuple[Bodies, Tensor]:
        """Bodies and keypoints of some frames, with their sides as the film says."""
        assert self._camera is not None
        numbers = torch.from_numpy(np.stack(rows.estimates[some]))
        both = BodyParameters.from_vector(numbers[..., :-1])  # of each frame two
        times = torch.tensor(rows.times[some], dtype=torch.float64)
        sides = np.zeros(len(times), dtype=bool)
        if self.config.sides:
            sides = chosen_sides(self._body, both, numbers[..., -1].double(), times, before)
        rows.first_sides = dict(zip(rows.frames[some], sides.tolist(), strict=True))
        pick = torch.arange(len(sides)), torch.from_numpy(sides).long()
        keypoints = torch.from_numpy(np.stack(rows.keypoints[some]))[pick]
        count = len(sides)
        camera = PerspectiveCamera(
            self._camera.focal_length.expand(count), self._camera.principal_point.expand(count, 2)
        )
        return Bodies.of(BodyParameters.from_vector(numbers[pick][:, :-1]), camera), keypoints

    def _fitted(
        self,
        start: Bodies,
        keypoints: Tensor,
        rows: _Rows,
        times: Tensor,
        betas: Tensor | None = None,
        motion: SmoothConfig | None = None,
        held: int = 0,
        begin: Bodies | None = None,
        floor: Floor | None = None,
    ) -> Bodies:
        how = motion or self.config.motion, self.config.evidence
        found = self._body, keypoints, rows.set_name, start, times, *how
        return fitted_together(*found, betas=betas, held=held, begin=begin, floor=floor)

    def _answers(self) -> list[SeenFrame]:
        """Of a live film: the frames of windows that are full, or of the rest once it has ended."""
        answers: list[SeenFrame] = []
        window, overlap = self.config.motion.window, self.config.motion.overlap
        while self._answered < len(self._times):
            last = min(self._window_first + window, len(self._times))
            if last < self._window_first + window and not self._ended:
                break
            self._estimate()
            keep = last if self._ended and last == len(self._times) else last - overlap
            parts = [(k, t) for k, rows in self._rows.items() if (t := self._window(k, rows, last, keep)) is not None]
            for number in range(self._answered, keep):
                people = [(k, t.person(row)) for k, t in parts if (row := t.row_of(number)) is not None]
                answers.append(SeenFrame(number, self._times[number], tuple(people)))
            self._answered, self._window_first = keep, max(keep - 2, 0)
            for rows in self._rows.values():
                rows.forget(self._window_first)
        return answers

    def _window(self, number: int, rows: _Rows, last: int, keep: int) -> Track | None:
        end = int(np.searchsorted(rows.frames, last))
        if not end:
            return None
        some = slice(0, end)
        bodies, keypoints = self._righted(rows, some, rows.first_sides.get(rows.frames[0]))
        if self.config.smooth:
            times = torch.tensor(rows.times[some], dtype=torch.float64)
            held = int(np.searchsorted(rows.frames, self._answered)) if rows.answered is not None else 0
            if rows.answered is not None and held:
                known = rows.answered[torch.arange(len(rows.answered.pose) - held, len(rows.answered.pose))]
                bodies = concatenate([known, bodies[torch.arange(held, end)]])
            bodies = self._fitted(bodies, keypoints, rows, times, rows.betas, held=held)
            rows.betas = bodies.betas[0]
            rows.answered = bodies[torch.arange(int(np.searchsorted(rows.frames[:end], keep)))]
        return self._tracked(number, rows, some, bodies, keypoints)


def reconstruct_video(
    source: str | Path | Film,
    *,
    start: float = 0.0,
    end: float | None = None,
    every: int = 1,
    frame_rate: float | None = None,
    focal_length: float | None = None,
    camera: PerspectiveCamera | None = None,
    fast: bool = False,
    smooth: bool = True,
    max_people: int | None = None,
    tiles: bool = True,
    body: BodyModel | None = None,
    detector: PoseDetector | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    watch: Callable[[np.ndarray, Sequence[Followed]], None] | None = None,
    keep: Path | None = None,
) -> Video:
    """People of a film: who is who, one body a person, smooth motion on feet that stand.

    Memory does not depend on the film's length but for some kilobytes a person and frame, and time grows with both.
    What of the film cannot be read is said by an `InputWarning` (`kouros.notes`).

    Args:
        source: a file, a folder of numbered pictures, or an opened film.
        start: seconds from which on frames count; likewise ``end``.
        every: take every so-manyth frame.
        frame_rate: frames a second of a folder; of a file, in place of what it says.
        focal_length: pixels; default: the frame's diagonal.
        camera: instead, all of the camera, which stands.
        fast: fewer looks a frame.
        smooth: fit the frames of a person together; else each stays alone.
        max_people: follow so many at most, the largest.
        tiles: also search parts of the frame for small people, now and then.
        body: default: the free body.
        detector: default: the packaged one.
        progress: told after each frame how many are done, and about how many there are.
        watch: shown each frame, RGB, and who is followed in it.
        keep: a folder for what is seen, stretch by stretch (`kouros.pipeline.stretches`): if this is interrupted, the
            same call goes on after the last one, and ends as if nothing had happened. Delete it when all is done.

    Raises:
        kouros.data.video.VideoError: the film cannot be read, or has no frame in that part.
        ValueError: a number is out of its range.
        ImportError: PyAV is missing.
    """
    film = source if isinstance(source, Film) else open_film(source, Part(start, end, every), frame_rate=frame_rate)
    config = FAST if fast else VideoConfig()
    reconstructor = VideoReconstructor(
        frame_rate=film.frame_rate,
        focal_length=focal_length,
        camera=camera,
        max_people=max_people,
        tiles=tiles,
        body=body,
        detector=detector,
        config=replace(config, smooth=smooth),
    )
    stretches = None if keep is None else Stretches(keep, film.fingerprint, reconstructor.seen_how)
    done = 0 if stretches is None else stretches.restore(reconstructor)
    for number, frame in enumerate(film.frames()):
        if number < done:
            continue
        reconstructor.push(frame.pixels, frame.time)
        if stretches is not None and reconstructor.frames % STRETCH == 0:
            stretches.add(reconstructor)
        if progress is not None:
            progress(reconstructor.frames, film.length)
        if watch is not None:
            watch(frame.pixels, reconstructor.followed)
    reconstructor.finish()
    if stretches is not None:
        stretches.add(reconstructor)
    return reconstructor.video()


def standing(
    feet: Float[np.ndarray, "frames points 3"], times: Float[np.ndarray, " frames"]
) -> Bool[np.ndarray, "frames points"]:
    """Which points stand still, as far as the frames before and after say; none where there is no other frame."""
    if len(times) < 2:
        return np.zeros(feet.shape[:2], dtype=bool)
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) / np.diff(times)[:, None]
    least = np.full(feet.shape[:2], np.inf)
    least[:-1] = speed
    least[1:] = np.minimum(least[1:], speed)
    return least < _STANDS


def _telling(track: Track) -> list[int]:
    """Some of a track's frames that tell where the floor is: spread over those in which a foot stands, if any."""
    rows = np.flatnonzero(track.contacts.any(axis=1))
    rows = rows if len(rows) else np.arange(len(track))
    return [int(row) for row in np.unique(rows[np.linspace(0, len(rows) - 1, _TELLING).astype(int)])]


def _usable(person: DetectedPerson) -> bool:
    return int((person.keypoints_2d[:, 2] > 0).sum()) >= MINIMUM_KEYPOINTS


def _packed(person: Person) -> Float[np.ndarray, " numbers"]:
    """The unknowns of a body, and how far it misses its keypoints, as a share of the person's size."""
    missed = 0.0 if person.reprojection is None else person.reprojection.share
    return np.append(person.parameters.vector.numpy(force=True), np.float32(missed))


def _spread(frames: int) -> Tensor:
    """Places of the stretches that decide on the shape, evenly over all frames."""
    if frames <= _SHAPE_STRETCHES * _SHAPE_FRAMES:
        return torch.arange(frames)
    firsts = np.linspace(0, frames - _SHAPE_FRAMES, _SHAPE_STRETCHES).astype(int)
    return torch.from_numpy(np.unique(firsts[:, None] + np.arange(_SHAPE_FRAMES)))
