"""Cross entropy of pixels, with class weights and online hard example mining as mmsegmentation defines them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from swinv2.tasks.segment.options import LossOptions


class SegmentationLoss(nn.Module):
    """Logits ``[B, C, H, W]`` and labels ``[B, H, W]`` to a loss; 0, with zero gradients, where no pixel is labelled.

    It is ``sum(kept * weight[label] * cross_entropy) / sum(weight[label])`` over the labelled pixels, all of which are
    kept without OHEM; ``average`` "all" divides by the number of all pixels instead.

    Args:
        classes: How many the logits tell apart.
        ignore_index: Label of the pixels that are not labelled.
        options: Weights, OHEM and average; by default plain.

    Raises:
        ValueError: there is not one weight a class.
    """

    weight: Tensor | None

    def __init__(self, classes: int, ignore_index: int = 255, options: LossOptions | None = None) -> None:
        super().__init__()
        self.options = options = options or LossOptions()
        self.ignore_index = ignore_index
        weights = options.class_weights
        if weights is not None and len(weights) != classes:
            raise ValueError(f"{len(weights)} class_weights were given for {classes} classes: give one a class.")
        self.register_buffer("weight", None if weights is None else torch.tensor(weights), persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, in fp32."""
        logits, options = logits.float(), self.options
        labelled = labels != self.ignore_index
        losses = F.cross_entropy(logits, labels, self.weight, ignore_index=self.ignore_index, reduction="none")
        if options.ohem:
            losses = losses * self._hard(logits.detach(), labels, losses.detach(), labelled)
        if options.average == "all":
            return losses.mean()
        weights = labelled if self.weight is None else self.weight[labels.where(labelled, 0)] * labelled
        return losses.sum() / weights.sum().float().clamp(min=torch.finfo(torch.float32).tiny)

    def _hard(self, logits: Tensor, labels: Tensor, losses: Tensor, labelled: Tensor) -> Tensor:
        """Which pixels count."""
        kept = self.options.ohem_min_kept * len(labels)
        if self.options.ohem_threshold is None:
            return hardest(losses, labelled, kept)
        probabilities = logits.softmax(1).gather(1, labels.where(labelled, 0)[:, None])[:, 0]
        return unsure(probabilities, labelled, kept, self.options.ohem_threshold)


def unsure(probabilities: Tensor, labelled: Tensor, kept: int, threshold: float) -> Tensor:
    """Labelled pixels below the threshold, or below the one of rank ``kept`` (from 0) where that is higher.

    Where fewer than ``kept`` are labelled, the surest of them is left out, as in mmsegmentation.
    """
    ranked = probabilities[labelled].sort().values
    if len(ranked):
        threshold = max(threshold, float(ranked[min(kept, len(ranked) - 1)]))
    return labelled & (probabilities < threshold)


def hardest(losses: Tensor, labelled: Tensor, kept: int) -> Tensor:
    """The ``kept`` labelled pixels of highest loss, or all of them."""
    places = labelled.flatten().nonzero()[:, 0]
    best = losses.flatten()[places].topk(min(kept, len(places))).indices
    mask = torch.zeros_like(labelled).flatten()
    mask[places[best]] = True
    return mask.view_as(labelled)
