"""Draw the demo photo `people.jpg`: three dressed free bodies on a square, by this project's own renderer.

python docs/pictures/demo_photo.py src/kouros/data/demo/people.jpg
"""

import math
import sys

import cv2
import numpy as np
import torch
from PIL import Image

import kouros
from kouros.body.skeleton import JOINT_NAMES
from kouros.geometry.cameras import PerspectiveCamera
from kouros.geometry.rotations import rotmat_to_rotvec, rotvec_to_rotmat
from kouros.render.shading import overlay

WIDTH, HEIGHT, FOCAL = 960, 640, 1100.0
EYE_HEIGHT = 1.5

# Degrees about x, y, z of the joint's own axes; arms hang when the shoulders turn by -/+ 75 about z.
WAVING = {
    "left_shoulder": (0, 0, -74), "left_elbow": (0, -18, 0), "right_shoulder": (0, 18, -38),
    "right_elbow": (0, 20, -75), "right_wrist": (0, 0, -10), "head": (0, -8, 4), "left_hip": (0, 0, 4),
    "right_hip": (0, 0, -4), "spine2": (0, 0, -3),
}  # fmt: skip
WALKING = {
    "left_hip": (-26, 0, 2), "left_knee": (10, 0, 0), "right_hip": (16, 0, -2), "right_knee": (34, 0, 0),
    "right_ankle": (12, 0, 0), "left_shoulder": (0, 24, -72), "left_elbow": (0, -22, 0),
    "right_shoulder": (0, 30, 72), "right_elbow": (0, 30, 0), "spine1": (4, 0, 0), "left_ankle": (-8, 0, 0),
}  # fmt: skip
SQUATTING = {
    "left_hip": (-92, 12, 14), "left_knee": (104, 0, 0), "right_hip": (-88, -14, -14), "right_knee": (100, 0, 0),
    "left_ankle": (-14, 0, 0), "right_ankle": (-14, 0, 0), "spine1": (22, 0, 0), "spine2": (8, 0, 0),
    "left_shoulder": (0, -62, -28), "left_elbow": (0, -38, 0), "right_shoulder": (0, 62, 28),
    "right_elbow": (0, 38, 0), "neck": (-8, 0, 0), "head": (-10, 0, 0),
}  # fmt: skip
SKIN, HAIR = (0.80, 0.60, 0.48), (0.16, 0.11, 0.08)
PEOPLE = (
    # pose, heading (degrees), x and depth (metres), betas, shirt, sleeves, trousers, shoes
    (WAVING, -8, -1.55, 5.7, (0.6, 0.5), (0.62, 0.16, 0.16), None, (0.16, 0.19, 0.28), (0.9, 0.9, 0.9)),
    (
        WALKING,
        52,
        0.15,
        6.6,
        (-0.4, -0.8),
        (0.87, 0.80, 0.62),
        (0.87, 0.80, 0.62),
        (0.28, 0.34, 0.46),
        (0.2, 0.13, 0.1),
    ),
    (
        SQUATTING,
        -30,
        1.65,
        5.8,
        (0.2, 0.9),
        (0.16, 0.40, 0.38),
        (0.16, 0.40, 0.38),
        (0.45, 0.41, 0.36),
        (0.1, 0.1, 0.1),
    ),
)


def posed(body, pose: dict, heading: float, x: float, depth: float, betas: tuple) -> torch.Tensor:
    """Vertices of a person whose lowest point stands on the ground, camera space."""
    body_pose = torch.zeros(1, 23, 3)
    for name, degrees in pose.items():
        rx, ry, rz = (
            rotvec_to_rotmat(torch.tensor(axis) * math.radians(a))
            for axis, a in zip(torch.eye(3).tolist(), degrees, strict=True)
        )
        body_pose[0, JOINT_NAMES.index(name) - 1] = rotmat_to_rotvec(rz @ ry @ rx)
    upright = rotvec_to_rotmat(torch.tensor([math.pi, 0.0, 0.0]))
    turn = rotvec_to_rotmat(torch.tensor([0.0, math.radians(heading), 0.0]))
    shape = torch.zeros(1, body.num_betas)
    shape[0, : len(betas)] = torch.tensor(betas)
    out = body(betas=shape, body_pose=body_pose, global_orient=rotmat_to_rotvec(upright @ turn)[None])
    vertices = out.vertices[0]
    return vertices + torch.tensor([x, EYE_HEIGHT - float(vertices[:, 1].max()), depth])


def dressed(body, shirt, sleeves, trousers, shoes) -> torch.Tensor:
    """Clothes as vertex colours, by the joint that moves a vertex most and by height."""
    joint = body.weights.argmax(1)
    colours = torch.tensor(SKIN).repeat(len(joint), 1)

    def paint(names: tuple, colour) -> None:
        for name in names:
            colours[joint == JOINT_NAMES.index(name)] = torch.tensor(colour)

    paint(
        ("spine1", "spine2", "spine3", "left_collar", "right_collar", "left_shoulder", "right_shoulder"),
        shirt,
    )
    if sleeves is not None:
        paint(("left_elbow", "right_elbow"), sleeves)
    paint(("pelvis", "left_hip", "right_hip", "left_knee", "right_knee"), trousers)
    paint(("left_ankle", "right_ankle", "left_foot", "right_foot"), shoes)
    template = body.v_template
    head = joint == JOINT_NAMES.index("head")
    top, front = template[head, 1].max(), template[head, 2].max()
    cap = head & ((template[:, 1] > top - 0.075) | ((template[:, 2] < front - 0.12) & (template[:, 1] > top - 0.19)))
    colours[cap] = torch.tensor(HAIR)
    return colours


def square(generator: np.random.Generator) -> np.ndarray:
    """Sky, a row of houses, and paving in perspective."""
    picture = np.empty((HEIGHT, WIDTH, 3), np.float64)
    horizon = HEIGHT // 2
    ramp = np.linspace(0, 1, horizon)[:, None, None]
    picture[:horizon] = (1 - ramp) * np.array([150, 180, 214]) + ramp * np.array([214, 222, 228])
    x = -30
    while x < WIDTH:
        width, height = generator.integers(90, 190), generator.integers(90, 230)
        colour = np.array([186, 170, 150]) * generator.uniform(0.75, 1.1) + generator.normal(0, 8, 3)
        x0, x1, y0 = max(x, 0), min(x + width, WIDTH), horizon - height
        picture[y0:horizon, x0:x1] = colour
        for wy in range(y0 + 16, horizon - 30, 42):
            for wx in range(x + 14, x + width - 24, 34):
                if wx >= 0 and wx + 16 <= WIDTH:
                    picture[wy : wy + 24, wx : wx + 16] = colour * 0.45
        x += width
    v, u = np.mgrid[horizon:HEIGHT, 0:WIDTH] + 0.5
    depth = FOCAL * EYE_HEIGHT / np.maximum(v - horizon, 0.5)
    side = (u - WIDTH / 2) * depth / FOCAL
    tile = (np.floor(side / 0.6) + np.floor(depth / 0.6)) % 2
    joint = np.minimum(np.abs((side / 0.6) % 1 - 0.5), np.abs((depth / 0.6) % 1 - 0.5))
    shade = 150 + 10 * tile - 26 * (joint > 0.485) * np.clip(6 / depth, 0, 1)
    picture[horizon:] = (shade * np.clip(1.05 - 0.006 * depth, 0.8, 1))[..., None] * np.array([1.0, 0.97, 0.92])
    grain = cv2.GaussianBlur(generator.normal(0, 9, (HEIGHT, WIDTH, 1)), (0, 0), 1.0)[..., None]
    return np.clip(picture + grain + generator.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def main(path: str) -> None:
    """Draw the photo and write it to ``path``."""
    body = kouros.load_body()
    picture = square(np.random.default_rng(7))
    camera = PerspectiveCamera(torch.tensor(FOCAL), torch.tensor([WIDTH / 2, HEIGHT / 2]))
    meshes, colours = [], []
    for pose, heading, x, depth, betas, *clothes in PEOPLE:
        vertices = posed(body, pose, heading, x, depth, betas)
        feet = camera.project(vertices[vertices[:, 1] > EYE_HEIGHT - 0.12][None])[0].numpy()
        low, high = feet.min(0), feet.max(0)
        shadow = np.zeros((HEIGHT, WIDTH), np.float32)
        centre = ((low + high) / 2 + [0, 4]).astype(int)
        axes = np.maximum((high - low) / 2 * [1.25, 0.8], [30, 8]).astype(int)
        cv2.ellipse(shadow, centre.tolist(), axes.tolist(), 0, 0, 360, 0.55, -1)
        shadow = cv2.GaussianBlur(shadow, (0, 0), 9)[..., None]
        picture = (picture * (1 - shadow)).astype(np.uint8)
        meshes.append((vertices, body.faces))
        colours.append(dressed(body, *clothes))
    picture = overlay(picture, meshes, camera, colours, alpha=1.0, supersample=3)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.6)
    Image.fromarray(picture).save(path, quality=90)


if __name__ == "__main__":
    main(sys.argv[1])
