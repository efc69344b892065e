"""`swinv2 study activations`: amplitudes on the main branch, block by block (paper, Figure 2).

Widths T to H at initialisation, narrow models of a growing width before and after training; or anybody's weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swinv2.config import default_image_size, make_config
from swinv2.data.sources import open_split
from swinv2.model import SwinTransformer
from swinv2.study.amplitudes import amplitudes, extremes, growth
from swinv2.study.base import Cell, Done, Figures, Results, Setting, Study, chosen, seeds
from swinv2.study.charts import Line, curves, from_zero, of_means
from swinv2.study.findings import (
    BETWEEN_SEEDS,
    PENDING,
    Claim,
    Picture,
    Report,
    Sample,
    Table,
    Verdict,
    above,
    mean,
    together,
)
from swinv2.study.subject import input_of, load, of_run, picture, preprocessing
from swinv2.train.folder import RunFolder
from swinv2.train.recipe import load_recipe

NORMS = {"pre": "pre-norm (V1)", "res_post": "res-post-norm (V2)"}
FAMILIES = {"pre": "swin", "res_post": "swinv2"}
SIZES = ("tiny", "small", "base", "large", "huge")
"""T, S, B, L, H of the paper, which are measured as they are initialised."""

V1 = {"norm_placement": "pre", "attention_score": "dot", "position_bias": "table", "key_bias": True}
"""What is trained of V1; both norms have V2's patch merging, which ends in a norm.

V1's ends in a linear layer, from which less comes out: what follows would grow over a lower start by that alone."""

WIDTHS = {"laptop": (32, 64), "paper": (96, 128, 192)}
"""Channels of the first stage of what is trained."""

DEPTHS = {"digits": (2, 12), "images": (2, 12), "paper": (2, 2, 18, 2)}
PATCHES = {"digits": 2, "images": 4, "paper": 4}
IMAGES = 64
"""Validation images, over all classes, whose mean amplitude is that of a trained model."""

LEAST = 0.05
"""Differences of growths below it count as none."""


def cells(setting: Setting) -> list[Cell]:
    """Weights of somebody alone; else every size as it is initialised, and every width trained with both norms."""
    if setting.subject is not None:
        return [Cell(factors={"state": "weights"})]
    fresh = [Cell(factors={"state": "init", "norm": norm, "size": size}) for size in SIZES for norm in NORMS]
    trained = [
        Cell(
            factors={"state": "trained", "norm": norm, "size": width, "seed": seed},
            changes=_changes(setting, norm, width, seed),
        )
        for seed in setting.seed_range()
        for width in WIDTHS[setting.scale]
        for norm in NORMS
    ]
    return [*fresh, *trained]


def _changes(setting: Setting, norm: str, width: int, seed: int) -> dict[str, Any]:
    depths, patch = DEPTHS[setting.family], PATCHES[setting.family]
    overrides = {
        "embed_dim": width,
        "depths": list(depths),
        "num_heads": [width // 32 * 2**stage for stage in range(len(depths))],
        "patch_size": [patch, patch],
        **(V1 if norm == "pre" else {}),
    }
    return {"seed": seed, **{f"model.overrides.{name}": value for name, value in overrides.items()}}


def measure(cell: Cell, setting: Setting, run: Path | None) -> Figures:
    """Amplitudes of every block; of what was trained, those of a fresh model too."""
    if setting.subject is not None:
        return _looked(load(setting.subject).body, setting, image_size=setting.subject.image_size)
    if run is None:
        name = f"{FAMILIES[str(cell.factors['norm'])]}_{cell.factors['size']}"
        torch.manual_seed(0)
        size = default_image_size(name)[-1]
        return _looked(SwinTransformer(make_config(name)).eval(), setting, photo=True, image_size=size)
    model = load(of_run(run))
    torch.manual_seed(int(cell.factors["seed"]))
    fresh = SwinTransformer(model.config).eval()
    x = _validation(model, run)
    return {"amplitudes": amplitudes(model.body, x), "before": amplitudes(fresh, x), "input": list(x.shape[2:])}


def _looked(
    body: Any, setting: Setting, *, photo: bool = False, image_size: int | tuple[int, ...] | None = None
) -> Figures:
    image, _ = picture(setting, photo)
    x, _ = input_of(image, preprocessing(body, image_size))
    return {"amplitudes": amplitudes(body, x), "input": list(x.shape[2:])}


def _validation(model: Any, run: Path) -> Tensor:
    """Images of the validation split of a run, evenly over its whole, as the model's input ``[B, C, *size]``."""
    source, known = open_split(load_recipe(RunFolder(run).config).data, "val"), preprocessing(model)
    places = range(0, len(source), max(1, len(source) // IMAGES))[:IMAGES]
    return torch.cat([input_of(source.image(place), known)[0] for place in places])


def report(setting: Setting, results: Results) -> Report:
    """Tables of growth, curves of amplitudes, and the claims of Figure 2."""
    if setting.subject is not None:
        return _report_weights(results)
    table = Table(
        name="growth",
        caption="Growth: amplitude of the last block of the deep stage (the third of four, and of narrow models the "
        "second of two) over its first; extremes: largest over smallest of all blocks",
        head=["model", *(f"{label}, {what}" for label in NORMS.values() for what in ("growth", "extremes"))],
        rows=[*_rows_init(results), *_rows_trained(setting, results)],
        form="{:.2f}",
    )
    return Report(
        tables=[table],
        paper=[PAPER],
        pictures=_pictures(setting, results),
        claims=_claims(setting, results),
        notes=[
            "Of what is trained, both norms have V2's patch merging, whose output is normalised, so that amplitudes "
            "start alike. Of the named models as they are initialised, V1 has its own: its output is lower, and the "
            "growth from there on higher by that much.",
            "At initialisation the norms of res-post branches are 0, so that its blocks change nothing: what is left "
            "is patch merging and, in H, the extra norms. The comparison that says something is that after training.",
        ],
    )


def _rows_init(results: Results) -> list[list[Any]]:
    rows = []
    for size in SIZES:
        found = [chosen(results, state="init", size=size, norm=norm) for norm in NORMS]
        ratios = [of(done[0].figures["amplitudes"]) if done else None for done in found for of in (growth, extremes)]
        rows.append([f"{size}, at initialisation", *ratios])
    return rows


def _rows_trained(setting: Setting, results: Results) -> list[list[Any]]:
    rows = []
    for key, label in (("before", "before training"), ("amplitudes", "trained")):
        for width in WIDTHS[setting.scale]:
            ratios = [
                mean(_ratios(results, of, key, size=width, norm=norm)) for norm in NORMS for of in (growth, extremes)
            ]
            rows.append([f"width {width}, {label}", *ratios])
    return rows


def _ratios(results: Results, of: Any, key: str = "amplitudes", **factors: object) -> list[float]:
    """Of each seed, nan where it diverged."""
    return seeds(results, lambda figures: of(figures[key]) if key in figures else None, state="trained", **factors)


PAPER = Table(
    name="paper",
    caption="Paper, Figure 2 (trained models)",
    head=["model", "pre-norm (V1)", "res-post-norm (V2)"],
    rows=[["H (658M)", "gap of extreme layers up to 10^4", "mild"], ["T to H", "grows layer by layer", "mild"]],
    text_columns=3,
)


def _pictures(setting: Setting, results: Results) -> list[Picture]:
    fresh: list[tuple[dict[str, Any], str]] = [
        ({"state": "init", "size": size}, size) for size in SIZES if size != "small"
    ]
    trained: list[tuple[dict[str, Any], str]] = [
        ({"state": "trained", "size": width}, f"width {width}") for width in WIDTHS[setting.scale]
    ]
    pictures = []
    for name, kinds, state in (
        ("trained", trained, "after training, mean and standard deviation over seeds"),
        ("initialisation", fresh, "at initialisation"),
    ):
        lines = {}
        for number, (factors, label) in enumerate(kinds):
            for norm in NORMS:
                found = [each for each in chosen(results, **factors, norm=norm) if "amplitudes" in each.figures]
                if found:
                    lines[f"{label}, {norm.replace('_', '-')}"] = _line(found, norm, number)
        if lines:
            title = f"Amplitude {state.partition(',')[0]}; dashed: res-post-norm"
            figure = curves(lines, x="block, over all stages", y="mean |x| after the block", title=title)
            from_zero(figure.axes[0], lines)
            pictures.append(Picture(name, f"Mean absolute value on the main branch after each block, {state}.", figure))
    return pictures


def _line(found: Sequence[Done], norm: str, colour: int) -> Line:
    """A curve over all blocks; bars of seeds where there are several."""
    each = [[value for stage in done.figures["amplitudes"] for value in stage] for done in found]
    line = of_means(range(1, len(each[0]) + 1), [mean(values) for values in zip(*each, strict=True)])
    spread = line.spread if len(found) > 1 else None
    return replace(line, spread=spread, dashed=norm == "res_post", colour=colour)


FLOOR = f"differences below {LEAST} do not count"


def _claims(setting: Setting, results: Results) -> list[Claim]:
    return [*_claims_init(results), *_claims_trained(setting, results)]


def _claims_init(results: Results) -> list[Claim]:
    """What shows at initialisation, of which there is one for each size."""

    def compare(first: str, second: str | None = None) -> Verdict:
        return above(fresh(first), 1.0 if second is None else fresh(second), expected=1, least=LEAST)

    def fresh(size: str) -> float | list[float]:
        """Growth under pre-norm, exact, or nothing yet."""
        done = chosen(results, state="init", norm="pre", size=size)
        return growth(done[0].figures["amplitudes"]) if done else []

    return [
        Claim(
            text="under pre-norm the amplitude grows through the deep stage, at initialisation",
            source="Figure 2: layer by layer",
            rule=f"growth of each size T to H against 1, one initialisation each: seen where above; {FLOOR}",
            verdict=together({size: compare(size) for size in SIZES}),
        ),
        Claim(
            text="under pre-norm a wider model's amplitude grows more, at initialisation",
            source="Figure 2: most for H",
            rule=f"growth of B against S, L against B and H against L, which are equally deep: seen where all are "
            f"above, not seen where one is below; {FLOOR}",
            verdict=together(
                {f"{wide} against {narrow}": compare(wide, narrow) for narrow, wide in pairwise(SIZES[1:])}
            ),
        ),
    ]


def _claims_trained(setting: Setting, results: Results) -> list[Claim]:
    """What shows after training, width by width."""
    widths, expected = WIDTHS[setting.scale], len(setting.seed_range())

    def trained(norm: str, width: int, of: Any = growth) -> list[float]:
        return _ratios(results, of, norm=norm, size=width)

    def compare(first: Sample, second: Sample, share: float = 0.0) -> Verdict:
        return above(first, second, expected=expected, least=LEAST, share=share)

    def at_each(verdict: Callable[[int], Verdict]) -> Verdict:
        return together({f"width {width}": verdict(width) for width in widths})

    return [
        Claim(
            text="under pre-norm the amplitude grows through the deep stage, after training",
            source="Figure 2: layer by layer",
            rule=f"growth at every width against 1, {BETWEEN_SEEDS}; {FLOOR}",
            verdict=at_each(lambda width: compare(trained("pre", width), 1.0)),
        ),
        Claim(
            text="under pre-norm a wider model's amplitude grows more, after training",
            source="Figure 2: most for H",
            rule=f"growth of the widest against the narrowest, {BETWEEN_SEEDS}; {FLOOR}",
            verdict=compare(trained("pre", widths[-1]), trained("pre", widths[0])),
        ),
        Claim(
            text="under res-post-norm it grows less",
            source="Figure 2: mild",
            rule=f"growth after training at every width, pre-norm against res-post-norm, {BETWEEN_SEEDS}; {FLOOR}",
            verdict=at_each(lambda width: compare(trained("pre", width), trained("res_post", width))),
        ),
        Claim(
            text="under res-post-norm the gap between extreme layers is far smaller",
            source="Figure 2: mild, and 10^4 under pre-norm at H",
            rule=f"extremes after training at every width, pre-norm against res-post-norm, {BETWEEN_SEEDS}; less than "
            "1.5 times does not count",
            verdict=at_each(
                lambda width: compare(trained("pre", width, extremes), trained("res_post", width, extremes), 0.5)
            ),
        ),
        Claim(
            text="under pre-norm the gap between extreme layers reaches 10^4 at H",
            source="Figure 2: 10^4, trained H",
            rule="seen where the widest that is trained reaches it already, else not visible: no scale of this study "
            "trains H",
            verdict=_reached(trained("pre", widths[-1], extremes), expected, f"width {widths[-1]}"),
        ),
    ]


def _reached(gaps: Sequence[float], expected: int, widest: str) -> Verdict:
    found = mean(gaps)
    if len(gaps) < expected:
        return PENDING
    if found is None:
        return Verdict("not visible at this scale", f"{widest}, the widest that is trained, diverged.")
    told = f"{found.mean:.3g} at {widest}, the widest that is trained."
    return Verdict("seen" if found.mean >= 1e4 else "not visible at this scale", told)


def _report_weights(results: Results) -> Report:
    if not results:
        return Report()
    found: list[list[float]] = results[0].figures["amplitudes"]
    rows = [
        [f"{number}", len(stage), stage[0], stage[-1], stage[-1] / stage[0]] for number, stage in enumerate(found, 1)
    ]
    whole = [value for stage in found for value in stage]
    ends = [sum(len(stage) for stage in found[:number]) + 0.5 for number in range(1, len(found))]
    lines = {"mean |x|": Line(range(1, len(whole) + 1), whole)}
    figure = curves(
        lines,
        x="block, over all stages; lines where a stage begins",
        y="mean |x| after the block",
        title="Amplitude on the main branch",
    )
    from_zero(figure.axes[0], lines)
    for end in ends:
        figure.axes[0].axvline(end, color="black", linewidth=0.8, linestyle=":")
    table = Table(
        name="amplitudes",
        caption="Mean absolute value after the first and the last block of each stage",
        head=["stage", "blocks", "first block", "last block", "growth"],
        rows=rows,
    )
    size = " x ".join(map(str, results[0].figures["input"]))
    note = f"Largest over smallest of all blocks: {extremes(found):.1f}, at {size} pixels."
    picture = Picture("amplitudes", "Mean absolute value on the main branch after each block.", figure)
    question = "Mean |x| of what leaves each block, for one image."
    return Report(tables=[table], paper=[PAPER], pictures=[picture], notes=[note], question=question)


STUDY = Study(
    title="Amplitude of activations on the main branch, by block, width and norm",
    source="Figure 2, section 3.2",
    question="Mean |x| of what leaves each block: for a photo, of the named models T to H as they are initialised; "
    "over 64 validation images, of narrow models of the same shape before and after training. V1 is pre-norm with dot "
    "products and a bias table, V2 res-post-norm with cosine attention and log-spaced continuous bias.",
    bases={
        "digits": {"trainer.epochs": 10},
        "images": {
            "trainer.epochs": 1,
            "trainer.batch_size": 64,
            "optimizer.base_lr": 8e-3,
            "schedule.warmup_epochs": 0.25,
        },
        "paper": {},
    },
    cells=cells,
    measure=measure,
    report=report,
    varies=("seed", "model.overrides"),
    validates=False,
    takes_weights=True,
    takes_image=True,
)
