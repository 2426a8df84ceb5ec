"""Reading pickles from strangers: arrays and inert containers come out, and nothing else can happen.

A pickle is a program that may call anything it can name. Here no name leads to anything real: what stands in
for numpy's, scipy's and chumpy's names are the few classes and functions of this module, which keep what they
are given, and any other name ends the reading. Neither chumpy nor scipy is needed, nor numpy's unpickling.

Written for SMPL's files: Python 2 pickles of protocol 0 and 2 (strings are latin-1) with chumpy arrays and
scipy's sparse matrices. Pickles of today's Python work as well, and so do scikit-learn's mixtures, in which
some pose priors are published, and data sets' dictionaries of arrays (`as_plain`).
"""

import io
import math
import pickle
from collections.abc import Callable
from io import BufferedIOBase
from types import FunctionType
from typing import Any

import numpy as np

from kouros.pickles import MAX_BYTES, BoundedUnpickler, check_keys

_INERT_PACKAGES = ("chumpy", "scipy.sparse", "sklearn.mixture")
_MAX_DEPTH = 20
"""Of chumpy expressions within chumpy expressions, and of lists within lists."""
_MAX_ITEMS = 20_000_000
"""Of nested lists, each counted as often as it appears: what numpy would look at."""
_CLASS_BYTES = 2000


def read_pickle(file: BufferedIOBase) -> Any:
    """The object in a pickle file: plain values, arrays as `StoredArray`, other objects as `StoredObject`.

    Raises:
        pickle.UnpicklingError: the file is damaged, would take too much, or names what is neither array nor container.
    """
    content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise pickle.UnpicklingError(f"it has more than {MAX_BYTES // 2**20} MiB")
    try:
        # From memory: a file would reserve whatever length a damaged operation asks for.
        return _RestrictedUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError:
        raise
    except EOFError as error:
        raise pickle.UnpicklingError("it ends too early") from error
    except Exception as error:  # a hostile or damaged stream can make any operation fail
        raise pickle.UnpicklingError(f"its contents are damaged ({str(error)[:200]})") from error


def as_array(value: Any, _depth: int = 0) -> np.ndarray:
    """A dense array from what `read_pickle` gives: arrays, numbers, sparse matrices, chumpy arrays.

    Raises:
        TypeError: it is none of these.
        ValueError: its parts do not fit together.
    """
    if _depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(value, (StoredArray, np.ndarray)):
        array = value if isinstance(value, np.ndarray) else value.array
        # An .npz file wraps a sparse matrix into an array of no dimensions.
        return as_array(array[()], _depth + 1) if array.dtype.hasobject and array.ndim == 0 else array
    if isinstance(value, StoredObject):
        state = value.state
        if value.module.startswith("scipy.sparse"):
            return _dense(value.name, {k: _array_or_plain(v, _depth) for k, v in state.items()})
        if value.name == "Select":
            selected = as_array(state.get("a"), _depth + 1).ravel()[as_array(state.get("idxs"), _depth + 1)]
            shape = state.get("preferred_shape")
            return selected if shape is None else selected.reshape(_shape(_array_or_plain(shape, _depth)))
        if "x" in state:
            return as_array(state["x"], _depth + 1)
        raise TypeError(f"it is a {value.module}.{value.name}, which holds no array")
    if isinstance(value, (bool, int, float)):
        return np.asarray(value)
    if isinstance(value, (list, tuple)):
        _count_items(value)
        return np.asarray(value, dtype=np.float64)
    raise TypeError(f"it is a {type(value).__name__}")


def as_plain(value: Any) -> Any:
    """What `read_pickle` gives, with numpy's arrays in place of the stored ones, to any depth.

    Raises:
        TypeError: there is something else than arrays, plain values and their containers.
        ValueError: containers are nested too deeply, in themselves, or so that one is there too many times.
    """
    return _plain(value, {}, 0)


def _plain(value: Any, made: dict[int, Any], depth: int) -> Any:
    # A pickle may hold one container in many places: each is made once.
    if id(value) in made:
        return made[id(value)]
    if depth > _MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(value, StoredArray):
        array = value.array.copy()
        made[id(value)] = array
        if array.dtype.hasobject:
            array[...] = _objects([_plain(v, made, depth + 1) for v in array.flat]).reshape(array.shape)
        return array
    if isinstance(value, dict):
        plain: dict[Any, Any] = {}
        made[id(value)] = plain  # before it is filled: it may be in itself
        plain.update((k, _plain(v, made, depth + 1)) for k, v in value.items())
        return plain
    if isinstance(value, (list, tuple)):
        _count_items(value)  # before numpy, to which such lists are given, would
        made[id(value)] = sequence = type(value)(_plain(v, made, depth + 1) for v in value)
        return sequence
    if value is None or isinstance(
        value, (bool, int, float, complex, str, bytes, bytearray, set, frozenset, np.generic)
    ):
        return value
    if isinstance(value, StoredObject):
        raise TypeError(f"it holds a {value.module}.{value.name}, where arrays and plain values were expected")
    raise TypeError(f"it holds a {type(value).__name__}, where arrays and plain values were expected")


def _count_items(value: list[Any] | tuple[Any, ...]) -> None:
    """Raises ValueError where a list, whose parts may be in it many times, is larger or deeper than any array."""
    sizes: dict[int, int] = {}

    def size(part: Any, depth: int) -> int:
        if not isinstance(part, (list, tuple)):
            return 1
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        if id(part) not in sizes:
            total = 1 + sum(size(p, depth + 1) if isinstance(p, (list, tuple)) else 1 for p in part)
            if total > _MAX_ITEMS:
                raise ValueError("its lists unfold to too many items")
            sizes[id(part)] = total
        return sizes[id(part)]

    size(value, 0)


class StoredArray:
    """Stands in for ``numpy.ndarray``; `array` is what its pickled state describes."""

    array: np.ndarray

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran_order, data = state[-4:]
        self.array = _array(dtype, _shape(shape), data, "F" if fortran_order else "C")


class StoredType:
    """Stands in for ``numpy.dtype``: a code such as ``f8`` and a byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code = code
        self.byte_order = "="

    def __setstate__(self, state: Any) -> None:
        if state[3] is not None or state[2] is not None:
            raise pickle.UnpicklingError("it holds an array of records, where numbers were expected")
        self.byte_order = state[1] if state[1] in ("<", ">") else "="

    @property
    def dtype(self) -> np.dtype:
        """The type of numbers."""
        code = self.code
        if not isinstance(code, str) or not code or code[0] not in "biufOSU":
            raise pickle.UnpicklingError(f"it holds an array of type {code!r}, where numbers were expected")
        return np.dtype(self.byte_order + code)


class StoredObject:
    """Stands in for the classes of `_INERT_PACKAGES`: keeps its attributes in `state`, does nothing."""

    module = ""
    name = ""

    def __init__(self, *_: Any) -> None:
        self.state: dict[str, Any] = {}

    def __new__(cls, *_: Any) -> "StoredObject":  # noqa: D102
        # A pickle may make objects without calling __init__.
        made = super().__new__(cls)
        made.state = {}
        return made

    def __setstate__(self, state: Any) -> None:
        # Classes with slots pickle a pair of dictionaries.
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.state |= {str(k): v for k, v in part.items()}


class _RestrictedUnpickler(BoundedUnpickler):
    def __init__(self, file: BufferedIOBase, *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self._found: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._found:
            self.spend(_CLASS_BYTES)
            self._found[module, name] = self._stand_in(module, name)
        return self._found[module, name]

    def _stand_in(self, module: str, name: str) -> Any:
        if (module, name) in _STAND_INS:
            found = _STAND_INS[module, name]
            return _Function(found, self.spend) if isinstance(found, FunctionType) else found
        if "." not in name and any(f"{module}.".startswith(f"{package}.") for package in _INERT_PACKAGES):
            return type("StoredObject", (StoredObject,), {"module": module, "name": name, "__slots__": ()})
        raise pickle.UnpicklingError(
            f"it asks for {module[:80]}.{name[:80]}, which is neither an array nor a container and may be an attack"
        )

    def may_change(self, value: Any) -> bool:
        if not isinstance(value, (StoredArray, StoredType, StoredObject)):
            return False
        # The state is copied into the object: a state that is in the file once can be set many times.
        self.spend(_size(self.stack[-1]))
        return True


class _Function:
    """A function that a pickle may call; what its arguments take is spent, because they may be given many times."""

    __slots__ = ("_call", "_spend")

    def __init__(self, call: Callable[..., Any], spend: Callable[[int], None]) -> None:
        self._call = call
        self._spend = spend

    def __call__(self, *arguments: Any) -> Any:
        self._spend(100 + sum(map(_size, arguments)))
        return self._call(*arguments)


def _size(value: Any) -> int:
    """Bytes that a copy of this takes, at least; of containers without what is in them."""
    if isinstance(value, (str, bytes, bytearray)):
        return len(value)
    if isinstance(value, (tuple, list)):
        return 16 * len(value) + sum(_size(v) for v in value if isinstance(v, (str, bytes, bytearray, dict, list)))
    return 100 * len(value) if isinstance(value, dict) else 16


def _reconstruct(kind: Any, base: Any = object, state: Any = None) -> Any:
    """``copyreg._reconstructor``: an object of a class, not yet initialized."""
    if not (isinstance(kind, type) and issubclass(kind, StoredObject)):
        raise pickle.UnpicklingError("it makes an object of a class that holds no array")
    return kind()


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """``_codecs.encode``: how protocol 2 writes bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("it holds text in an unknown encoding")
    return text.encode("latin1")


def _scalar(kind: StoredType, data: Any) -> Any:
    """``numpy.core.multiarray.scalar``."""
    return _array(kind, (1,), data, "C")[0]


def _from_buffer(data: Any, kind: StoredType, shape: Any, order: Any = "C") -> StoredArray:
    """``numpy.core.numeric._frombuffer``: how protocol 5 writes arrays."""
    made = StoredArray()
    made.array = _array(kind, _shape(shape), data, "F" if order == "F" else "C")
    return made


def _new_array(*_: Any) -> StoredArray:
    """``numpy.core.multiarray._reconstruct``: an array whose state is yet to come."""
    return StoredArray()


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    """``collections.OrderedDict``."""
    made = list(pairs.items()) if isinstance(pairs, dict) else [(key, value) for key, value in pairs]
    check_keys([key for key, _ in made])
    return dict(made)


class _BareObject:
    """Stands in for ``object`` as an argument."""


_NUMPY = {
    ("multiarray", "_reconstruct"): _new_array,
    ("multiarray", "scalar"): _scalar,
    ("numeric", "_frombuffer"): _from_buffer,
}
_STAND_INS: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.{m}", n): f for core in ("core", "_core") for (m, n), f in _NUMPY.items()},
    ("numpy", "ndarray"): StoredArray,
    ("numpy", "dtype"): StoredType,
    ("copy_reg", "_reconstructor"): _reconstruct,
    ("copyreg", "_reconstructor"): _reconstruct,
    ("__builtin__", "object"): _BareObject,
    ("builtins", "object"): _BareObject,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered,
}


def _shape(value: Any) -> tuple[int, ...]:
    if len(value) > 8:
        raise pickle.UnpicklingError("it holds an array of impossible shape")
    shape = tuple(int(n) for n in np.ravel(value)) if isinstance(value, np.ndarray) else tuple(value)
    if not all(isinstance(n, int) and n >= 0 for n in shape):
        raise pickle.UnpicklingError("it holds an array of impossible shape")
    return shape


def _array(kind: StoredType, shape: tuple[int, ...], data: Any, order: Any) -> np.ndarray:
    """An array whose size is that of the data: a pickle cannot ask for memory that it does not fill."""
    if not isinstance(kind, StoredType):
        raise pickle.UnpicklingError("it holds an array of unknown type")
    dtype, count = kind.dtype, math.prod(shape)
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise pickle.UnpicklingError("it holds an array that is shorter or longer than its shape")
        return _objects(data).reshape(shape)  # objects are listed row by row, whatever the order in memory
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if len(raw) != count * dtype.itemsize:
        raise pickle.UnpicklingError("it holds an array that is shorter or longer than its shape")
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order=order)


def _objects(items: list[Any]) -> np.ndarray:
    """An array of objects; assigned one by one, because numpy would unfold lists and arrays among them."""
    made = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        made[index] = item
    return made


def _array_or_plain(value: Any, depth: int) -> Any:
    return as_array(value, depth + 1) if isinstance(value, (StoredArray, StoredObject)) else value


def _dense(name: str, state: dict[str, Any]) -> np.ndarray:
    """Dense form of scipy's compressed and coordinate matrices."""
    shape = _shape(state.get("_shape", state.get("shape", ())))
    if len(shape) != 2 or math.prod(shape) > 10**8:
        raise ValueError(f"it is a sparse matrix of shape {shape}")
    if isinstance(state.get("coords"), tuple) and len(state["coords"]) == 2:  # scipy's newer name
        state = state | {"row": state["coords"][0], "col": state["coords"][1]}
    if "data" not in state or not ({"indices", "indptr"} <= state.keys() or {"row", "col"} <= state.keys()):
        raise TypeError(f"it is a scipy.sparse {name}; store it as csc_matrix")
    data = np.asarray(state["data"])
    if "indptr" in state:
        along = 0 if name.startswith("csr") else 1
        ends = np.asarray(state["indptr"]).astype(np.int64)
        steps = ends[1:] - ends[:-1]
        if len(steps) != shape[along] or (steps < 0).any() or steps.sum() != len(data):
            raise ValueError("its sparse matrix has inconsistent parts")
        outer, inner = np.repeat(np.arange(len(steps)), steps), np.asarray(state["indices"]).astype(np.int64)
        row, col = (outer, inner) if along == 0 else (inner, outer)
    else:
        row, col = (as_array(state[k]).astype(np.int64) for k in ("row", "col"))
    if len({len(row), len(col), len(data)}) != 1 or (len(row) and min(row.min(), col.min()) < 0):
        raise ValueError("its sparse matrix has inconsistent parts")
    dense = np.zeros(shape, data.dtype)
    np.add.at(dense, (row, col), data)  # entries of the same place add up, as in scipy
    return dense
