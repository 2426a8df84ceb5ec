"""LSP's silhouettes and six body parts: how well a drawn body covers the person (SPIN Table 2, HKMR Table 5)."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from kouros.body.surface import face_labels, part_set
from kouros.data.images import open_picture
from kouros.data.schema import Sample
from kouros.evaluation.answers import cameras_of, meshes_of, through_window
from kouros.evaluation.metrics import confusion_matrix, segmentation_scores
from kouros.evaluation.metrics.accumulate import Segmentation
from kouros.evaluation.protocols.card import PaperTable, ProtocolCard, paper_rows, percent
from kouros.evaluation.protocols.protocol import (
    EvaluationProtocol,
    Judged,
    ProtocolError,
    Rows,
    Scorer,
    Setting,
    require_body,
    with_meshes,
)
from kouros.render.rasterize import rasterize

DRAWN = 224
"""Side of the square crop in which bodies are drawn, pixels, as in SPIN's evaluation."""
IGNORED = 255


class SegmentationScorer(Scorer):
    """Accuracy and F1 of foreground and of six parts, pooled over all pixels of all pictures."""

    def __init__(self, setting: Setting) -> None:
        self._estimator, self._body = setting.estimator, require_body(setting, "draws one")
        self._labels = torch.from_numpy(face_labels(self._body, part_set("lsp6"))).long()
        self._root = Path(setting.info.provenance.get("mask_root") or setting.info.image_root)
        self._foreground, self._parts = Segmentation(2), Segmentation(7, ignore=IGNORED)

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch."""
        maps = self._drawn(people)
        result = []
        for person, drawn in zip(people, maps, strict=True):
            true_mask, true_parts = self._true(person.sample, person.image_size)
            predicted = torch.from_numpy(_laid_over(drawn, person).astype(np.int64))[None]
            mask = torch.from_numpy((true_mask > 0).astype(np.int64))[None]
            parts = torch.from_numpy(true_parts.astype(np.int64))[None]
            self._foreground.update((predicted > 0).long(), mask)
            self._parts.update(predicted, parts)
            fore = segmentation_scores(confusion_matrix((predicted > 0).long(), mask, 2))
            part = segmentation_scores(confusion_matrix(predicted, parts, 7, ignore=IGNORED))
            result.append(
                {
                    "fb_accuracy": float(fore.accuracy),
                    "fb_f1": float(fore.f1),
                    "part_accuracy": float(part.accuracy),
                    "part_f1": float(part.f1),
                }
            )
        return result

    def scores(self) -> dict[str, float]:
        """Pooled."""
        fore, part = self._foreground.compute(), self._parts.compute()
        return {
            "fb_accuracy": float(fore.accuracy),
            "fb_f1": float(fore.f1),
            "part_accuracy": float(part.accuracy),
            "part_f1": float(part.f1),
        }

    def _drawn(self, people: Sequence[Judged]) -> np.ndarray:
        """(people, 224, 224): part labels of the bodies in their crops."""
        estimates = with_meshes(people, self._estimator)
        scale = torch.tensor([DRAWN / p.crop_side for p in people])
        corner = torch.tensor(np.stack([p.crop_center - p.crop_side / 2 for p in people]), dtype=torch.float32)
        camera = through_window(cameras_of(estimates), corner, scale)
        seen = rasterize(meshes_of(estimates, self._body).vertices, self._body.faces, camera, (DRAWN, DRAWN))
        return torch.where(seen.face >= 0, self._labels[seen.face.clamp(min=0)], 0).numpy()

    def _true(self, sample: Sample, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        maps = []
        for path in (sample.mask_path, sample.parts_path):
            if path is None:
                raise ProtocolError(f"{sample.image_path}: this row names no silhouette; import LSP with --masks.")
            try:
                with open_picture(self._root / path) as picture:
                    maps.append(np.asarray(picture.convert("L")))
            except OSError as error:
                raise ProtocolError(f"{self._root / path}: this silhouette cannot be read ({error}).") from None
            if maps[-1].shape != (size[1], size[0]):
                raise ProtocolError(
                    f"{self._root / path} is {maps[-1].shape[1]} x {maps[-1].shape[0]}, the photo {size[0]} x "
                    f"{size[1]}: the silhouettes belong to lsp_dataset, not to lsp_dataset_original."
                )
        labels = maps[1]
        if not np.isin(labels, (*range(7), IGNORED)).all():
            raise ProtocolError(f"{self._root / str(sample.parts_path)} holds labels other than 0 to 6 and 255.")
        return maps[0], labels


def _laid_over(drawn: np.ndarray, person: Judged) -> np.ndarray:
    """A crop's labels in the whole photo, nearest neighbours, 0 outside."""
    scale = person.crop_side / DRAWN
    corner = person.crop_center - person.crop_side / 2
    # From the photo's pixels to the crop's; centres lie at halves here, at whole numbers in OpenCV.
    matrix = np.c_[np.eye(2) / scale, (0.5 - corner) / scale - 0.5]
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(drawn.astype(np.uint8), matrix, person.image_size, flags=flags))


_MEASURES = (
    percent("fb_accuracy", "FB acc.", 2),
    percent("fb_f1", "FB F1", 1),
    percent("part_accuracy", "part acc.", 2),
    percent("part_f1", "part F1", 1),
)
_KEYS = "fb_accuracy fb_f1 part_accuracy part_f1"
TEST = EvaluationProtocol(
    name="lsp",
    title="LSP, foreground and six parts",
    card=ProtocolCard(
        dataset="LSP (lsp_dataset) with UPi-S1h's silhouettes and parts",
        split="test (images 1001 to 2000)",
        subjects="all",
        cameras="one",
        frames="all",
        joints="none: pixels. Parts: left arm, right arm, head with neck, left leg, right leg, torso, by the joint "
        "that moves a face most",
        regressor="none: the mesh, drawn at 224 x 224 in the crop, laid back over the photo by nearest neighbours",
        alignment="none",
        gender="none",
        units="% of all pixels of all pictures; F1: mean over the classes, background among them, in %",
        excluded="pixels marked 255 belong to no class and count as background in the accuracy",
        source="SPIN, Sec. 4.2, and its released evaluation; HKMR follows it",
    ),
    rows=Rows(
        datasets=("lsp",),
        importer="kouros import lsp lsp_dataset --out DIR --split test --masks UPI_S1H",
        splits=("test",),
        needs=("mask_path", "parts_path"),
    ),
    measures=_MEASURES,
    scorer=SegmentationScorer,
    papers=(
        PaperTable(
            "SPIN (Kolotouros et al., ICCV 2019)",
            "Table 2",
            paper_rows(
                _KEYS,
                """
                SMPLify oracle | 92.17 | 88 | 88.82 | 67
                SMPLify | 91.89 | 88 | 87.71 | 64
                SMPLify on Pavlakos et al. | 92.17 | 88 | 88.24 | 64
                HMR | 91.67 | 87 | 87.12 | 60
                SPIN, static fits | 91.07 | 86 | 88.48 | 65
                SPIN, in the loop | 91.83 | 87 | 89.41 | 68
                """,
            ),
        ),
        PaperTable(
            "HKMR (Georgakis et al., ECCV 2020)",
            "Table 5",
            paper_rows(
                _KEYS,
                """
                CMR | 91.46 | 87 | 88.69 | 66
                TexturePose | 91.82 | 87 | 89.00 | 67
                HKMR_MF | 92.23 | 88 | 89.59 | 69
                """,
            ),
        ),
    ),
)
PROTOCOLS = (TEST,)
