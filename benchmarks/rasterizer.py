"""How does `rasterize` compare with embree (BVH and first hits) for one body of 28,000 faces at 224 x 224?

Runs the competitors in turn, so that each meets the same noise, after checking that they agree. Prints a
table, then one JSON line for each row; ``ratio`` is embree's time over the row's, pair by pair. Also what an
overlay of a person costs. ``python benchmarks/rasterizer.py [repeats]``.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

import kouros
from kouros.geometry.cameras import PerspectiveCamera
from kouros.render.rasterize import rasterize
from kouros.render.shading import overlay

SIZE = 224
CAMERA = PerspectiveCamera(torch.tensor(500.0), torch.tensor([112.0, 112.0]))


def body() -> tuple[torch.Tensor, torch.Tensor]:
    """The free body, standing before the camera; its faces about 14,000."""
    model = kouros.load_body()
    vertices = model.v_template * torch.tensor([1.0, -1.0, -1.0])
    middle = (vertices.amin(dim=0) + vertices.amax(dim=0)) / 2
    return vertices - middle + torch.tensor([0.0, 0.0, 4.5]), model.faces


def halved(vertices: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same surface with every face cut in two at the middle of its first edge's side."""
    middles = vertices[faces[:, :2]].mean(dim=1)
    new = torch.arange(len(faces)) + len(vertices)
    first = torch.stack([faces[:, 0], new, faces[:, 2]], dim=-1)
    second = torch.stack([new, faces[:, 1], faces[:, 2]], dim=-1)
    return torch.cat([vertices, middles]), torch.cat([first, second])


def embree_hits(vertices: np.ndarray, faces: np.ndarray, origins: np.ndarray, rays: np.ndarray) -> np.ndarray:
    mesh = trimesh.Trimesh(vertices, faces, process=False, validate=False)
    return RayMeshIntersector(mesh).intersects_first(origins, rays).reshape(SIZE, SIZE)


def milliseconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def cold_start() -> float:
    """Seconds a fresh process spends in its first call, numba's import and compilation included."""
    code = (
        "import time, torch; from kouros.geometry.cameras import PerspectiveCamera as C;"
        "from kouros.render.rasterize import rasterize; start = time.perf_counter();"
        "rasterize(torch.rand(1, 9, 3) + 1, torch.arange(9).view(3, 3), "
        "C(torch.tensor(9.0), torch.zeros(2)), (9, 9));"
        "print(time.perf_counter() - start)"
    )
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "NUMBA_CACHE_DIR": empty}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    person, person_faces = body()
    vertices, faces = halved(person, person_faces)
    columns, rows = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    rays = CAMERA.rays(torch.tensor(np.stack([columns, rows], axis=-1).reshape(-1, 2))).numpy()
    origins = np.zeros_like(rays)
    vertices_np, faces_np = vertices.numpy(), faces.numpy()

    ours = rasterize(vertices[None], faces, CAMERA, (SIZE, SIZE))
    other = rasterize(vertices[None], faces, CAMERA, (SIZE, SIZE), method="torch")
    assert torch.equal(ours.face, other.face)
    assert torch.equal(ours.depth, other.depth)
    hits = embree_hits(vertices_np, faces_np, origins, rays)
    interior = (ours.barycentric[0].amin(dim=-1) > 1e-3).numpy()
    agreement = float((hits == ours.face[0].numpy())[interior].mean())
    assert agreement >= 0.999, agreement

    photo = np.full((480, 640, 3), 128, dtype=np.uint8)
    photo_camera = PerspectiveCamera(torch.tensor(1060.0), torch.tensor([320.0, 240.0]))
    large_photo = np.full((3000, 4000, 3), 128, dtype=np.uint8)
    large_camera = PerspectiveCamera(torch.tensor(6600.0), torch.tensor([2000.0, 1500.0]))
    batch = vertices.expand(16, -1, -1)
    runs: dict[str, Callable[[], object]] = {
        "embree": lambda: embree_hits(vertices_np, faces_np, origins, rays),
        "numba": lambda: rasterize(vertices[None], faces, CAMERA, (SIZE, SIZE), method="numba"),
        "torch": lambda: rasterize(vertices[None], faces, CAMERA, (SIZE, SIZE), method="torch"),
        "numba, 16 bodies": lambda: rasterize(batch, faces, CAMERA, (SIZE, SIZE), method="numba"),
        "overlay, 400 px of 640 x 480": lambda: overlay(photo, [(person, person_faces)], photo_camera),
        "overlay, 2500 px of 4000 x 3000": lambda: overlay(large_photo, [(person, person_faces)], large_camera),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(milliseconds(run))

    print(f"{len(faces)} faces, {SIZE} x {SIZE}, {torch.get_num_threads()} threads; milliseconds")
    print(f"agreement with embree on {interior.sum()} interior pixels: {100 * agreement:.3f} %")
    cold = cold_start()
    print(f"first call in a fresh process, nothing cached: {cold:.2f} s")
    print(f"{'':32} {'quartiles':>27} {'embree / this':>14}")
    records = []
    for name, values in times.items():
        quartiles = statistics.quantiles(values)
        ratio = statistics.median(a / b for a, b in zip(times["embree"], values, strict=True))
        text = "  ".join(f"{q:7.2f}" for q in quartiles)
        print(f"{name:32} {text:>27} {ratio if not name.startswith('overlay') else float('nan'):14.2f}")
        records.append({"run": name, "quartiles_ms": quartiles, "ratio": ratio})
    for record in [*records, {"run": "cold start", "seconds": cold}, {"agreement": agreement}]:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
