"""How does the body layer compare with `smplx`, for 64 bodies of SMPL's size, and with the memory's speed?

    python benchmarks/body_layer.py [--bodies 64] [--rounds 30] [--threads 2]

Makes a body file of SMPL's size with random numbers, checks that both give the same body, then times both in
turns, so that other load on the machine falls on both. smplx has no way to the joints but through the mesh;
beside that, the row "joints (smplx's own steps)" times the same work written with its functions.

The limit is the time in which the bytes that a path cannot do without cross the memory bus at the speed that
copying a large array reaches in the same run: the blend shapes are read once and the vertices written once,
and backward, the same bytes once more. Prints a table, then one JSON line a row.
"""

import contextlib
import io
import json
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import smplx
import torch
import tyro
from rich.console import Console
from rich.table import Table
from scipy import sparse
from smplx.lbs import batch_rigid_transform, batch_rodrigues

import kouros
from kouros.body.skeleton import PARENTS

NUM_VERTICES, NUM_FACES, NUM_BETAS = 6890, 13776, 10
FLOAT = 4


@dataclass(frozen=True)
class Row:
    """Median times of one path, seconds."""

    path: str
    ours: float
    theirs: float
    ratio: float
    """Median of the rounds' own ratios: both sides of each saw the same load."""
    fastest: float
    """The least disturbed round of ours."""
    limit: float | None
    """What moving the bytes alone would take."""


def write_body(path: Path) -> None:
    """A body file with random numbers: at most four weights a vertex, a sparse regressor."""
    rng = np.random.default_rng(0)
    weights = np.zeros((NUM_VERTICES, 24))
    joints = np.argsort(rng.random(weights.shape), axis=1)[:, :4]
    np.put_along_axis(weights, joints, rng.random((NUM_VERTICES, 4)) + 0.01, axis=1)
    regressor = sparse.random(24, NUM_VERTICES, 0.002, random_state=0).toarray()
    arrays = {
        "v_template": rng.uniform(-1, 1, (NUM_VERTICES, 3)),
        "shapedirs": rng.normal(0, 0.01, (NUM_VERTICES, 3, NUM_BETAS)),
        "posedirs": rng.normal(0, 0.002, (NUM_VERTICES, 3, 207)),
        "J_regressor": sparse.csc_matrix(regressor / regressor.sum(1, keepdims=True)),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": rng.integers(0, NUM_VERTICES, (NUM_FACES, 3)).astype(np.uint32),
        "kintree_table": np.stack([np.array([2**32 - 1, *PARENTS[1:]]), np.arange(24)]).astype(np.uint32),
    }
    path.write_bytes(pickle.dumps(arrays, protocol=2))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(
    path: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    rounds: int,
    limit: float | None,
    repeats: int = 1,
) -> Row:
    """Time both in turns; a call of ours that is too short to time is repeated within its turn."""

    def our_turn() -> None:
        for _ in range(repeats):
            ours()

    for _ in range(3):
        ours(), theirs()
    times = [(seconds(our_turn) / repeats, seconds(theirs)) for _ in range(rounds)]
    return Row(
        path,
        ours=statistics.median(a for a, _ in times),
        theirs=statistics.median(b for _, b in times),
        ratio=statistics.median(b / a for a, b in times),
        fastest=min(a for a, _ in times),
        limit=limit,
    )


def bytes_per_second() -> float:
    """Speed of copying an array that no cache holds, bytes read plus bytes written."""
    source = torch.ones(64 * 2**20)
    target = torch.empty_like(source)
    times = [seconds(lambda: target.copy_(source)) for _ in range(12)]
    return 2 * source.numel() * FLOAT / min(times[2:])


def main(bodies: int = 64, rounds: int = 30, threads: int = 2) -> None:
    """Run all paths."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "SMPL_NEUTRAL.pkl"
        write_body(file)
        ours = kouros.load_body(file)
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = smplx.SMPL(str(file), batch_size=bodies)
    generator = torch.Generator().manual_seed(0)
    sizes = {"betas": NUM_BETAS, "body_pose": 69, "global_orient": 3, "transl": 3}
    given: dict[str, Any] = {k: torch.randn(bodies, n, generator=generator) for k, n in sizes.items()}
    leaves: dict[str, Any] = {k: v.clone().requires_grad_() for k, v in given.items()}
    pull = torch.randn(bodies, NUM_VERTICES, 3, generator=generator)
    joint_pull = torch.randn(bodies, 24, 3, generator=generator)
    pose = torch.cat([given["global_orient"], given["body_pose"]], dim=1)

    def gradients(body: torch.nn.Module) -> list[torch.Tensor]:
        out = body(**leaves)
        return list(torch.autograd.grad((out.vertices, out.joints[:, :24]), list(leaves.values()), (pull, joint_pull)))

    def our_joints() -> torch.Tensor:
        return ours.joint_positions(**given)

    def our_keypoints() -> torch.Tensor:
        return ours.keypoint_positions("coco17", **given)

    def joint_gradients() -> object:
        return torch.autograd.grad(ours.joint_positions(**leaves), list(leaves.values()), joint_pull)

    def joints_with_smplx() -> torch.Tensor:
        rest = ours.joint_template + torch.einsum("jcb,nb->njc", ours.joint_shapedirs, given["betas"])
        rotations = batch_rodrigues(pose.reshape(-1, 3)).view(bodies, 24, 3, 3)
        return batch_rigid_transform(rotations, rest, theirs.parents)[0] + given["transl"][:, None]

    # A fast wrong answer is no result.
    expected = theirs(**given)
    torch.testing.assert_close(ours(**given).vertices, expected.vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.joint_positions(**given), expected.joints[:, :24], atol=1e-5, rtol=0)
    torch.testing.assert_close(joints_with_smplx(), expected.joints[:, :24], atol=1e-5, rtol=0)
    for a, b in zip(gradients(ours), gradients(theirs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * b.abs().max().item(), rtol=0)

    speed = bytes_per_second()
    blend_shapes = (NUM_BETAS + 207) * NUM_VERTICES * 3 * FLOAT
    vertices = bodies * NUM_VERTICES * 3 * FLOAT
    joints = bodies * (sum(sizes.values()) + 24 * 3) * FLOAT
    with torch.no_grad():
        mesh_limit = (blend_shapes + vertices) / speed
        rows = [
            compare("forward", lambda: ours(**given), lambda: theirs(**given), rounds, mesh_limit),
            compare(
                "joints only (smplx: forward)",
                our_joints,
                lambda: theirs(**given),
                rounds,
                joints / speed,
                20,
            ),
            compare("joints (smplx's own steps)", our_joints, joints_with_smplx, rounds, joints / speed, 20),
            compare("17 keypoints (smplx: forward)", our_keypoints, lambda: theirs(**given), rounds, None, 20),
        ]
    both = 2 * (blend_shapes + vertices) / speed
    rows.insert(1, compare("forward + backward", lambda: gradients(ours), lambda: gradients(theirs), rounds, both))
    rows.append(compare("joints, with gradients", joint_gradients, lambda: gradients(theirs), rounds, None))

    table = Table(title=f"{bodies} bodies, {threads} threads; memory copies at {speed / 1e9:.1f} GB/s")
    for heading in (
        "path",
        "kouros ms",
        "fastest ms",
        "smplx ms",
        "ratio",
        "bodies/s",
        "memory limit ms",
        "times the limit",
    ):
        table.add_column(heading, justify="left" if heading == "path" else "right")
    for row in rows:
        limit = ("", "") if row.limit is None else (f"{1e3 * row.limit:.3f}", f"{row.fastest / row.limit:.1f}")
        table.add_row(
            row.path, f"{1e3 * row.ours:.3f}", f"{1e3 * row.fastest:.3f}", f"{1e3 * row.theirs:.2f}",
            f"{row.ratio:.1f}", f"{bodies / row.ours:,.0f}", *limit,
        )  # fmt: skip
    Console(width=130).print(table)
    for row in rows:
        print(json.dumps({"bodies": bodies, "threads": threads, "bytes_per_second": speed, **vars(row)}))


if __name__ == "__main__":
    tyro.cli(main)
