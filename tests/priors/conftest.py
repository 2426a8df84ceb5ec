"""Held-out motion capture, and checks that every prior must pass."""

from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor

from kouros.priors.training.poses import read_poses


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors here are small: threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def held_out(samples: Path) -> Tensor:
    """Poses of clips that no prior was trained on, (batch, 69), float32."""
    return torch.from_numpy(read_poses(samples / "mocap", "val").diverse).float()


@pytest.fixture(scope="session")
def shuffled(held_out: Tensor) -> Tensor:
    """The same joint rotations, each from another pose."""
    rng = np.random.default_rng(0)
    by_joint = held_out.unflatten(-1, (23, 3)).clone()
    for joint in range(23):
        by_joint[:, joint] = by_joint[rng.permutation(len(by_joint)), joint]
    return by_joint.flatten(1)


@pytest.fixture
def poses() -> Tensor:
    """Random poses, moderate and wild, (24, 69), float64."""
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(24, 69, generator=generator, dtype=torch.float64)
    return noise * torch.linspace(0.1, 0.9, 24, dtype=torch.float64)[:, None]


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the shape checks that only the tests make: as a user would meet wrong input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
