"""Image classification as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from swinv2.data.labelled import Batch
from swinv2.data.transforms import Mixing
from swinv2.model import SwinTransformer
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.metrics import ClassificationMetrics


class ClassificationTask(Task):
    """Trains `model` by cross entropy and validates it; a batch without readable images is skipped.

    Args:
        model: Logits `[B, len(classes)]` from images.
        classes: Their names.
        optimise: Makes the optimiser and its schedule.
        mixing: Mixes training images and makes soft targets of their labels, smoothing included; None for none.
        label_smoothing: Of training targets where there is no mixing, which brings its own.
    """

    def __init__(
        self,
        model: SwinTransformer,
        classes: Sequence[str],
        *,
        optimise: Optimise,
        mixing: Mixing | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(model, ClassificationMetrics(len(classes)), optimise=optimise)
        self.classes = tuple(classes)
        self.mixing = mixing
        self.label_smoothing = 0.0 if mixing else label_smoothing

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Loss of a batch against hard or soft targets."""
        images, targets = batch.images, batch.labels
        self.train_images.update(len(images))
        if not len(images):
            return self.nothing() if self.has_peers else None
        if self.mixing:
            images, targets = self.mixing(images, targets)
        logits = self.model(images).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return self.count(loss, len(images))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch in `metrics`."""
        images = batch.images
        if not len(images) and self.has_peers:
            self.nothing()
        self.metrics.update(self.model(images) if len(images) else images, batch.labels)

    def nothing(self) -> Tensor:
        """See `Task`."""
        return 0.0 * self.model(self.blank(self.model.strides[-1])).sum()
