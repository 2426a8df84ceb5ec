"""Bodies from 3D joints of any set, with holes: by the fit alone, by inverse kinematics, and as files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kouros.body.keypoints import LSP14
from kouros.body.parameters import BodyParameters
from kouros.cli import main
from kouros.fitting.schedules.joints_fit import fit_to_joints
from kouros.networks.inverse_kinematics import IkSizes
from kouros.notes import InputWarning
from kouros.pipeline.joints import JointsError, holds_joints, people_from_joints, read_joints
from kouros.priors.gmm import load_gmm
from kouros.systems.best_of_both_worlds import Ik, IkNetwork, JointsToBodies, lsp_places
from kouros.systems.table import SYSTEMS
from kouros.training.runs import load_run

SETS = ("lsp14", "coco17", "h36m17", "smpl24", "blazepose33")


def people(count: int = 6, seed: int = 0) -> BodyParameters:
    generator = torch.Generator().manual_seed(seed)
    orient = torch.tensor([torch.pi, 0.0, 0.0]) + 0.5 * torch.randn(count, 3, generator=generator)
    pose = torch.cat([orient, load_gmm().sample(count, generator)], 1)
    return BodyParameters(pose, torch.randn(count, 10, generator=generator), torch.tensor([[0.2, 0.1, 4.0]] * count))


def missing(joints: torch.Tensor, share: float) -> torch.Tensor:
    hidden = torch.rand(joints.shape[:2], generator=torch.Generator().manual_seed(1)) < share
    return torch.where(hidden[..., None], torch.nan, joints)


@pytest.mark.parametrize("name", SETS)
def test_joints_of_a_body_are_fitted_and_holes_are_filled(free_body, name: str):
    true = people()
    joints = true.keypoints_by(free_body, name)
    whole = fit_to_joints(free_body, name, joints)
    assert float((whole.keypoints_by(free_body, name) - joints).norm(dim=-1).mean()) < 0.015
    holed = fit_to_joints(free_body, name, missing(joints, 0.3))
    assert float((holed.keypoints_by(free_body, name) - joints).norm(dim=-1).mean()) < 0.05


def test_a_fit_that_begins_at_the_truth_stays_there(free_body):
    true = people()
    joints = true.keypoints_by(free_body, "blazepose33")
    found = fit_to_joints(free_body, "blazepose33", joints, true)
    apart = (found.posed_by(free_body).vertices - true.posed_by(free_body).vertices).norm(dim=-1)
    assert float(apart.mean()) < 0.012


def test_joints_go_to_lsps_by_their_names():
    assert lsp_places("lsp14") == [(i, i) for i in range(14)]
    coco = dict(lsp_places("coco17"))
    assert len(coco) == 12 and LSP14.index("neck_lsp") not in coco
    assert dict(lsp_places("h36m17"))[LSP14.index("head_top")] == 10


def test_inverse_kinematics_puts_bodies_where_the_joints_are_wherever_that_is(free_body):
    torch.manual_seed(0)
    alone = JointsToBodies(IkNetwork(IkSizes(32, 1, 32, 1, "6d")), free_body)
    joints = missing(people().keypoints_by(free_body, "coco17"), 0.2)
    here = alone("coco17", joints)
    known = joints.isfinite().all(-1, keepdim=True)
    apart = torch.where(known, here.keypoints_by(free_body, "coco17") - joints, 0.0).sum(1) / known.sum(1)
    assert_close(apart, torch.zeros_like(apart), atol=1e-5, rtol=0)
    away = torch.tensor([3.0, -2.0, 7.0])
    there = alone("coco17", joints + away)
    assert_close(there.transl, here.transl + away, atol=1e-4, rtol=0)
    assert_close(there.pose, here.pose, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", SETS)
def test_the_packaged_network_is_near_the_joints_and_a_fit_goes_on_from_it(free_body, name: str):
    system = load_run(SYSTEMS["best-of-both-worlds-ik"].packaged, free_body)
    assert isinstance(system, Ik)
    true = people(20)
    joints, points = true.keypoints_by(free_body, name), true.keypoints_by(free_body, "lsp14")
    begun = JointsToBodies(system.network, free_body)(name, missing(joints, 0.1))
    fitted = fit_to_joints(free_body, name, missing(joints, 0.1), begun)
    apart = [float((p.keypoints_by(free_body, "lsp14") - points).norm(dim=-1).mean()) for p in (begun, fitted)]
    assert apart[0] < 0.07 and apart[1] < 0.7 * apart[0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda j: j[:, :5], r"expected \(people, 14, 3\)"),
        (lambda j: torch.where(torch.arange(14)[None, :, None] < 2, j, torch.nan), "has 2 joints"),
    ],
)
def test_too_few_joints_are_told(free_body, change, match: str):
    joints = people(2).keypoints_by(free_body, "lsp14")
    with pytest.raises(ValueError, match=match):
        fit_to_joints(free_body, "lsp14", change(joints))


# ---- files


def saved(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_file_of_joints_becomes_people(free_body, tmp_path: Path):
    true = people(2)
    joints = missing(true.keypoints_by(free_body, "h36m17"), 0.2).numpy()
    file = saved(tmp_path / "joints.npz", joints_3d=joints, keypoint_set=np.array("h36m17"))
    assert holds_joints(file)
    assert main(["fit", str(file), "--out", str(tmp_path / "out")]) == 0
    with np.load(tmp_path / "out" / "joints.npz") as found:
        assert found["betas"].shape == (2, 10)
        known = np.isfinite(joints).all(-1)
        ours = BodyParameters(*(torch.from_numpy(found[n]) for n in ("pose", "betas", "transl")))
        apart = np.linalg.norm(ours.keypoints_by(free_body, "h36m17").numpy() - joints, axis=-1)
        assert apart[known].mean() < 0.02
        # What is missing was completed.
        assert found["visibility"].min() == 0.0 and found["visibility"].max() == 1.0
    assert (tmp_path / "out" / "joints.glb").is_file()


def test_people_about_the_camera_are_moved_before_it(free_body, tmp_path: Path):
    joints = people(1).keypoints_by(free_body, "smpl24").numpy()
    file = saved(tmp_path / "j.npz", joints_3d=(joints - joints[:, :1])[0])
    with pytest.warns(InputWarning, match="moved 4 m"):
        (person,) = people_from_joints(read_joints(file))
    assert 3.0 < float(person.joints[0, 2]) < 5.0


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"joints_3d": np.zeros((1, 17, 3))}, "coco17 or h36m17 or mpi_inf_3dhp17"),
        ({"joints_3d": np.zeros((1, 14, 3)), "keypoint_set": np.array("coco17")}, "coco17 says which"),
        ({"joints_3d": np.zeros((1, 5, 3))}, "nothing says which"),
        ({"joints_3d": np.zeros((1, 14, 2))}, "of shape"),
        ({"joints_3d": np.full((1, 14, 3), np.inf)}, "NaN for missing"),
        ({"joints_3d": np.array(["a"])}, "of shape"),
    ],
)
def test_files_that_are_no_joints_are_told(tmp_path: Path, arrays: dict, match: str):
    with pytest.raises(JointsError, match=match):
        read_joints(saved(tmp_path / "bad.npz", **arrays))


def test_the_command_tells_bad_joints_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = saved(tmp_path / "bad.npz", joints_3d=np.full((1, 14, 3), np.nan))
    assert main(["fit", str(file), "--out", str(tmp_path / "out")]) == 1
    assert "has 0 joints" in capsys.readouterr().err
