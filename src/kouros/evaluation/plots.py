"""One picture of a verdict: the protocol's curve where it has one, and how the main score spreads over people."""

import io
from typing import Any

import numpy as np

from kouros.evaluation.judge import Verdict


def plot_bytes(verdict: Verdict) -> bytes:
    """A PNG file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("The plot needs matplotlib: pip install matplotlib (or 'kouros[dev]').") from None
    panels = 2 if verdict.curve is not None else 1
    figure = Figure(figsize=(5.2 * panels, 3.6), dpi=110, layout="constrained")
    axes: list[Any] = np.atleast_1d(np.asarray(figure.subplots(1, panels))).tolist()
    _spread(axes[0], verdict)
    if verdict.curve is not None:
        _curve(axes[1], verdict)
    figure.suptitle(f"{verdict.protocol.title}: {verdict.estimator}, {len(verdict.rows)} people", fontsize=10)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _spread(axis: Any, verdict: Verdict) -> None:
    """Share of people up to each value of the first measure that people have one by one."""
    for measure in verdict.protocol.measures:
        values = [measure.factor * p[measure.key] for p in verdict.per_person if measure.key in p]
        if values:
            break
    else:
        axis.text(0.5, 0.5, "this protocol pools its counts:\nno score for one person", ha="center", va="center")
        axis.set_axis_off()
        return
    ordered = np.sort(values)
    axis.step(ordered, 100 * np.arange(1, len(ordered) + 1) / len(ordered), where="post")
    middle = float(np.median(ordered))
    axis.axvline(middle, linestyle=":", color="0.4")
    axis.text(middle, 3, f" median {middle:.{measure.decimals}f}", fontsize=8)
    axis.set_xlabel(f"{measure.title}{f', {measure.unit}' if measure.unit else ''}")
    axis.set_ylabel("people up to this, %")
    axis.set_ylim(0, 102)
    axis.grid(alpha=0.3)


def _curve(axis: Any, verdict: Verdict) -> None:
    curve = verdict.curve
    assert curve is not None
    for name, line in curve.y.items():
        axis.plot(curve.x, line, label=name, marker="o" if len(curve.x) < 10 else None)
    axis.set_xlabel(curve.x_title)
    axis.set_ylabel(curve.y_title)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
