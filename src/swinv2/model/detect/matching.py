"""Which object a box stands for, and which boxes a stage learns from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import box_iou

Target = Mapping[str, Tensor]

BACKGROUND, NEITHER = -1, -2
PAIRS = 2**22
"""Pairs of object and box that are compared at a time; each takes some 40 bytes."""


def match(
    objects: Tensor, boxes: Tensor, background: float, positive: float, *, keep_best: bool = False, pairs: int = PAIRS
) -> Tensor:
    """Index of the object that each box stands for, by overlap (torchvision's `Matcher`, in bounded memory).

    Args:
        objects: ``[N, 4]``, x1 y1 x2 y2 as all boxes here.
        boxes: ``[M, 4]``.
        background: a box that overlaps every object less is background (-1).
        positive: a box whose best overlap is at least this stands for that object; in between it is neither (-2).
        keep_best: an object's best boxes stand for something in any case: for what they overlap most.
        pairs: how many overlaps to hold at a time.

    Returns:
        int64 ``[M]``.
    """
    if not len(objects):
        return torch.full((len(boxes),), BACKGROUND, device=boxes.device)
    parts = boxes.split(max(1, pairs // len(objects)))
    best = torch.stack([box_iou(objects, part).amax(1) for part in parts]).amax(0) if keep_best else None
    found = []
    for part in parts:
        overlaps = box_iou(objects, part)
        value, index = overlaps.max(0)
        result = torch.where(value < positive, torch.where(value < background, BACKGROUND, NEITHER), index)
        if best is not None:
            # An object that no box overlaps has no best box; without this, all would be.
            is_best = (overlaps == best[:, None]) & (best[:, None] > 0)
            result = torch.where(is_best.any(0), index, result)
        found.append(result)
    return torch.cat(found)


@dataclass(frozen=True)
class Samples:
    """Boxes that a stage learns from: one tensor per image in each list, of as many entries as it has boxes."""

    boxes: list[Tensor]
    labels: list[Tensor]
    """Class of the object, 0 for background."""
    objects: list[Tensor]
    """Index of the object, -1 for background."""
    positive: list[Tensor]
    """Whether the box stands for an object."""
    given: list[Tensor]
    """Whether the box is an object's own rather than a proposal."""


@torch.no_grad()
def sample(
    proposals: Sequence[Tensor], targets: Sequence[Target], iou: float, sampler: BalancedPositiveNegativeSampler
) -> Samples:
    """Match proposals and the objects' own boxes to the objects, and draw those to learn from.

    Args:
        proposals: ``[M, 4]`` per image.
        targets: "boxes" ``[N, 4]`` and "labels" ``[N]`` per image; N may be 0.
        iou: overlap from which on a box stands for an object.
        sampler: draws a number of boxes per image, of which a share may be positive.
    """
    boxes = [torch.cat([known, target["boxes"]]) for known, target in zip(proposals, targets, strict=True)]
    objects = [match(target["boxes"], known, iou, iou) for known, target in zip(boxes, targets, strict=True)]
    labels = [_labels(index, target["labels"]) for index, target in zip(objects, targets, strict=True)]
    positives, negatives = sampler(labels)
    drawn = [torch.where(positive | negative)[0] for positive, negative in zip(positives, negatives, strict=True)]
    return Samples(
        [each[keep] for each, keep in zip(boxes, drawn, strict=True)],
        [each[keep] for each, keep in zip(labels, drawn, strict=True)],
        [each[keep] for each, keep in zip(objects, drawn, strict=True)],
        [each[keep] > 0 for each, keep in zip(positives, drawn, strict=True)],
        [keep >= len(known) for known, keep in zip(proposals, drawn, strict=True)],
    )


def _labels(objects: Tensor, classes: Tensor) -> Tensor:
    labels = torch.zeros_like(objects)
    found = objects >= 0
    labels[found] = classes[objects[found]]
    return labels
