"""What happens to the objects of an image when some are chosen, or when it is resampled or cut.

Boxes are in pixels, the first of which reaches from 0 to 1. Functions return new targets and leave the old ones alone.
Masks are 8-bit and large: maxima, and counts and picks by NumPy, take a tenth of the time of sums and indices in torch.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from swinv2.data.sources.coco import Target

PER_OBJECT = ("boxes", "labels", "area", "iscrowd", "masks")
SMALLEST = 1.0
"""Pixels of a side below which a box is no object to learn from."""

Region = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of an image, in pixels."""


def select(target: Target, kept: Tensor) -> Target:
    """The objects that flags or indices [N] tell."""
    return target | {name: target[name][kept] for name in PER_OBJECT if name in target}


def boxes_of(masks: Tensor) -> Tensor:
    """The boxes [N, 4] that just hold the pixels of masks [N, H, W]; without area for an empty mask."""
    left, right = _span(masks.amax(1) != 0)
    top, bottom = _span(masks.amax(2) != 0)
    return torch.stack([left, top, right, bottom], dim=1).float()


def areas_of(masks: Tensor) -> Tensor:
    """Pixels [N] of masks [N, H, W]."""
    return torch.tensor([np.count_nonzero(mask) for mask in masks.numpy()], dtype=torch.float32)


def _span(touched: Tensor) -> tuple[Tensor, Tensor]:
    """The first of flags [N, L] that is set, and the one after the last; the same where none is."""
    flags = touched.to(torch.uint8)
    first = flags.argmax(1)
    end = flags.shape[1] - flags.flip(1).argmax(1)
    return first, torch.where(touched.any(1), end, first)


def resample(
    image: Image.Image, target: Target, region: Region, size: tuple[int, int], interpolation: str
) -> tuple[Image.Image, Target]:
    """A region of an image at a height and width, and the objects in its pixels; what lies outside is not cut yet.

    Masks and the semantic map are taken at the nearest pixel.
    """
    (left, top, right, bottom), (height, width) = region, size
    x, y = width / (right - left), height / (bottom - top)
    resized = image.resize((width, height), Image.Resampling[interpolation.upper()], region)
    moved = target | {
        "boxes": (target["boxes"] - torch.tensor([left, top, left, top])) * torch.tensor([x, y, x, y]),
        "area": target["area"] * (x * y),
    }
    rows, columns = _nearest(top, y, height, image.height), _nearest(left, x, width, image.width)
    for name in ("masks", "semantic"):
        if name in target:
            moved[name] = torch.from_numpy(target[name].numpy().take(rows, axis=-2).take(columns, axis=-1))
    return resized, moved


def _nearest(start: float, scale: float, length: int, most: int) -> npt.NDArray[np.int64]:
    """Pixels of the source whose centres are nearest to those of the result."""
    centres = (np.arange(length) + 0.5) / scale + start
    return centres.astype(np.int64).clip(0, most - 1)


def cut(target: Target, height: int, width: int) -> Target:
    """The objects within an image of that size: boxes around what is left of their masks, or cut where there are none.

    Args:
        target: Objects, the masks of which are [N, height, width] already.
        height: Of the image.
        width: Of the image.
    """
    if "masks" in target:
        masks = target["masks"]
        return target | {"boxes": boxes_of(masks), "area": areas_of(masks)}
    before = target["boxes"]
    boxes = before.clamp(min=0).minimum(torch.tensor([width, height, width, height]).to(before))
    share = sides(boxes).prod(1) / sides(before).prod(1)
    return target | {"boxes": boxes, "area": target["area"] * share}


def sides(boxes: Tensor) -> Tensor:
    """Width and height [N, 2] of boxes [N, 4], not below 0."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)


def visible(target: Target) -> Target:
    """The objects of which enough is left to learn from."""
    kept = (sides(target["boxes"]) >= SMALLEST).all(1)
    if "masks" in target:
        kept &= areas_of(target["masks"]) > 0
    return target if kept.all() else select(target, kept)
