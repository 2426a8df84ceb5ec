"""The store of best fits: what comes out after what went in, alone and across processes."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.testing import assert_close

from kouros.fitting.schedules.fits_store import Augmentation, FitCriteria, Fits, FitsStore
from kouros.geometry.rotations import rotvec_to_rotmat


def _fits(count: int, loss: list[float], seed: int = 0) -> Fits:
    generator = torch.Generator().manual_seed(seed)
    pose = 0.5 * torch.randn(count, 72, generator=generator)
    return Fits(pose, torch.randn(count, 10, generator=generator), torch.tensor(loss))


def test_a_fit_is_replaced_only_by_a_better_one():
    store = FitsStore.empty(5)
    first, second = _fits(2, [30.0, 40.0]), _fits(2, [20.0, 50.0], seed=1)
    index = torch.tensor([4, 1])
    assert store.keep_better(index, first).tolist() == [True, True]
    assert store.keep_better(index, second).tolist() == [True, False]
    kept = store.read(index)
    assert kept.loss.tolist() == [20.0, 40.0]
    assert_close(kept.pose, torch.stack([second.pose[0], first.pose[1]]))
    assert_close(kept.betas, torch.stack([second.betas[0], first.betas[1]]))
    assert store.fits.exists.tolist() == [False, True, False, False, True]


def test_losses_measured_in_the_same_picture_decide_when_given():
    store = FitsStore.empty(1)
    store.keep_better(torch.tensor([0]), _fits(1, [10.0]))
    again = _fits(1, [30.0], seed=1)
    assert store.keep_better(torch.tensor([0]), again, stored_loss=torch.tensor([35.0])).all()
    assert store.fits.loss.item() == 30.0


def test_of_two_fits_of_one_sample_the_better_is_kept():
    store = FitsStore.empty(2)
    store.keep_better(torch.tensor([1, 1, 1]), _fits(3, [5.0, 3.0, 4.0]))
    assert store.fits.loss.tolist() == [math.inf, 3.0]
    assert_close(store.fits.pose[1], _fits(3, [0.0] * 3).pose[1])


@pytest.mark.parametrize("broken", ["pose", "betas", "loss"])
def test_fits_that_are_no_numbers_never_win(broken: str):
    store = FitsStore.empty(2)
    found = _fits(2, [1.0, 1.0])
    getattr(found, broken)[0] = torch.nan
    assert store.keep_better(torch.arange(2), found).tolist() == [False, True]


def test_what_was_stored_turned_and_mirrored_comes_back_so():
    store = FitsStore.empty(4)
    found = _fits(4, [1.0] * 4)
    how = Augmentation(torch.tensor([0.4, -2.0, 0.4, 0.0]), torch.tensor([False, True, True, True]))
    store.keep_better(torch.arange(4), found, how)
    back = store.read(torch.arange(4), how).pose.unflatten(-1, (24, 3))
    assert_close(rotvec_to_rotmat(back), rotvec_to_rotmat(found.pose.unflatten(-1, (24, 3))), atol=1e-5, rtol=0)


def test_augmented_fits_show_the_augmented_body(free_body):
    """Joints of the augmented pose are the joints, turned and mirrored, each on the other side."""
    from kouros.body.skeleton import MIRROR

    pose = _fits(1, [0.0]).pose
    angle = 0.3
    how = Augmentation(torch.tensor([angle]), torch.tensor([True]))

    def joints(pose: torch.Tensor) -> torch.Tensor:
        found = free_body.joint_positions(global_orient=pose[:, :3], body_pose=pose[:, 3:])[0]
        return found - found[0]

    cos, sin = math.cos(angle), math.sin(angle)
    clockwise = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])  # y points down
    expected = (joints(pose) @ clockwise.T)[list(MIRROR)] * torch.tensor([-1.0, 1.0, 1.0])
    assert_close(joints(how.apply(pose)), expected, atol=1e-4, rtol=0)


def test_spins_fits_are_read_and_must_be_measured_before_they_are_compared(tmp_path: Path):
    rows = np.random.default_rng(0).normal(size=(3, 82))
    rows[2, 5] = np.nan
    np.save(tmp_path / "fits.npy", rows)
    store = FitsStore.from_spin(tmp_path / "fits.npy", 3)
    np.testing.assert_allclose(store.fits.pose[:2], rows[:2, :72], rtol=1e-6)
    np.testing.assert_allclose(store.fits.betas[:2], rows[:2, 72:], rtol=1e-6)
    assert store.fits.exists.tolist() == [True, True, False]
    assert not FitCriteria().judge(store.fits).trusted.any()
    with pytest.raises(ValueError, match=r"samples \[1\] were never measured; pass stored_loss"):
        store.keep_better(torch.tensor([1, 2]), _fits(2, [1.0, 1.0]))
    stored = torch.tensor([0.5, 9.0])
    assert store.keep_better(torch.tensor([1, 0]), _fits(2, [1.0, 1.0]), stored_loss=stored).tolist() == [
        False,
        True,
    ]


def test_files_of_another_data_set_are_refused(tmp_path: Path):
    np.save(tmp_path / "fits.npy", np.zeros((3, 82)))
    with pytest.raises(ValueError, match=r"expected \(4, 82\)"):
        FitsStore.from_spin(tmp_path / "fits.npy", 4)
    with pytest.raises(IndexError, match=r"0 \.\. 2, asked for \[3\]"):
        FitsStore.empty(3).read(torch.tensor([0, 3]))


def test_a_checkpoint_brings_the_store_back():
    store, other = FitsStore.empty(3), FitsStore.empty(3)
    store.keep_better(torch.tensor([0]), _fits(1, [7.0]))
    other.load_state_dict(store.state_dict())
    assert_close(other.fits.pose, store.fits.pose)
    store.keep_better(torch.tensor([0]), _fits(1, [1.0]))
    assert other.fits.loss[0] == 7.0
    with pytest.raises(ValueError, match="this data set needs"):
        FitsStore.empty(4).load_state_dict(store.state_dict())


def test_criteria_reject_bad_fits_and_improbable_shapes():
    fits = Fits(
        torch.zeros(3, 72),
        torch.tensor([[0.0, 2.9], [-3.1, 0.0], [1.0, 1.0]]),
        torch.tensor([99.0, 5.0, 100.0]),
    )
    learned = FitCriteria().judge(fits)
    assert learned.trusted.tolist() == [True, True, False]
    assert_close(learned.betas, torch.tensor([[0.0, 2.9], [0.0, 0.0], [1.0, 1.0]]))


def _train_a_little(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    store = FitsStore.empty(6)
    # Sample 2 is on both processes, as at the end of an epoch that does not divide; batches differ in size.
    if rank == 0:
        store.keep_better(torch.tensor([0, 2, 4]), _fits(3, [1.0, 8.0, 3.0]))
    else:
        store.keep_better(torch.tensor([1, 2]), _fits(2, [2.0, 6.0], seed=1))
    store.keep_better(torch.tensor([5]), _fits(1, [4.0 - rank], seed=2 + rank))
    store.keep_better(
        torch.tensor([], dtype=torch.long) if rank else torch.tensor([3]), _fits(1 - rank, [9.0] * (1 - rank))
    )
    torch.save(store.state_dict(), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_end_with_the_same_store(tmp_path: Path):
    # Forked, because importing everything anew takes seconds; the children compute nothing in threads.
    mp.start_processes(_train_a_little, (str(tmp_path),), nprocs=2, start_method="fork")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for name in first:
        assert torch.equal(first[name], second[name])
    assert first["loss"].tolist() == [1.0, 2.0, 6.0, 9.0, 3.0, 3.0]
    assert_close(first["pose"][2], _fits(2, [0.0] * 2, seed=1).pose[1])
