"""A system small enough to train in a moment, and people made of arrays; also a script, for runs that are killed.

``python toy.py OUT '{"max_steps": 20, ...}'`` trains into OUT by options given as JSON.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import kouros
from kouros.body.keypoints import SPIN49
from kouros.body.model import BodyModel
from kouros.body.parameters import Bodies
from kouros.data.batch import Batch
from kouros.data.schema import Sample, TableInfo
from kouros.fitting.schedules.fits_store import Augmentation, Fits, FitsStore
from kouros.geometry.cameras import WeakPerspectiveCamera, nominal_crop_camera, perspective_translation
from kouros.systems.batches import CropBatches
from kouros.systems.estimator import Estimate
from kouros.systems.system import CropSystem, Step
from kouros.training.engine import EngineOptions, Outcome, TrainingData, train

SIZE = 16
BUILT: list["Toy"] = []
"""Every system of this process, in order."""


@dataclass(frozen=True)
class People:
    """A source of people whose pictures are noise that says their pose."""

    count: int = 24
    seed: int = 0
    fields: tuple[str, ...] = ("keypoints_2d", "pose", "betas")

    @property
    def info(self) -> TableInfo:
        return TableInfo("toy", "train", ".", SPIN49)

    def __len__(self) -> int:
        return self.count

    def sample(self, row: int) -> Sample:
        rng = np.random.default_rng([self.seed, row])
        points = np.concatenate([rng.uniform(0, SIZE, (49, 2)), np.ones((49, 1))], axis=1)
        pose, betas = 0.2 * rng.standard_normal(72), rng.standard_normal(10)
        known = {"keypoints_2d": points, "pose": pose, "betas": betas}
        return Sample("none", **{k: v.astype(np.float32) for k, v in known.items() if k in self.fields})

    def image(self, row: int) -> np.ndarray:
        return np.random.default_rng([self.seed, row, 1]).integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8)

    def has(self, name: str) -> bool:
        return name in self.fields


def batch_of(source: People, rows: list[int]) -> Batch:
    people = [source.sample(r) for r in rows]
    pictures = np.stack([source.image(r) for r in rows])
    count = len(rows)
    return Batch(
        image=torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255,
        index=torch.tensor(rows),
        source=torch.zeros(count, dtype=torch.long),
        keypoints_2d=torch.tensor(np.stack([p.keypoints_2d for p in people])),
        keypoints_3d=torch.zeros(count, 49, 4),
        pose=torch.tensor(np.stack([p.pose for p in people])),
        has_pose=torch.ones(count, dtype=torch.bool),
        betas=torch.tensor(np.stack([p.betas for p in people])),
        has_betas=torch.ones(count, dtype=torch.bool),
        augmentation=Augmentation(torch.zeros(count), torch.zeros(count, dtype=torch.bool)),
        crop_center=torch.full((count, 2), SIZE / 2),
        crop_side=torch.full((count,), float(SIZE)),
    )


@dataclass(frozen=True)
class ToyStream:
    """Random rows of the sources, by step alone."""

    sources: tuple[People, ...]
    batch_size: int
    rank: int
    world: int
    event: tuple[int, Callable[[], object]] | None = None
    """What happens, the first time that a step's batch is asked for."""

    def __getitem__(self, step: int) -> Batch:
        if self.event and step == self.event[0]:
            self.event[1]()
        rows = np.random.default_rng([7, step]).integers(0, len(self.sources[0]), self.batch_size)
        share = self.batch_size // self.world
        return batch_of(self.sources[0], rows[self.rank * share : (self.rank + 1) * share].tolist())


@dataclass(frozen=True)
class ToyBatches(CropBatches):
    event: tuple[int, Callable[[], object]] | None = None

    def stream(self, sources, ratios, batch_size, seed, *, rank=0, world=1) -> ToyStream:
        return ToyStream(tuple(sources), batch_size, rank, world, self.event)


FITTED: list[list[int]] = []
"""Samples that were given first fits, batch by batch."""
LEAVES_AFTER = 0
"""Of these batches, that after which this process is asked to leave."""
EVENT: tuple[int, Callable[[], object]] | None = None
"""Of the next run; not in its configuration, which is saved."""


@dataclass(frozen=True)
class ToyConfig:
    """How the toy is made, and what goes wrong with it."""

    dropout: float = 0.5
    adversary: bool = False
    fails_at: int | None = None
    """Step whose loss is not finite."""
    broken_sample: int | None = None
    """Sample whose prediction is not finite, once it is seen."""
    complaint: str | None = None
    """What torch says when the first step fails."""
    begins_at: float | None = None
    """Weights that it begins with by itself."""
    first_fits: bool = False
    """Whether it gives everybody a fit before the first step."""

    def build(self, body: BodyModel, num_samples: int) -> "Toy":
        BUILT.append(Toy(self, body, num_samples))
        return BUILT[-1]


class Toy(CropSystem):
    """Pose, betas and camera linearly from the pixels; every prediction is a fit; optionally an adversary."""

    needs = ("keypoints_2d", "pose")
    best_fits: FitsStore

    def __init__(self, config: ToyConfig, body: BodyModel, num_samples: int) -> None:
        super().__init__()
        self.config = config
        self.drop = nn.Dropout(config.dropout)
        self.linear = nn.Linear(3 * SIZE * SIZE, 85)
        self.adversary = nn.Linear(72, 1) if config.adversary else None
        self.body = body
        self.best_fits = FitsStore.empty(num_samples)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    @property
    def crop_size(self) -> int:
        return SIZE

    @property
    def batches(self) -> ToyBatches:
        return ToyBatches(SIZE, event=EVENT)

    def begin(self, samples) -> None:
        if self.config.begins_at is not None:
            nn.init.constant_(self.linear.weight, self.config.begins_at)
        for batch in samples if self.config.first_fits else ():
            FITTED.append(batch.index.tolist())
            losses = 100.0 + batch.index
            self.best_fits.keep_better(batch.index, Fits(batch.pose, batch.betas, losses))
            if len(FITTED) == LEAVES_AFTER:
                send_this_process(signal.SIGTERM)

    def optimizers(self):
        first = torch.optim.Adam(self.linear.parameters(), 1e-3)
        if self.adversary is None:
            return (first,)
        return (first, torch.optim.SGD(self.adversary.parameters(), 1e-2, momentum=0.9))

    def training_step(self, batch: Batch) -> Step:
        if self.config.complaint:
            raise RuntimeError(self.config.complaint)
        numbers = self.linear(self.drop(batch.image.flatten(1)))
        errors = (numbers[:, :72] - batch.pose).square().mean(dim=1)
        betas = (numbers[:, 72:82] - batch.betas).square().mean()
        loss = errors.mean() + 0.1 * betas
        if int(self.steps) == self.config.fails_at:
            loss = loss * torch.inf
        if self.config.broken_sample is not None:
            broken = batch.index == self.config.broken_sample
            numbers = torch.where(broken[:, None], torch.nan, numbers)
            loss = loss + torch.where(broken, torch.nan, 0.0).sum()
        self.steps += 1
        found = numbers.detach()
        self.best_fits.keep_better(batch.index, Fits(found[:, :72], found[:, 72:82], errors.detach()))
        losses: tuple[Tensor, ...] = (loss,)
        if self.adversary is not None:
            fake, real = numbers[:, :72], batch.pose
            judged = (self.adversary(fake.detach()) + 1).square().mean() + (self.adversary(real) - 1).square().mean()
            losses = (loss + 0.1 * (self.adversary(fake) - 1).square().mean(), judged)
        terms = {"pose": errors.mean().detach(), "betas": betas.detach()}
        return Step(losses, terms, Estimate(bodies=_bodies(found)), _bodies(found))

    @torch.no_grad()
    def predict(self, image: Tensor) -> Estimate:
        return Estimate(bodies=_bodies(self.linear(image.flatten(1))))


def _bodies(numbers: Tensor) -> Bodies:
    camera = WeakPerspectiveCamera(1 + 0.1 * numbers[:, 82].tanh(), numbers[:, 83:].tanh())
    transl = perspective_translation(camera)
    return Bodies(numbers[:, :72], numbers[:, 72:82], transl, nominal_crop_camera(len(numbers), numbers))


def run_toy(
    out: Path, config=None, *, resume=False, source=None, start=None, event=None, validation=None, **given
) -> Outcome:
    """Train the toy; ``given`` are the engine's options."""
    global EVENT
    EVENT = event
    FITTED.clear()
    options = EngineOptions(
        **({"max_steps": 12, "batch_size": 8, "workers": 0, "log_every": 5, "pictures_every": 0} | given)
    )
    source = People() if source is None else source
    data = TrainingData((source,), validation=validation or {}, names=("toy people",))
    return train(config or ToyConfig(), body(), data, out, options, start=start, resume=resume)


def environment() -> dict[str, str]:
    """For this file as a script."""
    root = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": os.pathsep.join((str(root), str(root / "src"))), "OMP_NUM_THREADS": "1"}


def send_this_process(sign: signal.Signals) -> None:
    os.kill(os.getpid(), sign)


@cache
def body() -> BodyModel:
    return kouros.load_body()


if __name__ == "__main__":
    torch.set_num_threads(1)
    said = json.loads(sys.argv[2])
    if "ended_at" in said:
        step, by, who = said.pop("ended_at"), said.pop("by"), said.pop("who", "0")
        if os.environ.get("RANK", "0") == who:
            said["event"] = (step, partial(send_this_process, signal.Signals[by]))
    run_toy(Path(sys.argv[1]), ToyConfig(**said.pop("config", {})), **said)
    fits = BUILT[-1].best_fits.state_dict()
    torch.save(fits, Path(sys.argv[1]) / f"fits-of-rank-{os.environ.get('RANK', 0)}.pt")
