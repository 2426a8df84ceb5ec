"""Pictures with people whose places are known, pictures with nobody, and the finders that are judged on them."""

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from kouros.body.keypoints import COCO17, MPI_INF_3DHP17
from kouros.data.mocap.recombination import PoseBank, read_bank
from kouros.data.synthetic.crowds import Crowd, Seen, coco_flesh, draw_crowd, draw_nobody, picture, seen_people
from kouros.data.synthetic.draw import Stage
from kouros.detection import DetectedPerson, PoseDetector, find_people, landmarks_in_boxes, read_coco
from kouros.detection.people import box_around
from kouros.detection.person_detector import Candidate
from kouros.detection.regions import Pyramid, covering_regions
from kouros.evaluation.metrics.detection import LIMBS, FoundPerson, TruePerson, on_coco17, unknown_points
from kouros.files import write_file

_BESIDE = Path(__file__).parents[1]
SAMPLES = Path(__file__).parents[3] / "shared" / "data"
CACHE = Path.home() / ".cache" / "kouros-benchmarks"
SEEDS = {"A": 101, "B": 202}
"""Renders to choose thresholds on, and renders to report on; their poses are of different splits of the recordings."""
RENDERS = 240
_DRAWN = 2
"""Raised when the same seed comes to mean other pictures, so that nothing old is taken from the cache."""
_JPEG_QUALITY = 95
# Who must be found in renders: whoever a person looking at the picture would surely see.
_SMALLEST, _FEWEST_VISIBLE, _MOST_HIDDEN = 32.0, 6, 0.6


@dataclass(frozen=True, eq=False)
class Example:
    """One picture and who is in it."""

    group: str
    """Of pictures that are reported together."""
    path: Path
    people: tuple[TruePerson, ...] = ()

    def image(self) -> np.ndarray:
        """(height, width, 3), RGB, uint8."""
        return np.asarray(Image.open(self.path).convert("RGB"))


def renders(split: str, count: int, samples: Path, cache: Path) -> list[Example]:
    """Pictures of crowds, all postures, all sizes; made where the cache does not hold them yet (half a second each)."""
    return _drawn(draw_crowd, f"renders {split}", split, count, samples, cache)


def renders_of_nobody(split: str, count: int, samples: Path, cache: Path) -> list[Example]:
    """Rooms, things, and mannequins' arms and legs."""
    return _drawn(draw_nobody, f"nobody: renders {split}", split, count, samples, cache)


def _drawn(draw: Callable[..., Crowd], group: str, split: str, count: int, samples: Path, cache: Path) -> list[Example]:
    mocap = samples / "mocap" / "diverse_frames.npz"
    bank = None
    poses = "packaged"
    if mocap.is_file():
        poses = hashlib.sha256(mocap.read_bytes()).hexdigest()[:8]
        bank = read_bank(mocap, "train" if split == "A" else "val")
    folder = cache / f"{draw.__name__}-{_DRAWN}-{SEEDS[split]}-{poses}"
    missing = [k for k in range(count) if not (folder / f"{k:05d}.json").is_file()]
    if missing:
        print(f"drawing {len(missing)} pictures into {folder}", file=sys.stderr)
        _render(draw, SEEDS[split], missing, folder, bank)
    return [Example(group, folder / f"{k:05d}.jpg", _read_people(folder / f"{k:05d}.json")) for k in range(count)]


def _render(draw: Callable[..., Crowd], seed: int, indices: list[int], folder: Path, bank: PoseBank | None) -> None:
    torch.set_num_threads(1)
    stage = Stage()
    flesh = coco_flesh(stage.body)
    for k in indices:
        crowd = draw(seed, k, stage.body, bank)
        coded = cv2.imencode(".jpg", picture(stage, crowd)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[
            1
        ].tobytes()
        people = [] if crowd.shown is not None else seen_people(stage, crowd, flesh)
        rows = [_row(seen, crowd, len(people)) for seen in people if seen.box.any()]
        write_file(folder / f"{k:05d}.jpg", coded)
        write_file(folder / f"{k:05d}.json", json.dumps(rows).encode())


def _row(seen: Seen, crowd: Crowd, people: int) -> dict[str, object]:
    size = float((seen.box[2:] - seen.box[:2]).max())
    counts = size >= _SMALLEST and seen.visible.sum() >= _FEWEST_VISIBLE and seen.hidden <= _MOST_HIDDEN
    edges = (60, 120, 240, 480)
    limits = (0, *edges, None)
    bin_ = int(np.searchsorted(edges, size, side="right"))
    tags = [
        f"kind: {crowd.kind}",
        f"posture: {seen.posture}",
        f"size: {limits[bin_]} to {limits[bin_ + 1]} px" if limits[bin_ + 1] else f"size: over {limits[bin_]} px",
        "head: up" if seen.upright < 45 else "head: sideways" if seen.upright < 135 else "head: down",
        "hidden: over a fifth" if seen.hidden > 0.2 else "hidden: no",
        "in the picture: wholly" if seen.inside > 0.97 else
        "in the picture: mostly" if seen.inside > 0.6 else "in the picture: partly",
    ]  # fmt: skip
    return {
        "box": seen.box.tolist(),
        "keypoints": np.round(seen.keypoints, 2).tolist(),
        "visible": seen.visible.tolist(),
        "counts": bool(counts),
        "tags": tags,
        "hidden": round(seen.hidden, 3),
        "inside": round(seen.inside, 3),
    }


def _read_people(path: Path) -> tuple[TruePerson, ...]:
    return tuple(
        TruePerson(
            box=np.array(row["box"], dtype=np.float64),
            keypoints=np.array(row["keypoints"], dtype=np.float64),
            visible=np.array(row["visible"], dtype=bool),
            counts=row["counts"],
            tags=tuple(row["tags"]),
        )
        for row in json.loads(path.read_text())
    )


def photos_with_boxes(listed: Path, samples: Path) -> list[Example]:
    """Photos whose people somebody wrote down by eye as boxes.

    The file says: ``{"folder": ..., "photos": {name: [{"box": [x0, y0, x1, y1], "main": true, "seen": "whole"}]}}``;
    ``seen`` is whole, cut, occluded or background. Background people need not be found.
    """
    content = json.loads(listed.read_text())
    folder = samples / content["folder"]
    examples = []
    for name, rows in content["photos"].items():
        people = tuple(
            _boxed(
                row["box"],
                f"seen: {row['seen']}",
                *(("main person",) if row.get("main") else ()),
                counts=row["seen"] != "background",
            )
            for row in rows
        )
        examples.append(Example(content["folder"], folder / name, people))
    return [e for e in examples if e.path.is_file()]


def coco_sample(samples: Path) -> list[Example]:
    """COCO's two photos with their annotated people; one who has a box alone, 11 pixels wide, may be missed."""
    folder = samples / "coco_sample"
    if not folder.is_dir():
        return []
    content = json.loads((folder / "annotations.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    boxes_alone: dict[str, list[TruePerson]] = {name: [] for name in names.values()}
    for row in content["annotations"]:
        if not row["num_keypoints"]:
            x, y, width, height = row["bbox"]
            boxes_alone[names[row["image_id"]]].append(_boxed([x, y, x + width, y + height], counts=False))
    examples = []
    for name, people in read_coco(folder / "annotations.json").items():
        truth = []
        for person in people:
            known = person.keypoints_2d[:, 2] > 0
            points = np.where(known[:, None], person.keypoints_2d[:, :2], np.nan)
            truth.append(TruePerson(person.box, points, person.keypoints_2d[:, 2] == 1, tags=("annotated",)))
        examples.append(Example("coco_sample", folder / name, (*truth, *boxes_alone[name])))
    return examples


def _boxed(box: Sequence[float], *tags: str, counts: bool = True) -> TruePerson:
    """Somebody known by a box alone."""
    nowhere = np.zeros(len(COCO17), dtype=bool)
    return TruePerson(np.array(box, dtype=np.float64), unknown_points(), nowhere, counts, tags)


_BYSTANDERS = {"cam01": (0, 288, 132, 768), "cam02": (745, 475, 872, 850)}
"""By eye: a woman at the wall in ten of the multi-view photos, who is not annotated."""


def multiview_sample(samples: Path) -> list[Example]:
    """Two people seen by four cameras at five moments, with their limbs' points in the picture, all taken as visible.

    The box is around them, a twentieth wider on all sides, and around the top of the head, which is taken to lie
    0.64 of the trunk's length beyond the shoulders, as on the free body upright. A bystander may be found or missed.
    """
    folder = samples / "multiview_sample"
    if not folder.is_dir():
        return []
    rows = np.load(folder / "annotations.npz")
    names = [str(n) for n in rows["joint_names"]]
    people: dict[str, list[TruePerson]] = {}
    for image, joints in zip(rows["image"], rows["joints_2d"], strict=True):
        points = _limbs_of(joints, names)
        shoulders, hips = points[5:7].mean(axis=0), points[11:13].mean(axis=0)
        people.setdefault(str(image), []).append(_of_limbs(points, [shoulders + 0.64 * (shoulders - hips)]))
    for name, them in people.items():
        camera = name.split("_")[0]
        if camera in _BYSTANDERS:
            them.append(_boxed(_BYSTANDERS[camera], counts=False))
    return [Example("multiview_sample", folder / name, tuple(them)) for name, them in sorted(people.items())]


def mpi_inf_3dhp_sample(samples: Path) -> list[Example]:
    """Two frames of one person each, with the limbs' points in the picture, all taken as visible."""
    folder = samples / "mpi_inf_3dhp_sample"
    if not folder.is_dir():
        return []
    rows = np.load(folder / "annotations.npz")
    return [
        Example(
            "mpi_inf_3dhp_sample",
            folder / str(name),
            (_of_limbs(_limbs_of(joints[:, :2], MPI_INF_3DHP17.names), joints[:, :2]),),
        )
        for name, joints in zip(rows["imgname"], rows["part"], strict=True)
    ]


def _limbs_of(joints: np.ndarray, names: Sequence[str]) -> np.ndarray:
    points = unknown_points()
    for name in LIMBS:
        points[COCO17.index(name)] = joints[names.index(name)]
    return points


def _of_limbs(points: np.ndarray, others: Sequence[np.ndarray]) -> TruePerson:
    """Somebody whose limbs are known, in a box around them and other points."""
    known = np.isfinite(points).all(axis=1)
    outline = np.vstack([points[known], *others])
    low, high = np.nanmin(outline, axis=0), np.nanmax(outline, axis=0)
    pad = 0.05 * float((high - low).max())
    return TruePerson(np.concatenate([low - pad, high + pad]), points, known, tags=("limbs known",))


NOBODY_IN = {
    "skimage": ("data", (
        "brick.png", "cell.png", "chelsea.png", "chessboard_GRAY.png", "chessboard_RGB.png", "clock_motion.png",
        "coffee.png", "color.png", "grass.png", "gravel.png", "horse.png", "hubble_deep_field.jpg",
        "ihc.png", "logo.png", "microaneurysms.png", "moon.png", "motorcycle_left.png", "motorcycle_right.png",
        "page.png", "phantom.png", "retina.jpg", "rocket.jpg", "text.png",
    )),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "matplotlib": ("mpl-data/sample_data", ("Minduka_Present_Blue_Pack.png", "logo2.png")),
}  # fmt: skip
"""Pictures without people that packages ship: where, by package. Looked at one by one; coins with heads stay out."""
_PORTRAITS = {
    "skimage": ("data", {"astronaut.png": (20, 12, 365, 512), "camera.png": (0, 62, 332, 512)}),
    "matplotlib": ("mpl-data/sample_data", {"grace_hopper.jpg": (30, 22, 512, 600)}),
}
"""Pictures of one person, with a box by eye."""


def packaged_pictures_of_nobody() -> list[Example]:
    """Those of the packages that are installed; a line says which are not."""
    return [
        Example("nobody: packages", path)
        for package, (folder, names) in NOBODY_IN.items()
        for path in _packaged(package, folder, names)
    ]


def packaged_portraits() -> list[Example]:
    """As `packaged_pictures_of_nobody`, but of one person each, whom the picture's edge cuts."""
    return [
        Example("portraits", path, (_boxed(boxes[path.name], "seen: cut", "main person"),))
        for package, (folder, boxes) in _PORTRAITS.items()
        for path in _packaged(package, folder, tuple(boxes))
    ]


def _packaged(package: str, folder: str, names: Sequence[str]) -> list[Path]:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        print(f"skipped the pictures of {package}: it is not installed", file=sys.stderr)
        return []
    root = Path(found.submodule_search_locations[0]) / folder
    return [root / name for name in names if (root / name).is_file()]


SETS = ("renders-A", "renders-B", "nobody-A", "nobody-B", "portraits", "sports", "photos", "coco", "3dhp", "multiview")
DEFAULT_SETS = tuple(name for name in SETS if not name.endswith("-A"))


def examples_of(name: str, pictures: int, samples: Path, cache: Path) -> list[Example]:
    """The pictures of one of `SETS`; none, with a line, where they are missing."""
    examples = _examples_of(name, pictures, samples, cache)
    if not examples:
        print(f"skipped {name}: no pictures below {samples}", file=sys.stderr)
    return examples


def _examples_of(name: str, pictures: int, samples: Path, cache: Path) -> list[Example]:
    split = name[-1]
    if name.startswith("renders"):
        return renders(split, pictures, samples, cache)
    if name.startswith("nobody"):
        drawn = renders_of_nobody(split, max(1, pictures // 4), samples, cache)
        return drawn + (packaged_pictures_of_nobody() if split == "B" else [])
    if name == "portraits":
        return packaged_portraits()
    if name == "sports":
        return photos_with_boxes(_BESIDE / "sports_photos.json", samples)
    if name == "photos":
        return photos_with_boxes(_BESIDE / "photos.json", samples)
    return {"coco": coco_sample, "3dhp": mpi_inf_3dhp_sample, "multiview": multiview_sample}[name](samples)


@dataclass(frozen=True, eq=False)
class Finder:
    """Something that finds people; some also say where the keypoints are of people whose boxes they are given."""

    name: str
    find: Callable[[np.ndarray], Sequence[DetectedPerson]]
    in_boxes: Callable[[np.ndarray, np.ndarray], Sequence[DetectedPerson | None]] | None = None
    """In the order of the boxes; None where it sees nobody in a box."""


class Missing(Exception):
    """A finder that this installation does not have; says what is missing."""


def _kouros() -> Finder:
    return Finder("kouros", find_people, landmarks_in_boxes)


def _kouros_fast() -> Finder:
    return Finder(
        "kouros-fast",
        lambda image: find_people(image, tiles=False, crops=None),
        lambda image, boxes: landmarks_in_boxes(image, boxes, crops=None),
    )


def _person_detector() -> Finder:
    """MediaPipe's person detector alone on the whole picture, at its published threshold (0.5)."""
    detector = PoseDetector()

    def find(image: np.ndarray) -> list[DetectedPerson]:
        pyramid = Pyramid(np.ascontiguousarray(image))
        whole = covering_regions(pyramid.width, pyramid.height)[0]
        return [_as_person(candidate, pyramid) for candidate in detector.detect(pyramid, whole)]

    return Finder("mediapipe-person-detector", find)


def _as_person(candidate: Candidate, image: Pyramid) -> DetectedPerson:
    """Shoulders and hips from the two middles that it marks; the box is half as wide as its circle around the body."""
    points = np.column_stack([unknown_points(), np.zeros(len(COCO17))])
    for name, place in (("hip", 0), ("shoulder", 2)):
        for side in ("left", "right"):
            points[COCO17.index(f"{side}_{name}")] = [*candidate.points[place], 1.0]
    hips, above = candidate.points[:2]
    along, across = above - hips, 0.5 * (above - hips)[::-1] * [1, -1]
    corners = hips + np.array([along + across, along - across, -along + across, -along - across])
    limit = [image.width, image.height]
    box = np.concatenate([np.clip(corners.min(axis=0), 0, limit), np.clip(corners.max(axis=0), 0, limit)])
    return DetectedPerson(box, points, "coco17", candidate.score)


def _mediapipe() -> Finder:
    """MediaPipe Pose as its package runs it on photos (the full model): one person a picture, the most prominent.

    Given boxes, it looks at squares around them, of one and a half times the longer side.
    """
    try:
        import mediapipe
    except ImportError:
        raise Missing("MediaPipe is not installed: pip install mediapipe==0.10.21") from None
    pose = mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1)

    def find(image: np.ndarray) -> list[DetectedPerson]:
        found = pose.process(np.ascontiguousarray(image)).pose_landmarks
        return [] if found is None else [_of_landmarks(found.landmark, image)]

    def in_boxes(image: np.ndarray, boxes: np.ndarray) -> list[DetectedPerson | None]:
        people: list[DetectedPerson | None] = []
        for box in boxes:
            half = 0.75 * float((box[2:] - box[:2]).max())
            left, top = (max(0, round(float(v) - half)) for v in (box[:2] + box[2:]) / 2)
            right, bottom = (round(float(v) + half) for v in (box[:2] + box[2:]) / 2)
            by = np.array([left, top, 0.0])
            found = find(image[top:bottom, left:right])
            moved = [replace(p, box=p.box + by[[0, 1, 0, 1]], keypoints_2d=p.keypoints_2d + by) for p in found]
            people.append(moved[0] if moved else None)
        return people

    return Finder("mediapipe", find, in_boxes)


def _of_landmarks(landmarks: Any, image: np.ndarray) -> DetectedPerson:
    height, width = image.shape[:2]
    points = np.array([(p.x * width, p.y * height, p.visibility) for p in landmarks])
    return DetectedPerson(box_around(points, width, height), points, "blazepose33", float(points[:, 2].mean()))


def _multipose() -> Finder:
    """MoveNet MultiPose alone on the whole picture."""
    try:
        movenet = importlib.import_module("kouros.detection.movenet")
    except ImportError:
        raise Missing("this version of kouros has no kouros.detection.movenet") from None
    find = getattr(movenet, "multipose_people", None)
    if find is None:
        raise Missing("kouros.detection.movenet has no multipose_people(image) -> list[DetectedPerson]")
    return Finder("multipose", find)


FINDERS: dict[str, Callable[[], Finder]] = {
    "kouros": _kouros,
    "kouros-fast": _kouros_fast,
    "mediapipe-person-detector": _person_detector,
    "mediapipe": _mediapipe,
    "multipose": _multipose,
}
"""By name; a new finder is one line here."""


def finders(names: Sequence[str]) -> list[Finder]:
    """Those of the given names that can be had; a line says what is missing for the others."""
    had = []
    for name in names:
        if name not in FINDERS:
            raise SystemExit(f"There is no finder {name!r}; there are: {', '.join(FINDERS)}.")
        try:
            had.append(FINDERS[name]())
        except Missing as missing:
            print(f"skipped {name}: {missing}", file=sys.stderr)
    return had


def as_found(person: DetectedPerson) -> FoundPerson:
    """In the terms of the measures."""
    points = on_coco17(np.asarray(person.keypoints_2d, dtype=np.float64), person.keypoint_set)
    return FoundPerson(np.asarray(person.box, dtype=np.float64), points[:, :2], points[:, 2], float(person.score))
