"""Image classification as a Lightning module."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lightning as L
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric

from swinv2.data.loading import Batch
from swinv2.data.transforms import Mixing
from swinv2.model import SwinTransformer
from swinv2.tasks.metrics import ClassificationMetrics

Optimise = Callable[[nn.Module], OptimizerLRScheduler]
"""Makes the optimiser and its schedule for a model."""


class ClassificationTask(L.LightningModule):
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
        super().__init__()
        self.model = model
        self.classes = tuple(classes)
        self.optimise = optimise
        self.mixing = mixing
        self.label_smoothing = 0.0 if mixing else label_smoothing
        self.train_loss = MeanMetric()
        self.metrics = ClassificationMetrics(len(self.classes))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Loss of a batch against hard or soft targets."""
        images, targets = batch.images, batch.labels
        if not len(images):
            return None
        if self.mixing:
            images, targets = self.mixing(images, targets)
        logits = self.model(images).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.train_loss.update(loss.detach(), len(images))
        self.log("train_loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch in `metrics`."""
        if len(batch.images):
            self.metrics.update(self.model(batch.images), batch.labels)

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's loss."""
        self.train_loss.reset()

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's counts."""
        self.metrics.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's metrics, which are of all processes."""
        scalars = {f"val_{name}": value for name, value in self.metrics.scalars().items()}
        self.log_dict(scalars, rank_zero_only=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser and schedule.

        Whoever makes them knows the number of steps: asking Lightning for its estimate would set up the loaders before
        a checkpoint is restored, and theirs would not be.
        """
        return self.optimise(self.model)
