"""Losses of boxes, masks and semantics; zero, gradients and all, where there is nothing to learn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import roi_align

from swinv2.model.detect.config import IGNORED
from swinv2.model.detect.matching import Samples, Target
from swinv2.precision import at_least_fp32

PIXELS = 2**24
"""Pixels of objects' masks that are widened to fp32 at a time."""


def box_losses(
    logits: Tensor, deltas: Tensor, samples: Samples, targets: Sequence[Target], coder: BoxCoder, beta: float
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the classes, and smooth L1 of the deltas of boxes that stand for objects, per sampled box.

    Args:
        logits: ``[N, classes + 1]``.
        deltas: ``[N, 4 R]``, see `BoxHead`.
        samples: the boxes, N over all images.
        targets: "boxes" of each image.
        coder: makes deltas of boxes.
        beta: where the smooth L1 loss turns linear.
    """
    labels = torch.cat(samples.labels)
    count = max(len(labels), 1)
    wanted = torch.cat(
        [
            coder.encode_single(target["boxes"][objects[positive]], boxes[positive])
            for target, objects, boxes, positive in zip(
                targets, samples.objects, samples.boxes, samples.positive, strict=True
            )
        ]
    )
    positive = torch.where(torch.cat(samples.positive))[0]
    per_box = deltas.shape[1] // 4
    column = labels[positive] if per_box > 1 else torch.zeros_like(positive)
    moved = deltas.reshape(len(deltas), per_box, 4)[positive, column]
    box_loss = F.smooth_l1_loss(moved, wanted, beta=beta, reduction="sum")
    return F.cross_entropy(logits, labels, reduction="sum") / count, box_loss / count


def mask_loss(logits: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Mean binary cross-entropy over the pixels of the masks of the objects' own classes.

    Args:
        logits: ``[N, classes + 1, s, s]``.
        labels: ``[N]``; N may be 0.
        wanted: ``[N, s, s]``, see `mask_targets`.
    """
    own = logits[torch.arange(len(labels), device=labels.device), labels].to(wanted.dtype)
    return F.binary_cross_entropy_with_logits(own, wanted, reduction="sum") / max(wanted.numel(), 1)


@torch.no_grad()
def mask_targets(masks: Tensor, boxes: Tensor, objects: Tensor, size: int, pixels: int = PIXELS) -> Tensor:
    """The part of its object's mask under each box, ``[M, size, size]`` from 0 to 1, by RoIAlign.

    Args:
        masks: ``[N, H, W]``, 0 and 1 in any dtype, on any device.
        boxes: ``[M, 4]``.
        objects: ``[M]``, which mask.
        size: cells on a side.
        pixels: how many pixels to widen to the boxes' dtype at a time: thousands of masks would not fit at once.
    """
    step = max(1, pixels // max(masks[:1].numel(), 1))
    numbers = torch.arange(step, device=boxes.device, dtype=boxes.dtype)
    parts = [boxes.new_empty(0, size, size)]
    for part, index in zip(boxes.split(step), objects.split(step), strict=True):
        rois = torch.cat([numbers[: len(part), None], part], dim=1)
        own = masks[index.to(masks.device)][:, None].to(boxes)
        parts.append(roi_align(own, rois, size)[:, 0])
    return torch.cat(parts)


def semantic_loss(logits: Tensor, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Mean cross-entropy over the pixels that are not ignored (255), each cell's being that at its centre.

    Args:
        logits: ``[B, classes, h, w]``.
        maps: ``[H, W]`` of each image, whole numbers.
        size: height and width of the padded batch.
    """
    height, width = size
    padded = [F.pad(x, (0, width - x.shape[1], 0, height - x.shape[0]), value=IGNORED) for x in maps]
    wanted = F.interpolate(torch.stack(padded)[:, None].float(), logits.shape[-2:], mode="nearest-exact")[:, 0].long()
    count = (wanted != IGNORED).sum().clamp(min=1)
    wide = logits.to(at_least_fp32(logits.dtype))
    return F.cross_entropy(wide, wanted, ignore_index=IGNORED, reduction="sum") / count
