"""What do readers make of damaged files? Each must read what is there, or refuse it in one sentence.

    python benchmarks/fuzz.py --inputs 10000 --seed 0

Makes a valid file of every kind that strangers bring, damages it (bytes; numbers, brackets and words of text;
members and headers of archives, with right checksums), and reads the result in a process that is watched. Prints,
kind by kind, how many were read and how many refused; and what must not be: other exceptions, numbers that are not
finite, crashes, more than 20 s, more than 2 GB. Input K of kind X follows from the seed alone; --keep has the files of
all that must not be.
"""

import argparse
import io
import json
import multiprocessing
import pickle
import resource
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from common import show

SECONDS = 20.0
GIGABYTES = 2.0
GOOD = ("read", "refused")


# --- Kinds: a valid file, and who reads it ----------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One kind of file."""

    suffix: str
    make: Callable[[np.random.Generator], bytes]
    read: Callable[[Path], Any]
    """Answers with arrays or what holds some: they must be finite."""


def _picture(format: str) -> Callable[[np.random.Generator], bytes]:
    def make(rng: np.random.Generator) -> bytes:
        from PIL import Image

        pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112], exif[0x920A] = int(rng.integers(1, 9)), 28.0
        buffer = io.BytesIO()
        options = {"exif": exif} if format in ("JPEG", "WEBP") else {}
        Image.fromarray(pixels).save(buffer, format, **options)
        return buffer.getvalue()

    return make


def _read_picture(path: Path) -> Any:
    from kouros.data.images import read_image

    return read_image(path).pixels


def _openpose(rng: np.random.Generator) -> bytes:
    people = [{"pose_keypoints_2d": rng.uniform(1, 400, 75).round(2).tolist()} for _ in range(2)]
    return json.dumps({"version": 1.3, "people": people}).encode()


def _coco(rng: np.random.Generator) -> bytes:
    def points() -> list[float]:
        return np.column_stack([rng.uniform(1, 400, (17, 2)).round(1), np.full(17, 2)]).ravel().tolist()

    images = [{"id": k, "file_name": f"{k}.jpg", "width": 640, "height": 480} for k in range(2)]
    people = [
        {"id": k, "image_id": k, "category_id": 1, "keypoints": points(), "bbox": [1, 2, 300, 300]} for k in (0, 1)
    ]
    return json.dumps({"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}).encode()


def _read_keypoints(path: Path) -> Any:
    from kouros.detection.keypoint_files import read_keypoints

    return [person.keypoints_2d for image in read_keypoints(path, image_size=(640, 480)) for person in image.people]


def _body(rng: np.random.Generator) -> dict[str, Any]:
    count = 80
    share = rng.random((24, count))
    parents = [2**32 - 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]
    weights = rng.random((count, 24))
    return {
        "v_template": rng.uniform(-1, 1, (count, 3)),
        "shapedirs": rng.normal(0, 0.01, (count, 3, 10)),
        "posedirs": rng.normal(0, 0.01, (count, 3, 207)),
        "J_regressor": share / share.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "f": rng.integers(0, count, (2 * count - 4, 3)).astype(np.uint32),
        "kintree_table": np.array([parents, range(24)], dtype=np.uint32),
    }


def _npz(make: Callable[[np.random.Generator], dict[str, Any]]) -> Callable[[np.random.Generator], bytes]:
    def made(rng: np.random.Generator) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **make(rng))
        return buffer.getvalue()

    return made


def _read_body(path: Path) -> Any:
    import kouros

    body = kouros.load_body(path)
    return [body.v_template, body.shapedirs, body.posedirs, body.weights]


def _motion(rng: np.random.Generator) -> dict[str, Any]:
    return {
        "poses": rng.normal(0, 0.3, (20, 156)),
        "trans": rng.normal(0, 1, (20, 3)),
        "betas": rng.normal(0, 1, 16),
        "gender": np.array("female"),
        "mocap_framerate": np.array(120.0),
    }


def _read_motion(path: Path) -> Any:
    from kouros.data.mocap.amass import read_amass

    motion = read_amass(path)
    return [motion.poses, motion.trans, np.array(motion.frame_rate)]


def _joints(rng: np.random.Generator) -> dict[str, Any]:
    return {"joints_3d": rng.normal(0, 0.5, (2, 17, 3)), "keypoint_set": np.array("coco17")}


def _read_joints(path: Path) -> Any:
    from kouros.pipeline.joints import read_joints

    return np.nan_to_num(read_joints(path).points.numpy())  # NaN stands for what is not known


def _calibration(rng: np.random.Generator) -> bytes:
    f, x, y = (round(float(v), 2) for v in rng.uniform((500, 300, 200), (900, 340, 260)))
    rows = [[f, 0.0, x], [0.0, f, y], [0.0, 0.0, 1.0]]
    return f'[cam]\nname = "a"\nsize = [640.0, 480.0]\nmatrix = {rows}\ndistortions = [-0.1, 0.01, 0.0, 0.0]\n'.encode()


def _read_calibration(path: Path) -> Any:
    from kouros.data.calibration_files import read_calibration

    camera = read_calibration(path)
    return np.array([*camera.focal_length, *camera.principal_point, *camera.distortion])


def _layout(rng: np.random.Generator) -> bytes:
    names = [
        "nose",
        "left_shoulder",
        "right_shoulder",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
    ]
    return json.dumps({"name": "mine", "points": rng.permutation(names).tolist()}).encode()


def _read_layout(path: Path) -> Any:
    from kouros.body.layouts import read_layout

    return np.array(len(read_layout(path)))


def _weights(rng: np.random.Generator) -> bytes:
    import torch

    from kouros.training.weights import Weights, save_weights

    tensors = {f"layer{k}.weight": torch.from_numpy(rng.normal(0, 1, (8, 8))).float() for k in range(3)}
    with tempfile.TemporaryDirectory() as folder:
        save_weights(Path(folder) / "weights.pt", Weights(system="spin", steps=3, tensors=tensors))
        return (Path(folder) / "weights.pt").read_bytes()


def _read_weights(path: Path) -> Any:
    from kouros.training.weights import read_weights

    return list(read_weights(path).tensors.values())


def _table(rng: np.random.Generator) -> bytes:
    from kouros.body.keypoints import COCO17
    from kouros.data.schema import Sample, TableInfo
    from kouros.data.tables import write_table

    samples = [
        Sample(f"{k}.jpg", box_center=rng.uniform(10, 90, 2), box_size=80.0, keypoints_2d=rng.uniform(0, 1, (17, 3)))
        for k in range(3)
    ]
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "t.parquet", TableInfo("toy", "train", ".", COCO17), samples)
        return (Path(folder) / "t.parquet").read_bytes()


def _read_table(path: Path) -> Any:
    from kouros.data.table_source import TableSource

    source = TableSource(path)
    return [source.sample(row).box_center for row in range(len(source))]


def _film(rng: np.random.Generator) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height = 64, 48
        for _ in range(6):
            pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels)):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()


def _read_film(path: Path) -> Any:
    from kouros.data.video import open_film

    return [frame.pixels for frame in open_film(path).frames()]


KINDS = {
    "JPEG": Kind(".jpg", _picture("JPEG"), _read_picture),
    "PNG": Kind(".png", _picture("PNG"), _read_picture),
    "WebP": Kind(".webp", _picture("WEBP"), _read_picture),
    "TIFF": Kind(".tif", _picture("TIFF"), _read_picture),
    "GIF": Kind(".gif", _picture("GIF"), _read_picture),
    "OpenPose": Kind(".json", _openpose, _read_keypoints),
    "COCO": Kind(".json", _coco, _read_keypoints),
    "body npz": Kind(".npz", _npz(_body), _read_body),
    "body pickle": Kind(".pkl", lambda rng: pickle.dumps(_body(rng), 2), _read_body),
    "AMASS": Kind(".npz", _npz(_motion), _read_motion),
    "joints": Kind(".npz", _npz(_joints), _read_joints),
    "camera": Kind(".toml", _calibration, _read_calibration),
    "own set": Kind(".json", _layout, _read_layout),
    "weights": Kind(".pt", _weights, _read_weights),
    "table": Kind(".parquet", _table, _read_table),
    "film": Kind(".mp4", _film, _read_film),
}


# --- Damage -----------------------------------------------------------------------------------------------------

_NUMBERS = (
    b"1e999", b"-1", b"NaN", b"0", b"99999999999999999999999", b"-1e308", b"1e-320", b"null", b'"x"', b"[]", b"{}",
)  # fmt: skip


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The file, one to three times damaged."""
    for _ in range(int(rng.integers(1, 4))):
        ways: list[Callable[[bytes, np.random.Generator], bytes]] = [_bytes]
        if content[:2] == b"PK":
            ways += [_archive] * 3
        elif content[:1] in b"[{%" and b"\0" not in content[:200]:
            ways += [_text] * 3
        content = ways[int(rng.integers(len(ways)))](content, rng)
    return content


def _bytes(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content or b"\0")
    at = int(rng.integers(len(data)))
    length = int(min(len(data) - at, 2 ** int(rng.integers(0, 9))))
    match int(rng.integers(7)):
        case 0:
            for place in rng.integers(0, len(data), int(rng.integers(1, 9))):
                data[place] ^= 1 << int(rng.integers(8))
        case 1:
            del data[at:]
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length]
        case 4:
            data[at : at + length] = rng.bytes(length)
        case 5:
            data[at : at + length] = bytes([int(rng.choice([0, 255, 127, 128]))]) * length
        case _:
            data[at:at] = rng.bytes(length)
    return bytes(data)


def _text(content: bytes, rng: np.random.Generator) -> bytes:
    import re

    tokens = list(re.finditer(rb"-?\d[\d.eE+-]*|\"[^\"]*\"", content))
    if not tokens or rng.random() < 0.1:
        opened = int(rng.choice([10, 200_000]))
        return content.replace(b"[", b"[" * opened, 1)
    token = tokens[int(rng.integers(len(tokens)))]
    new = _NUMBERS[int(rng.integers(len(_NUMBERS)))] if rng.random() < 0.8 else b""
    return content[: token.start()] + new + content[token.end() :]


def _archive(content: bytes, rng: np.random.Generator) -> bytes:
    """One member changed, lost, renamed, or with a header that claims another shape; checksums are right."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # damaged before
        return _bytes(content, rng)
    if not members:
        return _bytes(content, rng)
    name = list(members)[int(rng.integers(len(members)))]
    member = members.pop(name)
    choice = int(rng.integers(5))
    if choice == 1:
        name = "other.npy"
    if choice == 2 and b"(" in member[:200] and b")" in member[:200]:
        start, end = member.index(b"("), member.index(b")")
        shape = rng.choice([b"(3,)", b"()", b"(100000, 100000)", b"(-1,)", b"(0, 3)"])
        member = member[:start] + bytes(shape).ljust(end + 1 - start)[: end + 1 - start] + member[end + 1 :]
    elif choice != 1:
        member = _bytes(member, rng)
    if choice != 3 or not members:
        members[name] = member
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")
        for each, data in members.items():
            archive.writestr(each, data)
    return buffer.getvalue()


# --- The process that reads, and who watches it -----------------------------------------------------------------


def _attempt(kind: Kind, path: Path) -> str:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = kind.read(path)
            finite = all(_is_finite(array) for array in (found if isinstance(found, list) else [found]))
        outcome = "read" if finite else "not finite"
    except (ValueError, OSError) as error:
        outcome = "refused" if str(error).strip() and "\n" not in str(error).strip() else "refused without a sentence"
    except BaseException as error:
        outcome = f"exception {type(error).__name__}"
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    return outcome if grown < GIGABYTES else f"more than {GIGABYTES:g} GB"


def _is_finite(array: Any) -> bool:
    return bool(np.isfinite(np.asarray(array, dtype=np.float64)).all())


def _reader(connection: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    sys.setrecursionlimit(1000)
    while True:
        try:
            name, path = connection.recv()
        except EOFError:  # nobody asks any more
            return
        connection.send(_attempt(KINDS[name], path))


class Watched:
    """A process that reads one file after the other, begun anew when one has ended or hung it."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        here, there = multiprocessing.get_context("spawn").Pipe()
        self._connection = here
        self._process = multiprocessing.get_context("spawn").Process(target=_reader, args=(there,), daemon=True)
        self._process.start()
        there.close()
        self._is_new = True

    def outcome(self, name: str, path: Path) -> str:
        """How reading ended."""
        self._connection.send((name, path))
        try:
            # The first one waits for imports.
            answered = self._connection.poll(SECONDS + (60 if self._is_new else 0))
            self._is_new = False
            if answered:
                return str(self._connection.recv())
        except (EOFError, ConnectionResetError):
            pass
        crashed = not self._process.is_alive() or self._process.exitcode is not None
        self._process.kill()
        self._process.join()
        self._begin()
        return "crash" if crashed else f"more than {SECONDS:g} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--keep", type=Path, default=None, help="folder for the files of what must not be")
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {name: Counter() for name in options.kinds}
    seconds = dict.fromkeys(options.kinds, 0.0)
    reader = Watched()
    with tempfile.TemporaryDirectory() as folder:
        for name in options.kinds:
            path = Path(folder) / f"whole{KINDS[name].suffix}"
            path.write_bytes(KINDS[name].make(np.random.default_rng(options.seed)))
            if (outcome := reader.outcome(name, path)) != "read":
                raise SystemExit(f"{name}: the file that nothing has damaged was not read: {outcome}.")
        for number in range(options.inputs):
            name = options.kinds[number % len(options.kinds)]
            kind = KINDS[name]
            rng = np.random.default_rng([options.seed, list(KINDS).index(name), number])
            content = damaged(kind.make(rng), rng)
            path = Path(folder) / f"damaged{kind.suffix}"
            path.write_bytes(content)
            start = time.perf_counter()
            outcome = reader.outcome(name, path)
            seconds[name] = max(seconds[name], time.perf_counter() - start)
            counts[name][outcome] += 1
            if outcome not in GOOD:
                print(f"{name}, input {number}: {outcome}", file=sys.stderr)
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{name.replace(' ', '_')}_{number}{kind.suffix}").write_bytes(content)
    rows: list[dict[str, object]] = []
    for name, found in counts.items():
        bad = {outcome: count for outcome, count in found.items() if outcome not in GOOD}
        rows.append(
            {"what": "fuzz", "kind": name, "inputs": sum(found.values()), "read": found["read"],
             "refused": found["refused"], "must not be": sum(bad.values()), "longest_s": seconds[name],
             "which": "; ".join(f"{count} {outcome}" for outcome, count in bad.items())}
        )  # fmt: skip
        print(json.dumps(rows[-1]))
    show(rows, digits=3)
    return 1 if any(row["must not be"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
