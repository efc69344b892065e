from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swinv2.data.loading import make_loader
from swinv2.model.simmim import SimMIM
from swinv2.study import norm_and_attention, stability
from swinv2.study.base import Cell, Done, Setting, Study
from swinv2.study.failure import failure, guessing
from swinv2.study.scales import changed, recipes
from swinv2.train.folder import RunFolder
from swinv2.train.job import job_of
from swinv2.train.recipe import dump_recipe


def rows(*losses: float) -> dict[str, Any]:
    listed = [{"epoch": n, "step": 10 * n, "train_loss": loss, "val_loss": loss} for n, loss in enumerate(losses, 1)]
    return {"rows": listed, "diverged": None, "classes": 10, "images": 10**6}


def test_what_counts_as_failed() -> None:
    assert failure(rows(2.0, 1.5, 1.6)) is None
    assert failure(rows(2.0, 1.5, 1.7)) == "rose"
    assert failure({**rows(2.0, 1.5), "diverged": "the loss is nan at step 12"}) == "not finite"
    assert failure(rows()) == "not finite"
    flat = rows(2.30, 2.29, 2.29)
    assert failure(flat) is None
    assert failure(flat, guessing(flat)) == "at guessing"
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
    assert post[4] == "3 of 3 (not finite)"


def test_no_accuracies_are_compared_before_both_rates_are_done() -> None:
    study, setting = norm_and_attention.STUDY, Setting()
    low = [cell for cell in study.cells(setting) if cell.factors["rate"] == "low"]
    found = [Done(cell, {**rows(2.0, 1.5), "top1": 0.5}) for cell in low]
    assert {claim.verdict.word for claim in study.report(setting, found).claims} == {"not run yet"}


def judged(v1: dict[str, Any], v2: dict[str, Any]) -> list[str]:
    """Verdicts of stability, of seeds that hardly differ."""

    def figures(cell: Cell) -> dict[str, Any]:
        base = v1 if cell.factors["way"] == "v1" else v2
        factor = 1 + 1e-4 * int(cell.factors["seed"])
        scaled = [{name: value * factor for name, value in row.items()} for row in base["rows"]]
        return {"guess": 0.8, **base, "rows": scaled}

    return words(stability.STUDY, figures)


def test_stability_is_judged_by_divergence_steadiness_and_the_end() -> None:
    unclear, good = "not visible at this scale", rows(0.7, 0.65, 0.6)
    assert judged(rows(0.7, 0.6, 0.75), good) == ["seen", "seen", "seen"]
    assert judged(rows(0.7, 0.6, 0.65), good) == [unclear, "seen", "seen"]
    assert judged(good, good) == [unclear] * 3
    assert judged(good, rows(0.7, 0.6, 0.75)) == ["not seen"] * 3


def test_noise_is_no_unsteadiness() -> None:
    assert judged(rows(0.7, 0.6, 0.603), rows(0.7, 0.6, 0.601))[1] == "not visible at this scale"


def test_a_model_that_paints_the_mean_has_not_converged() -> None:
    assert judged(rows(0.8, 0.79, 0.79), rows(0.7, 0.65, 0.6))[0] == "seen"
    assert judged(rows(0.7, 0.65, 0.6), rows(0.8, 0.79, 0.79))[0] == "not seen"


def test_a_loss_that_is_no_number_is_the_least_steady() -> None:
    broken = {**rows(0.7, 0.65), "diverged": "the loss is nan at step 25"}
    assert judged(broken, rows(0.7, 0.65, 0.6)) == ["seen"] * 3
    assert judged(rows(0.7, 0.65, 0.6), broken) == ["not seen"] * 3
    assert stability.rise(broken) == math.inf


def test_a_validation_that_is_no_number_is_no_lower_loss() -> None:
    blind = rows(0.7, 0.65, 0.6)
    del blind["rows"][-1]["val_loss"]
    assert judged(blind, rows(0.7, 0.65, 0.6))[2] == "seen"


def test_the_largest_rise_is_above_the_lowest_before() -> None:
    assert stability.rise(rows(0.8, 0.6, 0.75, 0.5, 0.6)) == pytest.approx(0.15)
    assert stability.rise(rows(0.8, 0.6)) == 0.0


def test_the_loss_of_guessing_is_that_of_a_model_that_paints_zeros(tmp_path: Path) -> None:
    study, setting = stability.STUDY, Setting()
    recipe = next(iter(recipes(study, setting, {cell.name: cell for cell in study.cells(setting)}).values()))
    recipe = changed(recipe, {"seed": 3, "data.val_fraction": 0.02, "model.overrides.depths": [1, 1]})
    RunFolder(tmp_path / "run").create(dump_recipe(recipe))
    job = job_of(recipe.task)
    training, validation = job.open(recipe)
    start = job.initial(recipe, training, None)
    assert isinstance(start.model, SimMIM)
    for parameter in start.model.decoder.parameters():
        nn.init.zeros_(parameter)
    task = job.task(start, training, validation, lambda model: None)
    samples = job.samples(start.recipe, training, augmented=True)
    loader = make_loader(samples, batch_size=128, shuffle=True, seed=recipe.seed)
    with torch.no_grad():
        for place, batch in enumerate(islice(loader, stability.COUNTED_IMAGES // 128)):
            task.validation_step(batch, place)
    assert stability.guessed_loss(tmp_path / "run") == pytest.approx(task.metrics.scalars()["loss"], rel=1e-4)
