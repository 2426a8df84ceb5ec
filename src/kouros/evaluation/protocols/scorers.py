"""The scorers that several benchmarks share: joints in space, vertices, keypoints in the picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kouros.body.keypoints import KeypointSet, keypoint_set
from kouros.body.model import BodyModel
from kouros.data.schema import Sample
from kouros.evaluation.answers import meshes_of
from kouros.evaluation.metrics import (
    AUC_THRESHOLDS_3DHP,
    correct_keypoints_2d,
    joint_errors,
    keypoint_errors_2d,
    procrustes_errors,
    sample_means,
)
from kouros.evaluation.metrics.accumulate import PCK3D, MeanError
from kouros.evaluation.protocols.points import Places, select
from kouros.evaluation.protocols.protocol import (
    Curve,
    Judged,
    ProtocolError,
    Scorer,
    Setting,
    TruthBodies,
    compared,
    estimated_points_2d,
    estimated_points_3d,
    estimated_set,
    lacking_note,
    with_meshes,
    with_parameters,
)


@dataclass(frozen=True)
class TruePoints:
    """A batch's ground truth in one keypoint set."""

    points: Float[Tensor, "people points 3"]
    """Camera axes, metres."""
    valid: Bool[Tensor, "people points"]


class Truth:
    """Where true points in space come from: a column of the table, or the true body posed."""

    def __init__(self, keypoints: KeypointSet, read: Callable[[Sample], np.ndarray]) -> None:
        self.keypoints = keypoints
        self._read = read

    @classmethod
    def of_column(cls, setting: Setting, field: str = "keypoints_3d") -> "Truth":
        """The table's own points.

        Raises:
            ProtocolError: the table has none.
        """
        if setting.info.keypoints_3d is None:
            raise ProtocolError("this table holds no keypoints in space, which the protocol needs.")

        def read(sample: Sample) -> np.ndarray:
            points = getattr(sample, field)
            if points is None:
                raise ProtocolError(f"{sample.image_path}: this row has no {field}, which the protocol needs.")
            return np.asarray(points)

        return cls(setting.info.keypoints_3d, read)

    @classmethod
    def of_body(cls, truth: TruthBodies, set_name: str) -> "Truth":
        """Points that the true body's model places."""

        def read(sample: Sample) -> np.ndarray:
            body = truth.of(sample.gender)
            if set_name not in body.keypoint_sets:
                raise ProtocolError(
                    f"the true body's model cannot place {set_name}: put J_regressor_h36m.npy and "
                    "J_regressor_extra.npy beside the SMPL files."
                )
            with torch.no_grad():
                parameters = true_parameters(sample, body)
                points = body.keypoint_positions(set_name, **parameters)[0]  # type: ignore[arg-type]
            return np.c_[points.numpy(), np.ones(len(points))]

        return cls(keypoint_set(set_name), read)

    def of(self, people: Sequence[Judged]) -> TruePoints:
        """A batch's."""
        rows = torch.stack([torch.tensor(np.array(self._read(p.sample), dtype=np.float32)) for p in people])
        return TruePoints(rows[..., :3], rows[..., 3] > 0)


def true_parameters(sample: Sample, body: BodyModel) -> dict[str, Tensor]:
    """A sample's parameters, batched by one, as its body model takes them.

    Raises:
        ProtocolError: the sample has none.
    """
    if sample.pose is None or sample.betas is None:
        raise ProtocolError(f"{sample.image_path}: this row has no pose and betas, which the protocol needs.")
    pose, betas = (torch.tensor(np.array(a, dtype=np.float32))[None] for a in (sample.pose, sample.betas))
    if betas.shape[1] > body.num_betas:
        raise ProtocolError(f"the true betas are {betas.shape[1]}, but the given body model has {body.num_betas}.")
    betas = torch.nn.functional.pad(betas, (0, body.num_betas - betas.shape[1]))
    return {"betas": betas, "body_pose": pose[:, 3:], "global_orient": pose[:, :3]}


class JointScorer(Scorer):
    """MPJPE and PA-MPJPE over named points; on demand PCK and AUC, and median errors.

    Args:
        truth: where the true points come from.
        places: the points compared.
        root: the place, or the places whose middle, is moved to the origin.
        sets: keypoint sets to ask a body for, best first.
        pck_places: with them, 3DHP's PCK and AUC over these.
    """

    def __init__(
        self,
        setting: Setting,
        truth: Truth,
        places: Sequence[str],
        root: Sequence[str],
        sets: Sequence[str],
        pck_places: Sequence[str] = (),
    ) -> None:
        self._estimator = setting.estimator
        self._truth = truth
        self._set = estimated_set(setting, sets)
        self._theirs, self._ours, lacking = compared(setting, truth.keypoints, self._set, places)
        self._their_root, self._our_root, no_root = compared_root(setting, truth.keypoints, self._set, root)
        self.notes = lacking_note(lacking, len(self._ours.names)) + no_root
        self._pck = [self._ours.names.index(p) for p in pck_places if p in self._ours.names]
        self._mpjpe, self._pa = MeanError(), MeanError()
        self._absolute, self._aligned = PCK3D(), PCK3D()
        self._medians: dict[str, list[float]] = {"mpjpe": [], "pa_mpjpe": []}

    @property
    def names(self) -> tuple[str, ...]:
        """The points that are scored."""
        return self._ours.names

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch."""
        true = self._truth.of(people)
        predicted = estimated_points_3d(people, self._estimator, self._set).float()
        valid = self._theirs.pick(true.valid[..., None].float())[..., 0] == 1
        target, ours = self._theirs.pick(true.points), self._ours.pick(predicted)
        absolute = joint_errors(
            ours,
            target,
            valid,
            predicted_root=self._our_root.pick(predicted).mean(dim=1),
            target_root=self._their_root.pick(true.points).mean(dim=1),
        )
        aligned = procrustes_errors(ours, target, valid)
        self.add_errors(absolute, aligned, valid)
        per_person = {"mpjpe": sample_means(absolute, valid), "pa_mpjpe": sample_means(aligned, valid)}
        for key, values in per_person.items():
            self._medians[key] += values.tolist()
        return [{key: float(values[i]) for key, values in per_person.items()} for i in range(len(people))]

    def add_errors(
        self,
        absolute: Float[Tensor, "people points"],
        aligned: Float[Tensor, "people points"],
        valid: Bool[Tensor, "people points"],
    ) -> None:
        """Add up errors that are computed already."""
        self._mpjpe.update(absolute, valid)
        self._pa.update(aligned, valid)
        if self._pck:
            self._absolute.update(absolute[:, self._pck], valid[:, self._pck])
            self._aligned.update(aligned[:, self._pck], valid[:, self._pck])

    def scores(self) -> dict[str, float]:
        """All that was asked for."""
        result = {"mpjpe": float(self._mpjpe.compute()), "pa_mpjpe": float(self._pa.compute())}
        result |= {f"{key}_median": float(np.median(values)) for key, values in self._medians.items()}
        if self._pck:
            for prefix, metric in (("", self._absolute), ("pa_", self._aligned)):
                both = metric.compute()
                result |= {f"{prefix}pck": float(both.pck), f"{prefix}auc": float(both.auc)}
        return result

    def curve(self) -> Curve | None:
        """PCK over the threshold, where PCK is asked for."""
        if not self._pck:
            return None
        lines = {
            title: tuple((100 * m.below.double() / m.count).tolist())
            for title, m in (("root-aligned", self._absolute), ("rigidly aligned", self._aligned))
        }
        thresholds = tuple(1000 * t for t in AUC_THRESHOLDS_3DHP)
        return Curve("threshold, mm", "correct points, %", thresholds, lines)


def compared_root(
    setting: Setting, truth: KeypointSet, estimated: KeypointSet, root: Sequence[str]
) -> tuple[Places, Places, tuple[str, ...]]:
    """The root in both sets.

    Raises:
        ProtocolError: one of them lacks it.
    """

    theirs, ours = select(truth, root, build=True), select(estimated, root, build=True)
    for what, keypoints, found in (("table's", truth, theirs), ("estimator's", estimated, ours)):
        if len(found.names) < len(root):
            raise ProtocolError(f"the {what} keypoints ({keypoints.name}) have no root: {', '.join(root)}.")
    built = [place for place, indices in zip(ours.names, ours.indices, strict=True) if len(indices) > 1]
    return theirs, ours, tuple(f"the estimator's {place} is the middle of its hips" for place in built)


class VertexScorer(Scorer):
    """Per-vertex error of whole meshes, where estimate and truth are of one mesh.

    Args:
        root: name of the SMPL joint that is moved to the origin; None: meshes stay where their models pose them.
    """

    def __init__(self, setting: Setting, body: BodyModel, root: str | None) -> None:
        self._truth, self._estimator, self._body, self._root = setting.truth, setting.estimator, body, root
        self._pve = MeanError()

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch."""
        ours = meshes_of(with_meshes(people, self._estimator), self._body)
        # A mesh that the camera's frame has moved is put back where its model poses it.
        moved_by = None if self._root is not None else with_parameters(people, self._estimator).transl
        joint = 0 if self._root is None else keypoint_set("smpl24").index(self._root)
        result = []
        for i, person in enumerate(people):
            model = self._truth.of(person.sample.gender)
            if model.v_template.shape != self._body.v_template.shape:
                raise ProtocolError("the true mesh is another than the estimator's, so vertices cannot be compared.")
            with torch.no_grad():
                true = model(**true_parameters(person.sample, model))
            if moved_by is not None:
                errors = joint_errors(ours.vertices[i : i + 1] - moved_by[i], true.vertices)
            else:
                errors = joint_errors(
                    ours.vertices[i : i + 1],
                    true.vertices,
                    predicted_root=ours.joints[i : i + 1, joint],
                    target_root=true.joints[:, joint],
                )
            self._pve.update(errors)
            result.append({"pve": float(errors.mean())})
        return result

    def scores(self) -> dict[str, float]:
        """The mean."""
        return {"pve": float(self._pve.compute())}


class Together(Scorer):
    """Several scorers over the same people."""

    def __init__(self, *parts: Scorer) -> None:
        self._parts = parts

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of all."""
        return tuple(dict.fromkeys(note for part in self._parts for note in part.notes))

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch by all."""
        merged: list[dict[str, float]] = [{} for _ in people]
        for part in self._parts:
            for scores, more in zip(merged, part.add(people), strict=True):
                scores.update(more)
        return merged

    def scores(self) -> dict[str, float]:
        """Of all."""
        return {key: value for part in self._parts for key, value in part.scores().items()}

    def curve(self) -> Curve | None:
        """The first that there is."""
        return next((c for c in (part.curve() for part in self._parts) if c is not None), None)


class Renamed(Scorer):
    """Another scorer's scores under other keys."""

    def __init__(self, scorer: Scorer, keys: dict[str, str]) -> None:
        self._scorer, self._keys = scorer, keys
        self.notes = scorer.notes

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch."""
        return [self._renamed(scores) for scores in self._scorer.add(people)]

    def scores(self) -> dict[str, float]:
        """Of all."""
        return self._renamed(self._scorer.scores())

    def _renamed(self, scores: dict[str, float]) -> dict[str, float]:
        return {self._keys[key]: value for key, value in scores.items() if key in self._keys}


class FlatScorer(Scorer):
    """Errors and shares of correct keypoints in the picture.

    Args:
        places: the points scored.
        sets: keypoint sets to ask a body for, best first.
        fraction: of the reference, within which a point is correct.
        reference: each person's reference length, pixels; None leaves the person out of the share.
        counts: which annotated points count; default: all.
    """

    def __init__(
        self,
        setting: Setting,
        places: Sequence[str],
        sets: Sequence[str],
        fraction: float,
        reference: Callable[[Sample, KeypointSet], float | None],
        counts: Callable[[Sample], np.ndarray] | None = None,
        key: str = "pck",
    ) -> None:
        if setting.info.keypoints_2d is None:
            raise ProtocolError("this table holds no keypoints in the picture, which the protocol needs.")
        self._estimator, self._key = setting.estimator, key
        self._truth_set = setting.info.keypoints_2d
        self._set = estimated_set(setting, sets, flat=True)
        self._theirs, self._ours, lacking = compared(setting, self._truth_set, self._set, places)
        self.notes = lacking_note(lacking, len(self._ours.names))
        self._fraction, self._reference, self._counts = fraction, reference, counts
        self._pixels = MeanError()
        self._share = MeanError()
        self._errors: list[Tensor] = []

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch."""
        predicted = self._ours.pick(estimated_points_2d(people, self._estimator, self._set).float())
        result: list[dict[str, float]] = []
        for person, ours in zip(people, predicted, strict=True):
            keypoints = person.sample.keypoints_2d
            if keypoints is None:
                result.append({})
                continue
            points = torch.tensor(np.array(keypoints, dtype=np.float32))
            known = (points[:, 2] > 0).numpy()
            if self._counts is not None:
                known = known & self._counts(person.sample)
            valid = self._theirs.pick(torch.from_numpy(known)[:, None].float())[:, 0] == 1
            if not bool(valid.any()):
                result.append({})
                continue
            errors = keypoint_errors_2d(ours[None], self._theirs.pick(points[:, :2])[None], valid[None])
            self._pixels.update(errors, valid[None])
            scores = {"pixels": float(errors[0, valid].mean())}
            reference = self._reference(person.sample, self._truth_set)
            if reference is not None and reference > 0:
                correct = correct_keypoints_2d(errors, torch.tensor([reference]), self._fraction)
                self._share.update(correct.float(), valid[None])
                self._errors.append((errors / reference)[0, valid])
                scores[self._key] = float(correct[0, valid].float().mean())
            result.append(scores)
        return result

    def scores(self) -> dict[str, float]:
        """Mean distance and share of correct points."""
        result = {"pixels": float(self._pixels.compute())}
        if int(self._share.count):
            result[self._key] = float(self._share.compute())
        return result

    def curve(self) -> Curve | None:
        """Share over the fraction of the reference."""
        if not self._errors:
            return None
        errors = torch.cat(self._errors)
        fractions = torch.linspace(0, 2 * self._fraction, 41)
        share = (errors[:, None] <= fractions).float().mean(dim=0)
        return Curve(
            "distance, share of the reference length",
            "correct points, %",
            tuple(fractions.tolist()),
            {"PCK": tuple((100 * share).tolist())},
        )
