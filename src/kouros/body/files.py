"""Reading body files: the free body inside the package, and licensed SMPL files as distributed.

Files come from strangers: pickles, also those inside .npz files, go through `kouros.body.unpickling`, and
every array is checked for its shape and for NaN before anything is built from it.
"""

import pickle
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kouros.archives import ArchiveError, read_all_npz, read_npy
from kouros.body.keypoints import KEYPOINT_SETS, SMPL24
from kouros.body.model import BodyArrays, BodyModel
from kouros.body.regressors import KeypointRows
from kouros.body.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS
from kouros.body.smpl_keypoints import (
    EXTRA_REGRESSOR,
    H36M_REGRESSOR,
    NUM_VERTICES,
    joints_only,
    smpl_keypoint_rows,
)
from kouros.body.unpickling import as_array, read_pickle

FREE_BODY = Path(__file__).with_name("free_body.npz")
DEFAULT_BETAS = 10
"""Of the 300 that some SMPL files hold, as many as older files have and published betas mean."""
_NUM_FEATURES = 9 * (NUM_JOINTS - 1)


class BodyFileError(ValueError):
    """A file that is not the body file, or regressor file, that it was given as."""


def load_body(
    path: str | Path | None = None,
    *,
    num_betas: int | None = None,
    dtype: torch.dtype = torch.float32,
    extra_regressor: str | Path | None = None,
    h36m_regressor: str | Path | None = None,
) -> BodyModel:
    """The free body, or the body in an SMPL file.

    Args:
        path: an SMPL file, ``.pkl`` as distributed or ``.npz``, of any gender; None for the free body.
        num_betas: how many shape coefficients to use; by default 10, or all if there are fewer. Of the free body four
            more describe growth (`kouros.body.growth`).
        dtype: of the body's arrays and of what it computes.
        extra_regressor: SPIN's ``J_regressor_extra.npy``, for lsp14, mpii16 and spin49 on an SMPL body; by default
            the file of this name beside the body's, if there is one.
        h36m_regressor: ``J_regressor_h36m.npy``, for h36m17 and mpi_inf_3dhp17 on an SMPL body; default: likewise.

    Raises:
        FileNotFoundError: there is no such file.
        BodyFileError: a file holds something else, or is damaged.
        ValueError: the file has fewer than ``num_betas`` coefficients.
    """
    source = FREE_BODY if path is None else Path(path)
    if source.is_dir():
        raise BodyFileError(f"{source} is a folder; pass the body file in it (.pkl or .npz).")
    if not source.is_file():
        raise FileNotFoundError(
            f"There is no body file {source}; pass an SMPL .pkl or .npz, or no path for the free body."
        )
    file = _File(source, _read(source))
    if "J_regressor_row" in file.values:
        arrays = _free_body(file, num_betas, dtype)
    else:
        arrays = _smpl_body(file, num_betas, dtype, extra_regressor, h36m_regressor)
    return BodyModel(arrays, source)


def shared_body(path: Path | None = None, num_betas: int | None = None) -> BodyModel:
    """The body that `load_body` reads, read once in a process.

    Raises:
        FileNotFoundError, BodyFileError, ValueError: as `load_body`.
    """
    return _read_once(path, None if num_betas == DEFAULT_BETAS else num_betas)


@lru_cache(maxsize=4)
def _read_once(path: Path | None, num_betas: int | None) -> BodyModel:
    return load_body(path, num_betas=num_betas)


class _File:
    """The named values of a body file, read and checked one by one."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path = path
        self.values = values

    def array(self, key: str, *shape: int | None) -> np.ndarray:
        """A finite array; None in ``shape`` stands for any length."""
        if key not in self.values:
            raise BodyFileError(
                f"{self.path} has no {key!r}; an SMPL body file has v_template, shapedirs, posedirs, "
                f"J_regressor, weights, f and kintree_table. Pass such a file."
            )
        try:
            array = as_array(self.values[key])
        except (TypeError, ValueError, IndexError) as error:
            raise BodyFileError(f"{self.path}: {key} is not an array ({error}); get the file again.") from error
        if array.dtype.kind not in "fiub":
            raise BodyFileError(f"{self.path}: {key} holds no numbers; get the file again.")
        fits = len(shape) == array.ndim and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise BodyFileError(
                f"{self.path}: {key} has shape {array.shape} but must be ({wanted}); pass an SMPL body file."
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise BodyFileError(f"{self.path}: {key} holds NaN or infinity; get the file again.")
        return array

    def floats(self, key: str, dtype: torch.dtype, *shape: int | None) -> Tensor:
        """The same as a tensor."""
        return self.converted(key, _tensor(self.array(key, *shape)), dtype)

    def converted(self, key: str, numbers: Tensor, dtype: torch.dtype) -> Tensor:
        """Numbers of the file in a type in which they may turn out too large."""
        converted = numbers.to(dtype)
        if not torch.isfinite(converted).all():
            raise BodyFileError(f"{self.path}: {key} holds numbers too large for {dtype}; get the file again.")
        return converted

    def indices(self, key: str, below: int, *shape: int | None) -> Tensor:
        """Indices, each in 0 .. ``below`` - 1."""
        array = self.array(key, *shape)
        if array.size and (array.min() < 0 or array.max() >= below):
            raise BodyFileError(f"{self.path}: {key} points outside 0 .. {below - 1}; get the file again.")
        return _tensor(array.astype(np.int64))


def _tensor(array: np.ndarray) -> Tensor:
    """A tensor that owns writable memory in the machine's byte order."""
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _free_body(file: _File, num_betas: int | None, dtype: torch.dtype) -> BodyArrays:
    v_template = file.floats("v_template", dtype, None, 3)
    count = len(v_template)

    def entries(prefix: str, rows: int) -> tuple[Tensor, Tensor, Tensor]:
        row = file.indices(f"{prefix}_row", rows, None)
        col = file.indices(f"{prefix}_col", count, len(row))
        return row, col, file.floats(f"{prefix}_val", dtype, len(row))

    def rows(name: str) -> KeypointRows:
        # A posed body's joints are known exactly; its regressor is exact only at rest.
        if name == SMPL24.name:
            return joints_only(count, dtype)
        keypoints = len(KEYPOINT_SETS[name])
        row, col, value = entries(f"keypoints_{name}", keypoints)
        used, place = torch.unique(col, return_inverse=True)
        vertices = torch.zeros(keypoints, len(used), dtype=dtype)
        vertices.index_put_((row, place), value, accumulate=True)
        return KeypointRows(torch.zeros(keypoints, NUM_JOINTS, dtype=dtype), vertices, used)

    index = file.indices("weights_index", NUM_JOINTS, count, None)
    value = file.floats("weights_value", dtype, *index.shape)
    weights = torch.zeros(count, NUM_JOINTS, dtype=dtype).scatter_add_(1, index, value)
    row, col, share = entries("J_regressor", NUM_JOINTS)
    regressor = torch.zeros(NUM_JOINTS, count, dtype=dtype)
    uv = file.floats("uv", dtype, None, 2)
    shapedirs = file.converted("shapedirs", _chosen(file, num_betas), dtype)
    growing = shapedirs.shape[-1] - DEFAULT_BETAS
    return BodyArrays(
        v_template=v_template,
        shapedirs=shapedirs,
        joints_of_last=file.floats("growth_joints", dtype, NUM_JOINTS, 3, None)[..., :growing] if growing > 0 else None,
        posedirs=file.floats("posedirs", dtype, count, 3, _NUM_FEATURES),
        joint_regressor=regressor.index_put_((row, col), share, accumulate=True),
        # Stored in few digits; in the body's own precision they sum to 1 again.
        weights=weights / weights.sum(-1, keepdim=True),
        faces=file.indices("faces", count, None, 3),
        keypoint_rows={name: rows(name) for name in KEYPOINT_SETS},
        uv=uv,
        uv_faces=file.indices("uv_faces", len(uv), None, 3),
        mirror=file.indices("mirror", count, count),
    )


def _smpl_body(
    file: _File,
    num_betas: int | None,
    dtype: torch.dtype,
    extra_regressor: str | Path | None,
    h36m_regressor: str | Path | None,
) -> BodyArrays:
    _check_skeleton(file)
    v_template = file.floats("v_template", dtype, None, 3)
    count = len(v_template)
    weights = file.floats("weights", dtype, count, NUM_JOINTS)
    if ((weights.sum(-1) - 1).abs() > 1e-3).any():
        raise BodyFileError(f"{file.path}: the rows of weights do not sum to 1; get the file again.")
    extra = _regressor(extra_regressor, file.path.with_name(EXTRA_REGRESSOR), (9, 14))
    h36m = _regressor(h36m_regressor, file.path.with_name(H36M_REGRESSOR), (17,))
    placed, missing = smpl_keypoint_rows(None if extra is None else extra[-9:], h36m, count, dtype)
    return BodyArrays(
        v_template=v_template,
        shapedirs=file.converted("shapedirs", _chosen(file, num_betas), dtype),
        posedirs=file.floats("posedirs", dtype, count, 3, _NUM_FEATURES),
        joint_regressor=file.floats("J_regressor", dtype, NUM_JOINTS, count),
        weights=weights,
        faces=file.indices("f", count, None, 3),
        keypoint_rows=placed,
        missing_sets=missing,
    )


def _check_skeleton(file: _File) -> None:
    tree = file.array("kintree_table", 2, None)
    joints = tree.shape[1]
    if joints != NUM_JOINTS:
        kind = {52: " (SMPL-H)", 55: " (SMPL-X)"}.get(joints, "")
        raise BodyFileError(
            f"{file.path} has {joints} joints{kind}; kouros reads bodies with SMPL's {NUM_JOINTS}. Pass an SMPL file."
        )
    parents = tree[0].astype(np.int64)
    # The root's parent is -1, which files hold as an unsigned number.
    parents[(parents < 0) | (parents >= NUM_JOINTS)] = -1
    if tuple(parents.tolist()) != PARENTS:
        wrong = next(JOINT_NAMES[j] for j, p in enumerate(parents.tolist()) if p != PARENTS[j])
        raise BodyFileError(f"{file.path}: kintree_table is not SMPL's tree (at {wrong}); pass an SMPL body file.")


def _chosen(file: _File, num_betas: int | None) -> Tensor:
    """The first ``num_betas`` shape directions."""
    count = len(file.array("v_template", None, 3))
    shapedirs = file.array("shapedirs", count, 3, None)
    if "growth_dirs" in file.values:
        shapedirs = np.concatenate([shapedirs, file.array("growth_dirs", count, 3, None)], axis=-1)
    available = shapedirs.shape[-1]
    chosen = min(available, DEFAULT_BETAS) if num_betas is None else num_betas
    if not 1 <= chosen <= available:
        raise ValueError(
            f"num_betas={chosen}, but {file.path} has {available} shape coefficients; choose 1 to {available}."
        )
    return _tensor(shapedirs[..., :chosen])


def _regressor(given: str | Path | None, beside: Path, rows: tuple[int, ...]) -> np.ndarray | None:
    """A keypoint regressor in a .npy file, the given one or that beside the body; None if there is none."""
    path = beside if given is None else Path(given)
    if not path.is_file():
        if given is None:
            return None
        raise FileNotFoundError(f"There is no regressor file {path}.")
    wanted = f"({' or '.join(map(str, rows))}, {NUM_VERTICES})"
    try:
        array = read_npy(path)
    except (ArchiveError, OSError) as error:
        raise BodyFileError(f"{path} is not a .npy file of numbers ({error}); pass one of shape {wanted}.") from error
    if (
        not isinstance(array, np.ndarray)
        or array.ndim != 2
        or array.shape[0] not in rows
        or array.shape[1] != NUM_VERTICES
    ):
        raise BodyFileError(
            f"{path} has shape {getattr(array, 'shape', None)} but must be {wanted}; pass the right file."
        )
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise BodyFileError(f"{path} holds something else than finite numbers; get the file again.")
    return array.astype(np.float64)


def _read(path: Path) -> Mapping[str, Any]:
    """The named values of a .pkl or .npz file, told apart by how they begin."""
    with path.open("rb") as file:
        beginning = file.read(4)
        file.seek(0)
        try:
            values = read_all_npz(file, read_objects=read_pickle) if beginning.startswith(b"PK") else read_pickle(file)
        except (pickle.UnpicklingError, ArchiveError, OSError) as error:
            why = str(error).rstrip(".")
            raise BodyFileError(f"{path} cannot be read as a body file: {why}. Pass an SMPL .pkl or .npz.") from error
    if not isinstance(values, dict):
        raise BodyFileError(f"{path} holds no body, but a {type(values).__name__}; pass an SMPL .pkl or .npz.")
    return values
