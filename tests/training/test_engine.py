"""The engine trains, logs and saves; and when something breaks, it says what, and leaves the last checkpoint alone."""

import math
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

pytest.importorskip("lightning")

from tests.training import toy
from tests.training.toy import People, ToyBatches, ToyConfig, batch_of, run_toy

from kouros.geometry.cameras import WeakPerspectiveCamera, perspective_translation
from kouros.systems.pictures import people_sheet
from kouros.systems.spin import SpinConfig
from kouros.training.engine import EngineOptions, TrainingData, train
from kouros.training.options import TrainingError
from kouros.training.weights import load_archive


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_archive(folder / "weights.pt")["weights"]


def _curves(folder: Path) -> dict[str, list]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "logs"))
    events.Reload()
    curves = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    return curves | {tag: events.Images(tag) for tag in events.Tags()["images"]}


def test_the_toy_learns_its_people_by_heart(tmp_path: Path):
    run_toy(tmp_path, ToyConfig(dropout=0.0), max_steps=150, log_every=1)
    losses = [point.value for point in _curves(tmp_path)["loss"]]
    assert losses[-1] < 0.1 * losses[0]


@pytest.mark.parametrize("adversary", [False, True])
def test_steps_are_those_of_a_plain_loop(tmp_path: Path, free_body, adversary: bool):
    """Each optimizer lowers its own loss; gradients are clipped, one optimizer's at a time."""
    config = ToyConfig(dropout=0.0, adversary=adversary)
    run_toy(tmp_path, config, max_steps=6, clip=0.05)
    torch.manual_seed(0)
    system = config.build(free_body, 24)
    stream = ToyBatches(toy.SIZE).stream((People(),), None, 8, 0)
    networks = [system.linear] + [system.adversary] * adversary
    optimizers = system.optimizers()
    for step in range(6):
        losses = system.training_step(stream[step]).losses
        for network, optimizer, loss in zip(networks, optimizers, losses, strict=True):
            gradients = torch.autograd.grad(loss, list(network.parameters()))
            norm = torch.cat([g.flatten() for g in gradients]).norm()
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient * (0.05 / norm).clamp(max=1)
            optimizer.step()
    found = _weights(tmp_path)
    for name, parameter in system.named_parameters():
        assert_close(found[name], parameter.detach(), atol=1e-6, rtol=1e-4)


def test_losses_terms_rates_and_speed_are_logged(tmp_path: Path):
    run_toy(tmp_path, ToyConfig(adversary=True), log_every=1)
    curves = _curves(tmp_path)
    assert set(curves) == {
        "loss", "loss/1", "terms/pose", "terms/betas", "learning_rate", "learning_rate/1", "speed/samples_per_second"
    }  # fmt: skip
    assert [point.step for point in curves["loss/1"]] == list(range(1, 13))
    assert curves["learning_rate/1"][0].value == pytest.approx(1e-2)


def test_the_average_of_the_weights_is_what_is_published(tmp_path: Path):
    """Decays of the first steps are (1 + n) / (10 + n); bfloat16 would not change a sum of two weights."""
    run_toy(tmp_path, max_steps=2, ema=0.9, checkpoint_every=1, keep=5)
    last = [load_archive(tmp_path / "checkpoints" / f"step-{n}.ckpt") for n in (1, 2)]
    torch.manual_seed(0)
    average = toy.ToyConfig().build(toy.body(), 0).linear.weight.detach()
    for steps, checkpoint in enumerate(last, start=1):
        decay = (1 + steps) / (10 + steps)
        average = decay * average + (1 - decay) * checkpoint["state_dict"]["linear.weight"]
    assert_close(_weights(tmp_path)["linear.weight"], average)
    assert int(_weights(tmp_path)["steps"]) == 2


def test_bodies_are_not_in_checkpoints(tmp_path: Path):
    run_toy(tmp_path)
    content = load_archive(tmp_path / "checkpoints" / "last.ckpt")
    assert set(content["state_dict"]) == {"linear.weight", "linear.bias", "steps"}
    assert set(_weights(tmp_path)) == {"linear.weight", "linear.bias", "steps"}


def test_old_checkpoints_are_tidied_away(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".kouros-0123456789abcdef.part").touch()  # of a killed run
    run_toy(tmp_path, checkpoint_every=2, keep=2)
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step-10.ckpt", "step-12.ckpt", "last.ckpt"}


def test_a_loss_that_is_not_finite_names_step_terms_and_samples(tmp_path: Path):
    with pytest.raises(TrainingError) as raised:
        run_toy(tmp_path, ToyConfig(fails_at=7), checkpoint_every=5)
    assert "step 7: the loss is not finite (pose = " in str(raised.value)
    content = load_archive(tmp_path / "checkpoints" / "last.ckpt")
    assert content["kouros"]["steps"] == 5
    assert bool(torch.isfinite(content["state_dict"]["linear.weight"]).all())


def test_a_prediction_that_is_not_finite_names_its_sample(tmp_path: Path):
    with pytest.raises(TrainingError, match=r"not finite are the predictions of samples 3(, 3)*\. "):
        run_toy(tmp_path, ToyConfig(broken_sample=3))


def test_broken_weights_are_not_saved(tmp_path: Path):
    def break_them() -> None:
        with torch.no_grad():
            toy.BUILT[-1].linear.bias[84] = torch.nan  # of the camera, which no loss sees

    with pytest.raises(TrainingError, match=r"weights linear\.bias are not finite"):
        run_toy(tmp_path, checkpoint_every=5, event=(8, break_them))
    assert load_archive(tmp_path / "checkpoints" / "last.ckpt")["kouros"]["steps"] == 5


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(tmp_path: Path):
    """The limit on files' sizes makes writing fail half-way, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))

    try:
        with pytest.raises(TrainingError, match=r"step 10: the checkpoint cannot be saved.*File too large"):
            run_toy(tmp_path, checkpoint_every=5, event=(8, fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"step-0.ckpt", "step-5.ckpt", "last.ckpt"}
    assert run_toy(tmp_path, resume=True).steps == 12


def test_an_interrupt_comes_through(tmp_path: Path):
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, checkpoint_every=5, event=(8, interrupt))
    assert run_toy(tmp_path, resume=True).steps == 12


def test_data_without_what_the_system_needs_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="toy people knows no pose, without which it teaches Toy nothing"):
        run_toy(tmp_path, source=People(fields=("keypoints_2d", "betas")))
    assert not (tmp_path / "config.json").exists()


def test_no_samples_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="toy people has no samples"):
        run_toy(tmp_path, source=People(count=0))


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"max_steps": 0}, "--max-steps must be at least 1, not 0"),
        ({"clip": -1.0}, "--clip"),
        ({"ema": 1.0}, "--ema must be at least 0 and below 1"),
        ({"devices": 3}, "cannot be shared equally among 3"),
        ({"seed": -1}, "--seed"),
        ({"warmup": -1}, "--warmup"),
        ({"precision": "16-mixed"}, "needs --accelerator gpu"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, given: dict, word: str):
    with pytest.raises(ValueError, match=word):
        run_toy(tmp_path, **given)


def test_a_run_begins_with_given_weights(tmp_path: Path):
    run_toy(tmp_path / "one")
    run_toy(tmp_path / "two", start=tmp_path / "one" / "weights.pt", max_steps=1)
    one, two = (_weights(tmp_path / name)["linear.weight"] for name in ("one", "two"))
    assert 0 < float((one - two).abs().max()) < 2e-3  # one step of Adam at 1e-3
    with pytest.raises(ValueError, match="does not fit this system: it lacks adversary"):
        run_toy(tmp_path / "three", ToyConfig(adversary=True), start=tmp_path / "one" / "weights.pt")


def test_given_weights_count_more_than_what_a_system_begins_with(tmp_path: Path):
    run_toy(tmp_path / "one")
    config = ToyConfig(begins_at=7.0)
    run_toy(tmp_path / "two", config, start=tmp_path / "one" / "weights.pt", max_steps=1)
    run_toy(tmp_path / "three", config, max_steps=1)
    one, two, three = (_weights(tmp_path / name)["linear.weight"] for name in ("one", "two", "three"))
    assert float((one - two).abs().max()) < 2e-3 and float((three - 7).abs().max()) < 2e-3


def test_weights_without_checkpoints_are_not_written_over(tmp_path: Path):
    run_toy(tmp_path)
    for checkpoint in (tmp_path / "checkpoints").iterdir():
        checkpoint.unlink()
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    for resume in (False, True):
        with pytest.raises(ValueError, match="begin with them by --start"):
            run_toy(tmp_path, resume=resume)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_the_learning_rate_rises_and_falls_by_the_step(tmp_path: Path):
    run_toy(tmp_path, max_steps=8, schedule="cosine", warmup=3, log_every=1)
    rates = [point.value / 1e-3 for point in _curves(tmp_path)["learning_rate"]]
    half_cosine = [0.5 + 0.5 * math.cos(math.pi * step / 8) for step in range(8)]
    rising = [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert rates == pytest.approx([a * b for a, b in zip(half_cosine, rising, strict=True)], rel=1e-5)


def test_a_polynomial_schedule_ends_at_nothing():
    options = EngineOptions(max_steps=10, schedule="polynomial")
    shares = [options.learning_rate_share(step) for step in range(11)]
    assert shares[0] == 1 and shares[10] == 0
    assert shares[5] == pytest.approx(0.5**0.9)
    assert sorted(shares, reverse=True) == shares and len(set(shares)) == 11


def test_a_schedule_goes_on_where_it_was(tmp_path: Path):
    def interrupt() -> None:
        raise KeyboardInterrupt

    told = {"schedule": "cosine", "warmup": 2, "checkpoint_every": 3}
    run_toy(tmp_path / "whole", **told)
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path / "broken", event=(8, interrupt), **told)
    run_toy(tmp_path / "broken", resume=True, **told)
    assert_close(_weights(tmp_path / "broken"), _weights(tmp_path / "whole"), rtol=0, atol=0)
    with pytest.raises(ValueError, match="--max-steps 12, now asked for 20"):
        run_toy(tmp_path / "broken", resume=True, **told, max_steps=20)


@pytest.mark.parametrize(
    ("complaint", "remedy"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", "a smaller --batch-size"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error.", "fewer --workers"),
    ],
)
def test_failures_that_users_can_mend_come_with_the_remedy(tmp_path: Path, complaint: str, remedy: str):
    with pytest.raises(TrainingError, match=remedy):
        run_toy(tmp_path, ToyConfig(complaint=complaint))


def test_people_who_say_nothing_cannot_judge(tmp_path: Path):
    with pytest.raises(ValueError, match="toy judges has neither keypoints_3d nor keypoints_2d"):
        run_toy(tmp_path, validation={"toy judges": People(fields=("pose",))})
    assert not tmp_path.joinpath("config.json").exists()


def test_a_run_without_a_terminal_says_how_it_is_doing(tmp_path: Path, capsys):
    run_toy(tmp_path)
    said = capsys.readouterr().err
    assert all(f"step {step} of 12: loss " in said for step in (1, 5, 10, 12))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_trains_on_after_judging_and_drawing(tmp_path: Path, free_body):
    """Judging moves the judge's body, no one else's."""
    everyone = People(fields=("keypoints_2d", "pose", "betas"))
    data = TrainingData((everyone,), validation={"toy people": everyone}, names=("toy people",))
    options = EngineOptions(4, batch_size=8, workers=0, accelerator="gpu", validate_every=1, pictures_every=1)
    config = SpinConfig(crop_size=toy.SIZE * 4, backbone=18)
    assert train(config, free_body, data, tmp_path, options).steps == 4
    assert free_body.v_template.device.type == "cpu"


def test_pictures_show_predictions_over_crops(free_body):
    """Of two people in black crops only the visible one's is drawn; the target's column has another colour."""
    step = ToyConfig(dropout=0.0).build(free_body, 24).training_step(batch_of(People(), [0, 1]))
    size = 64
    seen = WeakPerspectiveCamera(torch.tensor([0.9, -1.0]), torch.zeros(2, 2))
    bodies = replace(step.predicted.bodies, transl=perspective_translation(seen))
    sheet = people_sheet(torch.zeros(2, 3, size, size), bodies, bodies, free_body)
    assert sheet.shape == (2 * size + 4, 3 * size + 8, 3)
    crop, predicted, target = (sheet[:size, i * (size + 4) : i * (size + 4) + size] for i in range(3))
    assert not crop.any()
    shares = [(column.max(axis=-1) > 20).mean() for column in (predicted, target)]
    assert shares[0] == pytest.approx(shares[1], abs=0.02) and 0.05 < shares[0] < 0.6
    assert predicted[..., 2].sum() > predicted[..., 0].sum()  # blue
    assert target[..., 0].sum() > target[..., 2].sum()  # yellow
    assert not sheet[size + 4 :, :size].any() and not sheet[size + 4 :, size + 4 : 2 * size + 4].any()


def test_pictures_reach_the_log(tmp_path: Path):
    run_toy(tmp_path, pictures_every=6)
    assert [image.step for image in _curves(tmp_path)["people"]] == [1, 6, 12]


def test_nothing_to_train_on_is_refused(tmp_path: Path, free_body):
    with pytest.raises(ValueError, match="nothing to train on"):
        train(ToyConfig(), free_body, TrainingData(()), tmp_path, EngineOptions(1))
