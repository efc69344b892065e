"""A plan as Markdown and as a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from swinv2.benchmark.report import markdown, number
from swinv2.plan.planning import CARDS, Plan
from swinv2.plan.strategy import PARTS

GB = 10**9


def gigabytes(size: int) -> str:
    """Bytes in GB, powers of ten."""
    return number(size / GB)


def title(name: str, plan: Plan) -> str:
    """What was planned, in one line."""
    settings = plan.settings
    each = f" on each of {settings.devices} devices" if settings.devices > 1 else ""
    size = " x ".join(map(str, settings.image_size))
    saved = settings.describe()
    tail = "" if saved == "nothing" else f", {saved}"
    return f"{name}: training step at {size}, batch {settings.batch}{each}, {settings.precision}{tail}"


def parts_table(plan: Plan) -> str:
    """Bytes on a device by part, at the highest instant, and of what stays between steps."""
    whole = {"weights": plan.states.weights, "gradients": plan.states.gradients, "optimiser": plan.states.optimiser}
    rows = [
        [part, gigabytes(size), gigabytes(whole[part]) if part in whole else "-"]
        for part, size in plan.peak.parts.items()
        if size or part != "gathered"
    ]
    rows.append(["all", gigabytes(plan.peak.total), gigabytes(plan.states.total)])
    return markdown(["part", "GB at the peak", "GB after the backward pass"], rows)


def summary(plan: Plan) -> str:
    """When the peak is, on which cards it fits, and the operations."""
    shares = [
        f"{card}: {'fits' if plan.fits(size) else 'no'}, {plan.peak.total / size:.0%}" for card, size in CARDS.items()
    ]
    ratio = plan.step_flops / plan.forward_flops
    return "\n".join(
        [
            f"The peak is in the {plan.peak.when}.",
            f"Cards: {'; '.join(shares)}.",
            f"Operations on a device: {number(plan.forward_flops / 1e12)} TFLOP forward, "
            f"{number(plan.step_flops / 1e12)} TFLOP a step ({ratio:.2f} times as many); "
            f"{gigabytes(plan.sent_bytes)} GB sent.",
        ]
    )


def cheapest_table(cheapest: Mapping[str, Plan | None]) -> str:
    """The cheapest settings for each card."""
    head = ["card", "cheapest settings that fit", "GB", "TFLOP a step", "GB sent"]
    rows = [
        [card, "none of those tried", "-", "-", "-"]
        if plan is None
        else [
            card,
            plan.settings.describe(),
            gigabytes(plan.peak.total),
            number(plan.step_flops / 1e12),
            gigabytes(plan.sent_bytes),
        ]
        for card, plan in cheapest.items()
    ]
    return markdown(head, rows, text_columns=2)


def document(name: str, plan: Plan, cheapest: Mapping[str, Plan | None]) -> str:
    """Everything, as Markdown."""
    sections = [f"# {title(name, plan)}", parts_table(plan), summary(plan).replace("\n", "\n\n")]
    return "\n\n".join([*sections, "## What fits", cheapest_table(cheapest)]) + "\n"


def chart(name: str, plan: Plan, others: Sequence[Plan]) -> Figure:
    """A bar of parts for the plan and one for each other, with a line for each card."""
    rows = [plan, *(other for other in others if other.settings != plan.settings)]
    figure = Figure(figsize=(10, 2 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    left = [0.0] * len(rows)
    for part in PARTS:
        sizes = [row.peak.parts[part] / GB for row in rows]
        if any(sizes):
            axes.barh(places, sizes, left=left, label=part)
        left = [start + size for start, size in zip(left, sizes, strict=True)]
    for card, size in CARDS.items():
        if size / GB < 1.5 * max(left) or size == min(CARDS.values()):
            axes.axvline(size / GB, color="black", linewidth=0.8, linestyle="--")
            axes.annotate(card, (size / GB, 1), xycoords=("data", "axes fraction"), ha="right", va="bottom", size=8)
    names = [row.settings.describe() for row in rows]
    axes.set_yticks(list(places), names, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlabel="GB on a device at its peak")
    figure.suptitle(title(name, plan), parse_math=False)
    figure.legend(loc="outside lower center", ncols=len(PARTS))
    return figure
