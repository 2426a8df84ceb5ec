"""Files of the small networks that come with kouros: their sizes and their weights in float16, read without unpickling.

Imports nothing of kouros but how files are read and written.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from kouros.archives import ArchiveError, as_wanted, read_all_npz
from kouros.files import npz_bytes, write_file
from kouros.sentences import first_line

_N = TypeVar("_N", bound=nn.Module)


def write_network(path: Path, network: nn.Module, sizes: Sequence[int]) -> None:
    """Write a network, whole or not at all.

    Args:
        sizes: from which it can be built again.

    Raises:
        OSError: the file cannot be written.
    """
    arrays = {name: value.detach().cpu().numpy().astype(np.float16) for name, value in network.state_dict().items()}
    write_file(path, npz_bytes({"config": np.array(sizes), **arrays}, compressed=False))


def read_network(path: Path, build: Callable[..., _N], sizes: int, largest: int) -> _N:
    """The network in a file that `write_network` wrote: float32, for evaluation.

    Args:
        build: a network of some sizes.
        sizes: how many of them there are.
        largest: of any of them.

    Raises:
        OSError: the file cannot be read.
        ArchiveError: it holds something else.
    """
    file = read_all_npz(path)
    try:
        given = [int(n) for n in as_wanted(file.pop("config"), ((sizes,), "int64"), name="config")]
        if not all(0 < n <= largest for n in given):
            raise ArchiveError(f"config is {', '.join(map(str, given))}")
        network = build(*given)
        state = {name: as_wanted(array, (None, "float32"), name=name) for name, array in file.items()}
        network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    except (KeyError, RuntimeError) as error:  # of torch: other names or shapes
        raise ArchiveError(first_line(error)) from None
    return network.eval().requires_grad_(False)
