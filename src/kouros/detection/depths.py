"""Depths of a found person's joints, read off what Thunder made of the person (`kouros.networks.depth_head`)."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from kouros.detection.movenet import SeenKeypoints
from kouros.files import npz_bytes, write_file
from kouros.networks.depth_head import DepthHead

PACKAGED_WEIGHTS = Path(__file__).parent / "models" / "joint_depths.npz"
LEAST_SPREAD = 0.01
"""Of the square's side: no depth is known better."""


@torch.no_grad()
def joint_depths(network: DepthHead, seen: SeenKeypoints) -> Float[np.ndarray, "17 2"]:
    """Depth of each of COCO's points along the line of sight, relative to the middle of the hips, and its expected
    absolute error: pixels of the image, as if a pixel were as deep as it is wide where the person is."""
    found = network(torch.from_numpy(seen.features).float()[None])
    numbers = torch.stack([found.depth[0], found.spread[0] + LEAST_SPREAD], -1)
    return numbers.numpy().astype(np.float64) * seen.region.size


def save_depth_head(path: Path, network: DepthHead) -> None:
    """Write a network's weights as float16, whole or not at all: the form that comes with kouros.

    Raises:
        OSError: the file cannot be written.
    """
    arrays = {name: value.detach().cpu().numpy().astype(np.float16) for name, value in network.state_dict().items()}
    write_file(path, npz_bytes({"config": np.array([network.width, len(network.blocks)]), **arrays}, compressed=False))


def load_depth_head(path: Path) -> DepthHead:
    """The network in a file that `save_depth_head` wrote: float32, for evaluation.

    Raises:
        OSError: the file cannot be read.
    """
    with np.load(path, allow_pickle=False) as file:
        width, blocks = (int(n) for n in file["config"])
        network = DepthHead(width, blocks)
        network.load_state_dict({k: torch.from_numpy(file[k].astype(np.float32)) for k in file.files if k != "config"})
    return network.eval().requires_grad_(False)


@cache
def packaged_depth_head() -> DepthHead:
    """The one that comes with kouros."""
    return load_depth_head(PACKAGED_WEIGHTS)
