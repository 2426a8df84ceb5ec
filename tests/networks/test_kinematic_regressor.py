"""The kinematic regressor against the paper's equations, joint by joint and chain by chain."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import linear
from torch.testing import assert_close

from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.networks.estimates import MeanParameters
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.networks.kinematic_regressor import CHILD_CHAINS, ROOT_CHAIN, KinematicConfig, KinematicRegressor
from kouros.networks.resnet import ResNet

ABLATIONS = (
    KinematicConfig(),
    KinematicConfig(joint_hierarchy=False),
    KinematicConfig(backward_pass=False),
    KinematicConfig(outer_iterations=1, inner_iterations=6),
    KinematicConfig(outer_iterations=4, inner_iterations=3),
)
FEATURES = 20


def regressor(config: KinematicConfig, seed: int = 0, scale: float = 1.0) -> KinematicRegressor:
    """With weights as large as a trained network's, or no joint would feel another."""
    torch.manual_seed(seed)
    made = KinematicRegressor(FEATURES, config)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(scale * torch.randn_like(p) / max(p.shape[-1], 9) ** 0.5)
    return made


def one_pass(config: KinematicConfig, backward: bool) -> KinematicRegressor:
    """A regressor of one outer iteration that ends with its first pass in a direction."""
    return regressor(replace(config, outer_iterations=1, inner_iterations=2 if backward else 1))


# ---- a plain, slow peer: Sec. 3.2 as it is written


def visited(chain: tuple[int, ...], backward: bool) -> list[int]:
    return list(range(len(chain)))[:: -1 if backward else 1]


def plainly_one_chain(net, group, number, embedding_bias, given, theta, config):
    """One chain's inner iterations for one person; theta is (joints, 3)."""
    chains = (ROOT_CHAIN,) if group is net.root_chain else CHILD_CHAINS
    d, chain = config.embedding, chains[number]
    start = sum(len(c) for c in chains[:number])
    for p in range(config.inner_iterations):
        backward = config.backward_pass and p % 2 == 1
        layers = group.passes[int(backward)]
        psi = embedding_bias + group.from_given[number * d : (number + 1) * d] @ given
        psi = torch.relu(psi + group.from_angles[number] @ theta.flatten())
        changes: dict[int, torch.Tensor] = {}
        for joint in visited(chain, backward):
            rows = slice(3 * joint, 3 * joint + 3)
            change = layers.from_embedding[number][rows] @ psi
            change = change + layers.bias[3 * (start + joint) : 3 * (start + joint) + 3]
            before = list(changes) if config.joint_hierarchy else list(changes)[-1:]
            for other in before:
                pair = layers.pairs.index((start + joint, start + other))
                change = change + layers.from_previous[pair] @ changes[other]
            changes[joint] = change
        theta = theta + torch.stack([changes[joint] for joint in range(len(chain))])
    return theta


def plainly(net: KinematicRegressor, features: torch.Tensor):
    """Rotation vectors (24, 3), betas and camera of one person after each outer iteration."""
    config, d, h = net.config, net.config.embedding, net.config.hidden
    first = net.features.weight @ features + net.features.bias
    theta = {}
    flat = net.init_pose.view(24, 3)
    for chain in (ROOT_CHAIN, *CHILD_CHAINS):
        theta[chain], flat = flat[: len(chain)], flat[len(chain) :]
    betas, answers = net.init_betas, []
    for _ in range(config.outer_iterations):
        theta[ROOT_CHAIN] = plainly_one_chain(net, net.root_chain, 0, first[:d], betas, theta[ROOT_CHAIN], config)
        given = torch.cat([betas, theta[ROOT_CHAIN].flatten()])
        for number, chain in enumerate(CHILD_CHAINS):
            bias = first[d * (number + 1) : d * (number + 2)]
            theta[chain] = plainly_one_chain(net, net.child_chains, number, bias, given, theta[chain], config)
        everything = torch.cat([theta[c].flatten() for c in (ROOT_CHAIN, *CHILD_CHAINS)])

        def head(net, bias, given):
            return linear(torch.relu(bias + net.from_given @ given), net.answer.weight, net.answer.bias)

        betas = betas + head(net.shape, first[6 * d : 6 * d + h], torch.cat([everything, betas]))
        camera = net.init_camera + head(net.camera, first[6 * d + h :], torch.cat([everything, betas]))
        pose = features.new_zeros(24, 3)
        for chain, angles in theta.items():
            pose[list(chain)] = angles
        answers.append((pose, betas, camera))
    return answers


@pytest.mark.parametrize("config", ABLATIONS)
def test_all_chains_at_once_are_the_papers_chains_joint_by_joint(config: KinematicConfig):
    net = regressor(config, scale=0.4)
    features = torch.randn(3, FEATURES)
    rounded, exact = net(features), net.double()(features.double())
    assert len(exact) == config.outer_iterations
    for person in range(3):
        plain = plainly(net, features[person].double())
        for single, double, (pose, betas, camera) in zip(rounded, exact, plain, strict=True):
            for answer, tolerance in ((double, 1e-9), (single, 1e-5)):
                match = {"atol": tolerance, "rtol": tolerance, "check_dtype": False}
                assert_close(answer.rotations[person], rotvec_to_rotmat(pose), **match)
                assert_close(answer.betas[person], betas, **match)
                assert_close(answer.camera[person], camera, **match)


# ---- who depends on whom


def moved_joints(net: KinematicRegressor, parameter: torch.Tensor, index) -> set[int]:
    features = torch.randn(2, FEATURES, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = net(features)[-1].rotations.clone()
        parameter[index] += 0.5
        after = net(features)[-1].rotations
        parameter[index] -= 0.5
    return set(torch.nonzero((after - before).abs().amax((0, 2, 3)) > 1e-6).flatten().tolist())


ARM = CHILD_CHAINS[1]
ARM_START = len(CHILD_CHAINS[0])


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("place", range(len(ARM)))
def test_a_joints_change_moves_those_after_it_in_the_pass_and_no_others(place: int, backward: bool):
    net = one_pass(KinematicConfig(), backward)
    bias = net.child_chains.passes[int(backward)].bias
    moved = moved_joints(net, bias, slice(3 * (ARM_START + place), 3 * (ARM_START + place) + 3))
    assert moved == set(ARM[: place + 1] if backward else ARM[place:])


@pytest.mark.parametrize("backward", [False, True])
def test_without_hierarchy_a_joint_sees_only_the_one_before_it(backward: bool):
    config = KinematicConfig(joint_hierarchy=False)
    net = one_pass(config, backward)
    layers = net.child_chains.passes[int(backward)]
    step = -1 if backward else 1
    assert all(joint - before == step for joint, before in layers.pairs)
    # With the next joint deaf to the first, none of those behind it hears of the first.
    first, second = (ARM_START + p for p in visited(ARM, backward)[:2])
    with torch.no_grad():
        layers.from_previous[layers.pairs.index((second, first))] = 0
    assert moved_joints(net, layers.bias, slice(3 * first, 3 * first + 3)) == {ARM[first - ARM_START]}
    # With the hierarchy they do.
    net = one_pass(KinematicConfig(), backward)
    layers = net.child_chains.passes[int(backward)]
    with torch.no_grad():
        layers.from_previous[layers.pairs.index((second, first))] = 0
    expected = set(ARM) - {ARM[second - ARM_START]}
    assert moved_joints(net, layers.bias, slice(3 * first, 3 * first + 3)) == expected


def test_children_depend_on_the_root_but_not_the_root_on_them_nor_they_on_each_other():
    net = one_pass(KinematicConfig(), backward=False)
    assert moved_joints(net, net.root_chain.passes[0].bias, slice(0, 3)) == set(range(24))
    tip = slice(3 * len(ROOT_CHAIN) - 3, 3 * len(ROOT_CHAIN))
    others = {joint for chain in CHILD_CHAINS for joint in chain}
    assert moved_joints(net, net.root_chain.passes[0].bias, tip) == {ROOT_CHAIN[-1]} | others
    size = net.config.embedding
    for number, chain in enumerate(CHILD_CHAINS):
        rows = slice(number * size, (number + 1) * size)
        assert moved_joints(net, net.child_chains.from_given, rows) == set(chain)


def test_in_the_next_outer_iteration_the_root_hears_of_the_children_through_the_betas():
    net = regressor(KinematicConfig(outer_iterations=2, inner_iterations=1))
    assert moved_joints(net, net.child_chains.passes[0].bias, slice(0, 3)) == set(range(24))


def test_chains_are_paths_of_the_skeleton_and_hold_every_joint_once():
    chains = (ROOT_CHAIN, *CHILD_CHAINS)
    assert sorted(joint for chain in chains for joint in chain) == list(range(24))
    for chain in chains:
        assert all(PARENTS[child] == parent for parent, child in pairwise(chain))
    assert all(PARENTS[chain[0]] in ROOT_CHAIN for chain in CHILD_CHAINS)
    right_arm = ["collar", "shoulder", "elbow", "wrist", "hand"]
    assert [JOINT_NAMES[j] for j in CHILD_CHAINS[1]] == [f"right_{name}" for name in right_arm]


# ---- the whole


def test_without_answers_it_stays_at_the_mean():
    mean = MeanParameters.packaged()
    net = KinematicRegressor(FEATURES, mean=mean)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "from_embedding" in name or "answer" in name or name.endswith("bias"):
                p.zero_()
    for answer in net(torch.randn(2, FEATURES)):
        assert_close(rotmat_to_rotvec(answer.rotations[0]).abs()[0], torch.tensor([torch.pi, 0, 0]), atol=1e-3, rtol=0)
        assert_close(answer.rotations[0, :, :, :2].flatten(), mean.pose, atol=1e-5, rtol=0)
        assert_close(answer.camera[1], mean.camera)


@pytest.mark.parametrize("config", ABLATIONS)
def test_every_parameter_learns(config: KinematicConfig):
    torch.manual_seed(0)
    net = KinematicRegressor(FEATURES, config, replace(MeanParameters.packaged(), betas=torch.randn(10)))
    answers = net(torch.randn(4, FEATURES))
    total = sum((torch.randn_like(t) * t).sum() for a in answers for t in (a.rotations, a.betas, a.camera))
    total.backward()
    for name, p in net.named_parameters():
        assert p.grad is not None and (p.grad != 0).any(-1).float().mean() > 0.5, name


def test_gradients_are_right():
    torch.manual_seed(0)
    net = regressor(KinematicConfig(embedding=4, hidden=4, inner_iterations=2, outer_iterations=2), scale=0.3).double()

    def answer(features, *weights):
        names = [n for n, _ in net.named_parameters()]
        last = torch.func.functional_call(net, dict(zip(names, weights, strict=True)), features)[-1]
        return last.rotations[:, ::5, 0], last.betas[:, :2], last.camera

    weights = [p.detach().requires_grad_() for p in net.parameters()]
    assert torch.autograd.gradcheck(answer, (torch.randn(1, FEATURES).double(), *weights), fast_mode=True)


def test_half_precision_around_it_changes_nothing():
    net, features = regressor(KinematicConfig()), torch.randn(2, FEATURES)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = net(features)[-1]
    assert_close(rounded.rotations, net(features)[-1].rotations, atol=0, rtol=0)


def test_the_same_seed_gives_the_same_weights():
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in KinematicRegressor(FEATURES).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_it_has_as_many_parameters_as_published():
    """Table 1: 26.2 million with ResNet-50; HMR's with 6D rotations 27.0."""
    nets = (ResNet(50), KinematicRegressor(2048), HmrRegressor(2048))
    backbone, ours, hmr = (sum(p.numel() for p in net.parameters()) for net in nets)
    assert round((backbone + ours) / 1e6, 1) == 26.2
    assert round((backbone + hmr) / 1e6, 1) == 27.0


def test_no_iterations_are_refused():
    with pytest.raises(ValueError, match="inner_iterations is 0"):
        KinematicConfig(inner_iterations=0)
