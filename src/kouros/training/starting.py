"""Beginning with the weights of other runs: whole, or only what a stage has in common with the one before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kouros.sentences import some
from kouros.systems.system import System
from kouros.training.packed_weights import packed_tensors, read_packed
from kouros.training.runs import RunFolder
from kouros.training.weights import learned_state, load_learned, read_weights


@dataclass(frozen=True)
class Taken:
    """Which weights of a file a system begins with. Told once, and kept in the run's configuration."""

    origin: str
    tensors: Mapping[str, Tensor]
    """What was taken, by the system's own names."""
    fresh: Sequence[str]
    """The system's weights that stay as they were."""
    left: Sequence[str]
    """The file's weights that nobody wanted."""

    @property
    def described(self) -> dict[str, Any]:
        """As JSON."""
        taken = sorted(self.tensors) if self.fresh or self.left else "all"
        return {"from": self.origin, "taken": taken, "fresh": list(self.fresh), "left": list(self.left)}

    def __str__(self) -> str:
        parts = [f"{len(self.tensors)} weights from {self.origin}"]
        parts += [f"{len(self.fresh)} stay as they begin ({some(self.fresh)})"] if self.fresh else []
        parts += [f"{len(self.left)} of its are left ({some(self.left)})"] if self.left else []
        return "; ".join(parts)


def load_partial(
    system: nn.Module, tensors: Mapping[str, Tensor], take: Mapping[str, str] | Sequence[str], origin: str
) -> Taken:
    """Give a system some of the weights that another one learned.

    Args:
        take: names of the system's weights, or the beginnings of several, with their dot (``"backbone."``); where the
            other one calls them differently, with its names. "" is all of them.
        origin: where they are from, to be told.

    Raises:
        ValueError: nothing is called so here or there, or shapes differ; the system stays as it was.
    """

    def begins(name: str) -> bool:
        return name == "" or name.endswith(".")

    own = learned_state(system)
    wanted = dict(take) if isinstance(take, Mapping) else {name: name for name in take}
    taken: dict[str, Tensor] = {}
    used = set()
    for ours, theirs in wanted.items():
        found = {k: theirs + k.removeprefix(ours) for k in own if k == ours or (begins(ours) and k.startswith(ours))}
        missing = sorted(k for k in found.values() if k not in tensors)
        if not found or missing:
            what = f"lacks {some(missing)}" if found else f"cannot give {ours!r}, which this system has not"
            raise ValueError(f"{origin} {what}; name a run whose weights this system begins with.")
        for name, there in found.items():
            if own[name].shape != tensors[there].shape:
                raise ValueError(
                    f"{origin} does not fit this system: {there} is {tuple(tensors[there].shape)}, expected "
                    f"{tuple(own[name].shape)}; use a run of the same sizes."
                )
        taken |= {name: tensors[there] for name, there in found.items()}
        used |= set(found.values())
    with torch.no_grad():
        for name, tensor in taken.items():
            own[name].copy_(tensor)
    fresh, left = sorted(own.keys() - taken.keys()), sorted(tensors.keys() - used)
    return Taken(origin, taken, fresh, left)


def read_starts(system: System, whole: Path | None) -> list[Taken]:
    """Read and check what a run begins with: its system's `starts`, and last what replaces all of it.

    Args:
        whole: a run, packed or not, or weights of the same configuration.

    Raises:
        ValueError: a file does not fit.
        OSError: a file cannot be read.
    """
    taken = [load_partial(system, _tensors(s.weights), s.take, str(s.weights)) for s in system.starts()]
    if whole is not None:
        packed = RunFolder(whole).packed
        tensors = read_packed(system, packed) if packed.is_file() else _tensors(whole)
        load_learned(system, tensors, str(whole))
        taken.append(Taken(str(whole), tensors, (), ()))
    return taken


def start_from(system: System, taken: Sequence[Taken]) -> None:
    """Do again what `read_starts` has tried."""
    own = learned_state(system)
    with torch.no_grad():
        for each in taken:
            for name, tensor in each.tensors.items():
                own[name].copy_(tensor)


def _tensors(path: Path) -> Mapping[str, Tensor]:
    packed = RunFolder(path).packed
    if packed.is_file():  # without the trunk, if it is a published one that was held
        return packed_tensors(packed)
    return read_weights(RunFolder(path).weights if path.is_dir() else path).tensors
