"""MPI-INF-3DHP's test set: PCK, AUC and MPJPE, with the root aligned and after rigid alignment."""

from kouros.evaluation.protocols.card import MPJPE, PA_MPJPE, PaperTable, ProtocolCard, paper_rows, percent
from kouros.evaluation.protocols.points import LIMBS
from kouros.evaluation.protocols.protocol import EvaluationProtocol, Rows, Scorer, Setting
from kouros.evaluation.protocols.scorers import JointScorer, Truth

PCK14 = (*LIMBS, "neck14", "head_top")
ALL17 = (*PCK14, "pelvis", "spine", "jaw")
"""3DHP's 17; the centre of its head goes by the name of Human3.6M's jaw, as SPIN compares them."""


def _joints(setting: Setting) -> Scorer:
    truth = Truth.of_column(setting, "keypoints_3d_universal")
    return JointScorer(setting, truth, ALL17, ("pelvis",), ("mpi_inf_3dhp17",), PCK14)


_UNALIGNED = "pck auc mpjpe pa_pck pa_auc pa_mpjpe"
TEST = EvaluationProtocol(
    name="mpi-inf-3dhp",
    title="MPI-INF-3DHP, test set",
    card=ProtocolCard(
        dataset="MPI-INF-3DHP",
        split="test",
        subjects="TS1 to TS6",
        cameras="one a sequence",
        frames="those marked valid (2,929)",
        joints="PCK, AUC: 14 (ankles, knees, hips, wrists, elbows, shoulders, neck, top of the head); "
        "MPJPE: all 17, the pelvis among them",
        regressor="truth: the skeleton of universal height; estimate: J_regressor_h36m's rows on SMPL, or the free "
        "body's own mpi_inf_3dhp17",
        alignment="absolute: pelvis at the origin; rigid: best similarity of each frame over the 17",
        gender="none: the data set's own points",
        units="PCK: % of joints nearer than 150 mm; AUC: mean PCK at 0, 5, ..., 150 mm (at best 30/31); MPJPE: mm",
        excluded="frames not marked valid",
        source="MPI-INF-3DHP (Mehta et al., 3DV 2017) and SPIN, Sec. 4.1 and Table 4",
        open_points="estimates are not scaled to the universal skeleton, as SPIN's are not",
    ),
    rows=Rows(
        datasets=("mpi_inf_3dhp",),
        importer="kouros import mpi-inf-3dhp-test FOLDER --out DIR",
        splits=("test",),
        needs=("keypoints_3d_universal",),
    ),
    measures=(
        percent("pck", "PCK"),
        percent("auc", "AUC"),
        MPJPE,
        percent("pa_pck", "rigid PCK"),
        percent("pa_auc", "rigid AUC"),
        PA_MPJPE,
    ),
    scorer=_joints,
    papers=(
        PaperTable(
            "SPIN (Kolotouros et al., ICCV 2019)",
            "Table 4",
            paper_rows(
                _UNALIGNED,
                """
                HMR (unpaired) | 59.6 | 27.9 | 169.5 | 77.1 | 40.7 | 113.2
                SPIN (unpaired) | 66.8 | 30.2 | 124.8 | 87.0 | 48.5 | 80.4
                Mehta et al. | 75.7 | 39.3 | 117.6 | - | - | -
                VNect | 76.6 | 40.4 | 124.7 | 83.9 | 47.3 | 98.0
                HMR | 72.9 | 36.5 | 124.2 | 86.3 | 47.8 | 89.8
                SPIN | 76.4 | 37.1 | 105.2 | 92.5 | 55.6 | 67.5
                """,
            ),
        ),
    ),
)
PROTOCOLS = (TEST,)
