"""Weights as those that come with kouros are: one ``.npz`` of plain arrays in float16, read without unpickling.

Tensors of a trunk whose published weights come with kouros anyway (MoveNet's, BlazePose's), and that training has left
as they were, are not written; reading takes them from there.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kouros.archives import ArchiveError, read_all_npz
from kouros.files import npz_bytes, write_file
from kouros.networks.blazepose import BlazePoseTrunk
from kouros.networks.joint_features import MoveNetJoints
from kouros.networks.movenet import MoveNetTrunk
from kouros.sentences import first_line
from kouros.systems.backbone_weights import begin_backbone
from kouros.tensors import TensorFileError, check_finite
from kouros.training.weights import WEIGHTS_VERSION, learned_state, load_learned

_VERSION = "kouros_weights"


def write_packed(path: Path, system: nn.Module) -> None:
    """Write a system's weights, whole or not at all.

    Raises:
        ValueError: a weight is not finite.
        OSError: the file cannot be written.
    """
    known = _published(system)
    arrays = {_VERSION: np.array(WEIGHTS_VERSION)}
    for name, tensor in learned_state(system).items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"the weights {name} are not finite; nothing was written to {path}.")
        if name not in known or not torch.equal(known[name], tensor.cpu()):
            arrays[name] = _halved(tensor.cpu())
    write_file(path, npz_bytes(arrays, compressed=False))


def load_packed(system: nn.Module, path: Path) -> None:
    """Give a system the weights in a file that `write_packed` wrote.

    Raises:
        ValueError: it is no such file, or of another system; the system stays as it was.
        OSError: it cannot be read.
    """
    load_learned(system, read_packed(system, path), str(path))


def read_packed(system: nn.Module, path: Path) -> dict[str, Tensor]:
    """The weights in a file that `write_packed` wrote, with those of the system's trunks that were not written.

    Raises:
        ValueError, OSError: as `packed_tensors`.
    """
    return _published(system) | packed_tensors(path)


def packed_tensors(path: Path) -> dict[str, Tensor]:
    """The weights in a file that `write_packed` wrote.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    try:
        arrays = read_all_npz(path)
    except ArchiveError as error:
        raise ValueError(f"{path} is damaged or no file of packed weights ({first_line(error)}).") from None
    version = arrays.pop(_VERSION, None)
    if version is None or version.shape or int(version) != WEIGHTS_VERSION:
        raise ValueError(f"{path} holds no weights that this kouros reads; expected a file of `kouros models pack`.")
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    try:
        check_finite(tensors)
    except TensorFileError as error:
        raise ValueError(f"{path} cannot be used: {error}; pack the run again.") from None
    return tensors


def _published(system: nn.Module) -> dict[str, Tensor]:
    """What its packaged trunks begin with, by the system's names."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in system.named_modules():
        if isinstance(module, MoveNetJoints | MoveNetTrunk | BlazePoseTrunk):
            fresh = type(module)()
            begin_backbone(fresh, None)
            tensors |= {f"{prefix}.{name}": tensor for name, tensor in learned_state(fresh).items()}
    return tensors


def _halved(tensor: Tensor) -> np.ndarray:
    """In half precision, but for what is not a fraction, or too large for that."""
    half = tensor.half()
    fits = tensor.is_floating_point() and bool(torch.isfinite(half).all())
    return (half if fits else tensor).numpy()
