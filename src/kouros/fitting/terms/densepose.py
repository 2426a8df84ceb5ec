"""DensePose as evidence: pixels that belong to known points of the skin, and how those points move with the body.

HoloPose (Güler and Kokkinos, CVPR 2019, Sec. 4, Eq. 3-4): a pixel ``x`` is said to show the surface point ``u``; the
body puts ``u`` at ``X = M(phi, u)``, which projects to ``x'``; the residual is ``x' - x``. A surface point is a mix of
skinned vertices (or one entry of the Cartesian charts, Sec. 2.2), so its derivatives are written down here joint by
joint, like those of keypoints in `kouros.fitting.terms.kinematics`, and the projection is that of `Reprojection`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kouros.batched import Batched
from kouros.body.model import BodyModel
from kouros.body.parameters import BodyParameters
from kouros.body.skeleton import forward_kinematics
from kouros.body.surface.charts import Charts
from kouros.fitting.terms.keypoints import FARTHEST_PIXEL
from kouros.fitting.terms.kinematics import JointTree, LinearKeypoints, cross_matrix, exponential_map

NUM_PARTS = 24


@dataclass(frozen=True)
class SurfacePoints(Batched):
    """What makes points of the skin, whatever the pose: a mix of ``corners`` skinned points each."""

    position: Float[Tensor, "batch points corners 3"]
    """In the template, metres."""
    directions: Float[Tensor, "batch points corners 3 coefficients"]
    """How each beta, then each entry of ``R - I`` of the joints but the root, moves them, metres."""
    weights: Float[Tensor, "batch points corners 24"]
    """Of the joints that carry them."""
    share: Float[Tensor, "batch points corners"]
    """Of each corner in its point."""


def points_on_mesh(
    body: BodyModel, face: Int[Tensor, "batch points"], barycentric: Float[Tensor, "batch points 3"]
) -> SurfacePoints:
    """Points inside faces of the body's mesh, exactly."""
    corners = body.faces[face]
    pose = body.posedirs.unflatten(-1, (-1, 3))[:, corners].movedim(0, -1)
    return SurfacePoints(
        position=body.v_template[corners],
        directions=torch.cat([body.shapedirs[corners], pose], dim=-1),
        weights=body.weights[corners],
        share=barycentric,
    )


def points_on_charts(
    charts: Charts, part: Int[Tensor, "batch points"], uv: Float[Tensor, "batch points 2"]
) -> SurfacePoints:
    """Points (part, u, v) of the Cartesian charts, within a millimetre; differentiable in ``uv``.

    Raises:
        ValueError: as `Charts.lookup`.
    """
    found = charts.lookup(part, uv)
    return SurfacePoints(
        position=found.position[:, :, None],
        directions=found.directions[:, :, None],
        weights=found.weights[:, :, None],
        share=torch.ones_like(found.position[..., :1]),
    )


@dataclass(frozen=True)
class DenseEvidence(Batched):
    """Pixels of each person whose place on the skin is known; persons with fewer have points of confidence 0."""

    surface: SurfacePoints
    pixels: Float[Tensor, "batch points 2"]
    confidence: Float[Tensor, "batch points"]
    """In [0, 1]."""


def dense_evidence(
    charts: Charts,
    pixels: Float[Tensor, "batch points 2"],
    part: Int[Tensor, "batch points"],
    uv: Float[Tensor, "batch points 2"],
    confidence: Float[Tensor, "batch points"] | None = None,
) -> DenseEvidence:
    """Correspondences in chart coordinates, with confidence 0 where one says nothing.

    That is where the part is not 1 to 24 (0 is the background), or a number is not finite, or the pixel is
    absurdly far from the picture. Differentiable in all numbers.

    Args:
        charts: of the body that is fitted; ``uv`` in its coordinates, each in [0, 1]. The coordinates of the
            DensePose data set are others (see docs/surface.md).
        confidence: default: 1.
    """
    given = torch.ones_like(pixels[..., 0]) if confidence is None else confidence
    usable = _usable(pixels, part, uv, given)
    return DenseEvidence(
        surface=points_on_charts(charts, torch.where(usable, part, 1), torch.where(usable[..., None], uv, 0.5)),
        pixels=torch.where(usable[..., None], pixels, 0.0),
        confidence=torch.where(usable, given, 0.0).clamp(max=1.0),
    )


def evidence_of_iuv(
    charts: Charts,
    iuv: Float[Tensor, "batch rows columns 3"],
    square: Float[Tensor, "batch 3"],
    count: int,
    confidence: Float[Tensor, "batch rows columns"] | None = None,
) -> DenseEvidence:
    """Some pixels of each person's map of the skin, spread evenly over all that show the person.

    Places that are on no chart are left out, as the paper does (Sec. 2.2). Differentiable in u, v and the confidence.

    Args:
        charts: of the body that is fitted.
        iuv: the part, 0 for the background, and u, v on its chart.
        square: that the maps show: centre x and y, and side, pixels of the photo.
        count: how many of each person.
        confidence: of each pixel; default: 1.
    """
    rows, columns = iuv.shape[1:3]
    flat = iuv.flatten(1, 2)
    part = flat[..., 0].detach().nan_to_num(0.0).round().long()
    good = charts.covers(part, flat[..., 1:].detach())
    total = good.sum(1, keepdim=True)
    # The k-th of the good pixels, for as many k as are wanted, at even distances; all of them where they are few.
    wanted = torch.arange(count, device=iuv.device)[None]
    step = (total / count).clamp(min=1.0)
    rank = (wanted * step).floor().long()
    cell = torch.searchsorted(good.long().cumsum(1), rank + 1).clamp(max=rows * columns - 1)
    there = rank < total
    row, column = cell // columns, cell % columns
    at = torch.stack([(column + 0.5) / columns - 0.5, (row + 0.5) / rows - 0.5], dim=-1).to(flat)
    return dense_evidence(
        charts,
        square[:, None, :2] + square[:, None, 2:] * at,
        torch.where(there, part.gather(1, cell), 0),
        flat[..., 1:].gather(1, cell[..., None].expand(-1, -1, 2)),
        None if confidence is None else confidence.flatten(1).gather(1, cell),
    )


def _usable(pixels: Tensor, part: Tensor, uv: Tensor, confidence: Tensor) -> Bool[Tensor, "batch points"]:
    near = (pixels.abs() < FARTHEST_PIXEL).all(-1)  # false for NaN too
    on_body = (part >= 1) & (part <= NUM_PARTS) & torch.isfinite(uv).all(-1)
    return near & on_body & torch.isfinite(confidence) & (confidence > 0)


def padded_points(
    people: Sequence[Float[Tensor, "_ 5"]],
) -> tuple[Float[Tensor, "batch points 2"], Int[Tensor, "batch points"], Float[Tensor, "batch points 2"]]:
    """Rows ``x, y, part, u, v`` of several people, as `dense_evidence` takes them: part 0 fills the shorter ones."""
    rows = torch.nn.utils.rnn.pad_sequence(list(people), batch_first=True)
    return rows[..., :2], rows[..., 2].nan_to_num(0.0).long(), rows[..., 3:]


class SurfaceKinematics(nn.Module):
    """Points of one body's skin as a differentiable function of its parameters.

    Device and dtype are the body's until the module is moved; nothing of it is saved with a system.
    """

    def __init__(self, body: BodyModel) -> None:
        super().__init__()
        self.tree = JointTree(body)

    def points(self, surface: SurfacePoints, parameters: BodyParameters) -> Float[Tensor, "batch points 3"]:
        """Where the points are, metres."""
        return self._evaluate(surface, parameters).points

    def linearize(self, surface: SurfacePoints, parameters: BodyParameters) -> LinearKeypoints:
        """The points and their derivatives by `BodyParameters.vector`; both can themselves be differentiated."""
        at = self._evaluate(surface, parameters)
        betas = parameters.betas.shape[-1]
        # Turning joint i by w moves what it carries by w x (lever), summed over the joints below it.
        lever = torch.einsum("ij,bnjc->bnic", self.tree.above, at.carried)
        lever = lever - (at.shares @ self.tree.above.T)[..., None] * at.position[:, None]
        axes = at.rotation @ at.right_jacobian  # columns: world axes of d(rotation vector)
        by_pose = (axes.mT[:, None] @ cross_matrix(lever)).permute(0, 1, 4, 2, 3)  # a x l = [a]^T [l]x: batch point
        # xyz joint axis. Pose blend shapes: d(R - I) = R [Jr dv]x.
        moved = (at.blended @ surface.directions).sum(2)
        unit = cross_matrix(torch.eye(3, dtype=moved.dtype, device=moved.device))  # [e_a]x
        feature = torch.einsum("bjrs,ast,bjan->bjrtn", at.local[:, 1:], unit, at.right_jacobian[:, 1:]).flatten(2, 3)
        by_blend = torch.einsum("bncjm,bjma->bncja", moved[..., betas:].unflatten(-1, (-1, 9)), feature)
        by_pose = by_pose + torch.nn.functional.pad(by_blend, (0, 0, 1, 0))
        # Shape moves the point in its joints' frames and the joints themselves.
        offsets = self.tree.moved_by_shape(at.rotation) - at.rotation @ self.tree.by_shape
        by_shape = moved[..., :betas] + torch.einsum("bnj,bjcs->bncs", at.shares, offsets)
        eye = torch.eye(3, dtype=moved.dtype, device=moved.device)
        by_transl = at.shares.sum(-1)[..., None, None] * eye
        return LinearKeypoints(at.points, torch.cat([by_pose.flatten(-2), by_shape, by_transl], dim=-1))

    def _evaluate(self, surface: SurfacePoints, parameters: BodyParameters) -> "_Evaluation":
        local = exponential_map(parameters.pose.unflatten(-1, (24, 3)))
        rest = self.tree.resting(parameters.betas)
        rotation, position = forward_kinematics(local.matrix, rest, self.tree.parents)
        position = position + parameters.transl[:, None]
        eye = torch.eye(3, dtype=rest.dtype, device=rest.device)
        coefficients = torch.cat([parameters.betas, (local.matrix[:, 1:] - eye).flatten(1)], dim=-1)
        shaped = surface.position + (surface.directions.flatten(1, 3) @ coefficients[..., None]).view_as(
            surface.position
        )
        shares = surface.share[..., None] * surface.weights
        anchor = torch.einsum("bnkj,bnkc->bnjc", shares, shaped)
        total = shares.sum(2)
        turned = torch.einsum("bjcd,bnjd->bnjc", rotation, anchor - total[..., None] * rest[:, None])
        carried = turned + total[..., None] * position[:, None]
        blended = torch.einsum("bnkj,bjcd->bnkcd", shares, rotation)
        return _Evaluation(
            local.matrix, local.right_jacobian, rotation, position, total, carried, blended, carried.sum(2)
        )


@dataclass(frozen=True)
class _Evaluation:
    local: Float[Tensor, "batch joints 3 3"]
    right_jacobian: Float[Tensor, "batch joints 3 3"]
    rotation: Float[Tensor, "batch joints 3 3"]
    position: Float[Tensor, "batch joints 3"]
    shares: Float[Tensor, "batch points joints"]
    """Of each joint in each point; a row sums to 1."""
    carried: Float[Tensor, "batch points joints 3"]
    """What each joint adds to each point."""
    blended: Float[Tensor, "batch points corners 3 3"]
    points: Float[Tensor, "batch points 3"]
