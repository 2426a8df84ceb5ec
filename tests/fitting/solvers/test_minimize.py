"""The compiled fit against the same search in torch and double precision; persons that must not touch each other."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import kouros
from kouros.body.parameters import BodyParameters
from kouros.fitting.schedules.smplify import Smplify
from kouros.fitting.solvers.levenberg_marquardt import levenberg_marquardt
from kouros.fitting.solvers.minimize import costs, minimize
from kouros.fitting.terms.evidence import Evidence
from kouros.fitting.terms.keypoints import GemanMcClure, Landmarks, Reprojection
from kouros.fitting.terms.kinematics import KeypointKinematics
from kouros.fitting.terms.objective import BodyObjective
from kouros.fitting.terms.priors import KnownDepth
from kouros.geometry.cameras import PerspectiveCamera
from kouros.priors.gmm import load_gmm
from kouros.priors.limits import load_limits

BATCH, POINTS = 64, 33
KINDS = ("smplify", "camera stage", "default", "landmarks only", "landmarks of one scale", "keypoints only")


@pytest.fixture(scope="module")
def kinematics() -> dict[torch.dtype, KeypointKinematics]:
    return {d: KeypointKinematics(kouros.load_body(dtype=d), "blazepose33") for d in (torch.float32, torch.float64)}


def _random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _truth() -> torch.Tensor:
    pose = torch.cat([_random(BATCH, 3, seed=0), load_gmm().sample(BATCH, torch.Generator().manual_seed(1))], dim=-1)
    transl = torch.tensor([0.0, 0.0, 5.0]) + 0.2 * _random(BATCH, 3, seed=2)
    return torch.cat([pose, _random(BATCH, 10, seed=3), transl], dim=-1)


def _start() -> torch.Tensor:
    """Estimates near the truth: some numbers far enough off to be outside the limits."""
    return _truth() + 0.1 * _random(BATCH, 85, seed=4)


def _objective(
    kinematics: KeypointKinematics,
    kind: str,
    dtype: torch.dtype = torch.float32,
    confidence: torch.Tensor | None = None,
) -> BodyObjective:
    """One of the objectives that the package minimizes, of noisy, partly missing and wholly wrong keypoints."""
    camera = PerspectiveCamera(torch.linspace(500, 2000, BATCH), 100 * _random(BATCH, 2, seed=5))
    points = _points(kinematics, _truth())
    pixels = camera.project(points) + 3 * _random(BATCH, POINTS, 2, seed=6)
    pixels[:, 20] += 200.0
    if confidence is None:
        missing = _random(BATCH, POINTS, seed=8) < -1
        confidence = torch.rand(BATCH, POINTS, generator=torch.Generator().manual_seed(7)) * ~missing
    space = 0.97 * points + 0.03 * _random(BATCH, POINTS, 3, seed=9)
    camera = PerspectiveCamera(camera.focal_length.to(dtype), camera.principal_point.to(dtype))
    pixels, confidence, space = pixels.to(dtype), confidence.to(dtype), space.to(dtype)
    seen = Reprojection(pixels, confidence / 5, camera, GemanMcClure(6.0))
    squared = replace(
        seen,
        precision=(confidence > 0).to(dtype),
        robust=GemanMcClure(100.0),
        weight=confidence.square(),
        per_coordinate=True,
    )
    landmarks = Landmarks(space, 10 * confidence[..., None].expand(-1, -1, 3) + 1, GemanMcClure(3.0), (0.85, 1.2))
    depth = KnownDepth(torch.full((BATCH,), 5.0, dtype=dtype), 100.0)
    prior, limits = load_gmm().to(pixels), load_limits().to(pixels)
    base = BodyObjective(kinematics, prior, mixture_weight=0.5, shape_weight=1.0, limits=limits)
    return {
        "smplify": BodyObjective(
            kinematics, prior, squared, mixture_weight=11.4, angle_weight=229.6, shape_weight=25.0
        ),
        "camera stage": BodyObjective(kinematics, prior, squared, depth=depth),
        "default": replace(base, reprojection=seen, landmarks=landmarks),
        "landmarks only": replace(base, landmarks=landmarks),
        "landmarks of one scale": replace(base, landmarks=replace(landmarks, scale_range=(1.0, 1.0))),
        "keypoints only": replace(base, reprojection=seen),
    }[kind]


def _points(kinematics: KeypointKinematics, vector: torch.Tensor) -> torch.Tensor:
    return kinematics.points(BodyParameters.from_vector(vector.to(kinematics.tree.rest))).float()


def _free(kind: str) -> torch.Tensor:
    free = torch.ones(85, dtype=torch.bool)
    if kind == "camera stage":
        free[3:-3] = False
    if kind.startswith("landmarks"):
        free[-3:] = False
    return free


def _both(kinematics, kind: str, **options):
    """The compiled answer, and that of torch in double precision."""
    single, double = (_objective(kinematics[d], kind, d) for d in (torch.float32, torch.float64))
    options = {"free": _free(kind), "initial_damping": 0.01, **options}
    return minimize(single, _start(), **options), levenberg_marquardt(double, _start().double(), **options)


@pytest.mark.parametrize("kind", KINDS)
def test_costs_are_those_of_the_terms(kinematics, kind: str):
    double = _objective(kinematics[torch.float64], kind, torch.float64)
    for start in (_start(), _start() * torch.linspace(-1, 1, BATCH)[:, None]):  # some of these behind the camera
        found = costs(_objective(kinematics[torch.float32], kind), start)
        assert_close(found.double(), double(start.double()).cost, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_torchs_step(kinematics, kind: str):
    """All of the normal equations go into it."""
    fused, plain = _both(kinematics, kind, max_iterations=1)
    assert (plain.unknowns != _start()).any(-1).double().mean() > 0.8  # most first steps are taken
    assert_close(fused.unknowns.double(), plain.unknowns, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_torchs_end(kinematics, kind: str):
    """To 1e-4 of the cost; where rounding has led to another valley, that is rare and no worse on average."""
    fused, plain = _both(kinematics, kind, max_iterations=60, tolerance=1e-5)
    away = (fused.cost.double() / plain.cost - 1).abs()
    assert (away < 1e-4).double().mean() > 0.8
    assert fused.cost.mean() < 1.01 * plain.cost.mean()
    points = [_points(kinematics[torch.float64], s.unknowns) for s in (fused, plain)]
    assert (points[0] - points[1]).norm(dim=-1).mean(-1).median() < 2e-3
    assert (fused.converged == plain.converged).double().mean() > 0.9


@pytest.mark.parametrize("kind", ["smplify", "default"])
def test_a_batch_of_64_is_64_batches_of_one_to_the_bit(kinematics, kind: str):
    objective = _objective(kinematics[torch.float32], kind)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    together = minimize(objective, _start())
    torch.set_num_threads(threads)
    for person in range(BATCH):
        one = torch.tensor([person])
        alone = minimize(objective[one], _start()[one])
        assert torch.equal(alone.unknowns, together.unknowns[one])
        assert torch.equal(alone.cost, together.cost[one])
        assert torch.equal(alone.iterations, together.iterations[one])


def test_the_cost_is_that_of_the_unknowns_and_never_above_the_starts(kinematics):
    objective = _objective(kinematics[torch.float32], "default")
    found = minimize(objective, _start(), max_iterations=7)
    assert torch.equal(costs(objective, found.unknowns), found.cost)
    assert (found.cost <= costs(objective, _start())).all()
    assert (found.iterations <= 7).all()


def test_held_unknowns_stay_where_they_are(kinematics):
    found = minimize(_objective(kinematics[torch.float32], "camera stage"), _start(), free=_free("camera stage"))
    assert torch.equal(found.unknowns[:, 3:-3], _start()[:, 3:-3])
    assert (found.unknowns[:, :3] != _start()[:, :3]).all()


def test_a_start_without_a_finite_cost_is_refused(kinematics):
    start = _start()
    start[5, 40] = torch.nan
    start[9, 80] = torch.inf
    with pytest.raises(ValueError, match=r"not finite at the start for items \[5, 9\]"):
        minimize(_objective(kinematics[torch.float32], "default"), start)


def test_where_gradients_are_wanted_they_are_there(kinematics):
    some = torch.arange(2)
    objective = _objective(kinematics[torch.float32], "default")[some]
    assert objective.landmarks is not None
    observed = objective.landmarks.observed.clone().requires_grad_()
    objective = replace(objective, landmarks=replace(objective.landmarks, observed=observed))
    found = minimize(objective, _start()[some], max_iterations=2)
    (gradient,) = torch.autograd.grad(found.unknowns.sum(), observed)
    assert torch.isfinite(gradient).all() and (gradient != 0).any()


def test_whatever_one_person_is_the_others_stay_the_same_to_the_bit(kinematics):
    """Nothing seen, absurdly strong or weak evidence, a start far off or behind the camera."""
    objective = _objective(kinematics[torch.float32], "default")
    plain = minimize(objective, _start())

    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(0, BATCH - 1),
        st.sampled_from([0.0, 1e-6, 1.0, 1e6, 1e15]),
        st.sampled_from([0.0, 1.0, -1.0, 30.0, 1e6]),
        st.booleans(),
    )
    def check(person: int, strength: float, stretch: float, blind: bool) -> None:
        assert objective.reprojection is not None and objective.landmarks is not None
        precision, space = objective.reprojection.precision.clone(), objective.landmarks.precision.clone()
        start = _start()
        precision[person] *= strength
        space[person] *= 0.0 if blind else strength
        start[person] *= stretch
        broken = replace(
            objective,
            reprojection=replace(objective.reprojection, precision=precision),
            landmarks=replace(objective.landmarks, precision=space),
        )
        found = minimize(broken, start)
        others = torch.arange(BATCH) != person
        assert torch.equal(found.unknowns[others], plain.unknowns[others])
        assert torch.isfinite(found.unknowns).all() and torch.isfinite(found.cost).all()

    check()


def test_spins_stage_finds_what_double_precision_finds():
    """The whole of `Smplify.refine`, which is compiled for one body and torch's for the other."""
    count = 16
    rows = torch.arange(count)
    results = []
    for dtype in (torch.float32, torch.float64):
        fitter = Smplify(kouros.load_body(dtype=dtype), "spin49", load_gmm())
        truth, start = (v[rows].to(dtype) for v in (_truth(), _start()))
        truth[:, -1] = start[:, -1] = 45.0
        camera = PerspectiveCamera(
            torch.full((count,), 5000.0, dtype=dtype), torch.full((count, 2), 112.0, dtype=dtype)
        )
        pixels = camera.project(fitter.kinematics.points(BodyParameters.from_vector(truth)))
        keypoints = torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1)
        keypoints[:, 3:6, 2] = 0.0
        evidence = Evidence(keypoints, "spin49", camera)
        results.append(fitter.refine(evidence, BodyParameters.from_vector(start)).objective.double())
    away = (results[0] / results[1] - 1).abs()
    assert (away < 1e-3).double().mean() >= 0.9
    assert results[0].mean() < 1.01 * results[1].mean()
