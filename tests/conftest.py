"""What many tests share: the sample data beside the checkout, and one free body."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the tests' tensors are small: a second thread costs more than it gives


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of sample photos and motion capture; tests that need it skip where it is missing."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no sample data at ../shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def free_body():
    """The free body, read once."""
    import kouros

    return kouros.load_body()
