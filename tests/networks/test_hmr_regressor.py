"""HMR's iterative regressor and what it begins from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from kouros.geometry.rotations import rot6d_to_rotmat
from kouros.networks.estimates import MeanParameters
from kouros.networks.hmr_regressor import HmrRegressor


def _mean(seed: int = 0) -> MeanParameters:
    generator = torch.Generator().manual_seed(seed)
    return MeanParameters(*(torch.randn(n, generator=generator) for n in (144, 10, 3)))


def _silenced(regressor: HmrRegressor) -> HmrRegressor:
    """Answers that depend on nothing: the biases alone."""
    for answer in (regressor.decpose, regressor.decshape, regressor.deccam):
        torch.nn.init.zeros_(answer.weight)
    return regressor


def test_each_iteration_adds_its_change_to_the_guess():
    mean = _mean()
    regressor = _silenced(HmrRegressor(16, mean=mean))
    guesses = regressor(torch.randn(4, 16))
    assert len(guesses) == 3
    for done, guess in enumerate(guesses, start=1):
        pose = mean.pose + done * regressor.decpose.bias
        assert_close(guess.rotations, rot6d_to_rotmat(pose.view(24, 6)).expand(4, -1, -1, -1))
        assert_close(guess.betas, (mean.betas + done * regressor.decshape.bias).expand(4, -1))
        assert_close(guess.camera, (mean.camera + done * regressor.deccam.bias).expand(4, -1))


def test_before_training_the_answer_is_near_the_first_guess():
    """The answers' weights begin small, so a fresh network shows the mean body, upright and facing the camera."""
    torch.manual_seed(0)
    answer = HmrRegressor(512).eval()(torch.randn(8, 512))[-1]
    mean = MeanParameters.packaged()
    away = answer.rotations - rot6d_to_rotmat(mean.pose.view(24, 6))
    assert away.abs().max() < 0.2
    assert_close(answer.rotations[:, 0], torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(8, 3, 3), atol=0.2, rtol=0)
    assert (answer.camera - torch.tensor([0.9, 0.0, 0.0])).abs().max() < 0.3


def test_answers_are_rotations_and_later_iterations_see_earlier_ones():
    torch.manual_seed(0)
    regressor = HmrRegressor(16, dropout=0.0)
    torch.nn.init.normal_(regressor.decpose.weight, std=0.01)
    guesses = regressor(torch.randn(4, 16))
    rotations = guesses[-1].rotations
    assert_close(rotations @ rotations.mT, torch.eye(3).expand(4, 24, 3, 3), atol=1e-5, rtol=0)
    assert_close(torch.linalg.det(rotations), torch.ones(4, 24))
    first = guesses[0].rotations - rot6d_to_rotmat(regressor.init_pose.view(24, 6))
    second = guesses[1].rotations - guesses[0].rotations
    assert (first - second).abs().max() > 1e-3


def test_dropout_is_of_training_only_and_a_seed_fixes_it():
    regressor = HmrRegressor(16)
    features = torch.randn(2, 16)

    def answer() -> torch.Tensor:
        torch.manual_seed(1)
        first = regressor(features)[-1].betas
        return torch.stack([first, regressor(features)[-1].betas])

    training = answer()
    assert not torch.equal(training[0], training[1])
    assert torch.equal(answer(), training)
    regressor.eval()
    assert torch.equal(*answer())


def test_size_is_the_published_one():
    """HMR's paper has 26.8M with ResNet-50 and 72 pose numbers; with 144 it is SPIN's 26,977,501."""
    with torch.device("meta"):
        regressor = HmrRegressor(2048, mean=MeanParameters.blank())
    assert sum(p.numel() for p in regressor.parameters()) == 26_977_501 - 23_508_032


def test_spins_mean_parameters_are_read(tmp_path: Path):
    path = tmp_path / "mean.npz"
    pose = np.arange(144, dtype=np.float64)
    np.savez(path, pose=pose, shape=np.ones(10), cam=np.array([0.9, 0.0, 0.0]))
    mean = MeanParameters.read(path)
    assert_close(mean.pose, torch.arange(144.0))
    regressor = HmrRegressor(8)
    regressor.begin_from(mean)
    assert_close(regressor.init_pose[0], torch.arange(144.0))
    assert_close(regressor.init_shape[0], torch.ones(10))


@pytest.mark.parametrize(
    "arrays",
    [
        {"pose": np.zeros(72), "shape": np.zeros(10), "cam": np.zeros(3)},
        {"pose": np.zeros(144), "shape": np.zeros(10)},
        {"pose": np.full(144, np.nan), "shape": np.zeros(10), "cam": np.zeros(3)},
        {"pose": np.array(["a"] * 144), "shape": np.zeros(10), "cam": np.zeros(3)},
        None,
    ],
)
def test_other_files_are_no_mean_parameters(tmp_path: Path, arrays):
    path = tmp_path / "mean.npz"
    path.write_bytes(b"PK no archive") if arrays is None else np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"expected SPIN's smpl_mean_params\.npz"):
        MeanParameters.read(path)


def test_a_regressor_without_iterations_is_refused():
    with pytest.raises(ValueError, match="at least one iteration"):
        HmrRegressor(8, iterations=0)
