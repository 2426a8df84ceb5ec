"""Human3.6M's Protocols 1 and 2, in the three meanings that the five papers give the names.

| name | subjects, cameras | frames | score |
|---|---|---|---|
| P1, HMR and HKMR | S9, S11, all cameras | 10 a second, both trials | MPJPE |
| P2, HMR and HKMR | S9, S11, the frontal camera | 10 a second, first trial | MPJPE (HKMR), PA-MPJPE (HMR) |
| P1, HoloPose | S11, the frontal camera | every 64th | PA-MPJPE |
| P2, HoloPose | S9, S11, all cameras | all videos | MPJPE |
| P1, SPIN | S9, S11, all cameras | every 5th, both trials | MPJPE, PA-MPJPE |
| P2, SPIN | S9, S11, the frontal camera | every 5th, both trials | PA-MPJPE |
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from kouros.evaluation.protocols.card import MPJPE, PA_MPJPE, PaperTable, ProtocolCard, paper_rows
from kouros.evaluation.protocols.points import COMMON14
from kouros.evaluation.protocols.protocol import EvaluationProtocol, Rows, Scorer, Setting, Who
from kouros.evaluation.protocols.scorers import JointScorer, Truth

FRONTAL_CAMERA = "60457274"
"""Camera 3 of HMR's numbering."""
_CORRUPT = ("S11", "Directions", "54138969")
"""A damaged video, which HMR and the importer leave out."""
_IMPORT = "kouros import human36m FOLDER --out DIR --split test"
_IMAGE = re.compile(r"(S\d+)_([A-Za-z]+)(?:[_ ](\d))?\.(\d{8})_(\d{6})\.\w+$")
_ACTIONS = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}
"""Two names of one action, by the first and by later releases."""
HIPS = ("left_hip", "right_hip")


def identify(people: Sequence[Who]) -> list[Who]:
    """Completes rows of SPIN-style files, whose pictures' names say it: ``S9_Directions_1.54138969_000001.jpg``."""
    return [_from_name(who) if who.subject is None else who for who in people]


def _from_name(who: Who) -> Who:
    match = _IMAGE.search(who.image)
    if match is None:
        return who
    subject, action, trial, camera, number = match.groups()
    action = _ACTIONS.get(action, action)
    sequence = f"{subject}_{action}" + (f" {trial}" if trial else "")
    # Pictures are numbered from 1, frames from 0.
    return replace(who, subject=subject, action=action, sequence=sequence, camera=camera, frame=int(number) - 1)


def _is_corrupt(who: Who) -> bool:
    return (who.subject, (who.sequence or "").partition("_")[2], who.camera) == _CORRUPT


def _rows(**changes: object) -> Rows:
    rows = Rows(
        datasets=("human36m", "h36m"),
        importer=_IMPORT,
        needs=("keypoints_3d",),
        subjects=("S9", "S11"),
        every=5,
        excludes=_is_corrupt,
        identify=identify,
    )
    return replace(rows, **changes)  # type: ignore[arg-type]


def _joints_from(root: tuple[str, ...]):  # type: ignore[no-untyped-def]
    def make(setting: Setting) -> Scorer:
        return JointScorer(setting, Truth.of_column(setting), COMMON14, root, ("h36m17",))

    return make


_CARD = ProtocolCard(
    dataset="Human3.6M",
    split="test",
    subjects="S9, S11",
    cameras="all four",
    frames="10 a second (every 5th of 50), both trials",
    joints="14: ankles, knees, hips, wrists, elbows, shoulders, neck, top of the head (rows 0-12, 18 of SPIN's 24)",
    regressor="truth: motion capture; estimate: J_regressor_h36m on SMPL, or the free body's own h36m17",
    alignment="MPJPE: middle of the hips at the origin; PA-MPJPE: best similarity of each frame",
    gender="none: truth is motion capture",
    units="mm, mean over joints and frames",
    excluded="S11 Directions of camera 54138969 (damaged video)",
    source="",
)

_HMR_SOURCE = "HMR (Kanazawa et al., CVPR 2018) and HKMR (Georgakis et al., ECCV 2020), Sec. 4"
_HKMR = "HKMR (Georgakis et al., ECCV 2020)"


def _hkmr_tables(first: bool) -> tuple[PaperTable, ...]:
    """Tables 1, 4 and 5 of HKMR; one column is P1, the other P2."""
    column = 0 if first else 1
    table1 = {"HMR": (87.97, 88.00), "CMR": (74.70, 71.90), "HKMR": (71.08, 67.74)}
    table4 = {"SPIN": (65.60, 62.23), "HKMR_MF": (64.02, 59.62)}
    return tuple(
        PaperTable(_HKMR, name, paper_rows("mpjpe", "\n".join(f"{m} | {v[column]}" for m, v in rows.items())))
        for name, rows in (("Table 1, standard", table1), ("Table 4, standard", table4))
    )


P1_HMR = EvaluationProtocol(
    name="human36m-p1-hmr",
    title="Human3.6M, Protocol 1 of HMR and HKMR",
    card=replace(_CARD, source=_HMR_SOURCE, open_points="HKMR reports no PA-MPJPE; HMR reports both"),
    rows=_rows(),
    measures=(MPJPE, PA_MPJPE),
    scorer=_joints_from(HIPS),
    papers=_hkmr_tables(True),
)
P2_HMR = EvaluationProtocol(
    name="human36m-p2-hmr",
    title="Human3.6M, Protocol 2 of HMR and HKMR",
    card=replace(
        _CARD,
        cameras=f"frontal only: {FRONTAL_CAMERA} (camera 3)",
        frames="10 a second (every 5th of 50), first trial of each action",
        source=_HMR_SOURCE,
        open_points="which trial is the first: here the one whose name comes first ('Directions', 'Directions 1'); "
        "HKMR's text names the camera and no trial",
    ),
    rows=_rows(cameras=(FRONTAL_CAMERA,), first_trial=True),
    measures=(MPJPE, PA_MPJPE),
    scorer=_joints_from(HIPS),
    papers=(
        *_hkmr_tables(False),
        PaperTable(
            _HKMR,
            "Table 5",
            paper_rows("mpjpe", "Arnab et al. | 77.80\nHoloPose | 64.28\nDaNet | 61.50\nVIBE | 65.60"),
            "collected from the methods' papers, whose protocols differ",
        ),
        PaperTable(
            "Neural Body Fitting (Omran et al., 3DV 2018)",
            "Table 6",
            paper_rows(
                "pa_mpjpe",
                "SMPLify | 82.3\nSMPLify (dense) | 80.7\nPavlakos et al. | 75.9\nHMR (H36M-trained) | 77.6\n"
                "HMR | 56.8\nNBF | 59.9",
            ),
            "NBF names neither joints nor frames",
        ),
    ),
)

_HOLOPOSE = "HoloPose (Guler and Kokkinos, CVPR 2019)"
_HOLOPOSE_OPEN = "the paper names no joints: the field's 14 are taken"
P1_HOLOPOSE = EvaluationProtocol(
    name="human36m-p1-holopose",
    title="Human3.6M, Protocol 1 of HoloPose",
    card=replace(
        _CARD,
        subjects="S11",
        cameras=f"frontal only: {FRONTAL_CAMERA}",
        frames="every 64th, both trials",
        source=f"{_HOLOPOSE}, Sec. 5.3",
        open_points=f"{_HOLOPOSE_OPEN}; its 'frontal camera (C2)' is taken as HMR's frontal one",
    ),
    rows=_rows(subjects=("S11",), cameras=(FRONTAL_CAMERA,), every=64),
    measures=(PA_MPJPE, MPJPE),
    scorer=_joints_from(HIPS),
    papers=(
        PaperTable(
            _HOLOPOSE,
            "Table 2, PA MPJPE",
            paper_rows(
                "pa_mpjpe",
                "SMPLify | 82.3\nSMPLify (91 kps) | 80.7\nPavlakos et al. | 75.9\nHMR unpaired | 66.5\n"
                "Omran et al. (NBF) | 59.9\nHMR | 56.8\nHoloPose | 50.56\nHoloPose + synergy | 46.52\n"
                "HoloPose's 3D keypoint branch | 36.82",
            ),
        ),
    ),
)
P2_HOLOPOSE = EvaluationProtocol(
    name="human36m-p2-holopose",
    title="Human3.6M, Protocol 2 of HoloPose",
    card=replace(
        _CARD,
        source=f"{_HOLOPOSE}, Sec. 5.3",
        open_points=f"{_HOLOPOSE_OPEN}; 'all of the videos', with no word of subsampling: every 5th frame is taken",
    ),
    rows=_rows(),
    measures=(MPJPE, PA_MPJPE),
    scorer=_joints_from(HIPS),
    papers=(
        PaperTable(
            _HOLOPOSE,
            "Table 2, MPJPE",
            paper_rows(
                "mpjpe",
                "Zhou et al. | 107\nHMR unpaired | 106.84\nHMR | 87.97\nHoloPose | 64.28\nHoloPose + synergy | 60.27\n"
                "HoloPose's 3D keypoint branch | 50.42",
            ),
        ),
    ),
)

_SPIN = "SPIN (Kolotouros et al., ICCV 2019)"
_SPIN_CARD = replace(
    _CARD,
    alignment="MPJPE: the pelvis at the origin (row 0 of J_regressor_h36m; of the truth, the motion capture's); "
    "PA-MPJPE: best similarity of each frame",
    source=f"{_SPIN}, Sec. 4 and its released evaluation",
)
P1_SPIN = EvaluationProtocol(
    name="human36m-p1-spin",
    title="Human3.6M, Protocol 1 of SPIN's evaluation",
    card=_SPIN_CARD,
    rows=_rows(),
    measures=(MPJPE, PA_MPJPE),
    scorer=_joints_from(("pelvis",)),
)
P2_SPIN = EvaluationProtocol(
    name="human36m-p2-spin",
    title="Human3.6M, Protocol 2 of SPIN's evaluation",
    card=replace(_SPIN_CARD, cameras=f"frontal only: {FRONTAL_CAMERA}"),
    rows=_rows(cameras=(FRONTAL_CAMERA,)),
    measures=(PA_MPJPE, MPJPE),
    scorer=_joints_from(("pelvis",)),
    papers=(
        PaperTable(
            _SPIN,
            "Table 3",
            paper_rows(
                "pa_mpjpe",
                "Lassner et al. (unpaired) | 93.9\nSMPLify (unpaired) | 82.3\nPavlakos et al. (unpaired) | 75.9\n"
                "HMR (unpaired) | 66.5\nSPIN (unpaired) | 62.0\nNBF | 59.9\nHMR | 56.8\nSPIN | 41.1",
            ),
        ),
        PaperTable(
            "Best of Both Worlds (Wang et al., 2022)",
            "Table 2",
            paper_rows(
                "mpjpe pa_mpjpe",
                "HMR | 88.0 | 56.8\nDaNet | 61.5 | 48.6\nHoloPose | 60.3 | 46.5\nSPIN | 62.5 | 41.1\n"
                "I2L | 55.7 | 41.1\nDetNet | 64.8 | 50.3\nPHMR | - | 41.2\nDecoMR | 60.5 | 39.3\nPyMAF | 57.7 | 40.5\n"
                "DMP-14 | 69.7 | 51.7\nIK-14 | 67.3 | 50.6\nUVI-14 | 54.7 | 38.4",
            ),
            "the paper names S9 and S11 and neither cameras nor frames",
        ),
    ),
)

PROTOCOLS = (P1_HMR, P2_HMR, P1_HOLOPOSE, P2_HOLOPOSE, P1_SPIN, P2_SPIN)
