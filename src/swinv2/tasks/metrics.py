"""What a classifier is judged by, in training and in `swinv2 evaluate` alike."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix


class ClassificationMetrics(nn.Module):
    """Mean cross entropy, top-1, top-5 (of fewer classes, of all) and the confusion matrix of any number of batches."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.loss = MeanMetric()
        self.top1 = MulticlassAccuracy(classes, average="micro")
        self.top5 = MulticlassAccuracy(classes, top_k=min(5, classes), average="micro")
        self.confusion = MulticlassConfusionMatrix(classes)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count `[B, classes]` logits against `[B]` labels."""
        logits = logits.float()
        self.loss.update(F.cross_entropy(logits, labels, reduction="none"))
        for metric in (self.top1, self.top5, self.confusion):
            metric.update(logits, labels)

    def scalars(self) -> dict[str, float]:
        """Loss and accuracies so far."""
        return {name: float(getattr(self, name).compute()) for name in ("loss", "top1", "top5")}

    def matrix(self) -> Tensor:
        """Counts `[true class, predicted class]` so far."""
        counts: Tensor = self.confusion.compute()
        return counts.cpu()

    def reset(self) -> None:
        """Forget all batches."""
        for metric in (self.loss, self.top1, self.top5, self.confusion):
            metric.reset()
