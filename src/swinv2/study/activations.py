"""`swinv2 study activations`: amplitudes on the main branch, block by block (paper, Figure 2).

Widths T to H at initialisation, narrow models of a growing width before and after training; or anybody's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swinv2.config import default_image_size, make_config
from swinv2.model import SwinTransformer
from swinv2.model.block import SwinBlock
from swinv2.model.stages import SwinStages
from swinv2.study.base import Cell, Done, Figures, Results, Setting, Study, chosen
from swinv2.study.charts import Line, curves, from_zero
from swinv2.study.findings import PENDING, Claim, Picture, Report, Table, Verdict, mean
from swinv2.study.subject import input_of, load, of_run, picture, preprocessing

NORMS = {"pre": "pre-norm (V1)", "res_post": "res-post-norm (V2)"}
FAMILIES = {"pre": "swin", "res_post": "swinv2"}
SIZES = ("tiny", "small", "base", "large", "huge")
"""T, S, B, L, H of the paper, which are measured as they are initialised."""

V1 = {
    "norm_placement": "pre",
    "attention_score": "dot",
    "position_bias": "table",
    "key_bias": True,
    "merge_norm": "before",
}
WIDTHS = {"laptop": (32, 64, 96), "paper": (96, 128, 192)}
"""Channels of the first stage of what is trained."""

DEPTHS = {"digits": (2, 12), "images": (2, 12), "paper": (2, 2, 18, 2)}
PATCHES = {"digits": 2, "images": 4, "paper": 4}
DEEP = {1: 0, 2: 1}
"""Stage, counted from 0, whose growth is told, by the number of stages; the third of more, as in the paper."""


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
        for seed in setting.seed_range(laptop=1)
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
    fresh.info = model.info
    return {**_looked(model.body, setting), "before": _looked(fresh, setting)["amplitudes"]}


def _looked(
    body: Any, setting: Setting, *, photo: bool = False, image_size: int | tuple[int, ...] | None = None
) -> Figures:
    image, _ = picture(setting, photo)
    x, _ = input_of(image, preprocessing(body, image_size))
    return {"amplitudes": amplitudes(body, x), "input": list(x.shape[2:])}


@torch.inference_mode()
def amplitudes(body: SwinStages, images: Tensor) -> list[list[float]]:
    """Mean absolute value of what leaves each block, extra norm included, stage by stage.

    Args:
        body: any model's stages, in evaluation mode.
        images: ``[B, C, *size]``.
    """
    found: list[list[float]] = []
    hooks = []
    for stage in body.stages:
        own: list[float] = []
        found.append(own)

        def note(module: nn.Module, args: object, out: Tensor, own: list[float] = own) -> None:
            own.append(float(out.abs().mean(dtype=torch.float64)))

        hooks += [block.register_forward_hook(note) for block in stage.modules() if isinstance(block, SwinBlock)]
    try:
        body(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def growth(amplitude: Sequence[Sequence[float]]) -> float:
    """Amplitude of the last block of the deep stage over that of its first."""
    stage = amplitude[DEEP.get(len(amplitude), 2)]
    return stage[-1] / stage[0]


def extremes(amplitude: Sequence[Sequence[float]]) -> float:
    """Largest amplitude of any block over the smallest."""
    whole = [value for stage in amplitude for value in stage]
    return max(whole) / min(whole)


def report(setting: Setting, results: Results) -> Report:
    """Tables of growth, curves of amplitudes, and the claims of Figure 2."""
    if setting.subject is not None:
        return _report_weights(results)
    table = Table(
        name="growth",
        caption="Growth: amplitude of the last block of the deep stage (the third of four) over its first; extremes: "
        "largest over smallest of all blocks",
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
    found = chosen(results, state="trained", **factors)
    return [of(done.figures[key]) for done in found if key in done.figures]


PAPER = Table(
    name="paper",
    caption="Paper, Figure 2 (trained models)",
    head=["model", "pre-norm (V1)", "res-post-norm (V2)"],
    rows=[["H (658M)", "gap of extreme layers up to 10^4", "mild"], ["T to H", "grows layer by layer", "mild"]],
    text_columns=3,
)


def _pictures(setting: Setting, results: Results) -> list[Picture]:
    fresh = [done for done in chosen(results, state="init") if done.cell.factors["size"] != "small"]
    trained = chosen(results, state="trained", seed=setting.seed_range(1)[0])
    pictures = []
    for name, found, state in (("trained", trained, "after training"), ("initialisation", fresh, "at initialisation")):
        lines = {
            _label(done): _line(done, number // 2) for number, done in enumerate(found) if "amplitudes" in done.figures
        }
        if lines:
            title = f"Amplitude {state}; dashed: res-post-norm"
            figure = curves(lines, x="block, over all stages", y="mean |x| after the block", title=title)
            from_zero(figure.axes[0], lines)
            pictures.append(Picture(name, f"Mean absolute value on the main branch after each block, {state}.", figure))
    return pictures


def _label(done: Done) -> str:
    size = done.cell.factors["size"]
    return f"{f'width {size}' if isinstance(size, int) else size}, {str(done.cell.factors['norm']).replace('_', '-')}"


def _line(done: Done, colour: int) -> Line:
    whole = [value for stage in done.figures["amplitudes"] for value in stage]
    return Line(range(1, len(whole) + 1), whole, dashed=done.cell.factors["norm"] == "res_post", colour=colour)


def _claims(setting: Setting, results: Results) -> list[Claim]:
    fresh = [
        [growth(done.figures["amplitudes"]) for done in chosen(results, state="init", norm=norm)] for norm in NORMS
    ]
    trained = [
        [mean(_ratios(results, growth, norm=norm, size=width)) for width in WIDTHS[setting.scale]] for norm in NORMS
    ]
    after = [[each.mean for each in row if each is not None] for row in trained]
    wide = fresh[0][1:]  # S to H, which have the same depth
    told = ", ".join(f"{ratio:.2f}" for ratio in fresh[0])
    widths = len(WIDTHS[setting.scale])
    return [
        Claim(
            text="under pre-norm the amplitude grows through the deep stage",
            source="Figure 2: layer by layer",
            rule="seen where the growth is above 1 for every size at initialisation and every width after training",
            verdict=_all(fresh[0] + after[0], len(SIZES) + widths, lambda ratio: ratio > 1),
        ),
        Claim(
            text="under pre-norm a wider model's amplitude grows more",
            source="Figure 2: most for H",
            rule="seen where the growth at initialisation rises from S to B to L to H, which are equally deep",
            verdict=PENDING
            if len(fresh[0]) < len(SIZES)
            else Verdict("seen" if wide == sorted(wide) else "not seen", f"T, S, B, L, H: {told}."),
        ),
        Claim(
            text="under res-post-norm it grows less",
            source="Figure 2: mild",
            rule="seen where, after training, the growth is lower than under pre-norm at every width",
            verdict=_all(
                [first / second for first, second in zip(*after, strict=False)], widths, lambda ratio: ratio > 1
            ),
        ),
        Claim(
            text="the gap between extreme layers reaches 10^4 at H",
            source="Figure 2: 10^4, trained H",
            rule="visible only where H is trained, which no scale of this study does",
            verdict=Verdict(
                "not visible at this scale", f"H is not trained here; the widest is {WIDTHS[setting.scale][-1]}."
            ),
        ),
    ]


def _all(ratios: Sequence[float], expected: int, holds: Any) -> Verdict:
    if len(ratios) < expected:
        return PENDING
    told = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return Verdict("seen" if all(map(holds, ratios)) else "not seen", f"ratios {told}.")


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
    "for an image of the data, of narrow models of the same shape before and after training. V1 is pre-norm with dot "
    "products and a bias table, V2 res-post-norm with cosine attention and log-spaced continuous bias.",
    bases={
        "digits": {"trainer.epochs": 10},
        "images": {"trainer.epochs": 4},
        "paper": {},
    },
    cells=cells,
    measure=measure,
    report=report,
    varies=("seed", "model.overrides"),
    validates=False,
    takes_weights=True,
)
