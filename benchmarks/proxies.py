"""A small CNN on proxies as a start: do edges, heatmaps, silhouette and parts tell more than points do?

    kouros synthesize --out people --mocap MOCAP --people 16000 --size 288 --seed 280001 --athletic 0.25 \
        --wardrobe ASSETS --images --detections
    python benchmarks/proxies.py prepare people --people 6000 --out proxies.npz
    python benchmarks/proxies.py train proxies.npz --steps 4000 --out run.npz
    python benchmarks/proxies.py judge run.npz look_b --people 400 --out proxies.jsonl

As STRAPS and HierProb3D learn from renders (Sengupta et al., BMVC 2020 and ICCV 2021): a residual network looks at the
stack of proxies, 64 x 64, and an iterative regressor answers with 6D rotations. All four proxies are what kouros's
front end makes of pictures, in training as on photos, so that no gap is left: Canny's edges; heatmaps of COCO's points,
as sure as the finder is of them; BlazePose's mask; the parts that Neural Body Fitting's packaged first stage sees.
They are corrupted as published. One training, in which every subset of the four comes equally often, serves all
fifteen. `judge` prints them alone and fitted, on the people of `benchmarks/default.py`, and writes a line of JSON each.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from common.learning import Learning
from default import Answered, errors, fitted, fitted_to_points, mean_of, of_bodies, shown_in
from kouros.archives import read_all_npz
from kouros.batched import Batched, choose, stack
from kouros.body.files import shared_body
from kouros.body.keypoints import BLAZEPOSE33, COCO17
from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.skeleton import MIRROR, NUM_JOINTS
from kouros.body.surface.parts import part_set
from kouros.data.crops import CropTransform, square_around
from kouros.data.detections import FOLDER, DetectionSource
from kouros.data.synthetic.source import SyntheticSource
from kouros.detection.find import default_detector
from kouros.detection.fusion import SHARED
from kouros.detection.people import PersonMask
from kouros.detection.places import landmark_region
from kouros.detection.regions import Pyramid
from kouros.files import npz_bytes, write_file
from kouros.fitting.schedules.placement import translation_to_see
from kouros.geometry.rotations import mirror_rotmat, rot6d_to_rotmat, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.network_files import read_network, write_network
from kouros.networks.estimates import NUM_BETAS, MeanParameters
from kouros.systems.estimator import Estimate, PersonInPhoto
from kouros.systems.lifter import LIMB_JOINTS, BodyPoints, LearnedStart, LossWeights, look_at
from kouros.systems.nbf import Parts
from kouros.systems.table import SYSTEMS
from kouros.training.runs import load_run

SIDE, SEEN = 64, 0.2
"""Pixels of a crop's side; from which confidence on a point is seen, and the crop is around it."""
GROUPS = ("edges", "heatmaps", "silhouette", "parts")
SUBSETS = [names for count in range(1, 5) for names in combinations(GROUPS, count)]
KEPT = torch.tensor([[name in names for name in GROUPS] for names in SUBSETS])
PARTS = part_set("parts12")
CHANNELS = (1, len(COCO17), 1, len(PARTS))
SIGMA = 1.5
"""Of the heatmaps, pixels."""
WIDTHS, FEATURES, HIDDEN, ROUNDS = (32, 64, 128, 256), 64, 512, 3


# ---- what is shown


@dataclass(frozen=True)
class Proxies(Batched):
    """What the front end makes of people's squares."""

    edges: UInt8[Tensor, "*people 64 64"]
    silhouette: UInt8[Tensor, "*people 64 64"]
    """0 to 255, as the edges."""
    parts: UInt8[Tensor, "*people 64 64"]
    """Labels; 0 is the background."""
    keypoints: Float[Tensor, "*people 17 3"]
    """COCO's: pixels of the square, and confidence."""
    ray: Float[Tensor, "*people 3"]
    """To the square's middle, at depth 1: where the camera would have to look to see what the square shows."""


@dataclass(frozen=True)
class Learned(Batched):
    """People to learn from, in the axes of a camera that looks along the ray."""

    proxies: Proxies
    rotations: Float[Tensor, "*people 24 3 3"]
    betas: Float[Tensor, "*people 10"]


@cache
def parts_network() -> Parts:
    folder = SYSTEMS["nbf"].packaged
    assert folder is not None
    system = load_run(folder / "1-parts", shared_body())
    assert isinstance(system, Parts) and system.parts.name == PARTS.name
    return system


def proxies_of(
    pixels: UInt8[np.ndarray, "height width 3"], keypoints: Float[np.ndarray, "33 3"], focal: float, center: np.ndarray
) -> Proxies | None:
    """Of the person with these keypoints; None where too few are seen to say where the person is."""
    seen = keypoints[keypoints[:, 2] > SEEN, :2]
    keypoints = keypoints[SHARED]
    region = landmark_region(keypoints[:, :2], keypoints[:, 2])
    if region is None or float(np.ptp(seen, axis=0).max()) < 4:
        return None
    square = CropTransform(*square_around(seen), SIDE)
    network = parts_network()
    look = default_detector().look(Pyramid(pixels), region)
    mask = PersonMask.from_logits(look.mask_logits, look.region).in_image(*pixels.shape[:2])
    larger = replace(square, size=network.crop_size).image(pixels)
    labels = network.probabilities(torch.from_numpy(larger).permute(2, 0, 1)[None].float() / 255)[0].argmax(0)
    edges = cv2.Canny(cv2.GaussianBlur(replace(square, size=2 * SIDE).image(pixels), (3, 3), 0), 60, 150)
    return Proxies(
        edges=torch.from_numpy(edges.reshape(SIDE, 2, SIDE, 2).max(axis=(1, 3))),
        silhouette=torch.from_numpy(square.image(np.repeat(mask[..., None], 3, axis=-1))[..., 0].copy()),
        parts=labels.to(torch.uint8),
        keypoints=torch.from_numpy(np.column_stack([square.points(keypoints[:, :2]), keypoints[:, 2]])).float(),
        ray=torch.from_numpy(np.append((square.center - center) / focal, 1.0)).float(),
    )


def channels(proxies: Proxies, kept: Bool[Tensor, "people 4"]) -> Float[Tensor, "people channels 64 64"]:
    """What the network sees of them; zeros in place of what is not kept."""
    centers = torch.arange(SIDE) + 0.5
    near = torch.exp(-0.5 * ((centers - proxies.keypoints[..., :2, None]) / SIGMA).square())
    across, down = near.unbind(-2)
    stacks = (
        proxies.edges[:, None].float() / 255,
        (proxies.keypoints[..., 2:] * down)[..., None] * across[..., None, :],
        proxies.silhouette[:, None].float() / 255,
        torch.stack([(proxies.parts == label + 1).float() for label in range(len(PARTS))], 1),
    )
    return torch.cat([maps * kept[:, k, None, None, None] for k, maps in enumerate(stacks)], 1)


def towards(ray: Float[Tensor, "people 3"]) -> Float[Tensor, "people 3 3"]:
    """From the photo's camera to the one that looks along a ray."""
    return look_at(nn.functional.normalize(ray, dim=-1))


# ---- whom to learn from


def prepare(folder: Path, count: int, out: Path) -> None:
    """Proxies and poses of the first people of a folder whom the finder has found."""
    source, detections = SyntheticSource(folder), DetectionSource(folder / FOLDER).all
    rows = {np.asarray(source.sample(row).pose, np.float32).tobytes(): row for row in range(len(source))}
    kept: list[dict[str, np.ndarray]] = []
    for person in (detections[k] for k in range(len(detections.betas))):
        row = rows.get(person.pose.numpy().tobytes())
        if row is None or len(kept) == count:
            continue
        focal, _, *middle = np.asarray(source.sample(row).intrinsics, dtype=np.float64).tolist()
        points = person.keypoints.double().numpy()
        points[:, :2] = points[:, :2] * focal + middle
        found = proxies_of(source.image(row), points, focal, np.array(middle))
        if found is not None:
            tensors = {f.name: getattr(found, f.name) for f in fields(found)}
            kept.append({n: t.numpy() for n, t in (tensors | {"pose": person.pose, "betas": person.betas}).items()})
    write_file(out, npz_bytes({name: np.stack([k[name] for k in kept]) for name in kept[0]}))
    print(f"{out}: {len(kept)} people")


def read_prepared(path: Path) -> Learned:
    """What `prepare` wrote."""
    arrays = {name: torch.from_numpy(array) for name, array in read_all_npz(path).items()}
    proxies = Proxies(**{f.name: arrays[f.name] for f in fields(Proxies)})
    rotations = rotvec_to_rotmat(arrays["pose"].unflatten(-1, (NUM_JOINTS, 3)))
    return Learned(proxies, turned(towards(proxies.ray), rotations), arrays["betas"])


def turned(
    turn: Float[Tensor, "people 3 3"], rotations: Float[Tensor, "people 24 3 3"]
) -> Float[Tensor, "people 24 3 3"]:
    """The same people, all of them turned about the camera."""
    return torch.cat([turn[:, None] @ rotations[:, :1], rotations[:, 1:]], 1)


def mirrored(people: Learned) -> Learned:
    """All of them in a mirror."""
    seen = people.proxies
    labels = torch.tensor(PARTS.mirror, dtype=torch.uint8)
    points = seen.keypoints[:, list(COCO17.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    proxies = Proxies(
        edges=seen.edges.flip(-1),
        silhouette=seen.silhouette.flip(-1),
        parts=labels[seen.parts.long()].flip(-1),
        keypoints=points + torch.tensor([float(SIDE), 0.0, 0.0]),
        ray=seen.ray * torch.tensor([-1.0, 1.0, 1.0]),
    )
    return Learned(proxies, mirror_rotmat(people.rotations[:, list(MIRROR)]), people.betas)


_MOVED, _DROPPED, _SWAPPED, _LOST, _ERASED = 8 / 256 * SIDE, 0.1, 0.1, 0.08, 48 / 256 * SIDE
_SMALLEST, _LARGEST = 0.7, 1.2
"""Of the square's side, what it is jittered to."""


def corrupted(seen: Proxies, draw: torch.Generator) -> Proxies:
    """As published: points moved, dropped and exchanged with the other side's, parts lost, a box erased from everything
    of every second person, the square's side jittered."""
    count = len(seen.ray)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=draw)

    points = seen.keypoints.clone()
    points[..., :2] += _MOVED * (2 * uniform(17, 2) - 1)
    points[..., 2] *= uniform(17) > _DROPPED
    pair = torch.minimum(torch.arange(17), torch.tensor(COCO17.mirror))
    points = torch.where((uniform(17) < _SWAPPED)[:, pair, None], points[:, list(COCO17.mirror)], points)
    gone = uniform(1 + len(PARTS)) < _LOST
    gone[:, 0] = False  # there is no losing the background
    lost = gone.gather(1, seen.parts.long().flatten(1)).view_as(seen.parts)
    low = (SIDE + _ERASED) * uniform(2) - _ERASED
    inside = (torch.arange(SIDE) >= low[..., None]) & (torch.arange(SIDE) < low[..., None] + _ERASED)
    box = inside[:, 1, :, None] & inside[:, 0, None, :] & (uniform(1, 1) < 0.5)
    hidden = ((points[..., :2] >= low[:, None]) & (points[..., :2] < low[:, None] + _ERASED)).all(-1)
    points[..., 2] *= ~(hidden & box.any(-1).any(-1, keepdim=True))
    scale = _SMALLEST + (_LARGEST - _SMALLEST) * uniform()
    points[..., :2] = (points[..., :2] - SIDE / 2) / scale[:, None, None] + SIDE / 2
    maps = torch.stack([seen.edges, seen.silhouette, torch.where(lost, 0, seen.parts)], 1)
    zoom = torch.eye(2, 3) * scale[:, None, None]
    grid = nn.functional.affine_grid(zoom, list(maps.shape), align_corners=False)
    maps = torch.where(box[:, None], 0, maps).float()
    zoomed = nn.functional.grid_sample(maps, grid, mode="nearest", align_corners=False).to(torch.uint8)
    return Proxies(zoomed[:, 0], zoomed[:, 1], zoomed[:, 2], points, seen.ray)


# ---- the network


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.way = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.GroupNorm(8, after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.GroupNorm(8, after),
        )
        self.around = nn.Identity() if stride == 1 else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Float[Tensor, "people _ _ _"]) -> Float[Tensor, "people _ _ _"]:
        return torch.relu(self.way(x) + self.around(x))


class ProxyNetwork(nn.Module):
    """From proxies to bodies, in the axes of the camera that looks at the square's middle.

    Args:
        widths: of the residual blocks, each of which sees half as many rows as the one before.
    """

    mean_pose: Tensor

    def __init__(self, *widths: int) -> None:
        super().__init__()
        first = nn.Conv2d(sum(CHANNELS), widths[0], 5, 2, 2, bias=False)
        blocks = [Block(a, b, 1 if a == b else 2) for a, b in zip((widths[0], *widths[:-1]), widths, strict=True)]
        # Pooling would forget where in the square things are.
        last = nn.Conv2d(widths[-1], FEATURES, 1)
        self.trunk = nn.Sequential(first, nn.GroupNorm(8, widths[0]), nn.ReLU(), *blocks, last, nn.Flatten(), nn.ReLU())
        cells = (SIDE // 2 ** len(widths)) ** 2
        state = 6 * NUM_JOINTS + NUM_BETAS
        self.improve = nn.Sequential(
            nn.Linear(FEATURES * cells + state, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, state),
        )
        self.register_buffer("mean_pose", MeanParameters.packaged().pose)

    def forward(self, seen: Float[Tensor, "people channels 64 64"]) -> list[tuple[Tensor, Tensor]]:
        """Rotations and betas of each round; the last one's are the answer."""
        with torch.autocast("cpu", torch.bfloat16):
            features = self.trunk(seen.to(memory_format=torch.channels_last))
        state = torch.cat([self.mean_pose, self.mean_pose.new_zeros(NUM_BETAS)]).expand(len(seen), -1)
        answers = []
        for _ in range(ROUNDS):
            state = state + self.improve(torch.cat([features.float(), state], 1))
            six, betas = state.split((6 * NUM_JOINTS, NUM_BETAS), 1)
            answers.append((rot6d_to_rotmat(six.unflatten(1, (NUM_JOINTS, 6))), betas))
        return answers


def loss_of(rotations: Tensor, betas: Tensor, true: Learned, points: BodyPoints) -> tuple[Tensor, Tensor]:
    """The learned start's losses, but for what takes a camera; and the limbs' mean distance, metres."""
    frames, joints, marks = points(rotations, betas)
    true_frames, true_joints, true_marks = points(true.rotations, true.betas)
    weights, apart = LossWeights(), (joints - true_joints).norm(dim=-1)
    limbs = apart[:, list(LIMB_JOINTS)].mean()
    turns = (rotations - true.rotations).abs().mean() + (frames - true_frames).abs().mean()
    loss = weights.joints * 0.5 * (apart.mean() + limbs) + weights.keypoints * (marks - true_marks).norm(dim=-1).mean()
    return loss + weights.rotations * turns + weights.betas * (betas - true.betas).square().mean(), limbs.detach()


_BATCH, _RATE, _WARMUP, _DECAY = 64, 1e-3, 200, 0.998


def train(file: Path, steps: int, out: Path) -> None:
    """One training for all subsets; the weights' running average is written."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    everybody, points, network = read_prepared(file), BodyPoints(shared_body()), ProxyNetwork(*WIDTHS)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=1e-2)
    learning = Learning(network, optimizer, steps, _WARMUP, _DECAY)
    began = time.monotonic()
    for step in range(steps):
        people = everybody[torch.randint(len(everybody.betas), (_BATCH,), generator=draw)]
        people = choose(torch.rand(_BATCH, generator=draw) < 0.5, mirrored(people), people)
        subset = torch.randint(len(SUBSETS), (_BATCH,), generator=draw)
        answers = network(channels(corrupted(people.proxies, draw), KEPT[subset]))
        each = [loss_of(rotations, betas, people, points) for rotations, betas in answers]
        loss = torch.stack([one for one, _ in each]).mean()
        learning.step(loss)
        if step % 100 == 0:
            told = {"step": step, "loss": float(loss.detach()), "limbs_mm": 1000 * float(each[-1][1])}
            print(json.dumps(told | {"seconds": round(time.monotonic() - began)}), flush=True)
    write_network(out, learning.average, WIDTHS)


# ---- how good it is


def answered(network: ProxyNetwork, seen: Proxies, kept: Tensor, people: Sequence[PersonInPhoto]) -> Answered:
    """Bodies by a subset of the proxies, where their keypoints are seen."""
    with torch.no_grad():
        rotations, betas = network(channels(seen, kept.expand(len(people), -1)))[-1]
    pose = rotmat_to_rotvec(turned(towards(seen.ray).mT, rotations)).flatten(1)
    unplaced = BodyParameters(pose, betas, torch.zeros(len(people), 3))
    cameras, keypoints = stack([p.camera for p in people]), torch.stack([p.keypoints for p in people])
    points = unplaced.keypoints_by(shared_body(), BLAZEPOSE33.name)
    transl = translation_to_see(points, keypoints[..., :2], keypoints[..., 2], cameras)
    bodies = Bodies.of(replace(unplaced, transl=transl), cameras)
    return of_bodies([Estimate(bodies=bodies[i]) for i in range(len(people))], people)


def proxies_in_photo(person: PersonInPhoto) -> Proxies | None:
    """Of a person whom the finder has found."""
    assert person.image is not None
    center = person.camera.principal_point.double().numpy()
    return proxies_of(person.image, person.keypoints.double().numpy(), float(person.camera.focal_length), center)


@dataclass(frozen=True)
class Row:
    """Of the table: millimetres."""

    name: str
    pa_mpjpe: float
    median: float
    mpjpe: float
    fitted_pa_mpjpe: float
    fitted_median: float
    fitted_mpjpe: float


def row_of(name: str, alone: Answered, then_fitted: Answered, true: Tensor) -> Row:
    numbers = []
    for answer in (alone, then_fitted):
        aligned, plain = errors(answer.points, true)
        numbers += [float(np.nanmean(aligned)), float(np.nanmedian(aligned)), float(np.nanmean(plain))]
    return Row(name, *numbers)


def judge(run: Path, folder: Path, count: int, out: Path) -> None:
    """Print the table of all subsets, the learned start, and its mean with the best of them; and write it."""
    network = read_network(run, ProxyNetwork, sizes=len(WIDTHS), largest=1024)
    shown, began = shown_in(folder, count, out.parent), time.monotonic()
    looked = [(s, p) for s in shown if (p := proxies_in_photo(s.person)) is not None]
    people, true = [s.person for s, _ in looked], torch.stack([s.joints for s, _ in looked])
    seen, ready = stack([p for _, p in looked]), time.monotonic()
    answers = {" + ".join(n): answered(network, seen, kept, people) for n, kept in zip(SUBSETS, KEPT, strict=True)}
    took = [1000 * s / len(shown) for s in (ready - began, (time.monotonic() - ready) / len(SUBSETS))]
    print(f"{len(people)} of {len(shown)} people; proxies take {took[0]:.0f} ms a person, an answer {took[1]:.1f} ms")
    rows = [row_of(name, answer, fitted(answer, people, own=False), true) for name, answer in answers.items()]
    start = of_bodies(LearnedStart(shared_body()).estimate(people), people)
    best = min(rows, key=lambda row: row.pa_mpjpe).name
    mean = mean_of([start, answers[best]])
    rows += [
        row_of("learned start", start, fitted(start, people, own=True), true),
        row_of(f"mean of the start and {best}", mean, fitted_to_points(mean, start, people, 0.03), true),
    ]
    table = Table("proxies", "alone: PA-MPJPE", "median", "MPJPE", "fitted: PA-MPJPE", "median", "MPJPE")
    for row in rows:
        name, *numbers = asdict(row).values()
        table.add_row(name, *(f"{number:.1f}" for number in numbers))
    Console(width=150).print(table)
    write_file(out, "".join(json.dumps(asdict(row)) + "\n" for row in rows).encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing, training, judging = (commands.add_parser(name) for name in ("prepare", "train", "judge"))
    preparing.add_argument("folder", type=Path)
    preparing.add_argument("--people", type=int, default=6000)
    training.add_argument("file", type=Path)
    training.add_argument("--steps", type=int, default=4000)
    judging.add_argument("run", type=Path)
    judging.add_argument("folder", type=Path)
    judging.add_argument("--people", type=int, default=400)
    for command in (preparing, training, judging):
        command.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.command == "prepare":
        prepare(given.folder, given.people, given.out)
    elif given.command == "train":
        train(given.file, given.steps, given.out)
    else:
        judge(given.run, given.folder, given.people, given.out)


if __name__ == "__main__":
    main()
