"""Scores for any table that has the fields, so that every picture with annotations can be measured.

The points are those that every keypoint set has, so that all estimators are scored over the same.
"""

import numpy as np

from kouros.body.keypoints import KeypointSet
from kouros.data.crops import BOX_MARGIN
from kouros.data.schema import Sample
from kouros.evaluation.protocols.card import MPJPE, PA_MPJPE, Measure, ProtocolCard, percent
from kouros.evaluation.protocols.points import LIMBS, select
from kouros.evaluation.protocols.protocol import EvaluationProtocol, ProtocolError, Rows, Scorer, Setting
from kouros.evaluation.protocols.scorers import FlatScorer, JointScorer, Truth

HIPS = ("left_hip", "right_hip")
PCK_FRACTION = 0.1


def _joints(setting: Setting) -> Scorer:
    truth = Truth.of_column(setting)
    return JointScorer(setting, truth, LIMBS, HIPS, _sets(truth.keypoints))


def _sets(own: KeypointSet) -> tuple[str, ...]:
    """Sets to ask a body for: the table's own first, which places hips and shoulders as its annotators did."""
    return (own.name, "h36m17", "smpl24") if own.name != "spin49" else ("h36m17", "smpl24")


TABLE_3D = EvaluationProtocol(
    name="table-3d",
    title="Joints in space, any table",
    card=ProtocolCard(
        dataset="the given table",
        split="the table's",
        subjects="all",
        cameras="all",
        frames="all rows with keypoints in space",
        joints="12: ankles, knees, hips, wrists, elbows, shoulders",
        regressor="the table's own keypoint set on the estimate's body, else Human3.6M's, else SMPL's joints",
        alignment="MPJPE: the middle of the hips at the origin; PA-MPJPE: best similarity (scale, rotation, shift)",
        gender="none: the table's own points",
        units="mm, mean over joints and rows",
        excluded="rows without keypoints in space; joints without annotation",
        source="this project's; for tables that belong to no benchmark",
    ),
    rows=Rows(datasets=(), needs=("keypoints_3d",)),
    measures=(
        PA_MPJPE,
        MPJPE,
        Measure("pa_mpjpe_median", "PA-MPJPE median"),
        Measure("mpjpe_median", "MPJPE median"),
    ),
    scorer=_joints,
)


def _keypoints(setting: Setting) -> Scorer:
    own = setting.info.keypoints_2d
    if own is None:
        raise ProtocolError("this table holds no keypoints in the picture, which the protocol needs.")
    places = tuple(p for p in (*LIMBS, "nose") if p in select(own, (*LIMBS, "nose")).names)
    return FlatScorer(setting, places, _sets(own), PCK_FRACTION, longer_side)


def longer_side(sample: Sample, keypoints: KeypointSet) -> float | None:
    """Of the person's box: the data set's tight one, or the square less its margin; pixels."""
    if sample.bbox is not None:
        return float((np.asarray(sample.bbox)[2:] - np.asarray(sample.bbox)[:2]).max())
    return None if sample.box_size is None else float(sample.box_size) / BOX_MARGIN


TABLE_2D = EvaluationProtocol(
    name="table-2d",
    title="Keypoints in the picture, any table",
    card=ProtocolCard(
        dataset="the given table",
        split="the table's",
        subjects="all",
        cameras="all",
        frames="all rows with keypoints in the picture",
        joints="up to 13: ankles, knees, hips, wrists, elbows, shoulders, and the nose where the table has it",
        regressor="the table's own keypoint set on the estimate's body, projected; a detector's own points",
        alignment="none",
        gender="none",
        units="% of annotated points within 0.1 of the box's longer side (Yang and Ramanan, 2013); mean distance, px",
        excluded="points without annotation; people without any",
        source="this project's; for tables that belong to no benchmark",
    ),
    rows=Rows(datasets=(), needs=("keypoints_2d",)),
    measures=(percent("pck", "PCK@0.1"), Measure("pixels", "distance", "px", 1.0)),
    scorer=_keypoints,
)

PROTOCOLS = (TABLE_3D, TABLE_2D)
