"""Label maps as files with a palette, and as colours over their image with a legend."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from swinv2.files import written_aside

Colour = tuple[int, int, int]
Labels = Tensor | npt.NDArray[np.integer]

XYZ = np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8729]])
"""From linear sRGB to CIE XYZ, each in units of the white point."""

TEXT = 14
ROW = 20
MARGIN = 8
INK, PAPER = (20, 20, 20), (255, 255, 255)


@cache
def palette(classes: int) -> tuple[Colour, ...]:
    """A colour for each class: each the one that differs most, to the eye (CIELAB), from all before it.

    Not grey, nor nearly black or white, which photos have much of. Beyond some 1,000 classes colours repeat.
    """
    levels = np.linspace(0, 255, 12).round()
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    seen = _cielab(colours)
    vivid = (np.hypot(seen[:, 1], seen[:, 2]) > 25) & (seen[:, 0] > 25) & (seen[:, 0] < 92)
    colours, seen = colours[vivid], seen[vivid]
    apart = np.full(len(colours), np.inf)
    chosen = []
    for _ in range(classes):
        best = int(apart.argmax())
        chosen.append((int(colours[best, 0]), int(colours[best, 1]), int(colours[best, 2])))
        apart = np.minimum(apart, np.linalg.norm(seen - seen[best], axis=1))
    return tuple(chosen)


def _cielab(colours: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Colours ``[..., 3]`` of 0 to 255 (sRGB) in CIELAB (D65), where distances are differences to the eye."""
    share = colours / 255
    linear = np.where(share > 0.04045, ((share + 0.055) / 1.055) ** 2.4, share / 12.92)
    x, y, z = np.moveaxis(linear @ XYZ.T, -1, 0)
    x, y, z = (np.where(v > 0.008856, np.cbrt(v), 7.787 * v + 16 / 116) for v in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def save_label_map(
    labels: Labels, path: str | os.PathLike[str], colours: Sequence[Colour], *, reduce_zero_label: bool = False
) -> None:
    """Write a PNG whose pixels are the indices, in the classes' colours; in 16 bits without colours beyond 255.

    Args:
        labels: ``[H, W]``.
        path: An existing file is replaced whole.
        colours: One a class.
        reduce_zero_label: Write the values of a dataset whose first class is 1.
    """
    values = _numbers(labels) + int(reduce_zero_label)
    if len(colours) + reduce_zero_label > 256 or values.max(initial=0) > 255:
        image = Image.fromarray(values.astype(np.uint16))
    else:
        image = Image.fromarray(values.astype(np.uint8)).convert("P")
        levels = [level for colour in [*([(0, 0, 0)] * reduce_zero_label), *colours] for level in colour]
        image.putpalette(levels + [0] * (768 - len(levels)))  # with fewer colours, Pillow stores fewer bits of a value
    with written_aside(path) as draft:
        image.save(draft, format="png")


def overlay(image: Image.Image, labels: Labels, colours: Sequence[Colour], opacity: float = 0.6) -> Image.Image:
    """An image under the colours of its labels ``[H, W]``; pixels of no class, as ignored ones, stay as they are."""
    values, pixels = _numbers(labels), np.asarray(image.convert("RGB"), dtype=np.float32)
    if values.shape != pixels.shape[:2]:
        raise ValueError(
            f"labels of {values.shape[1]}x{values.shape[0]} pixels do not lie on an image of {image.width}x"
            f"{image.height}: predict them at the image's size."
        )
    known = (values >= 0) & (values < len(colours))
    table = np.array(colours, dtype=np.float32)
    mixed = (1 - opacity) * pixels + opacity * table[np.where(known, values, 0)]
    return Image.fromarray(np.where(known[..., None], mixed, pixels).round().astype(np.uint8))


def picture(
    image: Image.Image, maps: Mapping[str, Labels], classes: Sequence[str], *, opacity: float = 0.6
) -> Image.Image:
    """The image, its overlay with each label map ``[H, W]`` under its title, and a legend of the classes that appear.

    Args:
        image: What was segmented.
        maps: Such as {"label map": ..., "prediction": ...}.
        classes: Names; the legend lists those in the maps, the largest first, with their share of the last map.
        opacity: Of the colours.
    """
    colours = palette(len(classes))
    panels = {"image": image.convert("RGB")}
    panels |= {title: overlay(image, labels, colours, opacity) for title, labels in maps.items()}
    counts = [np.bincount(_numbers(labels).ravel(), minlength=len(classes))[: len(classes)] for labels in maps.values()]
    column = legend(classes, colours, counts, image.height + ROW)
    width = len(panels) * (image.width + MARGIN) + column.width
    sheet = Image.new("RGB", (width, max(image.height + ROW, column.height)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for number, (title, panel) in enumerate(panels.items()):
        left = number * (image.width + MARGIN)
        draw.text((left + 2, 1), title, fill=INK, font=font)
        sheet.paste(panel, (left, ROW))
    sheet.paste(column, (width - column.width, 0))
    return sheet


def legend(
    classes: Sequence[str], colours: Sequence[Colour], counts: Sequence[npt.NDArray[np.integer]], height: int
) -> Image.Image:
    """Colour, name and share of the classes that appear, as many as fit the height; at least one.

    Args:
        classes: Names.
        colours: One a class.
        counts: Pixels of each class, per label map; shares are those in the last.
        height: Pixels; the result may be of more where that is less than two rows.
    """
    last, total = counts[-1], np.sum(counts, axis=0)
    order = [int(i) for i in np.argsort(-total, kind="stable") if total[i]]
    room = max(height // ROW, 2)
    shown = order if len(order) <= room else order[: room - 1]
    lines = [f"{classes[i]}  {100 * last[i] / max(last.sum(), 1):.1f}%" for i in shown]
    if len(shown) < len(order):
        lines.append(f"and {len(order) - len(shown)} more")
    font = ImageFont.load_default(TEXT)
    widest = max((int(font.getlength(line)) for line in lines), default=0)
    column = Image.new("RGB", (ROW + widest + 2 * MARGIN, room * ROW), PAPER)
    draw = ImageDraw.Draw(column)
    for number, line in enumerate(lines):
        top = number * ROW
        if number < len(shown):
            draw.rectangle((2, top + 3, ROW - 4, top + ROW - 3), fill=colours[shown[number]], outline=INK)
        draw.text((ROW + 2, top + 1), line, fill=INK, font=font)
    return column


def _numbers(labels: Labels) -> npt.NDArray[np.int64]:
    return (labels.cpu().numpy() if isinstance(labels, Tensor) else labels).astype(np.int64)
