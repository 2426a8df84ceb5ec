"""How much larger and slower than HMR's is HKMR's network, from crop to body?

    python benchmarks/hkmr.py [--rounds 30] [--threads 2] [--json-file FILE]

Both with ResNet-50 and crops of 224 pixels, as published: 26.2 and 26.8 million parameters (HMR's here have SPIN's 6D
rotations, which makes 27.0), 44 and 9 milliseconds a picture on a V100. First checks that the estimates are bodies;
then times both in turns, so that other load on the machine falls on both, with fresh weights: they change no time.
Also times the regressors alone, where all of the difference is. Prints a table, then one JSON line.
"""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.kinematic_regressor import KinematicRegressor
from kouros.networks.resnet import ResNet

CROP = 224
PUBLISHED_RATIO = 0.044 / 0.009
"""HKMR's time over HMR's, Sec. 4."""


@dataclass(frozen=True)
class Row:
    """Median times, seconds, of one batch."""

    what: str
    batch: int
    hkmr: float
    hmr: float
    ratio: float
    """Median of the rounds' own ratios: both sides of each saw the same load."""
    quartiles: tuple[float, float]
    """Of the ratios."""


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(what: str, hkmr: nn.Module, hmr: nn.Module, given: Tensor, rounds: int) -> Row:
    """Time both in turns."""
    for _ in range(3):
        hkmr(given), hmr(given)
    times = [(seconds(lambda: hkmr(given)), seconds(lambda: hmr(given))) for _ in range(rounds)]
    ratios = [ours / theirs for ours, theirs in times]
    low, _, high = statistics.quantiles(ratios)
    return Row(
        what,
        len(given),
        hkmr=statistics.median(t for t, _ in times),
        hmr=statistics.median(t for _, t in times),
        ratio=statistics.median(ratios),
        quartiles=(low, high),
    )


def check(network: nn.Module, image: Tensor) -> None:
    """A fast wrong answer is no result."""
    for estimate in network(image):
        rotations = estimate.rotations
        torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand_as(rotations), atol=1e-4, rtol=0)
        assert estimate.betas.shape == (len(image), 10) and torch.isfinite(estimate.camera).all()


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def main(rounds: int = 30, threads: int = 2, json_file: Path | None = None) -> None:
    """Count, then time batches of 1 and 16."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    backbone = ResNet(50)
    regressors = KinematicRegressor(backbone.num_features), HmrRegressor(backbone.num_features)
    hkmr, hmr = (nn.Sequential(backbone, regressor).eval() for regressor in regressors)
    counts = {"HKMR": parameters(hkmr), "HMR": parameters(hmr), "backbone": parameters(backbone)}
    rows = []
    with torch.inference_mode():
        for batch in (1, 16):
            image = torch.rand(batch, 3, CROP, CROP)
            for network in (hkmr, hmr):
                check(network, image)
            rows.append(compare("crop to body", hkmr, hmr, image, rounds))
            features = backbone(image)
            rows.append(compare("regressor alone", hkmr[1], hmr[1], features, 4 * rounds))
    table = Table(title=f"HKMR and HMR, ResNet-50, {CROP} px, {threads} threads, medians of interleaved rounds")
    for column in ("", "batch", "HKMR, ms", "HMR, ms", "HKMR / HMR", "quartiles"):
        table.add_column(column, justify="left" if not column else "right")
    for r in rows:
        low, high = r.quartiles
        ms = (f"{1e3 * t:.1f}" for t in (r.hkmr, r.hmr))
        table.add_row(r.what, str(r.batch), *ms, f"{r.ratio:.2f}", f"{low:.2f} to {high:.2f}")
    console = Console()
    console.print(table)
    console.print(f"parameters: {', '.join(f'{name} {count:,}' for name, count in counts.items())}")
    result = json.dumps({"parameters": counts, "published_ratio": PUBLISHED_RATIO, "rows": [asdict(r) for r in rows]})
    print(result)
    if json_file is not None:
        json_file.write_text(result + "\n")


if __name__ == "__main__":
    tyro.cli(main)
