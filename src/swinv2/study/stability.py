"""`swinv2 study stability`: SimMIM of a deep model, V1 against V2, same data and schedule (paper, Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from swinv2.study.base import Cell, Figures, Results, Setting, Study, chosen
from swinv2.study.charts import Line, draw
from swinv2.study.divergence import RULE, diverged, share
from swinv2.study.findings import PENDING, Claim, Mean, Picture, Report, Table, Verdict, mean
from swinv2.study.scales import SIMMIM

SYSTEMS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "v1": (
        "V1: pre-norm, dot, table",
        {
            "norm_placement": "pre",
            "attention_score": "dot",
            "position_bias": "table",
            "key_bias": True,
            "merge_norm": "before",
            "extra_norm_interval": 0,
        },
    ),
    "v2": (
        "V2: res-post-norm, cosine, log CPB",
        {
            "norm_placement": "res_post",
            "attention_score": "cosine",
            "position_bias": "log_cpb",
            "key_bias": False,
            "merge_norm": "after",
            "extra_norm_interval": 6,
        },
    ),
}

RATES: Mapping[str, Mapping[str, float]] = {
    "digits": {"low": 8e-3, "high": 6.4e-2},
    "images": {"low": 4e-3, "high": 3.2e-2},
    "paper": {"published": 1e-4},
}
"""Base learning rates, for 512 images a step."""


def cells(setting: Setting) -> list[Cell]:
    """Both systems at each learning rate, seed by seed."""
    return [
        Cell(
            factors={"system": system, "rate": rate, "seed": seed},
            changes={
                "seed": seed,
                "optimizer.base_lr": value,
                **{f"model.overrides.{name}": option for name, option in overrides.items()},
            },
        )
        for seed in setting.seed_range()
        for rate, value in RATES[setting.family].items()
        for system, (_, overrides) in SYSTEMS.items()
    ]


def measure(cell: Cell, setting: Setting, run: Path | None) -> Figures:
    """Training tells everything."""
    return {}


def report(setting: Setting, results: Results) -> Report:
    """Last losses and divergence by system and learning rate, and the claim of Figure 3."""
    rates = RATES[setting.family]
    rows = [
        [f"{label}, lr {value:g}", *_row(results, system, rate)]
        for rate, value in rates.items()
        for system, (label, _) in SYSTEMS.items()
    ]
    table = Table(
        name="loss",
        caption="Masked loss of the last round, mean and standard deviation over seeds; largest rise of the training "
        "loss above its lowest round so far; and how many trainings diverged",
        head=["", "training", "validation", "largest rise", "diverged"],
        rows=rows,
        form="{:.4f}",
        note=f"Learning rates are for 512 images a step. {RULE[0].upper()}{RULE[1:]}.",
    )
    picture = Picture("loss", "SimMIM's training loss, one curve a seed.", _curves(setting, results))
    return Report(
        tables=[table], paper=[PAPER], pictures=[picture] if results else [], claims=_claims(setting, results)
    )


def _row(results: Results, system: str, rate: str) -> list[Any]:
    found = [done.figures for done in chosen(results, system=system, rate=rate)]
    last = [row for figures in found for row in figures["rows"][-1:]]
    ends = [mean([row[name] for row in last if name in row]) for name in ("train_loss", "val_loss")]
    spoilt = share([diverged(figures) for figures in found]) if found else None
    return [*ends, mean([rise(figures) for figures in found]), spoilt]


def rise(figures: Figures) -> float:
    """The furthest that the training loss of a round is above the lowest of the rounds before."""
    lowest, most = float("inf"), 0.0
    for row in figures["rows"]:
        loss = float(row.get("train_loss", lowest))
        most, lowest = max(most, loss - lowest), min(lowest, loss)
    return most


def _curves(setting: Setting, results: Results) -> Figure:
    rates = RATES[setting.family]
    figure = Figure(figsize=(5.5 * len(rates), 4.2), layout="constrained")
    panels = figure.subplots(1, len(rates), sharey=True, squeeze=False)[0]
    for axes, (rate, value) in zip(panels, rates.items(), strict=True):
        lines = {}
        for number, (system, (label, _)) in enumerate(SYSTEMS.items()):
            for done in chosen(results, system=system, rate=rate):
                rows = [row for row in done.figures["rows"] if "train_loss" in row]
                name = label if done.cell.factors["seed"] == 0 else f"_{label} {done.cell.factors['seed']}"
                lines[name] = Line([row["step"] for row in rows], [row["train_loss"] for row in rows], colour=number)
        draw(axes, lines, x="step", y="masked loss on the training images", title=f"lr {value:g} for 512 images")
    return figure


PAPER = Table(
    name="paper",
    caption="Paper, Figure 3: SimMIM of H (658M)",
    head=["system", "loss"],
    rows=[["V1 (pre-norm)", "diverges"], ["V2", "converges"]],
    text_columns=2,
)


def _claims(setting: Setting, results: Results) -> list[Claim]:
    rates, expected = RATES[setting.family], len(setting.seed_range())
    highest = list(rates)[-1]
    found = {
        system: [diverged(done.figures) for done in chosen(results, system=system, rate=highest)] for system in SYSTEMS
    }
    rises = {
        system: mean([rise(done.figures) for done in chosen(results, system=system, rate=highest)])
        for system in SYSTEMS
    }
    complete = all(len(each) >= expected for each in found.values())
    return [
        Claim(
            text="V1 diverges where V2 converges",
            source="Figure 3",
            rule="at the highest learning rate: seen where V1 diverges for most seeds and V2 for none, not seen "
            f"where V2 diverges, else not visible; {RULE}",
            verdict=_apart(found) if complete else PENDING,
        ),
        Claim(
            text="V1's loss is less steady than V2's",
            source="Figure 3",
            rule="at the highest learning rate, by the largest rise of the training loss above its lowest round so "
            "far: seen where V1's mean is twice V2's or more, not seen where it is half or less, else not visible",
            verdict=_steadiness(rises) if complete else PENDING,
        ),
    ]


def _apart(found: Mapping[str, list[bool]]) -> Verdict:
    told = f"V1 {share(found['v1'])}, V2 {share(found['v2'])} seeds diverged."
    if any(found["v2"]):
        return Verdict("not seen", told)
    return Verdict("seen" if 2 * sum(found["v1"]) > len(found["v1"]) else "not visible at this scale", told)


def _steadiness(rises: Mapping[str, Mean | None]) -> Verdict:
    v1, v2 = (each.mean if each else 0.0 for each in rises.values())
    told = f"V1 {v1:.4f}, V2 {v2:.4f}."
    if v1 >= 2 * v2 and v1 > 0:
        return Verdict("seen", told)
    return Verdict("not seen" if v2 >= 2 * v1 and v2 > 0 else "not visible at this scale", told)


_SMALL = {
    **SIMMIM,
    "trainer.epochs": None,
    "schedule.warmup_steps": 60,
    "simmim.mask_unit": 4,
    "model.overrides.depths": [2, 18],
    "model.overrides.num_heads": [1, 2],
}

STUDY = Study(
    title="SimMIM of a deep model, V1 against V2",
    source="Figure 3, section 3.2",
    question="The same deep model with V1's and with V2's choices is pre-trained by SimMIM on the same images, masks "
    "and schedule. Laptop: 20 narrow blocks, at two learning rates; paper: H.",
    bases={
        "digits": {
            **_SMALL,
            "trainer.steps": 300,
            "trainer.validate_every": 20,
            "simmim.target_window": 7,
            "model.overrides.patch_size": [2, 2],
        },
        "images": {
            **_SMALL,
            "trainer.steps": 1000,
            "trainer.validate_every": 50,
            "simmim.target_window": 15,
            "model.overrides.patch_size": [4, 4],
        },
        "paper": {
            **SIMMIM,
            "model.name": "swinv2_huge",
            "model.image_size": 192,
            "model.window_size": 12,
            "model.overrides.drop_path_rate": 0.1,
            "schedule.kind": "multistep",
            "schedule.milestones": (700,),
            "schedule.warmup_epochs": 10,
            "trainer.epochs": 800,
            "trainer.validate_every": 5,
            "trainer.batch_size": 2048,
        },
    },
    cells=cells,
    measure=measure,
    report=report,
    varies=("seed", "optimizer.base_lr", *(f"model.overrides.{name}" for name in SYSTEMS["v1"][1])),
    validates=False,
)
