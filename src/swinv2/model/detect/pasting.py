"""From masks that fill their boxes to pixels of an image of any size."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-6
"""Pixels; what is smaller covers the centre of none."""


class Pasted(NamedTuple):
    """A mask ``[h, w]`` of an image, and where its first pixel lies there; all is 0 around it."""

    mask: Tensor
    top: int
    left: int


def paste(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Pasted:
    """A mask, interpolated between the centres of its cells at the centres of an image's pixels, 0 beyond its box.

    As detectron2 and mmdetection do. torchvision rounds the box to whole pixels first, and makes a pixel more of it: of
    an object of 10 x 10 pixels, 12 x 12.

    Args:
        mask: probabilities ``[1, m, m]`` that fill the box.
        box: ``[4]`` in pixels of the image; best on the CPU, wherever the mask is.
        size: the image's height and width.
    """
    x1, y1, x2, y2 = box.tolist()
    (left, x), (top, y) = (_places(*ends, mask) for ends in ((x1, x2, size[1]), (y1, y2, size[0])))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    return Pasted(F.grid_sample(mask[None], grid[None], align_corners=False)[0, 0], top, left)


def _places(low: float, high: float, side: int, like: Tensor) -> tuple[int, Tensor]:
    """The first pixel of a box along an axis, and where its pixels lie in the box: its ends are -1 and 1."""
    start = max(math.floor(low), 0)
    end = max(min(math.ceil(high), side), start)
    pixels = torch.arange(start, end, dtype=torch.float64)
    return start, ((pixels + 0.5 - low) * (2 / max(high - low, TINY)) - 1).to(like)


def binary_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> Tensor:
    """Which pixels of an image belong to each detection, boolean ``[N, H, W]``, one after the other to save memory.

    Args:
        masks: ``[N, 1, 28, 28]``, of a detector that is called with ``paste=False``.
        boxes: ``[N, 4]`` in pixels of that image, which may be the original rather than the one the detector saw.
        size: its height and width.
        threshold: probability from which on a pixel belongs to an object.
    """
    result = torch.zeros(len(masks), *size, dtype=torch.bool, device=masks.device)
    for own, mask, box in zip(result, masks, boxes.cpu(), strict=True):
        part, top, left = paste(mask, box, size)
        own[top : top + part.shape[0], left : left + part.shape[1]] = part >= threshold
    return result
