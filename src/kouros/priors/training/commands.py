"""From a motion-capture folder to a packaged prior: what `kouros train prior NAME` runs.

Each file says where it comes from, under ``meta``. Same seed, same file.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from kouros.priors.gmm import mixture_from_covariances, pack_triangles
from kouros.priors.packaged import write_arrays
from kouros.priors.training.experts import fit_experts
from kouros.priors.training.gmm import MixtureConfig, fit_mixture
from kouros.priors.training.limits import MARGIN, QUANTILE, fit_limits
from kouros.priors.training.poses import (
    MocapPoses,
    read_poses,
    read_rest_joints,
    recombined,
    with_mirror_images,
)
from kouros.priors.training.vae import VAETraining, train_vae

RECOMBINED_SHARE = 0.25
"""Weight of poses with limbs of different frames in the mixture's data, against what was recorded."""


def train_gmm(
    folder: Path, out: Path, *, seed: int = 0, credit: str | None = None, config: MixtureConfig | None = None
) -> None:
    """The Gaussian mixture, to ``out``."""
    config = config or MixtureConfig()
    rng = np.random.default_rng(seed)
    poses, weights = mixture_data(read_poses(folder, "train"), rng)
    mixture = mixture_from_covariances(*fit_mixture(poses, weights, config, rng))
    arrays = {
        "means": mixture.means.numpy().astype(np.float32),
        "triangles": pack_triangles(mixture.factors),
        "log_weights": mixture.log_weights.numpy().astype(np.float32),
    }
    how = {**asdict(config), "recombined_share": RECOMBINED_SHARE}
    write_arrays(out, arrays, _provenance("Gaussian mixture over body_pose", folder, seed, credit, how))


def mixture_data(
    train: MocapPoses, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "poses 69"], Float[np.ndarray, " poses"]]:
    """Every second frame, the diverse ones, and recombined ones, with weights.

    What was recorded is mostly walking; diverse and recombined poses widen the mixture towards what was not.
    """
    frames = train.frames[::2]
    fresh = recombined(with_mirror_images(train.diverse), len(train.diverse), rng)
    recorded = (1 - RECOMBINED_SHARE) / 2
    parts = [(frames, recorded), (train.diverse, recorded), (fresh, RECOMBINED_SHARE)]
    weights = [np.full(len(part), share / len(part)) for part, share in parts]
    return np.concatenate([part for part, _ in parts]), np.concatenate(weights)


def train_limits(folder: Path, out: Path, *, seed: int = 0, credit: str | None = None) -> None:
    """The joint limits, to ``out``."""
    train = read_poses(folder, "train")
    lower, upper = fit_limits(np.concatenate([train.frames, train.diverse]))
    arrays = {"lower": lower.astype(np.float32), "upper": upper.astype(np.float32)}
    how: dict[str, object] = {"quantile": QUANTILE, "margin": float(MARGIN)}
    write_arrays(out, arrays, _provenance("Joint limits of body_pose, radians", folder, seed, credit, how))


def train_experts(folder: Path, out: Path, *, seed: int = 0, credit: str | None = None, experts: int = 64) -> None:
    """The rotation experts, to ``out``."""
    poses = with_mirror_images(read_poses(folder, "train").diverse)
    fitted = fit_experts(poses, experts, np.random.default_rng(seed))
    arrays = {"centres": fitted.centres.float().numpy(), "middles": fitted.middles.float().numpy()}
    write_arrays(
        out, arrays, _provenance("K-means of Euler angles, radians", folder, seed, credit, {"experts": experts})
    )


def train_pose_vae(
    folder: Path,
    out: Path,
    *,
    seed: int = 0,
    credit: str | None = None,
    device: str = "cpu",
    training: VAETraining | None = None,
    report: Callable[[int, dict[str, float]], None] | None = None,
) -> None:
    """The pose autoencoder, to ``out``, its weights as float16."""
    training = training or VAETraining()
    poses, weights = mixture_data(read_poses(folder, "train"), np.random.default_rng(seed))
    vae = train_vae(
        torch.from_numpy(poses).float(),
        torch.from_numpy(weights),
        read_rest_joints(folder),
        seed=seed,
        device=device,
        training=training,
        report=report,
    )
    arrays = {name: value.cpu().numpy().astype(np.float16) for name, value in vae.state_dict().items()}
    how = {**asdict(training), "recombined_share": RECOMBINED_SHARE}
    write_arrays(out, arrays, _provenance("Variational autoencoder of body poses", folder, seed, credit, how))


TRAINERS: dict[str, Callable[..., None]] = {
    "gmm": train_gmm,
    "limits": train_limits,
    "rotation_experts": train_experts,
    "vae": train_pose_vae,
}
"""The priors that can be trained, by name: that of their packaged file ``data/NAME.npz``.

Each takes a motion-capture folder, the file to write, ``seed``, and ``credit``: what the owners ask to be said.
"""


def _provenance(what: str, folder: Path, seed: int, credit: str | None, how: dict[str, object]) -> dict[str, object]:
    digest = hashlib.sha256()
    for path in [*sorted((folder / "sequences").rglob("*.npz")), folder / "diverse_frames.npz"]:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return {
        "what": what,
        "credit": credit,
        "made_by": "kouros.priors.training",
        "seed": seed,
        "settings": how,
        "data_sha256": digest.hexdigest(),
    }
