"""Do people who cross in a film keep their numbers?

Renders of two or three who walk past each other, at distances from nearly touching to two metres apart, each in clothes
of their own, at a few frames a second. A follower's person is somebody of the film when the hips
lie within 0.15 of the person's height. Prints IDF1 (Ristani et al. 2016: the share of person-frames with the right
identity, tracks and people paired at best) and switches (a person's number changes); where py-motmetrics is installed
(1.4 wants pandas), what it makes of the same films too.

``python benchmarks/crossings.py --mocap ../shared/data/mocap [--seeds 4] [--rate 10]``
"""

import argparse
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from kouros.data.mocap.motion import Motion, read_motion
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.films import Played, SyntheticFilm, synthetic_film
from kouros.detection import PoseDetector
from kouros.pipeline.following import FollowConfig, Follower

WALKS = ("cmux_walking_extra_test_10", "cmux_walking_extra_test_18", "cmux_walking_extra_test_13")
DEPTHS = (0.3, 0.6, 1.0, 2.0)
_NEAR = 0.15


def crossing(walks: list[Motion], stage: Stage, seed: int, depth: float, size: int) -> SyntheticFilm:
    """Every second one walks the other way; seen from the side, one behind the other."""
    ahead = walks[0].trans[-1] - walks[0].trans[0]
    side = math.atan2(ahead[0], ahead[2]) + math.pi / 2
    away = np.array([math.sin(side), math.cos(side)])
    people = []
    for k, walk in enumerate(walks):
        heading = walk.trans[-1] - walk.trans[0]
        turn = math.atan2(ahead[0], ahead[2]) - math.atan2(heading[0], heading[2]) + math.pi * (k % 2)
        x, z = (depth * (k - (len(walks) - 1) / 2) * away).tolist()
        people.append(Played(walk, (x, z), turn))
    return synthetic_film(people, stage.body, seed=seed, size=size, around=side, share=0.9)


Distances = dict[int, np.ndarray]
"""Of a frame: by a follower's number, how far its hips are from everybody's, in their heights in the picture."""


def followed(film: SyntheticFilm, stage: Stage, detector: PoseDetector, rate: float) -> list[Distances]:
    joints = film.joints(stage.body).numpy()
    shot = film.scenes[0].shot
    pixels = joints[..., :2] / joints[..., 2:] * shot.focal + shot.center
    follower = Follower(detector, FollowConfig(crops=0), tiles=False)
    found = []
    for t in range(len(film)):
        distances = {}
        height = np.ptp(pixels[t, ..., 1], axis=1)
        for one in follower.look(film.picture(stage, t), t / rate):
            hips = one.person.keypoints_2d[[23, 24], :2].mean(axis=0)
            distances[one.track] = np.linalg.norm(pixels[t, :, 1:3].mean(axis=1) - hips, axis=1) / height
        found.append(distances)
    return found


def by_motmetrics(films: list[list[Distances]], people: int) -> dict[str, float]:
    """IDF1 and switches as py-motmetrics counts them; nothing where it is not installed."""
    try:
        import motmetrics
    except ImportError:
        return {}
    counted = []
    for number, film in enumerate(films):
        accumulator = motmetrics.MOTAccumulator(auto_id=True)
        for distances in film:
            apart = np.array(list(distances.values())).reshape(len(distances), people).T
            accumulator.update(range(people), list(distances), np.where(apart < _NEAR, apart, np.nan))
        counted.append((accumulator, str(number)))
    table = motmetrics.metrics.create().compute_many(
        [accumulator for accumulator, _ in counted], metrics=["idf1", "num_switches"], names=[n for _, n in counted]
    )
    return {
        "motmetrics_idf1": round(float(table["idf1"].mean()), 4),
        "motmetrics_switches": int(table["num_switches"].sum()),
    }


def scores(film: list[Distances], people: int) -> tuple[float, int]:
    """IDF1 and switches."""
    found = [
        {number: int(away.argmin()) if away.min() < _NEAR else -1 for number, away in distances.items()}
        for distances in film
    ]
    tracks = sorted({number for names in found for number in names})
    together = np.array([[sum(names.get(t) == p for names in found) for p in range(people)] for t in tracks])
    right = together[linear_sum_assignment(-together)].sum() if tracks else 0
    claimed = sum(len(names) for names in found)
    switches = 0
    for person in range(people):
        numbers = [n for names in found for n, who in names.items() if who == person]
        switches += sum(a != b for a, b in pairwise(numbers))
    return 2 * right / (claimed + people * len(found)), switches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mocap", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--rate", type=int, default=10, help="frames a second; motions have 30")
    options = parser.parse_args()
    stage, detector = Stage(), PoseDetector()
    walks = [read_motion(options.mocap / "sequences" / f"{key}.npz").every(30 // options.rate) for key in WALKS]
    for count in (2, 3):
        for depth in DEPTHS:
            films = [
                followed(crossing(walks[:count], stage, seed, depth, 400), stage, detector, options.rate)
                for seed in range(options.seeds)
            ]
            found = [scores(film, count) for film in films]
            idf1, switches = np.mean([f for f, _ in found]), sum(s for _, s in found)
            row = {"what": "crossings", "people": count, "metres_apart": depth, "films": len(found)}
            row |= {"idf1": round(float(idf1), 4), "switches": switches}
            print(json.dumps(row | by_motmetrics(films, count)), flush=True)


if __name__ == "__main__":
    main()
