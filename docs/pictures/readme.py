"""Make the README's pictures from the demo's results.

kouros demo --out demo-results
python docs/pictures/readme.py demo-results
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
HEIGHT = 420


def main(results: Path) -> None:
    """Photo beside `kouros reconstruct`'s overlay and side view, for each demo photo."""
    for name in ("people", "astronaut", "cameraman"):
        photo = Image.open(ROOT / "src" / "kouros" / "data" / "demo" / f"{name}.jpg").convert("RGB")
        drawn = Image.open(results / f"{name}.overlay.png").convert("RGB")
        panels = [image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)
                  for image in (photo, drawn)]  # fmt: skip
        row = np.hstack([np.asarray(panel) for panel in panels])
        Image.fromarray(row).save(ROOT / "docs" / "images" / f"readme_{name}.jpg", quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
