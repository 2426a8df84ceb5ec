"""What is said of compiling, which a first run waits for."""

import logging
import os

import pytest

numba = pytest.importorskip("numba")

from numba.core import caching  # noqa: E402

from kouros import compiled  # noqa: E402


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path, caplog: pytest.LogCaptureFixture):
    """As in a new process on a new machine."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled._say_that_nothing_is_kept.cache_clear()
    compiled._listen.cache_clear()
    caplog.set_level(logging.INFO, logger="kouros")


def _double(first, end, values):
    for n in range(first, end):
        values[n] = 2 * values[n]


def _doubled() -> float:
    import numpy as np

    values = np.ones(3, np.float32)
    compiled.compiled(fuse=False)(_double)(0, 3, values)
    return float(values[0])


def test_who_waits_for_the_compiler_is_told_once_and_never_when_code_is_read(caplog: pytest.LogCaptureFixture):
    assert _doubled() == 2
    assert ["Compiling" in r.message for r in caplog.records] == [True]
    compiled._listen.cache_clear()  # as another process, with the code on disk
    assert _doubled() == 2
    assert len(caplog.records) == 1


def test_code_that_is_older_than_a_file_beside_the_kernels_is_made_anew(tmp_path, caplog: pytest.LogCaptureFixture):
    """It may be of functions and types that are others now."""
    assert _doubled() == 2
    for kept in tmp_path.rglob("*.nb[ci]"):
        os.utime(kept, (0, 0))
    compiled._listen.cache_clear()
    assert _doubled() == 2
    assert len(caplog.records) == 2


def test_where_no_code_can_be_kept_one_warning_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])  # numba's: no folder can be written
    assert _doubled() == 2
    assert _doubled() == 2
    assert sum("NUMBA_CACHE_DIR" in r.message for r in caplog.records) == 1


def test_other_peoples_kernels_are_nothing_of_ours(caplog: pytest.LogCaptureFixture):
    import numpy as np

    compiled._listen()
    numba.njit(_double)(0, 1, np.ones(1))
    assert not caplog.records
