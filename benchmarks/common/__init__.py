"""What several benchmarks of the fit share: people before a camera, and a table."""

import math

import torch
from torch import Tensor

from kouros.body.parameters import BodyParameters
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat

FOCAL, CROP = 5000.0, 224  # SPIN's pinhole over its crop


def people_in_view(poses: Tensor, generator: torch.Generator) -> BodyParameters:
    """Body poses in random shapes: all headings, 20 degrees up or down, people 60 to 95 % of the crop."""
    count = len(poses)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    zero = torch.zeros(count)
    heading = rotvec_to_rotmat(torch.stack([zero, uniform(-math.pi, math.pi), zero], dim=-1))
    tilt = rotvec_to_rotmat(torch.stack([uniform(-0.35, 0.35) + math.pi, zero, zero], dim=-1))
    depth = 2 * FOCAL / (CROP * uniform(0.6, 0.95))
    transl = torch.stack([uniform(-0.1, 0.1), uniform(-0.1, 0.1), depth], dim=-1)
    betas = torch.randn(count, 10, generator=generator)
    return BodyParameters(torch.cat([rotmat_to_rotvec(tilt @ heading), poses], dim=-1), betas, transl)


def show(rows: list[dict[str, object]], digits: int = 4) -> None:
    """A table of rows that have the same keys."""
    names = [n for n in rows[0] if n != "what"]
    cells = [[f"{v:.{digits}g}" if isinstance(v := row[n], float) else str(v) for n in names] for row in rows]
    widths = [max(len(n), *(len(c[i]) for c in cells)) for i, n in enumerate(names)]
    print(f"\n{rows[0]['what']}")
    for line in [names, *cells]:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
