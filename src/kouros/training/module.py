"""A system as Lightning sees it: its losses, its optimizers, and what a checkpoint keeps of them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from kouros.systems.system import Step, System
from kouros.training.averaging import WeightAverage
from kouros.training.lightning_import import LightningModule
from kouros.training.options import EngineOptions, TrainingError
from kouros.training.runs import CHECKPOINT_VERSION
from kouros.training.steps import NumberedBatch, seed_step
from kouros.training.weights import learned_state, load_learned


class SystemModule(LightningModule):
    """Trains a system: each of its optimizers lowers its own loss, once a step.

    Every process computes the losses of its share of the batch, and the gradients are averaged over processes.
    That is the gradient of the whole batch's loss where a loss is a mean over the share's people, since shares
    are of equal size, or a mean over some of them by `kouros.systems.losses.mean_where`.
    """

    def __init__(self, system: System, name: str, options: EngineOptions) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False  # bodies are not in checkpoints; `load_learned` is strict about the rest
        self.system = system
        self.name = name
        self.options = options
        self.average = WeightAverage(system, options.ema) if options.ema else None
        self.steps_done = 0
        self.best_score: float | None = None
        """The lowest by validation."""
        self.new_best = False
        """Whether the weights as they are have it."""
        self.begun = False
        """Whether this process has just prepared something that should not be lost."""
        self.last: tuple[NumberedBatch, Step] | None = None
        """What the last step saw and answered, for the log."""

    def configure_optimizers(self) -> list[Optimizer]:
        """The paper's."""
        return list(self.system.optimizers())

    def on_fit_start(self) -> None:
        """Put the average where the weights are."""
        if self.average:
            self.average.to(self.device)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch."""
        return NumberedBatch(batch.step, batch.batch.to(device))

    def training_step(self, numbered: NumberedBatch, batch_idx: int) -> None:
        """One step of each optimizer."""
        seed_step(self.options.seed, numbered.step, self.global_rank)
        step = self.system.training_step(numbered.batch)
        self._require_finite(numbered, step)
        optimizers = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        self._set_learning_rates(numbered.step)
        for optimizer, loss in zip(optimizers, step.losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.steps_done = numbered.step + 1
        self.last = numbered, step
        if self.average:
            self.average.update(self.system, self.steps_done)

    def _set_learning_rates(self, step: int) -> None:
        """Those of one step: they follow from the step alone."""
        share = self.options.learning_rate_share(step)
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group.setdefault("initial_lr", group["lr"])

    def agree_on_statistics(self) -> None:
        """Give all processes the first one's running statistics, which are those that are saved."""
        if dist.is_available() and dist.is_initialized():
            learned = learned_state(self.system)
            parameters = {name for name, _ in self.system.named_parameters()}
            for state in (learned, self.average.tensors if self.average else {}):
                for name, tensor in state.items():
                    if name not in parameters:
                        dist.broadcast(tensor, 0)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip, once the gradient has its true scale."""
        if self.options.clip:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.options.clip)

    def published(self) -> dict[str, Tensor]:
        """The weights to use: their average where there is one."""
        return self.average.tensors if self.average else learned_state(self.system)

    def with_published_weights(self) -> AbstractContextManager[None]:
        """The system with the weights to use, for as long as the block lasts."""
        return self.average.in_place(self.system) if self.average else nullcontext()

    def require_finite_weights(self) -> None:
        """Stop before broken weights are saved.

        Raises:
            TrainingError: a weight is not finite.
        """
        for name, tensor in learned_state(self.system).items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TrainingError(
                    f"step {self.steps_done}: the weights {name} are not finite, though the loss was; lower the "
                    "learning rate or clip gradients (--clip 1), and go on from the last checkpoint with --resume."
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is not Lightning's: the step, the average, the fits; leave bodies out."""
        fits = self.system.best_fits
        checkpoint["state_dict"] = learned_state(self.system)
        checkpoint["kouros"] = {
            "version": CHECKPOINT_VERSION,
            "system": self.name,
            "steps": self.steps_done,
            "best_score": self.best_score,
            "average": self.average.tensors if self.average else None,
            "best_fits": fits.state_dict() if fits is not None else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it over.

        Raises:
            ValueError: it is of another system, or of other data.
        """
        load_learned(self.system, checkpoint.pop("state_dict"), "the checkpoint")
        checkpoint["state_dict"] = {}
        ours = checkpoint["kouros"]
        self.steps_done, self.best_score = ours["steps"], ours["best_score"]
        if self.average:
            self.average.load(ours["average"])
        if self.system.best_fits is not None:
            self.system.best_fits.load_state_dict(ours["best_fits"])

    def _require_finite(self, numbered: NumberedBatch, step: Step) -> None:
        """Stop all processes where the loss of one is not finite, before it reaches the weights."""
        finite = torch.stack([torch.isfinite(loss.detach()) for loss in step.losses]).all().float()
        together = dist.is_available() and dist.is_initialized()
        if together:
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        if bool(finite):
            return
        said: list[str | None] = [None]
        if not all(bool(torch.isfinite(loss)) for loss in step.losses):
            said = [_broken(numbered, step)]
        if together:
            said = [None] * dist.get_world_size()
            own = None if all(bool(torch.isfinite(loss)) for loss in step.losses) else _broken(numbered, step)
            dist.all_gather_object(said, own)
        raise TrainingError(next(s for s in said if s is not None))


def _broken(numbered: NumberedBatch, step: Step) -> str:
    terms = ", ".join(f"{name} = {float(value):.4g}" for name, value in step.terms.items())
    index = numbered.batch.index
    broken = torch.zeros_like(index, dtype=torch.bool)
    if step.predicted is not None and step.predicted.bodies is not None:
        broken = ~torch.isfinite(step.predicted.bodies.vector).all(dim=1)
    which = index[broken] if bool(broken.any()) else index
    whose = "predictions of samples" if bool(broken.any()) else "its samples are"
    shown = ", ".join(map(str, which.tolist()[:16])) + (", ..." if len(which) > 16 else "")
    broken_text = f"not finite are the {whose} {shown}" if bool(broken.any()) else f"{whose} {shown}"
    return (
        f"step {numbered.step}: the loss is not finite ({terms}); {broken_text}. Look at these samples, lower the "
        "learning rate or clip gradients (--clip 1); the last checkpoint is as it was."
    )
