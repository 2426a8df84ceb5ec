"""A video's keypoints in, people out: who is who from frame to frame, then all frames of each together.

Each frame is first estimated on its own; then the frames of each person are fitted together (`fit_sequence`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros import __version__
from kouros.batched import stack
from kouros.body import BodyModel
from kouros.body.layouts import layout
from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.skeleton import JOINT_NAMES
from kouros.detection import DetectedPerson
from kouros.detection.usable import MINIMUM_KEYPOINTS, usable_people
from kouros.fitting.schedules.keypoint_fit import FitConfig
from kouros.fitting.schedules.sequence import Floor, SmoothConfig, fit_sequence
from kouros.fitting.schedules.synergy import Cues, Synergy, SynergyConfig
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.notes import note
from kouros.pipeline.misfit import LARGEST_SHARE, misfit_of, with_reprojection
from kouros.pipeline.person import Person
from kouros.pipeline.reconstructor import CameraGiven, default_reconstructor, lens_of
from kouros.pipeline.straightening import straightened_people
from kouros.pipeline.tracking import Sighting, track_people
from kouros.priors.gmm import load_gmm
from kouros.systems.estimator import PersonInPhoto
from kouros.systems.refined import on_keypoints_of

FEET = tuple(JOINT_NAMES.index(f"{side}_{part}") for part in ("ankle", "foot") for side in ("left", "right"))
"""Joints that stand on the floor or step."""
_CHUNK = 128
"""Frames estimated at a time."""


@dataclass(frozen=True)
class VideoFrame:
    """What was found in one frame."""

    name: str
    number: int
    """Counts frames from any origin; numbers of missing frames are left out."""
    people: Sequence[DetectedPerson]


@dataclass(frozen=True, eq=False)
class PersonTrack:
    """One person through a video."""

    frames: tuple[int, ...]
    """Places in the video of the frames where the person was found."""
    people: tuple[Person, ...]
    """There; when smoothed, all with the same betas."""


@dataclass(frozen=True, eq=False)
class FittedVideo:
    """All people of a video."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    frame_rate: float
    smoothed: bool
    tracks: tuple[PersonTrack, ...]

    def people_of(self, frame: int) -> list[Person]:
        """Who is in a frame, in the order of the tracks."""
        return [t.people[t.frames.index(frame)] for t in self.tracks if frame in t.frames]

    def arrays(self) -> dict[str, np.ndarray]:
        """The sequence's NPZ file: T frames, P people; NaN where a person was not found.

        ==================  ===================  ====================================================
        ``seen``            (T, P) bool          whether the person was found in the frame
        ``betas``           (T, P, B) float32    equal over a smoothed person's frames
        ``pose``            (T, P, 72) float32   rotation vectors: global_orient, then joints 1 to 23
        ``transl``          (T, P, 3) float32    metres, camera space
        ``joints_3d``       (T, P, 24, 3)        metres, camera space; names in ``joint_names``
        ``joints_2d``       (T, P, 24, 2)        the same in the picture, pixels
        ``frame_names``     (T,) str
        ``frame_numbers``   (T,) int64
        ``frame_rate``      () float64           frames a second
        ``smoothed``        () bool
        ``focal_length``    () float32           pixels
        ``image_size``      (2,) int32           width, height
        ``version``         () str               of kouros
        ==================  ===================  ====================================================
        """
        seen = self._seen()
        first = self.tracks[0].people[0]
        columns = {
            "betas": lambda p: p.betas,
            "pose": lambda p: torch.cat([p.global_orient, p.body_pose]),
            "transl": lambda p: p.transl,
            "joints_3d": lambda p: p.joints,
            "joints_2d": lambda p: p.camera.project(p.joints),
        }
        found: dict[str, np.ndarray] = {"seen": seen}
        for key, value in columns.items():
            shape = value(first).shape
            column = np.full((*seen.shape, *shape), np.nan, dtype=np.float32)
            for k, track in enumerate(self.tracks):
                for frame, person in zip(track.frames, track.people, strict=True):
                    column[frame, k] = value(person).numpy(force=True)
            found[key] = column
        return found | {
            "joint_names": np.array(JOINT_NAMES),
            "frame_names": np.array(self.names),
            "frame_numbers": np.array(self.numbers, dtype=np.int64),
            "frame_rate": np.array(self.frame_rate),
            "smoothed": np.array(self.smoothed),
            "focal_length": first.camera.focal_length.numpy(force=True),
            "image_size": np.array(first.image_size, dtype=np.int32),
            "version": np.array(__version__),
        }

    def _seen(self) -> Bool[np.ndarray, "frames people"]:
        seen = np.zeros((len(self.names), len(self.tracks)), dtype=bool)
        for k, track in enumerate(self.tracks):
            seen[list(track.frames), k] = True
        return seen


def fit_video(
    frames: Sequence[VideoFrame],
    *,
    image_size: tuple[int, int],
    focal_length: float | None = None,
    camera: CameraGiven | None = None,
    frame_rate: float = 30.0,
    smooth: bool = True,
    body: BodyModel | None = None,
    config: SmoothConfig | None = None,
) -> FittedVideo:
    """Bodies from the keypoints of a video's frames.

    Whoever has no usable keypoints in a frame (`kouros.detection.usable`) is taken as not found there; a note says so.

    Args:
        frames: in order; people may come, go and be missed for a while.
        image_size: width and height, pixels, the same for all frames.
        focal_length: pixels; default: the image's diagonal.
        camera: in its place, all of the camera, as for `kouros.fit`.
        frame_rate: frames a second.
        smooth: fit the frames of a person together; else each on its own.
        body: default: the free body.
        config: of the motion.

    Raises:
        ValueError: frame numbers do not increase, the frame rate is not positive, or nobody is in any frame.
    """
    if not (np.isfinite(frame_rate) and frame_rate > 0):
        raise ValueError(f"frame_rate must be a positive number of frames a second, got {frame_rate}.")
    numbers = [frame.number for frame in frames]
    if any(b <= a for a, b in pairwise(numbers)):
        raise ValueError("the numbers of a video's frames must increase from frame to frame.")
    config = config or SmoothConfig()
    reconstructor = default_reconstructor(body)
    lens = lens_of(camera, image_size, focal_length)
    usable = [straightened_people(_usable(frame, image_size), lens) for frame in frames]
    tracks = track_people(usable, numbers, max_gap=max(1, round(config.largest_gap * frame_rate)))
    if not tracks:
        raise ValueError(f"nobody has {MINIMUM_KEYPOINTS} keypoints in any of the {len(frames)} frames.")

    def fitted(track: list[Sighting]) -> PersonTrack:
        found = [usable[s.frame][s.person] for s in track]
        chunks = (found[c : c + _CHUNK] for c in range(0, len(found), _CHUNK))
        people = [
            p
            for chunk in chunks
            for p in reconstructor.people([PersonInPhoto.found(d, None, image_size, lens.pinhole) for d in chunk])
            if p is not None
        ]
        if smooth and len({p.keypoint_set for p in found}) == 1:
            times = torch.tensor([numbers[s.frame] for s in track], dtype=torch.float64) / frame_rate
            people = [with_reprojection(p) for p in _smoothed(people, times, config)]
        return PersonTrack(tuple(s.frame for s in track), tuple(people))

    done = tuple(fitted(track) for track in tracks)
    _note_misfits(done)
    return FittedVideo(
        names=tuple(frame.name for frame in frames),
        numbers=tuple(numbers),
        frame_rate=float(frame_rate),
        smoothed=smooth,
        tracks=done,
    )


def _usable(frame: VideoFrame, image_size: tuple[int, int]) -> list[DetectedPerson]:
    found = []
    for k, person in enumerate(frame.people):
        label = f"{frame.name}, person {k}"
        try:
            found += usable_people(
                [(label, person.keypoints_2d)], layout(person.keypoint_set), image_size, [person.box]
            )
        except ValueError as error:
            note(f"left out: {error}")
    return found


def _note_misfits(tracks: Sequence[PersonTrack]) -> None:
    """Say who is not explained by the body, once a person."""
    for number, track in enumerate(tracks, start=1):
        shares = [p.reprojection.share for p in track.people if p.reprojection is not None]
        wrong = sum(not share <= LARGEST_SHARE for share in shares)
        if wrong:
            worst = track.people[int(np.argmax(shares))]
            note(f"person_{number}: in {wrong} of {len(shares)} frames {misfit_of(worst)}")


def _smoothed(people: list[Person], times: Float[Tensor, " frames"], config: SmoothConfig) -> list[Person]:
    """The people of one track, fitted together.

    What the learned start makes of each frame is where the fit begins, but no evidence of depth as in a single
    frame: over time it is worth less than the motion (39 mm of MPJPE without it against 46 mm with it on held-out
    motion capture).
    """
    keypoints = torch.stack([p.keypoints_detected for p in people])
    start = stack([p.parameters for p in people])
    together = fitted_together(people[0].body, keypoints, people[0].keypoint_set, start, times, config)
    return [p.moved(together[i]) for i, p in enumerate(people)]


def fitted_together(
    body: BodyModel,
    keypoints: Float[Tensor, "frames points 3"],
    set_name: str,
    start: Bodies,
    times: Float[Tensor, " frames"],
    config: SmoothConfig,
    evidence: FitConfig | None = None,
    *,
    begin: BodyParameters | None = None,
    floor: Floor | None = None,
    betas: Float[Tensor, " betas"] | None = None,
    held: int = 0,
) -> Bodies:
    """One person's frames as one motion of one body.

    Args:
        keypoints: pixels and confidence.
        start: each frame's own fit.
        times: seconds, increasing.
        evidence: how far keypoints and the start's points in space are trusted, where the pictures were seen; then feet
            stand or step, too. Default: the keypoints are all there is.
        begin: where the search begins; default: at the start.
        floor: of `FEET`, where it is known.
        betas: of the person, where they are known.
        held: so many frames at the beginning stay as the start has them.

    Raises:
        ValueError: as `fit_sequence`.
    """
    fitted_set, keypoints = on_keypoints_of(keypoints, set_name, body)
    synergy = synergy_for(body, fitted_set, evidence or FitConfig())
    points = synergy.kinematics.points(start) if evidence is not None else None
    cues = Cues(Evidence(keypoints, fitted_set, start.camera, points)).cleaned()
    found = fit_sequence(
        lambda rows: synergy.objective(cues[rows]),
        KeypointKinematics(body, "smpl24"),
        begin or start,
        times,
        config,
        feet=() if evidence is None else FEET,
        floor=floor,
        betas=betas,
        held=held,
    )
    return Bodies.of(found.parameters, start.camera)


@lru_cache(maxsize=8)
def synergy_for(body: BodyModel, set_name: str, config: FitConfig) -> Synergy:
    """The objective of a body's frames with the packaged prior, prepared once."""
    return Synergy(body, set_name, load_gmm(), SynergyConfig(keypoints=config))
