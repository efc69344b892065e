"""A study of seconds, on scikit-learn's digits; everything below runs on one thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from swinv2.study.base import Cell, Figures, Results, Setting, Study, values
from swinv2.study.charts import Line, curves
from swinv2.study.findings import TWO_ERRORS, Claim, Picture, Report, Table, Verdict, mean


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Everywhere below this folder."""


TINY: Mapping[str, Any] = {
    "model.image_size": 8,
    "model.window_size": 2,
    "model.overrides.embed_dim": 8,
    "model.overrides.depths": [1, 1],
    "model.overrides.num_heads": [1, 2],
    "model.overrides.patch_size": [2, 2],
    "trainer.accelerator": "cpu",
    "trainer.epochs": 2,
    "trainer.validate_every": 1,
    "trainer.batch_size": 128,
    "trainer.save_every": 2,
    "schedule.warmup_epochs": 0.5,
}


def _cells(setting: Setting) -> list[Cell]:
    first = [
        Cell(factors={"kind": kind, "seed": 0}, changes={"seed": 0, "model.overrides.position_bias": kind})
        for kind in ("table", "log_cpb")
    ]
    tuned = Cell(
        factors={"kind": "log_cpb", "seed": 0, "tuned": "tuned"},
        changes={"model.image_size": 16, "model.window_size": 4, "trainer.epochs": 1},
        start="log_cpb-0",
    )
    return [Cell(factors={"kind": "untrained"}), *first, tuned]


def _measure(cell: Cell, setting: Setting, run: Path | None) -> Figures:
    return {"files": [] if run is None else sorted(path.name for path in run.iterdir())}


def _report(setting: Setting, results: Results) -> Report:
    found = mean(values(results, "top1", kind="log_cpb", seed=0))
    table = Table(name="top", caption="Top-1 <of all>", head=["kind", "top-1"], rows=[["log", found], ["other", None]])
    figure = curves({"line": Line([0, 1], [1, 2])}, x="epoch", y="loss, nats")
    claim = Claim(
        text="it <learns>", source="Table 0", rule=f"top-1, {TWO_ERRORS}", verdict=Verdict("seen", "it did & does.")
    )
    return Report(tables=[table], pictures=[Picture("line", 'A "line"', figure)], claims=[claim])


@pytest.fixture
def tiny_study() -> Callable[..., Study]:
    """The study, with other options of its base recipe: one untrained cell, two trained, one tuned from the last."""

    def make(**changes: Any) -> Study:
        return Study(
            title="A tiny study",
            source="Table 0",
            question="What if?",
            bases={family: {**TINY, **changes} for family in ("digits", "images")},
            cells=_cells,
            measure=_measure,
            report=_report,
            varies=("seed", "model.overrides.position_bias"),
        )

    return make
