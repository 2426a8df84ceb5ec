"""The Gaussian mixture against scipy and SMPLify's formula; its training on data with a known answer."""

import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor
from torch.testing import assert_close

from kouros.priors.gmm import (
    GaussianMixture,
    load_gmm,
    mixture_from_covariances,
    read_gmm,
)
from kouros.priors.training.gmm import MixtureConfig, fit_mixture
from kouros.priors.training.poses import mirrored


def _published(count: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, covariances and weights of a made-up mixture."""
    rng = np.random.default_rng(1)
    roots = rng.normal(size=(count, 69, 69)) * 0.1
    covariances = roots @ roots.swapaxes(1, 2) + 0.05 * np.eye(69)
    return rng.normal(size=(count, 69)) * 0.4, covariances, rng.dirichlet(np.ones(count))


def test_density_is_scipys(poses: Tensor):
    means, covariances, weights = _published()
    columns = [
        np.log(w) + multivariate_normal(m, c).logpdf(poses.numpy())
        for m, c, w in zip(means, covariances, weights, strict=True)
    ]
    expected = torch.from_numpy(logsumexp(columns, axis=0))
    assert_close(mixture_from_covariances(means, covariances, weights).log_density(poses), expected)


def test_energy_is_smplifys_up_to_the_stated_constant(poses: Tensor):
    means, covariances, weights = _published()
    roots = np.sqrt(np.linalg.det(covariances))
    constant = (2 * np.pi) ** (69 / 2)
    rows = []
    for m, c, w, root in zip(means, covariances, weights, roots, strict=True):
        away = poses.numpy() - m
        squared = np.einsum("bi,ij,bj->b", away, np.linalg.inv(c), away)
        rows.append(0.5 * squared - np.log(w / (constant * root / roots.min())))
    mixture = mixture_from_covariances(means, covariances, weights)
    ours = mixture.energy(poses).energy + mixture.smplify_constant
    assert_close(ours, torch.from_numpy(np.min(rows, axis=0)))


def test_energy_vanishes_at_the_likeliest_mean_only():
    mixture = load_gmm()
    energies = mixture.energy(mixture.means).energy
    assert_close(energies.min(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert (energies >= 0).all()


def test_samples_have_the_mixtures_moments():
    means, covariances, weights = _published()
    mixture = mixture_from_covariances(means, covariances, weights)
    drawn = mixture.sample(20_000, torch.Generator().manual_seed(0))
    assert_close(drawn.mean(0), mixture.mean(), atol=0.02, rtol=0)
    second = np.einsum("k,kij->ij", weights, covariances + means[:, :, None] * means[:, None])
    assert_close(drawn.T @ drawn / len(drawn), torch.from_numpy(second), atol=0.1, rtol=0)


def test_packaged_mixture_is_a_density_of_eight_components():
    mixture = load_gmm()
    assert mixture.means.shape == (8, 69)
    assert_close(mixture.log_weights.exp().sum(), torch.tensor(1.0))
    assert (mixture.factors.diagonal(dim1=1, dim2=2) > 0).all()


def test_float32_is_as_good_as_float64(poses: Tensor):
    single, double = load_gmm(), load_gmm().to(poses)
    assert_close(single.log_density(poses.float()).double(), double.log_density(poses), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, c, w: (m[:2], c, w), r"expected \(K, 69\)"),
        (lambda m, c, w: (m * np.nan, c, w), "not finite"),
        (lambda m, c, w: (m, c, -w), "not positive"),
        (lambda m, c, w: (m, c - np.eye(69), w), "not positive definite"),
    ],
)
def test_broken_mixtures_are_refused(unchecked: None, change, message: str):
    with pytest.raises(ValueError, match=message):
        mixture_from_covariances(*change(*_published()))


@settings(max_examples=15, deadline=None)
@given(hnp.arrays(np.float64, (2, 69), elements=st.floats(-1e6, 1e6)))
def test_any_finite_pose_has_a_finite_energy(values: np.ndarray):
    mixture = load_gmm().to(torch.empty(0, dtype=torch.float64))
    energy = mixture.energy(torch.from_numpy(values))
    assert energy.energy.isfinite().all()
    assert (energy.energy >= 0).all()


def test_training_finds_two_clusters_and_their_images():
    rng = np.random.default_rng(2)
    centre = rng.normal(size=69)
    middle = centre + mirrored(centre)
    poses = np.concatenate([centre + 0.05 * rng.normal(size=(300, 69)), middle + 0.1 * rng.normal(size=(200, 69))])
    config = MixtureConfig(components=3, symmetric=1, floor=1e-3, shrinkage=0.0, iterations=5, starts=2)
    means, covariances, weights = fit_mixture(poses, np.ones(500), config, rng)
    np.testing.assert_allclose(weights, [0.4, 0.3, 0.3], atol=1e-6)
    np.testing.assert_allclose(means[0], middle, atol=0.04)
    found = means[1] if np.abs(means[1] - centre).max() < 0.02 else means[2]
    np.testing.assert_allclose(found, centre, atol=0.02)
    deviations = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    np.testing.assert_allclose(deviations.mean(1), [0.1, 0.05, 0.05], rtol=0.06)
    np.testing.assert_allclose(mirrored(means[1]), means[2], atol=1e-12)


def test_training_refuses_an_odd_number_of_pairs():
    with pytest.raises(ValueError, match="mirror pairs"):
        fit_mixture(np.zeros((4, 69)), np.ones(4), MixtureConfig(components=3, symmetric=2), np.random.default_rng(0))


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    np.savez(tmp_path / "other.npz", means=np.zeros((8, 69)))
    with pytest.raises(ValueError, match="no array 'triangles'"):
        read_gmm(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        read_gmm(tmp_path / "text.npz")


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_smplifys_pickle_is_read(tmp_path: Path, poses: Tensor, protocol: int):
    published = _published(8)
    content = dict(zip(("means", "covars", "weights"), published, strict=True))
    (tmp_path / "gmm_08.pkl").write_bytes(pickle.dumps(content, protocol))
    found = read_gmm(tmp_path / "gmm_08.pkl")
    assert_close(found.log_density(poses), mixture_from_covariances(*published).log_density(poses))


def test_scikit_learns_pickle_is_read(tmp_path: Path, poses: Tensor, monkeypatch: pytest.MonkeyPatch):
    # The class is gone from today's scikit-learn; the UP toolkit's file still names it.
    module = types.ModuleType("sklearn.mixture.gmm")
    module.GMM = type("GMM", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    fitted = module.GMM()
    fitted.means_, fitted.covars_, fitted.weights_ = published = _published()
    (tmp_path / "gmm_best_08.pkl").write_bytes(pickle.dumps(fitted, 0))
    found = read_gmm(tmp_path / "gmm_best_08.pkl")
    assert_close(found.log_density(poses), mixture_from_covariances(*published).log_density(poses))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"means": np.zeros((8, 69))}, "lacks one of means, covars and weights"),
        (Path("x"), "may be an attack"),
        (
            {"means": np.zeros((2, 3)), "covars": np.zeros((2, 3, 3)), "weights": np.ones(2)},
            r"expected \(K, 69\)",
        ),
    ],
)
def test_other_pickles_are_refused(unchecked: None, tmp_path: Path, content: object, message: str):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(ValueError, match=message):
        read_gmm(tmp_path / "x.pkl")


def test_moving_and_converting_changes_nothing_else():
    mixture = load_gmm().to(torch.empty(0, dtype=torch.float64))
    assert isinstance(mixture, GaussianMixture)
    assert mixture.means.dtype == mixture.factors.dtype == mixture.log_weights.dtype == torch.float64
    assert_close(mixture.means.float(), load_gmm().means, rtol=0, atol=0)
