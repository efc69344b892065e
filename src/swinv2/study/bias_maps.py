"""`swinv2 study bias-maps`: biases that heads learn, at larger windows too (paper, Figure 4), and where they look.

Three kinds of bias, trained alike; or anybody's weights.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swinv2.model import SwinTransformer
from swinv2.model.attention import WindowAttention
from swinv2.model.stages import SwinStages
from swinv2.study.base import Cell, Done, Figures, Results, Setting, Study, Subject, seeds, values
from swinv2.study.bias_pictures import maps, profiles
from swinv2.study.biases import KINDS, scaled
from swinv2.study.findings import BETWEEN_SEEDS, PENDING, Claim, Picture, Report, Table, Verdict, above, mean, together
from swinv2.study.looking import attention_pictures
from swinv2.study.subject import load, of_run

GROWN = 3.0
"""Deviation, over that at the start, from which on a table is what it has learned rather than its start."""

RATIOS = (1.0, 1.5, 2.0, 3.0)
"""Windows, over the one of the weights, that biases are carried to."""

COMPARED = 2.0
"""Ratio at which kinds are compared; the paper's Table 1 has it as 8 to 16."""


def cells(setting: Setting) -> list[Cell]:
    """Weights of somebody alone; else each kind of bias, trained."""
    if setting.subject is not None:
        return [Cell(factors={"bias": "weights"})]
    return [
        Cell(factors={"bias": kind, "seed": seed}, changes={"seed": seed, "model.overrides.position_bias": kind})
        for seed in setting.seed_range()
        for kind in KINDS
    ]


def measure(cell: Cell, setting: Setting, run: Path | None) -> Figures:
    """How rough maps are as they are and carried to larger windows, and how far known offsets keep their bias.

    Of what was trained here, also how rough its kind is as it is initialised, and how far it has grown from there.
    """
    subject = _subject(setting, run)
    before = load(subject)
    kind = before.config.position_bias
    own = list(tables(before.body))
    if not own:
        raise ValueError(
            f"{subject.weights} was trained at windows of one token in every stage, so that it has no bias to draw: "
            "take weights of larger windows."
        )
    figures: dict[str, Any] = {"kind": kind, "heads": sum(len(table) for table in own), "rough": {}, "moved": {}}
    for ratio in RATIOS:
        carried = own if ratio == 1 else list(tables(load(subject, scaled(before.config.window_size, ratio)).body))
        figures["rough"][f"{ratio:g}"] = _median(map(roughness, carried))
        figures["moved"][f"{ratio:g}"] = _median(map(moved, own, carried))
    if run is not None:
        torch.manual_seed(int(cell.factors["seed"]))
        fresh = list(tables(SwinTransformer(before.config)))
        figures["fresh"] = _median(map(roughness, fresh))
        figures["grown"] = _spread(own) / _spread(fresh)
    return figures


def _subject(setting: Setting, run: Path | None) -> Subject:
    if setting.subject is not None:
        return setting.subject
    assert run is not None
    return of_run(run)


def tables(body: SwinStages) -> Iterator[Tensor]:
    """The bias of every block by offset, ``[heads, 2h-1, 2w-1]``, in stages that were trained on several tokens."""
    for stage, trained in zip(body.stages, body.config.trained_window_size, strict=True):
        if max(trained) > 1:
            for module in stage.modules():
                if isinstance(module, WindowAttention):
                    yield module.position_bias().detach()


def roughness(table: Tensor) -> list[float]:
    """Of each head the mean square of second differences between neighbouring offsets, over its variance, as roots.

    White noise has 2.4 along each axis, a plane 0. A map of one value has none.
    """
    found = []
    for head in table:
        seconds = [head.diff(n=2, dim=axis) for axis in range(head.ndim) if head.shape[axis] > 2]
        if seconds and (deviation := float(head.std())) > 1e-6:
            squares = sum(float(each.square().mean()) for each in seconds) / len(seconds)
            found.append(squares**0.5 / deviation)
    return found


def moved(own: Tensor, carried: Tensor) -> list[float]:
    """Of each head the root mean square change of the bias at offsets that it was trained at, over its deviation."""
    centre = carried
    for axis in range(1, own.ndim):
        centre = centre.narrow(axis, (carried.shape[axis] - own.shape[axis]) // 2, own.shape[axis])
    changes = (centre - own).flatten(1).square().mean(1).sqrt()
    deviations = own.flatten(1).std(1)
    return [float(c / d) for c, d in zip(changes, deviations, strict=True) if d > 1e-6]


def _spread(own: Sequence[Tensor]) -> float:
    """Median of the deviations of all heads' maps."""
    return statistics.median(float(head.std()) for table in own for head in table)


def _median(parts: Any) -> float | None:
    whole = [value for part in parts for value in part]
    return statistics.median(whole) if whole else None


def report(setting: Setting, results: Results) -> Report:
    """How rough and how faithful maps are, pictures of them and of attention, and the claims of Figure 4."""
    trained = setting.subject is None
    rows = [[_label(kind), *_row(done, trained)] for kind, done in _by_kind(results).items()]
    larger_ones = [f"{ratio:g}" for ratio in RATIOS if ratio != 1]
    table = Table(
        name="bias",
        caption="Medians over all heads. Rough: second differences over the deviation of the map, at so many times the "
        "window. Moved: change of the bias at offsets that were trained, over its deviation. Grown: that deviation "
        "over the one at the start",
        head=[
            "bias",
            "heads",
            *(["grown", "rough at the start"] if trained else []),
            "rough at 1",
            *(f"rough at {at}" for at in larger_ones),
            *(f"moved at {at}" for at in larger_ones),
        ],
        rows=rows,
        form="{:.2f}",
    )
    return Report(
        tables=[table],
        paper=[PAPER],
        pictures=_pictures(setting, results),
        claims=_claims(setting, results) if trained else [],
        question="" if trained else QUESTION_WEIGHTS,
        notes=[
            "A table is carried to a larger window by bicubic interpolation, which stretches it: the same offset then "
            "has another bias. A bias network keeps the offsets that it was trained at and is asked beyond them.",
            *([START] if trained else []),
            "Interpolation itself smooths: a table that is as rough as a network's map at its own window is less rough "
            "after it.",
        ],
    )


def _by_kind(results: Results) -> dict[str, list[Done]]:
    found: dict[str, list[Done]] = {}
    for done in results:
        if "kind" in done.figures:
            found.setdefault(str(done.figures["kind"]), []).append(done)
    return {kind: found[kind] for kind in KINDS if kind in found}


def _label(kind: str) -> str:
    return KINDS[kind]


START = (
    "A table starts as noise, whose roughness is 2.4, and a network smooth. What tables learn is judged where they "
    f"have grown to {GROWN:g} times their start or more, so that a ninth of their variance is noise at most."
)


def _row(done: Sequence[Done], trained: bool) -> list[Any]:
    def over_seeds(figure: str, ratio: str) -> Any:
        return mean([each.figures[figure][ratio] for each in done if each.figures[figure][ratio] is not None])

    ratios = [f"{ratio:g}" for ratio in RATIOS]
    fresh = [mean([each.figures[name] for each in done]) for name in ("grown", "fresh")] if trained else []
    rough = [over_seeds("rough", ratio) for ratio in ratios]
    return [done[0].figures["heads"], *fresh, *rough, *(over_seeds("moved", ratio) for ratio in ratios[1:])]


PAPER = Table(
    name="paper",
    caption="Paper, Figure 4, and Table 1 without fine-tuning",
    head=["bias", "carried to a larger window", "8 to 16, top-1"],
    rows=[
        ["parameterised", "interpolates badly", "81.7 to 77.2"],
        ["linear CPB", "", "81.7 to 81.2"],
        ["log CPB", "extrapolates smoothly", "81.8 to 81.7"],
    ],
    text_columns=2,
)


def _pictures(setting: Setting, results: Results) -> list[Picture]:
    pictures: list[Picture] = []
    shown = _by_kind(results)
    found: dict[str, tuple[SwinStages, SwinStages]] = {}
    for kind, done in shown.items():
        subject = setting.subject or Subject(weights=str(done[0].weights))
        own = load(subject)
        found[_label(kind)] = (own.body, load(subject, scaled(own.config.window_size, COMPARED)).body)
    if found:
        pictures += [
            Picture(
                "maps",
                "Bias by offset between query and key at twice the window; dashed: the offsets that were trained. "
                "Colours have one scale in each row.",
                maps(found),
            ),
            Picture("profiles", "Bias along the horizontal axis: as it is, and at twice the window.", profiles(found)),
        ]
        last = list(shown.values())[-1][0]
        pictures += attention_pictures(setting, setting.subject or Subject(weights=str(last.weights)))
    return pictures


def _claims(setting: Setting, results: Results) -> list[Claim]:
    expected, at = len(setting.seed_range()), f"{COMPARED:g}"

    def at_ratio(figure: str, kind: str, ratio: str) -> list[float]:
        return seeds(results, lambda figures: figures.get(figure, {}).get(ratio), bias=kind)

    def rougher(ratio: str) -> Verdict:
        rough = above(
            at_ratio("rough", "table", ratio), at_ratio("rough", "log_cpb", ratio), expected=expected, share=0.5
        )
        return _learned(rough, values(results, "grown", bias="table"))

    rule = (
        f"roughness, parameterised against log CPB, {BETWEEN_SEEDS}; less than 1.5 times does not count, nor tables "
        f"whose deviation is less than {GROWN:g} times that at their start"
    )
    moves = {"parameterised, against 0.1": above(at_ratio("moved", "table", at), 0.1, expected=expected, least=0.01)}
    for kind in ("linear_cpb", "log_cpb"):
        keeps = above(0.001, at_ratio("moved", kind, at), expected=expected, least=0.0001)
        moves[f"0.001, against {KINDS[kind]}"] = keeps
    return [
        Claim(
            text="what log CPB learns is smooth, what a table learns is not",
            source="Figure 4",
            rule=f"at the trained window; {rule}",
            verdict=rougher("1"),
        ),
        Claim(
            text="log-CPB's maps extrapolate smoothly, the parameterised ones are carried badly",
            source="Figure 4",
            rule=f"at {at} times the window; {rule}",
            verdict=rougher(at),
        ),
        Claim(
            text="a continuous bias keeps what it learned when the window grows, a table does not",
            source="section 3.3; Figure 4",
            rule=f"seen where, at {at} times the window, known offsets move by more than a tenth of the deviation with "
            "a table, and by less than a thousandth with both networks, beyond what seeds vary by",
            verdict=_by_construction(together(moves)),
        ),
    ]


def _learned(verdict: Verdict, grown: Sequence[float]) -> Verdict:
    """Not visible where tables are what they were at the start: that they are rough then says nothing."""
    found = mean(grown)
    if verdict is PENDING or found is None or found.mean >= GROWN:
        return verdict
    told = f"Tables grew to {found.mean:.2g} times their start only, which is noise."
    return Verdict("not visible at this scale", f"{verdict.why} {told}")


def _by_construction(verdict: Verdict) -> Verdict:
    """A network has one bias for one offset whatever the window, and stretching moves any map: trained or not."""
    if verdict is PENDING:
        return verdict
    return Verdict(verdict.word, f"{verdict.why} It holds by construction, before any training: this checks the code.")


QUESTION_WEIGHTS = (
    "The bias of each head by offset, as it is and carried to larger windows, and where attention looks in one image."
)

STUDY = Study(
    title="Learned position biases, carried to larger windows, and attention over an image",
    source="Figure 4, section 3.3",
    question="Three models that differ in the kind of their position bias alone are trained alike; the bias of every "
    "head is then drawn at its own window and at larger ones, and attention is drawn over one image.",
    bases={
        "digits": {
            "trainer.epochs": 10,
            **{
                f"model.overrides.{name}": value
                for name, value in {"patch_size": [2, 2], "depths": [2, 2], "num_heads": [1, 2]}.items()
            },
        },
        "images": {
            "trainer.epochs": None,
            "trainer.steps": 1000,
            "trainer.validate_every": 1000,
            "trainer.batch_size": 32,
            "optimizer.base_lr": 3.2e-2,
            "schedule.warmup_steps": 100,
            "model.window_size": 8,
            **{
                f"model.overrides.{name}": value
                for name, value in {"patch_size": [2, 2], "depths": [2, 2], "num_heads": [1, 2]}.items()
            },
        },
        "paper": {},
    },
    cells=cells,
    measure=measure,
    report=report,
    varies=("seed", "model.overrides.position_bias"),
    takes_weights=True,
    takes_image=True,
)
