"""Systems made of others: stages that begin with an earlier one's weights, chains of runs, backbones that stay."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

pytest.importorskip("lightning")

from tests.training.toy import SIZE, People, ToyConfig, body, run_toy

from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.cli import main
from kouros.data.augment import AugmentConfig, Spread
from kouros.data.batch import Batch
from kouros.data.schema import Sample
from kouros.geometry.cameras import WeakPerspectiveCamera, nominal_crop_camera, perspective_translation
from kouros.pipeline.open import open_estimator
from kouros.systems import table
from kouros.systems.estimator import Estimate, PersonInPhoto
from kouros.systems.measures import Best, Sum
from kouros.systems.recipe import Recipe
from kouros.systems.system import CropSystem, Start, Step
from kouros.systems.table import SYSTEMS, SystemEntry
from kouros.training.engine import EngineOptions, Outcome, TrainingData, train
from kouros.training.features import Look, repeated
from kouros.training.runs import load_run
from kouros.training.starting import load_partial
from kouros.training.weights import load_archive, read_weights

STILL = AugmentConfig(flipped=0.0, turned=0.0, scale=Spread(0.0), colour=0.0)


@dataclass(frozen=True)
class Boxed(People):
    """Toy people who say where they are."""

    def sample(self, row: int) -> Sample:
        return replace(super().sample(row), box_center=np.full(2, SIZE / 2), box_size=float(SIZE))


# --- A stage without bodies, and one that begins with it -------------------------------------------------------


@dataclass(frozen=True)
class BrightConfig:
    """Learns how bright each third of the picture is: no body anywhere."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=7, batch_size=8)
    augment: AugmentConfig = STILL

    def build(self, body: BodyModel, num_samples: int) -> "Bright":
        return Bright(self)


class Bright(CropSystem):
    needs = ()
    judged_by = ("keypoints_2d",)
    best_by = (Best("close", "most"),)
    crop_size = SIZE

    def __init__(self, config: BrightConfig) -> None:
        super().__init__()
        self.augment = config.augment
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 6), nn.BatchNorm1d(6))
        self.head = nn.Linear(6, 3)

    def optimizers(self):
        return (torch.optim.Adam(self.parameters(), 1e-2),)

    def training_step(self, batch: Batch) -> Step:
        loss = (self.head(self.seen(batch)) - _thirds(batch.image)).square().mean()
        return Step((loss,), {"brightness": loss.detach()})

    def predict(self, image: Tensor) -> Estimate:
        return Estimate(points_2d=self.head(self.features(image))[:, :, None].expand(-1, -1, 2))

    def measures(self, batch: Batch) -> Mapping[str, Sum]:
        away = (self.predict(batch.image).points_2d[..., 0] - _thirds(batch.image)).abs()
        return {"close": Sum.over((away < 0.2).float(), said="close {:.2f}")}

    def pictures(self, batch: Batch, step: Step) -> dict[str, np.ndarray]:
        return {"first": (255 * batch.image[0].permute(1, 2, 0)).byte().numpy()}


def _thirds(image: Tensor) -> Tensor:
    return torch.stack([part.mean((1, 2, 3)) for part in image.chunk(3, dim=2)], dim=1)


@dataclass(frozen=True)
class PosedConfig:
    """From brightness to betas, where an earlier stage has seen brightness."""

    recipe: ClassVar[Recipe] = Recipe(max_steps=3)
    bright: Path | None = None
    take: tuple[str, ...] = ("backbone.", "head.")

    def build(self, body: BodyModel, num_samples: int) -> "Posed":
        return Posed(self, body)


class Posed(CropSystem):
    """Can also stand behind a stage whose points it looks at."""

    crop_size = SIZE

    def __init__(self, config: PosedConfig, body: BodyModel) -> None:
        super().__init__()
        self.config, self.body, self.augment = config, body, STILL
        self.bright = Bright(BrightConfig())
        self.betas = nn.Linear(3, 10)

    def begin(self, samples) -> None:
        nn.init.zeros_(self.bright.head.weight)

    def starts(self):
        take = {f"bright.{name}": name for name in self.config.take}
        return () if self.config.bright is None else (Start(self.config.bright, take),)

    def optimizers(self):
        return (torch.optim.SGD(self.betas.parameters(), 1e-3),)

    def training_step(self, batch: Batch) -> Step:
        found = self.betas(self.bright.head(self.bright.features(batch.image)).detach())
        return Step(((found - batch.betas).square().mean(),), {})

    @torch.no_grad()
    def predict(self, image: Tensor) -> Estimate:
        return self.go_on(image, self.bright.predict(image))

    @torch.no_grad()
    def go_on(self, image: Tensor, estimate: Estimate) -> Estimate:
        betas = self.betas(estimate.points_2d[..., 0])
        seen = WeakPerspectiveCamera(torch.full((len(image),), 0.9), torch.zeros(len(image), 2))
        transl, camera = perspective_translation(seen), nominal_crop_camera(len(image), image)
        return replace(estimate, bodies=Bodies(torch.zeros(len(image), 72), betas, transl, camera))


def _train(config, out: Path, *, source=None, validation=None, start=None, **given) -> Outcome:
    options = EngineOptions(**({"max_steps": 4, "batch_size": 8, "workers": 0, "pictures_every": 0} | given))
    source = source or Boxed()
    data = TrainingData((source,), validation=validation or {}, names=("toy people",))
    return train(config, body(), data, out, options, start=start)


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stages") / "bright"
    _train(BrightConfig(), folder, max_steps=30)
    return folder


def test_what_has_no_body_is_trained_watched_and_drawn(tmp_path: Path, capsys):
    """Two validation sets: each is told by its name, the best is chosen by the most of the first."""
    sets = {"near": Boxed(seed=1), "far": Boxed(count=5, seed=2)}
    outcome = _train(
        BrightConfig(), tmp_path, validation=sets, max_steps=40, validate_every=20, pictures_every=20, keep=9
    )
    said = capsys.readouterr().err
    assert "step 40: near: close" in said and "step 40: far: close" in said
    values = {name: scores.values["close"] for name, scores in outcome.scores.items()}
    assert list(values) == ["near", "far"] and outcome.best_score is not None
    assert outcome.best_score >= values["near"] and values["near"] > 0.5
    best = load_archive(tmp_path / "checkpoints" / "best.ckpt")["kouros"]
    assert best["best_score"] == outcome.best_score
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert {"validation/near/close", "validation/far/close"} <= set(events.Tags()["scalars"])
    assert [image.step for image in events.Images("first")] == [1, 20, 40]


def test_a_stage_begins_with_an_earlier_one_and_says_with_what(bright: Path, tmp_path: Path, capsys):
    _train(PosedConfig(bright), tmp_path / "posed")
    earlier, later = read_weights(bright / "weights.pt").tensors, read_weights(tmp_path / "posed/weights.pt").tensors
    for name in ("backbone.1.weight", "head.weight"):  # nothing trains them here; the system's own beginning is zeros
        assert torch.equal(earlier[name], later[f"bright.{name}"])
    said = capsys.readouterr().err
    assert said.count(f"weights from {bright}; 2 stay as they begin (betas.bias, betas.weight)") == 1
    (began,) = json.loads((tmp_path / "posed" / "config.json").read_text())["began_with"]
    assert began["from"] == str(bright) and "bright.head.bias" in began["taken"]
    assert began["fresh"] == ["betas.bias", "betas.weight"] and began["left"] == []

    # What goes on, or is loaded, needs no earlier stage.
    moved = bright.rename(bright.with_name("away"))
    try:
        options = EngineOptions(6, batch_size=8, workers=0, pictures_every=0)
        data = TrainingData((Boxed(),), names=("toy people",))
        assert train(PosedConfig(bright), body(), data, tmp_path / "posed", options, resume=True).steps == 6
        load_run(tmp_path / "posed", body(), kind=PosedConfig)
    finally:
        moved.rename(bright)
    assert json.loads((tmp_path / "posed" / "config.json").read_text())["began_with"] == [began]


def test_weights_that_are_not_there_or_do_not_fit_are_named():
    system = Bright(BrightConfig())
    own = {k: v + 1 for k, v in system.state_dict().items()}
    before = {k: v.clone() for k, v in system.state_dict().items()}
    with pytest.raises(ValueError, match=r"X cannot give 'neck\.', which this system has not"):
        load_partial(system, own, ["neck."], "X")
    with pytest.raises(ValueError, match=r"X lacks other\.bias, other\.weight"):
        load_partial(system, own, {"head.": "other."}, "X")
    with pytest.raises(ValueError, match=r"head\.weight is \(2, 2\), expected \(3, 6\)"):
        load_partial(system, own | {"head.weight": torch.zeros(2, 2)}, ["backbone.", "head."], "X")
    assert all(torch.equal(before[k], v) for k, v in system.state_dict().items())
    taken = load_partial(system, own, ["head.bias"], "X")
    assert list(taken.tensors) == ["head.bias"] and torch.equal(system.head.bias, own["head.bias"])
    assert str(taken).startswith("1 weights from X; 8 stay as they begin")


# --- Chains ----------------------------------------------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toys as systems of the house."""
    for name, config in (("bright", "BrightConfig"), ("posed", "PosedConfig")):
        monkeypatch.setitem(SYSTEMS, name, SystemEntry(name, name, __name__, config, "a toy"))


def test_a_chain_of_runs_makes_people(tmp_path: Path, known: None, free_body):
    _train(BrightConfig(), tmp_path / "chain" / "first")
    _train(PosedConfig(), tmp_path / "second")
    stages = [str(tmp_path / "chain" / "first"), str(tmp_path / "second")]
    assert main(["models", "chain", *stages, "--out", str(tmp_path / "chain")]) == 0
    moved = (tmp_path / "chain").rename(tmp_path / "moved")  # with the stage in it
    estimator = open_estimator(moved)
    assert estimator.name == "moved" and estimator.body is not None
    picture = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)
    person = PersonInPhoto(picture, (SIZE, SIZE), np.full(2, SIZE / 2), float(SIZE), np.array([0.0, 0, SIZE, SIZE]))
    (estimate,) = estimator.estimate([person])
    first, second = load_run(moved / "first"), load_run(tmp_path / "second")
    seen = first.predict(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
    assert_close(estimate.bodies.betas, second.betas(seen.points_2d[..., 0])[0])


def test_a_packed_chain_answers_as_the_chain_does(tmp_path: Path, known: None, monkeypatch: pytest.MonkeyPatch):
    """As those that come with kouros: small files of plain arrays, found by the system's name."""
    _train(BrightConfig(), tmp_path / "first")
    _train(PosedConfig(), tmp_path / "second")
    stages = [str(tmp_path / "first"), str(tmp_path / "second")]
    assert main(["models", "chain", *stages, "--out", str(tmp_path / "chain")]) == 0
    monkeypatch.setattr(table, "PACKAGED", tmp_path / "packaged")
    assert SYSTEMS["posed"].packaged is None
    packed = tmp_path / "packaged" / "posed"
    assert main(["models", "pack", str(tmp_path / "chain"), "--out", str(packed)]) == 0
    assert SYSTEMS["posed"].packaged == packed
    files = sorted(str(path.relative_to(packed)) for path in packed.rglob("*.*"))
    stage_files = [f"{stage}/{name}" for stage in ("1-first", "2-second") for name in ("config.json", "weights.npz")]
    assert files == [*stage_files, "config.json"]
    with np.load(packed / "1-first" / "weights.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype for name in arrays.files if name.endswith("weight")} == {np.dtype(np.float16)}
    whole, small = load_run(tmp_path / "chain"), load_run(packed.rename(tmp_path / "moved"))
    picture = torch.rand(2, 3, SIZE, SIZE)
    assert_close(small.predict(picture).bodies.betas, whole.predict(picture).bodies.betas, atol=2e-3, rtol=2e-3)
    assert main(["models", "pack", str(tmp_path / "chain"), "--out", str(tmp_path / "first")]) == 1


def test_a_packed_run_can_be_trained_on(tmp_path: Path, known: None):
    """Whoever has the weights that come with kouros, and no checkpoint."""
    _train(BrightConfig(), tmp_path / "first")
    assert main(["models", "pack", str(tmp_path / "first"), "--out", str(tmp_path / "packed")]) == 0
    _train(BrightConfig(), tmp_path / "next", start=tmp_path / "packed", max_steps=1)
    kept, going_on = (read_weights(tmp_path / run / "weights.pt").tensors for run in ("first", "next"))
    _train(BrightConfig(), tmp_path / "anew", max_steps=1)
    anew = read_weights(tmp_path / "anew" / "weights.pt").tensors
    name = "backbone.2.weight"
    assert not torch.equal(going_on[name], kept[name])
    assert (going_on[name] - kept[name]).norm() < 0.6 * (anew[name] - kept[name]).norm()


def test_stages_that_cannot_be_chained_are_refused(tmp_path: Path, known: None, capsys):
    _train(BrightConfig(), tmp_path / "first")
    first = str(tmp_path / "first")
    assert main(["models", "chain", first, first, "--out", str(tmp_path / "chain")]) == 1
    assert "Bright takes nothing from a stage before it" in capsys.readouterr().err
    assert main(["models", "chain", first, "--out", str(tmp_path / "chain")]) == 2
    assert not (tmp_path / "chain").exists()


# --- Held backbones --------------------------------------------------------------------------------------------


def test_a_held_backbone_stays_as_it_is(tmp_path: Path):
    """Also its running statistics; and its weights are in no optimizer."""
    torch.manual_seed(0)
    before = BrightConfig().build(body(), 0).backbone.state_dict()
    _train(BrightConfig(), tmp_path, hold_backbone=True)
    after = read_weights(tmp_path / "weights.pt").tensors
    for name, tensor in before.items():
        assert torch.equal(after[f"backbone.{name}"], tensor), name
    state = load_archive(tmp_path / "checkpoints" / "last.ckpt")["optimizer_states"][0]
    assert len(state["state"]) == 2  # the head's weight and bias
    with pytest.raises(ValueError, match="Toy has no backbone that can be held"):
        run_toy(tmp_path / "toy", hold_backbone=True)


class Counted(Boxed):
    """Counts the pictures that are looked at."""

    looked = 0

    def image(self, row: int) -> np.ndarray:
        Counted.looked += 1
        return super().image(row)


def test_features_on_disk_serve_in_place_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each picture is looked at once, by all runs together; what is learned is the same up to float16."""
    monkeypatch.setattr(Bright, "training_step", _from_what_the_data_say)
    given = {"source": Counted(count=20), "hold_backbone": True, "max_steps": 10}
    Counted.looked = 0
    for name in ("one", "two"):
        _train(BrightConfig(), tmp_path / name, cache_features=tmp_path / "features", **given)
        assert Counted.looked == 20
    _train(BrightConfig(), tmp_path / "plain", **given)
    assert Counted.looked == 20 + 10 * 8
    one, two, plain = (read_weights(tmp_path / n / "weights.pt").tensors for n in ("one", "two", "plain"))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert_close(one["head.weight"], plain["head.weight"], atol=1e-3, rtol=1e-2)
    assert len(list((tmp_path / "features").iterdir())) == 1
    # Other weights have other features.
    _train(BrightConfig(), tmp_path / "three", cache_features=tmp_path / "features", **given, seed=1)
    assert len(list((tmp_path / "features").iterdir())) == 2


def _from_what_the_data_say(self: Bright, batch: Batch) -> Step:
    """Not from the picture, which nobody has read."""
    return Step(((self.head(self.seen(batch)) - batch.betas[:, :3]).square().mean(),), {})


def test_batches_of_changed_crops_come_again_without_being_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """So many pictures are looked at, by all runs of a seed together; what is learned is the same up to float16."""
    monkeypatch.setattr(Bright, "training_step", _from_what_the_data_say)
    config = BrightConfig(augment=AugmentConfig(turned=1.0, colour=0.5))
    given = {"source": Counted(count=20), "hold_backbone": True, "cached_batches": 3}
    Counted.looked = 0
    _train(config, tmp_path / "one", cache_features=tmp_path / "features", **given, max_steps=3)
    _train(config, tmp_path / "two", cache_features=tmp_path / "features", **given, max_steps=10)
    assert Counted.looked == 3 * 8
    (folder,) = (tmp_path / "features").iterdir()
    assert len(list(folder.iterdir())) == 3
    _train(config, tmp_path / "other", cache_features=tmp_path / "features", **given, max_steps=3, seed=1)
    assert Counted.looked == 2 * 3 * 8


def test_repeated_batches_are_the_first_of_the_stream_each_once_a_round(tmp_path: Path):
    torch.manual_seed(0)
    system = BrightConfig(augment=AugmentConfig(turned=1.0, colour=0.5)).build(body(), 0)
    system.hold_backbone()
    source = Boxed(count=20)
    look = Look(batch_size=4, seed=5, ratios=None, rank=0, world=1)
    batches = repeated(system, [source], tmp_path, 3, look, torch.device("cpu"), 0)
    stream, plain = batches.stream([source], None, 4, 5), system.batches.stream([source], None, 4, 5)
    for first in (0, 3):
        found = {tuple(stream[first + i].index.tolist()): stream[first + i] for i in range(3)}
        for batch in (plain[i] for i in range(3)):
            again = found.pop(tuple(batch.index.tolist()))
            assert_close(again.features, system.features(batch.image), atol=1e-3, rtol=1e-3)
            assert_close(again.keypoints_2d, batch.keypoints_2d)


@pytest.mark.parametrize(
    ("config", "given", "word"),
    [
        (BrightConfig(augment=AugmentConfig()), {"hold_backbone": True}, "crops that nothing changes"),
        (BrightConfig(), {}, "add --hold-backbone"),
        (BrightConfig(), {"hold_backbone": True, "cached_batches": -1}, "must be 0 or more"),
    ],
)
def test_features_that_would_be_wrong_are_refused(tmp_path: Path, config, given: dict, word: str):
    with pytest.raises(ValueError, match=word):
        _train(config, tmp_path, cache_features=tmp_path / "features", **given)


# --- Parts of a batch ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adversary", [False, True])
def test_a_batch_in_parts_teaches_what_it_teaches_whole(tmp_path: Path, adversary: bool):
    config = ToyConfig(dropout=0.0, adversary=adversary)
    for parts in (1, 4):
        run_toy(tmp_path / str(parts), config, accumulate=parts, clip=0.05, log_every=1)
    whole, parts = (read_weights(tmp_path / n / "weights.pt").tensors for n in ("1", "4"))
    for name in whole.keys() - {"steps"}:
        assert_close(parts[name], whole[name], atol=1e-5, rtol=0)


def test_a_batch_that_cannot_be_parted_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="--batch-size 8 cannot be shared equally among 1 processes in 3 parts"):
        run_toy(tmp_path, accumulate=3)
