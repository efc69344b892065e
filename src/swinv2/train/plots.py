"""The pictures of a run, drawn without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from swinv2.files import written_aside

NAMED_CLASSES = 50
"""Up to this many classes have their names, and the numbers of images, in the confusion matrix."""

Row = Mapping[str, float | None]


def save(figure: Figure, path: Path) -> None:
    """Write a PNG."""
    with written_aside(path) as draft:
        figure.savefig(draft, format="png")


def printable(text: str) -> str:
    """Text without the surrogates of undecodable file names, which cannot be drawn."""
    return text.encode(errors="backslashreplace").decode()


def curves(rows: Sequence[Row]) -> Figure:
    """Loss and accuracy, if there is any, against epochs, from the rows of metrics.csv."""
    names = {"train_loss": "training", "val_loss": "validation"}
    if rows and all(row["val_top1"] is None for row in rows):
        figure = Figure(figsize=(5, 4), layout="constrained")
        _plot(figure.subplots(), rows, names, "loss")
        return figure
    figure = Figure(figsize=(10, 4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    _plot(loss, rows, names, "cross entropy")
    _plot(accuracy, rows, {"val_top1": "top-1", "val_top5": "top-5"}, "validation accuracy, %", scale=100)
    return figure


def _plot(axes: Axes, rows: Sequence[Row], names: Mapping[str, str], unit: str, scale: float = 1) -> None:
    for column, label in names.items():
        points = [
            (epoch, scale * value)
            for row in rows
            if (epoch := row["epoch"]) is not None and (value := row[column]) is not None
        ]
        axes.plot([x for x, _ in points], [y for _, y in points], marker=".", label=label)
    axes.set(xlabel="epoch", ylabel=unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
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
