"""What a segmentation is judged by: IoU and accuracy of each class, from one confusion matrix of all pixels.

Conventions, mmsegmentation's: a class that is neither in a label map nor predicted has no IoU, and one that is in no
label map has no accuracy; what a class has not is NaN, and left out of the mean over classes. A class that is predicted
but never there has IoU 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, SumMetric
from torchmetrics.classification import MulticlassConfusionMatrix


class ClassScore(NamedTuple):
    """How well one class is found; shares from 0 to 1, or NaN."""

    name: str
    iou: float  # pixels in both, of those in the label maps or predicted
    accuracy: float  # pixels in both, of those in the label maps
    pixels: int  # in the label maps


class SegmentationMetrics(nn.Module):
    """Counts of any number of batches, over all processes; ignored pixels take no part.

    Args:
        classes: Their names.
        ignore_index: Label of the pixels that are not labelled.
    """

    def __init__(self, classes: Sequence[str], ignore_index: int = 255) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.ignore_index = ignore_index
        self.loss = MeanMetric(nan_strategy="disable")
        self.count = SumMetric(nan_strategy="disable")
        columns = max(2, len(self.classes))  # torchmetrics knows no single class
        self.confusion = MulticlassConfusionMatrix(columns, ignore_index=ignore_index, validate_args=False)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count logits ``[B, C, H, W]`` (or logarithms of probabilities) against labels ``[B, H, W]``; B may be 0."""
        if not len(labels):
            self._count(labels, labels, losses=torch.empty(0))
            return
        losses = F.cross_entropy(logits.float(), labels, ignore_index=self.ignore_index, reduction="none")
        self._count(logits.argmax(1), labels, losses[labels != self.ignore_index])

    def count_maps(self, predicted: Tensor, labels: Tensor) -> None:
        """Count label maps ``[B, H, W]``, which have no loss, against labels ``[B, H, W]``."""
        self._count(predicted, labels, losses=torch.empty(0))

    def _count(self, predicted: Tensor, labels: Tensor, losses: Tensor) -> None:
        """Update all, if by nothing: every process takes part in all their sums."""
        self.count.update(len(labels))
        self.loss.update(losses)
        self.confusion.update(predicted, labels)

    def images(self) -> int:
        """How many images were counted so far."""
        return int(self.count.compute())

    def scalars(self) -> dict[str, float]:
        """Loss per pixel (NaN where only maps were counted), mean IoU, mean accuracy, and share of right pixels."""
        return {"loss": float(self.loss.compute()), **means(self.matrix())}

    def per_class(self) -> list[ClassScore]:
        """Figures of each class."""
        matrix = self.matrix()
        columns = (*(x.tolist() for x in scores(matrix)), matrix.sum(1).tolist())
        return [ClassScore(*row) for row in zip(self.classes, *columns, strict=True)]

    def matrix(self) -> Tensor:
        """Pixels ``[true class, predicted class]`` so far."""
        counts: Tensor = self.confusion.compute()
        return counts.cpu()[: len(self.classes), : len(self.classes)]

    def reset(self) -> None:
        """Forget all batches."""
        for metric in (self.loss, self.count, self.confusion):
            metric.reset()


def scores(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and accuracy of each class, fp64 ``[C]`` with NaN, from pixels ``[true class, predicted class]``."""
    matrix = matrix.double()
    right, there, predicted = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    return right / (there + predicted - right), right / there


def means(matrix: Tensor) -> dict[str, float]:
    """``miou``, ``macc`` and ``aacc`` (over pixels), from 0 to 1; NaN where there is nothing to judge."""
    iou, accuracy = scores(matrix)
    whole = matrix.double()
    return {
        "miou": float(iou.nanmean()),
        "macc": float(accuracy.nanmean()),
        "aacc": float(whole.trace() / whole.sum()),
    }


def table(rows: Iterable[ClassScore]) -> str:
    """Lines of text: a class each, in percent, with "-" for what a class has not."""
    cells = [("class", "IoU %", "accuracy %", "pixels")]
    cells += [(row.name, _percent(row.iou), _percent(row.accuracy), f"{row.pixels:,}") for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *rest = widths
    lines = [
        "  ".join((name.ljust(first), *(x.rjust(width) for x, width in zip(figures, rest, strict=True))))
        for name, *figures in cells
    ]
    return "\n".join(lines)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f}"
