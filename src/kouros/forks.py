"""A forked process: what was several threads' work before the fork is done by one after it. Imports nothing of kouros.

OpenMP's threads, among which torch shares its work, stay behind in the parent, and the child would wait for them for
ever: in the middle of an addition, without a word. (LiteRT and OpenCV notice the fork by themselves; numba's kernels
are shared among threads of Python, started when they are needed.)
"""

import os
import sys


def survive_forks() -> None:
    """From now on a forked child has torch compute on one thread, if torch was loaded before the fork."""
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=_compute_on_one_thread)


def _compute_on_one_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
