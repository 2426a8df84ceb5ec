"""A protocol: which people of a table are judged, how they are scored, and what the papers report by it.

A protocol is a value. What differs between benchmarks is in their own files; how rows are chosen and what a scorer
must do is here.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.keypoints import KeypointSet, keypoint_set
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.schema import Sample, TableInfo
from kouros.data.sources import Source
from kouros.data.table_source import TableSource
from kouros.data.tables import AnnotationTable
from kouros.evaluation.answers import bodies_of, cameras_of, has_mesh, keypoints_of
from kouros.evaluation.protocols.card import Measure, PaperTable, ProtocolCard
from kouros.evaluation.protocols.points import Places, select
from kouros.systems.estimator import Estimate, Estimator, PersonInPhoto


class ProtocolError(ValueError):
    """A protocol that cannot be followed with what was given; one sentence says what is missing and what to do."""


@dataclass(frozen=True)
class TruthBodies:
    """Body models that place the points of true parameters."""

    by_gender: Mapping[str, BodyModel] = field(default_factory=dict)
    """Of ``female``, ``male`` and ``neutral``, those that there are."""
    densepose: str | None = None
    """Path of DensePose's ``UV_Processed.mat``, which says where its charts lie on SMPL's mesh."""

    def of(self, gender: str | None) -> BodyModel:
        """The model that a sample's parameters belong to.

        Raises:
            ProtocolError: it was not given.
        """
        if gender is None or gender not in self.by_gender:
            raise ProtocolError(
                f"this protocol poses the true body, whose model is {gender or 'of unknown gender'}, and that model "
                f"was not given: name the folder with SMPL_{(gender or 'neutral').upper()}.pkl by --smpl."
            )
        return self.by_gender[gender]


@dataclass(frozen=True, eq=False)
class Judged:
    """One person, what is known of them, and what the estimator said."""

    row: int
    sample: Sample
    estimate: Estimate
    image_size: tuple[int, int]
    """Width and height of the photo, pixels."""
    crop_center: Float[np.ndarray, "2"]
    crop_side: float
    view: str = ""
    """Which of the protocol's views of the person was shown; empty: the photo as it is."""


class Scorer(ABC):
    """Adds up scores over batches of people."""

    notes: tuple[str, ...] = ()
    """What makes this run's scores differ from the card's, such as joints that the estimator lacks."""

    @abstractmethod
    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch; returns each person's own scores, in the metrics' units, by the measures' keys."""

    @abstractmethod
    def scores(self) -> dict[str, float]:
        """Of all people so far, by the measures' keys.

        Raises:
            ValueError: there is nothing to score.
        """

    def curve(self) -> "Curve | None":
        """The protocol's curve, where it has one."""
        return None


@dataclass(frozen=True)
class Curve:
    """What a protocol plots: a share or an error over a threshold or a degree."""

    x_title: str
    y_title: str
    x: tuple[float, ...]
    y: Mapping[str, tuple[float, ...]]
    """Lines by name."""


@dataclass(frozen=True)
class Setting:
    """What a scorer is made for."""

    info: TableInfo
    estimator: Estimator
    stand_in: Estimator
    """Who answers for people whom the estimator misses; gives what `estimator` gives."""
    truth: TruthBodies


@dataclass(frozen=True)
class Who:
    """Which person of which picture a row is, as far as protocols ask."""

    subject: str | None
    action: str | None
    camera: str | None
    frame: int | None
    sequence: str | None
    image: str


@dataclass(frozen=True)
class Rows:
    """Which rows of a table belong to a protocol."""

    datasets: tuple[str, ...]
    """What the table's name begins with; empty: any table."""
    importer: str = ""
    """The command that makes such a table."""
    splits: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    """Fields without which a row cannot be scored."""
    subjects: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    every: int | None = None
    """Frames whose number divides by this."""
    first_trial: bool = False
    excludes: Callable[[Who], bool] | None = None
    identify: Callable[[Sequence[Who]], list[Who]] | None = None
    """Completes what a table's columns leave open, from the pictures' names."""

    def of(self, source: Source) -> list[int]:
        """The rows, in the table's order.

        Raises:
            ProtocolError: the table is of another data set or split, lacks a field, or nothing of it is left.
        """
        info = source.info
        self._check(source)
        people = _who(source)
        if self.identify is not None:
            people = self.identify(people)
        if self.every is not None:
            self._check_frames(people)
        first = _first_trials(people) if self.first_trial else None
        kept = [row for row, who in enumerate(people) if self._keeps(who, first)]
        if not kept:
            wanted = [
                f"{what} {', '.join(values)}"
                for what, values in (("subject", self.subjects), ("camera", self.cameras), ("action", self.actions))
                if values
            ]
            raise ProtocolError(
                f"of {len(people)} rows of {info.dataset} {info.split} none belongs to this protocol, which asks for "
                f"{'; '.join(wanted) or 'at least one row'}."
            )
        return kept

    def _check(self, source: Source) -> None:
        info = source.info
        if self.datasets and not info.dataset.startswith(self.datasets):
            raise ProtocolError(
                f"this is a table of {info.dataset!r}, but the protocol is for {self.datasets[0]}: "
                f"make its table with `{self.importer}`."
            )
        if self.splits and info.split not in self.splits:
            raise ProtocolError(
                f"this table is {info.dataset}'s split {info.split!r}, but the protocol is for "
                f"{' or '.join(self.splits)}: make its table with `{self.importer}`."
            )
        for name in self.needs:
            if not source.has(name):
                raise ProtocolError(
                    f"no row of this table knows {name!r}, which the protocol needs"
                    f"{f': make the table with `{self.importer}`' if self.importer else ''}."
                )

    def _check_frames(self, people: Sequence[Who]) -> None:
        frames = np.unique([who.frame for who in people if who.frame is not None])
        if len(frames) < 2 or self.every is None:
            return
        step = int(np.gcd.reduce(frames))
        if step and self.every % step:
            raise ProtocolError(
                f"this table holds every {step}th frame, but the protocol takes every {self.every}th: "
                f"import it again with --stride {self.every} (or 1)."
            )

    def _keeps(self, who: Who, first: "set[tuple[str | None, str | None]] | None") -> bool:
        if self.subjects and who.subject not in self.subjects:
            return False
        if self.cameras and who.camera not in self.cameras:
            return False
        if self.actions and who.action not in self.actions:
            return False
        if self.every is not None and (who.frame is None or who.frame % self.every):
            return False
        if first is not None and (who.subject, who.sequence) not in first:
            return False
        return not (self.excludes is not None and self.excludes(who))


Views = Callable[[int, Sample, TableInfo, PersonInPhoto], Iterator[tuple[str, PersonInPhoto]]]
"""From a row to the names of its views and what the estimator is shown in each."""


@dataclass(frozen=True)
class EvaluationProtocol:
    """One way of one paper to score people."""

    name: str
    """As the command takes it."""
    title: str
    card: ProtocolCard
    rows: Rows
    measures: tuple[Measure, ...]
    """In printing order; the first is the one to compare by."""
    scorer: Callable[[Setting], Scorer]
    papers: tuple[PaperTable, ...] = ()
    views: Views | None = None
    """How each person is shown; default: once, in the photo as it is."""

    def measure(self, key: str) -> Measure:
        """The measure of that key."""
        return next(m for m in self.measures if m.key == key)


def _who(source: Source) -> list[Who]:
    names = ("subject", "action", "camera", "frame", "sequence", "image_path")
    # Columns at once, where there are columns: a hundred thousand rows one by one take a minute.
    table = AnnotationTable(source.path) if isinstance(source, TableSource) else getattr(source, "table", None)
    if isinstance(table, AnnotationTable):
        texts = {name: table.text(name) for name in names if name != "frame"}
        frames = table.column("frame")
        numbers = [int(f) if h else None for f, h in zip(frames.values, frames.has, strict=True)]
        columns = [texts["subject"], texts["action"], texts["camera"], numbers, texts["sequence"], texts["image_path"]]
        return [Who(*values) for values in zip(*columns, strict=True)]
    samples = (source.sample(row) for row in range(len(source)))
    return [Who(s.subject, s.action, s.camera, s.frame, s.sequence, s.image_path) for s in samples]


def _first_trials(people: Sequence[Who]) -> set[tuple[str | None, str | None]]:
    """Of each subject's recordings of an action, the one whose name comes first."""
    trials: dict[tuple[str | None, str | None], set[str]] = {}
    for who in people:
        trials.setdefault((who.subject, who.action), set()).add(who.sequence or "")
    return {(subject, min(names)) for (subject, _), names in trials.items()}


# --- What scorers share ----------------------------------------------------------------------------------------


def estimated_set(setting: Setting, wanted: Sequence[str], *, flat: bool = False) -> KeypointSet:
    """The set in which an estimator's points are asked for: the first wanted one that its body places, else its own.

    Args:
        wanted: names of sets, best first.
        flat: points in the picture instead of in space.

    Raises:
        ProtocolError: it has neither.
    """
    estimator = setting.estimator
    own = estimator.points_2d if flat else estimator.points_3d
    if own is not None:
        return own
    if estimator.body is not None:
        for name in wanted:
            if name in estimator.body.keypoint_sets:
                return keypoint_set(name)
        raise ProtocolError(
            f"{estimator.name}'s body model cannot place any of the keypoint sets {', '.join(wanted)}; it has: "
            f"{', '.join(estimator.body.keypoint_sets)}. Put the SMPL file's regressors, J_regressor_h36m.npy and "
            "J_regressor_extra.npy, beside it."
        )
    raise ProtocolError(f"{estimator.name} gives no points {'in the picture' if flat else 'in space'} to score.")


def estimated_points_3d(
    people: Sequence[Judged], estimator: Estimator, keypoints: KeypointSet
) -> Float[Tensor, "people points 3"]:
    """Points of the set, camera axes, metres."""
    if estimator.points_3d is not None:
        return torch.stack([_required(p.estimate.points_3d, estimator, "points in space") for p in people])
    body = _required(estimator.body, estimator, "body")
    return keypoints_of(with_meshes(people, estimator), body, keypoints.name)


def estimated_points_2d(
    people: Sequence[Judged], estimator: Estimator, keypoints: KeypointSet
) -> Float[Tensor, "people points 2"]:
    """Points of the set, pixels of the photos; a body's are projected."""
    if estimator.points_2d is not None:
        return torch.stack([_required(p.estimate.points_2d, estimator, "points in the picture") for p in people])
    body = _required(estimator.body, estimator, "body")
    estimates = with_meshes(people, estimator)
    return cameras_of(estimates).project(keypoints_of(estimates, body, keypoints.name))


def with_meshes(people: Sequence[Judged], estimator: Estimator) -> list[Estimate]:
    """Their estimates, all of which must have a mesh."""
    if not all(has_mesh(p.estimate) for p in people):
        _required(None, estimator, "body")
    return [p.estimate for p in people]


def with_parameters(people: Sequence[Judged], estimator: Estimator) -> Bodies:
    """Their parameters as a batch.

    Raises:
        ProtocolError: one has a mesh that no parameters made.
    """
    if any(p.estimate.bodies is None for p in people):
        raise ProtocolError(
            f"{estimator.name} answers with meshes that no parameters made, and this protocol compares parameters."
        )
    return bodies_of([p.estimate for p in people])


def compared(
    setting: Setting, truth: KeypointSet, estimated: KeypointSet, places: Sequence[str]
) -> tuple[Places, Places, tuple[str, ...]]:
    """The places that both sets have, in the truth's tensors and in the estimate's, and which are lacking.

    Raises:
        ProtocolError: the truth lacks a place, or fewer than three places are left.
    """
    theirs, ours = select(truth, places), select(estimated, places)
    lacking = [p for p in places if p not in theirs.names]
    if lacking:
        raise ProtocolError(f"the table's keypoints are {truth.name}, which has no {', '.join(lacking)}.")
    if len(ours.names) < 3:
        raise ProtocolError(
            f"{setting.estimator.name}'s points ({estimated.name}) are none of the protocol's: {', '.join(places)}."
        )
    return theirs.among(ours.names), ours, tuple(p for p in places if p not in ours.names)


def require_body(setting: Setting, what: str) -> BodyModel:
    """The estimator's body model.

    Raises:
        ProtocolError: it gives points only.
    """
    if setting.estimator.body is None:
        raise ProtocolError(f"{setting.estimator.name} gives points but no body, and this protocol {what}.")
    return setting.estimator.body


def lacking_note(lacking: Sequence[str], count: int) -> tuple[str, ...]:
    """The remark about places that the estimator does not have."""
    if not lacking:
        return ()
    return (
        f"over {count} of the protocol's {count + len(lacking)} points, so not comparable with scores over all: this "
        f"estimator has no {', '.join(name.removesuffix('14') for name in lacking)}",
    )


def _required(value, estimator: Estimator, what: str):  # type: ignore[no-untyped-def]
    if value is None:
        raise ProtocolError(f"{estimator.name} answered without a {what}, which it says that it gives.")
    return value
