"""Importing many motions: file by file, those that were converted alike before are kept."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kouros.data.importers.running import ImportReport, Problem
from kouros.data.mocap.motion import ORIGIN, Motion, load_arrays, write_motion
from kouros.data.schema import DatasetError


def import_motions(
    files: Iterable[tuple[Path, Path]],
    convert: Callable[[Path], Motion],
    out: Path,
    frame_rate: float,
    options: Mapping[str, float] | None = None,
) -> ImportReport:
    """Convert files one by one; those that were converted alike before are kept, those that fail are listed.

    Args:
        files: source, and name below ``out``.
        frame_rate: see `Motion.at_most`.
        options: what else the result depends on.

    Raises:
        DatasetError: not one could be converted.
    """
    rows = resumed = 0
    problems = []
    for source, name in files:
        target = out / name
        try:
            state = source.stat()
            origin = json.dumps(
                {"file": str(source.resolve()), "size": state.st_size, "modified": state.st_mtime_ns}
                | {"frame_rate": frame_rate, **(options or {})}
            )
            kept = _frames_of(target, origin)
            if kept is not None:
                rows += kept
                resumed += 1
                continue
            motion = convert(source).at_most(frame_rate)
            write_motion(target, motion, origin=origin)
            rows += len(motion.poses)
        except Exception as error:  # one damaged file, whatever it raises, must not lose the good ones
            problems.append(Problem(str(source), str(error)))
    if not rows:
        first = f" The first problem: {problems[0].what}" if problems else ""
        raise DatasetError(f"No motion could be imported into {out}.{first}")
    return ImportReport(out, rows, tuple(problems), resumed)


def _frames_of(path: Path, origin: str) -> int | None:
    """Frames of an imported file; None where it is missing, broken or made from something else."""
    try:
        arrays = load_arrays(path, (ORIGIN, "poses"))
    except DatasetError:
        return None
    return len(arrays["poses"]) if str(arrays[ORIGIN]) == origin else None
