"""Who is who in a film while it is seen: people are followed by the networks that read their keypoints.

Both landmark networks look where somebody should be by now; detectors search the whole picture only now and then, and
when somebody got lost. What was seen in a frame is given to the people known so far all at once, by where their bodies
should be and by the colours they wear, so that two who cross keep their names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from scipy.optimize import linear_sum_assignment

from kouros.body.keypoints import COCO17
from kouros.detection import DetectedPerson, PoseDetector
from kouros.detection.duplicates import already_found
from kouros.detection.find import MIN_PRESENCE, Find
from kouros.detection.fusion import BODY, person_size
from kouros.detection.places import Place, region_around
from kouros.detection.regions import Pyramid, Region


@dataclass(frozen=True)
class FollowConfig:
    """How often is searched, and how far people are believed to get."""

    search_every: float = 0.5
    """Seconds between searches of the whole picture."""
    search_lost: float = 0.12
    """The same while somebody known is missing, or nobody is there."""
    tiles_every: float = 2.0
    """Seconds between searches that also look for small people."""
    crops: int = 2
    """Crops of each person that BlazePose's landmarks are averaged over; 0: the one look that follows the person."""
    remembered: float = 2.0
    """Seconds for which somebody who is not seen is expected back."""
    reach: float = 0.5
    """How far from where they are expected people may be seen, in their size in the picture."""
    reach_a_second: float = 1.0
    """How much further for each second without them, up to ``farthest``."""
    farthest: float = 2.5
    colours: float = 30.0
    """Difference of colours (CIELAB) that counts as much as a distance of one's own size."""
    most_different: float = 45.0
    """Difference of colours from which on two people are not the same, unless one is where the other should be."""
    just_there: float = 0.1
    """So near, in the size in the picture, is that: shadows and folds change colours at once."""
    just_now: float = 0.1
    """And so soon after having been seen, seconds."""
    coasting: float = 0.6
    """Seconds for which somebody unseen is believed to go on as before."""


@dataclass(frozen=True, eq=False)
class Followed:
    """Somebody in a frame."""

    track: int
    """The same number for the same person."""
    person: DetectedPerson


@dataclass(eq=False)
class _Known:
    """What is remembered of a person."""

    track: int
    points: Float[np.ndarray, "17 2"]
    """COCO's, where Thunder saw them last."""
    confidence: Float[np.ndarray, " 17"]
    region: Region
    """Where it looked."""
    multipose: float
    """Score of the place."""
    time: float
    colours: Float[np.ndarray, "parts 4"]
    velocity: Float[np.ndarray, "2"] = field(default_factory=lambda: np.zeros(2))
    """Pixels a second."""

    @staticmethod
    def of(track: int, find: Find, time: float, colours: Float[np.ndarray, "parts 4"]) -> "_Known":
        seen = find.seen
        return _Known(track, seen.points, seen.confidence, seen.region, find.place.multipose, time, colours)

    def expected(self, time: float, coasting: float) -> Float[np.ndarray, "17 2"]:
        """Where COCO's keypoints should be now."""
        return self.points + self.velocity * min(time - self.time, coasting)

    def update(self, find: Find, time: float, colours: Float[np.ndarray, "parts 4"]) -> None:
        seen, passed = find.seen, time - self.time
        weight = np.minimum(seen.confidence, self.confidence)[BODY]
        if passed > 0 and weight.sum() > 0:
            moved = (weight @ (seen.points - self.points)[BODY]) / weight.sum() / passed
            self.velocity = moved if not self.velocity.any() else 0.6 * self.velocity + 0.4 * moved
        share = np.where(self.colours[:, 3:] > 0, 0.1 * (colours[:, 3:] > 0), 1.0)
        self.colours = (1 - share) * self.colours + share * colours
        self.points, self.confidence, self.region = seen.points, seen.confidence, seen.region
        self.multipose, self.time = find.place.multipose, time


class Follower:
    """Follows the people of one film, a frame at a time.

    Args:
        detector: the networks.
        config: see there.
        max_people: so many at once at most, the largest first.
        tiles: also search parts of the picture, for small people, now and then.
    """

    def __init__(
        self,
        detector: PoseDetector,
        config: FollowConfig | None = None,
        *,
        max_people: int | None = None,
        tiles: bool = True,
    ) -> None:
        self._detector, self._config = detector, config or FollowConfig()
        self._max_people, self._tiles = max_people, tiles
        self._known: list[_Known] = []
        self._count = 0
        self._last: float | None = None
        self._searched, self._tiled = -np.inf, -np.inf

    def look(self, pixels: UInt8[np.ndarray, "height width 3"], time: float) -> list[Followed]:
        """Who is in the next frame, by their numbers.

        Args:
            pixels: RGB.
            time: seconds, later than the frame before.
        """
        image, config = Pyramid(pixels), self._config
        self._known = [k for k in self._known if time - k.time <= config.remembered]
        finds = self._followed(image, time)
        missing = len(finds) < max(len(self._known), 1)
        pause = config.search_lost if missing else config.search_every
        if time - self._searched >= pause - 1e-6 and not self._is_full(finds):
            self._searched = time
            finds = self._searched_for(image, finds, time)
        people = self._named(image, finds, time)
        self._last = time
        return [Followed(k.track, self._detector.look_closely(image, find, config.crops)) for k, find in people]

    @property
    def options(self) -> tuple[int | None, bool]:
        """How many people at once at most, and whether small ones are searched for."""
        return self._max_people, self._tiles

    def state(self) -> dict[str, np.ndarray]:
        """All that the next frames depend on: `restore` makes another follower go on as this one would. NaN where
        nothing was yet."""
        known = self._known
        clock = [np.nan if t is None or np.isinf(t) else t for t in (self._last, self._searched, self._tiled)]
        regions = [[k.region.x, k.region.y, k.region.size, k.region.angle, k.region.mirrored] for k in known]
        columns = {
            "tracks": np.array([k.track for k in known], dtype=np.int64),
            "points": np.array([k.points for k in known]),
            "confidence": np.array([k.confidence for k in known]),
            "regions": np.array(regions, dtype=np.float64).reshape(-1, 5),
            "scores": np.array([k.multipose for k in known], dtype=np.float64),
            "seconds": np.array([k.time for k in known], dtype=np.float64),
            "colours": np.array([k.colours for k in known]),
            "velocity": np.array([k.velocity for k in known]),
        }
        return columns | {"clock": np.array(clock), "count": np.array(self._count)}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` has said, of the same film."""
        last, searched, tiled = (None if np.isnan(t) else float(t) for t in state["clock"])
        self._last, self._count = last, int(state["count"])
        self._searched = -np.inf if searched is None else searched
        self._tiled = -np.inf if tiled is None else tiled
        self._known = [
            _Known(
                int(state["tracks"][k]),
                state["points"][k],
                state["confidence"][k],
                _region_of(state["regions"][k].tolist()),
                float(state["scores"][k]),
                float(state["seconds"][k]),
                state["colours"][k],
                state["velocity"][k],
            )
            for k in range(len(state["tracks"]))
        ]

    def _is_full(self, finds: Sequence[Find]) -> bool:
        return self._max_people is not None and len(finds) >= self._max_people

    def _followed(self, image: Pyramid, time: float) -> list[Find]:
        """What the networks see where people should be who were there in the frame before, each body once."""
        finds = []
        for known in self._known:
            if known.time != self._last:
                continue
            points = known.expected(time, self._config.coasting)
            region = region_around(points, known.confidence) or known.region
            find = self._detector.look_on(image, Place(region, known.multipose))
            if find.presence >= MIN_PRESENCE and find.is_plausible(image):
                finds.append(find)
        return _each_once(finds)

    def _searched_for(self, image: Pyramid, finds: list[Find], time: float) -> list[Find]:
        """The same and who else is in the picture."""
        tiles = self._tiles and time - self._tiled >= self._config.tiles_every
        if tiles:
            self._tiled = time
        found = list(finds)
        for place in self._detector.find_places(image, tiles=tiles):
            if any(find.is_of(place) for find in found):
                continue
            find = self._detector.look_at(image, place, MIN_PRESENCE, found)
            if find is not None and find.presence >= MIN_PRESENCE and find.is_plausible(image):
                found.append(find)
        return _each_once(found)

    def _named(self, image: Pyramid, finds: list[Find], time: float) -> list[tuple[_Known, Find]]:
        """Give what was seen to those who are known; what is left over is somebody new."""
        colours = [worn_colours(image, find) for find in finds]
        named: list[tuple[_Known, Find]] = []
        taken = set()
        if finds and self._known:
            cost = np.array(
                [[self._cost(known, find, c, time) for find, c in zip(finds, colours, strict=True)]
                 for known in self._known]
            )  # fmt: skip
            allowed = np.isfinite(cost)
            # What is not allowed must cost more than any other way to pair up the rest.
            for k, f in zip(*linear_sum_assignment(np.where(allowed, cost, 1e3)), strict=True):
                if allowed[k, f]:
                    self._known[k].update(finds[f], time, colours[f])
                    named.append((self._known[k], finds[f]))
                    taken.add(int(f))
        new = sorted((f for f in range(len(finds)) if f not in taken), key=lambda f: -finds[f].body.size)
        for f in new:
            if self._max_people is not None and len(named) >= self._max_people:
                break
            known = _Known.of(self._count, finds[f], time, colours[f])
            self._count += 1
            self._known.append(known)
            named.append((known, finds[f]))
        return sorted(named, key=lambda pair: pair[0].track)

    def _cost(self, known: _Known, find: Find, colours: Float[np.ndarray, "parts 4"], time: float) -> float:
        """Of taking what was seen for somebody known; infinite where that cannot be."""
        config = self._config
        away = apart(known.expected(time, config.coasting), known.confidence, find.seen.points, find.seen.confidence)
        gap = time - known.time
        if away > min(config.reach + config.reach_a_second * gap, config.farthest):
            return float("inf")
        different = unlike(known.colours, colours)
        in_place = away <= config.just_there and gap <= config.just_now + 1e-6
        if different > config.most_different and not in_place:
            return float("inf")
        # After a while the place says less, and what somebody wears as much as before.
        return away / (1 + 2 * gap) + different / config.colours


def _region_of(numbers: list[float]) -> Region:
    x, y, size, angle, mirrored = numbers
    return Region(x, y, size, angle, bool(mirrored))


def apart(
    expected: Float[np.ndarray, "17 2"],
    before: Float[np.ndarray, " 17"],
    points: Float[np.ndarray, "17 2"],
    confidence: Float[np.ndarray, " 17"],
) -> float:
    """Mean distance of a body's keypoints from where they are expected, by both confidences, in the body's size."""
    weight = (before * confidence)[BODY]
    distance = np.linalg.norm(points - expected, axis=1)[BODY]
    mean = float(weight @ distance / weight.sum()) if weight.sum() > 0 else float(distance.mean())
    return mean / person_size(points, confidence)


def _each_once(finds: list[Find]) -> list[Find]:
    kept: list[Find] = []
    for find in sorted(finds, key=lambda find: -find.presence):
        if not already_found(find.body, [other.body for other in kept]):
            kept.append(find)
    return kept


# --- What people wear ------------------------------------------------------------------------------------------

_PARTS = (
    ("left_shoulder", "right_hip"), ("right_shoulder", "left_hip"), ("left_hip", "left_knee"),
    ("right_hip", "right_knee"), ("left_knee", "left_ankle"), ("right_knee", "right_ankle"),
    ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow"), ("left_ear", "right_ear"),
)  # fmt: skip
_ENDS = np.array([[COCO17.index(a), COCO17.index(b)] for a, b in _PARTS])
_ALONG = np.linspace(0.25, 0.75, 7)[:, None]
_SEEN = 0.3


def worn_colours(image: Pyramid, find: Find) -> Float[np.ndarray, "parts 4"]:
    """The median colour (CIELAB) along each part of a body, and 1 where it is seen, else 0."""
    points, confidence = find.seen.points, find.seen.confidence
    colours = np.zeros((len(_ENDS), 4))
    pixels = image.full
    for k, (a, b) in enumerate(_ENDS):
        if min(confidence[a], confidence[b]) < _SEEN:
            continue
        at = np.floor(points[a] * (1 - _ALONG) + points[b] * _ALONG).astype(int)
        inside = ((at >= 0) & (at < [image.width, image.height])).all(axis=1)
        if inside.sum() < 3:
            continue
        seen = pixels[at[inside, 1], at[inside, 0]][None].astype(np.float32) / 255
        colours[k, :3] = np.median(cv2.cvtColor(seen, cv2.COLOR_RGB2LAB)[0], axis=0)
        colours[k, 3] = 1
    return colours


def unlike(a: Float[np.ndarray, "parts 4"], b: Float[np.ndarray, "parts 4"]) -> float:
    """Mean difference of the colours of parts that both show; 0 where there is none."""
    both = (a[:, 3] > 0) & (b[:, 3] > 0)
    return float(np.linalg.norm(a[both, :3] - b[both, :3], axis=1).mean()) if both.any() else 0.0
