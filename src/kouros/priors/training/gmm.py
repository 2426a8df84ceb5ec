"""Expectation-maximization of a mixture that is its own mirror image.

Components come in mirror pairs, or are their own mirror images. Started from such means on data that contain
every pose's mirror image, the EM equations keep that symmetry; it is renewed exactly in every step.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import solve_triangular
from scipy.special import logsumexp

from kouros.priors.body_pose import MIRROR_ORDER, MIRROR_SIGN, POSE_SIZE
from kouros.priors.training.poses import mirrored, with_mirror_images


@dataclass(frozen=True)
class MixtureConfig:
    """What is fitted, and how much wider than the data."""

    components: int = 8
    symmetric: int = 2
    """How many of them are their own mirror images; the others form pairs."""
    floor: float = math.radians(3.0)
    """Standard deviation, radians, added to every direction: hands never move in the data."""
    shrinkage: float = 0.1
    """Share of the covariance of all poses in each component's."""
    iterations: int = 60
    starts: int = 1


def fit_mixture(
    poses: Float[np.ndarray, "frames 69"],
    weights: Float[np.ndarray, " frames"],
    config: MixtureConfig,
    rng: np.random.Generator,
) -> tuple[
    Float[np.ndarray, "components 69"],
    Float[np.ndarray, "components 69 69"],
    Float[np.ndarray, " components"],
]:
    """Means, covariances and weights of the likeliest of several runs.

    Args:
        poses: without their mirror images, which are added here.
        weights: how often each pose counts.

    Raises:
        ValueError: the numbers of components do not add up.
    """
    pairs, odd = divmod(config.components - config.symmetric, 2)
    if odd or pairs < 0 or config.symmetric < 0 or config.components < 1:
        raise ValueError(
            f"{config.components} components cannot be {config.symmetric} symmetric ones and mirror pairs; "
            "change one of the two by one."
        )
    both, twice = with_mirror_images(poses), np.tile(weights / weights.sum() / 2, 2)
    overall = np.cov(both.T, aweights=twice, bias=True)
    best: tuple[float, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None
    for _ in range(config.starts):
        labels = _symmetric_k_means(both, twice, pairs, config.symmetric, rng)
        share = np.eye(config.components)[labels]
        for _ in range(config.iterations):
            mixture = _maximize(both, twice[:, None] * share, overall, config)
            log = log_components(both, *mixture)
            total = logsumexp(log, axis=1, keepdims=True)
            share = np.exp(log - total)
        likelihood = float(twice @ total[:, 0])
        if best is None or likelihood > best[0]:
            best = likelihood, mixture
    assert best is not None
    return best[1]


def log_components(
    poses: Float[np.ndarray, "frames 69"], means: np.ndarray, covariances: np.ndarray, weights: np.ndarray
) -> Float[np.ndarray, "frames components"]:
    """Logarithm of each weighted component's density."""
    columns = []
    for mean, covariance, weight in zip(means, covariances, weights, strict=True):
        root = np.linalg.cholesky(covariance)
        whitened = solve_triangular(root, (poses - mean).T, lower=True)
        log_peak = math.log(weight) - np.log(np.diagonal(root)).sum() - 0.5 * POSE_SIZE * math.log(2 * math.pi)
        columns.append(log_peak - 0.5 * np.square(whitened).sum(0))
    return np.stack(columns, axis=1)


def _partner(component: int, symmetric: int) -> int:
    """Mirror image of a component: the symmetric ones come first, then the pairs."""
    return component if component < symmetric else symmetric + ((component - symmetric) ^ 1)


def _maximize(
    poses: np.ndarray, shares: np.ndarray, overall: np.ndarray, config: MixtureConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order, sign = list(MIRROR_ORDER), np.array(MIRROR_SIGN)
    weights, means, covariances = [], [], []
    for share in shares.T:
        total = share.sum()
        mean = share @ poses / total
        away = poses - mean
        weights.append(total)
        means.append(mean)
        covariances.append((share[:, None] * away).T @ away / total)
    partners = [_partner(k, config.symmetric) for k in range(config.components)]
    images = np.array(covariances)[:, order][:, :, order] * sign[:, None] * sign
    covariance = (np.array(covariances) + images[partners]) / 2
    covariance = (1 - config.shrinkage) * covariance + config.shrinkage * overall
    covariance += config.floor**2 * np.eye(POSE_SIZE)
    mean = (np.array(means) + mirrored(np.array(means))[partners]) / 2
    weight = (np.array(weights) + np.array(weights)[partners]) / 2
    return mean, covariance, weight / weight.sum()


def _symmetric_k_means(
    poses: np.ndarray,
    weights: np.ndarray,
    pairs: int,
    symmetric: int,
    rng: np.random.Generator,
    rounds: int = 15,
) -> np.ndarray:
    """Labels of Lloyd's algorithm with centres in mirror pairs, started by k-means++."""
    centres = np.empty((0, POSE_SIZE))
    for k in range(symmetric + pairs):
        nearest = _square_distances(poses, centres).min(1) if len(centres) else np.ones(len(poses))
        odds = weights * nearest
        centre = poses[rng.choice(len(poses), p=odds / odds.sum())]
        image = mirrored(centre)
        centres = np.vstack([centres, [(centre + image) / 2] if k < symmetric else [centre, image]])
    partners = [_partner(k, symmetric) for k in range(len(centres))]
    for _ in range(rounds):
        labels = _square_distances(poses, centres).argmin(1)
        shares = weights[:, None] * np.eye(len(centres))[labels]
        centres = shares.T @ poses / np.maximum(shares.sum(0), 1e-12)[:, None]
        centres = (centres + mirrored(centres)[partners]) / 2
    return labels


def _square_distances(poses: np.ndarray, centres: np.ndarray) -> np.ndarray:
    squares = np.square(poses).sum(1)[:, None] - 2 * poses @ centres.T + np.square(centres).sum(1)
    return np.maximum(squares, 0)
