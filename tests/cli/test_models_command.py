"""``kouros models``: what is packaged, and a checkpoint from file to run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import tyro
from tests.body.smpl_files import smpl_arrays, write_pickle
from torch.testing import assert_close

from kouros.cards import PACKAGE, model_cards
from kouros.cli import main
from kouros.cli.models import Models
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.resnet import ResNet
from kouros.systems.table import SYSTEMS
from kouros.training.runs import load_run


def _command(*arguments: object) -> Models:
    return tyro.cli(Models, args=[str(a) for a in arguments], config=(tyro.conf.OmitSubcommandPrefixes,))


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
    bodies = load_run(tmp_path / "run").predict(picture).bodies
    assert_close(bodies.rotations, expected.rotations, atol=1e-5, rtol=1e-4)
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


def test_every_packaged_file_of_weights_has_a_card_and_every_card_its_files():
    of_cards = {file for card in model_cards().values() for file in card.files}
    packaged = {
        str(path.relative_to(PACKAGE))
        for pattern in ("**/*.npz", "**/*.tflite", "**/*.pt")
        for path in PACKAGE.glob(pattern)
        if "synthetic" not in path.parts  # pictures' parameters: data, not weights
    }
    assert of_cards == packaged
    for card in model_cards().values():
        assert card.licence and card.made_from and card.command and card.limits, card.name


def test_models_are_listed_and_told_of(capsys):
    assert main(["models", "list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*model_cards(), *SYSTEMS))
    assert main(["models", "info", "default"]) == 0
    assert "mocap.cs.cmu.edu" in capsys.readouterr().out
    assert main(["models", "info", "nobody"]) == 2
    assert "there is no model 'nobody'; there are default" in capsys.readouterr().err
