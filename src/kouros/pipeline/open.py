"""From what a user calls a system (a name, the folder of a run, a file of weights) to what makes people with it."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Literal

from kouros.body import BodyModel, load_body
from kouros.detection import default_detector
from kouros.evaluation.baselines import BlazePose, MeanPose, MediaPipe
from kouros.pipeline.reconstructor import (
    Reconstructor,
    default_body,
    default_estimator,
    default_reconstructor,
)
from kouros.systems.checkpoints import read_published
from kouros.systems.estimator import Estimator
from kouros.systems.lifter import LearnedStart
from kouros.systems.refined import ANY_START, DETECTED, Refined
from kouros.systems.table import SYSTEMS
from kouros.training.runs import RunFolder, load_run, read_config
from kouros.training.weights import load_learned

Which = Literal["last", "best"]


def open_estimator(
    system: str | Path,
    body: BodyModel | None = None,
    *,
    which: Which = "last",
    refine: bool = False,
    dense: bool = False,
) -> Estimator:
    """The estimator that a user names.

    Args:
        system: a name of `SYSTEMS` or `WITHOUT_TRAINING`, the folder of a training run or its weights.pt, or a
            published checkpoint of SPIN's network.
        body: of its bodies; default: that of the run, or the free one.
        which: of a run's weights: the newest, or the best by validation.
        refine: fit its bodies to the detected keypoints.
        dense: and to the map of the skin that the packaged HoloPose draws.

    Raises:
        ValueError: there is no such system, it has no weights yet, or files are damaged or do not fit.
        OSError: a file cannot be read.
    """
    estimator = (
        _named(str(system), body)
        if str(system) in (*WITHOUT_TRAINING, *SYSTEMS)
        else _in_files(Path(system), body, which)
    )
    if not refine and not dense:
        return estimator
    if dense and isinstance(estimator, Refined):
        return Refined(estimator.start, DETECTED, f"{estimator.name}, with skin", _skin(estimator.body))
    skin = _skin(estimator.body) if dense else None
    return Refined(estimator, DETECTED if isinstance(estimator, LearnedStart) else ANY_START, skin=skin)


def _skin(body: BodyModel | None) -> Estimator:
    """Who maps people's skin."""
    from kouros.systems.holopose import HoloPose, skin_estimator  # systems are loaded where somebody asks for them

    entry = SYSTEMS["holopose"]
    if entry.packaged is None or body is None:
        raise ValueError("no weights of HoloPose come with this kouros, so nobody maps the skin; leave dense out.")
    system = load_run(entry.packaged, default_body())
    assert isinstance(system, HoloPose)
    return skin_estimator(system, body)


@lru_cache(maxsize=4)
def reconstructor_of(
    system: str | Path,
    body: BodyModel | None = None,
    *,
    which: Which = "last",
    refine: bool = False,
    dense: bool = False,
) -> Reconstructor:
    """What makes people with a system, loaded once.

    Raises:
        ValueError, OSError: as `open_estimator`.
    """
    if system == "default" and not refine and not dense:
        return default_reconstructor(body)
    estimator = open_estimator(system, body, which=which, refine=refine, dense=dense)
    if estimator.body is None:
        raise ValueError(f"{system} gives points and no bodies, so it makes no people; choose another system.")
    return Reconstructor(default_detector(), estimator, estimator.body)


def reconstructor_on_parts(
    system: str | Path,
    parts: Path,
    parts_format: str,
    size: tuple[int, int],
    body: BodyModel | None = None,
    *,
    which: Which = "last",
    refine: bool = False,
) -> Reconstructor:
    """What makes people of one photo by a part map that another parser made of it, in place of the system's own parts.

    Args:
        parts, parts_format, size: as in `kouros.systems.nbf.NbfEstimator.on_parts`.

    Raises:
        ValueError, OSError: as `open_estimator`; or the map cannot be used.
    """
    from kouros.systems.nbf import NbfEstimator  # systems are loaded where somebody asks for them

    estimator = open_estimator(system, body, which=which)
    if not isinstance(estimator, NbfEstimator):
        raise ValueError(f"{estimator.name} does not look at parts; choose nbf, or a run of it.")
    on_parts = estimator.on_parts(parts, parts_format, size)
    assert on_parts.body is not None
    return Reconstructor(default_detector(), Refined(on_parts, ANY_START) if refine else on_parts, on_parts.body)


def _named(name: str, body: BodyModel | None) -> Estimator:
    if name in SYSTEMS and name not in _OF_BODIES:
        entry = SYSTEMS[name]
        if entry.packaged is None:
            raise ValueError(
                f"no weights of {entry.title} come with kouros; train some (kouros train {name}) and name the folder "
                "of the run."
            )
        body = body or default_body()
        return load_run(entry.packaged, body).estimator(body, entry.title)
    if name in _OF_POINTS:
        if body is not None:
            raise ValueError(f"a body means nothing to {name}, which gives no bodies; leave it out.")
        return _OF_POINTS[name]()
    return _OF_BODIES[name](body or default_body())


_OF_BODIES: dict[str, Callable[[BodyModel], Estimator]] = {
    "default": default_estimator,
    "learned-start": LearnedStart,
    "mean-pose": MeanPose,
}
_OF_POINTS: dict[str, Callable[[], Estimator]] = {"blazepose": BlazePose, "mediapipe": MediaPipe}
WITHOUT_TRAINING = (*_OF_BODIES, *_OF_POINTS)
"""Names of estimators beside `SYSTEMS`; the last two give points and no bodies."""


def _in_files(path: Path, body: BodyModel | None, which: Which) -> Estimator:
    if path.is_dir():
        return _run(path, body, which)
    if path.is_file():
        # A run's weights mean nothing without the configuration beside them.
        if path.name == "weights.pt" and RunFolder(path.parent).config.exists():
            return _run(path.parent, body, "last")
        return _published(path, body)
    known = ", ".join(dict.fromkeys((*WITHOUT_TRAINING, *SYSTEMS)))
    raise ValueError(
        f"there is no system {str(path)!r}: expected {known}, the folder of a training run, or a checkpoint."
    )


def _run(folder: Path, body: BodyModel | None, which: Which) -> Estimator:
    if body is None:
        path = read_config(RunFolder(folder)).get("body")
        body = default_body() if path is None else load_body(path)
    return load_run(folder, body, which=which).estimator(body, folder.resolve().name)


def _published(path: Path, body: BodyModel | None) -> Estimator:
    published = read_published(path)
    body = body or default_body()
    system = published.config.build(body, 0)
    load_learned(system, published.tensors, str(path))
    return system.eval().requires_grad_(False).estimator(body, path.stem)
