"""Pictures of an image with its objects, true or found."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from swinv2.data.rle import RLE, decode
from swinv2.tasks.detect.testing import Detections

LONG_SIDE = 1200
LARGEST_ZOOM = 4.0
"""Smaller images are drawn enlarged, so that names can be read, but not beyond recognition."""
OPACITY = 0.4
CROWDED = 30
"""More objects than this have smaller names."""
GOLDEN = 0.6180339887
"""Steps of this share of the colour circle keep neighbours apart, however many there are."""

Colour = tuple[int, int, int]
Pixels = npt.NDArray[np.uint8]


def draw_detections(
    image: Image.Image, detections: Detections, classes: Sequence[str], threshold: float = 0.5
) -> Image.Image:
    """A picture of boxes, masks, classes and scores, the likeliest on top, with a legend of colours below.

    Args:
        image: The original.
        detections: `boxes`, `labels` from 1 on, and perhaps `scores` and `rles`; true objects have no scores.
        classes: All class names.
        threshold: Lowest score that is drawn.
    """
    labels = detections["labels"].tolist()
    scores = detections["scores"].tolist() if "scores" in detections else [1.0] * len(labels)
    shown = sorted((n for n in range(len(labels)) if scores[n] >= threshold), key=scores.__getitem__)
    masks = [(detections["rles"][n], class_colour(labels[n])) for n in shown] if "rles" in detections else []
    picture = Image.fromarray(_shaded(np.array(image.convert("RGB")), masks))
    zoom = min(max(LONG_SIDE / max(image.size), 1.0), LARGEST_ZOOM)
    picture = picture.resize((max(round(image.width * zoom), 1), max(round(image.height * zoom), 1)))
    draw = ImageDraw.Draw(picture)
    font = _font(max(picture.size) / (90 if len(shown) > CROWDED else 60))
    boxes = (zoom * detections["boxes"]).tolist()
    for n in shown:
        draw.rectangle(boxes[n], outline=class_colour(labels[n]), width=max(round(font.size / 7), 1))
    for n in shown:  # above all boxes
        name = _printable(classes[labels[n] - 1]) + (f" {scores[n]:.2f}" if "scores" in detections else "")
        _draw_name(draw, boxes[n], name, class_colour(labels[n]), font)
    present = sorted({labels[n] for n in shown})
    return _with_legend(picture, [(_printable(classes[label - 1]), class_colour(label)) for label in present])


def class_colour(label: int) -> Colour:
    """The colour of a class, counted from 1: the same in all pictures."""
    red, green, blue = colorsys.hsv_to_rgb(label * GOLDEN % 1.0, 0.85, (1.0, 0.8)[label % 2])
    return round(255 * red), round(255 * green), round(255 * blue)


def _shaded(pixels: Pixels, masks: Iterable[tuple[RLE, Colour]]) -> Pixels:
    for rle, colour in masks:
        inside = decode(rle) > 0
        pixels[inside] = ((1 - OPACITY) * pixels[inside] + OPACITY * np.array(colour)).astype(np.uint8)
    return pixels


def _draw_name(
    draw: ImageDraw.ImageDraw, box: Sequence[float], name: str, colour: Colour, font: ImageFont.FreeTypeFont
) -> None:
    """A name above its box, or within where there is no room."""
    height, width = sum(font.getmetrics()), font.getlength(name) + font.size / 3
    left = max(min(box[0], draw.im.size[0] - width), 0)
    top = box[1] - height if box[1] >= height else box[1]
    draw.rectangle((left, top, left + width, top + height), fill=colour)
    draw.text((left + font.size / 6, top), name, fill=_ink(colour), font=font)


def _with_legend(picture: Image.Image, entries: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The picture above the names of classes on their colours, in as many lines as they take."""
    font = _font(max(picture.size) / 60)
    line, gap = round(1.6 * sum(font.getmetrics())), font.size / 2
    places, x, row = [], gap, 0
    for name, _ in entries:
        width = font.getlength(name) + 2 * gap
        if x > gap and x + width > picture.width - gap:
            x, row = gap, row + 1
        places.append((x, row, width))
        x += width + gap
    if not entries:
        return picture
    sheet = Image.new("RGB", (picture.width, picture.height + (row + 1) * line), "white")
    sheet.paste(picture)
    draw = ImageDraw.Draw(sheet)
    for (name, colour), (x, row, width) in zip(entries, places, strict=True):
        top = picture.height + row * line + 0.15 * line
        draw.rectangle((x, top, x + width, top + 0.7 * line), fill=colour)
        draw.text((x + gap, top + 0.35 * line), name, fill=_ink(colour), font=font, anchor="lm")
    return sheet


def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans"), max(size, 9))


def _ink(colour: Colour) -> str:
    """Black or white, whichever is read on that colour."""
    red, green, blue = colour
    return "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 130 else "white"


def _printable(name: str) -> str:
    """A name without the lone surrogates that JSON allows, which cannot be drawn."""
    return name.encode(errors="backslashreplace").decode()
