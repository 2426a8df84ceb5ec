"""What many tests share: the sample data beside the checkout, and one free body."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure; pytest's timeout ends what hangs
settings.load_profile("unhurried")
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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-snapshots", action="store_true", help="write what is now the case as what must be")


@pytest.fixture
def snapshot(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compares a text with a file of what must be."""

    def check(file: Path, text: str) -> None:
        if request.config.getoption("--update-snapshots"):
            file.write_text(text, encoding="utf-8")
        again = f"pytest {request.node.nodeid.split('::')[0]} --update-snapshots"
        assert text == file.read_text(encoding="utf-8"), f"{file.name} says otherwise; if that is wanted: {again}"

    return check
