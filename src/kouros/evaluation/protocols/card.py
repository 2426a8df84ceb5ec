"""What a score means: the protocol's card, its measures, and the papers' own rows.

"Protocol 1" means three things in three papers, so no score leaves this package without its card.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class ProtocolCard:
    """All that must be equal for two scores to be comparable."""

    dataset: str
    split: str
    subjects: str
    cameras: str
    frames: str
    joints: str
    """The points compared."""
    regressor: str
    """Where the estimate's points, and the truth's, come from."""
    alignment: str
    """Root and alignment."""
    gender: str
    """Which body model places the true points, where one does."""
    units: str
    excluded: str
    source: str
    """Paper and section, or whose evaluation it follows."""
    open_points: str = "none"
    """What the source leaves open, and how it is taken here."""

    def lines(self) -> list[tuple[str, str]]:
        """Names and texts, for printing."""
        return [(f.name.replace("_", " "), getattr(self, f.name)) for f in fields(self)]


@dataclass(frozen=True)
class Measure:
    """One score of a protocol."""

    key: str
    """As in JSON files: ``pa_mpjpe``."""
    title: str
    unit: str = "mm"
    factor: float = 1000.0
    """From what the metric gives (metres, ratios, pixels) to the unit."""
    decimals: int = 1
    higher_is_better: bool = False


MPJPE = Measure("mpjpe", "MPJPE")
PA_MPJPE = Measure("pa_mpjpe", "PA-MPJPE")
PVE = Measure("pve", "PVE")


def percent(key: str, title: str, decimals: int = 1, *, higher_is_better: bool = True) -> Measure:
    """A share in [0, 1], printed in percent."""
    return Measure(key, title, "%", 100.0, decimals, higher_is_better)


@dataclass(frozen=True)
class PaperRow:
    """What a paper prints of one method."""

    method: str
    scores: Mapping[str, float]
    """By the keys of the protocol's measures, in their units; what the paper leaves out is missing."""


@dataclass(frozen=True)
class PaperTable:
    """Rows of a published table. The numbers are the paper's own, and none of them was measured here."""

    paper: str
    table: str
    rows: tuple[PaperRow, ...]
    remark: str = ""
    """Where the paper's protocol is known to differ from the card."""


def paper_rows(keys: str, text: str) -> tuple[PaperRow, ...]:
    """Rows written as lines ``method | number | number``, with ``-`` for what is not reported.

    Args:
        keys: of the columns, separated by blanks.
    """
    rows = []
    for line in text.strip().splitlines():
        method, *numbers = (cell.strip() for cell in line.split("|"))
        pairs = zip(keys.split(), numbers, strict=True)
        rows.append(PaperRow(method, {key: float(number) for key, number in pairs if number != "-"}))
    return tuple(rows)
