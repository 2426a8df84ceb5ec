"""What Blender makes of our GLB. Blender's module (bpy) needs an older numpy, so it lives in an environment of its own:

python3.11 -m venv blender && blender/bin/pip install bpy && export KOUROS_BLENDER_PYTHON=$PWD/blender/bin/python
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kouros.body.skeleton import JOINT_NAMES, PARENTS
from kouros.export.glb import glb_bytes
from kouros.pipeline.upright import world_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "blender" / "retarget.py"


def _seen(script: str, *arguments: object) -> dict:
    """What a script prints that Blender's Python runs."""
    python = os.environ.get("KOUROS_BLENDER_PYTHON")
    if not python:
        pytest.skip("KOUROS_BLENDER_PYTHON names no Python that has bpy")
    command = [python, str(Path(__file__).with_name(script)), *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240, env=environment)
    (line,) = [line for line in ran.stdout.splitlines() if line.startswith("SEEN ")]
    return json.loads(line.removeprefix("SEEN "))


@pytest.fixture(scope="module")
def blender(people, tmp_path_factory) -> dict:
    path = tmp_path_factory.mktemp("blender") / "two.glb"
    path.write_bytes(glb_bytes(people, world_of(people)))
    return _seen("blender_import.py", path)


@pytest.mark.slow
def test_blender_has_bones_along_the_limbs_of_a_figure_on_the_floor(blender: dict):
    assert list(blender["bones"]) == ["person_1", "person_2"]
    for bones in blender["bones"].values():
        assert bones["root"]["parent"] is None and bones["pelvis"]["parent"] == "root"
        for joint, parent in enumerate(PARENTS[1:], start=1):
            assert bones[JOINT_NAMES[joint]]["parent"] == JOINT_NAMES[parent]
        np.testing.assert_allclose(bones["root"]["head"], [0, 0, 0], atol=1e-4)
        for one, other in (
            ("left_hip", "left_knee"), ("right_knee", "right_ankle"), ("left_ankle", "left_foot"),
            ("left_shoulder", "left_elbow"), ("right_elbow", "right_wrist"), ("spine2", "spine3"), ("neck", "head"),
        ):  # fmt: skip
            head, tail, following = (
                np.array(p) for p in (bones[one]["head"], bones[one]["tail"], bones[other]["head"])
            )
            along, limb = tail - head, following - head
            cosine = along @ limb / np.linalg.norm(along) / np.linalg.norm(limb)
            assert cosine > 0.999, one
        assert bones["left_ankle"]["head"][2] < 0.15 and bones["head"]["head"][2] > 1.2
    assert blender["scales"] == [[1.0, 1.0, 1.0]] * 2


@pytest.mark.slow
def test_blender_shows_the_photos_pose_on_the_floor_and_holds_the_t_pose(blender: dict, people):
    assert blender["actions"] == ["T-pose", "photo"]
    world = world_of(people)
    for k, person in enumerate(people):
        low, high = blender["photo"][f"person_{k + 1}_mesh"]
        ours = world.place(person.vertices, k)[:, 1]
        assert (low, high) == pytest.approx((float(ours.min()), float(ours.max())), abs=1e-3)
        low, high = blender["t_pose"][f"person_{k + 1}_mesh"]
        stature = person.measurements.stature * float(world.sizes[k])
        assert low == pytest.approx(0.0, abs=0.03) and high == pytest.approx(stature, abs=0.05)
    assert blender["camera"][2] == pytest.approx(float(world.translation[1]), abs=1e-4)


@pytest.mark.slow
def test_a_motion_of_another_rig_with_mixamos_names_is_retargeted(people, tmp_path: Path):
    path = tmp_path / "two.glb"
    path.write_bytes(glb_bytes(people, world_of(people), "mixamo"))
    found = _seen("blender_retarget.py", path, tmp_path, EXAMPLE)
    assert found["people"] == 2 and found["moved"] > 60
    assert found["worst"] < 0.1
