"""A system as Lightning sees it: its losses, its optimizers, and what a checkpoint keeps of them."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
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
    are of equal size, or a mean over some of them by `kouros.systems.losses.mean_where`. The same holds of the parts
    in which a share is learned from, but for means over some.
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
        """By validation."""
        self.new_best = False
        """Whether the weights as they are have it."""
        self.begun = False
        """Whether this process has just prepared something that should not be lost."""
        self.asked_to_leave = False
        """Whether somebody asked this process to (SIGTERM)."""
        self.leaving = False
        """Whether all processes have agreed to, after this step."""
        self.last: tuple[NumberedBatch, Step] | None = None
        """What the last step saw and answered, for the log."""

    def configure_optimizers(self) -> list[Optimizer]:
        """The paper's, of the weights that are trained."""
        optimizers = list(self.system.optimizers())
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if p.requires_grad]
        return optimizers

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
        given = self.optimizers()
        optimizers = given if isinstance(given, list) else [given]
        self._set_learning_rates(numbered.step)
        parts = _parts(numbered.batch, self.options.accumulate)
        kept = [_Gradients(optimizer) for optimizer in optimizers]
        done = [self._of_part(NumberedBatch(numbered.step, part), kept, len(parts)) for part in parts[:-1]]
        last = self._losses(NumberedBatch(numbered.step, parts[-1]))
        for optimizer, gradients, loss in zip(optimizers, kept, last.losses, strict=True):
            gradients.put_back()
            self.manual_backward(loss / len(parts))
            optimizer.step()
        self.steps_done = numbered.step + 1
        self.last = NumberedBatch(numbered.step, parts[-1]), _mean([*done, last])
        if self.average:
            self.average.update(self.system, self.steps_done)

    def _losses(self, numbered: NumberedBatch) -> Step:
        step = self.system.training_step(numbered.batch)
        self._require_finite(numbered, step)
        return step

    def _of_part(self, numbered: NumberedBatch, kept: list["_Gradients"], parts: int) -> Step:
        """Add a part's gradients to those kept, each loss's to those of its own optimizer."""
        step = self._losses(numbered)
        # Only the last part's backward pass, with all that was kept, is averaged over processes.
        alone = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        for gradients, loss in zip(kept, step.losses, strict=True):
            gradients.put_back()
            with alone():
                self.manual_backward(loss / parts)
            gradients.keep()
        return Step(tuple(loss.detach() for loss in step.losses), step.terms)

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
        """Stop all processes where the loss of one is not finite, before it reaches the weights.

        All hear of it by the same message that asks whether somebody has been asked to leave.
        """
        finite = all(bool(torch.isfinite(loss.detach())) for loss in step.losses)
        together = dist.is_available() and dist.is_initialized()
        said: list[str | None] = [None if finite else _broken(numbered, step)]
        if together:
            state = torch.tensor([finite, not self.asked_to_leave], dtype=torch.float32, device=self.device)
            dist.all_reduce(state, dist.ReduceOp.MIN)
            finite, self.leaving = bool(state[0]), not bool(state[1])
        else:
            self.leaving = self.asked_to_leave
        if finite:
            return
        if together:
            own, said = said[0], [None] * dist.get_world_size()
            dist.all_gather_object(said, own)
        raise TrainingError(next(s for s in said if s is not None))


class _Gradients:
    """What one optimizer's weights have gathered of a step's gradient, kept from the other optimizers' losses."""

    def __init__(self, optimizer: Any) -> None:
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._kept: list[Tensor | None] = [None] * len(self._parameters)

    def keep(self) -> None:
        self._kept = [p.grad for p in self._parameters]
        for p in self._parameters:
            p.grad = None

    def put_back(self) -> None:
        for p, kept in zip(self._parameters, self._kept, strict=True):
            p.grad = kept


def _parts(batch: Any, count: int) -> list[Any]:
    """A batch in equal parts."""
    if count == 1:
        return [batch]
    size = len(batch) // count
    return [batch[i * size : (i + 1) * size] for i in range(count)]


def _mean(steps: list[Step]) -> Step:
    """What was learned from a batch in parts, as if in one; with the last part's predictions."""
    last = steps[-1]
    losses = tuple(torch.stack([s.losses[i].detach() for s in steps]).mean() for i in range(len(last.losses)))
    terms = {name: torch.stack([s.terms[name].detach() for s in steps]).mean() for name in last.terms}
    return replace(last, losses=losses, terms=terms)


def _broken(numbered: NumberedBatch, step: Step) -> str:
    terms = ", ".join(f"{name} = {float(value):.4g}" for name, value in step.terms.items())
    which = _samples(numbered, step)
    return (
        f"step {numbered.step}: the loss is not finite ({terms}); {which}lower the learning rate or clip gradients "
        "(--clip 1); the last checkpoint is as it was."
    )


def _samples(numbered: NumberedBatch, step: Step) -> str:
    """Which samples to look at, where they have numbers."""
    index: Tensor | None = getattr(numbered.batch, "index", None)
    if index is None:
        return ""
    broken = torch.zeros_like(index, dtype=torch.bool)
    if step.predicted is not None and step.predicted.bodies is not None:
        broken = ~torch.isfinite(step.predicted.bodies.vector).all(dim=1)
    some = bool(broken.any())
    which = (index[broken] if some else index).tolist()
    shown = ", ".join(map(str, which[:16])) + (", ..." if len(which) > 16 else "")
    whose = f"not finite are the predictions of samples {shown}" if some else f"its samples are {shown}"
    return f"{whose}. Look at these samples, "
