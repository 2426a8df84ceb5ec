"""Unpickling within a budget: operations, bytes made and kinds of keys, so that no pickle crashes, hangs or floods.

Python's own unpickler hashes any key, however deep (in C, to the end of the stack) or shared (for hours), believes
each index of its memo (gigabytes for nine bytes), and lets a text of a megabyte be copied a thousand times. Here keys
are text and numbers, memory is counted, and the loop is Python's own written in Python, whose memo is a dictionary.
What names may lead to is the subclass's business.

Imports nothing of kouros.
"""

import pickle
import pickletools
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from typing import TYPE_CHECKING, Any

import numpy as np

MAX_OPERATIONS = 5_000_000
"""Of one pickle, at a hundred bytes each at most; a data set's list of a million names has two million."""
MAX_BYTES = 2**30
"""Of one pickle's file, and again of what functions called by it make."""
_LONGEST_KEY = 16
_PLAIN = (str, bytes, int, float, bool, type(None), np.number, np.bool_)
_OPCODE = {op.name: ord(op.code) for op in pickletools.opcodes}


if TYPE_CHECKING:

    class _PythonUnpickler(pickle.Unpickler):
        """What of Python's unpickler in Python is used here."""

        stack: list[Any]
        dispatch: Mapping[int, Callable[[Any], None]]
        append: Callable[[Any], None]
        read: Callable[[int], bytes]

        def pop_mark(self) -> list[Any]: ...

else:
    _PythonUnpickler = pickle._Unpickler


class BoundedUnpickler(_PythonUnpickler):
    """Unpickles plain values; subclasses say in `find_class` what names stand for, and `spend` what that takes."""

    def __init__(self, file: BufferedIOBase, *, encoding: str = "ASCII") -> None:
        super().__init__(file, encoding=encoding)
        self._left = MAX_BYTES
        self.dispatch = _Counted(_DISPATCH)

    def spend(self, count: int) -> None:
        """Note that a call of the pickle makes something of ``count`` bytes.

        Raises:
            pickle.UnpicklingError: that is more than is left.
        """
        self._left -= count
        if self._left < 0:
            raise pickle.UnpicklingError(f"it unpacks to more than {MAX_BYTES // 2**20} MiB")

    def find_class(self, module: str, name: str) -> Any:  # noqa: D102
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, where plain values were expected")

    def may_change(self, value: Any) -> bool:
        """Whether a pickle may set the state of this object."""
        return False

    def _dictionary(self) -> None:
        items = self.pop_mark()
        check_keys(items[::2])
        self.append({items[k]: items[k + 1] for k in range(0, len(items), 2)})

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        check_keys([key])
        self.stack[-1][key] = value

    def _set_items(self) -> None:
        items = self.pop_mark()
        check_keys(items[::2])
        into = self.stack[-1]
        for k in range(0, len(items), 2):
            into[items[k]] = items[k + 1]

    def _frozen_set(self) -> None:
        items = self.pop_mark()
        check_keys(items)
        self.append(frozenset(items))

    def _add_items(self) -> None:
        items = self.pop_mark()
        check_keys(items)
        into = self.stack[-1]
        if not isinstance(into, set):
            raise pickle.UnpicklingError("it adds to what is no set")
        into.update(items)

    def _build(self) -> None:
        if not self.may_change(self.stack[-2]):
            raise pickle.UnpicklingError("it tries to change something that is no container, which may be an attack")
        state = self.stack.pop()
        self.stack[-1].__setstate__(state)

    def _byte_array(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(min(length, MAX_BYTES))))


def check_keys(keys: list[Any]) -> None:
    """Accept text, numbers, and short tuples of them.

    Raises:
        pickle.UnpicklingError: one is something else.
    """
    for key in keys:
        parts = key if type(key) is tuple and len(key) <= _LONGEST_KEY else (key,)
        if not all(isinstance(part, _PLAIN) for part in parts):
            raise pickle.UnpicklingError(f"it has a key that is a {type(key).__name__}, where text was expected")


_DISPATCH: dict[int, Callable[[Any], None]] = dict(_PythonUnpickler.dispatch) | {
    _OPCODE["DICT"]: BoundedUnpickler._dictionary,
    _OPCODE["SETITEM"]: BoundedUnpickler._set_item,
    _OPCODE["SETITEMS"]: BoundedUnpickler._set_items,
    _OPCODE["FROZENSET"]: BoundedUnpickler._frozen_set,
    _OPCODE["ADDITEMS"]: BoundedUnpickler._add_items,
    _OPCODE["BUILD"]: BoundedUnpickler._build,
    _OPCODE["BYTEARRAY8"]: BoundedUnpickler._byte_array,
}


class _Counted(dict[int, Callable[[Any], None]]):
    """What each operation does; ends after too many."""

    def __init__(self, table: dict[int, Callable[[Any], None]]) -> None:
        super().__init__(table)
        self._left = MAX_OPERATIONS

    def __getitem__(self, code: int) -> Callable[[Any], None]:
        self._left -= 1
        if self._left < 0:
            raise pickle.UnpicklingError(f"it has more than {MAX_OPERATIONS:,} operations")
        if code not in self:
            raise pickle.UnpicklingError("it is no pickle, or damaged")
        return super().__getitem__(code)
