"""The folder of a run: what it was told, what it ran on, and the system that came out of it.

::

    RUN/config.json                the system, its configuration, its data, the engine's options
    RUN/environment.json           versions, hardware and command of every start
    RUN/weights.pt                 the newest weights (their running average where there is one)
    RUN/checkpoints/last.ckpt      all that is needed to go on; step-N.ckpt: the same, by step
    RUN/checkpoints/best.ckpt      the best by validation
    RUN/logs/                      TensorBoard's

Needs no Lightning: whoever uses a trained system needs torch alone.
"""

import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from kouros import __version__
from kouros.body.files import load_body
from kouros.body.model import BodyModel
from kouros.documents import read_json
from kouros.files import write_file
from kouros.systems.chain import Chain, ChainConfig
from kouros.systems.system import System, SystemConfig
from kouros.systems.table import SYSTEMS, system_name
from kouros.training.config_json import from_json, to_json
from kouros.training.packed_weights import load_packed
from kouros.training.weights import load_archive, load_learned, read_weights

CHAIN = "chain"
"""What runs of `kouros.systems.chain` are called."""
RUN_VERSION = 1
"""Of config.json."""
CHECKPOINT_VERSION = 1
"""Of what kouros adds to Lightning's checkpoints."""


@dataclass(frozen=True)
class RunFolder:
    """Where everything of a run lies."""

    path: Path

    @property
    def config(self) -> Path:
        """config.json."""
        return self.path / "config.json"

    @property
    def environment(self) -> Path:
        """environment.json."""
        return self.path / "environment.json"

    @property
    def weights(self) -> Path:
        """weights.pt."""
        return self.path / "weights.pt"

    @property
    def packed(self) -> Path:
        """weights.npz, which a packed run has in place of all others."""
        return self.path / "weights.npz"

    @property
    def checkpoints(self) -> Path:
        """Their folder."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.ckpt"

    @property
    def best(self) -> Path:
        """The best checkpoint by validation."""
        return self.checkpoints / "best.ckpt"

    @property
    def beginning(self) -> Path:
        """First fits, as far as they are made, before there is a checkpoint."""
        return self.checkpoints / "beginning.pt"

    def checkpoint(self, steps: int) -> Path:
        """The checkpoint after so many steps."""
        return self.checkpoints / f"step-{steps}.ckpt"

    def numbered(self) -> list[Path]:
        """Checkpoints by step, the oldest first."""
        found = (p for p in self.checkpoints.glob("step-*.ckpt") if p.stem[5:].isdigit())
        return sorted(found, key=lambda p: int(p.stem[5:]))

    def newest(self) -> Path | None:
        """Where to go on, or None where nothing was saved yet."""
        if self.last.exists():
            return self.last
        numbered = self.numbered()
        return numbered[-1] if numbered else None

    def tidy(self) -> None:
        """Remove what a killed run was writing."""
        for folder in (self.path, self.checkpoints):
            for aside in folder.glob(".kouros-*.part"):
                aside.unlink(missing_ok=True)


def write_config(run: RunFolder, config: SystemConfig, rest: Mapping[str, Any]) -> None:
    """Write config.json.

    Raises:
        OSError: it cannot be written.
    """
    head = {"version": RUN_VERSION, "kouros": __version__, "system": system_name(type(config))}
    content = head | {"config": to_json(config)} | dict(rest)
    write_file(run.config, (json.dumps(content, indent=1) + "\n").encode())


def read_config(run: RunFolder) -> dict[str, Any]:
    """Read config.json.

    Raises:
        ValueError: there is none, it is damaged, or of another version.
    """
    if not run.path.is_dir():
        raise ValueError(f"{run.path} is no folder; expected the folder of a run, which `kouros train` wrote.")
    try:
        content = read_json(run.config)
    except FileNotFoundError:
        raise ValueError(f"{run.path} is no run: it has no config.json, which `kouros train` writes.") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{run.config} cannot be read ({error}).") from None
    if not isinstance(content, dict) or not isinstance(content.get("system"), str):
        raise ValueError(f"{run.config} does not describe a run of kouros.")
    if content.get("version") != RUN_VERSION:
        raise ValueError(
            f"{run.config} has version {content.get('version')}, this kouros reads {RUN_VERSION}; use the kouros that "
            f"wrote it ({content.get('kouros', 'unknown')})."
        )
    return content


def load_run(
    folder: str | Path,
    body: BodyModel | None = None,
    *,
    which: Literal["last", "best"] = "last",
    kind: type[SystemConfig] | None = None,
) -> System | Chain:
    """A trained system, in evaluation mode; or a chain of several.

    Args:
        folder: of the run.
        body: the body that it was trained with; default: read again from where the run had it.
        which: the newest weights, or the best by validation. Of both, the running average where there is one.
        kind: the configuration's class, for a system of your own.

    Raises:
        ValueError: no run, one of another system or version, or damaged files.
        OSError: a file cannot be read.
    """
    run = RunFolder(Path(folder))
    content = read_config(run)
    if content["system"] == CHAIN:
        return _load_chain(run, content, body, which)
    kind = kind or _known_config(run, content["system"])
    if system_name(kind) != content["system"]:
        raise ValueError(f"{run.path} is a run of {content['system']}, not of {system_name(kind)}.")
    try:
        config = from_json(kind, content.get("config"))
    except ValueError as error:
        raise ValueError(f"{run.config}: {error}") from None
    system = config.build(body or _body_of(content), 0)
    if run.packed.exists():
        load_packed(system, run.packed)
    elif which == "best" or not run.weights.exists():
        path = run.best if which == "best" else run.newest()
        if path is None or not path.exists():
            raise ValueError(f"{run.path} has no {which} weights yet; the run has not saved any.")
        state = read_run_state(path, content["system"])
        tensors = state["average"] or load_archive(path)["state_dict"]
        load_learned(system, tensors, str(path))
    else:
        weights = read_weights(run.weights)
        if weights.system != content["system"]:
            raise ValueError(f"{run.weights} holds weights of {weights.system}, but the run is of {content['system']}.")
        load_learned(system, weights.tensors, str(run.weights))
    return system.eval().requires_grad_(False)


def write_chain(folder: Path, stages: Sequence[Path]) -> None:
    """Write the folder of a chain, a run that has no weights but those of its stages.

    Args:
        folder: to be made. Stages inside of it are named as seen from there, so that they move together.
        stages: folders of runs, in order.

    Raises:
        ValueError: the folder holds a run already; a stage is none, or cannot stand where it does.
        OSError: it cannot be written.
    """
    run = RunFolder(folder)
    if run.config.exists():
        raise ValueError(f"{folder} holds a run already; choose another --out.")
    bodies = {read_config(RunFolder(stage)).get("body") for stage in stages}
    if len(bodies) > 1:
        named = ", ".join(sorted(str(b or "the free body") for b in bodies))
        raise ValueError(f"the stages are of several bodies ({named}); name runs of one.")
    Chain([load_run(stage) for stage in stages])
    root = folder.resolve()
    seen = [p.relative_to(root) if (p := stage.resolve()).is_relative_to(root) else p for stage in stages]
    content = {"version": RUN_VERSION, "kouros": __version__, "system": CHAIN, "body": bodies.pop()}
    content["config"] = to_json(ChainConfig(tuple(seen)))
    folder.mkdir(parents=True, exist_ok=True)
    write_file(run.config, (json.dumps(content, indent=1) + "\n").encode())


def chain_stages(folder: Path) -> list[Path]:
    """Folders of a chain's stages, in order; none where it is a run of one system.

    Raises:
        ValueError: it is no run, or damaged; a stage is beside the chain's folder.
    """
    run = RunFolder(folder)
    content = read_config(run)
    if content["system"] != CHAIN:
        return []
    try:
        config = from_json(ChainConfig, content.get("config"))
    except ValueError as error:
        raise ValueError(f"{run.config}: {error}") from None
    if any(not stage.is_absolute() and ".." in stage.parts for stage in config.stages):
        raise ValueError(f"{run.config} names a stage beside its folder; expected one inside, or an absolute path.")
    return [run.path / stage for stage in config.stages]


def _load_chain(
    run: RunFolder, content: Mapping[str, Any], body: BodyModel | None, which: Literal["last", "best"]
) -> Chain:
    body = body or _body_of(content)
    return Chain([load_run(stage, body, which=which) for stage in chain_stages(run.path)])


def read_run_state(path: Path, system: str) -> Mapping[str, Any]:
    """What kouros adds to a checkpoint (steps, best score, average, fits); large tensors stay on the disk until used.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or no checkpoint of this system and version.
    """
    content = load_archive(path, mapped=True)
    state = content.get("kouros") if isinstance(content, dict) else None
    if not isinstance(state, dict):
        raise ValueError(f"{path} is no checkpoint of kouros.")
    if state.get("version") != CHECKPOINT_VERSION:
        raise ValueError(
            f"{path} has version {state.get('version')} of the checkpoints' format, this kouros reads "
            f"{CHECKPOINT_VERSION}; use the kouros that wrote it."
        )
    if state.get("system") != system:
        raise ValueError(f"{path} is a checkpoint of {state.get('system')}, not of {system}.")
    return state


def note_environment(run: RunFolder) -> None:
    """Add this start's versions, hardware and command to environment.json.

    Raises:
        OSError: it cannot be written.
    """
    try:
        starts = read_json(run.environment)["starts"]
    except (OSError, ValueError, KeyError, TypeError):
        starts = []
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    versions = {name: _version(name) for name in ("kouros", "torch", "lightning", "numpy", "torchmetrics", "pyarrow")}
    start = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "versions": {"python": platform.python_version(), **versions, "cuda": torch.version.cuda},
        "hardware": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpus": gpus,
        },
    }
    write_file(run.environment, (json.dumps({"starts": [*starts, start]}, indent=1) + "\n").encode())


def _known_config(run: RunFolder, name: str) -> type[Any]:
    """The configuration's class. Files of strangers choose among the systems of this house only."""
    if name not in SYSTEMS:
        raise ValueError(
            f"{run.path} is a run of {name!r}, which this kouros does not know; it knows {', '.join(SYSTEMS)}. For a "
            "system of your own, pass its configuration's class: load_run(folder, kind=...)."
        )
    return SYSTEMS[name].config_type


def _body_of(content: Mapping[str, Any]) -> BodyModel:
    path = content.get("body")
    if path is not None and not Path(path).is_file():
        raise ValueError(f"the run was trained with the body model {path}, which is not there; pass the body.")
    return load_body(path)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
