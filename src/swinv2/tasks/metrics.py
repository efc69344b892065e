"""What a classifier is judged by, in training and in `swinv2 evaluate` alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, SumMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

MOST_CLASSES_OF_MATRIX = 2000
"""The confusion matrix of more classes takes too much memory to count and is too fine to see."""


class ClassificationMetrics(nn.Module):
    """Mean cross entropy, top-1, top-5 (of fewer classes, of all) and the confusion matrix of any number of batches."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        columns = max(2, classes)  # torchmetrics knows no single class
        self.loss = MeanMetric(nan_strategy="disable")
        self.count = SumMetric(nan_strategy="disable")
        self.top1 = MulticlassAccuracy(columns, average="micro")
        self.top5 = MulticlassAccuracy(columns, top_k=min(5, classes), average="micro")
        has_matrix = classes <= MOST_CLASSES_OF_MATRIX
        self.confusion = MulticlassConfusionMatrix(columns) if has_matrix else None

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count `[B, classes]` logits against `[B]` labels; B may be 0."""
        logits = logits.float()
        self.count.update(len(labels))
        if not len(labels):
            return
        self.loss.update(F.cross_entropy(logits, labels, reduction="none"))
        if self.classes == 1:
            logits = F.pad(logits, (0, 1), value=float("-inf"))
        for metric in (self.top1, self.top5, self.confusion):
            if metric is not None:
                metric.update(logits, labels)

    def images(self) -> int:
        """How many images were counted so far."""
        return int(self.count.compute())

    def scalars(self) -> dict[str, float]:
        """Loss and accuracies so far."""
        return {name: float(getattr(self, name).compute()) for name in ("loss", "top1", "top5")}

    def matrix(self) -> Tensor | None:
        """Counts `[true class, predicted class]` so far; None beyond `MOST_CLASSES_OF_MATRIX`."""
        if self.confusion is None:
            return None
        counts: Tensor = self.confusion.compute()
        return counts.cpu()[: self.classes, : self.classes]

    def reset(self) -> None:
        """Forget all batches."""
        for metric in (self.loss, self.count, self.top1, self.top5, self.confusion):
            if metric is not None:
                metric.reset()
