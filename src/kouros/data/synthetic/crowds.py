"""Scenes that are hard on a finder of people: crowds, any posture, any size, any tilt, cut by the picture's edge.

The default scenes (`scenes.draw_scene`) teach networks: upright people of about the same size in a square picture.
These judge finders. Picture ``i`` of seed ``s`` is of kind ``i`` modulo the number of kinds and depends on (s, i) and
the poses alone; nothing is stored. Pictures of all shapes are the top left of the square that a scene renders.

Two more kinds hold nobody: rooms with things in them, and rooms with mannequins' single arms and legs lying about.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from kouros.body import BodyModel
from kouros.body.keypoints import COCO17
from kouros.body.skeleton import JOINT_NAMES
from kouros.body.surface.atlas import rest_keypoints
from kouros.data.mocap.recombination import Draws, PoseBank, about
from kouros.data.synthetic.cameras import Shot, looking
from kouros.data.synthetic.draw import Stage, Staged
from kouros.data.synthetic.poses import draw_people
from kouros.data.synthetic.props import Prop, hidden_by, obstacle, seat, table
from kouros.data.synthetic.scenes import Scene, footprint, free_spot, rng_of, rounded, seat_height

_PLACES = 5
_TRIES = 12
_NEAREST = 0.3
_MOST_HIDDEN = 0.7
_J = {name: index for index, name in enumerate(JOINT_NAMES)}
_POSTURES = {
    "recorded": 0.22, "recombined": 0.10, "standing": 0.10, "seated": 0.12, "on_floor": 0.07, "kneeling": 0.06,
    "crouching": 0.06, "lying": 0.08, "bent": 0.08, "upside_down": 0.05, "airborne": 0.06,
}  # fmt: skip
"""What people do, with shares: the families of `poses`, and three that are made of them here."""
_MADE_OF = {"bent": "standing", "upside_down": "recorded", "airborne": "recorded"}
_SIDES = (320, 480, 640, 640, 800, 1280)
_HUGE, _HUGE_SHARE = 2000, 0.04
_SHAPES = (1.0, 4 / 3, 3 / 4, 3 / 2, 2 / 3, 16 / 9)
_FAR = (40.0, 110.0)
"""Pixels of the largest person of a far scene."""


@dataclass(frozen=True)
class _Kind:
    people: tuple[int, int]
    share: tuple[float, float]
    """Longer side of what is framed over the picture's longer side; 0 for people who are far away."""
    apart: tuple[float, float] = (0.4, 2.8)
    """Metres from the first person to the others."""
    aim: str = "first"
    """What is framed, and where it lies: the first person somewhere inside, or all of them ("all"); the first person
    cut by the right or left edge ("side"), from the head as far down as it goes ("head"), or from the feet up
    ("feet")."""
    any_roll: bool = False
    posture: str = ""
    """Of everyone; drawn for each where it is empty."""


KINDS = {
    "alone": _Kind((1, 1), (0.25, 1.0)),
    "pair": _Kind((2, 3), (0.4, 1.1), (0.2, 0.9), "all"),
    "crowd": _Kind((4, 8), (0.6, 1.2), (0.3, 2.6), "all"),
    "far": _Kind((1, 6), (0.0, 0.0), (0.4, 4.0)),
    "cut below": _Kind((1, 3), (1.0, 2.6), (0.3, 1.5), "head"),
    "cut above": _Kind((1, 2), (1.0, 1.8), (0.4, 1.5), "feet"),
    "cut at the side": _Kind((1, 3), (0.5, 1.3), (0.4, 1.5), "side"),
    "portrait": _Kind((1, 2), (2.6, 4.5), (0.3, 0.8), "head"),
    "rolled": _Kind((1, 3), (0.4, 1.0), (0.4, 1.8), "all", any_roll=True),
    "airborne": _Kind((1, 2), (0.3, 0.95), (0.8, 2.0), posture="airborne"),
}
"""Kinds of scenes with people."""
EMPTY_KINDS = ("room", "limbs")
"""Kinds without: things alone, and mannequins' arms and legs."""


@dataclass(frozen=True, eq=False)
class Crowd:
    """One picture's people and things."""

    scene: Scene
    width: int
    """Of the picture, pixels; what the scene renders further right or below is cut off."""
    height: int
    kind: str
    postures: tuple[str, ...]
    """What each person does."""
    shown: Bool[np.ndarray, "people faces"] | None = None
    """Which of the bodies' faces are there; None: all."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What is seen of one person, pixels of the picture."""

    box: Float[np.ndarray, " 4"]
    """x0, y0, x1, y1, around the pixels that show the person; all 0 where none does."""
    keypoints: Float[np.ndarray, "17 2"]
    """COCO's, wherever they are; NaN behind the camera."""
    visible: Bool[np.ndarray, " 17"]
    """In the picture, and neither the person's own body nor anything else before them."""
    inside: float
    """Share of the body that is inside the picture."""
    hidden: float
    """Share of the pixels that the person would have in the picture alone and that something else covers."""
    posture: str
    upright: float
    """Degrees between the way from the hips to the head in the picture and straight up."""


@torch.no_grad()
def draw_crowd(seed: int, index: int, body: BodyModel, bank: PoseBank | None) -> Crowd:
    """Draw one picture with people.

    Args:
        bank: motion capture to take poses from; None takes the packaged mixture of Gaussians.
    """
    names = list(KINDS)
    name = names[index % len(names)]
    kind = KINDS[name]
    rng = rng_of(seed, index, _PLACES)
    width, height = _frame(rng)
    count = int(rng.integers(kind.people[0], kind.people[1] + 1))
    postures = [kind.posture or str(rng.choice(list(_POSTURES), p=list(_POSTURES.values()))) for _ in range(count)]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    families = tuple(_MADE_OF.get(p, p) for p in postures)
    people = draw_people(count, bank, body, generator, families=families)
    rotations = torch.stack([_made(r, p, generator) for r, p in zip(people.rotations, postures, strict=True)])
    group = _placed(rotations, postures, kind, body, rng)
    shot = _seen_from(group, kind, width, height, rng)
    kept = [k for k in group.order if shot.to_camera(group.vertices[k])[:, 2].min() > _NEAREST]
    things = list(group.things)
    if kept and rng.random() < 0.35:
        things += _obstacles(group, kept, shot, rng)
    scene = rounded(
        seed, index, max(width, height), shot, rotations[kept], group.betas[kept], group.joints[kept, 0], body,
        tuple(families[k] for k in kept), things,
    )  # fmt: skip
    return Crowd(scene, width, height, name, tuple(postures[k] for k in kept))


@torch.no_grad()
def draw_nobody(seed: int, index: int, body: BodyModel, bank: PoseBank | None) -> Crowd:
    """Draw one picture without people: things in a room, every other time with mannequins' arms and legs."""
    name = EMPTY_KINDS[index % len(EMPTY_KINDS)]
    rng = rng_of(seed, index, _PLACES)
    width, height = _frame(rng)
    count = int(rng.integers(1, 5)) if name == "limbs" else 1
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    rotations = draw_people(count, bank, body, generator, families=("recorded",) * count).rotations
    rotations[:, 0] = Draws(count, generator).rotations()
    kind = _Kind((count, count), (0.3, 1.0), (0.4, 2.0))
    group = _placed(rotations, ["recorded"] * count, kind, body, rng)
    shot = _seen_from(group, kind, width, height, rng)
    kept = [k for k in group.order if shot.to_camera(group.vertices[k])[:, 2].min() > _NEAREST]
    things: list[Prop] = []
    for _ in range(int(rng.integers(1, 6)) if name == "room" else int(rng.integers(0, 3))):
        things += _thing(group.vertices[0], shot, rng)
    scene = rounded(
        seed, index, max(width, height), shot, rotations[kept], group.betas[kept], group.joints[kept, 0], body,
        ("recorded",) * len(kept), things,
    )  # fmt: skip
    owner = body.weights.argmax(dim=1).numpy()[body.faces[:, 0].numpy()]
    limbs = [_drawn_limb(owner, rng) if name == "limbs" else np.zeros(len(owner), dtype=bool) for _ in kept]
    return Crowd(scene, width, height, name, ("recorded",) * len(kept), np.array(limbs).reshape(len(kept), len(owner)))


def staged(stage: Stage, crowd: Crowd) -> Staged:
    """The geometry that is there."""
    everything = stage.staged(crowd.scene)
    if crowd.shown is None:
        return everything
    people = everything.faces[: everything.people_faces][torch.from_numpy(crowd.shown.reshape(-1))]
    things = everything.faces[everything.people_faces :]
    return replace(everything, faces=torch.cat([people, things]), people_faces=len(people))


def picture(stage: Stage, crowd: Crowd) -> UInt8[np.ndarray, "height width 3"]:
    """The photo, RGB. Its lens is as sharp as that of a picture of 224 pixels, since people may be small in it."""
    return stage.picture(crowd.scene, staged(stage, crowd), soft_as=224)[: crowd.height, : crowd.width]


@torch.no_grad()
def seen_people(stage: Stage, crowd: Crowd, flesh: Float[np.ndarray, " 17"]) -> list[Seen]:
    """What is seen of everyone in the scene, in its order.

    Args:
        flesh: metres that may be before a keypoint that is still seen, from `coco_flesh`.
    """
    scene, built = crowd.scene, staged(stage, crowd)
    buffer = stage.fragments(scene, built)
    face = buffer.face[0].numpy()[: crowd.height, : crowd.width]
    depth = buffer.depth[0].numpy()[: crowd.height, : crowd.width]
    owner = np.where((face >= 0) & (face < built.people_faces), face // len(stage.body.faces), -1)
    points = stage.body.keypoints_3d(built.bodies, COCO17.name).numpy()
    limit = np.array([crowd.width, crowd.height])
    found = []
    for k in range(len(scene)):
        pixels = points[k, :, :2] / points[k, :, 2:] * scene.shot.focal + scene.shot.center
        inside = ((pixels >= 0) & (pixels < limit)).all(axis=1) & (points[k, :, 2] > 0.1)
        column, row = np.floor(np.where(inside[:, None], pixels, 0)).astype(int).T
        before = points[k, :, 2] - depth[row, column]
        visible = inside & (((owner[row, column] == k) & (before < flesh)) | ((owner[row, column] != k) & (before < 0)))
        outline = built.bodies.vertices[k].numpy()
        outline = outline[:, :2] / outline[:, 2:] * scene.shot.focal + scene.shot.center
        mine = owner == k
        rows, columns = np.flatnonzero(mine.any(axis=1)), np.flatnonzero(mine.any(axis=0))
        box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(rows) else np.zeros(4)
        up = pixels[:5].mean(axis=0) - pixels[11:13].mean(axis=0)
        found.append(
            Seen(
                box=box.astype(np.float64),
                keypoints=np.where(points[k, :, 2:] > 0.1, pixels, np.nan).astype(np.float64),
                visible=visible,
                inside=float(((outline >= 0) & (outline < limit)).all(axis=1).mean()),
                hidden=1 - float(mine.sum()) / max(_alone(stage, crowd, built, k), float(mine.sum()), 1.0),
                posture=crowd.postures[k],
                upright=abs(math.degrees(math.atan2(up[0], -up[1]))),
            )
        )
    return found


def coco_flesh(body: BodyModel) -> Float[np.ndarray, " 17"]:
    """Metres of flesh that may be before each of COCO's points while it is still seen."""
    points = rest_keypoints(body, COCO17.name)
    return (1.5 * torch.cdist(points, body.v_template).amin(dim=1) + 0.03).numpy()


def _alone(stage: Stage, crowd: Crowd, built: Staged, k: int) -> float:
    """Pixels of the picture that a person would have without anything else; counted coarsely."""
    size, per_body = crowd.scene.size, len(stage.body.faces)
    own = replace(built, faces=built.faces[k * per_body : (k + 1) * per_body], people_faces=per_body)
    coarse = min(size, 320)
    scale = size / coarse
    seen = stage.fragments(crowd.scene, own, coarse).face[0].numpy() >= 0
    return float(seen[: round(crowd.height / scale), : round(crowd.width / scale)].sum()) * scale**2


def _frame(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a picture."""
    longer = _HUGE if rng.random() < _HUGE_SHARE else int(rng.choice(_SIDES))
    shape = float(rng.choice(_SHAPES))
    shorter = round(longer / max(shape, 1 / shape))
    return (longer, shorter) if shape >= 1 else (shorter, longer)


def _made(rotations: Tensor, posture: str, generator: torch.Generator) -> Tensor:
    """Somebody bent over, upside down or turned any way at all, from somebody of a family of `poses`."""
    rotations = rotations.clone()
    draw = Draws(1, generator)
    if posture == "bent":
        lean = about(0, torch.deg2rad(draw.uniform(50.0, 110.0)))[0]
        rotations[0] = rotations[0] @ lean
        hips = [_J["left_hip"], _J["right_hip"]]
        rotations[hips] = lean.mT @ rotations[hips]
    elif posture == "upside_down":
        around = about(2, math.pi + 0.35 * draw.normal())[0]
        rotations[0] = around @ rotations[0]
    elif posture == "airborne":
        rotations[0] = draw.rotations()[0]
    return rotations


@dataclass(frozen=True, eq=False)
class _Group:
    """People in the world, with what they sit on."""

    betas: Tensor
    vertices: Float[np.ndarray, "people verts 3"]
    joints: Float[np.ndarray, "people 24 3"]
    order: list[int]
    """Those for whom there was room."""
    things: list[Prop]


def _placed(rotations: Tensor, postures: list[str], kind: _Kind, body: BodyModel, rng: np.random.Generator) -> _Group:
    count = len(rotations)
    betas = torch.from_numpy(np.clip(rng.normal(0, 1, (count, body.num_betas)), -2.5, 2.5)).float()
    posed = body(betas, rotations[:, 1:], rotations[:, 0], pose2rot=False)
    vertices, joints = posed.vertices.numpy().astype(np.float64), posed.joints.numpy().astype(np.float64)
    owner = body.weights.argmax(dim=1).numpy()
    placed: list[np.ndarray] = []
    order: list[int] = []
    things: list[Prop] = []
    for k in range(count):
        lift = float(rng.uniform(0.1, 1.2)) if postures[k] == "airborne" else 0.0
        down = np.array([joints[k, 0, 0], vertices[k, :, 1].min() - lift, joints[k, 0, 2]])
        spot = free_spot(vertices[k] - down, placed, rng, kind.apart)
        if spot is None:
            continue
        vertices[k] += spot - down
        joints[k] += spot - down
        placed.append(footprint(vertices[k]))
        order.append(k)
        if postures[k] == "seated":
            ahead = rotations[k, 0, :, 2].numpy()
            heading = float(np.arctan2(ahead[0], ahead[2]))
            top = seat_height(vertices[k], joints[k], owner)
            things += seat(joints[k, 0], top, heading, rng)
            if rng.random() < 0.3:
                things += table(joints[k, 0], top, heading, rng)
    return _Group(betas, vertices, joints, order, things)


def _seen_from(group: _Group, kind: _Kind, width: int, height: int, rng: np.random.Generator) -> Shot:
    """A camera that sees the first person as the kind wants it; the best of some tries where others are in the way."""
    best, most = None, -1
    for _ in range(_TRIES):
        shot = _drawn_shot(group, kind, width, height, rng)
        before = sum(shot.to_camera(group.vertices[k])[:, 2].min() > _NEAREST for k in group.order)
        first = shot.to_camera(group.vertices[group.order[0]])[:, 2].min() > _NEAREST
        if first and before > most:
            best, most = shot, before
        if first and before == len(group.order):
            break
    assert best is not None  # the distance keeps the first person before the camera
    return best


def _drawn_shot(group: _Group, kind: _Kind, width: int, height: int, rng: np.random.Generator) -> Shot:
    first = group.order[0]
    framed = group.order if kind.aim == "all" else group.order[:1]
    points, joints = np.concatenate(list(group.vertices[framed, ::20])), group.joints[first]
    longer = max(width, height)
    near = kind.aim == "head"
    focal = longer * float(np.exp(rng.uniform(np.log(0.8), np.log(1.8 if near else 3.5))))
    pixels = rng.uniform(*_FAR) if kind.share[1] == 0 else longer * np.exp(rng.uniform(*np.log(kind.share)))
    around = rng.uniform(-np.pi, np.pi)
    chance = rng.random()
    above = rng.normal(6, 10) if chance < 0.7 else rng.uniform(15, 75) if chance < 0.9 else rng.uniform(-25, -5)
    above = math.radians(float(above))
    roll = rng.uniform(-np.pi, np.pi) if kind.any_roll else math.radians(rng.normal(0, 4))
    away = np.array([np.cos(above) * np.sin(around), np.sin(above), np.cos(above) * np.cos(around)])
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    distance = 2 * focal / pixels
    for _ in range(6):
        nearest = 0.1 + _NEAREST + float(((points - middle) @ away).max())
        distance = max(distance, nearest)
        shot = _at(middle + distance * away, middle, roll, focal)
        low, high = _extent(shot, points)
        distance *= float((high - low).max()) / pixels
    shot = _at(middle + max(distance, nearest) * away, middle, roll, focal)
    low, high = _extent(shot, points)
    frame, size = np.array([width, height]), high - low
    if kind.aim in ("first", "all"):
        # Inside where there is room; what is larger than the picture is cut evenly.
        slack = np.abs(frame - size)
        start = np.where(frame > size, rng.uniform(0, 1, 2) * slack, -rng.uniform(0.3, 0.7, 2) * slack)
        move = start - low
    elif kind.aim == "side":
        cut = rng.uniform(0.15, 0.6)
        x = -cut * size[0] - low[0] if rng.random() < 0.5 else width + cut * size[0] - high[0]
        move = np.array([x, (0.5 * height - 0.5 * (low + high)[1]) + rng.uniform(-0.1, 0.1) * height])
    else:
        anchor = joints[[_J["head"]]] if near else joints[[_J["left_ankle"], _J["right_ankle"]]]
        at = _pixels(shot, anchor).mean(axis=0)
        wanted = rng.uniform(0.3, 0.7), rng.uniform(0.15, 0.5) if near else rng.uniform(0.7, 0.95)
        move = frame * np.array(wanted) - at
    return Shot(focal, shot.center + move, shot.world_to_camera)


def _at(eye: Float[np.ndarray, " 3"], seen: Float[np.ndarray, " 3"], roll: float, focal: float) -> Shot:
    """A camera whose optical axis goes through a point."""
    eye = np.array([eye[0], max(eye[1], 0.1), eye[2]])
    rotation = looking(seen - eye, roll)
    return Shot(focal, np.zeros(2), np.column_stack([rotation, -rotation @ eye]))


def _pixels(shot: Shot, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 2"]:
    seen = shot.to_camera(points)
    return seen[:, :2] / np.maximum(seen[:, 2:], 0.05) * shot.focal + shot.center


def _extent(
    shot: Shot, points: Float[np.ndarray, "points 3"]
) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, " 2"]]:
    pixels = _pixels(shot, points)
    return pixels.min(axis=0), pixels.max(axis=0)


def _obstacles(group: _Group, kept: list[int], shot: Shot, rng: np.random.Generator) -> list[Prop]:
    """One to three things between the camera and people, none of whom loses all but a few joints."""
    things: list[Prop] = []
    for _ in range(int(rng.integers(1, 4))):
        k = kept[rng.integers(len(kept))]
        tall = np.ptp(group.vertices[k], axis=0)
        thing = obstacle(shot.eye, group.joints[k, rng.integers(24)], 0.5 * float(tall.max()), rng)
        hidden = [
            np.any([hidden_by(p, shot.eye, group.joints[j]) for p in (*group.things, *things, thing)], axis=0)
            for j in kept
        ]
        if all(h.mean() < _MOST_HIDDEN for h in hidden):
            things.append(thing)
    return things


def _thing(points: Float[np.ndarray, "verts 3"], shot: Shot, rng: np.random.Generator) -> tuple[Prop, ...]:
    """Furniture, or a box, ball, pole or rail, near where somebody would be."""
    spot = points[rng.integers(len(points))] + np.array([*rng.normal(0, 0.8, 3)]) * [1, 0.2, 1]
    heading = float(rng.uniform(-np.pi, np.pi))
    top = float(rng.uniform(0.3, 0.9))
    chance = rng.random()
    if chance < 0.3:
        return seat(spot, top, heading, rng)
    if chance < 0.5:
        return table(spot, top, heading, rng)
    return (obstacle(shot.eye, spot, float(rng.uniform(0.3, 1.5)), rng),)


def _drawn_limb(owner: Int[np.ndarray, " faces"], rng: np.random.Generator) -> Bool[np.ndarray, " faces"]:
    """The faces of an arm or a leg, whole or from its middle joint on, by the joint that moves each face."""
    side = ("left", "right")[rng.integers(2)]
    chain = (("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot"))[rng.integers(2)]
    first = rng.integers(2)
    return np.isin(owner, [_J[f"{side}_{name}"] for name in chain[first:]])
