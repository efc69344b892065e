from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from swinv2.study import norm_and_attention, stability
from swinv2.study.base import Cell, Done, Setting, Study
from swinv2.study.divergence import diverged, guessing


def rows(*losses: float) -> dict[str, Any]:
    listed = [{"epoch": n, "step": 10 * n, "train_loss": loss, "val_loss": loss} for n, loss in enumerate(losses, 1)]
    return {"rows": listed, "diverged": None, "classes": 10, "images": 10**6}


def test_what_counts_as_diverged() -> None:
    assert not diverged(rows(2.0, 1.5, 1.6))
    assert diverged(rows(2.0, 1.5, 1.7))
    assert diverged({**rows(2.0, 1.5), "diverged": "the loss is nan at step 12"})
    assert diverged(rows())
    flat = rows(2.30, 2.29, 2.29)
    assert not diverged(flat)
    assert diverged(flat, guessing(flat))
    assert guessing(flat) == pytest.approx(2.302585)


def words(study: Study, figures: Callable[[Cell], dict[str, Any]]) -> list[str]:
    setting = Setting()
    found = [Done(cell, figures(cell)) for cell in study.cells(setting)]
    return [claim.verdict.word for claim in study.report(setting, found).claims]


def test_norms_and_scores_are_judged_by_accuracy_and_divergence() -> None:
    top1 = {"pre": 0.50, "sandwich": 0.48, "post": 0.49, "res_post": 0.52, "cosine": 0.54}

    def figures(cell: Cell, breaks: tuple[str, ...] = ("post",)) -> dict[str, Any]:
        way, high = str(cell.factors["way"]), cell.factors["rate"] == "high"
        if high and way in breaks:
            return {**rows(2.31, 2.31), "top1": None, "diverged": "the loss is nan"}
        return {**rows(2.0, 1.5), "top1": top1[way] + 0.001 * int(cell.factors["seed"]) - (0.1 if high else 0)}

    study = norm_and_attention.STUDY
    assert words(study, figures) == ["seen"] * 6
    assert words(study, lambda cell: figures(cell, ()))[0] == "not visible at this scale"
    assert words(study, lambda cell: figures(cell, ("post", "cosine")))[0] == "not seen"
    report = study.report(Setting(), [Done(cell, figures(cell)) for cell in study.cells(Setting())])
    (post,) = [row for row in report.tables[0].rows if row[0] == "post-norm, dot"]
    assert post[2] == "0 of 3"
    assert post[3].mean == pytest.approx(0.1), "that of guessing"
    assert post[4] == "3 of 3"


def test_stability_is_judged_at_the_highest_rate() -> None:
    def figures(cell: Cell, v1: tuple[float, ...], v2: tuple[float, ...]) -> dict[str, Any]:
        high = cell.factors["rate"] == "high"
        return rows(*({"v1": v1, "v2": v2}[str(cell.factors["system"])] if high else (0.8, 0.6)))

    def judged(v1: tuple[float, ...], v2: tuple[float, ...]) -> list[str]:
        return words(stability.STUDY, lambda cell: figures(cell, v1, v2))

    assert judged((0.8, 0.7, 0.9), (0.8, 0.7, 0.6)) == ["seen", "seen"]
    assert judged((0.8, 0.7, 0.71), (0.8, 0.7, 0.6)) == ["not visible at this scale", "seen"]
    assert judged((0.8, 0.7, 0.6), (0.8, 0.7, 0.6)) == ["not visible at this scale"] * 2
    assert judged((0.8, 0.7, 0.6), (0.8, 0.7, 0.9)) == ["not seen", "not seen"]


def test_the_largest_rise_is_above_the_lowest_before() -> None:
    assert stability.rise(rows(0.8, 0.6, 0.75, 0.5, 0.6)) == pytest.approx(0.15)
    assert stability.rise(rows(0.8, 0.6)) == 0.0
