"""Weights of convolutions in a TensorFlow Lite file, in the order in which the network computes them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from kouros.networks import tflite_format as tfl


@dataclass(frozen=True)
class Convolution:
    """One layer's weights as torch has them."""

    weight: Float[Tensor, "outputs inputs rows columns"]
    bias: Float[Tensor, " outputs"]


def convolutions(model: bytes, output_size: int | None = None) -> list[Convolution]:
    """Those between a model's input and its outputs, in the order in which they are computed.

    Args:
        output_size: only those before the output of so many numbers.

    Raises:
        ValueError: not a TensorFlow Lite file, one without such an output, or with weights that are no floats.
    """
    try:
        return list(_convolutions(tfl.Network.read(bytearray(model)), output_size))
    except tfl.DAMAGED as error:
        raise ValueError(f"the TensorFlow Lite model is damaged, or its weights are no floats ({error!r}).") from error


def take_over(network: nn.Module, published: Sequence[Convolution], expected: str) -> None:
    """Give a network's convolutions, in the order in which it has them, the weights of as many published ones.

    Args:
        expected: what is said when they do not fit.

    Raises:
        ValueError: their number or their shapes are not the network's.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    if [layer.weight.shape for layer in layers] != [convolution.weight.shape for convolution in published]:
        raise ValueError(f"the model's convolutions are not the network's; {expected}.")
    with torch.no_grad():
        for layer, convolution in zip(layers, published, strict=True):
            layer.weight.copy_(convolution.weight)
            if layer.bias is not None:
                layer.bias.copy_(convolution.bias)
            elif convolution.bias.any():
                raise ValueError(f"the model has a bias where the network has none; {expected}.")


def _convolutions(network: tfl.Network, output_size: int | None) -> Iterator[Convolution]:
    made_by = {o: n for n, operator in enumerate(network.operators) for o in operator.integers(tfl.OPERATOR_OUTPUTS)}
    wanted = network.outputs
    if output_size is not None:
        wanted = [o for o in wanted if np.prod(network.shape(o)) == output_size]
        if len(wanted) != 1:
            raise ValueError(f"the TensorFlow Lite model has {len(wanted)} outputs of {output_size} numbers, not one.")
    needed: set[int] = set()
    while wanted:
        number = made_by.get(wanted.pop())
        if number is not None and number not in needed:
            needed.add(number)
            wanted += network.operators[number].integers(tfl.OPERATOR_INPUTS).tolist()

    def weight(tensor: int) -> np.ndarray:
        if tensor in made_by:  # half precision, which the file stores, widened by an operator of its own
            if network.kinds[made_by[tensor]] != tfl.DEQUANTIZE:
                raise KeyError("weights that are computed")
            (source,) = network.operators[made_by[tensor]].integers(tfl.OPERATOR_INPUTS).tolist()
            return weight(source)
        numbers = network.constant(tensor)
        if numbers is None or numbers.dtype.kind != "f":
            raise KeyError("no weights, or weights that are no floats")
        return numbers.reshape(network.shape(tensor)).astype(np.float32)

    for number in sorted(needed):
        if network.kinds[number] in (tfl.CONV, tfl.DEPTHWISE):
            _, kernel, bias = network.operators[number].integers(tfl.OPERATOR_INPUTS).tolist()
            # Stored as (outputs, rows, columns, inputs); depthwise ones as (1, rows, columns, outputs).
            order = (3, 0, 1, 2) if network.kinds[number] == tfl.DEPTHWISE else (0, 3, 1, 2)
            yield Convolution(
                torch.from_numpy(np.ascontiguousarray(weight(kernel).transpose(order))), torch.from_numpy(weight(bias))
            )
