"""What a run tells: a progress bar, TensorBoard's curves and pictures, and the scores by validation."""

import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kouros.data.sources import Source
from kouros.training.judging import Scores, judge
from kouros.training.lightning_import import Callback, Trainer
from kouros.training.module import SystemModule


class Reporter(Callback):
    """Logs losses, speed and pictures, and moves the bar. On the first process; the others only help with means."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._since = (0.0, 0)
        self.loss = float("nan")
        """The last one logged."""
        self.samples_per_second = float("nan")

    def on_train_start(self, trainer: Trainer, module: SystemModule) -> None:  # type: ignore[override]
        """Show the bar, where somebody looks."""
        self._since = (time.monotonic(), module.steps_done)
        if trainer.is_global_zero and sys.stderr.isatty():
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[said]}"), console=Console(stderr=True))
            self._bar.add_task("", total=module.options.max_steps, completed=module.steps_done, said="")
            self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, module: SystemModule, *_: Any) -> None:  # type: ignore[override]
        """Log where an entry is due."""
        options, done = module.options, module.steps_done
        if self._bar:
            self._bar.update(self._bar.task_ids[0], completed=done)
        if done == 1 or done % options.log_every == 0 or done == options.max_steps:
            self._log(trainer, module)
        if options.pictures_every and (done == 1 or done % options.pictures_every == 0) and trainer.is_global_zero:
            assert module.last is not None
            numbered, step = module.last
            with torch.no_grad():
                pictures = module.system.pictures(numbered.batch, step)
            for name, picture in pictures.items():
                _writer(trainer).add_image(name, picture, done, dataformats="HWC")

    def on_train_end(self, trainer: Trainer, module: SystemModule) -> None:  # type: ignore[override]
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away; also when training failed."""
        if self._bar:
            self._bar.stop()
            self._bar = None

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)

    def _log(self, trainer: Trainer, module: SystemModule) -> None:
        assert module.last is not None
        _, step = module.last
        names = [*(f"loss/{i}" if i else "loss" for i in range(len(step.losses))), *(f"terms/{n}" for n in step.terms)]
        values = torch.stack([v.detach().float() for v in (*step.losses, *step.terms.values())])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(values)
            values /= dist.get_world_size()
        now, (before, step_before) = time.monotonic(), self._since
        self._since = (now, module.steps_done)
        means = dict(zip(names, values.tolist(), strict=True))
        steps = module.steps_done - step_before
        self.loss, self.samples_per_second = means["loss"], steps * module.options.batch_size / max(now - before, 1e-9)
        rates = _learning_rates(trainer)
        log_scalars(trainer, means | rates | {"speed/samples_per_second": self.samples_per_second}, module.steps_done)
        said = f"loss {self.loss:.4g}, {self.samples_per_second:.0f} samples/s"
        if self._bar:
            self._bar.update(self._bar.task_ids[0], said=said)
        elif trainer.is_global_zero:
            self.say(f"step {module.steps_done} of {module.options.max_steps}: {said}")


class Validation(Callback):
    """Judges the published weights every few steps and at the end, and marks the best by the first of the sets.

    Args:
        sets: to be judged by, by the names under which they are logged.
    """

    def __init__(self, sets: Mapping[str, Source], reporter: Reporter) -> None:
        self._sets = sets
        self._reporter = reporter
        self.scores: dict[str, Scores] = {}
        """The last ones, by set."""

    def on_train_batch_end(self, trainer: Trainer, module: SystemModule, *_: Any) -> None:  # type: ignore[override]
        """Judge where it is due."""
        options, done = module.options, module.steps_done
        if done % options.validate_every and done != options.max_steps:
            return
        module.require_finite_weights()
        module.agree_on_statistics()
        how = (module.device, options.batch_size, options.workers, trainer.global_rank, trainer.world_size)
        with module.with_published_weights():
            self.scores = {name: judge(module.system, source, *how) for name, source in self._sets.items()}
        decisive = next(iter(self.scores.values())).decisive(module.system.best_by)
        best = decisive is not None and decisive[0].beats(decisive[1], module.best_score)
        if decisive is not None and best:
            module.best_score, module.new_best = decisive[1], True
        for number, (name, scores) in enumerate(self.scores.items()):
            alone = len(self.scores) == 1
            prefix = "validation" if alone else f"validation/{name}"
            log_scalars(trainer, {f"{prefix}/{k}": v for k, v in scores.values.items()}, done)
            if trainer.is_global_zero:
                whose, mark = ("" if alone else f"{name}: "), (" (best)" if best and number == 0 else "")
                self._reporter.say(f"step {done}: {whose}{scores}{mark}")


def log_scalars(trainer: Trainer, values: Mapping[str, float], step: int) -> None:
    """Add points to TensorBoard's curves, on the first process."""
    if trainer.is_global_zero:
        for name, value in values.items():
            _writer(trainer).add_scalar(name, value, step)


def _writer(trainer: Trainer) -> Any:
    assert trainer.logger is not None
    return trainer.logger.experiment  # type: ignore[attr-defined]


def _learning_rates(trainer: Trainer) -> dict[str, float]:
    rates = {}
    for number, optimizer in enumerate(trainer.optimizers):
        rates[f"learning_rate/{number}" if number else "learning_rate"] = float(optimizer.param_groups[0]["lr"])
    return rates
