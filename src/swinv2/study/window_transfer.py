"""`swinv2 study window-transfer`: which position bias survives a larger window (paper, Tables 1 and 8)."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from swinv2.study.accuracy import top1_at
from swinv2.study.base import Cell, Figures, Results, Setting, Study, guess, seeds, validated, values
from swinv2.study.biases import KINDS
from swinv2.study.charts import Line, curves, of_means
from swinv2.study.extrapolation import EXTRAPOLATED, reach_table
from swinv2.study.findings import (
    BETWEEN_SEEDS,
    TWO_ERRORS,
    Claim,
    Picture,
    Report,
    Table,
    Verdict,
    above,
    alike,
    mean,
    together,
)

RATIOS = (1.0, 1.5, 2.0, 2.5, 3.0)
"""Window and image size, over those of the training."""

BEYOND = ("2", "2.5", "3")
"""Ratios at which kinds are compared without fine-tuning."""

TUNED = 2
"""Ratio of the fine-tuning."""

TRAINED = {"digits": (16, 4), "images": (16, 4), "paper": (256, 8)}
"""Image size and window of the training: half of what CIFAR's images have, so that a larger input brings detail."""

SIZES = {"laptop": ("swinv2_nano",), "paper": ("swinv2_tiny", "swinv2_small", "swinv2_base")}
DROP_PATH = {"swinv2_nano": 0.0, "swinv2_tiny": 0.2, "swinv2_small": 0.3, "swinv2_base": 0.5}

TUNING: dict[str, dict[str, Any]] = {
    "digits": {
        "trainer.epochs": None,
        "trainer.steps": 40,
        "trainer.validate_every": 40,
        "schedule.warmup_steps": 5,
        "optimizer.base_lr": 2e-3,
    },
    "images": {
        "trainer.epochs": None,
        "trainer.steps": 150,
        "trainer.validate_every": 150,
        "schedule.warmup_steps": 15,
        "optimizer.base_lr": 2e-3,
    },
    "paper": {
        "trainer.epochs": 30,
        "trainer.steps": None,
        "trainer.validate_every": None,
        "schedule.warmup_epochs": 5,
        "schedule.warmup_steps": None,
        "schedule.warmup_lr": 2e-8,
        "schedule.min_lr": 2e-7,
        "optimizer.base_lr": 2e-5,
        "optimizer.weight_decay": 1e-8,
    },
}
"""What fine-tuning has of its own; the paper's: 30 epochs at 4e-5 for a batch of 1024, weight decay 1e-8.

Its length is its own, whatever is asked of the trainings before."""

LEAST_LOST = 1.0
"""Points lost that differ by less count as the same."""

ALIKE = 0.03
"""Accuracies that differ by so much or less count as the same at the trained window; 5,000 images tell no less."""

PAIRS = (("log_cpb", "table"), ("linear_cpb", "table"), ("log_cpb", "linear_cpb"))
"""What should be more accurate, and than what."""


def cells(setting: Setting) -> list[Cell]:
    """Each size, kind and seed, trained, then tuned at twice its window from there."""
    size, window = TRAINED[setting.family]
    found = []
    for model in SIZES[setting.scale]:
        for seed in setting.seed_range():
            for kind in KINDS:
                factors: dict[str, Any] = {"model": model, "bias": kind, "seed": seed}
                own = {"model.name": model, "model.overrides.drop_path_rate": DROP_PATH[model], "seed": seed}
                changes = {**own, "model.overrides.position_bias": kind}
                first = Cell(
                    factors=factors, changes={**changes, "model.image_size": size, "model.window_size": window}
                )
                wide = {"model.image_size": TUNED * size, "model.window_size": TUNED * window}
                tuning = {**changes, **wide, **TUNING[setting.family]}
                found += [first, Cell(factors={**factors, "tuned": "tuned"}, changes=tuning, start=first.name)]
    return found


def measure(cell: Cell, setting: Setting, run: Path | None) -> Figures:
    """Top-1 at every ratio as it was trained, and without its bias; of what was tuned, its training says all."""
    assert run is not None
    if cell.start is not None:
        return {}
    found = {f"{ratio:g}": top1_at(run, ratio) for ratio in RATIOS}
    return {
        "at": found,
        "beyond": statistics.fmean(found[ratio] for ratio in BEYOND),
        "unbiased": top1_at(run, 1.0, biased=False),
    }


def report(setting: Setting, results: Results) -> Report:
    """Accuracy by kind and ratio, with and without fine-tuning, and the claims of Tables 1 and 8."""
    table = Table(
        name="accuracy",
        caption="Top-1 on the validation images at so many times the window and the image size: mean and standard "
        "deviation over seeds",
        head=["bias", "1x, bias left out", *(f"{ratio:g}x" for ratio in RATIOS), f"{TUNED}x, fine-tuned"],
        rows=[_row(setting, results, model, kind) for model in SIZES[setting.scale] for kind in KINDS],
        form="{:.1%}",
    )
    return Report(
        tables=[table, reach_table(TRAINED[setting.family][1])],
        paper=PAPER,
        pictures=[Picture("accuracy", CAPTION, _curves(setting, results))] if results else [],
        claims=_claims(setting, results),
        notes=[*NOTES, DETAIL[setting.family]],
    )


def _row(setting: Setting, results: Results, model: str, kind: str) -> list[Any]:
    found = [values(results, "unbiased", bias=kind, model=model, tuned=None)]
    found += [_at(results, f"{ratio:g}", bias=kind, model=model) for ratio in RATIOS]
    name = KINDS[kind] if len(SIZES[setting.scale]) == 1 else f"{model}, {KINDS[kind]}"
    tuned = values(results, "top1", bias=kind, model=model, tuned="tuned")
    return [name, *map(mean, found), mean(tuned)]


def _at(results: Results, ratio: str, **factors: object) -> list[float]:
    """Accuracy of each seed at a ratio, nan where it diverged."""
    return seeds(results, lambda figures: figures.get("at", {}).get(ratio), tuned=None, **factors)


CAPTION = (
    "Top-1 at larger windows and images, mean and standard deviation over seeds; crosses: after fine-tuning at twice "
    "the window."
)

NOTES = (
    "Every kind is trained and tuned by the same recipe, and counted on the same images.",
    "What is above from 2x on may have been so at the trained window already: the points lost from there tell how well "
    "a bias is carried. Where top-1 is the same with the bias left out, nothing was learned that could be carried.",
)

DETAIL = {
    "digits": "The digits are 8 x 8 pixels, enlarged already for the training: a larger input brings no detail, so "
    "that only the loss by a bias that is carried badly can show, and no gain.",
    "images": "Training is at 16 pixels with crops of random scale. Images of 32 pixels, such as CIFAR-10's, bring "
    "detail up to 2x; at 2.5x and 3x they are enlarged.",
    "paper": "ImageNet's images bring detail at every size.",
}
"""What a larger input adds."""


def _curves(setting: Setting, results: Results) -> Figure:
    model = SIZES[setting.scale][0]
    lines: dict[str, Line] = {}
    for number, (kind, label) in enumerate(KINDS.items()):
        means = [mean(_at(results, f"{ratio:g}", bias=kind, model=model)) for ratio in RATIOS]
        lines[label] = replace(of_means(RATIOS, means, 100), colour=number)
    for number, (kind, label) in enumerate(KINDS.items()):
        tuned = mean(values(results, "top1", bias=kind, model=model, tuned="tuned"))
        beside = TUNED + 0.07 + 0.05 * number
        lines[f"{label}, fine-tuned"] = replace(of_means([beside], [tuned], 100), colour=number, marker="x")
    size, window = TRAINED[setting.family]
    title = f"{model}, trained at window {window} and {size} pixels"
    figure = curves(lines, x="window and image size, over those of the training", y="top-1, %", title=title)
    figure.axes[0].set_xticks(RATIOS)
    return figure


PAPER = [
    Table(
        name="table1",
        caption="Paper, Table 1: ImageNet-1K top-1 of SwinV2-T, trained at window 8 and 256 pixels; without / with "
        "fine-tuning",
        head=["bias", "1x (W8)", "1.5x (W12)", "2x (W16)", "2.5x (W20)", "3x (W24)"],
        rows=[
            ["parameterised", "81.7", "79.4 / 82.7", "77.2 / 83.0", "73.2 / 83.2", "68.7 / 83.2"],
            ["linear CPB", "81.7", "82.0 / 82.9", "81.2 / 83.3", "79.8 / 83.6", "77.6 / 83.7"],
            ["log CPB", "81.8", "82.4 / 83.2", "81.7 / 83.8", "80.4 / 84.0", "79.1 / 84.2"],
        ],
    ),
    Table(
        name="table8",
        caption="Paper, Table 8: with log-CPB and without (parameterised); two transfers, without / with fine-tuning",
        head=["model", "256", "transfer 1", "transfer 2"],
        rows=[
            ["S, without", "83.7", "81.8 / 84.5", "79.4 / 84.9"],
            ["S, log CPB", "83.7", "84.1 / 84.8", "82.9 / 85.4"],
            ["B, without", "84.1", "82.9 / 85.0", "81.0 / 85.3"],
            ["B, log CPB", "84.2", "84.5 / 85.1", "83.8 / 85.6"],
        ],
    ),
]


WITHOUT = {"log_cpb": "80.4", "linear_cpb": "79.5", "table": "73.0"}
LOST = {"log_cpb": "1.4", "linear_cpb": "2.2", "table": "8.7"}
WITH = {"log_cpb": "83.8", "linear_cpb": "83.3", "table": "83.0"}
"""Table 1: mean top-1 from 2x on without fine-tuning, what that loses from 1x, and top-1 at 2x with."""


def _claims(setting: Setting, results: Results) -> list[Claim]:
    compared = _Compared(setting, results)
    return [*_claims_pairs(compared), *_claims_single(compared), _claim_larger(setting, compared), EXTRAPOLATED]


def _claims_pairs(compared: _Compared) -> list[Claim]:
    """Of one kind against another."""
    pairs = [(one, other, f"{KINDS[one]} is above {KINDS[other]}") for one, other in PAIRS]
    return [
        *(
            Claim(
                text=f"without fine-tuning, from 2x on, {text}",
                source=f"Table 1, mean of 2x, 2.5x and 3x: {WITHOUT[one]} and {WITHOUT[other]}",
                rule=f"mean top-1 over {', '.join(BEYOND)} times the window, {TWO_ERRORS}",
                verdict=compared.above(compared.beyond(one), compared.beyond(other)),
            )
            for one, other, text in pairs
        ),
        *(
            Claim(
                text=f"without fine-tuning, from 2x on, {text.replace('is above', 'loses less than')}",
                source=f"Table 1, from 1x to that mean: {LOST[one]} and {LOST[other]} points",
                rule=f"points lost from the trained window to the mean over {', '.join(BEYOND)} times it, of what "
                f"should lose more first, {BETWEEN_SEEDS}; less than {LEAST_LOST:g} does not count",
                verdict=compared.loses_less(one, other),
            )
            for one, other, text in pairs
        ),
        *(
            Claim(
                text=f"fine-tuned at {TUNED}x, {text}",
                source=f"Table 1: {WITH[one]} and {WITH[other]}",
                rule=f"top-1, {TWO_ERRORS}",
                verdict=compared.above(compared.tuned(one), compared.tuned(other)),
            )
            for one, other, text in pairs
        ),
    ]


def _claims_single(compared: _Compared) -> list[Claim]:
    """Of one kind at several windows, and of all at the trained one."""
    return [
        Claim(
            text="without fine-tuning, from 2x on, a parameterised bias loses accuracy",
            source="Table 1: 81.7, then 77.2, 73.2 and 68.7",
            rule=f"top-1 at the trained window, and mean over {', '.join(BEYOND)} times it, {TWO_ERRORS}",
            verdict=compared.above(compared.at("1", "table"), compared.beyond("table")),
        ),
        Claim(
            text="without fine-tuning, log CPB gains by a larger window and image",
            source="Table 1, 1.5x and 1x: 82.4 and 81.8",
            rule=f"top-1 at 1.5 times the window and at the window, {TWO_ERRORS}",
            verdict=compared.above(compared.at("1.5", "log_cpb"), compared.at("1", "log_cpb")),
        ),
        Claim(
            text="at the trained window all kinds are alike",
            source="Table 1: 81.7, 81.7, 81.8",
            rule=f"top-1: seen where each pair differs by {100 * ALIKE:.0f} points at most, even with all that seeds "
            "and the counting of images may add; not seen where one differs by more than that and by more than they "
            "add; else not visible",
            verdict=together({f"{KINDS[one]} and {KINDS[other]}": compared.alike(one, other) for one, other in PAIRS}),
        ),
    ]


def _claim_larger(setting: Setting, compared: _Compared) -> Claim:
    first, *others = SIZES[setting.scale]
    alone = Verdict("not visible at this scale", f"{first} alone is trained; --scale paper has larger models.")
    found = {
        model: compared.above(compared.at("2", "log_cpb", model), compared.at("2", "table", model)) for model in others
    }
    return Claim(
        text="without fine-tuning, at 2x, log CPB is above parameterised in larger models too",
        source="Table 8, transfer 2: S 82.9 and 79.4, B 83.8 and 81.0",
        rule=f"top-1 of each larger model, {TWO_ERRORS}",
        verdict=together(found) if others else alone,
    )


class _Compared:
    """Accuracies of each seed by kind, of the smallest model unless another is named, and their comparison."""

    def __init__(self, setting: Setting, results: Results) -> None:
        self.results = results
        self.model = SIZES[setting.scale][0]
        self.by: dict[str, Any] = {
            "images": validated(results),
            "expected": len(setting.seed_range()),
            "guess": guess(results),
        }

    def at(self, ratio: str, kind: str, model: str | None = None) -> list[float]:
        return _at(self.results, ratio, bias=kind, model=model or self.model)

    def beyond(self, kind: str) -> list[float]:
        return values(self.results, "beyond", bias=kind, model=self.model, tuned=None)

    def tuned(self, kind: str) -> list[float]:
        return values(self.results, "top1", bias=kind, model=self.model, tuned="tuned")

    def above(self, first: list[float], second: list[float]) -> Verdict:
        return above(first, second, **self.by)

    def loses_less(self, first: str, second: str) -> Verdict:
        return above(self.lost(second), self.lost(first), expected=self.by["expected"], least=LEAST_LOST)

    def lost(self, kind: str) -> list[float]:
        """Points from the trained window on."""
        return [100 * (at - beyond) for at, beyond in zip(self.at("1", kind), self.beyond(kind), strict=True)]

    def alike(self, first: str, second: str) -> Verdict:
        return alike(self.at("1", first), self.at("1", second), within=ALIKE, **self.by)


STUDY = Study(
    title="Position bias carried to larger windows and images",
    source="Tables 1 and 8, section 3.3",
    question="Models that differ in the kind of their position bias alone are trained at one window and resolution, "
    "then tested at 1.5, 2, 2.5 and 3 times both, without fine-tuning, and at twice both after fine-tuning. A table "
    "is resized by bicubic interpolation; a bias network is asked beyond what it was trained at.",
    bases={
        "digits": {
            "trainer.epochs": 20,
            "model.overrides.patch_size": [2, 2],
            "model.overrides.depths": [2, 4],
            "model.overrides.num_heads": [1, 2],
        },
        "images": {
            "trainer.epochs": 5,
            "trainer.batch_size": 64,
            "optimizer.base_lr": 1.2e-2,
            "schedule.warmup_epochs": 0.5,
            "augment.crop": "random_resized",
            "augment.scale": (0.25, 1.0),
            "model.overrides.patch_size": [2, 2],
            "model.overrides.depths": [2, 4],
            "model.overrides.num_heads": [1, 2],
        },
        "paper": {},
    },
    cells=cells,
    measure=measure,
    report=report,
    varies=("seed", "model.name", "model.image_size", "model.window_size", "model.overrides.position_bias"),
)
