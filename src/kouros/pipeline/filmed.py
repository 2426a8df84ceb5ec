"""The road of films as an estimator that protocols judge: it sees whole clips, and answers for the people asked of.

Each of a clip's people is answered by one track, of those that are left the one whose boxes overlap the person's most
over the clip (optimal assignment): who takes one for the other half-way has missed somebody.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from kouros.body import BodyModel
from kouros.body.keypoints import KeypointSet
from kouros.data.images import ImageError
from kouros.data.schema import Sample
from kouros.data.sources import Source
from kouros.detection import PoseDetector
from kouros.evaluation.judge import person_in_photo
from kouros.pipeline.detecting import LEAST_OVERLAP, overlap
from kouros.pipeline.reconstructor import default_body
from kouros.pipeline.video import FAST, Track, VideoConfig, VideoReconstructor
from kouros.systems.estimator import Estimate, PersonInPhoto

RATE = 30.0
"""Frames a second of data sets that do not say: 3DPW's."""


@dataclass
class Filmed:
    """What `kouros.reconstruct_video` makes of a data set's clips.

    Args:
        fast: as there.
    """

    fast: bool = False
    body: BodyModel | None = field(default_factory=default_body)
    detector: PoseDetector | None = None
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None
    needs_keypoints: bool = False

    @property
    def name(self) -> str:
        """As tables print it."""
        return f"kouros default-video{', fast' if self.fast else ''}"

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """Raises ValueError: a photo is no film."""
        raise ValueError("default-video sees films and no photos: take a protocol of films, such as synthetic-video.")

    def answers(
        self, source: Source, rows: Sequence[int], progress: Callable[[int, int], None] | None = None
    ) -> dict[int, Estimate]:
        """Answers by row; rows without one were missed.

        Raises:
            ValueError: the rows are of no sequences, or do not say which frames they are.
        """
        samples = {row: source.sample(row) for row in rows}
        if any(sample.sequence is None or sample.frame is None for sample in samples.values()):
            raise ValueError("default-video needs to know which frame of which sequence a row is; this table does not.")
        clips: dict[tuple[str | None, ...], list[int]] = {}
        for row, sample in samples.items():
            clips.setdefault((sample.sequence, sample.camera), []).append(row)
        found: dict[int, Estimate] = {}
        done = 0
        for members in clips.values():
            found |= self._clip(source, {row: samples[row] for row in members})
            done += len(members)
            if progress is not None:
                progress(done, len(rows))
        return found

    def _clip(self, source: Source, samples: dict[int, Sample]) -> dict[int, Estimate]:
        frames: dict[int, list[int]] = {}
        for row, sample in samples.items():
            frames.setdefault(int(sample.frame or 0), []).append(row)
        rate = float(source.info.provenance.get("frame_rate", RATE))
        boxes: dict[int, np.ndarray] = {}
        numbers: list[int] = []
        made: VideoReconstructor | None = None
        for frame in sorted(frames):
            try:
                pixels = source.image(frames[frame][0])
            except ImageError:
                continue
            shown = {row: person_in_photo(samples[row], pixels) for row in frames[frame]}
            boxes |= {row: np.asarray(person.box) for row, person in shown.items()}
            if made is None:
                camera = next(iter(shown.values())).known_camera
                config = FAST if self.fast else VideoConfig()
                made = VideoReconstructor(
                    frame_rate=rate, camera=camera, body=self.body, detector=self.detector, config=config
                )
            made.push(pixels, frame / rate)
            numbers.append(frame)
        if made is None:
            return {}
        made.finish()
        return _assigned(made.video().tracks, numbers, samples, boxes)


def _assigned(
    tracks: Sequence[Track], numbers: Sequence[int], samples: dict[int, Sample], boxes: dict[int, np.ndarray]
) -> dict[int, Estimate]:
    """Each person's frames in which the person's one track is where the person is."""
    place = {frame: k for k, frame in enumerate(numbers)}
    people: dict[tuple[str | None, ...], list[int]] = {}
    for row in boxes:
        people.setdefault((samples[row].subject, samples[row].person), []).append(row)
    shared: list[list[dict[int, tuple[int, float]]]] = []
    for members in people.values():
        shared.append([])
        for track in tracks:
            there = {}
            for row in members:
                at = track.row_of(place[int(samples[row].frame or 0)])
                if at is not None and (common := overlap(track.boxes[at], boxes[row])) >= LEAST_OVERLAP:
                    there[row] = at, common
            shared[-1].append(there)
    if not tracks:
        return {}
    total = np.array([[sum(common for _, common in there.values()) for there in of_one] for of_one in shared])
    found: dict[int, Estimate] = {}
    for person, k in zip(*linear_sum_assignment(-total), strict=True):
        for row, (at, _) in shared[person][k].items():
            found[row] = Estimate(bodies=tracks[k].bodies[at])
    return found
