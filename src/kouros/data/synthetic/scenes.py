"""A scene's parameters: who stands where in what pose, what hides them, and from where they are seen.

Picture ``i`` of seed ``s`` depends on (s, i) and on the options alone. What a scene stores is rounded first
(float16 for poses and shapes), so that pictures and labels are those of the numbers on disk. Clothes, light and
background are not stored but drawn anew from the same two numbers.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int

from kouros.archives import read_all_npz
from kouros.body import BodyModel
from kouros.body.skeleton import JOINT_NAMES
from kouros.data.mocap.recombination import PoseBank
from kouros.data.synthetic.cameras import Shot, drawn_shot
from kouros.data.synthetic.poses import FAMILIES, draw_people
from kouros.data.synthetic.props import Prop, hidden_by, obstacle, seat, table
from kouros.geometry.rotations import rotmat_to_rotvec
from kouros.priors.body_pose import POSE_SIZE

VERSION = 1
"""Raised when the same seed comes to mean other pictures; folders of another version are refused."""
_CROWD = (0.55, 0.25, 0.13, 0.07)
_TRIES = 12
_GAP = 0.12
_PLACES = 0
_MOST_HIDDEN = 0.6


@dataclass(frozen=True)
class SceneConfig:
    """The pictures. Shares are probabilities."""

    size: int = 224
    """Side of the square picture, pixels."""
    most_people: int = 4
    occluded: float = 0.35
    """Share of pictures with things in the way, besides other people and furniture."""
    recorded_only: bool = False
    """Whether all poses are as recorded: no recombination, no families drawn by rule."""
    athletic: float = 0.0
    """Share of people with limbs and trunk anywhere that joints allow, half of them not upright."""
    shape_spread: float = 1.0
    """Standard deviation of the betas, which end at two and a half of them."""
    shortest_lens: float = 0.8
    """Least focal length, in sides of the picture."""
    longest_lens: float = 3.5
    """Largest focal length, likewise."""


@dataclass(frozen=True, eq=False)
class Scene:
    """One picture's people and things. Everything in camera space but the props."""

    seed: int
    index: int
    size: int
    shot: Shot
    pose: Float[np.ndarray, "people 72"]
    """Rotation vectors, the first in the camera's frame; float32 that float16 holds exactly."""
    betas: Float[np.ndarray, "people 10"]
    transl: Float[np.ndarray, "people 3"]
    family: tuple[str, ...]
    """Of `poses.FAMILIES`."""
    props: tuple[Prop, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.pose)

    def rng(self, stream: int) -> np.random.Generator:
        """Random numbers of this picture alone; each purpose has its own stream."""
        return rng_of(self.seed, self.index, stream)


def rng_of(seed: int, index: int, stream: int) -> np.random.Generator:
    """Random numbers that depend on these three numbers alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, index, stream]))


def people_in(seed: int, index: int, config: SceneConfig) -> int:
    """How many people are drawn for a picture, without drawing them."""
    return _crowd(rng_of(seed, index, _PLACES), config)


def _crowd(rng: np.random.Generator, config: SceneConfig) -> int:
    shares = np.array(_CROWD[: config.most_people])
    return int(rng.choice(len(shares), p=shares / shares.sum())) + 1


@torch.no_grad()
def draw_scene(seed: int, index: int, body: BodyModel, bank: PoseBank | None, config: SceneConfig) -> Scene:
    """Draw one picture's scene.

    Args:
        bank: motion capture to take poses from; None takes the packaged mixture of Gaussians.
    """
    rng = rng_of(seed, index, _PLACES)
    count = _crowd(rng, config)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    people = draw_people(count, bank, body, generator, recorded_only=config.recorded_only, athletic=config.athletic)
    shapes = config.shape_spread * np.clip(rng.normal(0, 1, (count, body.num_betas)), -2.5, 2.5)
    betas = torch.from_numpy(shapes).float()
    posed = body(betas, people.rotations[:, 1:], people.rotations[:, 0], pose2rot=False)
    vertices = posed.vertices.numpy().astype(np.float64)
    joints = posed.joints.numpy().astype(np.float64)
    ahead = people.rotations[:, 0, :, 2].numpy()
    heading = np.arctan2(ahead[:, 0], ahead[:, 2])
    owner = body.weights.argmax(dim=1).numpy()

    props: list[Prop] = []
    placed: list[np.ndarray] = []
    kept: list[int] = []
    for k in range(count):
        down = np.array([joints[k, 0, 0], vertices[k, :, 1].min(), joints[k, 0, 2]])
        spot = free_spot(vertices[k] - down, placed, rng)
        if spot is None:
            continue
        vertices[k] += spot - down
        joints[k] += spot - down
        placed.append(footprint(vertices[k]))
        kept.append(k)
        if people.family[k] == "seated":
            top = seat_height(vertices[k], joints[k], owner)
            props += seat(joints[k, 0], top, float(heading[k]), rng)
            if rng.random() < 0.2:
                props += table(joints[k, 0], top, float(heading[k]), rng)

    lens = (config.shortest_lens, config.longest_lens)
    chosen = kept if rng.random() < 0.6 else kept[:1]
    framed = np.concatenate([vertices[k, ::50] for k in chosen])
    shot = drawn_shot(framed, float(heading[0]), config.size, lens, rng)
    for _ in range(_TRIES):
        if all(shot.to_camera(vertices[k])[:, 2].min() > 0.35 for k in kept) and _in_sight(
            shot, joints[kept[0]], config
        ):
            break
        shot = drawn_shot(framed, float(heading[0]), config.size, lens, rng)
    kept = [k for k in kept if shot.to_camera(vertices[k])[:, 2].min() > 0.35]
    if rng.random() < config.occluded:
        for _ in range(rng.integers(1, 4)):
            k = kept[rng.integers(len(kept))] if kept else 0
            tall = vertices[k].max(axis=0) - vertices[k].min(axis=0)
            thing = obstacle(shot.eye, joints[k, rng.integers(24)], 0.5 * float(tall.max()), rng)
            hidden = [np.any([hidden_by(p, shot.eye, joints[j]) for p in (*props, thing)], axis=0) for j in kept]
            if all(h.mean() < _MOST_HIDDEN for h in hidden):
                props.append(thing)
    return rounded(seed, index, config.size, shot, people.rotations[kept], betas[kept], joints[kept, 0], body,
                    tuple(people.family[k] for k in kept), props)  # fmt: skip


def rounded(
    seed: int, index: int, size: int, shot: Shot, rotations: torch.Tensor, betas: torch.Tensor,
    pelvis: np.ndarray, body: BodyModel, family: tuple[str, ...], props: Sequence[Prop],
) -> Scene:  # fmt: skip
    """The scene as it will be stored; people's roots and pelvises are given in the world."""
    camera = torch.from_numpy(shot.world_to_camera[:, :3]).float()
    rotations = torch.cat([(camera @ rotations[:, 0])[:, None], rotations[:, 1:]], dim=1)
    half = rotmat_to_rotvec(rotations).flatten(1).numpy().astype(np.float16)
    shape = betas.numpy().astype(np.float16)
    rest = body.joint_template[0] + torch.from_numpy(shape.astype(np.float32)) @ body.joint_shapedirs[0].T
    transl = (shot.to_camera(pelvis) - rest.numpy()).astype(np.float32)
    world_to_camera = shot.world_to_camera.astype(np.float32).astype(np.float64)
    shot = Shot(float(np.float32(shot.focal)), shot.center.astype(np.float32).astype(np.float64), world_to_camera)
    exact = tuple(Prop.unpacked(p.packed()) for p in props)
    return Scene(seed, index, size, shot, half.astype(np.float32), shape.astype(np.float32), transl, family, exact)


def _in_sight(shot: Shot, joints: np.ndarray, config: SceneConfig) -> bool:
    """Whether enough of a person is in the picture."""
    seen = shot.to_camera(joints)
    pixels = seen[:, :2] / seen[:, 2:] * shot.focal + shot.center
    inside = ((pixels >= 0) & (pixels <= config.size)).all(axis=1)
    return bool(inside.mean() > 0.4)


def seat_height(
    vertices: Float[np.ndarray, "verts 3"], joints: Float[np.ndarray, "joints 3"], owner: Int[np.ndarray, " verts"]
) -> float:
    """How high what a sitting person sits on must be, metres.

    Args:
        vertices: world, as are the joints.
        owner: the joint that moves each vertex most.
    """
    under = np.isin(owner, [JOINT_NAMES.index(n) for n in ("pelvis", "left_hip", "right_hip")])
    near = np.linalg.norm((vertices - joints[0])[:, [0, 2]], axis=1) < 0.22
    return float(vertices[under & near, 1].min()) + 0.015


def footprint(vertices: np.ndarray) -> np.ndarray:
    """Cells of a 10 cm grid on the floor that a body is above."""
    return np.unique(np.floor(vertices[::7, [0, 2]] / 0.1).astype(np.int64), axis=0)


def free_spot(
    vertices: np.ndarray,
    placed: list[np.ndarray],
    rng: np.random.Generator,
    away_from: tuple[float, float] = (0.4, 2.8),
) -> np.ndarray | None:
    """Where nobody stands yet: the first at the origin, others up to some metres away; None: no room found.

    Args:
        placed: footprints of those who stand already.
        away_from: least and greatest distance from the origin, metres.
    """
    if not placed:
        return np.zeros(3)
    for _ in range(_TRIES):
        around, away = rng.uniform(0, 2 * np.pi), rng.uniform(*away_from)
        spot = np.array([away * np.cos(around), 0.0, away * np.sin(around)])
        mine = (footprint(vertices + spot) + 0.5) * 0.1
        apart = min(
            float(np.sqrt(((mine[:, None] - (other[None] + 0.5) * 0.1) ** 2).sum(-1)).min()) for other in placed
        )
        if apart > _GAP + 0.1:
            return spot
    return None


def pack(scenes: Sequence[Scene]) -> dict[str, np.ndarray]:
    """Scenes as arrays, for an ``.npz`` file; those of one seed and size.

    Raises:
        ValueError: no scene, or of several seeds.
    """
    if len({(s.seed, s.size) for s in scenes}) != 1:
        raise ValueError("Scenes of one file must be at least one, and share their seed and size.")
    return {
        "version": np.array(VERSION),
        "seed": np.array(scenes[0].seed),
        "size": np.array(scenes[0].size),
        "index": np.array([s.index for s in scenes], dtype=np.int64),
        "people": np.array([len(s) for s in scenes], dtype=np.uint8),
        "things": np.array([len(s.props) for s in scenes], dtype=np.uint8),
        "focal": np.array([s.shot.focal for s in scenes], dtype=np.float32),
        "center": np.array([s.shot.center for s in scenes], dtype=np.float32),
        "world_to_camera": np.array([s.shot.world_to_camera for s in scenes], dtype=np.float32),
        "pose": np.concatenate([s.pose for s in scenes]).astype(np.float16),
        "betas": np.concatenate([s.betas for s in scenes]).astype(np.float16),
        "transl": np.concatenate([s.transl for s in scenes]),
        "family": np.array([FAMILIES.index(f) for s in scenes for f in s.family], dtype=np.uint8),
        "props": np.array([p.packed() for s in scenes for p in s.props], dtype=np.float32).reshape(-1, 19),
    }


class PackedScenes(Sequence[Scene]):
    """The scenes of a file that `pack` made, taken out one by one.

    Raises:
        ValueError: the file is broken or of another version; ``name`` says which.
    """

    def __init__(self, file: bytes | Mapping[str, np.ndarray], name: str) -> None:
        try:
            if isinstance(file, bytes):
                file = read_all_npz(io.BytesIO(file))
            if int(file["version"]) != VERSION:
                raise ValueError(f"its version is {int(file['version'])}, this package draws version {VERSION}")
            if not file["pose"].shape[1:] == (POSE_SIZE + 3,):
                raise ValueError("its poses are not 72 numbers each")
            self._seed, self._size = int(file["seed"]), int(file["size"])
            self._people, self._things = (np.r_[0, np.cumsum(file[k], dtype=np.int64)] for k in ("people", "things"))
            self._pose, self._betas = file["pose"].astype(np.float32), file["betas"].astype(np.float32)
            self._transl, self._props = file["transl"], file["props"]
            self._focal, self._center = file["focal"], file["center"]
            self._world_to_camera = file["world_to_camera"]
            self._family = [FAMILIES[f] for f in file["family"]]
            self.numbers: list[int] = file["index"].tolist()
            """Of the pictures, in order."""
        except (KeyError, IndexError, AttributeError, TypeError, OSError, ValueError) as error:
            raise ValueError(f"{name} is no file of scenes ({error}); delete it and synthesize again.") from error

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, k: int) -> Scene:  # type: ignore[override]
        mine, my_things = slice(*self._people[k : k + 2]), slice(*self._things[k : k + 2])
        shot = Shot(
            float(self._focal[k]),
            self._center[k].astype(np.float64),
            self._world_to_camera[k].astype(np.float64),
        )
        return Scene(
            self._seed, self.numbers[k], self._size, shot, self._pose[mine], self._betas[mine], self._transl[mine],
            tuple(self._family[mine]), tuple(Prop.unpacked(row) for row in self._props[my_things]),
        )  # fmt: skip


def unpack(file: bytes | Mapping[str, np.ndarray], name: str) -> list[Scene]:
    """The inverse of `pack`.

    Raises:
        ValueError: as `PackedScenes`.
    """
    packed = PackedScenes(file, name)
    return [packed[k] for k in range(len(packed))]
