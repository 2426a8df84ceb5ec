"""Fitting and training need few packages: they also run on machines where no others can be installed."""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FITTING = ("torch", "numpy", "scipy", "roma", "jaxtyping")
TRAINING = (*FITTING, "lightning", "opencv-python-headless", "pillow", "rich", "tensorboard")
"""OpenCV and Pillow read and warp photos; rich and TensorBoard tell how it goes."""
_ONLY_WITH_MORE = ("kouros.fitting.kernels.", "kouros.networks.tflite_", "kouros.networks.tfjs_conversion")
"""Compiled loops, for which torch's own operations stand where numba is missing; and files of networks, which are read
by flatbuffers before anything is trained."""


def run_with(packages: tuple[str, ...], program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / "only_with.py"), ",".join(packages), program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def _importing(*folders: str) -> str:
    return f"""
import importlib, pkgutil
for folder in {folders}:
    for module in pkgutil.walk_packages(importlib.import_module(folder).__path__, folder + "."):
        if not module.name.startswith({_ONLY_WITH_MORE!r}):
            importlib.import_module(module.name)
"""


_FIT_SOMEBODY = """
import torch, kouros
from kouros.body.parameters import BodyParameters
from kouros.fitting.schedules.keypoint_fit import KeypointFitter
from kouros.fitting.terms.evidence import Evidence
from kouros.geometry.cameras import PerspectiveCamera
from kouros.priors.gmm import load_gmm

torch.set_num_threads(1)
fitter = KeypointFitter(kouros.load_body(), "blazepose33", load_gmm())
pose = torch.cat([torch.tensor([[torch.pi, 0, 0]]), load_gmm().mean()[None]], dim=1)
truth = BodyParameters(pose, torch.zeros(1, 10), torch.tensor([[0.2, 0.0, 4.0]]))
camera = PerspectiveCamera(torch.full((1,), 700.0), torch.tensor([[320.0, 240.0]]))
points = fitter.kinematics.points(truth)
pixels = torch.cat([camera.project(points), torch.ones(1, 33, 1)], dim=-1)
hips = points[:, [23, 24]].mean(1, keepdim=True)
found = fitter.fit(Evidence(pixels, "blazepose33", camera, points - hips))
assert found.reprojection_error < 5, found.reprojection_error
"""


def test_other_packages_cannot_be_imported_meanwhile():
    for module in ("numba", "cv2", "pyarrow", "trimesh", "tyro"):
        assert f"No module named '{module}'" in run_with(FITTING, f"import numpy, {module}").stderr


def test_a_body_is_fitted_with_torch_numpy_scipy_and_roma_alone():
    ran = run_with(FITTING, _importing("kouros.geometry", "kouros.fitting") + _FIT_SOMEBODY)
    assert ran.returncode == 0, ran.stderr


def test_a_system_is_trained_with_lightning_opencv_and_pillow_beside_these(tmp_path: Path):
    toy = f"import runpy\nrunpy.run_path({str(HERE / 'training' / 'toy.py')!r}, run_name='__main__')"
    ran = run_with(TRAINING, _importing("kouros.systems") + toy, str(tmp_path), json.dumps({"max_steps": 2}))
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "weights.pt").is_file()
