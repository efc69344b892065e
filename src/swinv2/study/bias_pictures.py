"""Pictures of position biases: maps by offset, and their horizontal profile."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from swinv2.config import Axes as Sizes
from swinv2.model.attention import WindowAttention
from swinv2.model.stages import SwinStages
from swinv2.study.charts import Line, draw

HEADS = 4
"""So many heads of a block are shown."""

Carried = Mapping[str, tuple[SwinStages, SwinStages]]
"""A model's stages at its own window, and at a larger one, by the name of its bias."""


def maps(carried: Carried) -> Figure:
    """A row for each stage of each model, of its last block: its first heads at the larger window."""
    rows = [(name, *stage) for name, pair in carried.items() for stage in by_stage(*pair)]
    figure = Figure(figsize=(2.1 * HEADS + 1.2, 0.6 + 2.15 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), HEADS, squeeze=False)
    for row, (name, stage, trained, _, wide) in zip(axes, rows, strict=True):
        for head, place in enumerate(row):
            if head >= len(wide):
                place.set_axis_off()
                continue
            reach = [(size - 1) // 2 for size in wide.shape[1:]]
            extent = (-reach[1] - 0.5, reach[1] + 0.5, reach[0] + 0.5, -reach[0] - 0.5)
            image = place.imshow(wide[head].numpy(), cmap="viridis", extent=extent)
            figure.colorbar(image, ax=place, shrink=0.85)
            corner, size = (0.5 - trained[1], 0.5 - trained[0]), (2 * trained[1] - 1, 2 * trained[0] - 1)
            place.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linestyle="--", linewidth=1.2))
            place.set_title(f"head {head + 1}", size=9)
        row[0].set_ylabel(f"{name}, stage {stage}\nvertical offset, tokens", size=9)
    for place in axes[-1]:
        place.set_xlabel("horizontal offset, tokens", size=9)
    return figure


def profiles(carried: Carried) -> Figure:
    """The first heads of the first stage's last block along the horizontal axis, a panel for each model."""
    figure = Figure(figsize=(max(7.0, 4.2 * len(carried)), 3.8), layout="constrained")
    panels = figure.subplots(1, len(carried), squeeze=False)[0]
    for axes, (name, pair) in zip(panels, carried.items(), strict=True):
        _, _, own, wide = by_stage(*pair)[0]
        lines: dict[str, Line] = {}
        for head in range(min(2, len(own))):
            lines[f"head {head + 1}, its own window"] = _profile(own[head], head, dashed=False)
            lines[f"head {head + 1}, twice the window"] = _profile(wide[head], head, dashed=True)
        draw(axes, lines, x="horizontal offset, tokens", y="bias of the logit", title=name)
    return figure


def _profile(head: Tensor, colour: int, *, dashed: bool) -> Line:
    row = head[head.shape[0] // 2]
    reach = (len(row) - 1) // 2
    return Line(list(range(-reach, reach + 1)), row.tolist(), dashed=dashed, colour=colour)


def by_stage(own: SwinStages, wide: SwinStages) -> list[tuple[int, Sizes, Tensor, Tensor]]:
    """Number, trained window, and the last block's two tables, of every stage that was trained on several tokens."""
    found = []
    for stage, trained in enumerate(own.config.trained_window_size):
        if max(trained) > 1:
            found.append((stage + 1, trained, _last_bias(own, stage), _last_bias(wide, stage)))
    return found


def _last_bias(model: SwinStages, stage: int) -> Tensor:
    last = [module for module in model.stages[stage].modules() if isinstance(module, WindowAttention)][-1]
    table: Tensor = last.position_bias()
    return table.detach()
