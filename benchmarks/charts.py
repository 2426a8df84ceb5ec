"""How much faster are 2,000 body points from the charts than through the mesh, and how far off are they?

Two questions, each with gradients to the body's parameters and without: correspondences that are new at every
call (a network predicts them), where the mesh's way must find the triangle that holds (part, u, v); and
correspondences that stay (a fit to fixed ones), where both ways look them up once. Prints JSON lines; a ratio
above 1 means that the charts are faster. Also prints the charts' gap to the mesh and the round trip, mm.
"""

import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

import kouros
from kouros.body.surface.charts import build_charts, chart_points, place_points

POINTS = 2000
ROUNDS = 30


def main() -> None:
    """Check, then time both ways in turn."""
    body = kouros.load_body()
    charts = build_charts(body)
    generator = torch.Generator().manual_seed(0)
    part = torch.randint(1, 25, (4 * POINTS,), generator=generator)
    uv = torch.rand(4 * POINTS, 2, generator=generator)
    inside = charts.locate(part, uv)[2]
    part, uv = part[inside][:POINTS], uv[inside][:POINTS]
    face, weights, _ = charts.locate(part, uv)
    pose = 0.3 * torch.randn(1, 69, generator=generator)
    betas = torch.randn(1, 10, generator=generator)
    points = charts.lookup(part, uv)

    def mesh_points(face: Tensor, weights: Tensor, betas: Tensor, pose: Tensor) -> Tensor:
        vertices = body(betas=betas, body_pose=pose).vertices
        return (vertices[:, body.faces[face]] * weights[..., None]).sum(dim=2)

    def mesh_with_search(betas: Tensor, pose: Tensor) -> Tensor:
        found, mix, _ = charts.locate(part, uv)
        return mesh_points(found, mix, betas, pose)

    gap = (place_points(body, points, betas, pose) - mesh_points(face, weights, betas, pose)).norm(dim=-1)
    gap = gap * 1000
    print(json.dumps({"gap_mm": {"mean": round(gap.mean().item(), 3), "p95": round(gap.quantile(0.95).item(), 3)}}))
    assert gap.mean() < 1.0, "the charts do not agree with the mesh"

    ways: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
        "new correspondences": (
            lambda b, p: chart_points(body, charts, part, uv, b, p),
            mesh_with_search,
        ),
        "fixed correspondences, 32 bodies": (
            lambda b, p: place_points(body, points, b.expand(32, -1), p.expand(32, -1)),
            lambda b, p: mesh_points(face, weights, b.expand(32, -1), p.expand(32, -1)),
        ),
        "fixed correspondences": (
            lambda b, p: place_points(body, points, b, p),
            lambda b, p: mesh_points(face, weights, b, p),
        ),
    }
    for name, (ours, mesh) in ways.items():
        for gradients in (False, True):
            pairs = [
                (seconds(ours, betas, pose, gradients), seconds(mesh, betas, pose, gradients)) for _ in range(ROUNDS)
            ][3:]
            ratios = [theirs / mine for mine, theirs in pairs]
            print(
                json.dumps(
                    {
                        "case": name,
                        "gradients": gradients,
                        "points": POINTS,
                        "charts_ms": round(1000 * statistics.median(p[0] for p in pairs), 2),
                        "mesh_ms": round(1000 * statistics.median(p[1] for p in pairs), 2),
                        "ratio": round(statistics.median(ratios), 2),
                        "quartiles": [round(q, 2) for q in statistics.quantiles(ratios)],
                    }
                )
            )


def seconds(way: Callable[[Tensor, Tensor], Tensor], betas: Tensor, pose: Tensor, gradients: bool) -> float:
    """One call, with its backward pass if there are gradients."""
    inputs = [x.clone().requires_grad_(gradients) for x in (betas, pose)]
    start = time.perf_counter()
    result = way(*inputs)
    if gradients:
        result.sum().backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
