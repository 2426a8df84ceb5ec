"""A process that has used kouros may fork: its child can use kouros, too."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import kouros

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

_PROGRAM = """
import os, signal, sys
import numpy as np, torch, kouros

torch.set_num_threads(2)  # on one core, too, the second is left behind by a fork

def people():
    found = kouros.fit(np.load(sys.argv[1]), "openpose25", image_size=(640, 800))
    found += kouros.reconstruct(sys.argv[2], tiles=False)
    assert len(found) == 2
    return np.stack([person.vertices for person in found])

before = people()
torch.ones(1 << 20).add(1)  # large enough to be shared among threads
child = os.fork()
if not child:
    signal.alarm(100)  # waiting for a thread that is not there would take for ever
    assert torch.ones(1 << 20).add(1).sum() == 1 << 21
    np.testing.assert_allclose(people(), before, atol=1e-4)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "the child failed, or hung"
assert torch.get_num_threads() == 2
np.testing.assert_array_equal(people(), before)
"""


def test_a_forked_child_fits_and_reconstructs_and_so_does_its_parent(free_body, tmp_path: Path):
    there = {"transl": torch.tensor([[0.0, 0.0, 3.0]]), "global_orient": torch.tensor([[np.pi, 0.0, 0.0]])}
    points = free_body.keypoints_3d(free_body(**there), "openpose25").numpy()
    pixels = 800 * points[..., :2] / points[..., 2:] + [320, 400]
    np.save(tmp_path / "standing.npy", np.concatenate([pixels, np.ones((1, 25, 1))], axis=-1).astype(np.float32))
    photo = Path(kouros.__file__).parent / "data" / "demo" / "astronaut.jpg"
    command = [sys.executable, "-c", _PROGRAM, str(tmp_path / "standing.npy"), str(photo)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
