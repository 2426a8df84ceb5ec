"""What small trainings of experiments share: a rate that rises and falls, and the running average of the weights."""

import math

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Learning:
    """Steps of one network.

    Args:
        network: what learns.
        optimizer: of its parameters, at the highest rate.
        steps: how many there will be: the rate falls along half a cosine.
        warmup: steps in which it rises.
        decay: of the running average of the weights.
    """

    def __init__(self, network: nn.Module, optimizer: Optimizer, steps: int, warmup: int, decay: float) -> None:
        self._network, self._optimizer = network, optimizer
        self._averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self._schedule = LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
        )

    def step(self, loss: Tensor) -> None:
        """One step down a loss, gradients no longer than 1."""
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._averaged.update_parameters(self._network)

    @property
    def average(self) -> nn.Module:
        """A network with the running average of the weights."""
        return self._averaged.module
