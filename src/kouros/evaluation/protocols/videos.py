"""Protocols over the frames of films: poses frame by frame, and whether they move as the truth does."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch

from kouros.evaluation.metrics.accumulate import MeanError
from kouros.evaluation.metrics.pose import acceleration_errors
from kouros.evaluation.protocols import synthetic_val, three_dpw
from kouros.evaluation.protocols.card import Measure
from kouros.evaluation.protocols.points import COMMON14
from kouros.evaluation.protocols.protocol import (
    EvaluationProtocol,
    Judged,
    Rows,
    Scorer,
    Setting,
    TruthBodies,
    compared,
    estimated_points_3d,
    estimated_set,
)
from kouros.evaluation.protocols.scorers import JointScorer, Together, Truth, VertexScorer, compared_root

ACCELERATION = Measure("acceleration", "accel", "mm/frame²", 1000.0)
_ALIGNMENT = (
    "; acceleration: second differences of three consecutive frames of a person, the root at the origin in each, as "
    "in Kanazawa et al. (CVPR 2019); frames in which a person was missed hold the mean pose there too"
)


class AccelerationScorer(Scorer):
    """Error of the acceleration of named points, a frame squared, over each person's runs of consecutive frames.

    Args:
        truth: where the true points come from.
        places: the points compared.
        root: the place, or the places whose middle, is moved to the origin.
        sets: keypoint sets to ask a body for, best first.
    """

    def __init__(
        self, setting: Setting, truth: Truth, places: Sequence[str], root: Sequence[str], sets: Sequence[str]
    ) -> None:
        self._estimator, self._truth = setting.estimator, truth
        self._set = estimated_set(setting, sets)
        self._theirs, self._ours, _ = compared(setting, truth.keypoints, self._set, places)
        self._their_root, self._our_root, _ = compared_root(setting, truth.keypoints, self._set, root)
        self._series: dict[tuple[str | None, ...], dict[int, torch.Tensor]] = {}

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Keep a batch: accelerations need its neighbours."""
        true = self._truth.of(people)
        predicted = estimated_points_3d(people, self._estimator, self._set).float()
        target = self._theirs.pick(true.points) - self._their_root.pick(true.points).mean(dim=1, keepdim=True)
        ours = self._ours.pick(predicted) - self._our_root.pick(predicted).mean(dim=1, keepdim=True)
        for one, pair in zip(people, torch.stack([ours, target], dim=1), strict=True):
            sample = one.sample
            if sample.frame is not None:
                who = sample.sequence, sample.camera, sample.subject, sample.person
                self._series.setdefault(who, {})[sample.frame] = pair
        return [{} for _ in people]

    def scores(self) -> dict[str, float]:
        """Over all points and frames that have neighbours; nothing where none has."""
        mean, counted = MeanError(), 0
        for frames in self._series.values():
            for run in _runs(sorted(frames)):
                ours, target = torch.stack([frames[frame] for frame in run], dim=1)
                errors, inner = acceleration_errors(ours[None], target[None], frame_rate=1.0)
                mean.update(errors.flatten(0, 1), inner.flatten(0, 1))
                counted += errors.shape[1]
        return {"acceleration": float(mean.compute())} if counted else {}


def _runs(frames: Sequence[int]) -> list[list[int]]:
    """Stretches of at least three consecutive numbers."""
    runs = [[frames[0]]]
    for before, frame in pairwise(frames):
        if frame == before + 1:
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [run for run in runs if len(run) >= 3]


def _dpw(setting: Setting) -> Scorer:
    truth = Truth.of_body(setting.truth, "h36m17")
    return Together(
        three_dpw.TEST.scorer(setting), AccelerationScorer(setting, truth, COMMON14, ("pelvis",), ("h36m17",))
    )


def _dpw_smpl24(setting: Setting) -> Scorer:
    truth = Truth.of_column(setting)
    points = AccelerationScorer(setting, truth, three_dpw.SMPL_JOINTS, ("pelvis",), ("smpl24",))
    return Together(three_dpw.SMPL24.scorer(setting), points)


def _drawn(setting: Setting) -> Scorer:
    drawn = TruthBodies(dict.fromkeys(("female", "male", "neutral"), synthetic_val.drawn_body()))
    joints = three_dpw.SMPL_JOINTS, ("pelvis",), ("smpl24",)
    truth = Truth.of_body(drawn, "smpl24")
    parts: list[Scorer] = [JointScorer(setting, truth, *joints), AccelerationScorer(setting, truth, *joints)]
    body = setting.estimator.body
    if body is not None and body.v_template.shape == synthetic_val.drawn_body().v_template.shape:
        parts.append(VertexScorer(replace(setting, truth=drawn), body, "pelvis"))
    return Together(*parts)


_FRAMES = "all, in order; import them all (no --stride), for accelerations are those of consecutive frames"


def _as_films(
    protocol: EvaluationProtocol, name: str, title: str, scorer: Callable[[Setting], Scorer]
) -> EvaluationProtocol:
    """A protocol of single frames, with accelerations."""
    card = replace(protocol.card, frames=_FRAMES, alignment=protocol.card.alignment + _ALIGNMENT)
    measures = (*protocol.measures, ACCELERATION)
    return replace(protocol, name=name, title=title, card=card, measures=measures, scorer=scorer)


DPW = _as_films(three_dpw.TEST, "3dpw-video", "3DPW, test split, as films", _dpw)
DPW_SMPL24 = _as_films(
    three_dpw.SMPL24, "3dpw-smpl24-video", "3DPW, test split, as films, over the skeleton's joints", _dpw_smpl24
)
DRAWN = EvaluationProtocol(
    name="synthetic-video",
    title="synthetic-video, clips of drawn people",
    card=replace(
        synthetic_val.VALIDATION.card,
        dataset="this project's clips of drawn people who move as recorded",
        split="synthetic-video (20 fixed clips of 60 frames, held-out motions, a camera that stands and is known; in "
        "four of them two people)",
        joints="SMPL's 24",
        regressor="the skeletons of the drawn body and of the estimated one",
        alignment="MPJPE, PVE: the pelvis at the origin; PA-MPJPE: best similarity" + _ALIGNMENT,
        units="mm; mm a frame squared at 30 frames a second",
    ),
    rows=Rows(
        datasets=("synthetic-video",),
        importer="kouros evaluate default-video --on synthetic-video",
        needs=("pose", "betas"),
    ),
    measures=(*three_dpw.TEST.measures, ACCELERATION),
    scorer=_drawn,
)
PROTOCOLS = (DPW, DPW_SMPL24, DRAWN)
