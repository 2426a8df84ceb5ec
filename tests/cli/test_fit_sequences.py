"""Videos of keypoints on the command line: who is who, what is written, and what smoothing changes."""

import json
from pathlib import Path

import numpy as np
import pytest

from kouros.cli import main
from kouros.detection import DetectedPerson
from kouros.detection.people import box_around
from kouros.pipeline.tracking import track_people

SIZE, FOCAL, FRAMES = (640, 800), 800.0, 7
OPTIONS = ["--image-size", "640", "800", "--focal-length", "800", "--quiet", "--traceback"]


@pytest.fixture(scope="module")
def people(free_body) -> np.ndarray:
    """Two people who walk towards one another, as (frames, people, 25, 3) OpenPose keypoints with noise."""
    import torch

    t = torch.arange(FRAMES).float()
    generator, seen = torch.Generator().manual_seed(0), []
    for place, speed in ((-0.7, 0.03), (0.7, -0.03)):
        body_pose = torch.zeros(FRAMES, 69)
        body_pose[:, 47], body_pose[:, 50] = -1.1, 1.1  # arms down
        body_pose[:, 9] = 0.05 * t
        transl = torch.stack([place + speed * t, torch.zeros(FRAMES), torch.full((FRAMES,), 4.0)], dim=-1)
        orient = torch.tensor([[np.pi, 0.0, 0.0]]).expand(FRAMES, 3)
        out = free_body(body_pose=body_pose, global_orient=orient, transl=transl)
        points = free_body.keypoints_3d(out, "openpose25")
        pixels = FOCAL * points[..., :2] / points[..., 2:] + torch.tensor([320.0, 400.0])
        pixels = pixels + 2 * torch.randn(pixels.shape, generator=generator)
        seen.append(torch.cat([pixels, torch.ones_like(pixels[..., :1])], dim=-1))
    return torch.stack(seen, dim=1).numpy()


def _write(folder: Path, people: np.ndarray, numbers: list[int], order=lambda frame: (0, 1)) -> None:
    folder.mkdir()
    for k, (number, frame) in enumerate(zip(numbers, people, strict=True)):
        found = [{"pose_keypoints_2d": frame[i].ravel().tolist()} for i in order(k)]
        (folder / f"clip_{number:012d}_keypoints.json").write_text(json.dumps({"people": found}))


def _bent(joints: np.ndarray) -> float:
    """Mean second difference of joints (frames, ..., 3)."""
    return float(np.linalg.norm(joints[2:] - 2 * joints[1:-1] + joints[:-2], axis=-1).mean())


def test_a_folder_of_frames_is_a_video_of_people_with_one_shape_each(people, tmp_path: Path):
    # The second frame holds nobody, the fourth one person, and people come in any order.
    _write(tmp_path / "clip", people, [0, 1, 2, 3, 4, 5, 7], lambda k: {1: (), 3: (1,), 4: (1, 0)}.get(k, (0, 1)))
    out = tmp_path / "out"
    assert main(["fit", str(tmp_path / "clip"), "--out", str(out), *OPTIONS]) == 0
    with np.load(out / "clip.npz") as video:
        seen, betas, joints = video["seen"], video["betas"], video["joints_2d"]
        assert seen.tolist() == [[True] * 2, [False] * 2, [True] * 2, [False, True], *[[True] * 2] * 3]
        assert video["frame_numbers"].tolist() == [0, 1, 2, 3, 4, 5, 7] and bool(video["smoothed"])
        for track in range(2):
            assert np.isnan(joints[~seen[:, track], track]).all()
            own = betas[seen[:, track], track]
            np.testing.assert_allclose(own, own[:1].repeat(len(own), 0))
            # joints 4 and 5 are the knees, OpenPose's 13 and 10
            away = joints[:, track][:, [4, 5]] - people[:, track][:, [13, 10], :2]
            assert np.linalg.norm(away[seen[:, track]], axis=-1).max() < 15
    whole = json.loads((out / "clip.json").read_text())
    assert [len(p["frames"]) for p in whole["people"]] == [5, 6]
    frames = {p.name for p in (out / "clip").iterdir()}
    assert "clip_000000000007_keypoints.glb" in frames and "clip_000000000001_keypoints.json" not in frames
    single = json.loads((out / "clip" / "clip_000000000003_keypoints.json").read_text())
    assert len(single["people"]) == 1
    before = sorted(p.relative_to(out) for p in out.rglob("*"))
    assert main(["fit", str(tmp_path / "clip"), "--out", str(out), *OPTIONS]) == 0
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == before  # a second run replaces its own results


def test_smoothing_is_on_unless_refused_and_takes_the_jitter(people, tmp_path: Path):
    _write(tmp_path / "clip", people[:5], list(range(5)))
    bent = []
    for name, extra in (("smooth", []), ("each", ["--no-smooth"])):
        assert main(["fit", str(tmp_path / "clip"), "--out", str(tmp_path / name), *OPTIONS, *extra]) == 0
        with np.load(tmp_path / name / "clip.npz") as video:
            assert bool(video["smoothed"]) == (name == "smooth")
            bent.append(_bent(video["joints_3d"]))
    assert bent[0] < 0.3 * bent[1]


COCO_OF_OPENPOSE = [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11]


def _coco(folder: Path, people: np.ndarray, sizes: list[tuple[int, int]] | None = None) -> Path:
    marked = people[:, :, COCO_OF_OPENPOSE].copy()
    marked[..., 2] = 2
    images = [{"id": k, "file_name": f"{k}.jpg"} for k in range(len(people))]
    for image, size in zip(images, sizes or [], strict=bool(sizes)):
        image |= {"width": size[0], "height": size[1]}
    annotations = [
        {"image_id": k, "keypoints": marked[k, i].ravel().tolist()} for k in range(len(people)) for i in range(2)
    ]
    (folder / "coco.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return folder / "coco.json"


def test_files_of_frames_and_the_images_of_a_coco_file_are_films_when_that_is_said(people, tmp_path: Path):
    _write(tmp_path / "clip", people[:3], [8, 9, 10])
    files = [str(p) for p in sorted((tmp_path / "clip").iterdir(), reverse=True)]
    assert main(["fit", *files, "--sequence", "--out", str(tmp_path / "a"), *OPTIONS]) == 0
    with np.load(tmp_path / "a" / "clip.npz") as video:
        assert video["frame_numbers"].tolist() == [8, 9, 10] and video["seen"].all()
    coco = _coco(tmp_path, people[:3])
    assert main(["fit", str(coco), "--sequence", "--out", str(tmp_path / "b"), *OPTIONS]) == 0
    with np.load(tmp_path / "b" / "coco.npz") as video:
        assert video["seen"].shape == (3, 2) and video["seen"].all()
    assert {p.name for p in (tmp_path / "b" / "coco").iterdir()} == {
        f"{k}{suffix}" for k in range(3) for suffix in (".glb", ".npz", ".json")
    }


def test_a_coco_file_is_photos_of_their_own_sizes(people, tmp_path: Path, capsys):
    # The second picture is the first one twice as large, taken by the same lens.
    both = np.stack([people[0], people[0] * (2, 2, 1)])
    coco = _coco(tmp_path, both, [SIZE, (1280, 1600)])
    assert main(["fit", str(coco), "--out", str(tmp_path / "out"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["people"] for line in lines] == [2, 2]
    with np.load(tmp_path / "out" / "0.npz") as small, np.load(tmp_path / "out" / "1.npz") as large:
        assert small["image_size"].tolist() == [640, 800] and large["image_size"].tolist() == [1280, 1600]
        np.testing.assert_allclose(large["focal_length"], 2 * small["focal_length"], rtol=1e-6)
        np.testing.assert_allclose(large["transl"], small["transl"], atol=0.02)
        assert not np.allclose(small["betas"][0], small["betas"][1])  # people of their own
    assert main(["fit", str(coco), "--sequence", "--out", str(tmp_path / "film")]) == 1
    assert "one size" in capsys.readouterr().err
    assert main(["fit", str(_coco(tmp_path, both)), "--out", str(tmp_path / "none")]) == 1
    assert "--image-size WIDTH HEIGHT" in capsys.readouterr().err


def test_a_bad_part_does_not_take_the_film(people, tmp_path: Path, capsys):
    clip = tmp_path / "clip"
    _write(clip, people[:4], [0, 1, 2, 3])
    (clip / "clip_000000000001_keypoints.json").write_text("{")
    (clip / "._clip_000000000002_keypoints.json").write_bytes(b"\x00\x05\x16\x07")
    (clip / "video_info.json").write_text('{"fps": 25}')
    third = json.loads((clip / "clip_000000000003_keypoints.json").read_text())
    third["people"][1]["pose_keypoints_2d"] = []
    third["people"][0]["pose_keypoints_2d"][2::3] = [1.7] * 25
    (clip / "clip_000000000003_keypoints.json").write_text(json.dumps(third))
    loud = [option for option in OPTIONS if option != "--quiet"]
    assert main(["fit", str(clip), "--out", str(tmp_path / "out"), "--json", *loud]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    notes = " ".join(json.loads(line)["notes"])
    for name in ("000001_keypoints.json", "._clip_", "video_info.json", "person 1 has no points", "taken as 1"):
        assert name in notes
    with np.load(tmp_path / "out" / "clip.npz") as video:
        assert video["seen"].sum(axis=0).tolist() == [3, 2] and video["frame_numbers"].tolist() == [0, 2, 3]


def test_bad_videos_get_one_sentence(people, tmp_path: Path, capsys):
    (tmp_path / "empty").mkdir()
    _write(tmp_path / "nobody", people[:2], [0, 1], lambda k: ())
    _write(tmp_path / "broken", people[:2], [0, 1])
    for path in (tmp_path / "broken").iterdir():
        path.write_text("{")
    for name, word in (("empty", "no JSON file"), ("nobody", "nobody"), ("broken", "00_keypoints.json")):
        assert main(["fit", str(tmp_path / name), "--out", str(tmp_path / "out"), *OPTIONS]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and word in line and "unexpected" not in line
    assert not (tmp_path / "out").exists()
    assert main(["fit", str(tmp_path / "broken"), "--frame-rate", "0", *OPTIONS]) == 2
    assert main(["fit", str(tmp_path / "broken"), "--sequence", *OPTIONS]) == 2
    (tmp_path / "again").mkdir()
    twin = (tmp_path / "nobody" / "clip_000000000001_keypoints.json").rename(
        tmp_path / "again" / "clip_000000000000_keypoints.json"
    )
    first = tmp_path / "nobody" / "clip_000000000000_keypoints.json"
    assert main(["fit", str(first), str(twin), "--sequence", *OPTIONS]) == 1


def _at(x: float, y: float = 300.0, size: float = 200.0) -> DetectedPerson:
    rng = np.random.default_rng(1)
    points = np.column_stack([size * (rng.random((17, 2)) - 0.5) + [x, y], np.ones(17)])
    return DetectedPerson(box_around(points, 2000.0, 2000.0), points, "coco17", 1.0)


def _paths(frames, numbers=None, max_gap: int = 5) -> list[list[tuple[int, int]]]:
    tracks = track_people(frames, numbers or list(range(len(frames))), max_gap=max_gap)
    return [[(s.frame, s.person) for s in track] for track in tracks]


def test_tracks_follow_people_who_change_places_in_the_list():
    frames = [[_at(100), _at(600)], [_at(590), _at(120)], [_at(140), _at(580)]]
    assert _paths(frames) == [[(0, 0), (1, 1), (2, 0)], [(0, 1), (1, 0), (2, 1)]]


def test_the_whole_assignment_is_best_although_one_pair_is_nearer_otherwise():
    # The second person moved to where the first one's nearest neighbour is.
    frames = [[_at(100), _at(160)], [_at(150), _at(210)]]
    assert _paths(frames) == [[(0, 0), (1, 0)], [(0, 1), (1, 1)]]


def test_a_gap_is_bridged_until_it_is_too_long_and_a_leap_begins_another_track():
    assert _paths([[_at(100)], [], [_at(110)]]) == [[(0, 0), (2, 0)]]
    assert _paths([[_at(100)], [_at(110)]], [0, 6]) == [[(0, 0)], [(1, 0)]]
    assert _paths([[_at(100)], [_at(400)]]) == [[(0, 0)], [(1, 0)]]
