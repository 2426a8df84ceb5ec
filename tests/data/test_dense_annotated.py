"""Dense targets from annotations: all is warped as the crop is, and what is unknown says so."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kouros.body.keypoints import LSP14
from kouros.body.surface.parts import LSP6, part_set
from kouros.data.augment import AugmentConfig, Spread
from kouros.data.crops import CropTransform
from kouros.data.dense import IGNORED, HeatmapWants, Look, Wants
from kouros.data.dense_annotated import annotated_keypoints, annotated_maps
from kouros.data.images import ImageError
from kouros.data.schema import OWN_CHARTS, RunLengths, Sample, TableInfo
from kouros.data.stream import StreamConfig, TrainingStream, plain_batch
from kouros.data.synthetic import SyntheticSource
from kouros.data.synthetic.generate import Order, synthesize
from kouros.data.synthetic.scenes import SceneConfig
from kouros.data.table_source import TableSource
from kouros.data.tables import write_table

SIZE = 128
STRONG = AugmentConfig(turned=1.0, shift=Spread(0.1), occluded=0.3)
SHARP = 4
"""Pixels of the written maps to a pixel of the drawn pictures."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> SyntheticSource:
    folder = tmp_path_factory.mktemp("people")
    synthesize(Order(people=12, seed=9, scene=SceneConfig(size=SIZE)), folder)
    return SyntheticSource(folder)


@pytest.fixture(scope="module")
def maps(drawn):
    """Of the whole pictures, four times as sharp."""
    whole = Look(CropTransform(np.full(2, SIZE / 2), float(SIZE), SHARP * SIZE), (SIZE, SIZE))
    wants = Wants(maps=("mask", "iuv"), parts=("parts24", "lsp6", "densepose14"))
    return drawn.maps(range(len(drawn)), [whole] * len(drawn), wants)


def as_table(
    drawn: SyntheticSource, folder: Path, part_set: str | None = None, surface: str = OWN_CHARTS, **known
) -> TableSource:
    """A table of the drawn people, enlarged, without pictures; ``known`` makes more of its fields, row by row."""
    folder.mkdir(exist_ok=True)
    rows = []
    for row in range(len(drawn)):
        sample = drawn.sample(row)
        keypoints = np.array(sample.keypoints_2d) * [SHARP, SHARP, 1]
        fields = {
            "image_size": (SHARP * SIZE, SHARP * SIZE),
            "box_center": SHARP * np.asarray(sample.box_center),
            "box_size": SHARP * sample.box_size,
            "bbox": SHARP * np.asarray(sample.bbox),
            "keypoints_2d": keypoints,
        }
        rows.append(Sample(f"{row}.png", **(fields | {name: make(row) for name, make in known.items()})))
    info = TableInfo(
        "made", "train", str(folder), drawn.info.keypoints_2d, provenance={"surface": surface}, part_set=part_set
    )
    write_table(folder / "train.parquet", info, rows)
    return TableSource(folder / "train.parquet")


def written(folder: Path, name: str, values: np.ndarray):
    """Pictures of the rows, and how a table names them."""
    folder.mkdir(exist_ok=True)
    for row, picture in enumerate(values):
        assert cv2.imwrite(str(folder / f"{name}{row}.png"), picture)
    return lambda row: f"{name}{row}.png"


def both(drawn: SyntheticSource, table: TableSource, wants: Wants):
    """The same crops, of the drawn people and of the table, behind the same occluders."""
    config = StreamConfig(64, STRONG, replace(wants, image=False))
    ours, theirs = (TrainingStream([s], None, 24, config)[1] for s in (drawn, table))
    assert torch.equal(ours.augmentation.rotation, theirs.augmentation.rotation)
    assert ours.augmentation.flipped.any() and not ours.augmentation.flipped.all()
    torch.testing.assert_close(SHARP * ours.crop_side, theirs.crop_side)
    return ours, theirs


def agree(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Share of equal pixels where each has all of the same values within a pixel."""
    values = ours.numpy().astype(np.float32)
    low, high = (np.stack([f(v, np.ones((3, 3), np.uint8)) for v in values]) for f in (cv2.erode, cv2.dilate))
    inner = low == high
    assert inner.mean() > 0.5
    return float((ours.numpy() == theirs.numpy())[inner].mean())


def test_pictures_of_masks_and_parts_are_warped_as_people_are_drawn(drawn, maps, tmp_path):
    table = as_table(
        drawn, tmp_path, "parts24",
        mask_path=written(tmp_path, "mask", 255 * maps.mask.numpy().astype(np.uint8)),
        parts_path=written(tmp_path, "parts", maps.labels["parts24"].numpy().astype(np.uint8)),
    )  # fmt: skip
    wants = Wants(maps=("mask", "location"), parts=("parts24", "parts12", "densepose24"), stride=1)
    ours, theirs = both(drawn, table, wants)
    assert {name for name, known in theirs.dense_known.items() if known.all()} == {"mask", "parts24", "parts12"}
    assert not theirs.dense_known["location"].any() and not theirs.dense_known["densepose24"].any()
    assert all(known.all() for known in ours.dense_known.values())
    assert agree(ours.dense.mask, theirs.dense.mask) > 0.9999
    for name in ("parts24", "parts12"):
        assert agree(ours.dense.labels[name], theirs.dense.labels[name]) > 0.9999, name
        assert len(theirs.dense.labels[name].unique()) > 10


def test_run_lengths_are_warped_too_those_of_parts_from_the_box(drawn, maps, tmp_path):
    """Parts over the box, stretched to 256 x 256, as DensePose-COCO has them."""

    def parts(row: int) -> RunLengths:
        low, high = SHARP * np.asarray(drawn.sample(row).bbox).reshape(2, 2)
        x, y = (a + (np.arange(256) + 0.5) / 256 * (b - a) for a, b in zip(low, high, strict=True))
        labels = maps.labels["densepose14"][row].numpy()
        return RunLengths.encode(labels[np.floor(y).astype(int)[:, None], np.floor(x).astype(int)])

    mask = lambda row: RunLengths.encode(maps.mask[row].numpy())  # noqa: E731
    table = as_table(drawn, tmp_path, "densepose14", mask=mask, parts=parts)
    ours, theirs = both(drawn, table, Wants(maps=("mask",), parts=("densepose14", "lsp6", "parts1", "parts6")))
    assert agree(ours.dense.mask, theirs.dense.mask) > 0.9999
    for name in ("densepose14", "lsp6", "parts1"):
        assert theirs.dense_known[name].all()
        assert agree(ours.dense.labels[name], theirs.dense.labels[name]) > 0.999, name
    assert not theirs.dense_known["parts6"].any()  # its torso has the neck, which DensePose paints with the head


def iuv_pictures(maps) -> np.ndarray:
    """As DensePose's own tool stores them: OpenCV's blue, green and red are I, U and V."""
    return np.rint(maps.iuv.numpy() * [1, 255, 255]).astype(np.uint8)


def test_iuv_pictures_are_warped_and_mirrored(drawn, maps, tmp_path):
    table = as_table(drawn, tmp_path, iuv_path=written(tmp_path, "iuv", iuv_pictures(maps)))
    ours, theirs = both(drawn, table, Wants(maps=("mask", "iuv"), parts=("densepose24", "parts1", "lsp6", "parts24")))
    known = theirs.dense_known
    assert known["iuv"].all() and known["mask"].all() and known["lsp6"].all() and not known["parts24"].any()
    assert agree(ours.dense.labels["densepose24"], theirs.dense.labels["densepose24"]) > 0.9999
    assert torch.equal(theirs.dense.iuv[..., 0].long(), theirs.dense.labels["densepose24"])
    same = (ours.dense.iuv[..., 0] == theirs.dense.iuv[..., 0]) & theirs.dense.mask
    gap = (ours.dense.iuv - theirs.dense.iuv)[same].abs().amax(dim=-1)
    assert same.sum() > 5000 and gap.median() < 0.01 and gap.quantile(0.95) < 0.05


def test_points_on_charts_whose_mirror_images_nobody_knows_are_unknown_in_mirrored_crops(drawn, maps, tmp_path):
    points = lambda row: drawn_points(maps, row)  # noqa: E731
    pictures = written(tmp_path, "iuv", iuv_pictures(maps))
    table = as_table(drawn, tmp_path, surface="DensePose's", iuv_path=pictures, dense_points=points)
    _, batch = both(drawn, table, Wants(maps=("iuv",), parts=("densepose24",), dense_points=20))
    assert torch.equal(batch.dense_known["iuv"], ~batch.augmentation.flipped)
    assert batch.dense_known["densepose24"].all()
    assert not batch.dense_points.valid[batch.augmentation.flipped].any()
    assert batch.dense_points.valid[~batch.augmentation.flipped].any()


def drawn_points(maps, row: int) -> np.ndarray:
    """DensePose points at pixels that see the person."""
    there = np.argwhere(maps.mask[row].numpy())[::97]
    return np.c_[there[:, ::-1] + 0.5, maps.iuv[row].numpy()[there[:, 0], there[:, 1]]]


def test_dense_points_lie_on_the_iuv_of_the_crop(drawn, maps, tmp_path):
    table = as_table(drawn, tmp_path, dense_points=lambda row: drawn_points(maps, row))
    ours, theirs = both(drawn, table, Wants(maps=("iuv",), dense_points=30))
    assert not theirs.dense_known["iuv"].any() and table.has("dense_points")
    points, gaps, parts = theirs.dense_points, [], []
    for i in range(len(theirs)):
        pixels = points.pixels[i][points.valid[i]]
        assert ((pixels >= 0) & (pixels < 64)).all()
        column, row = pixels.long().unbind(-1)
        there = ours.dense.iuv[i, row, column]
        same = there[:, 0].long() == points.part[i][points.valid[i]]
        gaps += (there[:, 1:] - points.uv[i][points.valid[i]])[same].abs().amax(-1).tolist()
        parts += same.tolist()
    assert np.mean(parts) > 0.85  # the others are at a part's edge
    assert len(gaps) > 200 and np.median(gaps) < 0.05
    few = TrainingStream([table], None, 24, StreamConfig(64, STRONG, Wants(image=False, dense_points=3)))[1]
    assert few.dense_points.valid.sum(1).max() == 3


def test_pixels_without_annotation_stay_so_and_left_and_right_change_places(tmp_path):
    labels = np.zeros((40, 60), np.uint8)
    labels[10:30, 5:25], labels[10:30, 35:55], labels[0:5] = LSP6.label("left_arm"), LSP6.label("right_leg"), IGNORED
    cv2.imwrite(str(tmp_path / "p.png"), labels)
    info = TableInfo("lsp", "train", str(tmp_path), LSP14, part_set="lsp6")
    sample = Sample("a.jpg", image_size=(60, 40), parts_path="p.png")
    crop = CropTransform(np.array([30.0, 20.0]), 60.0, 60)
    plain, mirrored = (
        annotated_maps(sample, info, Look(c), Wants(maps=("mask",), parts=("lsp6", "parts1"), stride=2))
        for c in (crop, replace(crop, flipped=True))
    )
    assert torch.equal(plain.mask.flip(2), mirrored.mask) and 0 < plain.mask.float().mean() < 0.3
    exchanged = torch.tensor([*LSP6.mirror, *[-1] * (255 - len(LSP6.mirror)), IGNORED])
    assert torch.equal(exchanged[plain.labels["lsp6"].flip(2)], mirrored.labels["lsp6"])
    assert mirrored.labels["lsp6"].unique().tolist() == sorted(
        [0, LSP6.label("right_arm"), LSP6.label("left_leg"), IGNORED]
    )
    assert plain.labels["parts1"].unique().tolist() == [0, 1, IGNORED]


@pytest.mark.parametrize(
    ("finer", "coarser", "known"),
    [
        ("parts24", "parts6", True),
        ("parts6", "parts3", True),
        ("densepose24", "lsp6", True),
        ("densepose24", "densepose14", True),
        ("densepose14", "densepose24", False),
        ("parts6", "parts12", False),
        ("lsp6", "parts6", False),
    ],
)
def test_coarser_parts_are_joined_from_finer_ones_of_the_same_joints(tmp_path, finer, coarser, known):
    parts = part_set(finer)
    labels = np.zeros((32, 32), np.uint8)
    labels[0, : len(parts) + 1] = np.arange(len(parts) + 1)
    cv2.imwrite(str(tmp_path / "p.png"), labels)
    info = TableInfo("toy", "train", str(tmp_path), part_set=finer)
    look = Look(CropTransform(np.full(2, 16.0), 32.0, 32))
    made = annotated_maps(Sample("a.jpg", parts_path="p.png"), info, look, Wants(parts=(coarser,))).labels.get(coarser)
    assert (made is not None) == known
    if made is not None:
        for label, joints in enumerate(parts.joints, 1):
            joined = part_set(coarser).joints[int(made[0, 0, label]) - 1]
            assert set(joints) <= set(joined)


def test_labels_of_another_set_a_wrong_size_and_colours_are_named(tmp_path):
    info = TableInfo("toy", "train", str(tmp_path), part_set="parts12", provenance={"mask_root": str(tmp_path / "m")})
    (tmp_path / "m").mkdir()
    look = Look(CropTransform(np.full(2, 16.0), 32.0, 32))
    sample = Sample("a.jpg", image_size=(32, 32), parts_path="p.png", mask_path="k.png")
    for picture, wants, message in (
        (np.full((32, 32), 13, np.uint8), Wants(parts=("parts12",)), r"a\.jpg.*up to 13.*0 to 12"),
        (np.zeros((30, 32), np.uint8), Wants(parts=("parts12",)), r"p\.png is 32 x 30"),
        (np.random.default_rng(0).integers(0, 9, (32, 32, 3)).astype(np.uint8), Wants(parts=("parts12",)), "colours"),
        (None, Wants(maps=("mask",)), r"k\.png: there is no such file"),
    ):
        if picture is not None:
            cv2.imwrite(str(tmp_path / "m" / "p.png"), picture)
        with pytest.raises(ImageError, match=message):
            annotated_maps(sample, info, look, wants)
    nothing = annotated_maps(replace(sample, mask_path=None), replace(info, part_set=None), look, Wants(maps=("mask",)))
    assert nothing.mask is None and not nothing.labels


def test_a_broken_mask_is_replaced_like_a_broken_photo(drawn, maps, tmp_path):
    paths = written(tmp_path, "mask", 255 * maps.mask.numpy().astype(np.uint8))
    table = as_table(drawn, tmp_path, mask_path=paths)
    (tmp_path / "mask3.png").write_bytes(b"no picture")
    wants = Wants(image=False, maps=("mask",))
    with pytest.warns(UserWarning, match=r"mask3\.png.*takes its place"):
        batch = TrainingStream([table], None, 40, StreamConfig(32, STRONG, wants))[0]
    assert 3 not in batch.index.tolist() and batch.dense_known["mask"].all()
    with pytest.warns(UserWarning, match=r"mask3\.png"):
        plain = plain_batch(table, [2, 3], 32, wants)
    assert plain.dense_known["mask"].tolist() == [True, False] and not plain.dense.mask[1].any()


def test_sources_that_know_more_and_less_make_one_batch(drawn, maps, tmp_path):
    table = as_table(
        drawn, tmp_path, "lsp6", parts=lambda row: None, mask=lambda row: RunLengths.encode(maps.mask[row].numpy())
    )
    wants = Wants(
        image=False, maps=("mask", "uv", "uv_visible"), parts=("lsp6",), uv_size=32, heatmaps=HeatmapWants("lsp14")
    )
    batch = TrainingStream([table, drawn], [1.0, 1.0], 16, StreamConfig(64, STRONG, wants))[0]
    synthetic = batch.source == 1
    assert synthetic.any() and not synthetic.all()
    assert batch.dense_known["mask"].all()
    for name in ("uv", "uv_visible", "lsp6"):
        assert torch.equal(batch.dense_known[name], synthetic)
    assert not batch.dense.uv[~synthetic].any() and batch.dense.uv[synthetic].any()
    # Both place LSP's points, the table by way of SPIN's.
    for kind in (synthetic, ~synthetic):
        assert batch.heatmaps.known[kind].float().mean() > 0.5
        assert batch.heatmaps.values[kind].amax((-1, -2))[batch.heatmaps.known[kind]].median() > 0.9


def test_keypoints_of_the_tables_own_set_are_taken_as_they_are():
    points = np.random.default_rng(0).uniform(0, 50, (14, 3)).clip(0, 1) * [50, 50, 1]
    info = TableInfo("lsp", "train", ".", LSP14)
    assert np.array_equal(annotated_keypoints(Sample("a", keypoints_2d=points), info, LSP14), points)
    assert not annotated_keypoints(Sample("a"), info, LSP14).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wants(parts=("parts5",)), "no part set 'parts5'"),
        (lambda: Wants(joints="h36m17"), "lsp14 or smpl24"),
        (lambda: Wants(stride=0), "stride is 0"),
        (lambda: HeatmapWants("cats"), "no keypoint set 'cats'"),
        (lambda: HeatmapWants("coco17", 0.0), "sigma is 0"),
        (lambda: StreamConfig(50, wants=Wants(stride=4)), "50 pixels have no maps of stride 4"),
    ],
)
def test_wishes_that_cannot_be_granted_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
