"""Files of tensors as torch writes them, from strangers: checksums compared, pickles tried within a budget first.

Torch itself ignores an archive's checksums, so that a damaged network would be judged silently, and its unpickler
hashes whatever a pickle calls a key.

Imports nothing of kouros but `kouros.pickles`.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kouros.pickles import BoundedUnpickler

_CHUNK = 2**20
_PICKLE_BYTES = 64 * 2**20
"""Of the pickle that describes the tensors, which lie beside it."""
_OLD_PICKLES = 4
"""Of files before torch 1.6: magic number, version, system and content follow each other."""


class TensorFileError(ValueError):
    """A file that is damaged or holds something else; the message says "it ...", without the file's name."""


def load_tensors(path: Path, *, mapped: bool = False) -> Any:
    """What `torch.save` wrote, on the CPU; nothing but tensors and plain values is ever constructed.

    Args:
        path: the file.
        mapped: leave large tensors on the disk until they are used; their checksums are compared nonetheless.

    Raises:
        TensorFileError: it is damaged or no such file.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    try:
        _check_archive(path) if zipped else _check_old(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipped)
    except TensorFileError:
        raise
    except Exception as error:  # torch, zipfile and pickle each have their own
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise TensorFileError(f"it is damaged or no file of tensors: {said[:300]}") from error


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """See that weights are numbers of the precision that networks have.

    Raises:
        TensorFileError: one of them is NaN, or infinite in float32.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise TensorFileError(f"its weights {name} are not all finite")


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(m.compress_type != zipfile.ZIP_STORED for m in members):
            raise TensorFileError("it is compressed, which torch's files are not")
        if sum(m.file_size for m in members) > path.stat().st_size:
            raise TensorFileError("its parts are larger than the file")
        for member in members:
            with archive.open(member) as stream:  # its checksum is compared at the end
                if member.filename.endswith(".pkl"):
                    _try(io.BytesIO(stream.read(_PICKLE_BYTES)))
                while stream.read(_CHUNK):
                    pass


def _check_old(path: Path) -> None:
    with path.open("rb") as file:
        content = io.BytesIO(file.read(_PICKLE_BYTES))
    for _ in range(_OLD_PICKLES):
        _try(content)


def _try(content: io.BytesIO) -> None:
    _Trial(content, encoding="utf-8").load()


class _Trial(BoundedUnpickler):
    """Goes through a pickle without making what it names; which names are allowed is torch's to say."""

    def find_class(self, module: str, name: str) -> Any:
        self.spend(100)
        return _Made

    def persistent_load(self, _: Any) -> Any:
        return None

    def may_change(self, value: Any) -> bool:
        return isinstance(value, _Made)


class _Made(dict[Any, Any]):
    """Stands in for everything; a dictionary, because ordered ones are named, too."""

    def __init__(self, *_: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        """Keeps nothing."""
