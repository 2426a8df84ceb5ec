"""Bodies in SMPL's file format with random but valid numbers, and the pickles that hold them."""

import io
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from kouros.body.skeleton import PARENTS


def smpl_arrays(num_vertices: int = 6890, num_betas: int = 10, seed: int = 0) -> dict[str, Any]:
    """The keys, shapes and types of a body file; magnitudes like a real body's."""
    rng = np.random.default_rng(seed)
    count = num_vertices
    weights = np.zeros((count, 24))
    joints = np.argsort(rng.random((count, 24)), axis=1)[:, :4]
    np.put_along_axis(weights, joints, rng.random((count, 4)) + 0.01, axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    regressor = np.zeros((24, count))
    for row in regressor:
        row[rng.choice(count, 8, replace=False)] = rng.random(8)
    regressor /= regressor.sum(axis=1, keepdims=True)
    parents = np.array([2**32 - 1, *PARENTS[1:]], np.uint32)
    return {
        "v_template": rng.uniform(-1, 1, (count, 3)),
        "shapedirs": rng.normal(0, 0.01, (count, 3, num_betas)),
        "posedirs": rng.normal(0, 0.002, (count, 3, 207)),
        "J_regressor": sparse.csc_matrix(regressor),
        "weights": weights,
        "J": regressor @ rng.uniform(-1, 1, (count, 3)),
        "f": rng.integers(0, count, (2 * count - 4, 3)).astype(np.uint32),
        "kintree_table": np.stack([parents, np.arange(24, dtype=np.uint32)]),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def write_pickle(path: Path, arrays: dict[str, Any], protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(arrays, protocol=protocol, fix_imports=True))
    return path


@contextmanager
def fake_chumpy() -> Iterator[types.SimpleNamespace]:
    """Classes with chumpy's names and attributes, importable only while a pickle is written."""
    names = {"chumpy": (), "chumpy.ch": ("Ch",), "chumpy.reordering": ("Select",)}
    modules, classes = {}, {}
    for module_name, class_names in names.items():
        module = modules[module_name] = types.ModuleType(module_name)
        for name in class_names:
            made = classes[name] = type(name, (), {"__module__": module_name})
            setattr(module, name, made)
    sys.modules.update(modules)
    try:
        yield types.SimpleNamespace(**classes)
    finally:
        for module_name in modules:
            del sys.modules[module_name]


def chumpy_pickle(arrays: dict[str, Any], protocol: int) -> bytes:
    """As the official files: shapedirs selected from a longer list, v_template and J wrapped."""
    with fake_chumpy() as chumpy:

        def ch(array: np.ndarray) -> Any:
            made = chumpy.Ch()
            made.__dict__.update(x=array, _dirty_vars=set() if protocol > 2 else {}, _itr=None)
            return made

        shapedirs = arrays["shapedirs"]
        longer = np.concatenate([shapedirs, np.full((*shapedirs.shape[:2], 3), np.pi)], axis=2)
        select = chumpy.Select()
        select.__dict__.update(
            a=ch(longer),
            idxs=np.arange(longer.size).reshape(longer.shape)[..., : shapedirs.shape[2]].ravel(),
            preferred_shape=shapedirs.shape,
        )
        wrapped = arrays | {"shapedirs": select, "v_template": ch(arrays["v_template"]), "J": ch(arrays["J"])}
        buffer = io.BytesIO()
        pickle.Pickler(buffer, protocol=protocol, fix_imports=True).dump(wrapped)
        return buffer.getvalue()
