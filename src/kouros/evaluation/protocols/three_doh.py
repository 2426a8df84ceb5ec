"""3DOH50K, people behind things: joints and meshes, and apart the joints that are seen and those that are hidden."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from kouros.body.keypoints import SMPL24
from kouros.data.images import open_picture
from kouros.data.schema import Sample
from kouros.evaluation.metrics import joint_errors
from kouros.evaluation.metrics.accumulate import MeanError
from kouros.evaluation.protocols.card import (
    MPJPE,
    PA_MPJPE,
    Measure,
    PaperTable,
    ProtocolCard,
    paper_rows,
)
from kouros.evaluation.protocols.points import COMMON14
from kouros.evaluation.protocols.protocol import (
    EvaluationProtocol,
    Judged,
    Rows,
    Scorer,
    Setting,
    estimated_points_3d,
)
from kouros.evaluation.protocols.scorers import JointScorer, Renamed, Together, Truth, VertexScorer
from kouros.evaluation.protocols.three_dpw import SMPL_JOINTS, same_mesh

HIPS = ("left_hip", "right_hip")


class SeenAndHidden(Scorer):
    """MPJPE of SMPL's joints that lie on the person's mask, and of those that do not."""

    def __init__(self, setting: Setting) -> None:
        self._estimator = setting.estimator
        self._truth = Truth.of_body(setting.truth, "smpl24")
        self._root = Path(setting.info.image_root)
        self._seen, self._hidden = MeanError(), MeanError()

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch."""
        true = self._truth.of(people).points
        ours = estimated_points_3d(people, self._estimator, SMPL24).float()
        hips = [SMPL24.index(name) for name in HIPS]
        roots = {"predicted_root": ours[:, hips].mean(dim=1), "target_root": true[:, hips].mean(dim=1)}
        errors = joint_errors(ours, true, **roots)
        for i, person in enumerate(people):
            seen = self._visible(person.sample)
            if seen is not None:
                self._seen.update(errors[i : i + 1], seen[None])
                self._hidden.update(errors[i : i + 1], ~seen[None])
        return [{} for _ in people]

    def scores(self) -> dict[str, float]:
        """Both, where there are masks."""
        parts = (("mpjpe_seen", self._seen), ("mpjpe_hidden", self._hidden))
        return {key: float(metric.compute()) for key, metric in parts if int(metric.count)}

    def _visible(self, sample: Sample) -> torch.Tensor | None:
        if sample.mask_path is None or sample.keypoints_2d is None:
            return None
        try:
            with open_picture(self._root / sample.mask_path) as picture:
                mask = np.asarray(picture.convert("L")) > 0
        except OSError:
            return None
        cells = np.floor(np.asarray(sample.keypoints_2d)[:, :2]).astype(int)
        inside = ((cells >= 0) & (cells < [mask.shape[1], mask.shape[0]])).all(axis=1)
        x, y = np.where(inside[:, None], cells, 0).T
        return torch.from_numpy(inside & mask[y, x])


def _joints(setting: Setting) -> Scorer:
    parts: list[Scorer] = [
        JointScorer(setting, Truth.of_body(setting.truth, "h36m17"), COMMON14, HIPS, ("h36m17",)),
    ]
    if setting.estimator.body is not None:
        all24 = JointScorer(setting, Truth.of_body(setting.truth, "smpl24"), SMPL_JOINTS, HIPS, ("smpl24",))
        parts.append(Renamed(all24, {"mpjpe": "mpjpe24", "pa_mpjpe": "pa_mpjpe24"}))
        parts.append(SeenAndHidden(setting))
        if same_mesh(setting):
            parts.append(VertexScorer(setting, setting.estimator.body, "pelvis"))
    return Together(*parts)


_BOBW = "Best of Both Worlds (Wang et al., 2022)"
_KEYS = "mpjpe pa_mpjpe pve"
TEST = EvaluationProtocol(
    name="3doh",
    title="3DOH50K, test split",
    card=ProtocolCard(
        dataset="3DOH50K",
        split="test (1,290 images), all of people behind objects",
        subjects="all",
        cameras="all",
        frames="all",
        joints="14 (ankles, knees, hips, wrists, elbows, shoulders, neck, top of the head) and SMPL's 24; seen: "
        "those of the 24 whose true place in the picture lies on the person's mask; hidden: the others",
        regressor="J_regressor_h36m on the true and the estimated mesh; the skeletons; on the free body its own h36m17",
        alignment="MPJPE: middle of the hips at the origin; PA-MPJPE: best similarity; MPVE: the pelvis at the origin",
        gender="true bodies from the neutral model",
        units="mm",
        excluded="none",
        source=f"{_BOBW}, Sec. 4, Tables 3 and 4",
        open_points="the distributed test split has no masks, so seen and hidden appear only for tables with masks; "
        "the paper calls a joint seen if any pixel of its part is; roots are not stated",
    ),
    rows=Rows(
        datasets=("3doh",),
        importer="kouros import 3doh FOLDER --out DIR --split test",
        needs=("pose", "betas"),
    ),
    measures=(
        MPJPE,
        PA_MPJPE,
        Measure("pve", "MPVE"),
        Measure("mpjpe24", "MPJPE 24"),
        Measure("pa_mpjpe24", "PA 24"),
        Measure("mpjpe_seen", "seen"),
        Measure("mpjpe_hidden", "hidden"),
    ),
    scorer=_joints,
    papers=(
        PaperTable(
            _BOBW,
            "Table 3",
            paper_rows(
                _KEYS,
                """
                SMPLify-X | - | 156.4 | 177.3
                OOH | - | 58.5 | 63.3
                SPIN | 104.3 | 68.3 | 113.4
                PyMAF | 96.2 | - | 107.3
                HMR-EFT | 75.2 | 53.1 | -
                PARE | 63.3 | 44.3 | -
                DMP-14 | 128.4 | 109.8 | -
                IK-14 | 112.9 | 80.8 | 133.5
                UVI-14 | 58.3 | 44.6 | 72.3
                """,
            ),
        ),
        PaperTable(
            _BOBW,
            "Table 4",
            paper_rows(
                "mpjpe pa_mpjpe mpjpe24 pa_mpjpe24 mpjpe_seen",
                "DMP-24 | - | - | 246.4 | 208.5 | -\nDMP-14, seen parts only | - | - | - | - | 87.3",
            ),
        ),
    ),
)
PROTOCOLS = (TEST,)
