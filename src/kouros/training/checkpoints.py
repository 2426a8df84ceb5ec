"""Checkpoints: written whole or not at all, the newest few and the best kept, damage and strangers refused.

``checkpoints/step-N.ckpt`` is Lightning's, with what `kouros.training.module` adds; ``last.ckpt`` and
``best.ckpt`` are further names of one of them.
"""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from kouros.files import aside_of
from kouros.training.lightning_import import Callback, TorchCheckpointIO, Trainer
from kouros.training.module import SystemModule
from kouros.training.options import TrainingError
from kouros.training.runs import RunFolder
from kouros.training.weights import Weights, load_archive, save_archive, save_weights


class WholeFiles(TorchCheckpointIO):
    """Writes checkpoints aside and renames them; the first error is kept for all processes to hear of."""

    def __init__(self) -> None:
        super().__init__()
        self.error: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write; called on the first process only."""
        try:
            save_archive(Path(path), checkpoint)
        except OSError as error:
            self.error = error

    def load_checkpoint(self, path: Any, map_location: Any | None = None, weights_only: bool | None = None) -> Any:
        """Read onto the CPU, tensors and plain values only."""
        return load_archive(Path(path))


class CheckpointKeeper(Callback):
    """Saves every few steps, at the end, when it is the best, and before leaving where that is asked for; tidies up."""

    def __init__(self, run: RunFolder, files: WholeFiles) -> None:
        self._run = run
        self._files = files

    def on_train_start(self, trainer: Trainer, module: SystemModule) -> None:  # type: ignore[override]
        """Save what a new run begins with, which may have taken long (first fits)."""
        if module.steps_done == 0 and module.begun:
            self._save(trainer, module, best=False)
            if trainer.is_global_zero:
                self._run.beginning.unlink(missing_ok=True)

    def on_train_batch_end(self, trainer: Trainer, module: SystemModule, *_: Any) -> None:  # type: ignore[override]
        """Save where a checkpoint is due."""
        options, done = module.options, module.steps_done
        best = module.new_best
        if best or module.leaving or done % options.checkpoint_every == 0 or done == options.max_steps:
            self._save(trainer, module, best)
            module.new_best = False
        if module.leaving and done < options.max_steps:
            raise SystemExit(128 + signal.SIGTERM)

    def _save(self, trainer: Trainer, module: SystemModule, best: bool) -> None:
        module.require_finite_weights()
        path = self._run.checkpoint(module.steps_done)
        trainer.save_checkpoint(path)
        error = self._files.error
        if trainer.is_global_zero and error is None:
            try:
                if best:  # first: `last` says that this score has been reached
                    _also_named(path, self._run.best)
                _also_named(path, self._run.last)
                save_weights(self._run.weights, Weights(module.name, module.steps_done, module.published()))
                for old in self._run.numbered()[: -module.options.keep]:
                    old.unlink()
            except OSError as failed:
                error = failed
        reason = trainer.strategy.broadcast(None if error is None else str(error))
        if reason is not None:
            raise TrainingError(
                f"step {module.steps_done}: the checkpoint cannot be saved ({reason}); the one before it is as it was. "
                "Make room, then go on with --resume."
            )


def _also_named(path: Path, name: Path) -> None:
    """Give a file another name, without its space twice where the file system can."""
    aside = aside_of(name)
    try:
        try:
            os.link(path, aside)
        except OSError:
            shutil.copyfile(path, aside)
        aside.replace(name)
    finally:
        aside.unlink(missing_ok=True)
