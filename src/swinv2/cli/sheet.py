"""A picture of images and what the model sees in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from PIL import Image

from swinv2.train.plots import printable

if TYPE_CHECKING:
    from swinv2.tasks.inference import Ranking

MOST = 60
"""More images are too small to see."""
COLUMNS = 6
PIXELS = 300
"""Longest side of an image on the sheet."""
CLASSES = 3


def sheet(images: Sequence[tuple[Image.Image, Ranking]]) -> Figure:
    """Each image above its likeliest classes."""
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2 * columns, 2.5 * rows), layout="constrained")
    for place, (image, ranking) in enumerate(images, start=1):
        axes = figure.add_subplot(rows, columns, place, xticks=[], yticks=[])
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        text = "\n".join(f"{printable(label)} {p:.1%}" for label, p in ranking[:CLASSES])
        axes.set_xlabel(text, size=8, parse_math=False)
    return figure
