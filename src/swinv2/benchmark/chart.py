"""Horizontal bars, grouped by row, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from swinv2.files import written_aside

Bars = Mapping[str, tuple[float, str]]
"""Length and label of each contender's bar."""


def bar_chart(groups: Sequence[tuple[str, Bars]], title: str, axis: str, line: float | None = None) -> Figure:
    """One group of bars for each row, a colour for each contender.

    Args:
        groups: name of a row and its bars.
        title: over the chart.
        axis: what the length of a bar is.
        line: where to draw a vertical line, such as at 1 for ratios.
    """
    names = list(dict.fromkeys(name for _, bars in groups for name in bars))
    figure = Figure(figsize=(9, 1.2 + 0.22 * sum(len(bars) + 1 for _, bars in groups)), layout="constrained")
    axes = figure.subplots()
    place, ticks = 0.0, []
    for row, bars in groups:
        ticks.append((place + (len(bars) - 1) / 2, row))
        for name, (length, label) in bars.items():
            axes.barh(place, length, color=f"C{names.index(name)}", label=name)
            axes.annotate(label, (length, place), xytext=(3, 0), textcoords="offset points", va="center", size=7)
            place += 1
        place += 1
    axes.set_yticks([at for at, _ in ticks], [row for _, row in ticks], parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.15, y=0.01)
    if line is not None:
        axes.axvline(line, color="black", linewidth=0.8)
    axes.set(xlabel=axis)
    axes.set_title(title, parse_math=False)
    handles, labels = axes.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=min(4, len(shown)))
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    with written_aside(path) as draft:
        figure.savefig(draft, format="png", dpi=120)
