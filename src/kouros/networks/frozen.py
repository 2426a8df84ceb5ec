"""Networks that others made, inside a system: moved with it, but neither trained nor saved."""

import copy
from typing import TypeVar

from torch import nn

_M = TypeVar("_M", bound=nn.Module)


def frozen_copy(module: _M) -> _M:
    """A copy in evaluation mode whose numbers are buffers that no checkpoint holds.

    What is shipped with kouros or belongs to somebody else must not travel in the weights of what is trained with it.
    """
    copied = copy.deepcopy(module).eval()
    for part in copied.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach(), persistent=False)
        for name, buffer in list(part.named_buffers(recurse=False)):
            part.register_buffer(name, buffer, persistent=False)
    return copied
