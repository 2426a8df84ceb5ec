"""A verdict for people to read and for programs: the paper's table with this run's row, and a JSON file."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from kouros.evaluation.judge import Verdict
from kouros.evaluation.protocols.card import Measure, PaperTable, ProtocolCard

_PACKAGES = ("kouros", "torch", "numpy", "opencv-python-headless", "torchmetrics")


def card_table(card: ProtocolCard) -> Table:
    """The protocol's card."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in card.lines():
        if text != "none":
            table.add_row(name, Text(text))
    return table


def score_table(verdict: Verdict) -> Table:
    """The papers' rows, marked as theirs, and this run's."""
    measures = verdict.protocol.measures
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", min_width=24)
    for measure in measures:
        # Numbers are never cut short: long names of methods wrap instead.
        table.add_column(f"{measure.title}\n{measure.unit}", justify="right", no_wrap=True)
    for paper in verdict.protocol.papers:
        table.add_row(Text(f"{paper.paper}, {paper.table}: the paper's numbers", style="italic"))
        if paper.remark:
            table.add_row(Text(f"  ({paper.remark})", style="italic"))
        for row in paper.rows:
            cells = [_number(m, row.scores.get(m.key)) for m in measures]
            table.add_row(Text(f"  {row.method}"), *cells)
    if verdict.protocol.papers:
        table.add_section()
    table.add_row(
        Text(f"this run: {verdict.estimator}"),
        *(_number(m, _printed(m, verdict.scores.get(m.key))) for m in measures),
        style="bold",
    )
    return table


def report(verdict: Verdict) -> Group:
    """Everything that is printed."""
    title = Text(f"{verdict.protocol.title} ({verdict.protocol.name})", style="bold")
    parts: list[Any] = [title, card_table(verdict.protocol.card), Text(""), score_table(verdict), Text("")]
    parts.append(Text(counts(verdict)))
    parts += [Text(f"note: {note}") for note in verdict.notes]
    return Group(*parts)


def counts(verdict: Verdict) -> str:
    """How many people were scored, missed and unreadable."""
    text = f"{len(verdict.rows)} of {verdict.selected} people scored"
    text += f"; {len(verdict.missed)} not found by the estimator, for whom the mean pose in the box is scored"
    return text + f"; {len(verdict.unreadable)} pictures unreadable."


def markdown(verdict: Verdict) -> str:
    """The score table as Markdown, for documents."""
    measures = verdict.protocol.measures
    heads = [f"{m.title}{f', {m.unit}' if m.unit else ''}" for m in measures]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for paper in verdict.protocol.papers:
        for row in paper.rows:
            cells = [_number(m, row.scores.get(m.key)) for m in measures]
            lines.append(f"| {row.method} ({paper.paper}, {paper.table}) | " + " | ".join(cells) + " |")
    cells = [_number(m, _printed(m, verdict.scores.get(m.key))) for m in measures]
    lines.append(f"| **{verdict.estimator}** | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def json_bytes(verdict: Verdict, command: Sequence[str]) -> bytes:
    """All of it, with the card, the command and the versions; numbers in the units that they are printed in."""
    protocol, info = verdict.protocol, verdict.info
    keys = [m for m in protocol.measures if any(m.key in p for p in verdict.per_person)]
    content = {
        "protocol": protocol.name,
        "title": protocol.title,
        "card": dict(protocol.card.lines()),
        "estimator": verdict.estimator,
        "scores": {
            m.key: {"title": m.title, "unit": m.unit, "value": _printed(m, verdict.scores[m.key])}
            for m in protocol.measures
            if m.key in verdict.scores
        },
        "notes": list(verdict.notes),
        "counts": {
            "selected": verdict.selected,
            "scored": len(verdict.rows),
            "missed": len(verdict.missed),
            "unreadable": len(verdict.unreadable),
        },
        "papers": [_paper(p) for p in protocol.papers],
        "table": {
            "dataset": info.dataset,
            "split": info.split,
            "image_root": info.image_root,
            "provenance": info.provenance,
        },
        "command": list(command),
        "versions": versions(),
        "missed": list(verdict.missed),
        "unreadable": [vars(u) for u in verdict.unreadable],
        "per_person": {
            "row": list(verdict.rows),
            "image": list(verdict.images),
            **{m.key: [_printed(m, p.get(m.key)) for p in verdict.per_person] for m in keys},
        },
        "curve": None if verdict.curve is None else {**vars(verdict.curve), "y": dict(verdict.curve.y)},
    }
    return (json.dumps(content, indent=1, allow_nan=False) + "\n").encode()


def versions() -> dict[str, str]:
    """Of Python and the packages that scores depend on; those not installed are left out."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _paper(paper: PaperTable) -> dict[str, Any]:
    rows = [{"method": row.method, **row.scores} for row in paper.rows]
    return {"paper": paper.paper, "table": paper.table, "remark": paper.remark, "rows": rows}


def _printed(measure: Measure, value: float | None) -> float | None:
    """A metric's number in the measure's unit."""
    return None if value is None else round(measure.factor * value, 6)


def _number(measure: Measure, value: float | None) -> str:
    return "-" if value is None else f"{value:.{measure.decimals}f}"


def cards_markdown() -> str:
    """All protocols with their cards, for the documentation."""
    from kouros.evaluation.protocols import all_protocols

    parts = ["# Protocol cards", "", "Written by `python -m kouros.evaluation.reports > docs/evaluation_cards.md`.", ""]
    for protocol in all_protocols().values():
        parts += [f"## `{protocol.name}`", "", f"{protocol.title}. Prints {_measures(protocol.measures)}.", ""]
        parts += ["| | |", "|---|---|"]
        lines = [(name, text.replace("|", "\\|")) for name, text in protocol.card.lines() if text != "none"]
        parts += [f"| {name} | {text} |" for name, text in lines]
        cited = "; ".join(f"{p.paper}, {p.table}" for p in protocol.papers)
        parts += [f"| table made by | `{protocol.rows.importer}` |"] if protocol.rows.importer else []
        parts += [f"| rows cited from | {cited} |"] if cited else []
        parts.append("")
    return "\n".join(parts)


def _measures(measures: Sequence[Measure]) -> str:
    return ", ".join(f"{m.title}{f' ({m.unit})' if m.unit else ''}" for m in measures)


if __name__ == "__main__":
    print(cards_markdown(), end="")
