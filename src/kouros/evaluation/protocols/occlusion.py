"""HKMR's occlusion test on Human3.6M: shapes of five sizes over one joint at a time (Fig. 6, Tables 1 and 4)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from kouros.data.occlusion import DEGREES, FILL, SHAPES, each_joint
from kouros.data.schema import Sample, TableInfo
from kouros.evaluation.protocols.card import Measure, PaperTable, paper_rows
from kouros.evaluation.protocols.human36m import P1_HMR, P2_HMR
from kouros.evaluation.protocols.points import COMMON14, select
from kouros.evaluation.protocols.protocol import (
    Curve,
    EvaluationProtocol,
    Judged,
    ProtocolError,
    Scorer,
    Setting,
)
from kouros.systems.estimator import PersonInPhoto

STANDARD = "standard"


def covered_views(
    row: int, sample: Sample, info: TableInfo, person: PersonInPhoto
) -> Iterator[tuple[str, PersonInPhoto]]:
    """The person as photographed, then behind each shape of each degree over each of the 14 joints.

    Sizes are of HKMR's 224-pixel crop, scaled to the person's square in the photo.
    """
    if sample.keypoints_2d is None or info.keypoints_2d is None:
        raise ProtocolError(
            f"{sample.image_path}: this row has no keypoints in the picture, so no joint can be covered."
        )
    assert person.image is not None
    yield STANDARD, person
    places = select(info.keypoints_2d, COMMON14)
    joints = np.asarray(sample.keypoints_2d, dtype=np.float64)[[i[0] for i in places.indices]]
    corner = np.floor(person.crop_center - person.crop_side / 2).astype(int)
    size = round(person.crop_side)
    on_crop = np.c_[joints[:, :2] - corner, joints[:, 2]]
    for shape in SHAPES:
        for degree in DEGREES:
            for _, occluder in each_joint(on_crop, shape, degree, (row,)):
                yield f"{shape} {degree}", replace(person, image=_painted(person.image, occluder.mask(size), corner))


def _painted(image: np.ndarray, mask: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The photo with a square's mask painted at its place."""
    height, width = image.shape[:2]
    x0, y0 = np.maximum(corner, 0)
    x1, y1 = np.minimum(corner + len(mask), [width, height])
    painted = image.copy()
    if x0 < x1 and y0 < y1:
        part = mask[y0 - corner[1] : y1 - corner[1], x0 - corner[0] : x1 - corner[0]]
        painted[y0:y1, x0:x1][part] = FILL
    return painted


class SweepScorer(Scorer):
    """MPJPE for each shape and degree, a mean over joints covered, frames and joints scored."""

    def __init__(self, setting: Setting, protocol: EvaluationProtocol) -> None:
        views = (STANDARD, *(f"{shape} {degree}" for shape in SHAPES for degree in DEGREES))
        self._by_view = {view: protocol.scorer(setting) for view in views}
        self.notes = self._by_view[STANDARD].notes

    def add(self, people: Sequence[Judged]) -> list[dict[str, float]]:
        """Score a batch of views."""
        result = []
        for person in people:
            (scores,) = self._by_view[person.view].add([person])
            result.append({STANDARD: scores["mpjpe"]} if person.view == STANDARD else {})
        return result

    def scores(self) -> dict[str, float]:
        """Without shapes, and for each shape the mean over its degrees."""
        lines = {shape: float(np.mean(line)) for shape, line in self._lines().items()}
        return {STANDARD: self._by_view[STANDARD].scores()["mpjpe"], **lines}

    def curve(self) -> Curve:
        """Fig. 6: MPJPE over the degree."""
        lines = {shape: tuple(1000 * v for v in line) for shape, line in self._lines().items()}
        return Curve("degree of occlusion", "MPJPE, mm", tuple(map(float, DEGREES)), lines)

    def _lines(self) -> dict[str, list[float]]:
        return {shape: [self._by_view[f"{shape} {degree}"].scores()["mpjpe"] for degree in DEGREES] for shape in SHAPES}


_HKMR = "HKMR (Georgakis et al., ECCV 2020)"
_REMARK = "the paper does not say of which degree these are; here: the mean over the five"
_KEYS = f"{STANDARD} {' '.join(SHAPES)}"


def _sweep(protocol: EvaluationProtocol, number: int, table1: str, table4: str) -> EvaluationProtocol:
    return EvaluationProtocol(
        name=f"human36m-p{number}-occlusion",
        title=f"Human3.6M, Protocol {number} of HKMR, behind bars, circles and rectangles",
        card=replace(
            protocol.card,
            frames=f"{protocol.card.frames}; each shown once for each shape, degree and covered joint",
            excluded=f"{protocol.card.excluded}; joints without a place in the picture are not covered",
            source=f"{_HKMR}, Sec. 4, Fig. 6, Tables 1 and 4",
            open_points=f"{protocol.card.open_points}; degrees 1 to 5: bars 10 to 50 px wide, circles of radius 10 to "
            "50 px, rectangles of 3,000 to 15,000 px in a crop of 224; colour, directions and sides are not given: "
            "see kouros.data.occlusion; the 14 joints are covered",
        ),
        rows=replace(protocol.rows, needs=(*protocol.rows.needs, "keypoints_2d")),
        measures=tuple(Measure(key, key.capitalize()) for key in _KEYS.split()),
        scorer=lambda setting: SweepScorer(setting, protocol),
        papers=(
            PaperTable(_HKMR, "Table 1", paper_rows(_KEYS, table1), _REMARK),
            PaperTable(_HKMR, "Table 4", paper_rows(_KEYS, table4), _REMARK),
        ),
        views=covered_views,
    )


PROTOCOLS = (
    _sweep(
        P1_HMR,
        1,
        "HMR | 87.97 | 98.74 | 95.28 | 100.23\n"
        "CMR | 74.70 | 82.99 | 83.50 | 89.01\nHKMR | 71.08 | 78.34 | 77.60 | 81.33",
        "SPIN | 65.60 | 74.40 | 74.06 | 77.21\nHKMR_MF | 64.02 | 70.10 | 69.60 | 70.10",
    ),
    _sweep(
        P2_HMR,
        2,
        "HMR | 88.00 | 98.54 | 91.71 | 99.61\n"
        "CMR | 71.90 | 78.85 | 79.24 | 84.73\nHKMR | 67.74 | 74.91 | 71.38 | 76.79",
        "SPIN | 62.23 | 68.61 | 67.03 | 70.35\nHKMR_MF | 59.62 | 64.91 | 63.22 | 64.91",
    ),
)
