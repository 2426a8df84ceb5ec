"""``kouros models convert``, from file to run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from tests.body.smpl_files import smpl_arrays, write_pickle
from torch.testing import assert_close

from kouros.cli import main
from kouros.cli.models import Models
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.resnet import ResNet
from kouros.training.runs import load_run


def _command(*arguments: object) -> Models:
    return tyro.cli(Models, args=[str(a) for a in arguments])


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, ResNet, HmrRegressor]:
    torch.manual_seed(0)
    backbone, regressor = ResNet(18).eval(), HmrRegressor(512).eval()
    torch.save({"model": backbone.state_dict() | regressor.state_dict(), "epoch": 1}, tmp_path / "spin.pt")
    return tmp_path / "spin.pt", backbone, regressor


def test_a_converted_checkpoint_is_a_run_that_predicts_what_it_did(published, tmp_path: Path, capsys):
    path, backbone, regressor = published
    assert _command("convert", path, "--out", tmp_path / "run").run() == 0
    assert "SPIN with ResNet-18" in capsys.readouterr().out
    picture = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = regressor(backbone(picture))[-1]
    bodies = load_run(tmp_path / "run").predict(picture)
    assert_close(bodies.body_pose, expected.rotations[:, 1:])
    assert_close(bodies.betas, expected.betas)


def test_a_checkpoint_with_its_smpl_body_can_be_judged(published, table: Path, tmp_path: Path, capsys):
    path, *_ = published
    body = write_pickle(tmp_path / "SMPL_NEUTRAL.pkl", smpl_arrays())
    assert _command("convert", path, "--out", tmp_path / "run", "--body", body).run() == 1
    said = capsys.readouterr().err
    assert "Put SPIN's J_regressor_extra.npy beside the body file" in said and said.count("\n") == 1
    np.save(tmp_path / "J_regressor_extra.npy", np.random.default_rng(0).dirichlet(np.ones(6890), 9))
    assert _command("convert", path, "--out", tmp_path / "run", "--body", body).run() == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--on", "table-3d", "--data", str(table), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["scored"] == 2


def test_a_run_is_not_overwritten_and_other_files_are_refused(published, tmp_path: Path, capsys):
    path, *_ = published
    _command("convert", path, "--out", tmp_path / "run").run()
    assert _command("convert", path, "--out", tmp_path / "run").run() == 1
    assert "holds a run already" in capsys.readouterr().err
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pt")
    assert _command("convert", tmp_path / "other.pt", "--out", tmp_path / "second").run() == 1
    said = capsys.readouterr().err
    assert "expected a checkpoint of SPIN's network" in said and said.count("\n") == 1
    assert not (tmp_path / "second").exists()
    assert _command("convert", tmp_path / "none.pt", "--out", tmp_path / "second").run() == 1
    assert "there is no such file" in capsys.readouterr().err
