"""``synthetic-val``: the project's own benchmark of drawn people, of whom everything is known and may be shared."""

from functools import lru_cache

from kouros.body import load_body
from kouros.body.model import BodyModel
from kouros.evaluation.protocols.card import MPJPE, PA_MPJPE, PVE, Measure, ProtocolCard, percent
from kouros.evaluation.protocols.points import COMMON14, LIMBS
from kouros.evaluation.protocols.protocol import EvaluationProtocol, Rows, Scorer, Setting, TruthBodies
from kouros.evaluation.protocols.scorers import FlatScorer, JointScorer, Renamed, Together, Truth, VertexScorer
from kouros.evaluation.protocols.tables import HIPS, PCK_FRACTION, longer_side


@lru_cache(maxsize=1)
def drawn_body() -> BodyModel:
    """The model that synthetic people are drawn with."""
    return load_body()


def _scores(setting: Setting) -> Scorer:
    drawn = TruthBodies(dict.fromkeys(("female", "male", "neutral"), drawn_body()))
    truth = Truth.of_body(drawn, "h36m17")
    limbs = JointScorer(setting, truth, LIMBS, HIPS, ("h36m17",))
    parts: list[Scorer] = [Renamed(limbs, {"mpjpe": "mpjpe12", "pa_mpjpe": "pa_mpjpe12"})]
    if setting.estimator.points_3d is None:
        parts.append(JointScorer(setting, truth, COMMON14, HIPS, ("h36m17",)))
    own = setting.info.keypoints_2d
    if own is not None:
        parts.append(FlatScorer(setting, LIMBS, (own.name, "coco17", "smpl24"), PCK_FRACTION, longer_side))
    body = setting.estimator.body
    if body is not None and body.v_template.shape == drawn_body().v_template.shape:
        here = Setting(setting.info, setting.estimator, setting.stand_in, drawn)
        parts.append(VertexScorer(here, body, "pelvis"))
    return Together(*parts)


VALIDATION = EvaluationProtocol(
    name="synthetic-val",
    title="synthetic-val, drawn people",
    card=ProtocolCard(
        dataset="this project's synthetic people",
        split="synthetic-val (2,000 fixed pictures, everybody in them)",
        subjects="all",
        cameras="all",
        frames="all",
        joints="12: ankles, knees, hips, wrists, elbows, shoulders; 14: neck, top of the head as well, of estimators "
        "with bodies; in the picture the 12",
        regressor="h36m17 of the drawn body and of the estimated one",
        alignment="MPJPE: middle of the hips at the origin; PA-MPJPE: best similarity; PVE: the pelvis at the origin",
        gender="the free body",
        units="mm; PCK: % within 0.1 of the box's longer side",
        excluded="none",
        source="this project's",
    ),
    rows=Rows(
        datasets=("synthetic",),
        importer="kouros evaluate default --on synthetic-val --data FOLDER",
        needs=("pose", "betas"),
    ),
    measures=(
        Measure("pa_mpjpe12", "PA 12"),
        Measure("mpjpe12", "MPJPE 12"),
        PA_MPJPE,
        MPJPE,
        PVE,
        percent("pck", "PCK@0.1"),
        Measure("pixels", "distance", "px", 1.0),
    ),
    scorer=_scores,
)
PROTOCOLS = (VALIDATION,)
