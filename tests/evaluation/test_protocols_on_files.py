"""Protocols over tables that `kouros import` makes of files in the data sets' own formats."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import torch
from oracles import Oracle, Rows, box, true_body, turned_by
from PIL import Image

from kouros.batched import stack
from kouros.body.parameters import Bodies
from kouros.body.surface import body_surface, face_labels, part_set
from kouros.data.images import read_image
from kouros.data.importers.human36m import import_human36m
from kouros.data.importers.humaneva import import_humaneva
from kouros.data.importers.lsp import import_lsp
from kouros.data.importers.mpi_inf_3dhp import import_mpi_inf_3dhp_test
from kouros.data.importers.three_doh import import_3doh
from kouros.data.schema import Sample, TableInfo
from kouros.data.tables import AnnotationTable
from kouros.evaluation.judge import judge
from kouros.evaluation.protocols import ProtocolError, TruthBodies, protocol
from kouros.evaluation.protocols.densepose_coco import OWN_CHARTS, OfficialCharts, own_charts
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.maps import dense_maps
from kouros.render.rasterize import rasterize
from kouros.systems.estimator import Estimate


class Table:
    """A table with the pictures that its files name; videos are black."""

    def __init__(self, path) -> None:
        self.table = AnnotationTable(path)
        self.info = self.table.info

    def __len__(self) -> int:
        return len(self.table)

    def sample(self, row: int) -> Sample:
        return self.table[row]

    def image(self, row: int) -> np.ndarray:
        sample = self.table[row]
        if sample.image_path.endswith((".avi", ".mp4")):
            return np.zeros((480, 640, 3), np.uint8)
        return read_image(self.table.image_file(sample)).pixels

    def has(self, name: str) -> bool:
        return bool(self.table.has(name).any())


def scores(name: str, source, estimator, free_body, **options) -> dict[str, float]:
    verdict = judge(protocol(name), source, estimator, mean_body=free_body, **options)
    return {m.key: m.factor * verdict.scores[m.key] for m in verdict.protocol.measures if m.key in verdict.scores}


# --- MPI-INF-3DHP and HumanEva-I -------------------------------------------------------------------------------


def test_3dhp_test_files_from_import_to_score(tmp_path, free_body):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(1)
    for sequence, frames in (("TS1", 3), ("TS6", 2)):
        folder = tmp_path / f"mpi_inf_3dhp_test_set/{sequence}"
        (folder / "imageSequence").mkdir(parents=True)
        joints = rng.normal(0, 300, (frames, 1, 17, 3)) + np.array([0, 0, 3000])
        with h5py.File(folder / "annot_data.mat", "w") as file:
            file["annot2"] = rng.random((frames, 1, 17, 2)) * 60
            file["annot3"], file["univ_annot3"] = joints, joints * 1.1
            file["valid_frame"] = np.array([[1.0]] * (frames - 1) + [[0.0]])
            file["activity_annotation"] = np.ones((frames, 1))
        for number in range(1, frames + 1):
            Image.new("RGB", (96, 72)).save(folder / f"imageSequence/img_{number:06d}.jpg")
    source = Table(import_mpi_inf_3dhp_test(tmp_path, tmp_path / "out").table)
    assert len(source) == 3  # the valid ones
    exact = scores("mpi-inf-3dhp", source, Oracle(source, field="keypoints_3d_universal"), free_body)
    assert (exact["mpjpe"], exact["pck"]) == pytest.approx((0, 100), abs=1e-2)
    other = scores("mpi-inf-3dhp", source, Oracle(source), free_body)  # 1.1 times smaller
    assert other["pa_mpjpe"] == pytest.approx(0, abs=1e-2) and other["mpjpe"] > 10


def test_humaneva_takes_walking_and_box_of_camera_1(tmp_path, free_body):
    rng = np.random.default_rng(0)
    for subject in ("S1", "S2"):
        (tmp_path / f"converted_15j/Validate/{subject}").mkdir(parents=True)
        (tmp_path / f"{subject}/Image_Data").mkdir(parents=True)
        for action in ("Walking_1", "Box_1", "Jog_1"):
            joints = rng.normal(0, 300, (4, 15, 3)) + np.array([0, 0, 900])
            content = {"poses_3d": joints, "poses_2d": rng.random((3, 4, 15, 2)) * 400}
            scipy.io.savemat(tmp_path / f"converted_15j/Validate/{subject}/{action}.mat", content)
            for camera in (1, 2, 3):
                (tmp_path / f"{subject}/Image_Data/{action}_(C{camera}).avi").touch()
    source = Table(import_humaneva(tmp_path / "converted_15j", tmp_path / "out").table)
    rows = protocol("humaneva").rows.of(source)
    assert {(source.sample(r).action, source.sample(r).camera) for r in rows} == {("Walking", "C1"), ("Box", "C1")}
    assert len(rows) == 2 * 2 * 4
    exact = scores("humaneva", source, Oracle(source), free_body)
    assert exact == pytest.approx(dict.fromkeys(exact, 0), abs=1e-2)


# --- Human3.6M and 3DOH50K: Tables 2 and 3 of The Best of Both Worlds --------------------------------------------


@pytest.mark.slow
def test_human36m_files_from_import_to_score(tmp_path, free_body):
    cdfwrite = pytest.importorskip("cdflib.cdfwrite")
    rng = np.random.default_rng(0)
    joints = (rng.normal(0, 300, (6, 32, 3)) + np.array([0, 0, 5000])).astype(np.float32)
    pixels = (joints[..., :2] / joints[..., 2:] * 1145 + 512).astype(np.float32)
    for camera in ("54138969", "60457274"):
        for name, values in (("D3_Positions_mono", joints), ("D2_Positions", pixels)):
            target = tmp_path / "S9/MyPoseFeatures" / name
            target.mkdir(parents=True, exist_ok=True)
            file = cdfwrite.CDF(target / f"Sitting 1.{camera}.cdf", delete=True)
            shape = {"Rec_Vary": True, "Dim_Sizes": [6, values[0].size]}
            spec = {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, **shape}
            file.write_var(spec, var_data=values.reshape(1, 6, -1))
            file.close()
        (tmp_path / "S9/Videos").mkdir(exist_ok=True)
        (tmp_path / f"S9/Videos/Sitting 1.{camera}.mp4").touch()
    source = Table(import_human36m(tmp_path, tmp_path / "out", split="test").table)
    assert len(source) == 4  # every fifth frame of both cameras
    assert len(protocol("human36m-p2-spin").rows.of(source)) == 2  # of the frontal one
    exact = scores("human36m-p2-spin", source, Oracle(source), free_body)
    assert exact == pytest.approx(dict.fromkeys(exact, 0), abs=1e-2) and {"mpjpe", "pa_mpjpe"} <= set(exact)
    turned = scores("human36m-p2-spin", source, Oracle(source, change=lambda p: 1.1 * p), free_body)
    assert turned["pa_mpjpe"] == pytest.approx(0, abs=1e-2) and turned["mpjpe"] > 10


def test_3doh_files_from_import_to_score(tmp_path, free_body):
    rng = np.random.default_rng(2)
    people = {}
    mask = np.zeros((48, 64), np.uint8)
    mask[:, :32] = 255
    for folder in ("images", "masks"):
        (tmp_path / "testset" / folder).mkdir(parents=True)
    for number in range(3):
        name = f"{number:05d}"
        Image.new("RGB", (64, 48)).save(tmp_path / f"testset/images/{name}.jpg")
        Image.fromarray(mask).save(tmp_path / f"testset/masks/{name}.png")
        extrinsic = np.eye(4)
        extrinsic[:3, 3] = [0.1, 0.2, 3.0]
        people[name] = {
            "img_path": f"images\\{name}.jpg", "mask_path": f"masks\\{name}.png", "bbox": [[10 + number, 5], [30, 45]],
            "intri": [[900, 0, 32], [0, 910, 24], [0, 0, 1]], "extri": extrinsic.tolist(), "scale": [1.0],
            "pose": [rng.normal(0, 0.3, 72).tolist()], "betas": [rng.normal(0, 1, 10).tolist()], "trans": [[0, 0, 0]],
            "smpl_joints_2d": (rng.random((24, 2)) * [64, 48]).tolist(), "lsp_joints_2d": np.zeros((14, 2)).tolist(),
        }  # fmt: skip
    (tmp_path / "testset/annots.json").write_text(json.dumps(people))
    source = Table(import_3doh(tmp_path, tmp_path / "out").table)
    truth = TruthBodies({"neutral": free_body})
    exact = scores("3doh", source, Oracle(source, body=free_body), free_body, truth=truth)
    assert exact == pytest.approx(dict.fromkeys(exact, 0), abs=1e-2)
    assert {"mpjpe", "pa_mpjpe", "mpjpe_seen", "mpjpe_hidden"} <= set(exact) and len(exact) == 7
    wider = Oracle(source, body=free_body, change_body=lambda one: replace(one, betas=one.betas + 1))
    other = scores("3doh", source, wider, free_body, truth=truth)
    assert min(other.values()) > 1


# --- LSP -------------------------------------------------------------------------------------------------------


def drawn_parts(sample: Sample, body: Bodies, model, size: tuple[int, int]) -> np.ndarray:
    """Part labels drawn straight into the photo."""
    labels = torch.from_numpy(face_labels(model, part_set("lsp6")))
    batch = stack([body])
    seen = rasterize(batch.posed_by(model).vertices, model.faces, batch.camera, (size[1], size[0]))
    return torch.where(seen.face >= 0, labels[seen.face.clamp(min=0)], 0)[0].numpy().astype(np.uint8)


@pytest.fixture
def lsp(tmp_path, free_body):
    """Two test images whose silhouettes are a known body's."""
    size = (224, 224)
    joints = np.zeros((3, 14, 1002))
    # A square of 224 pixels about the middle, of 1.2 times the extent; MATLAB counts pixels from 1.
    joints[0] = np.linspace(72, 152, 14)[:, None] + 0.5
    joints[1] = 112.5 + np.linspace(-0.5, 0.5, 14)[:, None] * 224 / 1.2
    joints[0, :, 1001] += 1  # a box of its own, moved by a pixel
    scipy.io.savemat(tmp_path / "joints.mat", {"joints": joints})
    (tmp_path / "images").mkdir()
    (tmp_path / "upi/data/lsp").mkdir(parents=True)
    pose = np.zeros(72)
    pose[0] = np.pi
    truth = Sample(
        "x", pose=pose, betas=np.zeros(10), transl=np.array([0.0, 0.2, 4.0]),
        intrinsics=np.array([400.0, 400.0, 112.0, 112.0]),
    )  # fmt: skip
    body = true_body(truth, free_body)
    parts = drawn_parts(truth, body, free_body, size)
    for number in (1001, 1002):
        Image.new("RGB", size).save(tmp_path / f"images/im{number}.jpg")
        Image.fromarray((parts > 0).astype(np.uint8) * 255).save(tmp_path / f"upi/data/lsp/im{number}_segmentation.png")
        Image.fromarray(parts).save(tmp_path / f"upi/data/lsp/im{number}_part_segmentation.png")
    report = import_lsp(tmp_path, tmp_path / "out", split="test", masks=tmp_path / "upi")
    return Table(report.table), body, parts, tmp_path


class Always(Oracle):
    """Answers with one body."""

    def __init__(self, source, model, body: Bodies) -> None:
        super().__init__(source, body=model)
        self._one = body

    def _answer(self, row, sample):
        return Estimate(bodies=self._one)


def test_lsp_silhouettes_of_the_body_itself_agree_to_the_pixel(lsp, free_body):
    source, body, _, _ = lsp
    exact = scores("lsp", source, Always(source, free_body, body), free_body)
    assert exact == pytest.approx(dict.fromkeys(exact, 100))


def test_lsp_a_body_out_of_the_picture_leaves_background(lsp, free_body):
    source, body, parts, _ = lsp
    gone = replace(body, transl=body.transl + torch.tensor([50.0, 0.0, 0.0]))
    scored = scores("lsp", source, Always(source, free_body, gone), free_body)
    background = 100 * (parts == 0).mean()
    assert scored["fb_accuracy"] == pytest.approx(background) and scored["part_accuracy"] == pytest.approx(background)
    assert scored["fb_f1"] == pytest.approx(100 * (2 * background / (100 + background)) / 2)


def test_lsp_left_and_right_are_told_apart(lsp, free_body):
    source, body, _, _ = lsp
    half_turn = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]])
    behind = turned_by(half_turn, body)
    scored = scores("lsp", source, Always(source, free_body, behind), free_body)
    assert scored["fb_accuracy"] > 93 and scored["part_f1"] < 60  # much the same outline, arms and legs swapped


def test_lsp_silhouettes_of_the_full_size_release_are_refused(lsp, free_body):
    source, body, _, folder = lsp
    Image.new("L", (100, 50)).save(folder / "upi/data/lsp/im1001_segmentation.png")
    with pytest.raises(ProtocolError, match="belong to lsp_dataset, not to lsp_dataset_original"):
        scores("lsp", source, Always(source, free_body, body), free_body)
    (folder / "upi/data/lsp/im1001_segmentation.png").unlink()
    with pytest.raises(ProtocolError, match="this silhouette cannot be read"):
        scores("lsp", source, Always(source, free_body, body), free_body)
    points = Oracle(source, flat=True)
    with pytest.raises(ProtocolError, match="gives points but no body, and this protocol draws one"):
        scores("lsp", source, points, free_body)


# --- DensePose -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dense(free_body):
    """A person with points on the free body's charts, read off a drawing of it."""
    pose = np.zeros(72)
    pose[0] = np.pi
    sample = Sample(
        "a.jpg", pose=pose, betas=np.zeros(10), transl=np.array([0.0, 0.2, 4.0]), gender="neutral",
        intrinsics=np.array([500.0, 500.0, 320.0, 240.0]), **box(0),
    )  # fmt: skip
    batch = stack([true_body(sample, free_body)])
    seen = rasterize(batch.posed_by(free_body).vertices, free_body.faces, batch.camera, (480, 640))
    charts = own_charts(free_body)
    cells = torch.nonzero(seen.face[0] >= 0)[::211]
    face = seen.face[0][cells[:, 0], cells[:, 1]]
    weights = seen.barycentric[0][cells[:, 0], cells[:, 1]]
    uv = (charts.face_uv[face] * weights[..., None].to(charts.face_uv)).sum(dim=1)
    pixels = cells.flip(1).double() + 0.5
    points = torch.cat([pixels, charts.face_part[face][:, None].double(), uv.double()], dim=1).numpy()
    info = TableInfo("densepose_coco", "minival", "/nowhere", provenance={"surface": OWN_CHARTS})
    return Rows(info, [replace(sample, dense_points=points)])


def test_densepose_true_bodies_show_the_annotated_points(dense, free_body):
    exact = scores("densepose-coco", dense, Oracle(dense, body=free_body), free_body)
    assert exact["fr10"] == 0 and exact["auc10"] > 0.97 and exact["auc30"] > 0.99


def test_densepose_a_body_beside_the_points_fails_them_all(dense, free_body):
    gone = Oracle(
        dense, body=free_body, change_body=lambda b: replace(b, transl=b.transl + torch.tensor([9.0, 0.0, 0.0]))
    )
    assert scores("densepose-coco", dense, gone, free_body) == {"auc10": 0, "auc30": 0, "fr10": 100}
    near = Oracle(
        dense, body=free_body, change_body=lambda b: replace(b, transl=b.transl + torch.tensor([0.0, 0.04, 0.0]))
    )
    shifted = scores("densepose-coco", dense, near, free_body)
    # Four centimetres along the skin cost AUC10 two fifths; a little more at outlines and where the skin slants.
    assert 0.4 < shifted["auc10"] < 0.65 and shifted["fr10"] < 15


class Meshed(Oracle):
    """Answers with a mesh that no parameters made."""

    def _answer(self, row, sample):
        batch = stack([true_body(sample, self.body)])
        posed = batch.posed_by(self.body)
        return Estimate(vertices=posed.vertices[0], joints=posed.joints[0], camera=batch.camera[0])


def test_densepose_scores_meshes_without_parameters_too(dense, free_body):
    scored = scores("densepose-coco", dense, Meshed(dense, body=free_body), free_body)
    assert scored["auc10"] > 0.99 and scored["fr10"] == 0


class Mapped(Oracle):
    """Answers with a map of the skin, twice as coarse as the photo, and nothing else."""

    def __init__(self, source, model) -> None:
        super().__init__(source, flat=True)
        self._model = model

    def _answer(self, row, sample):
        batch = stack([true_body(sample, self._model)])
        posed = batch.posed_by(self._model)
        # The square of 640 pixels around the photo's middle, which begins 80 pixels above it.
        window = PerspectiveCamera(batch.camera.focal_length * 0.5, torch.tensor([[160.0, 160.0]]))
        maps = dense_maps(
            body_surface(self._model, joints="smpl24"), posed.vertices, posed.joints, posed.joints[:, 0], window,
            (320, 320), part_sets=(),
        )  # fmt: skip
        return Estimate(dense=maps[0], square=torch.tensor([320.0, 240.0, 640.0]))


def test_densepose_scores_maps_without_meshes(dense, free_body):
    scored = scores("densepose-coco", dense, Mapped(dense, free_body), free_body)
    assert scored["auc10"] > 0.85 and scored["fr10"] < 10


def test_densepose_of_smpl_needs_smpl(dense, free_body):
    official = replace(dense, info=replace(dense.info, provenance={}))
    with pytest.raises(ProtocolError, match=r"--body SMPL_NEUTRAL\.pkl.*UV_Processed\.mat"):
        scores("densepose-coco", official, Oracle(official, body=free_body), free_body)


def test_densepose_official_charts_are_found_on_the_mesh_whatever_the_order_of_corners(tmp_path):
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])  # a square of two faces, in two patches
    content = {
        "All_FaceIndices": np.array([[1], [2]], np.uint8),
        "All_Faces": np.array([[2, 3, 1], [4, 5, 6]], np.uint32),  # from 1; the first begins at another corner
        "All_vertices": np.array([[1, 2, 3, 2, 4, 3]], np.uint32),
        "All_U_norm": np.array([[0.0], [1.0], [0.0], [0.0], [1.0], [0.0]]),
        "All_V_norm": np.array([[0.0], [0.0], [1.0], [0.0], [0.0], [1.0]]),
    }
    scipy.io.savemat(tmp_path / "UV_Processed.mat", content)
    charts = OfficialCharts(tmp_path / "UV_Processed.mat", faces)
    face, weights = charts.locate(torch.tensor([1, 2]), torch.tensor([[0.2, 0.3], [0.6, 0.1]]))
    assert face.tolist() == [0, 1]
    # In patch 1 vertex 0 is at (0, 0), 1 at (1, 0), 2 at (0, 1); in patch 2 they are 1, 3 and 2.
    torch.testing.assert_close(weights, torch.tensor([[0.5, 0.2, 0.3], [0.3, 0.6, 0.1]]))
    with pytest.raises(ProtocolError, match="must be SMPL's"):
        OfficialCharts(tmp_path / "UV_Processed.mat", faces + 1)
    (tmp_path / "other.mat").write_bytes(b"no")
    with pytest.raises(ProtocolError, match=r"no UV_Processed\.mat"):
        OfficialCharts(tmp_path / "other.mat", faces)
