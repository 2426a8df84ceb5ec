"""A small CNN on proxies as a start: would edges, heatmaps, silhouette and parts tell more than points?

    kouros synthesize --out people --mocap MOCAP --people 16000 --size 288 --seed 280001 --athletic 0.25 \
        --wardrobe ASSETS --images --detections
    python benchmarks/proxies.py prepare people --people 5000 --out proxies.npz
    python benchmarks/proxies.py train proxies.npz --steps 4000 --out proxies.pt
    python benchmarks/proxies.py judge proxies.pt LOOK_B --people 400 --out proxies.json

As published systems that learn from renders do it (Sengupta et al., BMVC 2020 and ICCV 2021): a residual network on the
stack of proxies, 64 x 64, then HMR's iterative regressor with 6D rotations. All proxies are what kouros's front end
makes of pictures, in training as on photos: Canny's edges; heatmaps of COCO's points, as sure as the finder is of them;
BlazePose's mask; the parts of Neural Body Fitting's first stage. Corrupted as published. One training, in which every
subset of the four comes equally often, serves all subsets. LOOK_B as for `benchmarks/default.py`.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from default import Answered, Shown, errors, fitted, fitted_to_points, mean_of, of_bodies, shown_in
from kouros.archives import read_all_npz
from kouros.body.files import shared_body
from kouros.body.keypoints import BLAZEPOSE33, COCO17
from kouros.body.parameters import Bodies, BodyParameters
from kouros.body.skeleton import MIRROR
from kouros.body.surface.parts import part_set
from kouros.data.crops import CropTransform
from kouros.data.detections import DetectionSource
from kouros.data.synthetic.source import SyntheticSource
from kouros.detection import PoseDetector
from kouros.detection.find import default_detector
from kouros.detection.fusion import SHARED
from kouros.detection.people import PersonMask
from kouros.detection.places import landmark_region
from kouros.detection.regions import Pyramid
from kouros.files import npz_bytes, write_file
from kouros.fitting.schedules.placement import translation_to_see
from kouros.geometry.rotations import mirror_rotmat, rotmat_to_rotvec, rotvec_to_rotmat
from kouros.networks.hmr_regressor import HmrRegressor
from kouros.systems.chain import Chain
from kouros.systems.estimator import Estimate
from kouros.systems.lifter import LIMB_JOINTS, BodyPoints, LearnedStart, look_at
from kouros.systems.nbf import Parts
from kouros.systems.table import SYSTEMS
from kouros.training.runs import load_run

SIDE = 64
ROOM = 1.3
"""Side of the square over the extent of the keypoints."""
SEEN = 0.2
GROUPS = ("edges", "heatmaps", "silhouette", "parts")
SUBSETS = [names for count in range(1, 5) for names in combinations(GROUPS, count)]
WIDTHS = (32, 64, 128, 256)
SIGMA = 1.5
"""Of the heatmaps, pixels of 64."""


# ---- what is shown


@cache
def parts_network() -> Parts:
    """Neural Body Fitting's first stage."""
    folder = SYSTEMS["nbf"].packaged
    assert folder is not None
    chain = load_run(folder, shared_body())
    assert isinstance(chain, Chain)
    first = chain.stages[0]
    assert isinstance(first, Parts)
    return first


def square_of(keypoints: np.ndarray) -> CropTransform | None:
    """Around the points that are seen; None where they are too few."""
    seen = keypoints[keypoints[:, 2] > SEEN, :2]
    if len(seen) < 3 or float(np.ptp(seen, axis=0).max()) < 4:
        return None
    low, high = seen.min(axis=0), seen.max(axis=0)
    return CropTransform((low + high) / 2, ROOM * float((high - low).max()), SIDE)


def proxies_of(pixels: np.ndarray, keypoints: np.ndarray, detector: PoseDetector) -> dict[str, np.ndarray] | None:
    """Of one person, from COCO's points in the picture; None where too few are seen."""
    square, region = square_of(keypoints), landmark_region(keypoints[:, :2], keypoints[:, 2])
    if square is None or region is None:
        return None
    look = detector.look(Pyramid(pixels), region)
    mask = PersonMask.from_logits(look.mask_logits, look.region).in_image(*pixels.shape[:2])
    silhouette = square.image(np.repeat(mask[..., None], 3, axis=-1))[..., 0]
    network = parts_network()
    larger = replace(square, size=network.crop_size).image(pixels)
    labels = network.probabilities(torch.from_numpy(larger).permute(2, 0, 1)[None].float() / 255)[0].argmax(0)
    edges = cv2.Canny(cv2.GaussianBlur(replace(square, size=2 * SIDE).image(pixels), (3, 3), 0), 60, 150)
    return {
        "edges": edges.reshape(SIDE, 2, SIDE, 2).max(axis=(1, 3)),
        "silhouette": silhouette,
        "parts": labels.numpy().astype(np.uint8),
        "keypoints": np.column_stack([square.points(keypoints[:, :2]), keypoints[:, 2]]).astype(np.float32),
    }


def shown(people: dict[str, Tensor], kept: Tensor) -> Tensor:
    """(people, channels, 64, 64): the proxies that are kept, of `GROUPS`; zeros in place of others."""
    centers = torch.arange(SIDE) + 0.5
    points = people["keypoints"]
    across = torch.exp(-0.5 * ((centers - points[..., :1]) / SIGMA) ** 2)
    down = torch.exp(-0.5 * ((centers - points[..., 1:2]) / SIGMA) ** 2) * points[..., 2:]
    stacks = {
        "edges": people["edges"][:, None].float() / 255,
        "heatmaps": down[..., :, None] * across[..., None, :],
        "silhouette": people["silhouette"][:, None].float() / 255,
        "parts": nn.functional.one_hot(people["parts"].long(), num_labels())[..., 1:].permute(0, 3, 1, 2).float(),
    }
    return torch.cat([stacks[name] * kept[:, k, None, None, None] for k, name in enumerate(GROUPS)], 1)


def num_labels() -> int:
    return 1 + len(parts_network().parts)


# ---- to learn from


def prepare(folder: Path, count: int, out: Path) -> None:
    """Proxies of the first people of a folder whom the finder has found, and their poses before the square."""
    source, detections = SyntheticSource(folder), DetectionSource(folder / "detections").all
    rows = {np.asarray(source.sample(row).pose, np.float32).tobytes(): row for row in range(len(source))}
    kept: list[dict[str, np.ndarray]] = []
    for k in range(len(detections.betas)):
        row = rows.get(detections.pose[k].numpy().tobytes())
        if row is None or len(kept) == count:
            continue
        focal, _, *center = np.asarray(source.sample(row).intrinsics, dtype=np.float64).tolist()
        points = detections.keypoints[k, SHARED].numpy().astype(np.float64)
        points[:, :2] = points[:, :2] * focal + center
        found = proxies_of(source.image(row), points, default_detector())
        square = square_of(points)
        if found is None or square is None:
            continue
        ray = np.append((square.center - center) / focal, 1.0).astype(np.float32)
        kept.append(found | {"pose": detections.pose[k].numpy(), "betas": detections.betas[k].numpy(), "ray": ray})
    write_file(out, npz_bytes({name: np.stack([k[name] for k in kept]) for name in kept[0]}))
    print(f"{out}: {len(kept)} people")


def corrupted(people: dict[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
    """As published: joints moved, lost and exchanged, limbs' parts lost, a box lost from all, the square jittered."""
    count = len(people["pose"])

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=draw)

    points = people["keypoints"].clone()
    points[..., :2] += (uniform(17, 2) - 0.5) * 2 * 8 / 256 * SIDE
    points[..., 2] *= uniform(17) > 0.1
    swapped = points[:, list(COCO17.mirror)]
    points = torch.where((uniform(17) < 0.1)[..., None], swapped, points)
    lost = uniform(num_labels()) < 0.08
    lost[:, 0] = False
    parts = torch.where(lost.gather(1, people["parts"].long().flatten(1)).view_as(people["parts"]), 0, people["parts"])
    corner = (uniform(2) * SIDE).long()
    inside = (torch.arange(SIDE)[None, None] - corner[..., None]).abs() < 48 / 256 * SIDE / 2
    box = (inside[:, 1, :, None] & inside[:, 0, None, :]) & (uniform(1, 1) < 0.3)
    maps = {name: torch.where(box, 0, people[name]) for name in ("edges", "silhouette")} | {
        "parts": torch.where(box, 0, parts)
    }
    scale = 0.7 + 0.5 * uniform()
    shift = 0.1 * (uniform(2) - 0.5)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = 2 * shift
    grid = nn.functional.affine_grid(theta, [count, 1, SIDE, SIDE], align_corners=False)
    moved = {
        name: nn.functional.grid_sample(image[:, None].float(), grid, mode="nearest", align_corners=False)[:, 0]
        for name, image in maps.items()
    }
    middle = SIDE / 2
    points[..., :2] = (points[..., :2] - middle - shift[:, None] * SIDE) / scale[:, None, None] + middle
    return people | moved | {"keypoints": points}


def mirrored(people: dict[str, Tensor], where: Tensor) -> dict[str, Tensor]:
    """Some of them in a mirror."""
    labels = torch.tensor(part_set(parts_network().parts.name).mirror)
    points = people["keypoints"][:, list(COCO17.mirror)] * torch.tensor([-1.0, 1.0, 1.0])
    points[..., 0] += SIDE
    flipped = {
        "edges": people["edges"].flip(-1),
        "silhouette": people["silhouette"].flip(-1),
        "parts": labels[people["parts"].long()].flip(-1).to(people["parts"]),
        "keypoints": points,
        "rotations": mirror_rotmat(people["rotations"][:, list(MIRROR)]),
    }
    return people | {
        name: torch.where(where.view(-1, *(1,) * (image.ndim - 1)), image, people[name])
        for name, image in flipped.items()
    }


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
        self.around = nn.Identity() if stride == 1 and before == after else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.way(x) + self.around(x))


class ProxyNetwork(nn.Module):
    """From proxies to bodies in the axes of a camera that looks at the square's middle."""

    def __init__(self) -> None:
        super().__init__()
        channels = 2 + len(COCO17) + num_labels() - 1
        widths = (channels, *WIDTHS)
        blocks = [
            block
            for before, after in zip(widths, WIDTHS, strict=False)
            for block in (Block(before, after, 2), Block(after, after, 1))
        ]
        self.trunk = nn.Sequential(*blocks)
        self.regressor = HmrRegressor(16 * WIDTHS[-1], dropout=0.3)

    def forward(self, shown_maps: Tensor) -> tuple[Tensor, Tensor]:
        """Rotations and betas."""
        answer = self.regressor(self.trunk(shown_maps).flatten(1))[-1]
        return answer.rotations, answer.betas


def train(file: Path, steps: int, out: Path, batch: int = 64) -> None:
    """One training for all subsets; seed 0."""
    torch.manual_seed(0)
    draw = torch.Generator().manual_seed(0)
    everybody = {name: torch.from_numpy(array) for name, array in read_all_npz(file).items()}
    everybody["rotations"] = turned(rotvec_to_rotmat(everybody["pose"].unflatten(-1, (24, 3))), everybody["ray"])
    points, network = BodyPoints(shared_body()), ProxyNetwork()
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    for step in range(steps):
        chosen = torch.randint(len(everybody["pose"]), (batch,), generator=draw)
        people = {name: tensor[chosen] for name, tensor in everybody.items()}
        people = corrupted(mirrored(people, torch.rand(batch, generator=draw) < 0.5), draw)
        subset = torch.randint(len(SUBSETS), (batch,), generator=draw)
        rotations, betas = network(shown(people, KEPT[subset]))
        loss, apart = loss_of(rotations, betas, people, points)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        if step % 200 == 0:
            print(
                json.dumps({"step": step, "loss": float(loss.detach()), "joints_mm": 1000 * float(apart)}), flush=True
            )
    torch.save(averaged.module.state_dict(), out)


KEPT = torch.tensor([[name in names for name in GROUPS] for names in SUBSETS]).float()


def loss_of(rotations: Tensor, betas: Tensor, people: dict[str, Tensor], points: BodyPoints) -> tuple[Tensor, Tensor]:
    """As the learned start's losses, but for what takes a camera; and the limbs' mean distance, metres."""
    frames, joints, marks = points(rotations, betas)
    true_frames, true_joints, true_marks = points(people["rotations"], people["betas"])
    apart = (joints - true_joints).norm(dim=-1)
    limbs = apart[:, list(LIMB_JOINTS)].mean()
    turns = (rotations - people["rotations"]).abs().mean() + (frames - true_frames).abs().mean()
    shape = (betas - people["betas"]).square().mean()
    positions = 3.0 * (apart.mean() + limbs) + 3.0 * (marks - true_marks).norm(dim=-1).mean()
    return positions + turns + 0.02 * shape, limbs.detach()


def turned(rotations: Tensor, ray: Tensor) -> Tensor:
    """Roots as a camera sees them that looks along a ray."""
    look = look_at(nn.functional.normalize(ray, dim=-1))
    return torch.cat([(look @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)


# ---- judged


def answered(
    network: ProxyNetwork, people: Sequence[Shown], seen: list[dict[str, np.ndarray] | None]
) -> list[Answered]:
    """By each subset."""
    known = [k for k, proxies in enumerate(seen) if proxies is not None]
    stacked = {
        name: torch.from_numpy(np.stack([p[name] for p in seen if p is not None])) for name in (*GROUPS[::2], "edges")
    }
    stacked |= {
        name: torch.from_numpy(np.stack([p[name] for p in seen if p is not None])) for name in ("parts", "keypoints")
    }
    rays = []
    for k in known:
        person = people[k].person
        square = square_of(person.keypoints[SHARED].numpy().astype(np.float64))
        assert square is not None
        flat = (torch.from_numpy(square.center).float() - person.camera.principal_point) / person.camera.focal_length
        rays.append(torch.cat([flat, flat.new_ones(1)]))
    back = look_at(nn.functional.normalize(torch.stack(rays), dim=-1)).mT
    answers = []
    for kept in KEPT:
        with torch.no_grad():
            rotations, betas = network(shown(stacked, kept.expand(len(known), -1)))
        rotations = torch.cat([(back @ rotations[:, 0])[:, None], rotations[:, 1:]], 1)
        estimates: list[Estimate | None] = [None] * len(people)
        for i, k in enumerate(known):
            estimates[k] = placed(rotmat_to_rotvec(rotations[i]).flatten(), betas[i], people[k])
        answers.append(of_bodies(estimates, [p.person for p in people]))
    return answers


def placed(pose: Tensor, betas: Tensor, shown_person: Shown) -> Estimate:
    """A body where its keypoints are seen."""
    person = shown_person.person
    body = BodyParameters(pose[None], betas[None], torch.zeros(1, 3))
    keypoints = person.keypoints[None]
    points = body.keypoints_by(shared_body(), BLAZEPOSE33.name)
    camera = person.camera.map(lambda t: t[None])
    transl = translation_to_see(points, keypoints[..., :2], keypoints[..., 2], camera)
    return Estimate(bodies=Bodies.of(BodyParameters(pose, betas, transl[0]), person.camera))


def judge(run: Path, folder: Path, count: int, out: Path) -> None:
    """Print the table of all subsets, and the mean of the best with the learned start."""
    network = ProxyNetwork()
    network.load_state_dict(torch.load(run, weights_only=True))
    network.eval()
    people = shown_in(folder, count, out.parent)
    seen = []
    for one in people:
        assert one.person.image is not None
        points = one.person.keypoints[SHARED].numpy().astype(np.float64)
        seen.append(proxies_of(one.person.image, points, default_detector()))
    persons, true = [p.person for p in people], torch.stack([p.joints for p in people])
    rows: dict[str, Answered] = {}
    for names, answer in zip(SUBSETS, answered(network, people, seen), strict=True):
        rows[" + ".join(names)] = answer
        rows[" + ".join(names) + ", fitted"] = fitted(answer, persons, False)
    start = of_bodies(LearnedStart(shared_body()).estimate(persons), persons)
    rows["learned start"], rows["learned start, fitted"] = start, fitted(start, persons, True)
    mean = mean_of([start, rows[" + ".join(GROUPS)]])
    rows["mean of the start and all four"] = mean
    rows["mean of the start and all four, fitted"] = fitted_to_points(mean, start, persons, 0.03)
    table = Table("proxies", f"{len(people)} people: PA-MPJPE, mm", "median", "MPJPE")
    for name, answer in rows.items():
        aligned, plain = errors(answer.points, true)
        row = {"pa_mpjpe": np.nanmean(aligned), "median": np.nanmedian(aligned), "mpjpe": np.nanmean(plain)}
        table.add_row(name, *(f"{value:.1f}" for value in row.values()))
        print(json.dumps({"name": name} | {key: float(value) for key, value in row.items()}))
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare")
    preparing.add_argument("folder", type=Path)
    preparing.add_argument("--people", type=int, default=5000)
    training = commands.add_parser("train")
    training.add_argument("file", type=Path)
    training.add_argument("--steps", type=int, default=4000)
    judging = commands.add_parser("judge")
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
