"""Weights that torchvision published for ImageNet, for networks with its names and shapes of parameters."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from kouros.sentences import first_line
from kouros.tensors import TensorFileError, check_finite, load_tensors

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of RGB in [0, 1]: what pictures are normalised with before networks that were trained on ImageNet see them."""
IMAGENET_STD = (0.229, 0.224, 0.225)

_WANTED = "expected the state dictionary of torchvision's network of that depth, as it is published for ImageNet"


def load_torchvision(network: nn.Module, path: str | Path, kind: str, left_out: tuple[str, ...]) -> None:
    """Take over published weights.

    Args:
        network: with torchvision's names and shapes of parameters; unchanged where the file is refused.
        kind: what it is called in errors, such as "a ResNet-50".
        left_out: how the names of those parameters in the file begin that the network has not: the classifier's.

    Raises:
        ValueError: not such a file, or one of another network.
        OSError: the file cannot be read.
    """
    try:
        state = load_tensors(Path(path))
    except TensorFileError as error:
        raise ValueError(f"{path} is not a file of weights ({first_line(error)}); {_WANTED}.") from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no network's weights by name; {_WANTED}.")
    try:
        check_finite(state)
    except TensorFileError as error:
        raise ValueError(f"{path} cannot be used: {error}; {_WANTED}.") from None
    ours = network.state_dict()
    # Old files have no counts of batches, which only a momentum of None would need.
    given = {k: v for k, v in state.items() if not k.startswith(left_out)}
    missing = [k for k in ours if k not in given and not k.endswith("num_batches_tracked")]
    foreign = [k for k in given if k not in ours]
    other = [k for k in given if k in ours and given[k].shape != ours[k].shape]
    for problem, names in (("lacks", missing), ("has the unknown", foreign), ("has another shape of", other)):
        if names:
            raise ValueError(f"{path} {problem} {names[0]}: not the weights of {kind}; {_WANTED}.")
    network.load_state_dict(ours | given)
