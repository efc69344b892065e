"""`swinv2 study stability`: SimMIM of a deep model, V1 against V2, same data and schedule (paper, Figure 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from swinv2.data.labelled import Batch
from swinv2.data.loading import SampleKey, make_loader
from swinv2.model.simmim import masked_loss
from swinv2.study.base import Cell, Figures, Results, Setting, Study, chosen, seeds
from swinv2.study.failure import RULE, Failure, failure, share
from swinv2.study.findings import BETWEEN_SEEDS, PENDING, Claim, Picture, Report, Table, Verdict, above, mean
from swinv2.study.rates import Rates, Way, Ways, grid, losses
from swinv2.study.scales import SIMMIM
from swinv2.tasks.simmim import EVERY_EPOCH
from swinv2.train.folder import RunFolder
from swinv2.train.images import ImageJob
from swinv2.train.job import job_of
from swinv2.train.recipe import load_recipe
from swinv2.train.simmim import masking

WAYS: Ways = {
    "v1": Way(
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
    "v2": Way(
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

RATES: Mapping[str, Rates] = {
    "digits": {"high": 2.56e-1, "higher": 1.024},
    "images": {"high": 1.28e-1, "higher": 5.12e-1},
    "paper": {"published": 1e-4},
}
"""Verdicts are given at the highest.

Those of images were piloted on CIFAR-10 with one seed, to find where V1 gets into trouble. At 3.2e-2 it does not: its
loss is 0.61, 0.59, 0.57 and 0.56 at steps 75, 100, 125 and 150 (guessing: 0.69). At 1.28e-1 it hesitates: 0.63, 0.62
and 0.61 at steps 50, 75 and 90, where the pilot ended. At 5.12e-1 it is at 0.70 at step 200, where V2 is at 0.56. The
warm-up takes 60 steps, and gradients are clipped at 5, as in the paper. Those of digits make steps as large.
"""

LEAST = 0.02
"""Share of a loss below which nothing counts as a difference."""

COUNTED_IMAGES = 1024
"""So many training images tell the loss of guessing, to a fifth of a percent."""


def cells(setting: Setting) -> list[Cell]:
    """Both systems, seed by seed."""
    return grid(setting, WAYS, RATES[setting.family])


def measure(cell: Cell, setting: Setting, run: Path | None) -> Figures:
    """The loss of guessing under the masks of the training, beside which its own stands."""
    assert run is not None
    return {"guess": guessed_loss(run)}


def guessed_loss(run: Path) -> float:
    """Masked loss of who paints the mean of each window, as a model does that has learnt nothing of the images.

    Of training images as they are augmented, since the training loss is what is set beside it.

    Args:
        run: folder of a pre-training, which tells its data, masks and targets.
    """
    recipe = load_recipe(RunFolder(run).config).completed()
    job = job_of(recipe.task)
    assert isinstance(job, ImageJob)
    samples = job.samples(recipe, job.open(recipe)[0], augmented=True)
    found, counted = 0.0, 0
    for batch in make_loader(samples, batch_size=128, shuffle=True, seed=recipe.seed):
        assert isinstance(batch, Batch)
        if len(batch.images):
            keys = [SampleKey(recipe.seed, EVERY_EPOCH, row) for row in batch.indices.tolist()]
            masks = masking(recipe).batch(batch.images.shape[2:], keys)
            blank = torch.zeros_like(batch.images)
            found += len(keys) * float(masked_loss(blank, batch.images, masks, recipe.simmim.target_window))
            counted += len(keys)
        if counted >= COUNTED_IMAGES:
            break
    return found / counted


def report(setting: Setting, results: Results) -> Report:
    """Last losses and failures by system, and the claims of Figure 3."""
    rates = RATES[setting.family]
    table = Table(
        name="loss",
        caption="Masked loss of the last round, mean and standard deviation over seeds; largest rise of the training "
        "loss above its lowest round so far, each of those whose loss is finite; and how many trainings failed",
        head=["", "training", "validation", "largest rise", "failed"],
        rows=[
            *(
                [f"{label}, lr {value:g}", *_row(results, way, rate)]
                for rate, value in rates.items()
                for way, (label, _) in WAYS.items()
            ),
            ["guessing: the mean of each window", None, mean(_guesses(results)), None, None],
        ],
        form="{:.4f}",
        note=f"Learning rates are for 512 images a step. {RULE[0].upper()}{RULE[1:]}.",
    )
    picture = Picture("loss", "SimMIM's training loss, one curve a seed.", _losses(setting, results))
    return Report(
        tables=[table],
        paper=[PAPER],
        pictures=[picture] if results else [],
        claims=_claims(setting, results),
        notes=[PILOTED] if setting.scale == "laptop" else [],
    )


PILOTED = (
    "The learning rates were chosen on CIFAR-10 with one seed, as ones at which V1 gets into trouble and V2 does not. "
    "What V1 does there is to stall at guessing; the paper's H, with 658 million parameters, has a loss that explodes."
)


def _failed(figures: Figures) -> Failure | None:
    return failure(figures, figures.get("guess"))


def _guesses(results: Results) -> list[float]:
    return [float(done.figures["guess"]) for done in results if "guess" in done.figures]


def _guess(results: Results) -> float | None:
    return next(iter(_guesses(results)), None)


def _last(results: Results, loss: str, way: str, rate: str) -> list[float]:
    """Of the last round, a seed each; nan where it is not finite."""

    def last(figures: Figures) -> float | None:
        return None if figures["diverged"] else figures["rows"][-1].get(loss)

    return seeds(results, last, way=way, rate=rate)


def _rises(results: Results, way: str, rate: str) -> list[float]:
    return [rise(done.figures) for done in chosen(results, way=way, rate=rate)]


def _row(results: Results, way: str, rate: str) -> list[Any]:
    ends = [mean(_last(results, loss, way, rate)) for loss in ("train_loss", "val_loss")]
    failed = [_failed(done.figures) for done in chosen(results, way=way, rate=rate)]
    return [*ends, mean(_rises(results, way, rate)), share(failed) if failed else None]


def rise(figures: Figures) -> float:
    """The furthest that the training loss of a round is above the lowest of those before; infinite if no number."""
    if figures["diverged"]:
        return math.inf
    lowest, most = math.inf, 0.0
    for row in figures["rows"]:
        loss = float(row.get("train_loss", lowest))
        most, lowest = max(most, loss - lowest), min(lowest, loss)
    return most


def _losses(setting: Setting, results: Results) -> Figure:
    rates, guess = RATES[setting.family], _guess(results)
    return losses(results, WAYS, rates, of="masked pixels", guess=guess, failed=_failed)


PAPER = Table(
    name="paper",
    caption="Paper, Figure 3: SimMIM of H (658M)",
    head=["system", "loss"],
    rows=[["V1 (pre-norm)", "diverges"], ["V2", "converges"]],
    text_columns=2,
)


def _claims(setting: Setting, results: Results) -> list[Claim]:
    rate, expected = list(RATES[setting.family])[-1], len(setting.seed_range())
    guess = _guess(results)
    last = {way: _last(results, "val_loss", way, rate) for way in WAYS}
    rises = {way: _rises(results, way, rate) for way in WAYS}
    floor = LEAST * (guess or 0.0)
    worst = "one that is not finite counts as guessing"
    at = "" if len(RATES[setting.family]) == 1 else "at the highest learning rate, "
    return [
        Claim(
            text="V1 fails to train where V2 trains",
            source="Figure 3: V1 diverges, V2 converges",
            rule=f"{at}seen where V1 fails for most seeds and V2 for none, not seen where V2 fails, else not "
            f"visible; {RULE}; guessing is to paint the mean of each window",
            verdict=_apart(results, rate, expected),
        ),
        Claim(
            text="V1's loss is less steady than V2's",
            source="Figure 3",
            rule=f"{at}the largest rise of the training loss above its lowest round so far, {BETWEEN_SEEDS}; it has "
            f"to be twice the other's, and {LEAST:.0%} of the loss of guessing above it; {worst}",
            verdict=above(rises["v1"], rises["v2"], expected=expected, share=1.0, least=floor, guess=guess),
        ),
        Claim(
            text="V1 ends at a higher loss than V2",
            source="Figure 3",
            rule=f"{at}the validation loss of the last round, {BETWEEN_SEEDS}; less than {LEAST:.0%} does not count; "
            f"{worst}",
            verdict=above(last["v1"], last["v2"], expected=expected, share=LEAST, guess=guess),
        ),
    ]


def _apart(results: Results, rate: str, expected: int) -> Verdict:
    found = {way: [_failed(done.figures) for done in chosen(results, way=way, rate=rate)] for way in WAYS}
    if min(map(len, found.values())) < expected:
        return PENDING
    told = f"V1 {share(found['v1'])}, V2 {share(found['v2'])} seeds failed."
    if any(found["v2"]):
        return Verdict("not seen", told)
    return Verdict("seen" if 2 * sum(map(bool, found["v1"])) > len(found["v1"]) else "not visible at this scale", told)


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
    "and schedule. Laptop: 20 narrow blocks, at two high learning rates; paper: H.",
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
            "trainer.steps": 500,
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
    varies=("seed", "optimizer.base_lr", *(f"model.overrides.{name}" for name in WAYS["v1"].fields)),
    validates=False,
)
