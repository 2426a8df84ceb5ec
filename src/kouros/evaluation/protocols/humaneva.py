"""HumanEva-I's walking and boxing, as the SMPLify line and NBF's Table 5 score them."""

from kouros.evaluation.protocols.card import MPJPE, PA_MPJPE, Measure, PaperTable, ProtocolCard, paper_rows
from kouros.evaluation.protocols.points import LIMBS
from kouros.evaluation.protocols.protocol import EvaluationProtocol, Rows, Scorer, Setting
from kouros.evaluation.protocols.scorers import JointScorer, Truth

JOINTS14 = (*LIMBS, "neck14", "pelvis")


def _joints(setting: Setting) -> Scorer:
    return JointScorer(setting, Truth.of_column(setting), JOINTS14, ("left_hip", "right_hip"), ("h36m17",))


_NBF = "Neural Body Fitting (Omran et al., 3DV 2018)"
VALIDATE = EvaluationProtocol(
    name="humaneva",
    title="HumanEva-I, walking and boxing",
    card=ProtocolCard(
        dataset="HumanEva-I",
        split="validation part",
        subjects="S1, S2, S3",
        cameras="C1",
        frames="all valid of Walking and Box",
        joints="14: ankles, knees, hips, wrists, elbows, shoulders, thorax, pelvis (HumanEva's 15th, the head's "
        "centre, has no like in the estimates' set)",
        regressor="truth: motion capture; estimate: J_regressor_h36m on SMPL, or the free body's own h36m17",
        alignment="PA-MPJPE: best similarity of each frame; MPJPE: middle of the hips at the origin",
        gender="none: truth is motion capture",
        units="mm; mean over joints and frames, and the median over frames of the frames' means",
        excluded="frames without complete motion capture",
        source=f"{_NBF}, Table 5, and SMPLify (Bogo et al., ECCV 2016)",
        open_points="NBF's text names the actions and subjects; camera, split and joints are taken as above",
    ),
    rows=Rows(
        datasets=("humaneva",),
        importer="kouros import humaneva converted_15j --out DIR --split Validate",
        splits=("validate",),
        needs=("keypoints_3d",),
        subjects=("S1", "S2", "S3"),
        cameras=("C1",),
        actions=("Walking", "Box"),
    ),
    measures=(PA_MPJPE, Measure("pa_mpjpe_median", "PA median"), MPJPE),
    scorer=_joints,
    papers=(
        PaperTable(
            _NBF,
            "Table 5",
            paper_rows(
                "pa_mpjpe pa_mpjpe_median",
                """
                Ramakrishna et al. | 168.4 | 145.9
                Zhou et al. | 110.0 | 98.9
                SMPLify | 79.9 | 61.9
                Random Forests | 93.5 | 77.6
                SMPLify (dense) | 74.5 | 59.6
                NBF | 64.0 | 49.4
                """,
            ),
        ),
    ),
)
PROTOCOLS = (VALIDATE,)
