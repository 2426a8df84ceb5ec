"""HMR's discriminator and its losses."""

import torch
from torch.testing import assert_close

from kouros.geometry.rotations import rotvec_to_rotmat
from kouros.networks.pose_discriminator import NUM_JUDGES, PoseDiscriminator, adversarial_loss, discriminator_loss


def bodies(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return rotvec_to_rotmat(torch.randn(count, 23, 3, generator=generator)), torch.randn(count, 10, generator=generator)


def test_losses_of_known_scores():
    ones, zeros, halves = (torch.full((4, NUM_JUDGES), value) for value in (1.0, 0.0, 0.5))
    assert NUM_JUDGES == 25
    assert adversarial_loss(ones) == 0  # nothing left to gain
    assert adversarial_loss(zeros) == 25
    assert discriminator_loss(real=ones, fake=zeros) == 0  # all told apart
    assert discriminator_loss(real=zeros, fake=ones) == 50
    assert discriminator_loss(real=halves, fake=halves) == 12.5  # undecided


def test_losses_are_means_over_persons():
    scores = torch.rand(6, NUM_JUDGES)
    assert_close(adversarial_loss(scores), torch.stack([adversarial_loss(s[None]) for s in scores]).mean())
    assert_close(discriminator_loss(scores, scores), discriminator_loss(scores, scores.repeat(3, 1)))


def test_each_judge_sees_only_its_part():
    torch.manual_seed(0)
    judges, (pose, betas) = PoseDiscriminator(), bodies(2)
    pose.requires_grad_(), betas.requires_grad_()
    for joint in range(23):
        (grad,) = torch.autograd.grad(judges(pose, betas)[:, joint].sum(), pose)
        assert (grad.abs().amax((0, 2, 3)) > 0).nonzero().flatten().tolist() == [joint]
    (grad,) = torch.autograd.grad(judges(pose, betas)[:, 23].sum(), pose)
    assert (grad.abs().amax((0, 2, 3)) > 0).all()
    grad_pose, grad_betas = torch.autograd.grad(judges(pose, betas)[:, 24].sum(), (pose, betas))
    assert (grad_pose == 0).all() and (grad_betas != 0).any(0).all()


def test_it_learns_to_tell_bodies_apart():
    torch.manual_seed(0)
    judges = PoseDiscriminator()
    wild, betas = bodies(32)
    calm = rotvec_to_rotmat(0.1 * torch.randn(32, 23, 3))
    optimizer = torch.optim.Adam(judges.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        discriminator_loss(judges(calm, betas), judges(wild, betas + 3)).backward()
        optimizer.step()
    real, fake = judges(calm, betas).mean(0), judges(wild, betas + 3).mean(0)
    assert (real > fake + 0.1).all()
    for p in judges.parameters():
        assert p.grad is not None and p.grad.abs().sum() > 0
