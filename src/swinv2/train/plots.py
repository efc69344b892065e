"""The pictures of a run, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from swinv2.files import written_aside
from swinv2.train.scores import Panel, Row

NAMED_CLASSES = 50
"""Up to this many classes have their names, and the numbers of images, in the confusion matrix."""


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    with written_aside(path) as draft:
        figure.savefig(draft, format="png")


def printable(text: str) -> str:
    """Text without the surrogates of undecodable file names, which cannot be drawn."""
    return text.encode(errors="backslashreplace").decode()


def curves(rows: Sequence[Row], panels: Sequence[Panel]) -> Figure:
    """The panels of a task side by side, against epochs, from the rows of metrics.csv."""
    figure = Figure(figsize=(5 * len(panels), 4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _plot(axes, rows, panel)
    return figure


def _plot(axes: Axes, rows: Sequence[Row], panel: Panel) -> None:
    for column, label in panel.lines.items():
        points = [
            (epoch, panel.scale * value)
            for row in rows
            if (epoch := row["epoch"]) is not None and (value := row.get(column)) is not None
        ]
        if points:
            axes.plot([x for x, _ in points], [y for _, y in points], marker=".", label=label)
    axes.set(xlabel="epoch", ylabel=panel.unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend()


def confusion(counts: Tensor, classes: Sequence[str], title: str) -> Figure:
    """Share of each true class (row) that was given each name (column); with numbers up to `NAMED_CLASSES`."""
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).tolist()
    side = 3 + 0.35 * min(len(classes), NAMED_CLASSES)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class")
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(printable(title), parse_math=False)
    if len(classes) <= NAMED_CLASSES:
        names = [printable(name) for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(classes)), names, parse_math=False)
        _write_counts(axes, counts, shares)
    return figure


def _write_counts(axes: Axes, counts: Tensor, shares: Sequence[Sequence[float]]) -> None:
    for row, column in counts.nonzero().tolist():
        colour = "white" if shares[row][column] > 0.5 else "black"
        axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", size=7, color=colour)
