"""Who is who from frame to frame: people are joined to the track whose keypoints are nearest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from kouros.detection import DetectedPerson

MAX_DISTANCE = 0.5
"""How far a person moves from one frame to the next at most, in lengths of the box's longer side."""
DISTANCE_A_FRAME = 0.1
"""How much farther for each further frame without the person, up to `FARTHEST`."""
FARTHEST = 1.0


@dataclass(frozen=True)
class Sighting:
    """A person in a frame."""

    frame: int
    """Place in the sequence."""
    person: int
    """Place among the frame's people."""


def track_people(
    frames: Sequence[Sequence[DetectedPerson]], numbers: Sequence[int], *, max_gap: int
) -> list[list[Sighting]]:
    """Join each frame's people to the tracks so far, all at once by optimal assignment; the others begin new tracks.

    Args:
        frames: who was found in each.
        numbers: of the frames, increasing; some may be missing.
        max_gap: frames after which a track that was not continued has ended.

    Returns:
        Tracks in the order of their beginnings; each has at most one sighting a frame, in order.
    """
    tracks: list[list[Sighting]] = []
    for at, people in enumerate(frames):
        alive = [t for t in tracks if numbers[at] - numbers[t[-1].frame] <= max_gap]
        last = [frames[t[-1].frame][t[-1].person] for t in alive]
        gaps = [numbers[at] - numbers[t[-1].frame] for t in alive]
        taken = set()
        if alive and people:
            reach = np.array([min(MAX_DISTANCE + DISTANCE_A_FRAME * (gap - 1), FARTHEST) for gap in gaps])
            distance = np.array([[_distance(a, b) for b in people] for a in last])
            allowed = distance <= reach[:, None]
            # What is not allowed must cost more than any other way to pair up the rest.
            cost = np.where(allowed, distance, 1e3)
            for track, person in zip(*linear_sum_assignment(cost), strict=True):
                if allowed[track, person]:
                    alive[track].append(Sighting(at, int(person)))
                    taken.add(int(person))
        tracks += [[Sighting(at, person)] for person in range(len(people)) if person not in taken]
    return tracks


def _distance(a: DetectedPerson, b: DetectedPerson) -> float:
    """Mean distance of the keypoints that both have, or else of the boxes' corners, in lengths of the boxes."""
    size = max(float(np.mean([_side(a), _side(b)])), 1.0)
    if a.keypoint_set == b.keypoint_set:
        weight = a.keypoints_2d[:, 2] * b.keypoints_2d[:, 2]
        if weight.sum() > 0:
            away = np.linalg.norm(a.keypoints_2d[:, :2] - b.keypoints_2d[:, :2], axis=1)
            return float((weight * away).sum() / weight.sum()) / size
    return float(np.linalg.norm((a.box - b.box).reshape(2, 2), axis=1).mean()) / size


def _side(person: DetectedPerson) -> float:
    return float((person.box[2:] - person.box[:2]).max())
