"""Bodies in a video: one shape, and joints that do not jump.

A picture hardly says how far away a limb is, but its neighbours in time say that it cannot have leapt. All frames of a
person are fitted together: each by whatever objective a single frame has, all with the same betas, tied by the
accelerations of the joints in space and, weakly, of the joints' rotations (which the positions do not fix). Feet either
stand or move: their speed is weighed robustly, so that who is nearly still is held and who steps is free. An
acceleration ties three frames, so the normal equations are a band of three blocks a frame, bordered by the betas: one
Levenberg-Marquardt step costs the same for every frame, however many there are. Long videos are fitted in windows that
overlap, so that memory does not grow with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.linalg import LinAlgError, cho_solve_banded, cholesky_banded
from torch import Tensor

from kouros.batched import concatenate
from kouros.body.parameters import POSE_SIZE, BodyParameters
from kouros.fitting.linearization import NormalEquations, Objective, add_up_normal
from kouros.fitting.solvers.damping import GIVEN_UP, nielsen
from kouros.fitting.terms.kinematics import KeypointKinematics, LinearKeypoints

_FRAME = POSE_SIZE + 3
"""Unknowns of a frame: its pose and translation."""
_REACH = 3
"""Frames that an acceleration ties."""


@dataclass(frozen=True)
class SmoothConfig:
    """How people move; for each joint, standard deviations over all kinds of motion."""

    acceleration: float = 24.0
    """Of a joint in space, metres a second squared. A few times what joints do on average: a tighter value pays for
    itself by shrinking the body and its distance (4 instead of 24 doubles the error of the distance)."""
    turning: float = 40.0
    """Of a joint's rotation vector, radians a second squared."""
    standing: float = 0.12
    """Of a foot that stands, metres a second."""
    stepping: float = 0.25
    """Speed, metres a second, from which on a foot is rather moving than standing (Geman-McClure scale)."""
    floor: float = 0.02
    """Of how deep a foot sinks into the floor, metres."""
    steps: float = 0.06
    """Metres below the floor from which on a foot rather stands on something else (Geman-McClure scale)."""
    largest_gap: float = 0.5
    """Seconds without a frame after which nothing is known of the motion."""
    window: int = 900
    """Frames fitted at once, at 0.7 MB each; of longer videos, the first so many decide on the betas."""
    overlap: int = 60
    """Frames at a window's end that count only in the next one, because what follows them is to be heard first. The
    next one begins where they do, after two frames that are held as they were found, so that nothing is torn."""
    iterations: int = 15
    tolerance: float = 1e-4


@dataclass(frozen=True, eq=False)
class Floor:
    """A plane that no foot sinks into. That those who stand touch it is not asked: where up is off by some degrees, it
    would pull people away from where they are (docs/results/video.md)."""

    up: Float[Tensor, "3"]
    """Unit vector, camera space."""
    height: float
    """Of the floor along ``up``, metres."""
    clearance: Float[Tensor, " feet"]
    """How high each foot's joint is above its sole, metres."""


@dataclass(frozen=True)
class SequenceResult:
    """One person's frames."""

    parameters: BodyParameters
    """In the order given; the betas are the same in every frame."""
    cost: float
    """Of all frames and the smoothness between them; where windows overlap, of both."""


def fit_sequence(
    objective: Callable[[Int[Tensor, " some"]], Objective],
    joints: KeypointKinematics,
    start: BodyParameters,
    times: Float[Tensor, " frames"],
    config: SmoothConfig | None = None,
    *,
    feet: Sequence[int] = (),
    floor: Floor | None = None,
    betas: Float[Tensor, " betas"] | None = None,
    held: int = 0,
) -> SequenceResult:
    """Fit the frames of one person together.

    Args:
        objective: of some of the frames, by their places, each on its own, as a batch.
        joints: the points whose accelerations count, such as the set ``smpl24``.
        start: each frame's own fit; the betas' median is where the common ones begin.
        times: of the frames, seconds, increasing; frames may be missing.
        feet: of ``joints``, those that stand still on the floor or move.
        floor: where that is known; of ``feet``.
        betas: of the person, where they are known; default: fitted to the first window.
        held: so many frames at the beginning stay as they are given.

    Raises:
        ValueError: times do not increase; the objective is not finite at the start.
    """
    config = config or SmoothConfig()
    if bool((times[1:] <= times[:-1]).any()):
        raise ValueError("the times of a sequence's frames must increase from frame to frame.")
    # Not Tensor.median, which is wrong for expanded tensors.
    median = start.betas[: config.window].quantile(0.5, dim=0, keepdim=True)
    kept: list[BodyParameters] = []
    cost, decided, before, first = 0.0, betas is not None, start, 0
    shape = median if betas is None else betas[None].to(median)
    for window in _windows(len(times), config):
        rows = torch.arange(window.first, window.last)
        held = max(held - window.first, window.keep_first - window.first)
        problem = _Problem(
            objective(rows),
            joints,
            times[rows].double(),
            config,
            tuple(feet),
            floor,
            held,
            free_betas=not decided,
        )
        begin = replace(start[rows.to(start.pose.device)], betas=shape.expand(len(rows), -1))
        if kept:  # go on from what the window before has found, but where its end was near
            known = before[torch.arange(window.first - first, len(before.pose) - config.overlap // 2)]
            begin = concatenate([known, begin[torch.arange(len(known.pose), len(rows))]])
        fitted, window_cost = _minimized(problem, begin)
        before, first = fitted, window.first
        shape, decided = fitted.betas[:1], True
        kept.append(fitted[torch.arange(window.keep_first, window.keep_last) - window.first])
        cost += window_cost
    return SequenceResult(concatenate(kept).canonical(), cost)


@dataclass(frozen=True)
class _Window:
    first: int
    last: int
    keep_first: int
    keep_last: int


def _windows(frames: int, config: SmoothConfig) -> list[_Window]:
    """Ranges that overlap, and the share of each in the result."""
    windows, first, keep = [], 0, 0
    while keep < frames:
        last = min(first + config.window, frames)
        until = frames if last == frames else max(last - config.overlap, keep + 1)
        windows.append(_Window(first, last, keep, until))
        first, keep = max(until - _REACH + 1, 0), until
    return windows


def _minimized(problem: "_Problem", begin: BodyParameters) -> tuple[BodyParameters, float]:
    """Levenberg-Marquardt over one window."""
    at = replace(begin, pose=unwrapped(begin.pose))
    state = problem.linearize(at)
    if not np.isfinite(state.cost):
        raise ValueError("the objective of the sequence is not finite at the start; check the inputs there.")
    damping, growth = torch.tensor([1e-3]).double(), torch.tensor([2.0]).double()
    for _ in range(problem.config.iterations):
        step = state.step(float(damping))
        tried_at = at if step is None else problem.moved(at, step)
        tried = state if step is None else problem.linearize(tried_at)
        gain, taken = state.cost - tried.cost, tried.cost < state.cost
        promised = 1.0 if step is None else state.promised(step, float(damping))
        damping, growth = nielsen(
            damping, growth, torch.tensor([taken]), torch.tensor([gain]).double(), torch.tensor([promised]).double()
        )
        if not taken and growth > GIVEN_UP:
            break
        if taken:
            done = gain < problem.config.tolerance * state.cost
            at, state = tried_at, tried
            if done:
                break
    return at, state.cost


def unwrapped(pose: Float[Tensor, "frames 72"]) -> Float[Tensor, "frames 72"]:
    """The same rotations, with the vectors of joints 1 to 23 as near to the frame before as they can be.

    Beyond half a turn a rotation vector jumps to the other side; without the jump its differences mean something.
    """
    vectors = pose.unflatten(-1, (24, 3)).clone()
    for t in range(1, len(vectors)):
        angle = vectors[t, 1:].norm(dim=-1, keepdim=True)
        other = vectors[t, 1:] * (1 - 2 * torch.pi / angle.clamp(min=1e-6))
        before = vectors[t - 1, 1:]
        nearer = (other - before).norm(dim=-1) < (vectors[t, 1:] - before).norm(dim=-1)
        vectors[t, 1:] = torch.where(nearer[:, None] & (angle > 0.5 * torch.pi), other, vectors[t, 1:])
    return vectors.flatten(1)


def accelerations(times: Float[Tensor, " frames"], largest_gap: float) -> "Accelerations":
    """Second divided differences of unevenly spaced frames, of every three that no gap divides."""
    step = times[1:] - times[:-1]
    before, after = step[:-1], step[1:]
    joined = (before <= largest_gap) & (after <= largest_gap)
    span = before + after
    earlier, later = 2 / (before * span), 2 / (after * span)
    return Accelerations(torch.stack([earlier, -earlier - later, later]) * joined, joined)


@dataclass(frozen=True)
class Accelerations:
    """Factors of three frames each, per second squared; 0 where a gap divides them."""

    factors: Float[Tensor, "3 inner"]
    joined: Bool[Tensor, " inner"]

    def of(self, values: Float[Tensor, "frames *rest"]) -> Float[Tensor, "inner *rest"]:
        """The second differences of values of all frames."""
        inner = len(values) - _REACH + 1
        shape = (-1, *[1] * (values.ndim - 1))
        return sum(
            (self.factors[i].view(shape) * values[i : i + inner] for i in range(_REACH)),
            start=values.new_zeros(()),
        )

    def transposed(self, values: Float[Tensor, "inner *rest"]) -> Float[Tensor, "frames *rest"]:
        """What each frame gets of values of all second differences; `of`, read the other way."""
        inner = len(values)
        shape = (-1, *[1] * (values.ndim - 1))
        spread = values.new_zeros(inner + _REACH - 1, *values.shape[1:])
        for i in range(_REACH):
            spread[i : i + inner] += self.factors[i].view(shape) * values
        return spread

    def ties(self, apart: int) -> Float[Tensor, " pairs"]:
        """How strongly each frame is tied to the one that comes ``apart`` frames later: of the second differences
        that have both, the sum of the factors' products."""
        inner = self.factors.shape[1]
        strength = self.factors.new_zeros(inner + _REACH - 1 - apart)
        for i in range(_REACH - apart):
            strength[i : i + inner] += self.factors[i] * self.factors[i + apart]
        return strength


@dataclass
class _Problem:
    objective: Objective
    joints: KeypointKinematics
    times: Tensor
    config: SmoothConfig
    feet: tuple[int, ...] = ()
    floor: Floor | None = None
    held: int = 0
    free_betas: bool = True

    def __post_init__(self) -> None:
        self._second = accelerations(self.times, self.config.largest_gap)

    def moved(self, at: BodyParameters, step: "_Step") -> BodyParameters:
        frames = torch.from_numpy(step.frames).to(at.pose)
        betas = torch.from_numpy(step.betas).to(at.betas)
        return BodyParameters(at.pose + frames[:, :POSE_SIZE], at.betas + betas, at.transl + frames[:, POSE_SIZE:])

    def linearize(self, at: BodyParameters) -> "_State":
        """Normal equations of all frames: a band, its border, and the betas' corner."""
        unknowns = at.vector
        found = self.objective(unknowns)
        alone = found if isinstance(found, NormalEquations) else add_up_normal([found], at.size)
        matrix, gradient = alone.matrix.double(), alone.gradient.double()
        of_frame = [*range(POSE_SIZE), *range(at.size - 3, at.size)]
        of_betas = slice(POSE_SIZE, at.size - 3)
        frame_rows = matrix[:, of_frame]
        state = _Sums(
            diagonal=frame_rows[:, :, of_frame].clone(),
            next=matrix.new_zeros(len(matrix), _FRAME, _FRAME),
            second=matrix.new_zeros(len(matrix), _FRAME, _FRAME),
            border=frame_rows[:, :, of_betas].clone(),
            corner=matrix[:, of_betas, of_betas].sum(0),
            gradient=gradient[:, of_frame].clone(),
            betas_gradient=gradient[:, of_betas].sum(0),
            cost=alone.cost.double().sum(),
        )
        linear = self.joints.linearize(at)
        if len(unknowns) >= _REACH:
            self._add_smoothness(at, linear, state, of_frame, of_betas)
        if self.feet and len(unknowns) > 1:
            self._add_standing(linear, state, of_frame, of_betas)
        if self.feet and self.floor is not None:
            self._add_floor(self.floor, linear, state, of_frame, of_betas)
        state.hold(self.held)
        return _State(state, self.free_betas)

    def _add_standing(self, linear: LinearKeypoints, sums: "_Sums", of_frame: list[int], of_betas: slice) -> None:
        """Speeds of the feet, Geman-McClure: ``k s / (k + s)`` of the squared residual ``s``."""
        feet, passed = list(self.feet), self.times[1:] - self.times[:-1]
        scale = torch.where(passed <= self.config.largest_gap, 1 / (passed * self.config.standing), 0.0)[:, None, None]
        points = linear.points[:, feet].double()
        jacobian = linear.jacobian[:, feet].double()
        residual = scale * (points[1:] - points[:-1])
        squared = residual.square().sum(-1)
        k = (self.config.stepping / self.config.standing) ** 2
        root = (k / (k + squared))[..., None]  # of the weight of Gauss and Newton
        residual = (root * residual).flatten(1)
        later = (root * scale)[..., None] * jacobian[1:]
        earlier = -(root * scale)[..., None] * jacobian[:-1]
        later, earlier = later.flatten(1, 2), earlier.flatten(1, 2)
        common = (later + earlier)[:, :, of_betas]
        before, after = earlier[:, :, of_frame], later[:, :, of_frame]
        sums.next[:-1] += before.mT @ after
        for rows, blocks in ((slice(None, -1), before), (slice(1, None), after)):
            sums.diagonal[rows] += blocks.mT @ blocks
            sums.border[rows] += blocks.mT @ common
            sums.gradient[rows] += (residual[:, None] @ blocks)[:, 0]
        sums.corner += (common.mT @ common).sum(0)
        sums.betas_gradient += (residual[:, None] @ common)[:, 0].sum(0)
        sums.cost += 0.5 * (k * squared / (k + squared)).sum()

    def _add_floor(
        self, floor: Floor, linear: LinearKeypoints, sums: "_Sums", of_frame: list[int], of_betas: slice
    ) -> None:
        """Depths of feet below the floor, weighed as their speeds are."""
        feet, up = list(self.feet), floor.up.double()
        height = linear.points[:, feet].double() @ up - floor.height - floor.clearance.double()
        counts = (height < 0).double() / self.config.floor
        residual = counts * height
        k = (self.config.steps / self.config.floor) ** 2
        root = k / (k + residual.square())  # of the weight of Gauss and Newton
        rows = (root * counts)[..., None] * torch.einsum("i,tfiu->tfu", up, linear.jacobian[:, feet].double())
        by_frame, by_betas = rows[:, :, of_frame], rows[:, :, of_betas]
        sums.diagonal += by_frame.mT @ by_frame
        sums.border += by_frame.mT @ by_betas
        sums.corner += (by_betas.mT @ by_betas).sum(0)
        sums.gradient += ((root * residual)[:, None] @ by_frame)[:, 0]
        sums.betas_gradient += ((root * residual)[:, None] @ by_betas)[:, 0].sum(0)
        sums.cost += 0.5 * (k * residual.square() / (k + residual.square())).sum()

    def _add_smoothness(
        self, at: BodyParameters, linear: LinearKeypoints, sums: "_Sums", of_frame: list[int], of_betas: slice
    ) -> None:
        """Accelerations of the joints and, of rotation vectors, of each number by itself.

        ``sum_i f_i J_(t+i)`` are an acceleration's rows, with the same three factors for all joints. So three products
        a frame, ``J_t^T J_t``, ``J_t^T J_(t+1)`` and ``J_t^T J_(t+2)``, are all there is to multiply.
        """
        second, per_turn = self._second, 1 / self.config.turning
        jacobian = linear.jacobian.flatten(1, 2).double() / self.config.acceleration
        by_frame, by_betas = jacobian[:, :, of_frame].contiguous(), jacobian[:, :, of_betas]
        residual = second.of(linear.points.flatten(1).double() / self.config.acceleration)
        turned = second.of(at.pose[:, 3:].double() * per_turn)
        common = second.of(by_betas)
        moved = torch.cat([second.transposed(common), second.transposed(residual)[..., None]], dim=-1)
        products = by_frame.mT @ moved
        sums.border += products[..., :-1]
        sums.gradient += products[..., -1]
        sums.gradient[:, 3:POSE_SIZE] += second.transposed(turned) * per_turn
        turns = torch.arange(3, POSE_SIZE)
        for apart, blocks in enumerate((sums.diagonal, sums.next, sums.second)):
            ties = second.ties(apart)
            pairs = blocks[: len(ties)]
            pairs += ties[:, None, None] * (by_frame[: len(ties)].mT @ by_frame[apart:])
            pairs[:, turns, turns] += ties[:, None] * per_turn**2
        sums.corner += (common.mT @ common).sum(0)
        sums.betas_gradient += (residual[:, None] @ common)[:, 0].sum(0)
        sums.cost += 0.5 * (residual.square().sum() + turned.square().sum())


@dataclass
class _Sums:
    """Blocks of ``J^T J`` and ``J^T r``; block (t, t + 1) is ``next[t]``, block (t, t + 2) ``second[t]``."""

    diagonal: Float[Tensor, "frames 75 75"]
    next: Float[Tensor, "frames 75 75"]
    second: Float[Tensor, "frames 75 75"]
    border: Float[Tensor, "frames 75 betas"]
    corner: Float[Tensor, "betas betas"]
    gradient: Float[Tensor, "frames 75"]
    betas_gradient: Float[Tensor, " betas"]
    cost: Float[Tensor, ""]

    def hold(self, count: int) -> None:
        """Let no step move the first frames."""
        for blocks in (self.diagonal, self.next, self.second, self.border, self.gradient):
            blocks[:count] = 0
        self.diagonal[:count] = torch.eye(_FRAME, dtype=self.diagonal.dtype)


@dataclass(frozen=True)
class _Step:
    frames: Float[np.ndarray, "frames 75"]
    betas: Float[np.ndarray, " betas"]


class _State:
    """Normal equations at one point, ready to be solved under any damping."""

    def __init__(self, sums: _Sums, free_betas: bool) -> None:
        self._free_betas = free_betas
        self.cost = float(sums.cost)
        self._band = _lower_band(sums)
        self._border = sums.border.flatten(0, 1).numpy()
        self._corner = sums.corner.numpy()
        self._gradient = sums.gradient.flatten().numpy()
        self._betas_gradient = sums.betas_gradient.numpy()

    def step(self, damping: float) -> _Step | None:
        """``-(J^T J + damping diag)^-1 J^T r`` by Cholesky on the band and a Schur complement for the border."""
        band = self._band.copy(order="F")
        band[0] += damping * band[0].clip(min=1e-8)
        corner = self._corner + damping * np.diag(self._corner.diagonal().clip(min=1e-8))
        try:
            factor = cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)
            if not self._free_betas:
                frames = -cho_solve_banded((factor, True), self._gradient, check_finite=False)
                betas = np.zeros_like(self._betas_gradient)
            else:
                right = np.concatenate([self._border, self._gradient[:, None]], axis=1)
                solved = cho_solve_banded((factor, True), right, check_finite=False)
                by_border, by_gradient = solved[:, :-1], solved[:, -1]
                left = corner - self._border.T @ by_border
                betas = -np.linalg.solve(left, self._betas_gradient - self._border.T @ by_gradient)
                frames = -by_gradient - by_border @ betas
        except LinAlgError:
            return None
        if not (np.isfinite(frames).all() and np.isfinite(betas).all()):
            return None
        return _Step(frames.reshape(-1, _FRAME), betas)

    def promised(self, step: _Step, damping: float) -> float:
        """How much the quadratic model gains by a step."""
        flat = step.frames.ravel()
        scaled = damping * (self._band[0].clip(min=1e-8) * flat * flat).sum()
        scaled += damping * (self._corner.diagonal().clip(min=1e-8) * step.betas**2).sum()
        return float(0.5 * (scaled - flat @ self._gradient - step.betas @ self._betas_gradient))


def _lower_band(sums: _Sums) -> Float[np.ndarray, "225 unknowns"]:
    """LAPACK's storage: entry (i, j) of the lower triangle at [i - j, j], columns one after the other."""
    # Block (t + 1, t) is block (t, t + 1) transposed; an unknown's column of the matrix is its row of these.
    rows = torch.cat([sums.diagonal, sums.next, sums.second], dim=2).numpy()  # frames 75 225
    columns = np.zeros_like(rows)
    for unknown in range(_FRAME):
        columns[:, unknown, : _REACH * _FRAME - unknown] = rows[:, unknown, unknown:]
    return columns.reshape(-1, _REACH * _FRAME).T
