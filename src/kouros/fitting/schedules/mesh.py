"""Parameters of bodies whose meshes are known: for systems that answer with vertices, and the rig that exports need.

With the rotations held, vertices are linear in betas and translation; with the shape held, each joint's global rotation
is the best rigid motion of the vertices that follow it. The two take turns.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.body.skeleton import NUM_JOINTS, PARENTS, forward_kinematics
from kouros.geometry.rotations import rotmat_to_rotvec

_ROUNDS, _TURNS = 4, 4
"""Rounds of both, and turns of all joints in each."""
_DAMPING = 1e-7
"""Square metres a beta, mean over vertices: meshes that are no body of the model get no absurd shape."""
_CHILD_SHARE = 0.1
"""Weight of a joint's children among the points that follow it, each against all of its vertices together."""


@torch.no_grad()
def fit_to_mesh(
    body: BodyModel, vertices: Float[Tensor, "people verts 3"], joints: Float[Tensor, "people 24 3"]
) -> BodyParameters:
    """Pose, shape and place by which the body model comes nearest to meshes of its topology.

    Args:
        vertices: metres, in any one space.
        joints: of their skeletons, in the same.

    Raises:
        ValueError: the meshes are not of the body's topology.
    """
    if vertices.shape[-2] != body.v_template.shape[0]:
        raise ValueError(
            f"the meshes have {vertices.shape[-2]} vertices, but this body has {body.v_template.shape[0]}; fit the "
            "body that they were made with."
        )
    # Near the origin, where sums of squares lose no digits.
    origin = joints[:, :1]
    vertices, joints = vertices - origin, joints - origin
    count = len(vertices)
    betas, rotations = vertices.new_zeros(count, body.num_betas), _identities(vertices)
    transl = vertices.new_zeros(count, 3)
    for _ in range(_ROUNDS):
        for _ in range(_TURNS):
            rotations = _turned(body, BodyParameters(_rotvecs(rotations), betas, transl), vertices, joints)
        betas, transl = _shape_and_place(body, rotations, vertices)
    return BodyParameters(_rotvecs(rotations), betas, transl + origin[:, 0])


def _identities(like: Tensor) -> Float[Tensor, "people 24 3 3"]:
    return torch.eye(3, dtype=like.dtype, device=like.device).expand(len(like), NUM_JOINTS, 3, 3)


def _rotvecs(rotations: Float[Tensor, "people 24 3 3"]) -> Float[Tensor, "people 72"]:
    return rotmat_to_rotvec(rotations).flatten(1)


def _turned(
    body: BodyModel,
    now: BodyParameters,
    vertices: Float[Tensor, "people verts 3"],
    joints: Float[Tensor, "people 24 3"],
) -> Float[Tensor, "people 24 3 3"]:
    """Relative rotations after every joint has turned what follows it as near to the meshes as it can.

    Measured from the posed body, and not from its rest pose, so that what skin and flesh do between two joints is in
    both.
    """
    posed = now.posed_by(body)
    weights = body.weights / body.weights.sum(0).clamp(min=1e-9)
    turn = _moments(weights, posed.vertices, vertices, posed.joints, joints)
    for child in range(1, NUM_JOINTS):
        parent = PARENTS[child]
        there, here = joints[:, child] - joints[:, parent], posed.joints[:, child] - posed.joints[:, parent]
        turn[:, parent] += _CHILD_SHARE * there[:, :, None] * here[:, None]
    import roma  # loads torch's compiler, which takes a second

    frames, _ = forward_kinematics(now.rotations, posed.joints)
    turned = roma.special_procrustes(turn) @ frames
    relative = turned[:, _ABOVE].mT @ turned
    return torch.cat([turned[:, :1], relative[:, 1:]], dim=1)


_ABOVE = [0, *PARENTS[1:]]


def _moments(
    weights: Float[Tensor, "verts 24"],
    here: Float[Tensor, "people verts 3"],
    there: Float[Tensor, "people verts 3"],
    here_joints: Float[Tensor, "people 24 3"],
    there_joints: Float[Tensor, "people 24 3"],
) -> Float[Tensor, "people 24 3 3"]:
    """For each joint the weighted sum over vertices of (there - joint) (here - joint)^T."""
    both = torch.einsum("vk,nvi,nvj->nkij", weights, there, here)
    mean_there, mean_here = (torch.einsum("vk,nvi->nki", weights, points) for points in (there, here))
    total = weights.sum(0)[None, :, None, None]
    return (
        both
        - there_joints[..., :, None] * mean_here[..., None, :]
        - mean_there[..., :, None] * here_joints[..., None, :]
        + total * there_joints[..., :, None] * here_joints[..., None, :]
    )


def _shape_and_place(
    body: BodyModel, rotations: Float[Tensor, "people 24 3 3"], vertices: Float[Tensor, "people verts 3"]
) -> tuple[Float[Tensor, "people betas"], Float[Tensor, "people 3"]]:
    """Betas and translation that bring the posed body nearest to the meshes."""
    found = [_linear(body, r, v) for r, v in zip(rotations, vertices, strict=True)]
    betas, transl = (torch.stack(part) for part in zip(*found, strict=True))
    return betas, transl


def _linear(
    body: BodyModel, rotations: Float[Tensor, "24 3 3"], vertices: Float[Tensor, "verts 3"]
) -> tuple[Float[Tensor, " betas"], Float[Tensor, "3"]]:
    count = body.num_betas
    units = torch.cat([vertices.new_zeros(1, count), torch.eye(count).to(vertices)])
    poses = rotations.expand(count + 1, NUM_JOINTS, 3, 3)
    posed = body(betas=units, global_orient=poses[:, 0], body_pose=poses[:, 1:], pose2rot=False).vertices
    directions = posed[1:] - posed[:1]
    # The translation that goes with any betas is the mean of what is left: it drops out of the centred system.
    left = vertices - posed[0]
    centred = (directions - directions.mean(1, keepdim=True)).flatten(1)
    normal = centred @ centred.T / len(vertices) + _DAMPING * torch.eye(count).to(vertices)
    betas = torch.linalg.solve(normal, centred @ (left - left.mean(0)).flatten() / len(vertices))
    return betas, (left - torch.einsum("bvc,b->vc", directions, betas)).mean(0)
