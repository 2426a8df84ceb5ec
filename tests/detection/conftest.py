from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kouros.detection import PoseDetector, default_detector


@pytest.fixture(scope="session")
def detector() -> PoseDetector:
    return default_detector()


@pytest.fixture(scope="session")
def portrait() -> np.ndarray:
    """A person cut off at the chest."""
    cbook = pytest.importorskip("matplotlib.cbook")
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


@pytest.fixture(scope="session")
def skier(samples: Path) -> np.ndarray:
    """One whole person, seen well."""
    return np.asarray(Image.open(samples / "coco_sample" / "000000000785.jpg").convert("RGB"))
