"""A run's folder gives back its system, and says in a sentence why it cannot."""

import json
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("lightning")

from tests.training.toy import SIZE, ToyConfig, run_toy

from kouros.training.config_json import from_json, to_json
from kouros.training.runs import load_run
from kouros.training.weights import load_archive, save_archive


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_toy(folder, ema=0.9)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    import shutil

    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def _rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_loaded_run_predicts_with_the_averaged_weights(run: Path, free_body):
    system = load_run(run, free_body, kind=ToyConfig)
    assert not system.training and not any(p.requires_grad for p in system.parameters())
    image = torch.rand(2, 3, SIZE, SIZE)
    average = load_archive(run / "checkpoints" / "last.ckpt")["kouros"]["average"]
    numbers = image.flatten(1) @ average["linear.weight"].T + average["linear.bias"]
    torch.testing.assert_close(system.predict(image).bodies.betas, numbers[:, 72:82])
    assert len(load_run(run, kind=ToyConfig).best_fits) == 0


def test_without_a_file_of_weights_the_last_checkpoint_serves(run: Path, free_body):
    image = torch.rand(1, 3, SIZE, SIZE)
    before = load_run(run, free_body, kind=ToyConfig).predict(image).bodies
    (run / "weights.pt").unlink()
    after = load_run(run, free_body, kind=ToyConfig).predict(image).bodies
    assert torch.equal(before.betas, after.betas)


def test_a_run_says_what_it_was_told_and_what_it_ran_on(run: Path):
    config = json.loads((run / "config.json").read_text())
    assert config["system"] == "ToyConfig" and config["config"]["dropout"] == 0.5
    assert config["options"]["seed"] == 0 and config["data"]["samples"] == [24]
    (start,) = json.loads((run / "environment.json").read_text())["starts"]
    assert start["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]  # +cu130, +cpu
    assert start["hardware"]["cores"] >= 1 and "pytest" in start["command"]


def _refuse(run: Path, word: str, **more: object) -> None:
    with pytest.raises((ValueError, OSError), match=word) as raised:
        load_run(run, kind=more.pop("kind", ToyConfig), **more)
    assert "\n" not in str(raised.value)


def test_what_is_no_run_is_refused(tmp_path: Path):
    _refuse(tmp_path / "missing", "is no folder")
    _refuse(tmp_path, "has no config.json")
    (tmp_path / "config.json").write_text("{")
    _refuse(tmp_path, "cannot be read")
    (tmp_path / "config.json").write_text("[1]")
    _refuse(tmp_path, "does not describe a run")


def test_a_run_of_another_version_or_system_is_refused(run: Path):
    _refuse(run, "'ToyConfig', which this kouros does not know", kind=None)
    _rewrite(run / "config.json", version=99)
    _refuse(run, "has version 99, this kouros reads 1")
    _rewrite(run / "config.json", version=1, system="os.system")
    _refuse(run, "a run of os.system, not of ToyConfig")
    _refuse(run, "knows spin, hkmr", kind=None)


def test_a_configuration_that_is_not_the_systems_is_refused(run: Path):
    _rewrite(run / "config.json", config={"dropout": "much"})
    _refuse(run, "ToyConfig.dropout is 'much', expected float")
    _rewrite(run / "config.json", config={"drop": 0.5})
    _refuse(run, "has no field drop; it has: dropout")


def test_weights_that_do_not_fit_are_refused(run: Path):
    _rewrite(run / "config.json", config={"adversary": True})
    _refuse(run, r"weights\.pt does not fit this system: it lacks adversary\.bias, adversary\.weight")
    _rewrite(run / "config.json", config={})
    weights = load_archive(run / "weights.pt")
    weights["weights"]["linear.bias"] = torch.zeros(3)
    save_archive(run / "weights.pt", weights)
    _refuse(run, r"linear\.bias is \(3,\), expected \(85,\)")


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"kouros_weights": 2}, "has version 2"), ({"kouros_weights": None}, "no weights"), ({"system": "spin"}, "spin")],
)
def test_files_of_other_weights_are_refused(run: Path, changes: dict, word: str):
    save_archive(run / "weights.pt", load_archive(run / "weights.pt") | changes)
    _refuse(run, word)


def test_a_checkpoint_of_another_version_is_refused(run: Path):
    (run / "weights.pt").unlink()
    content = load_archive(run / "checkpoints" / "last.ckpt")
    content["kouros"]["version"] = 7
    save_archive(run / "checkpoints" / "last.ckpt", content)
    _refuse(run, "has version 7 of the checkpoints' format")


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(0, 200_000), junk=st.binary(max_size=64))
def test_damaged_weights_are_refused_in_a_sentence(finished: Path, tmp_path_factory, cut: int, junk: bytes):
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "config.json").write_bytes((finished / "config.json").read_bytes())
    (folder / "weights.pt").write_bytes((finished / "weights.pt").read_bytes()[:cut] + junk)
    _refuse(folder, "is damaged or no file of tensors")


def test_weights_are_never_unpickled_into_code(run: Path):
    torch.save({"kouros_weights": 1, "weights": Path("x")}, run / "weights.pt")
    _refuse(run, "is damaged or no file of tensors")


def test_the_best_weights_are_asked_for_before_there_are_any(run: Path):
    _refuse(run, "has no best weights yet", which="best")


class _Colour(Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class _Inner:
    factor: float = 1.0
    path: Path | None = None


@dataclass(frozen=True)
class _Outer:
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[str, float] = ("a", 0.5)
    colour: _Colour = _Colour.RED
    depth: Literal[18, 50] = 50
    inner: _Inner = field(default_factory=_Inner)
    other: _Inner | None = None


@given(
    st.builds(
        _Outer,
        sizes=st.lists(st.integers()).map(tuple),
        pair=st.tuples(st.text(), st.floats(allow_nan=False)),
        colour=st.sampled_from(_Colour),
        depth=st.sampled_from([18, 50]),
        inner=st.builds(_Inner, factor=st.floats(-1, 1), path=st.none() | st.just(Path("a/b"))),
        other=st.none() | st.builds(_Inner),
    )
)
def test_configurations_come_back_from_json(config: _Outer):
    assert from_json(_Outer, json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"sizes": [1, "2"]}, r"_Outer\.sizes\[1\] is '2', expected int"),
        ({"pair": ["a"]}, r"_Outer\.pair"),
        ({"colour": "GREEN"}, "GREEN"),
        ({"depth": 34}, "one of 18, 50"),
        ({"inner": {"factor": True}}, r"_Inner\.factor is True"),
        ({"inner": None}, "_Inner is None"),
        ([], "expected an object"),
    ],
)
def test_configurations_of_other_types_are_refused(values: object, word: str):
    with pytest.raises(ValueError, match=word):
        from_json(_Outer, values)
