"""UP-3D: NBF's joint, keypoint and rotation errors on its validation list, and GraphCMR's per-vertex error."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from kouros.body.keypoints import LSP14, KeypointSet
from kouros.data.schema import Sample
from kouros.evaluation.metrics import quaternion_errors
from kouros.evaluation.metrics.accumulate import QuaternionError
from kouros.evaluation.protocols.card import (
    PA_MPJPE,
    PVE,
    Measure,
    PaperTable,
    ProtocolCard,
    paper_rows,
    percent,
)
from kouros.evaluation.protocols.protocol import (
    EvaluationProtocol,
    Judged,
    ProtocolError,
    Rows,
    Scorer,
    Setting,
    require_body,
    with_parameters,
)
from kouros.evaluation.protocols.scorers import (
    FlatScorer,
    JointScorer,
    Together,
    Truth,
    VertexScorer,
    true_parameters,
)
from kouros.evaluation.protocols.three_dpw import SMPL_JOINTS, same_mesh
from kouros.geometry.rotations import rotvec_to_rotmat

_NBF = "Neural Body Fitting (Omran et al., 3DV 2018)"
_ROWS = Rows(
    datasets=("up_3d", "up3d"),
    importer="kouros import up-3d FOLDER --out DIR --split val",
    needs=("pose", "betas"),
)


class RotationScorer(Scorer):
    """Angle between true and estimated rotations of the joints, each against its parent, the root's among them."""

    def __init__(self, setting: Setting) -> None:
        require_body(setting, "compares its rotations")
        self._truth, self._estimator = setting.truth, setting.estimator
        self._error = QuaternionError()

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch."""
        predicted = with_parameters(people, self._estimator).rotations
        poses = [true_parameters(p.sample, self._truth.of(p.sample.gender)) for p in people]
        pose = torch.cat([torch.cat([p["global_orient"], p["body_pose"]], dim=1) for p in poses])
        target = rotvec_to_rotmat(pose.unflatten(1, (24, 3))).to(predicted)
        self._error.update(predicted, target)
        return [{"rotation": float(e.mean())} for e in quaternion_errors(predicted, target)]

    def scores(self) -> dict[str, float]:
        """The mean."""
        return {"rotation": float(self._error.compute())}


def _head_length(sample: Sample, keypoints: KeypointSet) -> float | None:
    """From the neck to the top of the head, pixels, where both are annotated."""
    points = sample.keypoints_2d
    if points is None:
        return None
    neck, top = (np.asarray(points)[keypoints.index(name)] for name in ("neck_lsp", "head_top"))
    return float(np.linalg.norm(neck[:2] - top[:2])) if neck[2] > 0 and top[2] > 0 else None


def _nbf(setting: Setting) -> Scorer:
    body = require_body(setting, "compares its joints and rotations")
    joints = JointScorer(setting, Truth.of_body(setting.truth, "smpl24"), SMPL_JOINTS, ("pelvis",), ("smpl24",))
    parts: list[Scorer] = [joints, RotationScorer(setting)]
    if setting.info.keypoints_2d is LSP14 and "lsp14" in body.keypoint_sets:
        parts.append(FlatScorer(setting, LSP14.names, ("lsp14",), 0.5, _head_length, key="pckh"))
    return Together(*parts)


_CARD = ProtocolCard(
    dataset="UP-3D",
    split="val",
    subjects="all",
    cameras="one",
    frames="all",
    joints="SMPL's 24; PCKh: LSP's 14",
    regressor="the skeletons of the true and of the estimated body; PCKh: lsp14 of the body, projected",
    alignment="joints: the pelvis at the origin; rotations: none, the root's among them",
    gender="true bodies from the neutral model",
    units="mm; % within half of the head (neck to top of the head, of each person); radians (2 arccos |<p, q>|)",
    excluded="none",
    source=f"{_NBF}, Sec. 4.3",
    open_points="the paper does not say how joints are aligned, nor how it measures a head",
)
NBF_VAL = EvaluationProtocol(
    name="up-3d",
    title="UP-3D, validation list of NBF",
    card=_CARD,
    rows=replace(_ROWS, splits=("val",)),
    measures=(
        Measure("mpjpe", "joints3D"),
        percent("pckh", "PCKh"),
        Measure("rotation", "quat", "rad", 1.0, 3),
        PA_MPJPE,
    ),
    scorer=_nbf,
    papers=(
        PaperTable(
            _NBF,
            "Table 3",
            paper_rows(
                "mpjpe pckh rotation",
                """
                L_lat | 83.7 | 93.1 | 0.278
                L_lat + L_3D | 82.3 | 93.4 | 0.280
                L_lat + L_2D | 83.1 | 93.5 | 0.278
                L_lat + L_3D + L_2D | 82.0 | 93.5 | 0.279
                L_3D | 83.7 | 93.5 | 1.962
                L_2D | 198.0 | 94.0 | 1.971
                """,
            ),
        ),
        PaperTable(_NBF, "Table 1", paper_rows("mpjpe", "RGB | 98.5\n12 parts (true) | 27.8\n24 joints (true) | 27.7")),
    ),
)


def _vertices(setting: Setting) -> Scorer:
    body = require_body(setting, "compares meshes")
    if not same_mesh(setting):
        raise ProtocolError(
            "vertices can be compared on one mesh only: give SMPL's neutral model by --smpl, and a system on SMPL "
            "(--body SMPL_NEUTRAL.pkl)."
        )
    return VertexScorer(setting, body, None)


VERTICES = EvaluationProtocol(
    name="up-3d-vertices",
    title="UP-3D, per-vertex error of GraphCMR",
    card=replace(
        _CARD,
        split="the LSP part of the test list: 639 images, namesUPlsp.txt, by --images",
        joints="none: all vertices",
        regressor="none: both meshes as the model poses them",
        alignment="none",
        units="mm",
        source="GraphCMR (Kolotouros et al., CVPR 2019), released evaluation",
        open_points="none",
    ),
    rows=replace(_ROWS, splits=("test",), importer="kouros import up-3d FOLDER --out DIR --split test"),
    measures=(PVE,),
    scorer=_vertices,
)
PROTOCOLS = (NBF_VAL, VERTICES)
