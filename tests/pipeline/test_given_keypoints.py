"""Keypoints that users bring to the API and to `kouros fit`: what fits is measured, what cannot be is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import kouros
from kouros.cli import main
from kouros.notes import InputWarning, collected

SIZE, FOCAL = (1000, 800), 900.0
BODY_25B = [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11, 1, 0, 19, 20, 21, 22, 23, 24]


@pytest.fixture(scope="module")
def pixels(free_body) -> np.ndarray:
    """OpenPose's 25 points of somebody standing 4 m away, arms down, as our own camera sees them."""
    body_pose = torch.zeros(1, 69)
    body_pose[:, 47], body_pose[:, 50] = -1.1, 1.1
    place = torch.tensor([[0.3, 0.2, 4.0]])
    out = free_body(body_pose=body_pose, global_orient=torch.tensor([[np.pi, 0.0, 0.0]]), transl=place)
    points = free_body.keypoints_3d(out, "openpose25")[0]
    seen = FOCAL * points[:, :2] / points[:, 2:] + torch.tensor(SIZE) / 2
    return torch.cat([seen, torch.ones(25, 1)], dim=1).double().numpy()


def _fit(points, set_name="openpose25", **options):
    return kouros.fit(points, set_name, image_size=SIZE, focal_length=FOCAL, **options)


def test_a_person_knows_how_well_the_keypoints_are_explained(pixels):
    (person,) = _fit(pixels)
    found = person.keypoints_2d("openpose25").numpy()
    distance = np.linalg.norm(found - pixels[:, :2], axis=1).mean()
    assert person.reprojection_error == pytest.approx(distance, abs=0.05) and distance < 8
    size = 4 * np.sqrt(pixels[:, :2].var(axis=0).sum())
    assert person.reprojection.share == pytest.approx(distance / size, rel=0.01)
    np.testing.assert_allclose(person.transl[2], 4.0, atol=0.4)


def test_points_of_another_order_are_explained_badly_and_that_is_said(pixels):
    with pytest.warns(InputWarning, match=r"person_1: .* % of the person's size .*body25b"):
        (person,) = _fit(pixels[BODY_25B])
    assert person.reprojection.share > 0.08
    with collected() as notes:
        (right,) = _fit(pixels[BODY_25B], "body25b")
    assert right.reprojection.share < 0.04 and right.keypoint_set == "openpose25" and not notes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p / (*SIZE, 1), "scaled to the picture"),
        (lambda p: 2 * p / (*SIZE, 2) - (1, 1, 0), "scaled to the picture"),
        (lambda p: p + np.array([5000, 0, 0]), "outside the picture"),
        (lambda p: p * (0.01, 0.01, 1) + (50, 50, 0), "spans"),
        (lambda p: p * (1, 1, 0), "0 usable points"),
        (lambda p: np.full_like(p, np.nan), "0 usable points"),
    ],
)
def test_what_cannot_be_pixels_of_a_person_is_refused_and_others_go_on(pixels, change, said: str):
    bad = change(pixels)
    with pytest.raises(ValueError, match=said):
        _fit(bad)
    with pytest.warns(InputWarning, match=f"person 1 .*{said}"):
        people = _fit(np.stack([pixels, bad]))
    assert len(people) == 1
    with pytest.warns(InputWarning, match="person 0 .*no points"):
        assert len(_fit([np.zeros((0, 3)), pixels])) == 1


def test_missing_points_and_large_confidences(pixels):
    (clean,) = _fit(pixels)
    strange = pixels.copy()
    strange[3] = (np.nan, np.nan, 0)
    with collected() as notes:
        (person,) = _fit(strange)
    assert not notes and torch.isfinite(person.vertices).all()
    with pytest.warns(InputWarning, match=r"above 1 .*1 person"):
        (loud,) = _fit(pixels * (1, 1, 3))
    torch.testing.assert_close(loud.transl, clean.transl)


def test_the_command_line_says_the_same(pixels, tmp_path: Path, capsys):
    def write(name: str, *people: np.ndarray) -> str:
        content = {"people": [{"pose_keypoints_2d": p.ravel().tolist()} for p in people]}
        (tmp_path / name).write_text(json.dumps(content))
        return str(tmp_path / name)

    options = ["--image-size", *map(str, SIZE), "--focal-length", str(FOCAL), "--out", str(tmp_path / "out")]
    assert main(["fit", write("good.json", pixels), *options]) == 0
    said = capsys.readouterr()
    assert "error" in said.out.splitlines()[0] and " px, " in said.out and not said.err
    person = json.loads((tmp_path / "out" / "good.json").read_text())["people"][0]
    with np.load(tmp_path / "out" / "good.npz") as arrays:
        np.testing.assert_allclose(arrays["reprojection"][0], [*person["reprojection_error"].values()], atol=1e-4)
    assert main(["fit", write("order.json", pixels[BODY_25B]), *options]) == 0
    assert "note: " in (err := capsys.readouterr().err) and "body25b" in err
    assert main(["fit", write("order.json", pixels[BODY_25B]), "--keypoint-set", "body25b", *options]) == 0
    assert not capsys.readouterr().err
    assert main(["fit", write("scaled.json", pixels / (*SIZE, 1)), *options]) == 1
    assert "keypoint_scale" in capsys.readouterr().err
    assert main(["fit", write("two.json", pixels / (*SIZE, 1), pixels), *options]) == 0
    assert "note: left out: " in capsys.readouterr().err
    assert main(["fit", write("good.json", pixels), "--keypoint-set", "body26", *options]) == 2
    assert "halpe26" in capsys.readouterr().err
