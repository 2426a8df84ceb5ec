"""A run that was ended and goes on ends with the very weights of one that was not."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning")

from tests.training import toy
from tests.training.toy import People, ToyConfig, run_toy

from kouros.training.weights import load_archive

_OPTIONS = '{"max_steps": 30, "checkpoint_every": 5, "ema": 0.9, "clip": 0.5, "ended_at": 18, "by": "%s", "config": %s}'


def _same(one: object, other: object, where: str = "") -> None:
    """Equal to the last bit."""
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            _same(one[key], other[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            _same(a, b, f"{where}/{i}")
    else:
        assert one == other, where


def _state(folder: Path) -> dict:
    content = load_archive(folder / "checkpoints" / "last.ckpt")
    return {key: content[key] for key in ("state_dict", "optimizer_states", "kouros")}


@pytest.mark.parametrize(
    ("sign", "adversary", "status", "kept"),
    [
        ("SIGKILL", False, -signal.SIGKILL, 15),
        ("SIGKILL", True, -signal.SIGKILL, 15),
        ("SIGTERM", False, 128 + signal.SIGTERM, 18),  # clusters ask first: there is time for a checkpoint
    ],
)
def test_a_run_that_was_ended_goes_on_to_the_same_weights(
    tmp_path: Path, sign: str, adversary: bool, status: int, kept: int
):
    """With dropout, an average, clipping, optimizers' state and a store of fits."""
    config = '{"adversary": true}' if adversary else "{}"
    script = [sys.executable, toy.__file__, str(tmp_path / "killed"), _OPTIONS % (sign, config)]
    environment = toy.environment()
    ended = subprocess.run(script, env=environment, capture_output=True, timeout=200)
    assert ended.returncode == status, ended.stderr.decode()
    assert load_archive(tmp_path / "killed" / "checkpoints" / "last.ckpt")["kouros"]["steps"] == kept

    given = {"max_steps": 30, "checkpoint_every": 5, "ema": 0.9, "clip": 0.5}
    outcome = run_toy(tmp_path / "killed", ToyConfig(adversary=adversary), resume=True, **given)
    assert outcome.steps == 30
    run_toy(tmp_path / "whole", ToyConfig(adversary=adversary), **given)
    _same(_state(tmp_path / "killed"), _state(tmp_path / "whole"))
    _same(*(load_archive(tmp_path / name / "weights.pt") for name in ("killed", "whole")))
    fits = _state(tmp_path / "whole")["kouros"]["best_fits"]
    assert bool(torch.isfinite(fits["loss"]).all())  # everyone has been seen


def test_first_fits_go_on_where_they_were_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """24 people in batches of 8, of which two are done when somebody asks to leave."""
    config = ToyConfig(first_fits=True)
    run_toy(tmp_path / "whole", config)
    assert [list(range(i, i + 8)) for i in (0, 8, 16)] == toy.FITTED
    monkeypatch.setattr(toy, "LEAVES_AFTER", 2)
    with pytest.raises(SystemExit) as left:
        run_toy(tmp_path / "broken", config)
    assert left.value.code == 128 + signal.SIGTERM and len(toy.FITTED) == 2
    assert not (tmp_path / "broken" / "checkpoints" / "last.ckpt").exists()

    with pytest.raises(ValueError, match="add --resume"):
        run_toy(tmp_path / "broken", config)
    with pytest.raises(ValueError, match=r"config\.dropout 0\.5, now asked for 0\.1"):
        run_toy(tmp_path / "broken", ToyConfig(first_fits=True, dropout=0.1), resume=True)
    run_toy(tmp_path / "broken", config, resume=True)
    assert [list(range(16, 24))] == toy.FITTED
    _same(_state(tmp_path / "broken"), _state(tmp_path / "whole"))
    assert not (tmp_path / "broken" / "checkpoints" / "beginning.pt").exists()


def test_seeds_differ_and_repeat(tmp_path: Path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run_toy(tmp_path / name, seed=seed)
    weights = {n: load_archive(tmp_path / n / "weights.pt")["weights"]["linear.weight"] for n in "abc"}
    assert torch.equal(weights["a"], weights["b"])
    assert not torch.equal(weights["a"], weights["c"])


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path: Path):
    run_toy(tmp_path / "twice", max_steps=7)
    assert run_toy(tmp_path / "twice", max_steps=12, resume=True).steps == 12
    run_toy(tmp_path / "once", max_steps=12)
    _same(_state(tmp_path / "twice"), _state(tmp_path / "once"))


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path):
    run_toy(tmp_path)
    before = (tmp_path / "weights.pt").read_bytes()
    assert run_toy(tmp_path, resume=True).steps == 12
    assert (tmp_path / "weights.pt").read_bytes() == before


def test_resuming_nothing_begins(tmp_path: Path):
    assert run_toy(tmp_path, resume=True).steps == 12


def test_a_second_run_does_not_write_over_the_first(tmp_path: Path):
    run_toy(tmp_path)
    with pytest.raises(ValueError, match="add --resume"):
        run_toy(tmp_path)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"seed": 1}, "--seed 0, now asked for 1"),
        ({"batch_size": 4}, "--batch-size 8"),
        ({"config": ToyConfig(dropout=0.1)}, "config.dropout 0.5"),
        ({"source": People(count=9)}, "samples"),
    ],
)
def test_a_run_goes_on_only_as_it_began(tmp_path: Path, changed: dict, word: str):
    run_toy(tmp_path)
    with pytest.raises(ValueError, match=word):
        run_toy(tmp_path, **({"resume": True, "max_steps": 20} | changed))
    assert run_toy(tmp_path, resume=True).steps == 12


def test_a_damaged_checkpoint_is_named(tmp_path: Path):
    run_toy(tmp_path, max_steps=6)
    last = tmp_path / "checkpoints" / "last.ckpt"
    data = last.read_bytes()
    last.unlink()
    last.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
        run_toy(tmp_path, resume=True)
    last.unlink()
    assert run_toy(tmp_path, resume=True).steps == 12  # from step-6.ckpt


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path):
    run_toy(tmp_path / "none", workers=0)
    run_toy(tmp_path / "two", workers=2)
    _same(_state(tmp_path / "none"), _state(tmp_path / "two"))
