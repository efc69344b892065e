"""Of detections that overlap, one is left (NMS), or all but one lose score (soft-NMS, arXiv 1704.04503)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou

from swinv2.model.detect.config import DetectorConfig

Decay = Callable[[Tensor], Tensor]


def suppress(boxes: Tensor, scores: Tensor, labels: Tensor, config: DetectorConfig) -> tuple[Tensor, Tensor]:
    """The best detections of an image, classes apart.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N]``.
        labels: ``[N]``.
        config: ``suppression`` and its numbers, ``score_threshold`` and ``detections_per_image``.

    Returns:
        their indices, best first, and their scores, which soft-NMS changes.
    """
    limit = config.detections_per_image
    if config.suppression == "nms":
        kept = batched_nms(boxes, scores, labels, config.suppression_iou)[:limit]
        return kept, scores[kept]
    decays: dict[str, Decay] = {
        "soft_nms_linear": lambda iou: torch.where(iou > config.suppression_iou, 1 - iou, 1.0),
        "soft_nms_gaussian": lambda iou: torch.exp(-iou.square() / config.soft_nms_sigma),
    }
    kept, changed = soft_nms(boxes, scores, labels, decays[config.suppression], limit)
    enough = changed > config.score_threshold
    return kept[enough], changed[enough]


def soft_nms(boxes: Tensor, scores: Tensor, labels: Tensor, decay: Decay, limit: int) -> tuple[Tensor, Tensor]:
    """Take the best of all that remain, lower the scores of what overlaps it in its class, and again.

    Classes do not touch each other and scores only fall, so the best of all classes come out in order: ``limit`` rounds
    of O(N) suffice, however many candidates there are.

    Args:
        boxes: ``[N, 4]``.
        scores: ``[N]``, not negative.
        labels: ``[N]``.
        decay: factor of a score by overlap with what was taken.
        limit: how many to take at most.

    Returns:
        indices and changed scores, best first. Once all scores are 0, what follows means nothing.
    """
    remaining, taken, final = scores.clone(), [scores.new_empty(0, dtype=torch.long)], [scores.new_empty(0)]
    for _ in range(min(limit, len(scores))):
        best = remaining.argmax(0, keepdim=True)
        taken.append(best)
        final.append(remaining[best])
        rivals = labels == labels[best]
        remaining = torch.where(rivals, remaining * decay(box_iou(boxes[best], boxes)[0]), remaining)
        remaining[best] = 0.0
    return torch.cat(taken), torch.cat(final)
