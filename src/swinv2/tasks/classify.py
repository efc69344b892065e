"""Image classification as a Lightning module."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, SumMetric

from swinv2.data.loading import Batch
from swinv2.data.transforms import Mixing
from swinv2.model import SwinTransformer
from swinv2.storage import metadata
from swinv2.tasks.metrics import ClassificationMetrics

Optimise = Callable[[nn.Module], OptimizerLRScheduler]
"""Makes the optimiser and its schedule for a model."""


REMEDY = "lower optimizer.base_lr, or lengthen the schedule's warm-up."
"""What to try where training diverges."""


class Diverged(ValueError):  # noqa: N818 (it says what happened)
    """The loss is not finite any more, so that the weights are worth nothing."""


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
        self.train_images = SumMetric(nan_strategy="disable")
        self.metrics = ClassificationMetrics(len(self.classes))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Loss of a batch against hard or soft targets."""
        images, targets = batch.images, batch.labels
        self.train_images.update(len(images))
        if not len(images):
            return self._nothing() if self.trainer.world_size > 1 else None
        if self.mixing:
            images, targets = self.mixing(images, targets)
        logits = self.model(images).float()
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.check(loss.detach())
        self.train_loss.update(loss.detach(), len(images))
        self.log("train_loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch in `metrics`."""
        images = batch.images
        if not len(images) and self.trainer.world_size > 1:
            self._nothing()
        self.metrics.update(self.model(images) if len(images) else images, batch.labels)

    def _nothing(self) -> Tensor:
        """A loss of 0 from a blank image, for a process without images among others that wait for its part."""
        first = next(self.model.parameters())
        channels = self.model.config.in_channels
        blank = torch.zeros(1, channels, *self.model.strides[-1], dtype=first.dtype, device=self.device)
        return 0.0 * self.model(blank).sum()

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's loss."""
        self.train_loss.reset()
        self.train_images.reset()

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's counts; refuse an epoch that trained on nothing."""
        if self.train_images.update_called and not self.train_images.compute():
            raise ValueError("none of the training images can be read: check the files of the data.")
        self.metrics.reset()

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's metrics, which are of all processes."""
        scalars = {f"val_{name}": value for name, value in self.metrics.scalars().items()}
        self.log_dict(scalars, rank_zero_only=True)

    def check(self, loss: Tensor | float) -> None:
        """Raise `Diverged` where a loss is not finite."""
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {float(loss)} at step {self.global_step}: {REMEDY}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the classes, which the labels of a resumed run must mean, and what else rebuilds the model."""
        checkpoint["classes"] = list(self.classes)
        checkpoint["model"] = metadata(self.model.config, self.model.info)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other classes."""
        trained = tuple(checkpoint["classes"])
        if trained != self.classes:
            odd = ", ".join(sorted(set(trained) ^ set(self.classes))[:5]) or "their order"
            raise ValueError(
                f"the classes of the checkpoint and of the data differ in {odd}: resume with the same ones."
            )

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm; Lightning's own way refuses fused optimisers in bf16-mixed, where nothing is scaled."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser and schedule.

        Whoever makes them knows the number of steps: asking Lightning for its estimate would set up the loaders before
        a checkpoint is restored, and theirs would not be.
        """
        return self.optimise(self.model)
