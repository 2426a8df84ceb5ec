"""Runs as they come with kouros: their configuration, and packed weights; of a chain, those of its stages."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kouros.files import write_file
from kouros.systems.chain import Chain
from kouros.systems.system import Packable
from kouros.training.packed_weights import write_packed
from kouros.training.runs import RunFolder, chain_stages, load_run, read_config, write_chain


def pack_run(folder: Path, out: Path, which: Literal["last", "best"] = "last") -> None:
    """Write a small copy of a run, which is used like it but cannot be trained further.

    What is packed into `kouros.systems.table.PACKAGED` under a system's name comes with kouros.

    Args:
        out: folder to be made; of a `Packable` system the one file.
        which: of the run's weights.

    Raises:
        ValueError: the folder holds a run already; the run is of a licensed body, which has an owner; damaged files.
        OSError: a file cannot be read or written.
    """
    if RunFolder(out).config.exists():
        raise ValueError(f"{out} holds a run already; choose another --out.")
    stages = chain_stages(folder)
    if stages:
        packed = [out / name for name in _names(stages)]
        for stage, target in zip(stages, packed, strict=True):
            pack_run(stage, target, which)
        write_chain(out, packed)
        return
    system = load_run(folder, which=which)
    assert not isinstance(system, Chain)
    if isinstance(system, Packable):
        system.pack(out)
        return
    content = read_config(RunFolder(folder))
    if content.get("body") is not None:
        raise ValueError(f"{folder} was trained with a licensed body; only runs of the free body are packed.")
    write_packed(RunFolder(out).packed, system)
    kept = {key: content.get(key) for key in ("version", "kouros", "system", "config", "body")}
    write_file(RunFolder(out).config, (json.dumps(kept, indent=1) + "\n").encode())


def _names(stages: Sequence[Path]) -> list[str]:
    """The folders' own, numbered."""
    return [f"{number}-{stage.resolve().name}" for number, stage in enumerate(stages, start=1)]
