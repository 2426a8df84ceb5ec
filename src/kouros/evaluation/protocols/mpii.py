"""MPII's hidden joints (HKMR Table 4, right): how well is guessed what nobody sees?"""

import numpy as np
import torch

from kouros.body.keypoints import MPII16, KeypointSet
from kouros.data.schema import Sample
from kouros.evaluation.metrics import head_size_mpii
from kouros.evaluation.protocols.card import Measure, PaperTable, ProtocolCard, paper_rows, percent
from kouros.evaluation.protocols.protocol import EvaluationProtocol, ProtocolError, Rows, Scorer, Setting
from kouros.evaluation.protocols.scorers import FlatScorer

_FRACTION = 0.5


def _hidden(sample: Sample) -> np.ndarray:
    if sample.visible is None:
        raise ProtocolError(f"{sample.image_path}: this row does not say which joints are visible.")
    return ~np.asarray(sample.visible)


def _head(sample: Sample, keypoints: KeypointSet) -> float | None:
    if sample.head_box is None:
        return None
    return float(head_size_mpii(torch.tensor(np.array(sample.head_box, dtype=np.float32))[None])[0])


def _keypoints(setting: Setting) -> Scorer:
    places = MPII16.names if setting.info.keypoints_2d is MPII16 else ()
    if not places:
        raise ProtocolError("this table's keypoints are not MPII's 16.")
    # SMPL's own set takes LSP's joints where MPII's are the same.
    return FlatScorer(setting, places, ("mpii16",), _FRACTION, _head, _hidden)


INVISIBLE = EvaluationProtocol(
    name="mpii-invisible",
    title="MPII, invisible joints",
    card=ProtocolCard(
        dataset="MPII Human Pose",
        split="the paper: validation; here the table's people (MPII itself has no such list: it is given when the "
        "table is made)",
        subjects="all",
        cameras="one",
        frames="all with head boxes",
        joints="those of MPII's 16 that are annotated and marked as not visible",
        regressor="mpii16 of the body, projected; a detector's own points",
        alignment="none",
        gender="none",
        units="px of the photo (MPJPE in the picture); PCK: % within half the head's size (0.6 of its box's diagonal)",
        excluded="joints without annotation, visible joints; for PCK people without a head box",
        source="HKMR (Georgakis et al., ECCV 2020), Sec. 4 and Table 4",
        open_points="the paper gives neither PCK's threshold nor the resolution in which pixels are counted",
    ),
    rows=Rows(
        datasets=("mpii",),
        importer="kouros import mpii FOLDER --out DIR --split val --people valid.h5",
        needs=("keypoints_2d", "visible"),
    ),
    measures=(Measure("pixels", "MPJPE", "px", 1.0, 2), percent("pck", "PCK", 2)),
    scorer=_keypoints,
    papers=(
        PaperTable(
            "HKMR (Georgakis et al., ECCV 2020)",
            "Table 4, right",
            paper_rows("pixels pck", "SPIN | 59.52 | 62.16\nHKMR_MF | 55.56 | 66.24"),
        ),
    ),
)
PROTOCOLS = (INVISIBLE,)
