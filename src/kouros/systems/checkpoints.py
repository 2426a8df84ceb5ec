"""Checkpoints that others published for SPIN's and HMR's network, as weights of ours.

They are archives of tensors by torchvision's and HMR's names, wrapped and prefixed in a few ways. Nothing but tensors
and plain values is ever constructed from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kouros.networks.estimates import MeanParameters
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.resnet import DEPTHS, Depth, ResNet
from kouros.sentences import first_line, some
from kouros.systems.spin import SpinConfig
from kouros.tensors import TensorFileError, load_tensors

_WRAPPERS = ("model", "state_dict", "gen_state_dict")
"""Where the weights are, in SPIN's checkpoints and others'."""
_PREFIXES = ("module.", "model.", "regressor.")
"""What data-parallel training and SPIN's descendants put before names."""
_BODY = ("smpl.", "regressor.smpl.")
"""Arrays of a body model, which some checkpoints carry along: bodies are files of their own here."""
_FIRST_GUESS = ("init_pose", "init_shape", "init_cam")
_EXPECTED = "expected a checkpoint of SPIN's network, with keys such as 'conv1.weight' and 'decpose.weight'"


@dataclass(frozen=True)
class Published:
    """A published network as ours."""

    config: SpinConfig
    """Builds a system that the weights fit."""
    tensors: Mapping[str, Tensor]
    """The system's whole state."""


def read_published(path: str | Path, mean: MeanParameters | None = None) -> Published:
    """Read a checkpoint of SPIN, or of another network of its architecture.

    Args:
        path: of a file that ``torch.save`` wrote.
        mean: the regressor's first guess, for a checkpoint that has none.

    Raises:
        ValueError: it is of something else, or damaged.
        OSError: it cannot be read.
    """
    state = _plain_names(_weights_in(_load(path), path))
    given = {k: v for k, v in state.items() if not k.startswith(_BODY)}
    if "decpose.weight" not in given or "conv1.weight" not in given:
        raise ValueError(f"{path} holds other weights ({some(given)}); {_EXPECTED}.")
    outputs = len(given["decpose.weight"])
    if outputs != 144:
        raise ValueError(
            f"the network in {path} answers with {outputs} numbers for the pose; only networks with 6D rotations "
            "(144), as SPIN's, can be converted."
        )
    if mean is not None and not any(name in given for name in _FIRST_GUESS):
        given |= dict(zip(_FIRST_GUESS, (mean.pose[None], mean.betas[None], mean.camera[None]), strict=True))
    depth = _depth_of(given, path)
    with torch.device("meta"):
        backbone = ResNet(depth)
        regressor = HmrRegressor(backbone.num_features, mean=MeanParameters.blank())
    parts = {"backbone": backbone.state_dict(), "regressor": regressor.state_dict()}
    tensors, used = {}, set()
    for part, wanted in parts.items():
        for name, like in wanted.items():
            tensor = given.get(name)
            if tensor is None and name.endswith("num_batches_tracked"):
                tensor = torch.zeros((), dtype=torch.long)
            tensors[f"{part}.{name}"] = _checked(tensor, name, like, path)
            used.add(name)
    if foreign := sorted(given.keys() - used):
        raise ValueError(f"{path} holds more than SPIN's network: {some(foreign)}; {_EXPECTED}, and nothing else.")
    return Published(SpinConfig(backbone=depth), tensors)


def _load(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    try:
        return load_tensors(Path(path))
    except TensorFileError as error:
        raise ValueError(f"{path} is damaged or no file of weights ({first_line(error)}); {_EXPECTED}.") from None


def _weights_in(content: Any, path: str | Path) -> dict[str, Tensor]:
    """The state dictionary in a checkpoint, or the checkpoint itself."""
    if isinstance(content, Mapping):
        inner = next((content[w] for w in _WRAPPERS if isinstance(content.get(w), Mapping)), content)
        if inner and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in inner.items()):
            return dict(inner)
    raise ValueError(f"{path} holds no weights by name; {_EXPECTED}.")


def _plain_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without what was put before them."""

    def plain(name: str) -> str:
        while not name.startswith(_BODY) and (prefix := next((p for p in _PREFIXES if name.startswith(p)), None)):
            name = name.removeprefix(prefix)
        return name

    return {plain(name): tensor for name, tensor in state.items()}


def _depth_of(state: Mapping[str, Tensor], path: str | Path) -> Depth:
    """Which of the residual networks has these blocks."""
    blocks = {".".join(name.split(".")[:2]) for name in state if name.startswith("layer")}
    wide = "layer1.0.conv3.weight" in state
    for depth in DEPTHS:
        with torch.device("meta"):
            names = ResNet(depth).state_dict().keys()
        if wide == ("layer1.0.conv3.weight" in names) and blocks == {
            ".".join(name.split(".")[:2]) for name in names if name.startswith("layer")
        }:
            return depth
    raise ValueError(f"the backbone in {path} is no ResNet-{', '.join(map(str, DEPTHS))}; {_EXPECTED}.")


def _checked(tensor: Tensor | None, name: str, like: Tensor, path: str | Path) -> Tensor:
    if tensor is None:
        remedy = "; give the file of mean parameters that it was trained with" if name in _FIRST_GUESS else ""
        raise ValueError(f"{path} lacks {name}{remedy}; {_EXPECTED}.")
    if tensor.shape != like.shape:
        raise ValueError(f"{name} of {path} has shape {tuple(tensor.shape)}, expected {tuple(like.shape)}.")
    tensor = tensor.to(like.dtype)
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name} of {path} has numbers that are not finite; fetch the file again.")
    return tensor
