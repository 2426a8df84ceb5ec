"""The systems of this house, by the names under which commands, runs and people know them.

To add one: write its file, with a configuration that builds it, and a line here. Imports none of them, so that the
command line answers at once.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PACKAGED = Path(__file__).with_name("weights")
"""Folder of the weights that come with kouros, a run for each system that has some."""


@dataclass(frozen=True)
class SystemEntry:
    """One system, loaded when it is asked for."""

    name: str
    """As commands have it."""
    title: str
    """As people have it."""
    module: str
    config: str
    """Name of the configuration's class in the module."""
    summary: str
    trained_as: str = ""
    """What `kouros train` calls it; default: its name."""

    @property
    def config_type(self) -> type[Any]:
        """The configuration's class, a `kouros.systems.system.SystemConfig`."""
        return getattr(importlib.import_module(self.module), self.config)

    @property
    def packaged(self) -> Path | None:
        """The run that comes with kouros; None: nobody has trained one worth shipping."""
        folder = PACKAGED / self.name
        return folder if folder.is_dir() else None


SYSTEMS: Mapping[str, SystemEntry] = {
    entry.name: entry
    for entry in (
        SystemEntry("spin", "SPIN", "kouros.systems.spin", "SpinConfig", "network and fits improve each other"),
        SystemEntry("hkmr", "HKMR", "kouros.systems.hkmr", "HkmrConfig", "a regressor along the kinematic chains"),
        SystemEntry(
            "learned-start",
            "the learned start",
            "kouros.systems.learned_start",
            "LearnedStartConfig",
            "from keypoints to a body, where fits begin",
            "lifter",
        ),
        SystemEntry(
            "joint-depths",
            "depths of joints",
            "kouros.systems.joint_depths",
            "JointDepthsConfig",
            "how far before or behind the hips a picture shows joints",
            "depths",
        ),
        SystemEntry(
            "nbf-parts", "Neural Body Fitting, parts", "kouros.systems.nbf", "PartsConfig",
            "from pictures to body parts, the first of two stages",
        ),
        SystemEntry(
            "nbf", "Neural Body Fitting", "kouros.systems.nbf", "NbfConfig",
            "from body parts to a body, the second of two stages",
        ),
        SystemEntry(
            "holopose", "HoloPose", "kouros.systems.holopose", "HoloPoseConfig",
            "parts vote for a body, which is brought to agree with keypoints and DensePose",
        ),
        SystemEntry(
            "best-of-both-worlds-maps", "The Best of Both Worlds, maps", "kouros.systems.best_of_both_worlds",
            "DmpConfig", "from pictures to dense maps, the first of three modules",
        ),
        SystemEntry(
            "best-of-both-worlds-ik", "The Best of Both Worlds, IK", "kouros.systems.best_of_both_worlds",
            "IkConfig", "from joints to a body, the second of three modules",
        ),
        SystemEntry(
            "best-of-both-worlds", "The Best of Both Worlds", "kouros.systems.best_of_both_worlds",
            "UviConfig", "maps, inverse kinematics, and inpainting in UV space, which learns last",
        ),
    )
}  # fmt: skip


OF_PAPERS = ("spin", "hkmr", "nbf", "holopose", "best-of-both-worlds")
"""The five papers' systems, from photos to bodies."""


def ready_systems() -> tuple[str, ...]:
    """The default, and those of the papers' systems that come with weights."""
    return ("default", *(name for name in OF_PAPERS if SYSTEMS[name].packaged is not None))


def system_name(kind: type[Any]) -> str:
    """What runs of a configuration's system are called: its name in `SYSTEMS`, or the class's own."""
    for entry in SYSTEMS.values():
        if (kind.__module__, kind.__qualname__) == (entry.module, entry.config):
            return entry.name
    return kind.__name__
