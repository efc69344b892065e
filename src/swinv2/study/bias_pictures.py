"""Pictures of position biases: maps by offset, and their horizontal profile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from swinv2.config import Axes as Sizes
from swinv2.model.attention import WindowAttention
from swinv2.model.stages import SwinStages
from swinv2.study.charts import Line, draw, share_legend

MOST = 8
"""So many heads of a stage are shown."""

UNIT = "bias, added to the logit"

Carried = Mapping[str, tuple[SwinStages, SwinStages]]
"""A model's stages at its own window, and at a larger one, by the name of its bias."""


class Biases(NamedTuple):
    """The heads of a stage that are shown: their names, and ``[heads, 2h-1, 2w-1]`` at both windows."""

    stage: int
    trained: Sizes
    names: list[str]
    own: Tensor
    wide: Tensor


def maps(carried: Carried) -> Figure:
    """A row for each stage of each model, heads at the larger window, all of a row by one scale."""
    rows = [(name, stage) for name, pair in carried.items() for stage in by_stage(*pair)]
    columns = max(len(stage.names) for _, stage in rows)
    figure = Figure(figsize=(1.9 * columns + 1.8, 0.6 + 2.15 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, stage) in zip(axes, rows, strict=True):
        low, high = float(stage.wide.min()), float(stage.wide.max())
        height, width = stage.trained
        reach = [size / 2 for size in stage.wide.shape[1:]]
        for place, label, table in zip(row, stage.names, stage.wide, strict=False):
            extent = (-reach[1], reach[1], reach[0], -reach[0])
            image = place.imshow(table.numpy(), cmap="viridis", extent=extent, vmin=low, vmax=high)
            place.add_patch(
                Rectangle(
                    (0.5 - width, 0.5 - height),
                    2 * width - 1,
                    2 * height - 1,
                    fill=False,
                    edgecolor="white",
                    linestyle="--",
                    linewidth=1.2,
                )
            )
            place.set_title(label, size=9)
            place.set_xlabel("horizontal offset, tokens", size=8)
        for place in row[len(stage.names) :]:
            place.set_axis_off()
        figure.colorbar(image, ax=list(row), shrink=0.85, label=UNIT)
        row[0].set_ylabel(f"{name}, stage {stage.stage}\nvertical offset, tokens", size=9)
    return figure


def profiles(carried: Carried) -> Figure:
    """The last two heads that `maps` shows of the first stage along the horizontal axis, a panel for each model.

    Models are of the same blocks and heads, so that one legend names all panels' curves.
    """
    figure = Figure(figsize=(max(7.0, 4.2 * len(carried)), 4.2), layout="constrained")
    panels = figure.subplots(1, len(carried), squeeze=False)[0]
    for axes, (name, pair) in zip(panels, carried.items(), strict=True):
        shown = by_stage(*pair)[0]
        lines: dict[str, Line] = {}
        for colour, (label, own, wide) in enumerate(list(zip(shown.names, shown.own, shown.wide, strict=True))[-2:]):
            lines[f"{label}, its own window"] = _profile(own, colour, dashed=False)
            lines[f"{label}, twice the window"] = _profile(wide, colour, dashed=True)
        draw(axes, lines, x="horizontal offset, tokens", y=UNIT, title=f"{name}, stage {shown.stage}")
    share_legend(figure, panels, columns=4 if len(carried) > 2 else 2)
    return figure


def _profile(head: Tensor, colour: int, *, dashed: bool) -> Line:
    row = head[head.shape[0] // 2]
    reach = (len(row) - 1) // 2
    return Line(list(range(-reach, reach + 1)), row.tolist(), dashed=dashed, colour=colour)


def by_stage(own: SwinStages, wide: SwinStages) -> list[Biases]:
    """What is shown of every stage that was trained on several tokens."""
    found = []
    for stage, trained in enumerate(own.config.trained_window_size):
        if max(trained) > 1:
            shown = shown_heads(own.config.depths[stage], own.config.num_heads[stage])
            names = [head_name(*each) for each in shown]
            found.append(Biases(stage + 1, trained, names, *(_tables(model, stage, shown) for model in (own, wide))))
    return found


def shown_heads(blocks: int, heads: int) -> list[tuple[int, int]]:
    """Block and head, counted from 0: all of a stage where `MOST` suffice, else of its last block, spread evenly."""
    if blocks * heads <= MOST:
        return [(block, head) for block in range(blocks) for head in range(heads)]
    shown = min(heads, MOST)
    return [(blocks - 1, number * heads // shown) for number in range(shown)]


def head_name(block: int, head: int) -> str:
    """For people, who count from 1."""
    return f"block {block + 1}, head {head + 1}"


def _tables(model: SwinStages, stage: int, shown: list[tuple[int, int]]) -> Tensor:
    blocks = [module for module in model.stages[stage].modules() if isinstance(module, WindowAttention)]
    biases = {block: blocks[block].position_bias().detach() for block, _ in shown}
    return torch.stack([biases[block][head] for block, head in shown])
