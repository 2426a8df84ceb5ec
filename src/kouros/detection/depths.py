"""Depths of a found person's joints, read off what Thunder made of the person (`kouros.networks.depth_head`)."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from kouros.archives import ArchiveError, as_wanted, read_all_npz
from kouros.detection.movenet import SeenKeypoints
from kouros.files import npz_bytes, write_file
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
    arrays = {name: value.detach().cpu().numpy().astype(np.float16) for name, value in network.state_dict().items()}
    write_file(path, npz_bytes({"config": np.array([network.width, len(network.blocks)]), **arrays}, compressed=False))


def load_depth_head(path: Path) -> DepthHead:
    """The network in a file that `save_depth_head` wrote: float32, for evaluation.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    try:
        file = read_all_npz(path)
        width, blocks = (int(n) for n in as_wanted(file.pop("config"), ((2,), "int64"), name="config"))
        if not (0 < width <= _WIDEST and 0 < blocks <= _WIDEST):
            raise ArchiveError(f"config is {width}, {blocks}")
        network = DepthHead(width, blocks)
        state = {name: as_wanted(array, (None, "float32"), name=name) for name, array in file.items()}
        network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    except (ArchiveError, KeyError, RuntimeError) as error:  # of torch: other names or shapes
        raise ValueError(f"{path} holds no weights of the depth head ({first_line(error)}).") from None
    return network.eval().requires_grad_(False)


@cache
def packaged_depth_head() -> DepthHead:
    """The one that comes with kouros."""
    return load_depth_head(PACKAGED_WEIGHTS)
