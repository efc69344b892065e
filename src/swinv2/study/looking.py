"""Pictures of where a model's attention looks in an image."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from swinv2.config import Axes as Sizes
from swinv2.study.attention_maps import Looked, look, rollout
from swinv2.study.base import Setting, Subject
from swinv2.study.bias_pictures import head_name, shown_heads
from swinv2.study.findings import Picture
from swinv2.study.subject import input_of, load, picture, preprocessing


def attention_pictures(setting: Setting, subject: Subject) -> list[Picture]:
    """Of some weights: what the query at the image's centre sees, head by head, and the rollout of the whole model."""
    body = load(subject).body
    image, name = picture(setting)
    x, shown = input_of(image, preprocessing(body, subject.image_size))
    looked = look(body, x)
    share = rollout(looked, body.config.merge_size)
    return [
        Picture(
            "attention",
            f"Attention of the query at the centre (cross) within its window, by stage and head, over {name}.",
            draw_heads(shown, looked),
        ),
        Picture(
            "rollout",
            f"Rollout of attention over {name}: what the last map's mean is made of.",
            draw_rollout(shown, share),
        ),
    ]


def draw_heads(image: Image.Image, looked: Sequence[Looked]) -> Figure:
    """A row for each stage: heads as `shown_heads` takes them, and the mean of its last block's."""
    stages: dict[int, list[Looked]] = {}
    for each in looked:
        if prod(each.grid) > 1 or each.stage == 0:
            stages.setdefault(each.stage, []).append(each)
    shown = {stage: shown_heads(len(own), own[0].probabilities.shape[1]) for stage, own in stages.items()}
    columns = max(map(len, shown.values())) + 1
    figure = Figure(figsize=(2.0 * columns + 0.8, 0.7 + 2.0 * len(stages)), layout="constrained")
    axes = figure.subplots(len(stages), columns, squeeze=False)
    for row, (stage, own) in zip(axes, stages.items(), strict=True):
        grid = own[0].grid
        centre = tuple(size // 2 for size in grid)
        seen = [each.of_query(centre[0] * grid[1] + centre[1]) for each in own]
        for place, (block, head) in zip(row, shown[stage], strict=False):
            _overlay(place, image, seen[block][head], centre)
            place.set_title(head_name(block, head), size=9)
        for place in row[len(shown[stage]) : -1]:
            place.set_axis_off()
        _overlay(row[-1], image, seen[-1].mean(0), centre)
        row[-1].set_title(f"block {len(own)}, mean of heads", size=9)
        row[0].set_ylabel(f"stage {stage + 1}, {' x '.join(map(str, grid))} tokens", size=9)
    figure.suptitle("Attention of the query at the cross; the brighter, the more, each by its own maximum", size=11)
    return figure


def draw_rollout(image: Image.Image, share: Tensor) -> Figure:
    """The image, and the share of each token of the first stage in the mean of the last map."""
    figure = Figure(figsize=(8.0, 3.9), layout="constrained")
    plain, heat = figure.subplots(1, 2)
    plain.imshow(image, cmap="gray")
    plain.set_title("image", size=10)
    ratio = (share * share.numel()).numpy()
    shown = heat.imshow(ratio, cmap="magma", extent=(0, image.width, image.height, 0), interpolation="nearest")
    figure.colorbar(shown, ax=heat, label="share over that of equal tokens")
    heat.set_title("rollout", size=10)
    for axes in (plain, heat):
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _overlay(axes: Axes, image: Image.Image, seen: Tensor, centre: Sizes) -> None:
    """The image in gray, what is seen in colour, and a cross at the query."""
    height, width = seen.shape
    extent = (0, width, height, 0)
    axes.imshow(image.convert("L"), cmap="gray", vmin=0, vmax=255, extent=extent)
    strength = (seen / seen.max().clamp_min(1e-12)).numpy()
    opacity = np.where(strength > 0, 0.35 + 0.6 * strength, 0.0)
    axes.imshow(strength, cmap="inferno", vmin=0, vmax=1, alpha=opacity, extent=extent)
    axes.plot(centre[1] + 0.5, centre[0] + 0.5, marker="+", color="cyan", markersize=9, markeredgewidth=1.6)
    axes.set_xticks([])
    axes.set_yticks([])
