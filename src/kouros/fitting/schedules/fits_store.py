"""The best fit seen so far of every training sample (SPIN, Kolotouros et al. 2019, Sec. 3.5).

Fits are kept as they are for the picture as taken; training sees it turned and mirrored, so they are turned
and mirrored on the way out and back on the way in. A fit is replaced only by a better one. In data-parallel
training every process holds the whole store, and all of them apply the same updates in the same order.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kouros.archives import ArchiveError, read_npy
from kouros.batched import Batched
from kouros.body.parameters import POSE_SIZE, PosedShape
from kouros.geometry.rotations import mirror_rotvec, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.priors.body_pose import mirror_body_pose

SPIN_BETAS = 10


@dataclass(frozen=True)
class Augmentation(Batched):
    """How training changed a picture: turned first, then mirrored."""

    rotation: Float[Tensor, " batch"]
    """Of the picture's content, radians, clockwise as seen. SPIN's ``rot`` is in degrees the other way."""
    flipped: Bool[Tensor, " batch"]

    def apply(self, pose: Float[Tensor, "batch 72"]) -> Float[Tensor, "batch 72"]:
        """Pose in the changed picture of a pose in the picture as taken."""
        return self._flip(_turn(pose, self.rotation))

    def undo(self, pose: Float[Tensor, "batch 72"]) -> Float[Tensor, "batch 72"]:
        """Inverse of `apply`."""
        return _turn(self._flip(pose), -self.rotation)

    def _flip(self, pose: Tensor) -> Tensor:
        mirrored = torch.cat([mirror_rotvec(pose[:, :3]), mirror_body_pose(pose[:, 3:])], dim=-1)
        return torch.where(self.flipped[:, None], mirrored, pose)


def _turn(pose: Float[Tensor, "batch 72"], angle: Float[Tensor, " batch"]) -> Float[Tensor, "batch 72"]:
    """Turn bodies about the camera's axis: from x (right) towards y (down)."""
    zero = torch.zeros_like(angle)
    turn = rotvec_to_rotmat(torch.stack([zero, zero, angle], dim=-1).to(pose))
    orient = rotmat_to_rotvec(turn @ rotvec_to_rotmat(pose[:, :3]))
    return torch.cat([orient, pose[:, 3:]], dim=-1)


@dataclass(frozen=True)
class Fits(PosedShape):
    """Fitted bodies of some samples. The camera is not kept: it follows from the keypoints."""

    loss: Float[Tensor, " batch"]
    """`kouros.fitting.schedules.smplify.SmplifyResult.reprojection_loss`; infinite where there is no fit yet, NaN for
    a fit from elsewhere that was never measured."""

    @property
    def exists(self) -> Bool[Tensor, " batch"]:
        """Which samples have a fit."""
        return self.loss != torch.inf


@dataclass(frozen=True)
class Supervision(PosedShape):
    """What a network may learn from fits."""

    trusted: Bool[Tensor, " batch"]
    """Samples whose fit is good; the others have only their keypoints to learn from."""


@dataclass(frozen=True)
class FitCriteria:
    """When SPIN trusts a fit."""

    max_loss: float = 100.0
    """Squared pixels of a 224-pixel crop; fits that are not below are rejected."""
    max_beta: float = 3.0
    """Where any beta is farther from 0, in standard deviations, the mean shape is learned instead."""

    def judge(self, fits: Fits) -> Supervision:
        """Fits worth learning from. One that was never measured is not trusted."""
        plausible = (fits.betas.abs() <= self.max_beta).all(-1, keepdim=True)
        betas = torch.where(plausible, fits.betas, 0.0)
        return Supervision(fits.pose, betas, fits.loss < self.max_loss)


class FitsStore:
    """Best fits of ``count`` samples, in memory on the CPU, in float32."""

    def __init__(self, fits: Fits) -> None:
        self._fits = fits.map(lambda tensor: tensor.detach().cpu().float().clone())

    @staticmethod
    def empty(count: int, num_betas: int = SPIN_BETAS) -> "FitsStore":
        """A store without fits."""
        loss = torch.full((count,), torch.inf)
        return FitsStore(Fits(torch.zeros(count, POSE_SIZE), torch.zeros(count, num_betas), loss))

    @staticmethod
    def from_spin(path: str | Path, count: int) -> "FitsStore":
        """SPIN's ``<data set>_fits.npy``: 72 pose numbers and 10 betas a row, none of them measured yet.

        Args:
            path: of the file.
            count: samples of the data set; row i belongs to sample i.

        Raises:
            ValueError: not such a file, or one of another data set.
        """
        try:
            array = read_npy(path)
        except ArchiveError as error:
            raise ValueError(f"{path} is not an array file ({error}); expected SPIN's fits, (N, 82).") from error
        width = POSE_SIZE + SPIN_BETAS
        if array.shape != (count, width) or array.dtype.kind != "f":
            raise ValueError(
                f"{path} holds {array.shape}, expected ({count}, {width}) numbers: one row for each of the data "
                f"set's {count} samples. Use the fits that belong to this annotation file."
            )
        with np.errstate(over="ignore"):
            rows = torch.from_numpy(array.astype(np.float32))
        known = torch.isfinite(rows).all(-1)
        rows = torch.where(known[:, None], rows, 0.0)
        loss = torch.where(known, torch.nan, torch.inf)
        return FitsStore(Fits(rows[:, :POSE_SIZE], rows[:, POSE_SIZE:], loss))

    def __len__(self) -> int:
        return len(self._fits.loss)

    @property
    def fits(self) -> Fits:
        """All fits, as for the pictures as taken. To be read, not written."""
        return self._fits

    def read(self, index: Int[Tensor, " batch"], augmentation: Augmentation | None = None) -> Fits:
        """Fits of some samples, as they look in the changed pictures, on the device of ``index``.

        Raises:
            IndexError: there is no such sample.
        """
        fits = self._fits[self._rows(index)].to(index.device)
        return fits if augmentation is None else replace(fits, pose=augmentation.apply(fits.pose))

    def keep_better(
        self,
        index: Int[Tensor, " batch"],
        found: Fits,
        augmentation: Augmentation | None = None,
        stored_loss: Float[Tensor, " batch"] | None = None,
    ) -> Bool[Tensor, " batch"]:
        """Replace the fits that the given ones beat, on every process of a distributed job.

        All processes must call this equally often; each brings samples of its own, as many as it likes. Of
        several fits of one sample the best wins. Fits that are not finite never win.

        Args:
            index: the samples.
            found: new fits, as they look in the changed pictures.
            augmentation: how the pictures were changed.
            stored_loss: of the stored fits in these very pictures. A loss depends on the crop, so SPIN
                measures both fits alike; by default the loss from when the fit was stored.

        Returns:
            Which of the given fits beat those stored.

        Raises:
            IndexError: there is no such sample.
            ValueError: a stored fit was never measured and no ``stored_loss`` is given.
        """
        rows = self._rows(index)
        exists = self._fits.exists[rows]
        to_beat = (self._fits.loss[rows] if stored_loss is None else stored_loss.detach().cpu().float()).clone()
        if stored_loss is None and bool(to_beat.isnan().any()):
            raise ValueError(
                f"the stored fits of samples {rows[to_beat.isnan()].tolist()[:10]} were never measured; pass "
                "stored_loss, their loss in these pictures."
            )
        to_beat[~exists | to_beat.isnan()] = torch.inf
        pose = found.pose if augmentation is None else augmentation.undo(found.pose)
        finite = torch.isfinite(pose).all(-1) & torch.isfinite(found.betas).all(-1) & torch.isfinite(found.loss)
        better = finite & (found.loss < to_beat.to(found.loss))
        self._write(*_gathered(index[better], pose[better], found.betas[better], found.loss[better]))
        return better

    def state_dict(self) -> dict[str, Tensor]:
        """The store as a checkpoint keeps it."""
        return {"pose": self._fits.pose, "betas": self._fits.betas, "loss": self._fits.loss}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over what a checkpoint kept.

        Raises:
            ValueError: it is of another data set.
        """
        fits = Fits(state["pose"], state["betas"], state["loss"])
        if fits.pose.shape != self._fits.pose.shape or fits.betas.shape != self._fits.betas.shape:
            raise ValueError(
                f"the checkpoint holds fits of shape {tuple(fits.pose.shape)} and {tuple(fits.betas.shape)}, "
                f"this data set needs {tuple(self._fits.pose.shape)} and {tuple(self._fits.betas.shape)}."
            )
        self.__init__(fits)  # type: ignore[misc]

    def _rows(self, index: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        rows = index.cpu()
        outside = (rows < 0) | (rows >= len(self))
        if bool(outside.any()):
            raise IndexError(
                f"there are fits of samples 0 .. {len(self) - 1}, asked for {rows[outside].tolist()[:10]}."
            )
        return rows

    def _write(self, index: Tensor, pose: Tensor, betas: Tensor, loss: Tensor) -> None:
        """Store candidates; of several for one sample the best, of equals the first."""
        order = np.lexsort((np.arange(len(index)), loss.numpy(), index.numpy()))
        first = np.unique(index.numpy()[order], return_index=True)[1]
        chosen = torch.from_numpy(order[first])
        rows = index[chosen]
        self._fits.pose[rows], self._fits.betas[rows] = pose[chosen], betas[chosen]
        self._fits.loss[rows] = loss[chosen]


def _gathered(*columns: Tensor) -> list[Tensor]:
    """Rows of all processes, in the order of their ranks, on the CPU and alike everywhere."""
    columns = tuple(c.detach().long() if not c.is_floating_point() else c.detach().float() for c in columns)
    if not (dist.is_available() and dist.is_initialized()):
        return [c.cpu() for c in columns]
    count = torch.tensor([len(columns[0])], device=columns[0].device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    sizes = [int(c) for c in counts]
    result = []
    for column in columns:
        padded = column.new_zeros(max(sizes), *column.shape[1:])
        padded[: len(column)] = column
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        result.append(torch.cat([p[:n] for p, n in zip(parts, sizes, strict=True)]).cpu())
    return result
