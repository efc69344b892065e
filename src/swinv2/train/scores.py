"""What a task is judged by, as plain data: columns of metrics.csv, curves, the log, and which weights are the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

Row = Mapping[str, float | None]
"""A row of metrics.csv."""

LOSSES = {"train_loss": "training", "val_loss": "validation"}
PROGRESS = ("epoch", "step", "lr", *LOSSES)
SPEED = ("seconds", "images_per_second", "data_images_per_second", "waited")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of validation beside the loss.

    Args:
        name: As in `swinv2.tasks.base.Metrics.scalars`.
        label: What people call it.
        form: How they want to read it.
        highest: Whether more is better.
    """

    name: str
    label: str
    form: str = "{:.2%}"
    highest: bool = True

    @property
    def column(self) -> str:
        """Its column of metrics.csv."""
        return f"val_{self.name}"

    def show(self, value: float) -> str:
        """The figure for people."""
        return f"{self.label} {self.form.format(value)}"


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Curves that share an axis.

    Args:
        unit: What the axis is called.
        lines: Columns of metrics.csv, and what to call their curves.
        scale: Factor on their values.
    """

    unit: str
    lines: Mapping[str, str]
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The figures of a task.

    Args:
        metrics: Beside the loss, in the order of their columns; those that the log shows too.
        best: The metric that the best weights have the best value of, the loss deciding between equals; None where
            the loss alone decides.
        panels: Of curves.png, from left to right.
        counted: What the log counts by the second, for people.
    """

    metrics: tuple[Metric, ...] = ()
    best: Metric | None = None
    panels: tuple[Panel, ...] = field(default=(Panel(unit="loss", lines=LOSSES),))
    counted: str = "images"

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of metrics.csv.

        Epochs count from 1; seconds include validation. The last three are of training alone: images a second, those
        that all data workers could make, and the share of the time that training waited for them.
        """
        return (*PROGRESS, *(metric.column for metric in self.metrics), *SPEED)

    def rank(self, values: Mapping[str, float | None]) -> tuple[float, float]:
        """Of several validations the best has the largest; from figures by name, the loss among them."""
        loss = values.get("loss")
        return self._first(values), -inf if loss is None else -loss

    def _first(self, values: Mapping[str, float | None]) -> float:
        if self.best is None:
            return 0.0
        value = values.get(self.best.name)
        return -inf if value is None else value if self.best.highest else -value

    def rank_row(self, row: Row) -> tuple[float, float]:
        """`rank` of a row of metrics.csv."""
        return self.rank({name.removeprefix("val_"): value for name, value in row.items() if name.startswith("val_")})

    def show(self, row: Row) -> str:
        """The figure that decides, for people."""
        value = None if self.best is None else row.get(self.best.column)
        if self.best is not None and value is not None:
            return self.best.show(value)
        loss = row.get("val_loss")
        return "no validation" if loss is None else f"loss {loss:.4f}"

    def describe(self, row: Row) -> list[str]:
        """A row in words, without what it lacks."""
        forms = {"train_loss": "train loss {:.4f}", "val_loss": "val loss {:.4f}"}
        forms |= {metric.column: f"{metric.label} {metric.form}" for metric in self.metrics}
        forms |= {"seconds": "{:.1f} s", "images_per_second": f"{{:.0f}} {self.counted}/s"}
        forms |= {"data_images_per_second": f"data {{:.0f}} {self.counted}/s", "waited": "waited {:.0%}"}
        return [form.format(value) for name, form in forms.items() if (value := row.get(name)) is not None]
