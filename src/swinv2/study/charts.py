"""The pictures of studies, drawn without a display, to be read at the width of a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from swinv2.study.findings import Mean

COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#57606a")

ABOVE_GUESSING = 1.3
"""So many times the loss of guessing is the most that is drawn: one training that explodes would flatten the others."""


@dataclass(frozen=True)
class Line:
    """Points of a curve, their spread, and how to draw it; crosses ("x") are not joined.

    A curve of a training that failed ends in a large cross.
    """

    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float] | None = None
    dashed: bool = False
    colour: int | None = None
    marker: str = "o"
    failed: bool = False


def of_means(x: Sequence[float], means: Sequence[Mean | None], scale: float = 1.0) -> Line:
    """A curve through means, with their standard deviations; without the places that have none."""
    found = [(at, mean) for at, mean in zip(x, means, strict=True) if mean is not None]
    return Line(
        [at for at, _ in found],
        [scale * mean.mean for _, mean in found],
        [scale * (mean.deviation or 0.0) for _, mean in found],
    )


def draw(axes: Axes, lines: Mapping[str, Line], *, x: str, y: str, title: str = "", guess: float | None = None) -> None:
    """Curves with a legend, and bars of one standard deviation.

    Args:
        axes: where.
        lines: by what the legend says.
        x: the axis.
        y: the axis.
        title: above.
        guess: loss of guessing, a line; losses beyond `ABOVE_GUESSING` of it become triangles at the upper edge.
    """
    if guess is not None:
        axes.axhline(guess, color="black", linewidth=0.8, linestyle=":", label="guessing")
        lines = {
            name: _below(axes, line, number, ABOVE_GUESSING * guess)
            for number, (name, line) in enumerate(lines.items())
        }
    for number, (name, line) in enumerate(lines.items()):
        colour = _colour(line, number)
        joined = "" if line.marker == "x" else "--" if line.dashed else "-"
        style: Any = {"color": colour, "linestyle": joined, "label": name}
        if line.spread is None:
            axes.plot(line.x, line.y, marker="." if len(line.x) < 60 else "", **style)
        else:
            axes.errorbar(line.x, line.y, line.spread, marker=line.marker, markersize=5, capsize=3, **style)
        if line.failed:
            axes.plot(line.x[-1:], line.y[-1:], "x", color=colour, markersize=11, markeredgewidth=2.5)
    if any(line.failed for line in lines.values()):
        axes.plot([], [], "x", color="black", markersize=8, markeredgewidth=2, label="failed")
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, parse_math=False)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=9)


def share_legend(figure: Figure, panels: Sequence[Axes], columns: int) -> None:
    """One legend below all panels in place of theirs, which would hide curves; what is named alike is drawn alike."""
    named = {name: handle for axes in panels for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    for axes in panels:
        if (own := axes.get_legend()) is not None:
            own.remove()
    figure.legend(list(named.values()), list(named), loc="outside lower center", ncols=columns, fontsize=9)


def _colour(line: Line, number: int) -> str:
    return COLOURS[(number if line.colour is None else line.colour) % len(COLOURS)]


def _below(axes: Axes, line: Line, number: int, top: float) -> Line:
    """A line with what is above `top` there, as a triangle."""
    beyond = [at for at, value in zip(line.x, line.y, strict=True) if value > top]
    axes.plot(beyond, [top] * len(beyond), "^", color=_colour(line, number), markersize=8)
    return replace(line, y=[min(value, top) for value in line.y])


def curves(lines: Mapping[str, Line], *, x: str, y: str, title: str = "") -> Figure:
    """One panel of `draw`."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    draw(figure.subplots(), lines, x=x, y=y, title=title)
    return figure


def from_zero(axes: Axes, lines: Mapping[str, Line]) -> None:
    """Positive values from 0 on, or by their logarithms where they differ too much for that."""
    found = [value for line in lines.values() for value in line.y]
    if max(found) > 20 * min(found):
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.08 * max(found))


def bars(
    groups: Mapping[str, Mapping[str, Mean | None]],
    *,
    y: str,
    title: str = "",
    scale: float = 1.0,
    line: tuple[str, float] | None = None,
    notes: Mapping[str, Mapping[str, str]] | None = None,
) -> Figure:
    """A group of upright bars for each name, with one standard deviation each.

    Args:
        groups: by what stands below the axis, then by what the legend says; None leaves a place empty.
        y: the axis.
        title: above.
        scale: factor on the values.
        line: name and height of a horizontal line.
        notes: what to write above a bar's number, by the names of the bar.
    """
    figure = Figure(figsize=(max(7.0, 1.3 * len(groups) + 2), 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / max(1, len(names))
    for number, name in enumerate(names):
        shift = (number - (len(names) - 1) / 2) * width
        found = [
            (place + shift, scale * mean.mean, scale * (mean.deviation or 0.0), (notes or {}).get(group, {}).get(name))
            for place, (group, means) in enumerate(groups.items())
            if (mean := means.get(name)) is not None
        ]
        _upright(axes, found, width=0.92 * width, color=COLOURS[number % len(COLOURS)], label=name)
    axes.set_xticks(range(len(groups)), list(groups), parse_math=False)
    if line is not None:
        axes.axhline(line[1], color="black", linewidth=0.9, linestyle=":", label=line[0])
    axes.set(ylabel=y)
    axes.set_title(title, parse_math=False)
    axes.margins(y=0.22 if notes else 0.12)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=6, fontsize=9)
    return figure


def _upright(axes: Axes, found: Sequence[tuple[float, float, float, str | None]], **style: Any) -> None:
    """Bars, each with its place, height, spread, and what to write above its number."""
    places, heights = [at for at, *_ in found], [height for _, height, *_ in found]
    axes.bar(places, heights, yerr=[spread for _, _, spread, _ in found], capsize=3, **style)
    for at, height, spread, note in found:
        text = "\n".join(filter(None, [note, f"{height:.3g}"]))
        axes.annotate(text, (at, height + spread), xytext=(0, 2), textcoords="offset points", ha="center", size=8)


def stacked(
    rows: Mapping[str, Mapping[str, float]], *, x: str, title: str = "", lines: Mapping[str, float] | None = None
) -> Figure:
    """A horizontal bar of parts for each row, and upright lines with a name.

    Args:
        rows: lengths by the names of the parts, by what stands beside the bar.
        x: the axis.
        title: above.
        lines: where to draw them.
    """
    figure = Figure(figsize=(8.5, 1.6 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    left = [0.0] * len(rows)
    for number, part in enumerate(next(iter(rows.values()))):
        sizes = [row[part] for row in rows.values()]
        if any(sizes):
            axes.barh(range(len(rows)), sizes, left=left, color=COLOURS[number % len(COLOURS)], label=part)
        left = [start + size for start, size in zip(left, sizes, strict=True)]
    under = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # a line behind a number leaves it readable
    style: Any = {"textcoords": "offset points", "va": "center", "size": 8, "bbox": under, "zorder": 3}
    for place, whole in enumerate(left):
        axes.annotate(f"{whole:.3g}", (whole, place), xytext=(3, 0), **style)
    for name, at in (lines or {}).items():
        axes.axvline(at, color="black", linewidth=0.9, linestyle="--")
        axes.annotate(name, (at, 1), xycoords=("data", "axes fraction"), ha="right", va="bottom", size=8)
    axes.set_yticks(range(len(rows)), list(rows), parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel=x, xlim=(0, 1.12 * max(left)))
    figure.suptitle(title, size=11, parse_math=False)
    figure.legend(loc="outside lower center", ncols=6, fontsize=9)
    return figure
