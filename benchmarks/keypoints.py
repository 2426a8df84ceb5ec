"""How far do the keypoints lie off, and are their confidences true, when people's boxes are given?

    python benchmarks/keypoints.py                                         # renders B and the annotated samples
    python benchmarks/keypoints.py --sets renders-A --finders kouros --pictures 60 --reliability plot.png

Prints tables, then JSON lines; sets, seeds and cache are those of ``benchmarks/detection.py``, of which those with
keypoints are used. Judged are visible limb points (shoulders to ankles): PCK@0.1 is the share within a tenth of the
head-to-hip length, errors are in % of the person's size (the longer side of the box); a point is a neighbour's where it
lies on somebody else's and not on the person's own. The table of confidences is over all limb points of which it is
known where they are, hidden ones too: what share of those of a confidence is within that tenth.
"""

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.finding import CACHE, FINDERS, RENDERS, SAMPLES, Example, examples_of, finders
from common.judging import Judged, Report, by_joint, judged_in_boxes, keypoint_figures, tags_of

SETS = ("renders-A", "renders-B", "coco", "3dhp", "multiview")
DEFAULT_SETS = SETS[1:]
BINS = 10


def by_tag(examples: Sequence[Example], judged: dict[str, list[Judged]]) -> list[dict[str, object]]:
    """PCK@0.1 and mean error of each finder by what the people are examples of."""
    rows = []
    for tag in tags_of(examples):
        row: dict[str, object] = {"who": tag}
        for name, ones in judged.items():
            scores = [s for one in ones for i, s in one.keypoint_scores() if tag in one.example.people[i].tags]
            figures = keypoint_figures(scores)
            row["people"] = len(scores)
            if figures:
                row |= {f"{name} PCK %": figures["PCK@0.1 %"], f"{name} error %": figures["error % of size"]}
        rows.append(row)
    return rows


def confidences(judged: Sequence[Judged]) -> tuple[np.ndarray, np.ndarray]:
    """Confidence of each known limb point, and whether it is correct."""
    said, correct = [], []
    for one in judged:
        finds = dict(one.matching.pairs)
        for i, score in one.keypoint_scores():
            use = score.known & np.isfinite(one.finds[finds[i]].confidence)
            said.append(one.finds[finds[i]].confidence[use])
            correct.append(score.correct[use])
    return np.concatenate(said), np.concatenate(correct)


def reliability(said: np.ndarray, correct: np.ndarray) -> list[dict[str, Any]]:
    """By tenths of confidence: how many points, their mean confidence, and how many % are correct."""
    bins = np.clip((said * BINS).astype(int), 0, BINS - 1)
    return [
        {
            "confidence": f"{k / BINS:.1f} to {(k + 1) / BINS:.1f}",
            "points": int((bins == k).sum()),
            "said %": 100 * float(said[bins == k].mean()),
            "correct %": 100 * float(correct[bins == k].mean()),
        }
        for k in range(BINS)
        if (bins == k).any()
    ]


def calibration_error(said: np.ndarray, correct: np.ndarray) -> float:
    """Mean distance between what is said and what is so, over the bins weighted by their points, %."""
    bins = np.clip((said * BINS).astype(int), 0, BINS - 1)
    apart = [abs(said[bins == k].sum() - correct[bins == k].sum()) for k in range(BINS)]
    return 100 * float(np.sum(apart)) / len(said)


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5))
    axes = figure.add_subplot()
    axes.plot([0, 100], [0, 100], color="0.7")
    for name in dict.fromkeys((row["set"], row["finder"]) for row in rows):
        mine = [row for row in rows if (row["set"], row["finder"]) == name]
        axes.plot([r["said %"] for r in mine], [r["correct %"] for r in mine], "o-", label=f"{name[1]}, {name[0]}")
    axes.set(xlabel="confidence, %", ylabel="within a tenth of the head-to-hip length, %")
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", default=DEFAULT_SETS, choices=SETS)
    parser.add_argument("--finders", nargs="+", default=list(FINDERS), help=f"of {', '.join(FINDERS)}")
    parser.add_argument("--pictures", type=int, default=RENDERS, help="renders")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="folder of coco_sample and the like")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where renders are kept")
    parser.add_argument("--reliability", type=Path, help="plot the table of confidences into this PNG")
    arguments = parser.parse_args()
    report = Report()
    had = [finder for finder in finders(arguments.finders) if finder.in_boxes is not None]
    rows, joints, kinds, bins = [], [], [], []
    for name in arguments.sets:
        examples = examples_of(name, arguments.pictures, arguments.samples, arguments.cache)
        if not examples:
            continue
        judged = {finder.name: judged_in_boxes(finder, examples) for finder in had}
        group = examples[0].group
        for finder, ones in judged.items():
            scores = [score for one in ones for _, score in one.keypoint_scores()]
            said, correct = confidences(ones)
            rows.append(
                {
                    "set": group, "finder": finder, "people": len(scores), **keypoint_figures(scores),
                    "calibration error %": calibration_error(said, correct),
                    "ms a person": 1000 * statistics.median(one.seconds for one in ones),
                }
            )  # fmt: skip
            joints.append({"set": group, "finder": finder, **by_joint(scores)})
            bins += [{"set": group, "finder": finder, **row} for row in reliability(said, correct)]
        kinds += [{"set": group, **row} for row in by_tag(examples, judged)]
    report.table("keypoints in given boxes", rows)
    report.table("error by joint, % of the person's size", joints)
    report.table("keypoints by kind of person", kinds)
    report.table("confidences", bins)
    report.close()
    if arguments.reliability is not None:
        plot(bins, arguments.reliability)


if __name__ == "__main__":
    main()
