"""Values whose rows belong together: choosing rows, joining batches, moving to a device, written once for all of them.

A frozen dataclass of tensors whose first axis counts people (or samples) derives from `Batched`. Fields may also be
such values themselves, dictionaries of tensors, or None where something is not known; the rest is carried along.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

_B = TypeVar("_B", bound="Batched")


class Batched:
    """Base of frozen dataclasses of tensors with a common first axis."""

    def map(self: _B, change: Callable[[Tensor], Tensor]) -> _B:
        """The same value with every tensor changed."""
        assert is_dataclass(self)
        return replace(self, **{f.name: _mapped(getattr(self, f.name), change) for f in fields(self)})

    def __getitem__(self: _B, rows: Tensor | slice | int | tuple[slice | int, ...]) -> _B:
        """The chosen rows: by indices, a mask or a slice; by a number one row, without its axis."""
        return self.map(lambda tensor: tensor[rows])

    def to(self: _B, target: torch.device | str | Tensor) -> _B:
        """On another device; given a tensor, on its device and, of floating numbers, with its type."""
        if isinstance(target, Tensor):
            return self.map(lambda t: t.to(target) if t.is_floating_point() else t.to(target.device))
        return self.map(lambda t: t.to(target))

    def detach(self: _B) -> _B:
        """Without gradients."""
        return self.map(Tensor.detach)


def concatenate(parts: Sequence[_B]) -> _B:
    """Batches one after the other. All must know the same."""
    return _joined(parts, lambda tensors: torch.cat(list(tensors)))


def stack(rows: Sequence[_B]) -> _B:
    """Single rows as a batch. All must know the same."""
    return _joined(rows, lambda tensors: torch.stack(list(tensors)))


def choose(where: Tensor, first: _B, second: _B) -> _B:
    """Row by row, ``first`` where the mask is set, else ``second``. Both must know the same."""
    return _joined([first, second], lambda two: torch.where(where.view(-1, *[1] * (two[0].ndim - 1)), two[0], two[1]))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Batched):
        return value.map(change)
    if isinstance(value, Mapping):
        return {name: _mapped(each, change) for name, each in value.items()}
    return value


def _joined(parts: Sequence[Any], join: Callable[[Sequence[Tensor]], Tensor]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return join(parts)
    if isinstance(first, Batched):
        assert is_dataclass(first)
        return replace(first, **{f.name: _joined([getattr(p, f.name) for p in parts], join) for f in fields(first)})
    if isinstance(first, Mapping):
        return {name: _joined([p[name] for p in parts], join) for name in first}
    if any(part is not first and part != first for part in parts):
        raise ValueError(f"batches that differ in {first!r} and others cannot be joined.")
    return first
