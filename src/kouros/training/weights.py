"""Files of a system's weights: what training learned. Body models, which have owners of their own, are not in them.

A file is a torch archive of tensors and plain values only, read with ``weights_only=True``:
``{"kouros_weights": 1, "system": name, "steps": number, "weights": {name: tensor}}``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kouros.files import aside_of
from kouros.sentences import first_line, some
from kouros.tensors import TensorFileError, check_finite, load_tensors

WEIGHTS_VERSION = 1


@dataclass(frozen=True)
class Weights:
    """What a file of weights holds."""

    system: str
    steps: int
    tensors: Mapping[str, Tensor]


def learned_state(system: nn.Module) -> dict[str, Tensor]:
    """A system's parameters and buffers by name. Not copied."""
    return {k: v.detach() for k, v in system.state_dict().items()}


def load_learned(system: nn.Module, tensors: Mapping[str, Tensor], origin: str) -> None:
    """Give a system the weights that another of its kind learned.

    Args:
        origin: where they are from, for the error.

    Raises:
        ValueError: they do not fit; the system stays as it was.
    """
    own = learned_state(system)
    missing, foreign = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or foreign:
        parts = [f"lacks {some(missing)}"] * bool(missing) + [f"has {some(foreign)} besides"] * bool(foreign)
        raise ValueError(
            f"{origin} does not fit this system: it {' and '.join(parts)}; use the configuration it was trained with."
        )
    for name, tensor in own.items():
        if tensor.shape != tensors[name].shape:
            raise ValueError(
                f"{origin} does not fit this system: {name} is {tuple(tensors[name].shape)}, expected "
                f"{tuple(tensor.shape)}; use the configuration it was trained with."
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def save_weights(path: Path, weights: Weights) -> None:
    """Write a file of weights, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    tensors = {k: v.detach().cpu() for k, v in weights.tensors.items()}
    content = {"kouros_weights": WEIGHTS_VERSION, "system": weights.system, "steps": weights.steps, "weights": tensors}
    save_archive(path, content)


def read_weights(path: Path) -> Weights:
    """Read a file of weights.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or of another version.
    """
    content = load_archive(path)
    version = content.get("kouros_weights") if isinstance(content, dict) else None
    if version is None:
        raise ValueError(f"{path} holds no weights of kouros; expected a weights.pt that training wrote.")
    if version != WEIGHTS_VERSION:
        raise ValueError(
            f"{path} has version {version} of the weights' format, this kouros reads {WEIGHTS_VERSION}; "
            "use the kouros that wrote it."
        )
    system, steps, weights = (content.get(key) for key in ("system", "steps", "weights"))
    named = isinstance(weights, dict) and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items())
    if not isinstance(system, str) or not isinstance(steps, int) or not isinstance(weights, dict) or not named:
        raise ValueError(f"{path} holds no weights by name; expected a weights.pt that training wrote.")
    try:
        check_finite(weights)
    except TensorFileError as error:
        raise ValueError(f"{path} cannot be used: {error}; train again, or get the file again.") from None
    return Weights(system, steps, weights)


def save_archive(path: Path, content: Any) -> None:
    """Write tensors and plain values as torch does, aside first, so that no half-written file is ever seen.

    Raises:
        OSError: it cannot be written; what was there before stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_of(path)
    file = None
    try:
        with aside.open("xb") as file:
            writer = _Remembering(file)
            try:
                torch.save(content, writer)  # type: ignore[arg-type]
            except Exception as error:
                # torch hides why a write failed in an error of its own.
                raise writer.error or error from None
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def load_archive(path: Path, *, mapped: bool = False) -> Any:
    """Read what `save_archive` wrote, onto the CPU; nothing but tensors and plain values is ever constructed.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged or no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file.")
    with path.open("rb"):
        pass  # who may not read it hears that, and not that it is damaged
    try:
        return load_tensors(path, mapped=mapped)
    except TensorFileError as error:
        raise ValueError(f"{path} is damaged or no file of tensors ({first_line(error)}).") from None


class _Remembering:
    """A file that remembers why a write failed."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()
