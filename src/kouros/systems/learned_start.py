"""The learned start as a system: how the network of `kouros.systems.lifter` is trained.

From top to bottom: configuration, what a batch brings, the system. It learns from motion capture, which it recombines
and sees through random cameras with all that detectors do to keypoints, and from what the packaged detector really saw
of synthetic people (`kouros.systems.lifter_samples`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.utils.data import Dataset

from kouros.batched import Batched, concatenate
from kouros.body.model import BodyModel
from kouros.data.detections import Detections, DetectionSource
from kouros.data.mocap.recombination import Draws, PoseBank
from kouros.data.mocap.source import MocapSource
from kouros.data.sources import Source, source_name
from kouros.geometry.alignment import align
from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.systems.batches import drawn_of_step
from kouros.systems.lifter import (
    BodyPoints,
    LearnedStart,
    Lifter,
    LifterConfig,
    LossWeights,
    load_weights,
    losses,
    save_weights,
)
from kouros.systems.lifter_samples import (
    LIMB_KEYPOINTS,
    artificial_batch,
    drawn_betas,
    measured_batch,
    seen_of,
    seen_through_cameras,
    spoiled,
    to_training,
)
from kouros.systems.measures import Best, Sum
from kouros.systems.recipe import Recipe
from kouros.systems.system import Step, System

# --- Configuration ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LearnedStartBeginning:
    """Files that training begins with. A run that goes on, or is loaded, needs none of them."""

    weights: Path | None = None
    """Packed weights (.npz, as `kouros models pack` writes them) of a network of this size."""


@dataclass(frozen=True)
class LearnedStartConfig:
    """As for two processor cores; a GPU takes batches of 8,192 at a learning rate of 0.0012."""

    recipe: ClassVar[Recipe] = Recipe(
        max_steps=13_000, batch_size=384, schedule="cosine", warmup=500, clip=1.0, ema=0.999
    )
    network: LifterConfig = field(default_factory=LifterConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    learning_rate: float = 6e-4
    """AdamW's, at its highest."""
    weight_decay: float = 1e-3
    most_measured: float = 0.5
    """Largest share of detections in a batch; the rest is motion capture with artificial errors. Ratios that are given
    count more."""
    enough_measured: int = 20_000
    """How many detections it takes for that share; of fewer, there are fewer in a batch."""
    athletic: float = 0.0
    """Share of what is drawn from motion capture that is in poses as in sports instead, drawn by rule."""
    start: LearnedStartBeginning = field(default_factory=LearnedStartBeginning)

    def __post_init__(self) -> None:
        if not 0.0 <= self.athletic <= 1.0:
            raise ValueError(f"athletic is a share, from 0 to 1, not {self.athletic:g}.")

    def build(self, body: BodyModel, num_samples: int = 0) -> "LearnedStartSystem":
        """The system with fresh weights, from torch's global generator.

        Args:
            body: whose keypoints it sees in training, and whose betas it answers with: the free body.
            num_samples: as other systems need it; this one keeps nothing of its samples.
        """
        return LearnedStartSystem(self, body)


# --- What a batch brings ---------------------------------------------------------------------------------------

_SPACE = ("landmarks", "has_landmarks", "depths", "has_depths")
"""What a view has beside what is flat."""
_TO_CHOOSE_FROM = 2
"""Recorded poses for each person whose pose is recombined from those of the whole batch."""


@dataclass(frozen=True)
class PeopleToShow(Batched):
    """Of each person either recorded poses or a detection; what the network sees of them is drawn in the step."""

    index: Int[Tensor, " batch"]
    measured: Bool[Tensor, " batch"]
    """Who is a detection; of the others it holds zeros."""
    poses: Float[Tensor, "batch some 72"]
    """Rotation vectors, root in a world with y up; zeros of detections."""
    detections: Detections

    def __len__(self) -> int:
        return len(self.index)


@dataclass(frozen=True)
class StartBatches:
    """As `kouros.systems.batches.Batches`, from motion capture and detections."""

    most_measured: float
    enough_measured: int

    def stream(
        self,
        sources: Sequence[Source],
        ratios: Sequence[float] | None,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        world: int = 1,
    ) -> "StartStream":
        """As in `kouros.systems.batches.Batches`."""
        for source in sources:
            _require_known(source)
        sizes = np.array([len(source) for source in sources], dtype=np.float64)
        shares = self._shares(sources, sizes) if ratios is None else np.asarray(ratios, dtype=np.float64)
        shares = shares / shares.sum()
        if not any(isinstance(s, MocapSource) and share > 0 for s, share in zip(sources, shares, strict=True)):
            raise ValueError("the learned start learns from motion capture at least; name diverse_frames.npz.")
        return StartStream(tuple(sources), shares, batch_size, seed, rank, world)

    def _shares(self, sources: Sequence[Source], sizes: np.ndarray) -> np.ndarray:
        measured = np.array([isinstance(source, DetectionSource) for source in sources])
        count = sizes[measured].sum()
        share = self.most_measured * min(1.0, count / self.enough_measured)
        if measured.all() or not count:
            return sizes
        return np.where(measured, share * sizes / count, (1 - share) * sizes / sizes[~measured].sum())

    def plain(self, source: Source, rows: Sequence[int], *, pictures: bool = True) -> PeopleToShow:
        """As in `kouros.systems.batches.Batches`; there never are pictures."""
        _require_known(source)
        return _people([source] * len(rows), rows, rows, 1)


@dataclass(frozen=True)
class StartStream(Dataset[PeopleToShow]):
    """People by step."""

    sources: tuple[Source, ...]
    shares: np.ndarray
    batch_size: int
    seed: int
    rank: int
    world: int

    def __getitem__(self, step: int) -> PeopleToShow:
        chosen, places = drawn_of_step(
            self.shares, self.batch_size, self.seed, step, self.rank, self.world, _TO_CHOOSE_FROM
        )
        firsts = np.cumsum([0, *(len(source) for source in self.sources)])
        sources = [self.sources[k] for k in chosen]
        rows = np.array([(p * len(s)).astype(np.int64) for p, s in zip(places, sources, strict=True)])
        return _people(sources, rows, firsts[chosen] + rows[:, 0], _TO_CHOOSE_FROM)


def _people(sources: Sequence[Source], rows: Any, index: Any, some: int) -> PeopleToShow:
    """A batch of rows, one or some of motion capture each, of one source each."""
    rows, count = np.asarray(rows).reshape(len(sources), -1), len(sources)
    poses, measured = np.zeros((count, some, 72), np.float32), np.zeros(count, dtype=bool)
    detections = Detections.nobody(count)
    for source in dict.fromkeys(sources):
        mine = np.array([i for i, s in enumerate(sources) if s is source])
        if isinstance(source, MocapSource):
            poses[mine] = source.poses(rows[mine].ravel().tolist()).reshape(len(mine), some, 72)
        elif isinstance(source, DetectionSource):
            measured[mine] = True
            there = source.rows(rows[mine, 0].tolist())
            for name, into in vars(detections).items():
                into[torch.from_numpy(mine)] = getattr(there, name)
    return PeopleToShow(
        torch.as_tensor(np.asarray(index)), torch.from_numpy(measured), torch.from_numpy(poses), detections
    )


def _require_known(source: Source) -> None:
    if not isinstance(source, MocapSource | DetectionSource):
        raise ValueError(
            f"{source_name(source)} is neither motion capture nor detections, from which the learned start learns; "
            "name diverse_frames.npz, and the folder `detections` of people made with kouros synthesize --detections."
        )


# --- The system ------------------------------------------------------------------------------------------------


class LearnedStartSystem(System):
    """Network and losses."""

    needs = ("pose",)
    judged_by = ("pose",)
    best_by = (Best("pa_mpjpe"),)

    def __init__(self, config: LearnedStartConfig, body: BodyModel) -> None:
        super().__init__()
        self.config = config
        self.network = Lifter(config.network)
        self.points = BodyPoints(body)

    @property
    def batches(self) -> StartBatches:
        """Of motion capture and detections."""
        return StartBatches(self.config.most_measured, self.config.enough_measured)

    def begin(self, samples: Iterable[PeopleToShow] = ()) -> None:
        """Read the weights that the configuration names.

        Raises:
            ValueError: they are of a network of another size.
            OSError: the file cannot be read.
        """
        path = self.config.start.weights
        if path is None:
            return
        there = load_weights(path)
        if there.config != self.config.network:
            raise ValueError(f"{path} holds a network of {there.config}, this one is of {self.config.network}.")
        self.network.load_state_dict(there.state_dict())

    def optimizers(self) -> tuple[Optimizer, ...]:
        """AdamW."""
        config = self.config
        rates = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "betas": (0.9, 0.98)}
        return (AdamW(self.network.parameters(), **rates),)  # type: ignore[arg-type]

    def training_step(self, batch: PeopleToShow) -> Step:
        """Show people, and learn from what they really do."""
        generator = _generator(batch, int(torch.randint(2**62, ())))
        parts = []
        with torch.no_grad():
            artificial = batch[~batch.measured]
            if len(artificial):
                bank = PoseBank(rotvec_to_rotmat(artificial.poses.flatten(0, 1).unflatten(-1, (24, 3))))
                parts.append(artificial_batch(bank, self.points, len(artificial), generator, self.config.athletic))
            measured = batch.detections[batch.measured]
            if len(measured.betas):
                parts.append(measured_batch(seen_of(measured), self.points, generator))
            view, truth = (concatenate(part) for part in zip(*parts, strict=True))
        answers = self.network(view)
        with torch.autocast(view.points.device.type, enabled=False):
            loss, apart = losses(answers, truth, view, self.points, self.config.weights)
        terms = {"limbs": apart[:, 0].mean().detach(), "detections": batch.measured.float().mean()}
        return Step((loss,), terms)

    def measures(self, batch: PeopleToShow) -> Mapping[str, Sum]:
        """Errors over the twelve keypoints of the limbs, by a similarity (``pa_``) or with their middles together.

        Of answer 0, of the best answer, without 3D landmarks (``2d_``), and of the landmarks as they are given. People
        of motion capture are seen through cameras, with errors, that follow from the samples' numbers.
        """
        if bool(batch.measured.all()):
            seen = seen_of(batch.detections)
        else:
            draw = Draws(len(batch), _generator(batch, int(batch.index[0])))
            world = draw.turned(rotvec_to_rotmat(batch.poses[:, 0].unflatten(-1, (24, 3))))
            seen, _ = seen_through_cameras(world, drawn_betas(draw), self.points, draw)
            seen = spoiled(seen, self.points, draw)
        right_lens = torch.ones_like(seen.has_landmarks)
        view, truth = to_training(seen, self.points, right_lens)
        nothing = {name: torch.zeros_like(getattr(view, name)) for name in _SPACE}
        flat = replace(view, **nothing)
        true, sums = truth.keypoints[:, LIMB_KEYPOINTS], {}
        for name, given in (("", view), ("2d_", flat)):
            answers = self.network(given)
            count = answers.rotations.shape[1]
            keypoints = self.points(answers.rotations.flatten(0, 1), answers.betas.flatten(0, 1))[2]
            found = keypoints.unflatten(0, (-1, count))[:, :, LIMB_KEYPOINTS]
            plain, aligned = zip(*(limb_errors(found[:, k], true) for k in range(count)), strict=True)
            what = "" if not name else "2D only: "
            sums[f"{name}pa_mpjpe"] = Sum.over(aligned[0], said=f"{what}PA-MPJPE {{:.1f}} mm")
            sums[f"{name}mpjpe"] = Sum.over(plain[0], said=f"{what}MPJPE {{:.1f}} mm")
            best = torch.stack(aligned).amin(0)
            sums[f"{name}best_pa_mpjpe"] = Sum.over(best, said=f"{what}PA-MPJPE of the best answer {{:.1f}} mm")
        there = view.has_landmarks > 0
        if bool(there.any()):
            _, aligned_landmarks = limb_errors(view.landmarks[there][:, LIMB_KEYPOINTS], true[there])
            sums["landmarks_pa_mpjpe"] = Sum.over(aligned_landmarks, said="PA-MPJPE of the landmarks {:.1f} mm")
        return sums

    def pack(self, path: Path) -> None:
        """As in `kouros.systems.system.Packable`."""
        save_weights(path, self.network)

    def estimator(self, body: BodyModel, name: str) -> LearnedStart:
        """From keypoints of any set."""
        return LearnedStart(body, self.network, name)


def limb_errors(
    found: Float[Tensor, "batch 12 3"], true: Float[Tensor, "batch 12 3"]
) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Mean distance after moving centroids together, and after the best similarity (PA-MPJPE), millimetres."""
    moved = found - found.mean(1, keepdim=True) + true.mean(1, keepdim=True)
    aligned = align(found, true).apply(found)
    return 1000 * (moved - true).norm(dim=-1).mean(-1), 1000 * (aligned - true).norm(dim=-1).mean(-1)


def _generator(batch: PeopleToShow, seed: int) -> torch.Generator:
    return torch.Generator(batch.poses.device).manual_seed(seed)
