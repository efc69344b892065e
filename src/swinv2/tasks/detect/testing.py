"""Looking at images with a detector: at one size or several, mirrored, whole or in tiles.

A detector takes normalised images [C, H, W] of any sizes and gives, for each, `boxes` [N, 4] (left, top, right, bottom,
in pixels of that image and within it), `labels` [N] from 1 on, `scores` [N] and perhaps `masks` [N, 1, m, m],
probabilities that fill the boxes, which stay so small until it is known which detections are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor

from swinv2.data.detection import DetectionBatch
from swinv2.data.detection_options import DetectionTestOptions
from swinv2.data.detection_transforms import fitted
from swinv2.data.rle import RLE, encode
from swinv2.data.transforms import Normalise
from swinv2.model.detect.pasting import paste
from swinv2.preprocessing import Preprocessing

Detector = Callable[[list[Tensor]], list[dict[str, Tensor]]]

Detections = dict[str, Any]
"""What was found in an image, in its own pixels: `boxes`, `labels` and `scores` (float32 and int64, on the CPU), and,
from a detector that gives masks, `masks`, and in the end `rles`, their codes."""

Suppress = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""From boxes, scores and labels to the indices of those that are kept, and their scores, lowered by soft-NMS."""

MASK_THRESHOLD = 0.5
CUT = 0.01
"""Share of a tile's side within which a box counts as cut by its edge."""


class View(NamedTuple):
    """One look at an image: its short side, which the long one may lower, mirrored or not, and the sizes kept from it.

    Sizes are square roots of boxes' areas in pixels of the image.
    """

    short: int
    long: int
    flip: bool = False
    smallest: float = 0.0
    largest: float = math.inf


class Frame(NamedTuple):
    """Where a part of an image lies in it, in pixels."""

    top: int
    left: int
    height: int
    width: int


def views(options: DetectionTestOptions, preprocessing: Preprocessing) -> list[View]:
    """The looks that the options ask for; the model's own size where they give none."""
    short, long = sorted(preprocessing.size)
    sizes = [(side, options.long_side) for side in options.short_sides] or [(short, long)]
    ranges = options.ranges or ((0.0, math.inf),) * len(sizes)
    flips = (False, True) if options.flip else (False,)
    return [View(*size, flip, *kept) for size, kept in zip(sizes, ranges, strict=True) for flip in flips]


def originals(predictions: Sequence[dict[str, Tensor]], batch: DetectionBatch) -> list[Detections]:
    """What a detector found in a batch, in pixels of the original images."""
    return [
        coded(to_original(found, (image.shape[1], image.shape[2]), Frame(0, 0, *target["size"])), target["size"])
        for found, image, target in zip(predictions, batch.images, batch.targets, strict=True)
    ]


def to_original(found: dict[str, Tensor], size: tuple[int, int], frame: Frame) -> Detections:
    """Detections in an input of a height and width, brought back to the image; masks fill their boxes as before.

    Args:
        found: What the detector gave.
        size: Height and width of its input.
        frame: The part of the image that was the input.
    """
    scale = torch.tensor([frame.width / size[1], frame.height / size[0]]).repeat(2)
    edges = torch.tensor([frame.width, frame.height], dtype=torch.float32).repeat(2)
    inside = torch.minimum((found["boxes"].detach().float().cpu() * scale).clamp(min=0), edges)
    return {
        "boxes": inside + torch.tensor([frame.left, frame.top]).repeat(2),
        "labels": found["labels"].detach().cpu(),
        **{name: found[name].detach().float().cpu() for name in ("scores", "masks") if name in found},
    }


def coded(detections: Detections, size: tuple[int, int]) -> Detections:
    """Detections whose masks, if they have any, are pasted into the image, of a height and width, and coded.

    Each is interpolated once, and only where its box is.
    """
    if "masks" not in detections:
        return detections
    rles = [_rle(*paste(*each, size), size) for each in zip(detections["masks"], detections["boxes"], strict=True)]
    return {name: x for name, x in detections.items() if name != "masks"} | {"rles": rles}


def _rle(part: Tensor, top: int, left: int, size: tuple[int, int]) -> RLE:
    return encode((part >= MASK_THRESHOLD).numpy(), top, left, size)


@torch.inference_mode()
def detect(
    detector: Detector,
    image: Image.Image,
    options: DetectionTestOptions,
    preprocessing: Preprocessing,
    suppress: Suppress,
    device: torch.device | str = "cpu",
) -> Detections:
    """What a detector finds in an image, the likeliest first.

    A tiled image is looked at whole too. What an inner edge of a tile cuts is left out: the neighbour shows all of it,
    or it is so large that the whole image is the better view. Of masks that several looks give, that of the box which
    is kept stands.

    Args:
        detector: In evaluation mode, on the device.
        image: In the model's channels.
        options: How to look at it.
        preprocessing: The model's size, mean, std and interpolation.
        suppress: Drops, or weakens, what several looks found of the same object.
        device: Where the detector is.
    """
    whole = image.height, image.width
    parts = []
    for frame in [Frame(0, 0, *whole), *tiles(*whole, options.tile, options.overlap)]:
        part = image.crop((frame.left, frame.top, frame.left + frame.width, frame.top + frame.height))
        for view in views(options, preprocessing):
            detections = to_original(*_look(detector, part, view, preprocessing, device), frame)
            parts.append(_chosen(detections, _in_range(detections, view) & _uncut(detections, frame, whole)))
    return coded(merge(parts, suppress, options.max_detections), whole)


def _look(
    detector: Detector, image: Image.Image, view: View, preprocessing: Preprocessing, device: torch.device | str
) -> tuple[dict[str, Tensor], tuple[int, int]]:
    """What is found in one look, as if it were not mirrored, and the input's height and width."""
    height, width = fitted(image.height, image.width, view.short, view.long)
    resized = image.resize((width, height), Image.Resampling[preprocessing.interpolation.upper()])
    if view.flip:
        resized = ImageOps.mirror(resized)
    pixels = Normalise(preprocessing.mean, preprocessing.std)(resized)
    (found,) = detector([pixels.to(device)])
    return (_unmirrored(found, width) if view.flip else found), (height, width)


def _unmirrored(found: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    left, top, right, bottom = found["boxes"].unbind(1)
    masks = {"masks": found["masks"].flip(-1)} if "masks" in found else {}
    return found | {"boxes": torch.stack([width - right, top, width - left, bottom], dim=1)} | masks


def _in_range(detections: Detections, view: View) -> Tensor:
    """Which boxes have a size that this look is for."""
    boxes = detections["boxes"]
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    return (sizes >= view.smallest) & (sizes < view.largest)


def _uncut(detections: Detections, frame: Frame, whole: tuple[int, int]) -> Tensor:
    """Which boxes do not end at an edge of the frame that is not the image's."""
    left, top, right, bottom = detections["boxes"].unbind(1)
    x, y = CUT * frame.width, CUT * frame.height
    cut = (left < frame.left + x) & (frame.left > 0)
    cut |= (top < frame.top + y) & (frame.top > 0)
    cut |= (right > frame.left + frame.width - x) & (frame.left + frame.width < whole[1])
    cut |= (bottom > frame.top + frame.height - y) & (frame.top + frame.height < whole[0])
    return ~cut


def tiles(height: int, width: int, side: int, overlap: float) -> list[Frame]:
    """Squares of a side that cover an image and overlap by that share or more; none for an image that is no larger."""
    if not side or max(height, width) <= side:
        return []
    rows, columns = (_starts(length, side, overlap) for length in (height, width))
    return [Frame(top, left, min(side, height), min(side, width)) for top in rows for left in columns]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles along an axis begin: the first at the start, the last such that it ends with the image."""
    rest = max(length - side, 0)
    gaps = math.ceil(rest / max(side * (1 - overlap), 1))
    return [round(rest * place / gaps) for place in range(gaps + 1)] if gaps else [0]


def merge(parts: Sequence[Detections], suppress: Suppress, most: int | None = None) -> Detections:
    """The likeliest detections of several looks at one image, all by default, doubles suppressed; one look has none."""
    together: Detections = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if len(parts) > 1:
        kept, scores = suppress(together["boxes"], together["scores"], together["labels"])
        together = _chosen(together, kept) | {"scores": scores}
    return _chosen(together, together["scores"].argsort(descending=True, stable=True)[:most])


def _chosen(detections: Detections, kept: Tensor) -> Detections:
    """The detections that flags or indices [N] tell."""
    return {name: x[kept] for name, x in detections.items()}


def coco_results(detections: Detections, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Detections of an image as entries of COCO's results format, with the category ids of the data set."""
    boxes = detections["boxes"].double()
    entries: list[dict[str, Any]] = [
        {"image_id": image_id, "category_id": category_ids[label - 1], "bbox": box, "score": score}
        for box, label, score in zip(
            torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist(),
            detections["labels"].tolist(),
            detections["scores"].tolist(),
            strict=True,
        )
    ]
    for entry, rle in zip(entries, detections.get("rles", ()), strict=False):
        entry["segmentation"] = rle
    return entries
