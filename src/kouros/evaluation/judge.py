"""Follow a protocol: choose the people, show each to the estimator, score the answers.

A person whom the estimator does not find is not left out: the mean pose in the person's box is scored in its place,
and the count is part of the result. A picture that cannot be read can be scored by nobody; it is listed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from kouros.body.keypoints import KeypointSet
from kouros.body.model import BodyModel
from kouros.data.crops import BOX_MARGIN, person_square
from kouros.data.images import ImageError
from kouros.data.schema import Sample, TableInfo
from kouros.data.sources import Source
from kouros.evaluation.answers import bodies_of
from kouros.evaluation.baselines import MeanPose
from kouros.evaluation.protocols.protocol import (
    Curve,
    EvaluationProtocol,
    Judged,
    ProtocolError,
    Setting,
    TruthBodies,
)
from kouros.geometry.cameras import PerspectiveCamera
from kouros.systems.estimator import Estimate, Estimator, PersonInPhoto

BATCH = 16


@dataclass(frozen=True)
class Unreadable:
    """A row whose picture nobody could be shown."""

    row: int
    image: str
    why: str


@dataclass(frozen=True)
class Verdict:
    """What came of following a protocol."""

    protocol: EvaluationProtocol
    estimator: str
    info: TableInfo
    scores: dict[str, float]
    """By measure, in the metrics' units: metres, pixels, ratios."""
    rows: tuple[int, ...]
    """Of the table: who was scored."""
    images: tuple[str, ...]
    """Their pictures' paths."""
    per_person: tuple[dict[str, float], ...]
    missed: tuple[int, ...]
    """Rows for which the mean pose stands in; one time for each view in which the person was missed."""
    unreadable: tuple[Unreadable, ...]
    selected: int
    """How many rows the protocol chose."""
    notes: tuple[str, ...] = ()
    """What makes these scores differ from the card's."""
    curve: Curve | None = None


@runtime_checkable
class SeesClips(Protocol):
    """An estimator that sees whole sequences, and answers for rows instead of photos."""

    def answers(
        self, source: Source, rows: Sequence[int], progress: Callable[[int, int], None] | None = None
    ) -> dict[int, Estimate]:
        """Answers by row; rows without one were missed."""
        ...


class StandIn:
    """The mean pose, answering in the form of another estimator."""

    name = "mean pose"
    needs_keypoints = False

    def __init__(self, estimator: Estimator, body: BodyModel) -> None:
        self._mean = MeanPose(estimator.body or body)
        self.body: BodyModel | None = self._mean.body
        self.points_3d: KeypointSet | None = estimator.points_3d
        self.points_2d: KeypointSet | None = estimator.points_2d

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """The mean pose, as a body and as the points of the other's sets."""
        assert self.body is not None
        bodies = bodies_of([a for a in self._mean.estimate(people) if a is not None])
        solid = flat = None
        if self.points_3d is not None:
            solid = bodies.keypoints_by(self.body, self.points_3d.name)
        if self.points_2d is not None:
            flat = bodies.camera.project(bodies.keypoints_by(self.body, self.points_2d.name))
        answers = Estimate(bodies=bodies, points_3d=solid, points_2d=flat)
        return [answers[i] for i in range(len(people))]


def judge(
    protocol: EvaluationProtocol,
    source: Source,
    estimator: Estimator,
    *,
    mean_body: BodyModel,
    truth: TruthBodies | None = None,
    only: frozenset[str] | None = None,
    people: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Score an estimator by a protocol.

    Args:
        mean_body: whose mean pose stands in for people that an estimator without bodies misses.
        truth: models of the true bodies, for protocols that pose them.
        only: paths of pictures, ends of them suffice: no others are scored.
        people: score only so many, evenly spread over the protocol's.
        progress: told how many of how many are done.

    Raises:
        ProtocolError: the protocol cannot be followed with this table and estimator.
    """
    chosen = protocol.rows.of(source)
    notes: list[str] = []
    if only is not None:
        chosen = [row for row in chosen if _named(source.sample(row).image_path, only)]
        notes.append(f"only the pictures of a given list ({len(only)} names)")
        if not chosen:
            raise ProtocolError("none of the table's pictures is in the given list of names.")
    if people is not None and people < len(chosen):
        notes.append(f"{people} of the protocol's {len(chosen)} rows, evenly spread: not the benchmark's score")
        chosen = [chosen[i] for i in np.linspace(0, len(chosen) - 1, people).round().astype(int)]
    stand_in = StandIn(estimator, mean_body)
    scorer = protocol.scorer(Setting(source.info, estimator, stand_in, truth or TruthBodies()))
    clips = None
    if isinstance(estimator, SeesClips):
        if people is not None:
            raise ProtocolError("an estimator of films sees all frames; it cannot be tried on some people only.")
        clips, progress = estimator.answers(source, chosen, progress), None
    pending: list[_Shown] = []
    images: dict[int, str] = {}
    per_person: dict[int, dict[str, float]] = {}
    missed: list[int] = []
    unreadable: list[Unreadable] = []

    def ask() -> None:
        found = None if clips is None else [clips.get(shown.row) for shown in pending]
        answers = answered(estimator, stand_in, [shown.person for shown in pending], found)
        missed.extend(shown.row for shown, (_, found) in zip(pending, answers, strict=True) if not found)
        judged = [shown.judged(answer) for shown, (answer, _) in zip(pending, answers, strict=True)]
        for one, scores_of_one in zip(judged, scorer.add(judged), strict=True):
            images[one.row] = one.sample.image_path
            per_person.setdefault(one.row, {}).update(scores_of_one)
        pending.clear()

    for place, row in enumerate(chosen, start=1):
        sample = source.sample(row)
        try:
            person = person_in_photo(sample, source.image(row))
        except ImageError as error:
            unreadable.append(Unreadable(row, sample.image_path, str(error)))
            continue
        for view, seen in _views(protocol, row, sample, source, person):
            pending.append(_Shown(row, sample, view, seen))
            if len(pending) == BATCH:
                ask()
        if progress is not None:
            progress(place, len(chosen))
    if pending:
        ask()
    rows = list(images)
    if not rows:
        raise ProtocolError(
            f"none of the {len(chosen)} pictures can be read (the first: {unreadable[0].why}): "
            f"are they still in {source.info.image_root}?"
        )
    try:
        scores = scorer.scores()
    except ValueError as error:
        raise ProtocolError(f"there is nothing to score: {error}") from None
    if unreadable:
        notes.append(f"{len(unreadable)} pictures cannot be read, so these rows are not scored")
    return Verdict(
        protocol=protocol,
        estimator=estimator.name,
        info=source.info,
        scores={m.key: scores[m.key] for m in protocol.measures if m.key in scores},
        rows=tuple(rows),
        images=tuple(images.values()),
        per_person=tuple(per_person.values()),
        missed=tuple(missed),
        unreadable=tuple(unreadable),
        selected=len(chosen),
        notes=(*notes, *scorer.notes),
        curve=scorer.curve(),
    )


@dataclass(frozen=True, eq=False)
class _Shown:
    """One view of one person."""

    row: int
    sample: Sample
    view: str
    person: PersonInPhoto

    def judged(self, answer: Estimate) -> Judged:
        """With its answer."""
        person = self.person
        return Judged(self.row, self.sample, answer, person.size, person.crop_center, person.crop_side, self.view)


def _views(
    protocol: EvaluationProtocol, row: int, sample: Sample, source: Source, person: PersonInPhoto
) -> Iterable[tuple[str, PersonInPhoto]]:
    return [("", person)] if protocol.views is None else protocol.views(row, sample, source.info, person)


def answered(
    estimator: Estimator,
    stand_in: Estimator,
    people: Sequence[PersonInPhoto],
    found: list[Estimate | None] | None = None,
) -> list[tuple[Estimate, bool]]:
    """Answers for all, and whether each is the estimator's own; ``found``: those that it has given already."""
    if not people:
        return []
    answers = estimator.estimate(people) if found is None else found
    lost = [i for i, answer in enumerate(answers) if answer is None]
    replaced = dict(zip(lost, stand_in.estimate([people[i] for i in lost]) if lost else [], strict=True))
    result = []
    for i, answer in enumerate(answers):
        used = replaced[i] if answer is None else answer
        assert used is not None
        result.append((used, answer is not None))
    return result


def person_in_photo(sample: Sample, image: np.ndarray) -> PersonInPhoto:
    """What an estimator is shown of a sample.

    Raises:
        ProtocolError: the sample says nowhere where the person is.
    """
    try:
        center, side = person_square(sample)
    except ImageError as error:
        raise ProtocolError(str(error)) from None
    if sample.bbox is not None:
        tight = np.asarray(sample.bbox, dtype=np.float64)
    else:
        half = side / BOX_MARGIN / 2
        tight = np.concatenate([center - half, center + half])
    camera = None
    if sample.intrinsics is not None:
        fx, fy, cx, cy = np.asarray(sample.intrinsics, dtype=np.float64).tolist()
        camera = PerspectiveCamera(torch.tensor((fx + fy) / 2), torch.tensor([cx, cy]))
    return PersonInPhoto(image, (image.shape[1], image.shape[0]), center, side, tight, camera)


def _named(path: str, names: frozenset[str]) -> bool:
    """Whether a path, or an end of it, is among the names."""
    parts = path.split("/")
    return any("/".join(parts[i:]) in names for i in range(len(parts)))
