"""`swinv2 study memory`: what each technique of the paper saves, alone and together (section 3.5), planned and
measured.

The paper has no table of it. One training step of a model that this machine can run is planned and measured; the
paper's own largest is planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from swinv2.benchmark.contenders import images, training
from swinv2.benchmark.machine import DTYPES
from swinv2.benchmark.timing import interleave
from swinv2.config import SwinConfig, make_config
from swinv2.model import SwinTransformer
from swinv2.plan.document import GB, gigabytes
from swinv2.plan.measuring import comparable, measured
from swinv2.plan.planning import Planner
from swinv2.plan.settings import Settings
from swinv2.plan.strategy import PARTS
from swinv2.plan.trace import configure
from swinv2.plan.work import Work
from swinv2.study.base import Cell, Figures, Results, Setting, Study, chosen
from swinv2.study.charts import stacked
from swinv2.study.findings import PENDING, Claim, Picture, Report, Table, Verdict
from swinv2.study.fit import Machine
from swinv2.study.subject import load, preprocessing

TECHNIQUES: Mapping[str, Mapping[str, Any]] = {
    "sequential attention": {"attention": "sequential", "attention_stages": (0, 1), "budget_mb": 64.0},
    "checkpointing": {"checkpointing": "block"},
    "ZeRO 1": {"strategy": "zero1"},
    "FSDP": {"strategy": "fsdp"},
}
WAYS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "sequential attention": ("sequential attention",),
    "checkpointing": ("checkpointing",),
    "ZeRO 1": ("ZeRO 1",),
    "FSDP": ("FSDP",),
    "sequential + checkpointing": ("sequential attention", "checkpointing"),
    "checkpointing + ZeRO 1": ("checkpointing", "ZeRO 1"),
    "all, with ZeRO 1": ("sequential attention", "checkpointing", "ZeRO 1"),
    "all, with FSDP": ("sequential attention", "checkpointing", "FSDP"),
}
THREE = ("sequential attention", "checkpointing", "ZeRO 1")
"""The paper's."""

ALONE = ("none", "sequential attention", "checkpointing", "sequential + checkpointing")
"""Ways that one device can measure."""

MODELS = {"laptop": ("swinv2_tiny", 32, 512, 1), "paper": ("swinv2_base", 24, 384, 8)}
"""What is measured: model, window, image size and images of a step.

The laptop's has the paper's largest window, of 1024 tokens: at 256 and a window of 16, scores of attention are not what
a step's peak is made of, and sequential attention has nothing to save."""

LARGEST = ("swinv2_giant", 32, 1536)
DEVICES, CARD = 96, 40 * GB
"""The paper's 3B model at its largest input, and GPUs of 40 GB; its COCO recipe has a batch of 96."""

AT_ONCE = "sdpa"
"""Attention without a technique: all windows at once. On a CPU, auto would already be sequential in training."""

ROUNDS, SECONDS = 5, 90.0
"""Of timing, at most."""

SAVED = 0.02
"""Share of a peak by which a technique must lower it to count."""


def cells(setting: Setting) -> list[Cell]:
    """The model that is measured, and the paper's largest; of somebody's weights, theirs alone."""
    if setting.subject is not None:
        return [Cell(factors={"what": "weights"})]
    return [Cell(factors={"what": "measured"}), Cell(factors={"what": "largest"})]


def measure(cell: Cell, setting: Setting, run: Path | None) -> Figures:
    """Bytes by part of every technique, planned; where this machine can, measured, with seconds of a step."""
    if cell.factors["what"] == "largest":
        return _largest()
    name, config, size, batch = _small(setting)
    machine = Machine.here()
    precision = "bf16" if machine.device == "cuda" else "fp32"
    settings = Settings(image_size=size, batch=batch, precision=precision, device=machine.device, attention=AT_ONCE)
    planner = Planner(config)
    alone = {way: planner(_with(settings, way)) for way in ALONE}
    figures = {
        **_described(name, config, settings),
        "planned": _planned(planner, replace(settings, devices=8, strategy="ddp")),
        "alone": {way: comparable(plan) for way, plan in alone.items()},
    }
    most = max(plan.peak.total for plan in alone.values())
    if most > machine.capacity:
        told = f"{gigabytes(most)} GB are planned, and this machine has {gigabytes(machine.capacity)} GB"
        return {**figures, "unmeasured": f"Not measured: {told}. A smaller --image-size would fit."}
    used = {way: measured(Work(config), _with(settings, way)).peak for way in ALONE}
    return {**figures, "measured": used, **_timed(config, settings)}


def _largest() -> Figures:
    name, window, size = LARGEST
    config = make_config(name, window_size=window, image_size=size)
    settings = Settings(image_size=(size, size), precision="fp16", devices=DEVICES, strategy="ddp", attention=AT_ONCE)
    return {**_described(name, config, settings), "planned": _planned(Planner(config), settings)}


def _small(setting: Setting) -> tuple[str, SwinConfig, tuple[int, ...], int]:
    """What is measured: name, architecture, image size, images a step."""
    if setting.subject is None:
        name, window, size, batch = MODELS[setting.scale]
        return name, make_config(name, window_size=window, image_size=size), (size, size), batch
    model = load(setting.subject)
    config = replace(model.config, num_classes=model.config.num_classes or 1000)
    own = preprocessing(model.body, setting.subject.image_size).size
    return Path(setting.subject.weights).name, config, own, 1


def _described(name: str, config: SwinConfig, settings: Settings) -> dict[str, Any]:
    return {
        "model": name,
        "window": max(config.window_size[0]),
        "image": list(settings.image_size),
        "batch": settings.batch,
        "precision": settings.precision,
        "device": settings.device,
    }


def _with(settings: Settings, way: str) -> Settings:
    for technique in WAYS[way]:
        settings = replace(settings, **TECHNIQUES[technique])
    return settings


def _planned(planner: Planner, settings: Settings) -> dict[str, Any]:
    found = {}
    for way in WAYS:
        plan = planner(_with(settings, way))
        found[way] = {
            "parts": plan.peak.parts,
            "total": plan.peak.total,
            "states": plan.states.total,
            "flops": plan.step_flops,
            "devices": settings.devices,
        }
    return found


def _timed(config: SwinConfig, settings: Settings) -> dict[str, Any]:
    """Median seconds of a step of each way, and the spread, in rounds that interleave them."""
    device = torch.device(settings.device)
    x = images(settings.batch, config.in_channels, settings.image_size, device)
    steps = {}
    for way in ALONE:
        model = SwinTransformer(config)
        configure(model, _with(settings, way))
        steps[way] = training(model, x, DTYPES[settings.precision])
    timing = interleave(steps, device, rounds=ROUNDS, seconds=SECONDS)
    return {"step_seconds": timing.seconds, "spread": timing.spread, "rounds": timing.rounds}


def report(setting: Setting, results: Results) -> Report:
    """Tables and stacked bars of every model, and the claims of section 3.5."""
    tables = [table for done in results for table in _tables(str(done.cell.factors["what"]), done.figures)]
    pictures = [_picture(str(done.cell.factors["what"]), done.figures) for done in results]
    return Report(
        tables=tables,
        paper=[PAPER],
        pictures=pictures,
        claims=[] if setting.subject is not None else _claims(results),
        notes=[
            "GB are 10^9 bytes, at the highest instant of a training step: forward, backward and AdamW over fp32 "
            "weights. Without a technique, attention is PyTorch's sdpa, all windows at once; sequential attention "
            "runs in the first two stages, in pieces of 64 MiB. See swinv2 plan.",
            *(str(done.figures["unmeasured"]) for done in results if "unmeasured" in done.figures),
        ],
    )


def _title(figures: Figures) -> str:
    size = " x ".join(map(str, figures["image"]))
    return f"{figures['model']} at {size}, window {figures['window']}, {figures['precision']}"


def _tables(what: str, figures: Figures) -> list[Table]:
    planned = figures["planned"]
    whole = planned["none"]["total"]
    devices = planned["none"]["devices"]
    table = Table(
        name=f"{what}-planned",
        caption=f"{_title(figures)}: planned GB on each of {devices} devices, {figures['batch']} images each",
        head=["technique", "GB", "of none", "GB of states", "TFLOP a step"],
        rows=[
            [way, each["total"] / GB, f"{each['total'] / whole:.0%}", each["states"] / GB, each["flops"] / 1e12]
            for way, each in planned.items()
        ],
    )
    return [_measured_table(what, figures), table] if "measured" in figures else [table]


def _measured_table(what: str, figures: Figures) -> Table:
    seconds, base = figures["step_seconds"], figures["step_seconds"].get("none")
    rows = []
    for way, used in figures["measured"].items():
        planned, taken = figures["alone"][way], seconds.get(way)
        ratio = taken / base if taken and base else None
        rows.append([way, planned / GB, used / GB, f"{planned / used - 1:+.1%}", taken, ratio])
    return Table(
        name=what,
        caption=f"{_title(figures)}: measured on one {figures['device']}, {figures['batch']} images; GB above "
        "weights and images",
        head=["technique", "GB planned", "GB measured", "difference", "seconds a step", "of none"],
        rows=rows,
        note=f"Seconds: median of {figures['rounds']} interleaved rounds.",
    )


def _picture(what: str, figures: Figures) -> Picture:
    planned = figures["planned"]
    rows = {way: {part: each["parts"][part] / GB for part in PARTS} for way, each in planned.items()}
    card = {"40 GB": CARD / GB} if what == "largest" else {}
    devices = planned["none"]["devices"]
    figure = stacked(
        rows, x=f"GB on each of {devices} devices, at the peak", title=f"{_title(figures)}: planned", lines=card
    )
    return Picture(f"{what}-parts", f"What a training step of {_title(figures)} takes, by technique and part.", figure)


PAPER = Table(
    name="paper",
    caption="Paper, section 3.5: no figure for each technique",
    head=["technique", "what the paper says"],
    rows=[
        ["ZeRO 1", "3B with AdamW in fp32 takes 48 GB unsharded"],
        ["checkpointing", "up to 30% slower"],
        ["sequential attention", "first two stages; little impact on speed"],
        ["all three", "1536 x 1536, window 32 on A100s of 40 GB"],
    ],
    text_columns=2,
)


def _claims(results: Results) -> list[Claim]:
    small = [done.figures for done in chosen(results, what="measured")]
    large = [done.figures for done in chosen(results, what="largest")]
    return [
        Claim(
            text="the three together fit 3B at 1536 x 1536 and window 32 into 40 GB",
            source="section 3.5",
            rule="seen where, as planned, all with ZeRO 1 take 40 GB at most, and more without any",
            verdict=_fits(large[0]["planned"]) if large else PENDING,
        ),
        Claim(
            text="weights, gradients and moments of 3B take 48 GB without ZeRO",
            source="section 3.5",
            rule="seen where the planned states are within 2% of it",
            verdict=_states(large[0]["planned"]) if large else PENDING,
        ),
        _speed_claim("checkpointing makes a step at most 30% slower", small, "checkpointing", 1.3),
        _speed_claim("sequential attention has little impact on speed", small, "sequential attention", 1.1),
        *(
            Claim(
                text=f"{way} saves memory in {what}",
                source="section 3.5",
                rule=f"peak of a step with it alone, as planned{also}: seen where lower by {SAVED:.0%} or more, not "
                "seen where higher by as much, else not visible",
                verdict=_saves(figures, way) if figures else PENDING,
            )
            for way in THREE
            for what, also, figures in (
                ("the paper's 3B model", "", next(iter(large), None)),
                (
                    "the model that is measured",
                    "" if way == "ZeRO 1" else ", and as measured where it is",
                    next(iter(small), None),
                ),
            )
        ),
    ]


def _fits(planned: Mapping[str, Any]) -> Verdict:
    all_of_them, none = (planned[way]["total"] for way in ("all, with ZeRO 1", "none"))
    two = gigabytes(planned["checkpointing + ZeRO 1"]["total"])
    told = f"{gigabytes(all_of_them)} GB on each of {DEVICES} devices with all, {gigabytes(none)} GB with none"
    told = f"{told}; {two} GB without sequential attention."
    return Verdict("seen" if all_of_them <= CARD < none else "not seen", told)


def _states(planned: Mapping[str, Any]) -> Verdict:
    found = planned["none"]["states"]
    return Verdict("seen" if abs(found / (48 * GB) - 1) < 0.02 else "not seen", f"{gigabytes(found)} GB.")


def _speed_claim(text: str, small: Sequence[Figures], way: str, most: float) -> Claim:
    return Claim(
        text=text,
        source="section 3.5",
        rule=f"seen where the median step takes at most {most} times as long; not visible where half the spread of its "
        f"rounds reaches from there to {most}",
        verdict=_slower(small[0], way, most) if small else PENDING,
    )


def _slower(figures: Figures, way: str, most: float) -> Verdict:
    seconds = figures.get("step_seconds", {})
    if not {way, "none"} <= seconds.keys():
        return Verdict("not visible at this scale", "its step could not be timed here.")
    ratio, spread = seconds[way] / seconds["none"], figures["spread"][way] / 2
    told = f"{ratio:.2f} times as long, rounds spread by {figures['spread'][way]:.0%}."
    if abs(ratio - most) <= spread * ratio:
        return Verdict("not visible at this scale", told)
    return Verdict("seen" if ratio <= most else "not seen", told)


def _saves(figures: Figures, way: str) -> Verdict:
    planned, used = figures["planned"], figures.get("measured", {})
    ratios = {"planned": planned[way]["total"] / planned["none"]["total"]}
    if way in used:
        ratios["measured"] = used[way] / used["none"]
    least, most = min(ratios.values()), max(ratios.values())
    told = ", ".join(f"{name} {ratio:.0%} of none" for name, ratio in ratios.items())
    if most >= 1 + SAVED:
        return Verdict("not seen", f"{told}.")
    if most > 1 - SAVED:
        why = "the peak is made of something else" if least > 1 - SAVED else "plan and measurement differ"
        return Verdict("not visible at this scale", f"{told}: {why}.")
    return Verdict("seen", f"{told}.")


STUDY = Study(
    title="Memory of a training step with each technique, alone and together",
    source="section 3.5",
    question="Sequential attention, activation checkpointing and ZeRO stage 1 (FSDP beside it), each alone and "
    "together: planned for several devices by swinv2 plan, measured and timed where one device can run it.",
    bases={},
    cells=cells,
    measure=measure,
    report=report,
    takes_weights=True,
)
