"""The finder's numbers, anew: when somebody is there, and how sure each keypoint is.

    python benchmarks/finder_calibration.py --pictures 240

On renders of crowds in any posture and of nobody (split A, which no figure is reported on), every place that the
detectors propose is looked at by both networks. Logistic regression of "this look shows a person" gives the weights in
`kouros.detection.find`; of "this point lies within a tenth of the head-to-hip length", those in
`kouros.detection.fusion`. Prints both, how well they are calibrated, and finds and false finds by threshold.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression

from common.finding import CACHE, SAMPLES, renders, renders_of_nobody
from kouros.body.keypoints import COCO17
from kouros.detection.find import BODY, Find, PoseDetector
from kouros.detection.fusion import SHARED, agreement, as_blazepose, closeness, fuse, person_size
from kouros.detection.regions import Pyramid
from kouros.evaluation.metrics.detection import CORRECT_WITHIN, FoundPerson, TruePerson, head_to_hip, likeness

SIGNS = ("multipose", "agreement", "thunder", "flag")
KINDS = ("face", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def as_found(find: Find) -> FoundPerson:
    points = find.seen.points
    return FoundPerson(np.r_[points.min(axis=0), points.max(axis=0)], points, find.seen.confidence, 1.0)


def shown(people: tuple[TruePerson, ...], find: Find) -> int | None:
    """Whom a look shows best, if anybody."""
    alike = [(a.closeness, i) for i, p in enumerate(people) if (a := likeness(p, as_found(find))).same]
    return max(alike)[1] if alike else None


def signs(find: Find) -> list[float]:
    alike = agreement(find.seen.points, find.seen.confidence, find.look.points)
    return [find.place.multipose, alike, float(find.seen.confidence[BODY].mean()), find.look.flag]


def evidence(find: Find, person: TruePerson) -> tuple[np.ndarray, np.ndarray]:
    """(17, 3) what is known of each point, and (17,) whether it is correct; NaN where the truth is not known."""
    theirs, sure = find.look.points[SHARED], find.look.confidence[SHARED]
    mine = as_blazepose(find.seen.points)
    apart = np.linalg.norm(mine - theirs, axis=1) / person_size(mine, find.seen.confidence)
    fused = fuse(find.seen.points, find.seen.confidence, find.look.points, find.look.confidence).points[SHARED]
    away = np.linalg.norm(fused - person.keypoints, axis=1) / head_to_hip(person)
    correct = np.where(np.isfinite(away), away < CORRECT_WITHIN, np.nan)
    return np.column_stack([find.seen.confidence, sure, closeness(apart)]), correct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=240)
    parser.add_argument("--samples", type=Path, default=SAMPLES)
    parser.add_argument("--cache", type=Path, default=CACHE)
    given = parser.parse_args()
    examples = renders("A", given.pictures, given.samples, given.cache)
    examples += renders_of_nobody("A", max(1, given.pictures // 4), given.samples, given.cache)
    detector = PoseDetector()
    looks, labels, owners, points, correct = [], [], [], [], []
    total = 0
    for number, example in enumerate(examples):
        pyramid = Pyramid(example.image())
        total += sum(p.counts for p in example.people)
        best: dict[int, Find] = {}
        for place in detector.find_places(pyramid):
            find = detector.look_at(pyramid, place)
            assert find is not None
            who = shown(example.people, find)
            if who is not None and not example.people[who].counts:
                continue
            looks.append(signs(find))
            labels.append(who is not None)
            owners.append((number, who))
            if who is not None and (who not in best or find.presence > best[who].presence):
                best[who] = find
        for who, find in best.items():
            known, right = evidence(find, example.people[who])
            points.append(known)
            correct.append(right)
    x, y = np.array(looks), np.array(labels)
    model = LogisticRegression(max_iter=2000).fit(x, y)
    chance = model.predict_proba(x)[:, 1]
    print(json.dumps({"presence": dict(zip(SIGNS, model.coef_[0].round(2).tolist(), strict=True)),
                      "constant": round(float(model.intercept_[0]), 2)}))  # fmt: skip
    table = Table(
        "least probability", "people with a look above it", "looks at nobody above it", title=f"{total} people"
    )
    for least in (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):
        above = {owner for owner, c, real in zip(owners, chance, y, strict=True) if real and c > least}
        table.add_row(str(least), str(len(above)), str(int(((~y) & (chance > least)).sum())))
    Console().print(table)

    known, right = np.stack(points), np.stack(correct)
    table = Table("points", "Thunder", "BlazePose", "agreement", "constant", "correct, %", "Brier score")
    for kind in KINDS:
        ids = [k for k, n in enumerate(COCO17.names) if n.endswith(kind) or (kind == "face" and k < 5)]
        finite = np.isfinite(right[:, ids])
        x, y = known[:, ids][finite], right[:, ids][finite].astype(bool)
        model = LogisticRegression(max_iter=2000).fit(x, y)
        weights = [*model.coef_[0].tolist(), float(model.intercept_[0])]
        score = float(np.mean((model.predict_proba(x)[:, 1] - y) ** 2))
        print(json.dumps({"points": kind, "weights": np.round(weights, 2).tolist(), "brier": round(score, 4)}))
        table.add_row(kind, *(f"{w:.1f}" for w in weights), f"{100 * y.mean():.1f}", f"{score:.3f}")
    Console().print(table, f"{len(known)} people")


if __name__ == "__main__":
    main()
