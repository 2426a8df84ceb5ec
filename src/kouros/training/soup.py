"""A weighted average of two trainings of the learned start, of which the second began from the first.

    python -m kouros.training.soup first.npz second.npz --share 0.7 --out lifter.npz

What a network knew and lost when it was trained further comes back, and most of what it learned stays (Wortsman et
al., "Model soups", ICML 2022).
"""

import argparse
from pathlib import Path

import torch

from kouros.systems.lifter import load_weights, save_weights


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the second, 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if not 0 <= given.share <= 1:
        parser.error(f"--share must be from 0 to 1, not {given.share}")
    first, second = load_weights(given.first), load_weights(given.second)
    if first.config != second.config:
        parser.error(f"{given.first} is a network of {first.config}, {given.second} of {second.config}")
    with torch.no_grad():
        for mine, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
            mine.lerp_(other, given.share)
    save_weights(given.out, first)


if __name__ == "__main__":
    main()
