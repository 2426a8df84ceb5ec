"""The fit on top of any estimator: its bodies are where it begins, the detector's keypoints what it explains, and the
skin's map where somebody draws one.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.batched import stack
from kouros.body.keypoints import BLAZEPOSE33, OPENPOSE25, KeypointSet
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.surface.charts import Charts, build_charts
from kouros.fitting.schedules.keypoint_fit import FitConfig, FitResult, KeypointFitter
from kouros.fitting.schedules.synergy import Cues, Synergy, SynergyConfig
from kouros.fitting.terms.densepose import DenseEvidence, evidence_of_iuv
from kouros.fitting.terms.evidence import Evidence, person_size
from kouros.priors.gmm import load_gmm
from kouros.systems.estimator import (
    Estimate,
    Estimator,
    PersonInPhoto,
    SeveralAnswers,
    by_keypoint_set,
    in_photo_camera,
    parameters_of,
)

ANY_START = FitConfig(keypoint_sigma=0.016, keypoint_outlier=3.0, landmark_sigma=(0.1, 0.1, 0.1))
"""Trust in a detector's keypoints and in where a start of which nothing was measured has them in space: regressors'
joints are some ten centimetres off."""

DETECTED = replace(ANY_START, first_outlier=6.0, landmark_sigma=(0.03, 0.03, 0.03), pose_prior=0.1)
"""The same for the learned start, and how little is left for a prior to say where it has learned from millions of
poses; measured on renders: see docs/results/learned_start.md and docs/results/default.md."""

UNEXPLAINED = 0.05
"""Mean distance from the keypoints, in units of the person's size, beyond which a start's other answers are tried: 3 %
of synthetic people."""
CONVINCING = 0.6
"""What a fit from another answer may cost then, of the first one's cost: which of two like ones is right, the cost does
not know (docs/results/default.md)."""

SKIN_POINTS = 120
"""Pixels of a map of the skin that count."""


class Refined:
    """An estimator whose bodies are fitted to the detected keypoints.

    Keypoints of the start's body, in space, are evidence too: the fit must pay for leaving them. Who was not detected
    keeps the start.

    Args:
        start: an estimator that answers with bodies.
        config: how far keypoints and start are trusted.
        name: as tables print it; default: the start's, and that it is fitted.
        skin: an estimator that maps people's skin (`kouros.render.maps.DenseMaps.iuv`), to be explained as well.

    Raises:
        ValueError: the start gives no bodies.
    """

    needs_keypoints = True
    points_3d: KeypointSet | None = None
    points_2d: KeypointSet | None = None

    def __init__(
        self,
        start: Estimator,
        config: FitConfig = ANY_START,
        name: str | None = None,
        skin: Estimator | None = None,
    ) -> None:
        if start.body is None:
            raise ValueError(
                f"{start.name} gives points and no bodies, so there is nothing that a fit could begin with."
            )
        self._body = start.body
        self.body: BodyModel | None = start.body
        self.start, self.name = start, name or f"{start.name}, fitted"
        self._config, self._skin = config, skin
        self._fitters: dict[str, KeypointFitter] = {}
        self._synergies: dict[str, Synergy] = {}

    def estimate(self, people: Sequence[PersonInPhoto]) -> list[Estimate | None]:
        """The start's answers, refined; None where it has none."""
        answers = self.start.estimate(people)
        for members in by_keypoint_set(people).values():
            begun = {i: e for i in members if (e := self._begun(answers[i])) is not None}
            starts = {i: in_photo_camera(e, people[i]) for i, e in begun.items()}
            if starts:
                refined = self._fitted([people[i] for i in starts], list(starts.values()))
                for i, estimate in zip(starts, refined, strict=True):
                    answers[i] = estimate
        return answers

    def _begun(self, answer: Estimate | None) -> Estimate | None:
        """An answer with parameters, those of a mesh too; None where there are none."""
        bodies = None if answer is None else parameters_of(answer, self._body)
        return None if answer is None or bodies is None else replace(answer, bodies=bodies)

    def _fitted(self, people: Sequence[PersonInPhoto], starts: Sequence[Estimate]) -> list[Estimate]:
        """People of one keypoint set, fitted together."""
        detected = people[0].detected
        assert detected is not None
        cameras = stack([p.camera for p in people])
        start = stack([e.bodies for e in starts if e.bodies is not None])
        keypoints = torch.stack([p.keypoints for p in people])
        set_name, keypoints = on_keypoints_of(keypoints, detected.keypoint_set, self._body)
        fitter = self._fitter(set_name)
        # The start has weighed the detector's landmarks; what it makes of them is the better evidence of depth.
        evidence = Evidence(keypoints, set_name, cameras, fitter.kinematics.points(start))
        found = fitter.fit(evidence, start)
        parameters = found.parameters
        if isinstance(self.start, SeveralAnswers):
            parameters = self._from_other_answers(self.start, people, evidence, found)
        if self._skin is not None:
            dense = self._skin_evidence(people, self._skin.estimate(people))
            parameters = self._synergy(set_name).refine(Cues(evidence, dense), parameters).parameters
        fitted = Bodies.of(parameters, cameras)
        # A mesh that parameters did not make has been replaced by one that they made.
        return [replace(e, bodies=fitted[i], vertices=None, joints=None, camera=None) for i, e in enumerate(starts)]

    def _from_other_answers(
        self,
        start: SeveralAnswers,
        people: Sequence[PersonInPhoto],
        evidence: Evidence,
        found: FitResult,
    ) -> BodyParameters:
        """Bodies; of those far from their keypoints, fitted from another answer where that is much better.

        As of somebody seen from behind, with the head bent, who was taken to be seen from the front.
        """
        far = found.reprojection_error > UNEXPLAINED * person_size(evidence.keypoints_2d)
        chosen = torch.nonzero(far)[:, 0]
        if not len(chosen):
            return found.parameters
        asked = [people[i] for i in chosen.tolist()]
        bodies = [[in_photo_camera(e, p).bodies for e in es] for p, es in zip(asked, start.others(asked), strict=True)]
        fitter, count = self._fitter(evidence.keypoint_set), len(bodies[0])
        if not count:
            return found.parameters
        begin = stack([b for each in bodies for b in each if b is not None])
        repeated = evidence[chosen.repeat_interleave(count)]
        again = fitter.fit(replace(repeated, landmarks_3d=fitter.kinematics.points(begin)), begin)
        cost, winner = again.cost.view(-1, count).min(1)
        better = cost < CONVINCING * found.cost[chosen]
        vector = found.parameters.vector.clone()
        vector[chosen[better]] = again.parameters.vector.view(len(chosen), count, -1)[better, winner[better]]
        return BodyParameters.from_vector(vector)

    def _skin_evidence(self, people: Sequence[PersonInPhoto], answers: Sequence[Estimate | None]) -> DenseEvidence:
        """Pixels of the photo and what they show of the skin; of confidence 0 for whom nobody has mapped."""
        maps, squares = [], []
        for person, answer in zip(people, answers, strict=True):
            iuv = None if answer is None or answer.dense is None else answer.dense.iuv
            square = None if answer is None else answer.square
            center = [*person.crop_center.tolist(), float(person.crop_side)]
            squares.append(torch.tensor(center) if square is None else square)
            maps.append(iuv)
        largest = max((len(iuv) for iuv in maps if iuv is not None), default=1)
        nothing = torch.zeros(largest, largest, 3)
        together = torch.stack([nothing if iuv is None else iuv for iuv in maps])
        return evidence_of_iuv(self._charts, together, torch.stack(squares).float(), SKIN_POINTS)

    @cached_property
    def _charts(self) -> Charts:
        return build_charts(self._body)

    def _synergy(self, set_name: str) -> Synergy:
        if set_name not in self._synergies:
            self._synergies[set_name] = Synergy(self._body, set_name, load_gmm(), SynergyConfig(keypoints=self._config))
        return self._synergies[set_name]

    def _fitter(self, set_name: str) -> KeypointFitter:
        if set_name not in self._fitters:
            self._fitters[set_name] = KeypointFitter(self._body, set_name, load_gmm(), self._config)
        return self._fitters[set_name]


def on_keypoints_of(
    keypoints: Float[Tensor, "people points 3"], set_name: str, body: BodyModel
) -> tuple[str, Float[Tensor, "people fitted 3"]]:
    """The keypoints in a set that the body has: SMPL files know no BlazePose, so its points go by name."""
    if set_name in body.keypoint_sets or set_name != BLAZEPOSE33.name:
        return set_name, keypoints
    moved = keypoints.new_zeros(len(keypoints), len(OPENPOSE25), 3)
    for place, name in enumerate(OPENPOSE25.names):
        same = name.replace("big_toe", "foot_index")
        if same in BLAZEPOSE33.names:
            moved[:, place] = keypoints[:, BLAZEPOSE33.index(same)]
    return OPENPOSE25.name, moved
