"""Each protocol with an estimator that answers the truth, and with one whose error is known."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from oracles import Oracle, Rows, box, true_body, turned_by

from kouros.batched import stack
from kouros.body.keypoints import BLAZEPOSE33, COCO17, H36M17, MPI_INF_3DHP17, MPII16, SMPL24, SPIN49
from kouros.data.schema import Sample, TableInfo
from kouros.evaluation.judge import judge
from kouros.evaluation.protocols import ProtocolError, TruthBodies, all_protocols, protocol

RNG = np.random.default_rng(0)
AT_BEST_AUC = 100 * 30 / 31
"""A perfect AUC of MPI-INF-3DHP: its first threshold is 0, and no error is below that."""


def points(count: int) -> np.ndarray:
    return np.c_[RNG.normal(0, 0.4, (count, 3)) + np.array([0, 0, 4]), np.ones(count)]


def info(dataset: str, split: str = "test", **sets) -> TableInfo:
    origin = {"keypoints_3d_origin": "camera"} if "keypoints_3d" in sets else {}
    return TableInfo(dataset, split, "/nowhere", **sets, **origin)


def result(name: str, source, estimator, free_body, **options) -> dict[str, float]:
    verdict = judge(protocol(name), source, estimator, mean_body=free_body, **options)
    return {m.key: m.factor * verdict.scores[m.key] for m in verdict.protocol.measures if m.key in verdict.scores}


# --- Human3.6M -------------------------------------------------------------------------------------------------


def h36m_rows(step: int = 1, frames: int = 130) -> Rows:
    samples = []
    for subject, sequence, camera in (
        ("S9", "S9_Sitting", "60457274"),
        ("S9", "S9_Sitting 1", "60457274"),
        ("S11", "S11_Directions", "60457274"),
        ("S11", "S11_Directions", "54138969"),
        ("S11", "S11_Directions 1", "54138969"),
        ("S8", "S8_Sitting", "60457274"),
    ):
        for frame in range(0, frames, step):
            samples.append(
                Sample(
                    image_path=f"{sequence}.{camera}.mp4",
                    keypoints_3d=points(17),
                    subject=subject,
                    action=sequence.split("_")[1].split(" ")[0],
                    sequence=sequence,
                    camera=camera,
                    frame=frame,
                    **box(len(samples)),
                )
            )
    return Rows(info("human36m", keypoints_3d=H36M17), samples)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # per clip of 130 frames: 26 of every 5th; the damaged clip and S8 never count
        ("human36m-p1-hmr", 4 * 26),
        ("human36m-p2-hmr", 2 * 26),
        ("human36m-p1-spin", 4 * 26),
        ("human36m-p2-spin", 3 * 26),
        ("human36m-p1-holopose", 3),
        ("human36m-p2-holopose", 4 * 26),
    ],
)
def test_human36m_names_mean_six_different_sets_of_frames(name: str, expected: int):
    source = h36m_rows()
    rows = protocol(name).rows.of(source)
    assert len(rows) == expected
    chosen = [source.sample(r) for r in rows]
    if "holopose" in name and "p1" in name:
        assert {(s.subject, s.camera, s.frame) for s in chosen} == {("S11", "60457274", f) for f in (0, 64, 128)}
    if name == "human36m-p2-hmr":
        assert {s.sequence for s in chosen} == {"S9_Sitting", "S11_Directions"}  # first trials


def test_human36m_every_64th_frame_of_a_table_of_every_5th_is_refused():
    with pytest.raises(ProtocolError, match=r"every 5th frame, but the protocol takes every 64th.*--stride 64"):
        protocol("human36m-p1-holopose").rows.of(h36m_rows(step=5))


@pytest.mark.parametrize("name", [n for n in all_protocols() if n.startswith("human36m") and "occlusion" not in n])
def test_human36m_truth_scores_zero_and_known_errors_their_size(name: str, free_body):
    source = h36m_rows(frames=66)
    assert result(name, source, Oracle(source), free_body) == pytest.approx({"mpjpe": 0, "pa_mpjpe": 0}, abs=1e-3)
    moved = Oracle(source, change=lambda p: p + torch.tensor([0.01, 0.0, 0.0]))
    assert result(name, source, moved, free_body) == pytest.approx({"mpjpe": 0, "pa_mpjpe": 0}, abs=1e-3)
    scaled = result(name, source, Oracle(source, change=lambda p: 1.1 * p), free_body)
    assert scaled["pa_mpjpe"] == pytest.approx(0, abs=1e-3)
    names = ["left_hip", "right_hip"] if "spin" not in name else ["pelvis_h36m"]
    expected = []
    for row in protocol(name).rows.of(source):
        true = source.sample(row).keypoints_3d[:, :3]
        root = true[[H36M17.index(n) for n in names]].mean(axis=0)
        counted = [i for i, n in enumerate(H36M17.names) if n not in ("pelvis_h36m", "spine_h36m", "jaw_h36m")]
        expected.append(100 * np.linalg.norm(true[counted] - root, axis=1).mean())
    assert scaled["mpjpe"] == pytest.approx(np.mean(expected), rel=1e-4)


def test_human36m_root_is_the_hips_in_one_paper_and_the_pelvis_in_another(free_body):
    source = h36m_rows(frames=11)
    pelvis = H36M17.index("pelvis_h36m")

    def lift_pelvis(p):
        lifted = p.clone()
        lifted[pelvis, 1] += 0.010
        return lifted

    wrong = Oracle(source, change=lift_pelvis)
    assert result("human36m-p1-hmr", source, wrong, free_body)["mpjpe"] == pytest.approx(0, abs=1e-3)
    assert result("human36m-p1-spin", source, wrong, free_body)["mpjpe"] == pytest.approx(10, abs=1e-3)


def test_spin_style_names_tell_subject_camera_trial_and_frame(free_body):
    samples = [
        Sample(image_path=f"images/{name}.jpg", keypoints_3d=np.r_[np.zeros((25, 4)), points(24)], **box(i))
        for i, name in enumerate(
            ("S9_Directions_1.60457274_000001", "S9_Directions.60457274_000006", "S9_Directions.60457274_000007",
             "S11_Directions.54138969_000001", "S11_Posing.55011271_000001")
        )
    ]  # fmt: skip
    source = Rows(info("h36m_valid_protocol2", keypoints_3d=SPIN49), samples)
    assert protocol("human36m-p2-spin").rows.of(source) == [0, 1]
    assert protocol("human36m-p2-hmr").rows.of(source) == [1]
    assert protocol("human36m-p1-spin").rows.of(source) == [0, 1, 4]
    assert result("human36m-p1-spin", source, Oracle(source), free_body)["mpjpe"] == pytest.approx(0, abs=1e-3)


# --- MPI-INF-3DHP ----------------------------------------------------------------------------------------------


def mpi_rows(count: int = 5) -> Rows:
    samples = []
    for i in range(count):
        universal = points(17)
        samples.append(
            Sample(
                image_path=f"TS1/{i}.jpg",
                keypoints_3d=universal * [1.2, 1.2, 1.2, 1],
                keypoints_3d_universal=universal,
                **box(i),
            )
        )
    return Rows(info("mpi_inf_3dhp", keypoints_3d=MPI_INF_3DHP17), samples)


def test_3dhp_scores_the_universal_skeleton(free_body):
    source = mpi_rows()
    perfect = result("mpi-inf-3dhp", source, Oracle(source, field="keypoints_3d_universal"), free_body)
    assert perfect["mpjpe"] == pytest.approx(0, abs=1e-3) and perfect["pck"] == 100
    assert perfect["auc"] == pytest.approx(AT_BEST_AUC)
    other = result("mpi-inf-3dhp", source, Oracle(source), free_body)
    assert other["mpjpe"] > 50  # the person's own height is not what is asked for
    assert (other["pa_mpjpe"], other["pa_auc"]) == pytest.approx((0, AT_BEST_AUC), abs=1e-3)


def test_3dhp_pck_leaves_pelvis_spine_and_head_out_that_mpjpe_counts(free_body):
    source = mpi_rows()
    spine = MPI_INF_3DHP17.index("spine_3dhp")

    def bend(p):
        bent = p.clone()
        bent[spine, 0] += 0.34
        return bent

    scores = result("mpi-inf-3dhp", source, Oracle(source, field="keypoints_3d_universal", change=bend), free_body)
    assert scores["pck"] == 100 and scores["mpjpe"] == pytest.approx(340 / 17, rel=1e-4)

    wrist = MPI_INF_3DHP17.index("left_wrist")

    def reach(p):
        moved = p.clone()
        moved[wrist, 0] += 0.2
        return moved

    scores = result("mpi-inf-3dhp", source, Oracle(source, field="keypoints_3d_universal", change=reach), free_body)
    assert scores["pck"] == pytest.approx(100 * 13 / 14)


# --- Bodies as truth -------------------------------------------------------------------------------------------


def smpl_rows(dataset: str, split: str, gender: str = "neutral", count: int = 3, **more) -> Rows:
    samples = []
    for i in range(count):
        pose = RNG.normal(0, 0.2, 72)
        pose[:3] = [np.pi, 0, 0]
        samples.append(
            Sample(
                image_path=f"{i}.jpg",
                pose=pose,
                betas=RNG.normal(0, 1, 10),
                transl=np.array([0.0, 0.0, 4.0]),
                intrinsics=np.array([500.0, 500.0, 320.0, 240.0]),
                gender=gender,
                **more,
                **box(i),
            )
        )
    return Rows(info(dataset, split, keypoints_2d=SMPL24), samples)


def truth(free_body) -> TruthBodies:
    return TruthBodies(dict.fromkeys(("female", "male", "neutral"), free_body))


@pytest.mark.parametrize(
    ("name", "dataset", "split", "gender"),
    [("3dpw", "3dpw", "test", "male"), ("up-3d", "up_3d", "val", "neutral"),
     ("up-3d-vertices", "up_3d", "test", "neutral"), ("3doh", "3doh", "test", "neutral")],
)  # fmt: skip
def test_true_bodies_score_zero_and_moved_ones_too(name: str, dataset: str, split: str, gender: str, free_body):
    source = smpl_rows(dataset, split, gender)
    perfect = result(name, source, Oracle(source, body=free_body), free_body, truth=truth(free_body))
    assert perfect == pytest.approx(dict.fromkeys(perfect, 0), abs=2e-3)

    def away(body):
        return replace(body, transl=body.transl + torch.tensor([0.5, -0.2, 1.0]))

    moved = Oracle(source, body=free_body, change_body=away)
    assert result(name, source, moved, free_body, truth=truth(free_body)) == pytest.approx(perfect, abs=2e-3)


def test_up_3d_turned_bodies_have_the_turn_as_rotation_error(free_body):
    source = smpl_rows("up_3d", "val")
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

    oracle = Oracle(source, body=free_body, change_body=lambda body: turned_by(turn, body))
    scores = result("up-3d", source, oracle, free_body, truth=truth(free_body))
    assert scores["rotation"] == pytest.approx(np.pi / 2 / 24, rel=1e-4)  # one of 24 joints is off by a quarter turn
    assert scores["pa_mpjpe"] == pytest.approx(0, abs=1e-2) and scores["mpjpe"] > 100


def test_3doh_apart_for_joints_on_the_mask_and_off_it(free_body, tmp_path):
    from PIL import Image

    mask = np.zeros((480, 640), np.uint8)
    mask[:, :320] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    keypoints = np.c_[np.full(24, 100.0), np.full(24, 50.0), np.ones(24)]
    hand = SMPL24.index("left_hand")
    keypoints[hand, 0] = 500  # behind something
    source = smpl_rows("3doh", "test", mask_path="mask.png", keypoints_2d=keypoints)
    source = replace(source, info=replace(source.info, image_root=str(tmp_path)))
    smaller = Oracle(source, body=free_body, change_body=lambda b: replace(b, betas=b.betas * 0))
    scores = result("3doh", source, smaller, free_body, truth=truth(free_body))
    assert scores["mpjpe24"] == pytest.approx((23 * scores["mpjpe_seen"] + scores["mpjpe_hidden"]) / 24, rel=1e-4)


def test_bodies_of_a_model_that_was_not_given_are_asked_for(free_body):
    source = smpl_rows("3dpw", "test", "male")
    with pytest.raises(ProtocolError, match=r"SMPL_MALE\.pkl by --smpl"):
        result("3dpw", source, Oracle(source, body=free_body), free_body)


def test_3dpw_joints_of_the_files_need_no_model(free_body):
    rows = smpl_rows("3dpw", "test", "male")
    samples = []
    for sample in rows.samples:
        joints = stack([true_body(sample, free_body)]).posed_by(free_body).joints[0]
        samples.append(replace(sample, keypoints_3d=np.c_[joints.numpy(), np.ones(24)]))
    source = Rows(info("3dpw", keypoints_3d=SMPL24), samples)
    scores = result("3dpw-smpl24", source, Oracle(source, body=free_body), free_body)
    assert scores == pytest.approx({"mpjpe": 0, "pa_mpjpe": 0}, abs=2e-3)


# --- Pictures --------------------------------------------------------------------------------------------------


def mpii_rows() -> Rows:
    samples = []
    for i in range(4):
        keypoints = np.c_[RNG.uniform(200, 300, (16, 2)), np.ones(16)]
        visible = np.ones(16, dtype=bool)
        visible[[3, 8]] = False
        keypoints[5] = 0  # not annotated
        visible[5] = False
        head = np.array([250.0, 100.0, 280.0, 140.0])  # 3-4-5: diagonal 50, head size 30
        samples.append(
            Sample(f"{i}.jpg", keypoints_2d=keypoints, visible=visible, head_box=head if i else None, **box(i))
        )
    return Rows(info("mpii", "train", keypoints_2d=MPII16), samples)


def test_mpii_counts_hidden_joints_only(free_body):
    source = mpii_rows()
    assert result("mpii-invisible", source, Oracle(source, flat=True), free_body) == {"pixels": 0, "pck": 100}

    def off(p):  # visible joints wildly, one hidden joint by 14 pixels, the other by 16
        moved = p + 300
        moved[3] = p[3] + torch.tensor([14.0, 0.0])
        moved[8] = p[8] + torch.tensor([0.0, 16.0])
        return moved

    scores = result("mpii-invisible", source, Oracle(source, flat=True, change=off), free_body)
    assert scores["pixels"] == pytest.approx(15, rel=1e-4)
    assert scores["pck"] == pytest.approx(50)  # half of the head's 30 pixels lies between


def test_any_table_with_keypoints_in_the_picture(free_body):
    samples = [
        Sample(
            f"{i}.jpg",
            keypoints_2d=np.c_[RNG.uniform(100, 300, (17, 2)), np.ones(17)],
            bbox=np.array([100.0, 100.0, 200.0, 300.0]),
            **box(i),
        )
        for i in range(3)
    ]
    source = Rows(info("anything", "x", keypoints_2d=COCO17), samples)
    assert result("table-2d", source, Oracle(source, flat=True), free_body) == {"pck": 100, "pixels": 0}
    near = Oracle(source, flat=True, change=lambda p: p + torch.tensor([11.7, 15.6]))  # 19.5 of a tenth of 200
    assert result("table-2d", source, near, free_body) == pytest.approx({"pck": 100, "pixels": 19.5}, rel=1e-4)
    far = Oracle(source, flat=True, change=lambda p: p + torch.tensor([12.2, 16.2]))
    assert result("table-2d", source, far, free_body)["pck"] == 0


# --- What judging promises -------------------------------------------------------------------------------------


def any_rows(count: int = 4, **more) -> Rows:
    samples = [Sample(f"a/{i}.jpg", keypoints_3d=points(17), **box(i)) for i in range(count)]
    return Rows(info("anything", "x", keypoints_3d=MPI_INF_3DHP17), samples, **more)


def test_missed_people_are_scored_as_the_mean_pose_and_counted(free_body):
    source = any_rows()
    verdict = judge(protocol("table-3d"), source, Oracle(source, misses=(1, 3)), mean_body=free_body)
    assert verdict.missed == (1, 3) and len(verdict.rows) == 4
    each = [p["pa_mpjpe"] for p in verdict.per_person]
    assert max(each[0], each[2]) < 1e-5 and min(each[1], each[3]) > 0.05
    assert verdict.scores["pa_mpjpe"] == pytest.approx(np.mean(each), rel=1e-5)


def test_unreadable_pictures_are_listed_and_not_scored(free_body):
    source = any_rows(unreadable=(2,))
    verdict = judge(protocol("table-3d"), source, Oracle(source), mean_body=free_body)
    assert verdict.rows == (0, 1, 3) and [u.row for u in verdict.unreadable] == [2]
    assert any("cannot be read" in note for note in verdict.notes)
    with pytest.raises(ProtocolError, match="none of the 4 pictures can be read"):
        judge(protocol("table-3d"), any_rows(unreadable=(0, 1, 2, 3)), Oracle(source), mean_body=free_body)


def test_a_detector_that_lacks_points_is_scored_over_fewer_and_says_so(free_body):
    class Landmarks(Oracle):
        def __init__(self, source) -> None:
            super().__init__(source)
            self.points_3d = BLAZEPOSE33

        def _answer(self, row, sample):
            estimate = super()._answer(row, sample)
            landmarks = torch.zeros(33, 3)
            for i, name in enumerate(MPI_INF_3DHP17.names):
                if name in BLAZEPOSE33.names:
                    landmarks[BLAZEPOSE33.index(name)] = estimate.points_3d[i]
            return replace(estimate, points_3d=landmarks)

    source = mpi_rows()
    verdict = judge(protocol("mpi-inf-3dhp"), source, Landmarks(source), mean_body=free_body)
    assert any("12 of the protocol's 17 points" in note and "head_top" in note for note in verdict.notes)
    assert any("pelvis is the middle of its hips" in note for note in verdict.notes)


def test_a_part_of_the_pictures_or_people_is_noted(free_body):
    source = any_rows(6)
    verdict = judge(
        protocol("table-3d"), source, Oracle(source), mean_body=free_body, only=frozenset({"3.jpg", "a/5.jpg"})
    )
    assert verdict.rows == (3, 5) and verdict.notes
    verdict = judge(protocol("table-3d"), source, Oracle(source), mean_body=free_body, people=3)
    assert verdict.rows == (0, 2, 5) and any("not the benchmark" in note for note in verdict.notes)
    with pytest.raises(ProtocolError, match="none of the table's pictures"):
        judge(protocol("table-3d"), source, Oracle(source), mean_body=free_body, only=frozenset({"x"}))


@pytest.mark.parametrize("name", [n for n in all_protocols() if not n.startswith("table-")])
def test_tables_of_another_data_set_are_refused_in_one_sentence(name: str):
    with pytest.raises(ProtocolError, match=r"a table of 'anything', but the protocol is for .* make its table"):
        protocol(name).rows.of(any_rows())


def test_other_splits_missing_fields_and_empty_selections_are_refused():
    training = replace(mpi_rows(), info=info("mpi_inf_3dhp", "train", keypoints_3d=MPI_INF_3DHP17))
    with pytest.raises(ProtocolError, match="split 'train', but the protocol is for test"):
        protocol("mpi-inf-3dhp").rows.of(training)
    flat = replace(any_rows(), samples=[Sample("a.jpg", **box(0))])
    with pytest.raises(ProtocolError, match="no row of this table knows 'keypoints_3d'"):
        protocol("table-3d").rows.of(flat)
    rows = h36m_rows(frames=11)
    rows = replace(rows, samples=[s for s in rows.samples if s.subject == "S8"])
    with pytest.raises(ProtocolError, match="none belongs to this protocol, which asks for subject S9, S11"):
        protocol("human36m-p1-spin").rows.of(rows)


def test_every_protocol_has_a_complete_card_and_papers_speak_of_its_measures():
    for name, one in all_protocols().items():
        for what, text in one.card.lines():
            assert text.strip(), (name, what)
        keys = {m.key for m in one.measures}
        for paper in one.papers:
            assert paper.table and paper.paper
            for row in paper.rows:
                assert row.scores and set(row.scores) <= keys, (name, row)


# --- HKMR's occlusions -----------------------------------------------------------------------------------------


class Watchful(Oracle):
    """Knows the truth, moved by the share of grey pixels that it sees: what covers more costs more."""

    def estimate(self, people):
        answers = super().estimate(people)
        wrist = H36M17.index("left_wrist")
        self.grey = [float((p.image == 128).mean()) for p in people]
        for answer, grey in zip(answers, self.grey, strict=True):
            answer.points_3d[wrist, 0] += grey
        return answers


def test_occlusion_sweep_covers_each_joint_by_each_shape_in_growing_degrees(free_body):
    rows = h36m_rows(frames=1)
    samples = [
        replace(s, keypoints_2d=np.c_[RNG.uniform(220, 420, 17), RNG.uniform(140, 340, 17), np.ones(17)])
        for s in rows.samples
    ]
    source = replace(rows, info=replace(rows.info, keypoints_2d=H36M17), samples=samples)
    asked = []

    class Counting(Watchful):
        def estimate(self, people):
            answers = super().estimate(people)
            asked.extend(self.grey)
            return answers

    one = protocol("human36m-p2-occlusion")
    verdict = judge(one, source, Counting(source), mean_body=free_body)
    people = len(verdict.rows)
    assert people == 2 and len(asked) == people * (1 + 3 * 5 * 14)
    assert asked.count(0.0) == people  # everybody is seen once uncovered
    assert verdict.scores["standard"] == pytest.approx(0, abs=1e-6)
    for shape, line in verdict.curve.y.items():
        assert list(line) == sorted(line) and line[0] > 0, shape
        assert verdict.scores[shape] == pytest.approx(np.mean(line) / 1000, rel=1e-6)
    # A circle of degree 5 has radius 50 in a crop of 224: it is that share of the photo, unless it is cut off.
    expected = np.pi * (50 * 240 / 224) ** 2 / (640 * 480) / 14
    assert verdict.curve.y["circle"][4] == pytest.approx(1000 * expected, rel=0.1)


def test_synthetic_people_are_scored_with_the_body_that_draws_them(free_body):
    source = smpl_rows("synthetic", "val")
    source = replace(source, info=replace(source.info, keypoints_2d=None))
    exact = result("synthetic-val", source, Oracle(source, body=free_body), free_body)
    assert set(exact) == {"pa_mpjpe12", "mpjpe12", "pa_mpjpe", "mpjpe", "pve"}
    assert exact == pytest.approx(dict.fromkeys(exact, 0), abs=2e-3)


def test_the_cards_in_the_documentation_are_those_of_the_code():
    from pathlib import Path

    from kouros.evaluation.reports import cards_markdown

    written = Path(__file__).resolve().parents[2] / "docs" / "evaluation_cards.md"
    assert written.read_text() == cards_markdown(), "python -m kouros.evaluation.reports > docs/evaluation_cards.md"


def test_no_number_is_cut_short_in_a_narrow_terminal(free_body):
    from rich.console import Console

    from kouros.evaluation.reports import report

    source = mpi_rows()
    verdict = judge(protocol("mpi-inf-3dhp"), source, Oracle(source), mean_body=free_body)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report(verdict))
    text = console.export_text()
    numbers = [f"{v:.1f}" for p in verdict.protocol.papers for row in p.rows for v in row.scores.values()]
    assert "…" not in text and all(number in text for number in numbers)
