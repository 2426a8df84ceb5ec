"""SMPLify's pose prior: a mixture of Gaussians over the body pose (Bogo et al. 2016, Sec. 3.2).

The energy is that of the likeliest component ("max-mixture", Olson and Agarwal 2013), because that one is a
sum of squares: ``min_k 1/2 |L_k^T (x - m_k)|^2 - log(c_k)``, with ``L_k L_k^T`` the component's precision.
"""

import math
import pickle
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kouros.body.unpickling import StoredObject, as_array, read_pickle
from kouros.priors.body_pose import POSE_SIZE, check_body_pose
from kouros.priors.draws import draw_categories
from kouros.priors.energy import PriorEnergy
from kouros.priors.packaged import FOLDER, read_arrays

TRIANGLE = POSE_SIZE * (POSE_SIZE + 1) // 2


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture over the 69 numbers of ``body_pose`` (rotation vectors, radians)."""

    means: Float[Tensor, "components 69"]
    factors: Float[Tensor, "components 69 69"]
    """Cholesky factors ``L`` of the precisions: ``precision = L L^T``."""
    log_weights: Float[Tensor, " components"]
    """Logarithms of the mixture's weights."""

    def to(self, like: Tensor) -> "GaussianMixture":
        """The same mixture with the dtype and device of ``like``."""
        return GaussianMixture(self.means.to(like), self.factors.to(like), self.log_weights.to(like))

    def log_density(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, " batch"]:
        """Logarithm of the mixture's density; differentiable.

        Raises:
            ValueError: ``body_pose`` is not ``(batch, 69)``.
        """
        return torch.logsumexp(self._log_components(body_pose), dim=-1)

    def energy(self, body_pose: Float[Tensor, "batch 69"]) -> PriorEnergy:
        """The likeliest component's energy, in least-squares form.

        The last of the 70 residuals is constant: how much less likely the component is at its mean than the
        mixture's likeliest. So the energy is zero at that one's mean, and SMPLify's less `smplify_constant`
        everywhere.

        Raises:
            ValueError: ``body_pose`` is not ``(batch, 69)``.
        """
        best = self.component(body_pose)
        factor = self.factors[best]
        whitened = (factor.mT @ (body_pose - self.means[best])[..., None])[..., 0]
        below = self.below_likeliest[best, None]
        residuals = torch.cat([whitened, (2 * below).sqrt()], dim=-1)
        jacobian = torch.nn.functional.pad(factor.mT, (0, 0, 0, 1))
        return PriorEnergy(0.5 * residuals.square().sum(-1), residuals, jacobian)

    def component(self, body_pose: Float[Tensor, "batch 69"]) -> Int[Tensor, " batch"]:
        """The likeliest component of each pose."""
        return self._log_components(body_pose).argmax(-1)

    def mean(self) -> Float[Tensor, " 69"]:
        """Mean of the whole mixture."""
        return self.log_weights.exp() @ self.means

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count 69"]:
        """Poses drawn from the mixture."""
        chosen = draw_categories(self.log_weights.exp(), count, generator)
        noise = torch.randn(count, POSE_SIZE, 1, generator=generator, dtype=self.means.dtype, device=self.means.device)
        away = torch.linalg.solve_triangular(self.factors[chosen].mT, noise, upper=True)
        return self.means[chosen] + away[..., 0]

    @property
    def smplify_constant(self) -> float:
        """SMPLify's published energy minus ours: a constant of the mixture.

        SMPLify's is ``min_k 1/2 d_k^2 - log(w_k / ((2 pi)^(69/2) s_k / min_j s_j))``, with ``s`` the square
        roots of the covariances' determinants.
        """
        return float(self._log_root_precisions.max() - self._log_peaks.max())

    @cached_property
    def precisions(self) -> Float[Tensor, "components 69 69"]:
        """Inverses of the covariances, ``L L^T``."""
        return self.factors @ self.factors.mT

    @cached_property
    def below_likeliest(self) -> Float[Tensor, " components"]:
        """How much less likely each component is at its mean than the mixture's likeliest at its own; logarithms."""
        return self._log_peaks.max() - self._log_peaks

    @cached_property
    def _log_root_precisions(self) -> Float[Tensor, " components"]:
        return self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)

    @cached_property
    def _log_peaks(self) -> Float[Tensor, " components"]:
        """Logarithm of each weighted component at its mean."""
        return self.log_weights + self._log_root_precisions - 0.5 * POSE_SIZE * math.log(2 * math.pi)

    def _log_components(self, body_pose: Float[Tensor, "batch 69"]) -> Float[Tensor, "batch components"]:
        check_body_pose(body_pose)
        away = body_pose[:, None] - self.means
        whitened = torch.einsum("kij,bki->bkj", self.factors, away)
        return self._log_peaks - 0.5 * whitened.square().sum(-1)


def mixture_from_covariances(
    means: Float[np.ndarray, "components 69"],
    covariances: Float[np.ndarray, "components 69 69"],
    weights: Float[np.ndarray, " components"],
) -> GaussianMixture:
    """A mixture, float64, given as it is usually published.

    Args:
        means: radians.
        covariances: symmetric, positive definite.
        weights: positive; scaled to sum to 1.

    Raises:
        ValueError: wrong shapes, numbers that are not finite, or a covariance that is not positive definite.
    """
    means, covariances, weights = (np.array(a, dtype=np.float64) for a in (means, covariances, weights))
    count = len(weights) if weights.ndim == 1 else 0
    if not count or means.shape != (count, POSE_SIZE) or covariances.shape != (count, POSE_SIZE, POSE_SIZE):
        raise ValueError(
            f"A pose mixture has means {means.shape}, covariances {covariances.shape} and weights "
            f"{weights.shape}; expected (K, {POSE_SIZE}), (K, {POSE_SIZE}, {POSE_SIZE}) and (K,)."
        )
    if not all(np.isfinite(a).all() for a in (means, covariances, weights)) or not (weights > 0).all():
        raise ValueError("A pose mixture has numbers that are not finite or weights that are not positive.")
    try:
        np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError as error:
        raise ValueError("A covariance of the pose mixture is not positive definite; is the file complete?") from error
    precisions = np.linalg.inv(covariances)
    factors = np.linalg.cholesky(0.5 * (precisions + precisions.swapaxes(1, 2)))
    log_weights = np.log(weights / weights.sum())
    return GaussianMixture(*(torch.from_numpy(a) for a in (means, factors, log_weights)))


def pack_triangles(factors: Float[Tensor, "components 69 69"]) -> Float[np.ndarray, "components 2415"]:
    """Lower triangles, row by row, float32: the form of the packaged file."""
    rows, columns = np.tril_indices(POSE_SIZE)
    return factors.cpu().numpy()[:, rows, columns].astype(np.float32)


def read_gmm(path: Path) -> GaussianMixture:
    """A mixture from a file: ours (``.npz``, float32), or a published pickle (float64).

    Pickles are SMPLify's ``gmm_08.pkl``, a dict of ``means``, ``covars`` and ``weights``, or an object with
    scikit-learn's attributes (``means_``, ...), as the UP toolkit's. The restricted unpickler reads them.

    Raises:
        ValueError: not such a file.
        OSError: the file cannot be read.
    """
    return _read_packed(path) if path.suffix == ".npz" else _read_published(path)


def _read_packed(path: Path) -> GaussianMixture:
    shapes = {"means": (None, POSE_SIZE), "triangles": (None, TRIANGLE), "log_weights": (None,)}
    arrays = read_arrays(path, shapes)
    if len({len(a) for a in arrays.values()}) != 1:
        raise ValueError(f"{path} has different numbers of means, factors and weights; train the mixture again.")
    factors = np.zeros((len(arrays["means"]), POSE_SIZE, POSE_SIZE), dtype=np.float32)
    rows, columns = np.tril_indices(POSE_SIZE)
    factors[:, rows, columns] = arrays["triangles"]
    return GaussianMixture(
        torch.from_numpy(arrays["means"]).float(),
        torch.from_numpy(factors),
        torch.from_numpy(arrays["log_weights"]).float(),
    )


def _read_published(path: Path) -> GaussianMixture:
    try:
        with path.open("rb") as file:
            content = read_pickle(file)
        parts = content.state if isinstance(content, StoredObject) else content
        # scikit-learn ends the names of what it fitted with an underscore.
        end = "_" if isinstance(content, StoredObject) else ""
        means, covariances, weights = (as_array(parts[name + end]) for name in ("means", "covars", "weights"))
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is not the pickle of a pose mixture: {error}. Was it downloaded whole?") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks one of means, covars and weights; expected SMPLify's gmm_08.pkl.") from error
    try:
        return mixture_from_covariances(means, covariances, weights)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


@cache
def load_gmm() -> GaussianMixture:
    """The packaged mixture: eight components in mirror pairs, fitted to motion capture, float32."""
    return read_gmm(FOLDER / "gmm.npz")
