from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from swinv2.study.base import Cell, Done, Results
from swinv2.study.charts import Line, bars, draw
from swinv2.study.findings import mean
from swinv2.study.rates import Way, losses


def drawn(lines: dict[str, Line], guess: float | None = None) -> Axes:
    axes = Figure().subplots()
    draw(axes, lines, x="step", y="loss", guess=guess)
    return axes


def legend(axes: Axes) -> list[str]:
    shown = axes.get_legend()
    assert shown is not None
    return names(shown)


def names(shown: Legend) -> list[str]:
    return [text.get_text() for text in shown.get_texts()]


def points(axes: Axes, marker: str) -> list[tuple[float, float]]:
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return [(x, y) for line in lines for x, y in np.asarray(line.get_xydata()).tolist()]


def test_guessing_is_a_line_with_a_name() -> None:
    axes = drawn({"v1": Line([1, 2], [0.7, 0.6])}, guess=0.8)
    assert legend(axes) == ["guessing", "v1"]
    assert [line.get_ydata() for line in axes.lines if line.get_label() == "guessing"] == [[0.8, 0.8]]


def test_one_training_that_explodes_does_not_flatten_the_others() -> None:
    axes = drawn({"v1": Line([1, 2, 3], [2.0, 900.0, 2.1]), "v2": Line([1, 2, 3], [2.0, 1.9, 1.8])}, guess=2.3)
    assert axes.get_ylim()[1] < 3.5
    ((at, height),) = points(axes, "^")
    assert at == 2
    assert height == pytest.approx(1.3 * 2.3)


def test_a_training_that_failed_ends_in_a_cross() -> None:
    axes = drawn({"v1": Line([1, 2], [0.7, 0.9], failed=True), "v2": Line([1, 2], [0.7, 0.6])}, guess=0.8)
    assert points(axes, "x") == [(2.0, 0.9)]
    assert legend(axes) == ["guessing", "v1", "v2", "failed"]


def test_a_training_that_failed_before_its_first_round_has_its_name_in_the_legend() -> None:
    assert legend(drawn({"v1": Line([], [], failed=True)})) == ["v1", "failed"]


def test_losses_have_a_panel_for_each_rate_and_one_name_for_each_way() -> None:
    def done(way: str, rate: str, seed: int, last: float) -> Done:
        told = [{"step": 10, "train_loss": 0.7}, {"step": 20, "train_loss": last}, {"step": 30, "val_loss": 0.5}]
        return Done(Cell(factors={"way": way, "rate": rate, "seed": seed}), {"rows": told, "diverged": None})

    results: Results = [done(way, rate, seed, 0.6) for way in "ab" for rate in ("low", "high") for seed in (0, 1)]
    figure = losses(
        [*results, done("b", "high", 2, 0.9)],
        {"a": Way("A", {}), "b": Way("B", {})},
        {"low": 0.001, "high": 0.1},
        of="masked pixels",
        guess=0.8,
        failed=lambda figures: figures["rows"][1]["train_loss"] > 0.8,
    )
    low, high = figure.axes
    assert (low.get_title(), high.get_title()) == ("learning rate 0.001", "learning rate 0.1")
    assert (low.get_xlabel(), low.get_ylabel()) == ("step", "training loss (masked pixels)")
    assert (low.get_legend(), high.get_legend()) == (None, None)
    assert names(figure.legends[0]) == ["guessing", "A", "B", "failed"], "one for both"
    assert points(high, "x") == [(20.0, 0.9)]


def test_bars_tell_what_is_remarkable_about_them() -> None:
    figure = bars(
        {"pre": {"low": mean([0.5, 0.6]), "high": mean([0.1])}, "post": {"low": mean([0.4]), "high": None}},
        y="top-1, %",
        scale=100,
        line=("guessing", 10),
        notes={"pre": {"high": "1 of 1 failed"}},
    )
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == {"55", "1 of 1 failed\n10", "40"}
    assert set(names(figure.legends[0])) == {"guessing", "low", "high"}
