"""Reading body files: the free body inside the package, and licensed SMPL files as distributed."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kouros.body.model import BodyArrays, BodyModel

FREE_BODY = Path(__file__).parent / "free_body.npz"


def load_body(path: str | Path | None = None, *, dtype: torch.dtype = torch.float32) -> BodyModel:
    """The free body (``path=None``), or the body in an SMPL file."""
    arrays = np.load(path or FREE_BODY)

    def tensor(name: str) -> Tensor:
        array = torch.from_numpy(arrays[name])
        return array.to(dtype) if array.is_floating_point() else array.long()

    v_template = tensor("v_template")
    count = len(v_template)

    def sparse(prefix: str, rows: int) -> Tensor:
        matrix = torch.zeros(rows, count, dtype=dtype)
        matrix.index_put_((tensor(f"{prefix}_row"), tensor(f"{prefix}_col")), tensor(f"{prefix}_val"), accumulate=True)
        return matrix

    weights = torch.zeros(count, 24, dtype=dtype)
    weights.scatter_add_(1, tensor("weights_index"), tensor("weights_value"))
    from kouros.body.keypoints import KEYPOINT_SETS

    return BodyModel(
        BodyArrays(
            v_template=v_template,
            shapedirs=tensor("shapedirs"),
            posedirs=tensor("posedirs").permute(2, 0, 1).flatten(1),
            joint_regressor=sparse("J_regressor", 24),
            weights=weights,
            faces=tensor("faces"),
            keypoint_regressors={n: sparse(f"keypoints_{n}", len(s)) for n, s in KEYPOINT_SETS.items()},
            uv=tensor("uv"),
            uv_faces=tensor("uv_faces"),
            mirror=tensor("mirror"),
        )
    )
