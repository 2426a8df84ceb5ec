"""Model cards: for everything learned that comes with kouros, what it is, of what and how it was made, and how good."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kouros.documents import read_json

PACKAGE = Path(__file__).parent
_FOLDER = PACKAGE / "model_cards"


@dataclass(frozen=True)
class ModelCard:
    """One packaged model, in the words of its card."""

    name: str
    title: str
    kind: str
    """estimator, detector, body or prior."""
    files: tuple[str, ...]
    """Below the package."""
    licence: str
    made_from: str
    command: str
    """That makes it again."""
    figures: tuple[str, ...]
    """Each with the command that measures it."""
    limits: str

    @property
    def megabytes(self) -> float:
        """Of its files."""
        return sum((PACKAGE / f).stat().st_size for f in self.files) / 1e6


@cache
def model_cards() -> dict[str, ModelCard]:
    """All cards by name, estimators first."""
    cards = []
    for path in sorted(_FOLDER.glob("*.json")):
        content: dict[str, Any] = read_json(path)
        files, figures = (tuple(content.pop(name)) for name in ("files", "figures"))
        cards.append(ModelCard(files=files, figures=figures, **content))
    return {c.name: c for c in sorted(cards, key=lambda c: (c.kind != "estimator", c.name != "default", c.name))}
