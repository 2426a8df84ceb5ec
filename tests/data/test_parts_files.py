"""Others' part maps: what their labels become here, and what is said of maps that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kouros.body.skeleton import JOINT_NAMES
from kouros.body.surface.parts import PART_SETS, PARTS3, PARTS6, PARTS12, PARTS24
from kouros.data.parts_files import FORMATS, PartsError, read_parts


def written(path: Path, labels: np.ndarray, palette: list[int] | None = None) -> Path:
    picture = Image.fromarray(labels.astype(np.uint8))
    if palette is not None:
        picture = picture.convert("P")
        picture.putpalette(palette)
    picture.save(path)
    return path


def test_bodypix_has_six_parts_for_us(tmp_path: Path):
    labels = np.arange(25).reshape(5, 5)
    path = written(tmp_path / "map.png", labels)
    found = {name: PARTS6.label(name) for name in PARTS6.names}
    names = [
        *["head"] * 2, *["left_arm"] * 2, *["right_arm"] * 2, *["left_arm"] * 2, *["right_arm"] * 2, "left_arm",
        "right_arm", *["torso"] * 2, *["left_leg"] * 2, *["right_leg"] * 2, *["left_leg"] * 2, *["right_leg"] * 2,
        "left_leg", "right_leg",
    ]  # fmt: skip
    assert read_parts(path, "bodypix", "parts6").ravel().tolist() == [0, *(found[n] for n in names)]
    assert FORMATS["bodypix"].sets[0] in ("parts6", "lsp6")
    with pytest.raises(PartsError, match=r"bodypix's 'torso_front' is part of .*upper_torso and .*neck"):
        read_parts(path, "bodypix", "parts12")


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("lip", {1: "head", 5: "upper_body", 9: "lower_body", 13: "head", 14: "upper_body", 19: "lower_body"}),
        ("atr", {4: "upper_body", 6: "lower_body", 11: "head", 13: "lower_body", 16: None, 17: "upper_body"}),
        ("pascal", {1: "head", 2: "upper_body", 3: "upper_body", 4: "upper_body", 5: "lower_body", 6: "lower_body"}),
    ],
)
def test_parsers_of_clothes_have_three_parts_for_us(tmp_path: Path, name: str, pairs: dict):
    path = written(tmp_path / "map.png", np.array([list(pairs)]))
    expected = [0 if part is None else PARTS3.label(part) for part in pairs.values()]
    assert read_parts(path, name, "parts3").tolist() == [expected]
    assert read_parts(path, name, "parts1").tolist() == [[int(label > 0) for label in expected]]
    assert FORMATS[name].sets == ("parts3", "parts1")
    with pytest.raises(PartsError, match=f"maps of {name} can be brought to parts3, parts1 only"):
        read_parts(path, name, "parts6")


def test_smpls_parts_become_every_coarser_set(tmp_path: Path):
    path = written(tmp_path / "map.png", np.arange(25).reshape(5, 5))
    assert read_parts(path, "parts24", "parts24").ravel().tolist() == list(range(25))
    for name in ("parts1", "parts3", "parts6", "parts12"):
        coarse = read_parts(path, "parts24", name).ravel()
        assert coarse[0] == 0
        for joint, label in zip(JOINT_NAMES, coarse[1:], strict=True):
            assert joint in PART_SETS[name].joints[label - 1]
    elbow = PARTS24.label("left_elbow")
    assert read_parts(path, "parts24", "parts12").ravel()[elbow] == PARTS12.label("left_forearm")


def test_maps_in_colour_are_read_by_their_palettes(tmp_path: Path):
    labels = np.array([[0, 3, 12], [7, 7, 1]])
    Image.fromarray(PARTS12.colours[labels]).save(tmp_path / "ours.png")
    assert read_parts(tmp_path / "ours.png", "parts12", "parts12").tolist() == labels.tolist()
    # PASCAL VOC's colours of 1, 5 and 6; transparent is background.
    voc = np.array([[(128, 0, 0, 255), (128, 0, 128, 255), (0, 128, 128, 255), (9, 9, 9, 0)]], np.uint8)
    Image.fromarray(voc).save(tmp_path / "voc.png")
    assert read_parts(tmp_path / "voc.png", "pascal", "parts3").tolist() == [[1, 3, 3, 0]]
    # BodyPix paints the background white.
    rainbow = np.array([[(255, 255, 255), (110, 64, 170), (99, 81, 195)]], np.uint8)
    Image.fromarray(rainbow).save(tmp_path / "rainbow.png")
    expected = [[0, PARTS6.label("head"), PARTS6.label("right_leg")]]
    assert read_parts(tmp_path / "rainbow.png", "bodypix", "parts6").tolist() == expected


def test_of_a_map_with_a_palette_the_numbers_count(tmp_path: Path):
    path = written(tmp_path / "map.png", np.array([[0, 2]]), palette=[7, 7, 7, 1, 2, 3, 90, 90, 90])
    with Image.open(path) as picture:
        assert picture.mode == "P"
    assert read_parts(path, "pascal", "parts3").tolist() == [[0, 2]]


def test_maps_that_cannot_be_used_are_told_why(tmp_path: Path):
    path = written(tmp_path / "map.png", np.array([[0, 1, 21, 21]]))
    with pytest.raises(PartsError, match=r"holds the label 21 in 2 pixels; lip has 0 to 19\."):
        read_parts(path, "lip", "parts3")
    with pytest.raises(PartsError, match=r"is 4x1 pixels, but the photo 8x6; give a part map of the photo's size"):
        read_parts(path, "parts24", "parts12", size=(8, 6))
    with pytest.raises(
        PartsError, match=r"no format of part maps 'coco'; there are: lip, atr, pascal, bodypix, parts1"
    ):
        read_parts(path, "coco", "parts12")
    with pytest.raises(KeyError, match="no part set 'parts7'"):
        read_parts(path, "lip", "parts7")
    nobody = written(tmp_path / "nobody.png", np.zeros((3, 3)))
    with pytest.raises(PartsError, match="shows nobody"):
        read_parts(nobody, "parts12", "parts12")
    bag = written(tmp_path / "bag.png", np.full((3, 3), 16))
    with pytest.raises(PartsError, match="shows nobody"):
        read_parts(bag, "atr", "parts3")
    Image.fromarray(np.full((2, 3, 3), 77, np.uint8)).save(tmp_path / "grey.png")
    with pytest.raises(PartsError, match=r"colour \(77, 77, 77\) at pixel \(0, 0\), and 6 pixels in all"):
        read_parts(tmp_path / "grey.png", "bodypix", "parts6")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PartsError, match="is no picture that can be read"):
        read_parts(tmp_path / "text.png", "parts12", "parts12")
    whole = (tmp_path / "grey.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PartsError, match=r"cut\.png is no picture that can be read"):
        read_parts(tmp_path / "cut.png", "parts12", "parts12")
    with pytest.raises(OSError, match=r"missing\.png"):
        read_parts(tmp_path / "missing.png", "parts12", "parts12")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_tells_labels_apart_and_can_be_brought_somewhere(name: str):
    known = FORMATS[name]
    assert len(set(known.names)) == len(known.names) == len(known.joints)
    assert set(known.colours.values()) == set(range(len(known.names) + 1))
    assert known.sets[-1] == "parts1"
    for parts in known.sets:
        table = known.to(PART_SETS[parts])
        assert table[0] == 0 and table.max() <= len(PART_SETS[parts])
