"""HKMR's regressor: joint angles along kinematic chains (Georgakis et al., ECCV 2020, Sec. 3.2).

Six chains, the torso's being the root of the others. A chain's embedding module sees the picture's features, the
betas, the chain's angles and, in a child, the root chain's; from the embedding, joint after joint answers with a
change of its three angles, seeing those of all joints before it: from the chain's root to its tip (Eq. 1), then
back from the tip (Eq. 2). What the paper leaves open is in `KinematicConfig`.

**Every pass is one matrix product.** The features never change, so their share of all first layers is one product.
Joints are linear layers without activation, so the changes ``x`` of a pass solve the triangular system
``x = A psi + B x + c``, where ``B`` holds what each joint makes of those before it. Solved once for the weights
instead of once for each person and iteration, ``(I - B)^-1 [A, c]`` is one layer for all joints; and the five
children are the blocks of one larger chain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear

from kouros.body.skeleton import JOINT_NAMES, NUM_JOINTS
from kouros.geometry.rotations import rot6d_to_rotmat, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.networks.estimates import NUM_BETAS, MeanParameters, Regressed

Chain = tuple[int, ...]


def _chain(*names: str) -> Chain:
    return tuple(JOINT_NAMES.index(name) for name in names)


def _limb(side: str, *names: str) -> Chain:
    return _chain(*(f"{side}_{name}" for name in names))


ROOT_CHAIN = _chain("pelvis", "spine1", "spine2", "spine3")
CHILD_CHAINS = (
    _chain("neck", "head"),
    *(_limb(side, "collar", "shoulder", "elbow", "wrist", "hand") for side in ("right", "left")),
    *(_limb(side, "hip", "knee", "ankle", "foot") for side in ("right", "left")),
)
"""In the order of the paper's ``Theta``."""
_CHAIN_ORDER = (*ROOT_CHAIN, *(joint for chain in CHILD_CHAINS for joint in chain))
_CAMERA = 3


@dataclass(frozen=True)
class KinematicConfig:
    """Iterations, the ablations of the paper's Tables 2 and 3, and sizes."""

    outer_iterations: int = 3
    """How often pose, shape and camera are improved one after the other (``T``)."""
    inner_iterations: int = 4
    """Passes along each chain in an outer iteration. As the paper numbers its steps, a forward pass is one and the
    backward pass after it the next: 4 are two cycles."""
    joint_hierarchy: bool = True
    """Each joint sees the changes of all joints before it; off, of the one just before it. As joints' layers are
    linear, both can express the same functions of the embedding: they differ in how those are learned."""
    backward_pass: bool = True
    """Every other pass goes from the tip to the root; off, all go forward, and as many."""
    embedding: int = 128
    """Numbers of a chain's embedding (the paper's ``d``, which is in a supplement). One layer and a rectifier; with
    the next size and ResNet-50, the whole network has the 26.2 million parameters that the paper reports."""
    hidden: int = 256
    """Of the shape and camera networks, each of two layers."""

    def __post_init__(self) -> None:
        for name in ("outer_iterations", "inner_iterations", "embedding", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; the regressor needs at least 1.")

    def build(self, num_features: int) -> "KinematicRegressor":
        """The regressor for a backbone with that many features, with fresh weights."""
        return KinematicRegressor(num_features, self)


class KinematicRegressor(nn.Module):
    """Features in; every outer iteration's estimate out, the last of which is the answer.

    Args:
        num_features: of the backbone.
        config: default: the paper's.
        mean: the first guess; default: `MeanParameters.packaged`.
    """

    init_pose: Float[Tensor, " 72"]
    """Rotation vectors, chain by chain."""
    init_betas: Float[Tensor, " 10"]
    init_camera: Float[Tensor, " 3"]
    _joint_order: Int[Tensor, " 24"]

    def __init__(
        self, num_features: int, config: KinematicConfig | None = None, mean: MeanParameters | None = None
    ) -> None:
        super().__init__()
        self.config = config or KinematicConfig()
        size, hidden = self.config.embedding, self.config.hidden
        root_angles, everything = 3 * len(ROOT_CHAIN), 3 * NUM_JOINTS + NUM_BETAS
        self._sizes = (size, size * len(CHILD_CHAINS), hidden, hidden)
        self.features = nn.Linear(num_features, sum(self._sizes))
        """The features' share, and the biases, of the first layers of: root, children, shape and camera network."""
        self.root_chain = Chains((ROOT_CHAIN,), NUM_BETAS, self.config)
        self.child_chains = Chains(CHILD_CHAINS, NUM_BETAS + root_angles, self.config)
        self.shape = _Head(everything, hidden, NUM_BETAS)
        self.camera = _Head(everything, hidden, _CAMERA)
        self.register_buffer("init_pose", torch.zeros(3 * NUM_JOINTS))
        self.register_buffer("init_betas", torch.zeros(NUM_BETAS))
        self.register_buffer("init_camera", torch.zeros(_CAMERA))
        order = torch.tensor([_CHAIN_ORDER.index(joint) for joint in range(NUM_JOINTS)])
        self.register_buffer("_joint_order", order, persistent=False)
        self.begin_from(mean or MeanParameters.packaged())

    def begin_from(self, mean: MeanParameters) -> None:
        """Change the first guess."""
        rotations = rot6d_to_rotmat(mean.pose.unflatten(0, (NUM_JOINTS, 6)))
        self.init_pose.copy_(rotmat_to_rotvec(rotations)[list(_CHAIN_ORDER)].flatten())
        self.init_betas.copy_(mean.betas)
        self.init_camera.copy_(mean.camera)

    def forward(self, features: Float[Tensor, "batch features"]) -> tuple[Regressed, ...]:
        """Estimates after each outer iteration."""
        # Half precision, which a training loop may have switched on, would round the angles in every pass.
        with torch.autocast(features.device.type, enabled=False):
            return self._estimates(features.to(self.features.weight))

    def _estimates(self, features: Float[Tensor, "batch features"]) -> tuple[Regressed, ...]:
        seen_by_root, seen_by_children, seen_for_shape, seen_for_camera = self.features(features).split(self._sizes, 1)
        estimate_root, estimate_children = self.root_chain.solved(), self.child_chains.solved()
        root, children = self.init_pose.expand(len(features), -1).tensor_split([3 * len(ROOT_CHAIN)], dim=1)
        betas = self.init_betas.expand(len(features), -1)
        poses, shapes, cameras = [], [], []
        for _ in range(self.config.outer_iterations):
            root = estimate_root(seen_by_root, betas, root)
            children = estimate_children(seen_by_children, torch.cat([betas, root], 1), children)
            pose = torch.cat([root, children], 1)
            betas = betas + self.shape(seen_for_shape, torch.cat([pose, betas], 1))
            poses.append(pose)
            shapes.append(betas)
            cameras.append(self.init_camera + self.camera(seen_for_camera, torch.cat([pose, betas], 1)))
        angles = torch.stack(poses).unflatten(-1, (NUM_JOINTS, 3))[:, :, self._joint_order]
        return tuple(map(Regressed, rotvec_to_rotmat(angles), shapes, cameras))


class Chains(nn.Module):
    """Chains side by side that do not see each other: the root alone, or all its children.

    Args:
        chains: each from its root to its tip.
        given: how many numbers all are told besides the features: betas and, in children, the root chain's angles.
        config: of the regressor.
    """

    def __init__(self, chains: Sequence[Chain], given: int, config: KinematicConfig) -> None:
        super().__init__()
        self._inner_iterations = config.inner_iterations
        size, angles = config.embedding, [3 * len(chain) for chain in chains]
        self.from_given = _uniform(size * len(chains), given)
        """The embedding modules' weights on what is given, chain by chain."""
        self.from_angles = nn.ParameterList(_uniform(size, n) for n in angles)
        """Each embedding module's weights on its own chain's angles."""
        directions = (False, True) if config.backward_pass else (False,)
        self.passes = nn.ModuleList(ChainPass(chains, backward, config) for backward in directions)

    def solved(self) -> "_Estimator":
        """What a forward call of the network does with these chains, the weights made ready."""
        layers = [p.layer() for p in self.passes if isinstance(p, ChainPass)]
        steps = tuple(layers[step % len(layers)] for step in range(self._inner_iterations))
        return _Estimator(self.from_given, torch.block_diag(*self.from_angles), steps)


class ChainPass(nn.Module):
    """The joints' layers of one pass: ``f_i`` of Eq. 1 or ``b_i`` of Eq. 2, of all chains of a group."""

    _later: Int[Tensor, " pairs"]
    _earlier: Int[Tensor, " pairs"]

    def __init__(self, chains: Sequence[Chain], backward: bool, config: KinematicConfig) -> None:
        super().__init__()
        self.backward = backward
        lengths = [len(chain) for chain in chains]
        self.pairs = tuple(_pairs(lengths, backward, config.joint_hierarchy))
        """(joint, joint before it), both by their places among the group's joints."""
        later, earlier = torch.tensor(self.pairs).T
        self.register_buffer("_later", later.clone(), persistent=False)
        self.register_buffer("_earlier", earlier.clone(), persistent=False)
        self.from_embedding = nn.ParameterList(torch.empty(3 * n, config.embedding) for n in lengths)
        self.from_previous = nn.Parameter(torch.empty(len(self.pairs), 3, 3))
        """The weights between each of `pairs`."""
        self.bias = nn.Parameter(torch.zeros(3 * sum(lengths)))
        # A small first answer, as in HMR's and SPIN's regressors.
        for weight in self.from_embedding:
            nn.init.xavier_uniform_(weight, gain=0.01)
        bound = 1 / math.sqrt(config.embedding)
        nn.init.uniform_(self.from_previous, -bound, bound)

    def layer(self) -> tuple[Float[Tensor, "angles embedding"], Float[Tensor, " angles"]]:
        """Weight and bias of the one linear layer that answers as the joints do one after the other."""
        joints = len(self.bias) // 3
        previous = self.bias.new_zeros(joints, joints, 3, 3)
        previous[self._later, self._earlier] = self.from_previous
        identity = torch.eye(3 * joints, dtype=self.bias.dtype, device=self.bias.device)
        system = identity - previous.transpose(1, 2).reshape(3 * joints, 3 * joints)
        independent = torch.cat([torch.block_diag(*self.from_embedding), self.bias[:, None]], dim=1)
        solved = torch.linalg.solve_triangular(system, independent, upper=self.backward, unitriangular=True)
        return solved[:, :-1], solved[:, -1]


@dataclass(frozen=True)
class _Estimator:
    """A group of chains, ready for the inner iterations."""

    from_given: Float[Tensor, "embedding given"]
    from_angles: Float[Tensor, "embedding angles"]
    steps: tuple[tuple[Float[Tensor, "angles embedding"], Float[Tensor, " angles"]], ...]

    def __call__(
        self,
        seen: Float[Tensor, "batch embedding"],
        given: Float[Tensor, "batch given"],
        angles: Float[Tensor, "batch angles"],
    ) -> Float[Tensor, "batch angles"]:
        """The next outer iteration's angles."""
        known = seen + linear(given, self.from_given)
        for step in self.steps:
            embedding = torch.relu(torch.addmm(known, angles, self.from_angles.T))
            angles = angles + linear(embedding, *step)
        return angles


class _Head(nn.Module):
    """The shape or camera network: its share of the features, and the current parameters, to changes."""

    def __init__(self, given: int, hidden: int, answers: int) -> None:
        super().__init__()
        self.from_given = _uniform(hidden, given)
        self.answer = nn.Linear(hidden, answers)
        nn.init.xavier_uniform_(self.answer.weight, gain=0.01)

    def forward(
        self, seen: Float[Tensor, "batch hidden"], given: Float[Tensor, "batch given"]
    ) -> Float[Tensor, "batch answers"]:
        return self.answer(torch.relu(seen + linear(given, self.from_given)))


def _pairs(lengths: Sequence[int], backward: bool, all_before: bool) -> list[tuple[int, int]]:
    """Who sees whom: in each chain every joint all joints, or the one, that a pass visits before it."""
    pairs, start = [], 0
    for length in lengths:
        visited = [*range(start, start + length)]
        if backward:
            visited.reverse()
        for place, joint in enumerate(visited):
            before = visited[:place] if all_before else visited[max(place - 1, 0) : place]
            pairs += [(joint, b) for b in before]
        start += length
    return pairs


def _uniform(outputs: int, inputs: int) -> nn.Parameter:
    """Weights of a part of a layer's inputs, distributed as torch's linear layers'."""
    bound = 1 / math.sqrt(inputs)
    return nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound))
