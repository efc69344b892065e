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
from swinv2.study.findings import Picture
from swinv2.study.subject import input_of, load, picture, preprocessing

HEADS = 4


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
    """A row for each stage, of its last block; its first heads, and their mean."""
    last = {each.stage: each for each in looked if prod(each.grid) > 1 or each.stage == 0}
    figure = Figure(figsize=(2.0 * (HEADS + 1) + 0.8, 0.7 + 2.0 * len(last)), layout="constrained")
    axes = figure.subplots(len(last), HEADS + 1, squeeze=False)
    for row, (stage, each) in zip(axes, last.items(), strict=True):
        centre = tuple(size // 2 for size in each.grid)
        seen = each.of_query(centre[0] * each.grid[1] + centre[1])
        for head, place in enumerate(row[:HEADS]):
            if head < len(seen):
                _overlay(place, image, seen[head], centre)
                place.set_title(f"head {head + 1} of {len(seen)}", size=9)
            else:
                place.set_axis_off()
        _overlay(row[HEADS], image, seen.mean(0), centre)
        row[HEADS].set_title("mean of heads", size=9)
        row[0].set_ylabel(f"stage {stage + 1}, {' x '.join(map(str, each.grid))} tokens", size=9)
    figure.suptitle("Attention of the query at the cross; the brighter, the more", size=11)
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
