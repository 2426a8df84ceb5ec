"""``synthetic-video``: twenty clips of two seconds, of people who move as recorded before a camera that stands.

The motions are those of the held-out split, cut out and stored with the package; shapes, clothes, light, room and the
camera's place follow from a seed. In four clips two people walk past each other. Pictures are drawn when asked for, so
nothing is written. `python -m kouros.data.synthetic.clips MOCAP` made the file; ``synthetic_video.json`` says what it
and some of the pictures must be.
"""

import hashlib
import json
import math
import sys
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from kouros.archives import read_all_npz
from kouros.data.mocap.motion import Motion, read_motion
from kouros.data.schema import Sample, TableInfo
from kouros.data.synthetic.draw import Stage
from kouros.data.synthetic.films import Played, SyntheticFilm, synthetic_film
from kouros.data.synthetic.validation import thumbnail
from kouros.documents import read_json
from kouros.files import npz_bytes, write_file

FRAMES, RATE, SIZE, SEED = 60, 30.0, 384, 2701
_ALONE = (
    "cmu_01_09", "cmu_02_06", "cmu_02_08", "cmu_03_01", "cmui_05_09", "cmui_05_12", "cmui_05_20", "cmui_06_11",
    "cmux_basketball_signal_train_05", "cmux_basketball_test_01", "cmux_jumping_test_01", "cmux_soccer_test_01",
    "cmux_walking_extra_test_07", "cmux_walking_extra_test_16", "cmux_walking_extra_test_18",
    "cmux_walking_extra_test_22",
)  # fmt: skip
_IN_PAIRS = (
    ("cmux_walking_extra_test_10", "cmux_walking_extra_test_13"),
    ("cmux_walking_extra_test_06", "cmux_walking_extra_test_20"),
    ("cmux_walking_extra_test_12", "cmux_walking_extra_test_14"),
    ("cmux_walking_extra_test_15", "cmux_walking_extra_test_19"),
)
_APART = 1.2
"""Metres between the paths of two who pass each other."""
_FOLDER = Path(__file__).parent / "data"
_FILE, _SUMS = _FOLDER / "synthetic_video.npz", _FOLDER / "synthetic_video.json"
_CHECKED = (0, 600, 1199)
_SET_BACK = 40
"""Every so-manyth vertex decides on the box."""


class SyntheticVideo:
    """The clips as a source: rows are people, frame by frame and clip by clip.

    Raises:
        ValueError: the package's file is damaged.
    """

    def __init__(self) -> None:
        self._rows = [
            (clip, frame, person)
            for clip, people in enumerate(packaged_clips())
            for frame in range(FRAMES)
            for person in range(len(people))
        ]
        self._drawn: tuple[tuple[int, int], UInt8[np.ndarray, "height width 3"]] | None = None

    @property
    def info(self) -> TableInfo:
        """What holds for all samples."""
        return TableInfo("synthetic-video", "val", "", provenance={"seed": SEED, "frame_rate": RATE})

    def __len__(self) -> int:
        """People, in every frame anew."""
        return len(self._rows)

    def has(self, name: str) -> bool:
        """Whether any sample knows a field."""
        return self.sample(0).has(name)

    def sample(self, row: int) -> Sample:
        """What is known of one person in one frame."""
        clip, frame, person = self._rows[row]
        scene, shot = _film(clip).scenes[frame], _film(clip).scenes[frame].shot
        pose, betas, transl = scene.pose[person], scene.betas[person], scene.transl[person]
        return Sample(
            image_path=f"clip_{clip:02d}/{frame:03d}.png",
            image_size=(SIZE, SIZE),
            bbox=_box(clip)[frame, person],
            pose=pose,
            betas=betas,
            transl=transl,
            gender="neutral",
            intrinsics=np.array([shot.focal, shot.focal, *shot.center], dtype=np.float32),
            world_to_camera=shot.world_to_camera.astype(np.float32),
            sequence=f"clip_{clip:02d}",
            frame=frame,
            person=str(person),
        )

    def image(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """The whole picture, RGB."""
        clip, frame, _ = self._rows[row]
        if self._drawn is None or self._drawn[0] != (clip, frame):
            self._drawn = ((clip, frame), _film(clip).picture(_stage(), frame))
        return self._drawn[1].copy()


@cache
def packaged_clips() -> tuple[tuple[Played, ...], ...]:
    """Who moves how in each clip.

    Raises:
        ValueError: they are not what the package's checksum says.
    """
    content = _FILE.read_bytes()
    if hashlib.sha256(content).hexdigest() != dict(read_json(_SUMS))["parameters"]:
        raise ValueError(f"{_FILE} is damaged; install kouros again.")
    arrays = read_all_npz(_FILE)
    clips: list[list[Played]] = [[] for _ in range(int(arrays["clip"].max()) + 1)]
    for k, clip in enumerate(arrays["clip"].tolist()):
        poses, trans = arrays["poses"][k].astype(np.float32), arrays["trans"][k]
        x, z, turn = arrays["placed"][k].tolist()
        clips[clip].append(Played(Motion(poses, trans, RATE), (x, z), turn))
    return tuple(map(tuple, clips))


@cache
def _stage() -> Stage:
    return Stage()


@lru_cache(maxsize=2)
def _film(clip: int) -> SyntheticFilm:
    return synthetic_film(packaged_clips()[clip], _stage().body, seed=SEED + clip, size=SIZE, share=0.85)


@lru_cache(maxsize=2)
def _box(clip: int) -> np.ndarray:
    """(frames, people, 4): around everybody's skin, within the picture."""
    body, boxes = _stage().body, []
    for scene in _film(clip).scenes:
        skin = body(*map(_tensor, (scene.betas, scene.pose[:, 3:], scene.pose[:, :3])), transl=_tensor(scene.transl))
        points = skin.vertices[:, ::_SET_BACK].numpy().astype(np.float64)
        pixels = points[..., :2] / points[..., 2:] * scene.shot.focal + scene.shot.center
        boxes.append(np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1).clip(0, SIZE))
    return np.stack(boxes).astype(np.float32)


def _tensor(values: np.ndarray):  # type: ignore[no-untyped-def]
    import torch

    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def main(mocap: str) -> None:
    """Cut out the motions and write them and their checksums into the package."""
    columns: dict[str, list[np.ndarray]] = {"clip": [], "poses": [], "trans": [], "placed": []}

    def add(clip: int, key: str, off: np.ndarray, turn: float) -> None:
        motion = read_motion(Path(mocap) / "sequences" / f"{key}.npz")
        assert motion.split == "val" and motion.frame_rate == RATE
        first = (len(motion.poses) - FRAMES) // 2
        columns["clip"].append(np.array(clip))
        columns["poses"].append(motion.poses[first : first + FRAMES].astype(np.float16))
        columns["trans"].append(motion.trans[first : first + FRAMES])
        columns["placed"].append(np.array([*off, turn]))

    for clip, key in enumerate(_ALONE):
        add(clip, key, np.zeros(2), 0.0)
    for clip, (one, other) in enumerate(_IN_PAIRS, start=len(_ALONE)):
        ways = [read_motion(Path(mocap) / "sequences" / f"{key}.npz").trans for key in (one, other)]
        along = [math.atan2(*(way[-1] - way[0])[[0, 2]]) for way in ways]
        across = np.array([math.cos(along[0]), -math.sin(along[0])]) * _APART / 2
        add(clip, one, across, 0.0)
        add(clip, other, -across, along[0] - along[1] + math.pi)
    write_file(_FILE, npz_bytes({name: np.stack(values) for name, values in columns.items()}))
    digest = hashlib.sha256(_FILE.read_bytes()).hexdigest()
    write_file(_SUMS, json.dumps({"parameters": digest, "pictures": {}}).encode())
    source = SyntheticVideo()
    pictures = {str(row): thumbnail(source.image(row)) for row in _CHECKED}
    write_file(_SUMS, json.dumps({"parameters": digest, "pictures": pictures}).encode())


if __name__ == "__main__":
    main(sys.argv[1])
