"""3DPW's test split, which SPIN evaluates on and nobody of the five trains on."""

from dataclasses import replace

from kouros.evaluation.protocols.card import MPJPE, PA_MPJPE, PVE, PaperTable, ProtocolCard, paper_rows
from kouros.evaluation.protocols.points import COMMON14
from kouros.evaluation.protocols.protocol import EvaluationProtocol, Rows, Scorer, Setting
from kouros.evaluation.protocols.scorers import JointScorer, Together, Truth, VertexScorer

_SPIN = "SPIN (Kolotouros et al., ICCV 2019)"
_ROWS = Rows(
    datasets=("3dpw",),
    importer="kouros import 3dpw FOLDER --out DIR --split test",
    splits=("test",),
    needs=("pose", "betas"),
)
SMPL_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip


def same_mesh(setting: Setting) -> bool:
    """Whether the estimator's mesh can be compared vertex by vertex with all true ones."""
    body, models = setting.estimator.body, setting.truth.by_gender.values()
    return body is not None and bool(models) and all(m.v_template.shape == body.v_template.shape for m in models)


def _joints(setting: Setting) -> Scorer:
    joints = JointScorer(setting, Truth.of_body(setting.truth, "h36m17"), COMMON14, ("pelvis",), ("h36m17",))
    if not same_mesh(setting):
        return joints
    assert setting.estimator.body is not None
    return Together(joints, VertexScorer(setting, setting.estimator.body, "pelvis"))


TEST = EvaluationProtocol(
    name="3dpw",
    title="3DPW, test split",
    card=ProtocolCard(
        dataset="3DPW",
        split="test",
        subjects="all",
        cameras="the moving one",
        frames="all in which the camera is valid for the person",
        joints="14: ankles, knees, hips, wrists, elbows, shoulders, neck, top of the head",
        regressor="J_regressor_h36m on the true mesh and on the estimated one; on the free body its own h36m17",
        alignment="MPJPE: the pelvis at the origin (row 0 of the regressor); PA-MPJPE: best similarity of each person; "
        "PVE: the pelvis joint at the origin",
        gender="true meshes from the male and female models, estimates from the estimator's",
        units="mm, mean over joints, people and frames",
        excluded="frames whose camera pose is not valid",
        source=f"{_SPIN}, Sec. 4.1 and its released evaluation",
    ),
    rows=_ROWS,
    measures=(PA_MPJPE, MPJPE, PVE),
    scorer=_joints,
    papers=(
        PaperTable(
            _SPIN,
            "Table 1",
            paper_rows(
                "pa_mpjpe",
                "HMR | 81.3\nKanazawa et al. (temporal) | 72.6\nArnab et al. | 72.2\nKolotouros et al. (CMR) | 70.2\n"
                "SPIN, static fits | 66.3\nSPIN, in the loop | 59.2",
            ),
        ),
    ),
)


def _smpl_joints(setting: Setting) -> Scorer:
    return JointScorer(setting, Truth.of_column(setting), SMPL_JOINTS, ("pelvis",), ("smpl24",))


SMPL24 = EvaluationProtocol(
    name="3dpw-smpl24",
    title="3DPW, test split, over the skeleton's joints",
    card=replace(
        TEST.card,
        joints="SMPL's 24",
        regressor="truth: the joints in the data set's files; estimate: the body's skeleton",
        alignment="MPJPE: the pelvis joint at the origin; PA-MPJPE: best similarity of each person",
        gender="none: the data set's own joints",
        source="this project's, for those without SMPL's files; no paper's",
    ),
    rows=replace(_ROWS, needs=("keypoints_3d",)),
    measures=(PA_MPJPE, MPJPE),
    scorer=_smpl_joints,
)
PROTOCOLS = (TEST, SMPL24)
