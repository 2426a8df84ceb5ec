"""Who is found, missed, found twice or in vain, by which finder, and how long does it take?

    python benchmarks/detection.py                                  # renders B, photos, pictures without people
    python benchmarks/detection.py --sets renders-A nobody-A --finders kouros multipose --pictures 60
    python benchmarks/detection.py --sheet sheet.png                # draws the worst pictures of the first finder
    python benchmarks/detection.py --stages --sets                  # only where a photo's time goes

Prints tables, then JSON lines. Sets: ``renders-A`` and ``renders-B`` (drawn by seed into ``--cache`` when first asked
for; thresholds are chosen on A, reports are of B), ``nobody-A`` and ``nobody-B`` (renders of rooms, things and
mannequins' limbs; in B also the pictures without people that packages ship: pip install scikit-image for most of
them), ``portraits`` (that packages ship), ``sports`` and ``photos`` (boxes by eye, beside this file), ``coco``,
``3dhp`` and ``multiview`` (annotated). Sets whose pictures are missing are left out with a line. What "found" means,
and the other measures: `kouros.evaluation.metrics.detection`. Times are of one run a picture after a first one; on a
busy machine only their ratios mean something.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.finding import CACHE, DEFAULT_SETS, FINDERS, RENDERS, SAMPLES, SETS, Example, examples_of, finders
from common.judging import Judged, Report, badness, by_joint, judged_by, keypoint_figures, share, sheet, tags_of
from kouros.detection import default_detector, find_people
from kouros.detection.find import DEFAULT_CROPS, LEVELS
from kouros.detection.regions import Pyramid, covering_regions


def summary(judged: Sequence[Judged]) -> dict[str, object]:
    """How often a finder is right on a set."""
    counted = sum(person.counts for one in judged for person in one.example.people)
    found = counted - sum(len(one.matching.missed) for one in judged)
    false = sum(len(one.matching.false) for one in judged)
    twice = sum(len(one.matching.duplicates) for one in judged)
    row: dict[str, object] = {"pictures": len(judged), "people": counted}
    if counted:
        row |= {"found": found, "recall %": 100 * found / counted}
    row |= {"false": false, "false a picture": false / len(judged)}
    row |= {"twice": twice, "twice a picture": twice / len(judged)}
    main = [
        i not in one.matching.missed
        for one in judged
        for i, person in enumerate(one.example.people)
        if "main person" in person.tags
    ]
    if main:
        row["main person"] = f"{sum(main)} of {len(main)}"
    row |= keypoint_figures([score for one in judged for _, score in one.keypoint_scores()])
    row["ms"] = 1000 * statistics.median(one.seconds for one in judged)
    return row


def by_tag(examples: Sequence[Example], judged: dict[str, list[Judged]]) -> list[dict[str, object]]:
    """Recall of each finder by what the people are examples of."""
    rows = []
    for tag in tags_of(examples):
        row: dict[str, object] = {"who": tag}
        for name, ones in judged.items():
            those = [
                i not in one.matching.missed
                for one in ones
                for i, person in enumerate(one.example.people)
                if person.counts and tag in person.tags
            ]
            row |= {"people": len(those), f"{name} %": share(those)}
        rows.append(row)
    return rows


def stage_times(image: np.ndarray, repeats: int) -> dict[str, float]:
    """Where the time of the built-in finder goes, milliseconds."""
    detector = default_detector()
    pyramid = Pyramid(image)
    squares = covering_regions(pyramid.width, pyramid.height, levels=LEVELS)
    places = detector.find_places(pyramid)
    find = detector.look_at(pyramid, places[0]) if places else None
    if find is None:
        raise SystemExit("nobody is proposed in this photo; choose another by --photo.")
    return milliseconds(
        {
            "person detector, whole image": lambda: detector.detect(pyramid, squares[0]),
            f"person detector, image and {len(squares) - 1} tiles": lambda: detector.find_candidates(pyramid),
            "all places (person detector, MultiPose)": lambda: detector.find_places(pyramid),
            "one place (Thunder twice, BlazePose once)": lambda: detector.look_at(pyramid, places[0]),
            f"BlazePose, {DEFAULT_CROPS} crops averaged": lambda: detector.look_closely(pyramid, find, DEFAULT_CROPS),
            "find_people": lambda: find_people(image),
            "find_people, no tiles, one crop": lambda: find_people(image, tiles=False, crops=1),
        },
        repeats,
    )


def milliseconds(stages: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median time of each stage; the stages take turns, so that a busy machine slows all of them."""
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(repeats):
        for name, run in stages.items():
            start = time.perf_counter()
            run()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def default_photo() -> Path:
    from matplotlib import cbook

    return Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=DEFAULT_SETS, choices=SETS)
    parser.add_argument("--finders", nargs="+", default=list(FINDERS), help=f"of {', '.join(FINDERS)}")
    parser.add_argument("--pictures", type=int, default=RENDERS, help="renders with people; a quarter without")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="folder of sports_photos, photos, ...")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where renders are kept")
    parser.add_argument("--sheet", type=Path, help="draw the worst pictures of the first finder into this PNG")
    parser.add_argument("--worst", type=int, default=30, help="how many pictures a sheet shows")
    parser.add_argument("--stages", action="store_true", help="also time the stages of kouros's finder")
    parser.add_argument("--photo", type=Path, help="what stages are timed on; default: matplotlib's portrait")
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    report = Report()
    if arguments.stages:
        image = np.asarray(Image.open(arguments.photo or default_photo()).convert("RGB"))
        times = stage_times(image, arguments.repeats)
        report.table("milliseconds", [{"stage": name, "median": value} for name, value in times.items()])
    had = finders(arguments.finders) if arguments.sets else []
    rows, joints, kinds, first = [], [], [], []
    for name in arguments.sets:
        examples = examples_of(name, arguments.pictures, arguments.samples, arguments.cache)
        for group in dict.fromkeys(example.group for example in examples):
            those = [example for example in examples if example.group == group]
            judged = {finder.name: judged_by(finder, those) for finder in had}
            for finder, ones in judged.items():
                rows.append({"set": group, "finder": finder, **summary(ones)})
                scores = [score for one in ones for _, score in one.keypoint_scores()]
                if keypoint_figures(scores):
                    joints.append({"set": group, "finder": finder, **by_joint(scores)})
            kinds += [{"set": group, **row} for row in by_tag(those, judged)]
            first += next(iter(judged.values()), [])
    report.table("finding people", rows)
    report.table("error by joint, % of the person's size, of those found", joints)
    report.table("recall by kind of person", kinds)
    report.close()
    if arguments.sheet is not None:
        worst = sorted((one for one in first if badness(one) > 0), key=badness, reverse=True)
        sheet(worst[: arguments.worst], arguments.sheet)


if __name__ == "__main__":
    main()
