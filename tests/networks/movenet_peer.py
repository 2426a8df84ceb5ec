"""What Google's graphs say about two pieces of a demo photo, as `test_movenet_original` finds it again."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

import kouros

_PHOTO = Path(kouros.__file__).parent / "data" / "demo" / "people.jpg"
PUBLISHED = {
    name: np.array(numbers)
    for name, numbers in json.loads((Path(__file__).parent / "movenet_published.json").read_text()).items()
}
"""``thunder`` 17 x 3 of `thunder_crop`, ``multipose`` 6 x 56 of `multipose_picture`: y, x, score."""


def thunder_crop() -> np.ndarray:
    """One person, cut off at the knees."""
    return np.array(Image.open(_PHOTO).convert("RGB"))[230:486, 60:316]


def multipose_picture() -> np.ndarray:
    """Three people."""
    return np.array(Image.open(_PHOTO).convert("RGB"))[::2, ::2]


def people_of(published: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keypoints (x, y, confidence), boxes (x0, y0, x1, y1) and scores, out of the published order of numbers."""
    keypoints = published[..., :51].reshape(*published.shape[:-1], 17, 3)[..., [1, 0, 2]]
    return keypoints, published[..., [52, 51, 54, 53]], published[..., 55]
