"""Each joint that is seen votes for the angles around it: HoloPose's part-based regressor (Güler and Kokkinos,
CVPR 2019, Sec. 3).

A joint knows of its own neighbourhood only. For each angle ``i`` the joints of ``N(i)`` score the ``K`` experts,
typical angles, and Eq. 2 fuses their scores; whoever is not seen has no vote, and where nobody has, the angle rests.
The same neighbourhoods can vote for numbers instead, which then are averaged by what each vote says of its own weight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kouros.batched import Batched
from kouros.body.skeleton import JOINT_NAMES, NUM_JOINTS, PARENTS
from kouros.geometry.rotations import rot6d_to_rotmat
from kouros.networks.estimates import MeanParameters
from kouros.priors.rotation_experts import RotationExperts, euler_to_rotmat

AngleKind = Literal["experts", "euler", "rot6d"]
"""What the votes are of: weights of experts (Eq. 2), Euler angles, or 6D rotations."""

_NUMBERS = {"euler": 3, "rot6d": 6}


def neighbourhoods(joint_of_point: Sequence[int], parents: Sequence[int] = PARENTS) -> Bool[Tensor, "angles points"]:
    """Which points vote for which joint's angle, by the kinematic tree.

    Those at the joint; the nearest ones below it, on each branch, which its angle moves; and the nearest ones above
    it, from which its bone comes. The left knee's are left ankle, knee and hip, as in the paper's Fig. 3.

    Args:
        joint_of_point: at which joint of the tree each point lies.
        parents: of the joints; -1 for the root.
    """
    children: list[list[int]] = [[] for _ in parents]
    for joint, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(joint)
    there = set(joint_of_point)

    def below(joint: int) -> set[int]:
        found: set[int] = set()
        for child in children[joint]:
            found |= {child} if child in there else below(child)
        return found

    def above(joint: int) -> set[int]:
        parent = parents[joint]
        if parent < 0:
            return set()
        return {parent} if parent in there else above(parent)

    near = [{joint} | below(joint) | above(joint) for joint in range(len(parents))]
    return torch.tensor([[at in joints for at in joint_of_point] for joints in near])


def joints_of_points(
    names: Sequence[str], points: Float[Tensor, "points 3"], joints: Float[Tensor, "joints 3"]
) -> list[int]:
    """The nearest joint of each point on a body at rest; of points without a side, of the joints without one.

    Args:
        names: of the points.
        points: where they are, ``joints`` likewise, metres.
    """
    sided = torch.tensor([name.startswith(("left_", "right_")) for name in JOINT_NAMES])
    middle = torch.tensor([not name.startswith(("left_", "right_")) for name in names])
    distance = torch.cdist(points, joints).masked_fill(middle[:, None] & sided, torch.inf)
    nearest: list[int] = distance.argmin(1).tolist()
    return nearest


@dataclass(frozen=True)
class VotedPose(Batched):
    """What the votes came to."""

    rotations: Float[Tensor, "batch 24 3 3"]
    """Of the joints against their parents; the first against the camera."""
    heard: Bool[Tensor, "batch 24"]
    """Where anybody voted; the others rest."""


class PartVotes(nn.Module):
    """From features at points to rotations.

    The global orientation has no hull of typical angles: its points vote for a 6D rotation, whatever the kind.

    Args:
        channels: of the features.
        near: who votes for what; see `neighbourhoods`.
        experts: typical angles of the 23 joints; they stay as they are.
        kind: what the votes are of.
    """

    def __init__(
        self, channels: int, near: Bool[Tensor, "24 points"], experts: RotationExperts, kind: AngleKind = "experts"
    ) -> None:
        super().__init__()
        self.kind, self.experts = kind, experts
        self.register_buffer("near", near, persistent=False)
        mean = MeanParameters.packaged().pose.unflatten(0, (NUM_JOINTS, 6))
        self.register_buffer("_upright", rot6d_to_rotmat(mean[0]), persistent=False)
        self.root = _Votes(channels, near[:1], 1 + 6)
        self.root.begin(torch.cat([torch.zeros(1, 1), mean[:1]], dim=-1))
        if kind == "experts":
            self.others = _Votes(channels, near[1:], experts.experts)
        else:
            count = _NUMBERS[kind]
            rest = mean[1:] if kind == "rot6d" else torch.zeros(NUM_JOINTS - 1, count)
            self.others = _Votes(channels, near[1:], 1 + count)
            self.others.begin(torch.cat([torch.zeros(NUM_JOINTS - 1, 1), rest], dim=-1))

    near: Tensor
    _upright: Tensor

    def forward(
        self, features: Float[Tensor, "batch points channels"], seen: Bool[Tensor, "batch points"]
    ) -> VotedPose:
        """Rotations; a point whose features are no numbers counts as not seen.

        The resting pose, where nobody votes, is no rotation; that of the root is upright, facing the camera.
        """
        seen = seen & torch.isfinite(features).all(-1)
        features = torch.where(seen[..., None], features, 0.0)
        votes, voting = self.root(features, seen)
        orient = rot6d_to_rotmat(_averaged(votes, voting).float())
        heard_root = voting.any(-1)
        orient = torch.where(heard_root[..., None, None], orient, self._upright)
        votes, voting = self.others(features, seen)
        heard = voting.any(-1)
        body = self._body_pose(votes, voting)
        body = torch.where(heard[..., None, None], body, torch.eye(3, dtype=body.dtype, device=body.device))
        return VotedPose(torch.cat([orient, body], dim=1), torch.cat([heard_root, heard], dim=1))

    def _body_pose(self, votes: Tensor, voting: Tensor) -> Float[Tensor, "batch 23 3 3"]:
        if self.kind == "experts":
            return self.experts.rotations(fused(votes, voting).float())
        numbers = _averaged(votes, voting).float()
        return euler_to_rotmat(numbers) if self.kind == "euler" else rot6d_to_rotmat(numbers)

    def shares(
        self, features: Float[Tensor, "batch points channels"], seen: Bool[Tensor, "batch points"]
    ) -> Float[Tensor, "batch 24 points"]:
        """Of each point in each angle: how much of the sums of Eq. 2 is its own; 0 of who has no vote."""
        seen = seen & torch.isfinite(features).all(-1)
        features = torch.where(seen[..., None], features, 0.0)
        rows = []
        for layer, by_experts in ((self.root, False), (self.others, self.kind == "experts")):
            votes, voting = layer(features, seen)
            strength = votes.logsumexp(-1) if by_experts else votes[..., 0]
            share = torch.where(voting, strength, -torch.inf).softmax(-1).nan_to_num(0.0)
            points = features.shape[1]
            spread = share.new_zeros(*share.shape[:2], points)
            rows.append(spread.scatter_add(2, layer.point.expand_as(voting), torch.where(voting, share, 0.0)))
        return torch.cat(rows, dim=1)


def fused(
    votes: Float[Tensor, "batch angles voters experts"], voting: Bool[Tensor, "batch angles voters"]
) -> Float[Tensor, "batch angles experts"]:
    """Logarithms of HoloPose's Eq. 2's weights: ``log sum_j exp(w_kj)`` over those who vote; 0 where nobody does.

    A softmax over the experts, which `RotationExperts.euler` takes, completes the equation.
    """
    anybody = voting.any(-1, keepdim=True)
    # Where nobody votes all are summed and then dropped: a sum over nothing would have no gradient but NaN.
    counted = (voting | ~anybody)[..., None]
    return torch.where(anybody, votes.masked_fill(~counted, -torch.inf).logsumexp(2), 0.0)


def _averaged(
    votes: Float[Tensor, "batch angles voters numbers"], voting: Bool[Tensor, "batch angles voters"]
) -> Float[Tensor, "batch angles values"]:
    """Mean of votes for numbers; the first number of each is the logarithm of its own weight."""
    anybody = voting.any(-1, keepdim=True)
    weight = votes[..., 0].masked_fill(~(voting | ~anybody), -torch.inf).softmax(-1)
    return (weight[..., None] * votes[..., 1:]).sum(2)


class _Votes(nn.Module):
    """One linear layer for each pair of an angle and a point that votes for it."""

    def __init__(self, channels: int, near: Bool[Tensor, "angles points"], numbers: int) -> None:
        super().__init__()
        most = int(near.sum(1).max())
        point = torch.zeros(len(near), most, dtype=torch.long)
        there = torch.zeros(len(near), most, dtype=torch.bool)
        for angle, row in enumerate(near):
            voters = row.nonzero()[:, 0]
            point[angle, : len(voters)], there[angle, : len(voters)] = voters, True
        self.register_buffer("point", point, persistent=False)
        self.register_buffer("there", there, persistent=False)
        pairs = int(there.sum())
        self.weight = nn.Parameter(torch.randn(pairs, channels, numbers) * 0.1 / channels**0.5)
        self.bias = nn.Parameter(torch.zeros(pairs, numbers))

    point: Int[Tensor, "angles voters"]
    there: Bool[Tensor, "angles voters"]

    @torch.no_grad()
    def begin(self, numbers: Float[Tensor, "angles numbers"]) -> None:
        """What everybody says before anything is learned."""
        self.bias.copy_(numbers[torch.nonzero(self.there)[:, 0]])

    def forward(
        self, features: Float[Tensor, "batch points channels"], seen: Bool[Tensor, "batch points"]
    ) -> tuple[Float[Tensor, "batch angles voters numbers"], Bool[Tensor, "batch angles voters"]]:
        """Votes, and which of them count."""
        own = features[:, self.point[self.there]]
        said = torch.einsum("bpc,pcn->bpn", own, self.weight.to(own)) + self.bias.to(own)
        votes = said.new_zeros(len(said), *self.there.shape, said.shape[-1])
        votes[:, self.there] = said
        return votes, self.there & seen[:, self.point]
