"""Finders run on pictures, and what is made of that: figures, tables, and sheets of pictures to look at."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from common.finding import Example, Finder, as_found
from kouros.body.keypoints import COCO17
from kouros.evaluation.metrics.detection import (
    FoundPerson,
    KeypointScore,
    Matching,
    keypoint_score,
    match,
    unknown_points,
)

PARTS = ("nose", "eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_FEWEST_GIVEN = 0.5
"""Of the limb points judged; a detector that gives only a middle of hips and shoulders is not judged by them."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A picture, what a finder says of it, and how that fits."""

    example: Example
    finds: tuple[FoundPerson, ...]
    matching: Matching
    seconds: float

    def keypoint_scores(self) -> list[tuple[int, KeypointScore]]:
        """Person, and how the find's points compare, of those who count and whose points are known."""
        people = self.example.people
        scores = [(i, keypoint_score(people, i, self.finds[j])) for i, j in self.matching.pairs if people[i].counts]
        return [(i, score) for i, score in scores if score.judged.any()]


def judged_by(finder: Finder, examples: Sequence[Example]) -> list[Judged]:
    """Run a finder on pictures; on the first one twice, so that no time holds its start-up."""
    judged = []
    for k, example in enumerate(examples):
        image = example.image()
        if k == 0:
            finder.find(image)
        start = time.perf_counter()
        people = finder.find(image)
        seconds = time.perf_counter() - start
        finds = tuple(as_found(person) for person in people)
        judged.append(Judged(example, finds, match(example.people, finds), seconds))
    return judged


def judged_in_boxes(finder: Finder, examples: Sequence[Example]) -> list[Judged]:
    """Tell a finder the boxes of those who count; what it says of a box is that person's find; seconds a person."""
    judged: list[Judged] = []
    for example in examples:
        counted = [i for i, person in enumerate(example.people) if person.counts and person.visible.any()]
        if finder.in_boxes is None or not counted:
            continue
        image, boxes = example.image(), np.array([example.people[i].box for i in counted])
        if not judged:
            finder.in_boxes(image, boxes)
        start = time.perf_counter()
        people = finder.in_boxes(image, boxes)
        seconds = (time.perf_counter() - start) / len(counted)
        finds = tuple(
            _nothing(box) if person is None else as_found(person) for person, box in zip(people, boxes, strict=True)
        )
        pairs = tuple(zip(counted, range(len(counted)), strict=True))
        judged.append(Judged(example, finds, Matching(pairs, (), (), (), ()), seconds))
    return judged


def _nothing(box: np.ndarray) -> FoundPerson:
    points = unknown_points()
    return FoundPerson(box, points, points[:, 0], 0.0)


def keypoint_figures(scores: Sequence[KeypointScore]) -> dict[str, object]:
    """PCK and errors over visible limb points, and how many people have sides exchanged or a neighbour's limb.

    Nothing where most points are not given at all.
    """
    errors = np.concatenate([s.error[s.judged] for s in scores]) if scores else np.zeros(0)
    given = np.isfinite(errors)
    if not len(errors) or given.mean() < _FEWEST_GIVEN:
        return {}
    correct = np.concatenate([s.correct[s.judged] for s in scores])
    return {
        "PCK@0.1 %": 100 * float(correct.mean()),
        "error % of size": 100 * float(errors[given].mean()),
        "median": 100 * float(np.median(errors[given])),
        "sides exchanged %": 100 * float(np.mean([s.exchanged for s in scores])),
        "neighbour's limbs": int(sum(s.on_neighbours.sum() for s in scores)),
    }


def by_joint(scores: Sequence[KeypointScore]) -> dict[str, object]:
    """Mean error of each kind of visible point, left and right together, % of the person's size."""
    errors = np.array([s.error for s in scores]).reshape(len(scores), len(COCO17))
    row: dict[str, object] = {}
    for part in PARTS:
        values = errors[:, [k for k, name in enumerate(COCO17.names) if name.endswith(part)]]
        values = values[np.isfinite(values)]
        if len(values):
            row[part] = 100 * float(values.mean())
    return row


def badness(judged: Judged) -> float:
    """Misses and false finds count 1, repetitions a half; among equals, a larger missed person is worse."""
    matching = judged.matching
    largest = max((judged.example.people[i].size for i in matching.missed), default=0.0)
    return len(matching.missed) + len(matching.false) + 0.5 * len(matching.duplicates) + largest / 1e4


class Report:
    """Tables printed as they come, and the same as JSON lines at the end."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def table(self, title: str, rows: Sequence[dict[str, object]]) -> None:
        """Print rows that may have different keys."""
        if not rows:
            return
        columns = list(dict.fromkeys(key for row in rows for key in row))
        table = Table(title=title)
        for column in columns:
            table.add_column(column, no_wrap=column in ("set", "finder"))
        for row in rows:
            cells = [row.get(column, "") for column in columns]
            table.add_row(*(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells))
        Console(width=None if sys.stdout.isatty() else 200).print(table)
        self._lines += [json.dumps({"benchmark": title, **row}) for row in rows]

    def close(self) -> None:
        """Print the JSON lines."""
        print("\n".join(self._lines))


_GREEN, _RED, _ORANGE, _GREY, _WHITE = (40, 200, 60), (240, 40, 40), (255, 165, 0), (150, 150, 150), (255, 255, 255)


def sheet(judged: Sequence[Judged], path: Path, *, columns: int = 5, side: int = 300) -> None:
    """One picture of many.

    People's boxes: white found, red missed, grey not counting. Finds, with their scores: green, orange a repetition,
    red false.
    """
    rows = -(-len(judged) // columns)
    canvas = Image.new("RGB", (columns * side, max(1, rows) * (side + 14)))
    draw = ImageDraw.Draw(canvas)
    for k, one in enumerate(judged):
        x, y = k % columns * side, k // columns * (side + 14)
        canvas.paste(_tile(one, side), (x, y))
        draw.text((x + 2, y + side), f"{one.example.group} {one.example.path.stem}"[:48], _WHITE)
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)


def _tile(judged: Judged, side: int) -> Image.Image:
    image = Image.fromarray(judged.example.image())
    scale = side / max(image.size)
    image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    draw = ImageDraw.Draw(image)
    found = {i for i, _ in judged.matching.pairs}
    for i, person in enumerate(judged.example.people):
        colour = _WHITE if i in found else _RED if person.counts else _GREY
        draw.rectangle((person.box * scale).tolist(), outline=colour, width=1 if i in found else 2)
    for j, find in enumerate(judged.finds):
        colour = _ORANGE if j in judged.matching.duplicates else _RED if j in judged.matching.false else _GREEN
        draw.rectangle((find.box * scale).tolist(), outline=colour)
        for a, b in _skeleton(find.keypoints * scale):
            draw.line([*a, *b], fill=colour, width=2)
        draw.text((float(find.box[0]) * scale + 2, float(find.box[1]) * scale), f"{find.score:.2f}", colour)
    return image


def _skeleton(points: np.ndarray) -> Iterator[tuple[list[float], list[float]]]:
    for one, two in COCO17.edges:
        a, b = points[COCO17.index(one)], points[COCO17.index(two)]
        if np.isfinite([a, b]).all():
            yield a.tolist(), b.tolist()


def share(values: Sequence[bool]) -> float:
    """Percent that are true."""
    return 100 * sum(values) / len(values)


def tags_of(examples: Sequence[Example]) -> list[str]:
    """What people that count are examples of, sorted."""
    return sorted({tag for example in examples for p in example.people if p.counts for tag in p.tags})
