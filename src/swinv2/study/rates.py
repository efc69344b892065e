"""What the studies of choices at several learning rates have alike: their grid, and the picture of their losses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from swinv2.study.base import Cell, Figures, Results, Setting, chosen
from swinv2.study.charts import Line, draw, share_legend


class Way(NamedTuple):
    """One of the choices that are compared: what to call it, and its fields of `SwinConfig`."""

    label: str
    fields: Mapping[str, Any]


Ways = Mapping[str, Way]
Rates = Mapping[str, float]
"""Base learning rates, for 512 images a step, by name."""


def grid(setting: Setting, ways: Ways, rates: Rates) -> list[Cell]:
    """Every way at every learning rate, seed by seed."""
    return [
        Cell(
            factors={"way": way, "rate": rate, "seed": seed},
            changes={
                "seed": seed,
                "optimizer.base_lr": value,
                **{f"model.overrides.{name}": option for name, option in fields.items()},
            },
        )
        for seed in setting.seed_range()
        for rate, value in rates.items()
        for way, (_, fields) in ways.items()
    ]


def nothing_more(cell: Cell, setting: Setting, run: Path | None) -> Figures:
    """Measures nothing: training tells everything."""
    return {}


def losses(
    results: Results,
    ways: Ways,
    rates: Rates,
    *,
    of: str,
    guess: float | None,
    failed: Callable[[Figures], object],
) -> Figure:
    """A panel for each learning rate, with a curve of every training in the colour of its way.

    Args:
        results: cells that are done.
        ways: of the grid.
        rates: of the grid.
        of: what the loss is.
        guess: loss of who knows nothing, where it is told.
        failed: whether a training did, which is then marked.
    """
    figure = Figure(figsize=(5.5 * max(len(rates), 1.4), 4.2), layout="constrained")
    panels = figure.subplots(1, len(rates), sharey=True, squeeze=False)[0]
    for axes, (rate, value) in zip(panels, rates.items(), strict=True):
        lines = {}
        for number, (way, (label, _)) in enumerate(ways.items()):
            for place, done in enumerate(chosen(results, way=way, rate=rate)):
                x, y = _curve(done.figures["rows"])
                name = f"_{label} {place}" if place else label
                lines[name] = Line(x, y, colour=number, failed=bool(failed(done.figures)))
        draw(axes, lines, x="step", y=f"training loss ({of})", title=f"learning rate {value:g}", guess=guess)
    share_legend(figure, panels, columns=4)
    return figure


def _curve(rows: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    told = [row for row in rows if "train_loss" in row]
    return [row["step"] for row in told], [row["train_loss"] for row in told]
