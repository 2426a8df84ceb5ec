"""Depths of a found person's joints, read off what Thunder made of the person (`kouros.networks.depth_head`)."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from kouros.archives import ArchiveError
from kouros.detection.movenet import SeenKeypoints
from kouros.network_files import read_network, write_network
from kouros.networks.depth_head import DepthHead
from kouros.sentences import first_line

PACKAGED_WEIGHTS = Path(__file__).parent / "models" / "joint_depths.npz"
_WIDEST = 4096
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
    write_network(path, network, (network.width, len(network.blocks)))


def load_depth_head(path: Path) -> DepthHead:
    """The network in a file that `save_depth_head` wrote: float32, for evaluation.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    try:
        return read_network(path, DepthHead, sizes=2, largest=_WIDEST)
    except ArchiveError as error:
        raise ValueError(f"{path} holds no weights of the depth head ({first_line(error)}).") from None


@cache
def packaged_depth_head() -> DepthHead:
    """The one that comes with kouros."""
    return load_depth_head(PACKAGED_WEIGHTS)
