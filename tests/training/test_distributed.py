"""Two processes train as one does with the whole batch, and agree about everything."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("lightning")

from tests.training import toy
from tests.training.toy import ToyConfig, run_toy

from kouros.training.weights import load_archive

pytestmark = pytest.mark.slow


def _two_processes(out: Path, options: dict, port: int) -> subprocess.CompletedProcess:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    environment = toy.environment()
    command = [*torchrun, toy.__file__, str(out), json.dumps(options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)


@pytest.fixture
def port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("adversary", [False, True])
def test_two_processes_learn_what_one_learns_from_the_whole_batch(tmp_path: Path, adversary: bool, port: int):
    config = {"dropout": 0.0, "adversary": adversary}
    options = {"max_steps": 15, "clip": 0.5, "ema": 0.9}
    ended = _two_processes(tmp_path / "two", options | {"config": config}, port)
    assert ended.returncode == 0, ended.stderr
    run_toy(tmp_path / "one", ToyConfig(**config), **options)
    one, two = (load_archive(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("one", "two"))
    for key in one["state_dict"]:
        assert_close(two["state_dict"][key], one["state_dict"][key], atol=1e-5, rtol=0)

    fits = [load_archive(tmp_path / "two" / f"fits-of-rank-{rank}.pt") for rank in (0, 1)]
    for key in fits[0]:
        assert torch.equal(fits[0][key], fits[1][key])
        assert_close(fits[0][key], one["kouros"]["best_fits"][key], atol=1e-5, rtol=1e-5)
    assert bool(torch.isfinite(fits[0]["loss"]).any())


def test_what_breaks_one_process_ends_both_with_one_reason(tmp_path: Path, port: int):
    """Sample 3 is in the share of one process at a time; the other must neither hang nor save."""
    ended = _two_processes(tmp_path, {"config": {"broken_sample": 3}, "checkpoint_every": 1, "max_steps": 50}, port)
    assert ended.returncode != 0
    assert ended.stderr.count("TrainingError: step ") >= 1
    assert "samples 3" in ended.stderr
    last = load_archive(tmp_path / "checkpoints" / "last.ckpt")
    assert bool(torch.isfinite(last["state_dict"]["linear.weight"]).all())


def test_both_processes_leave_together_when_one_is_asked_to(tmp_path: Path, port: int):
    """And what they saved goes on to what one that nobody disturbed comes to."""
    config, options = {"dropout": 0.0}, {"max_steps": 15, "ema": 0.9}
    asked = {"ended_at": 7, "by": "SIGTERM", "who": "1"}
    ended = _two_processes(tmp_path / "two", options | asked | {"config": config}, port)
    assert ended.returncode != 0 and "Traceback" not in ended.stderr.split("torch/distributed")[0]
    assert load_archive(tmp_path / "two" / "checkpoints" / "last.ckpt")["kouros"]["steps"] in (7, 8)
    again = _two_processes(tmp_path / "two", options | {"config": config, "resume": True}, port)
    assert again.returncode == 0, again.stderr
    run_toy(tmp_path / "one", ToyConfig(**config), **options)
    one, two = (load_archive(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("one", "two"))
    for key in one["state_dict"]:
        assert_close(two["state_dict"][key], one["state_dict"][key], atol=1e-5, rtol=0)


def test_parts_of_shares_teach_what_the_whole_batch_does(tmp_path: Path, port: int):
    config, options = {"dropout": 0.0, "adversary": True}, {"max_steps": 8, "clip": 0.5}
    ended = _two_processes(tmp_path / "two", options | {"config": config, "accumulate": 2}, port)
    assert ended.returncode == 0, ended.stderr
    run_toy(tmp_path / "one", ToyConfig(**config), **options)
    one, two = (load_archive(tmp_path / name / "weights.pt")["weights"] for name in ("one", "two"))
    for key in one.keys() - {"steps"}:
        assert_close(two[key], one[key], atol=1e-5, rtol=0)
