"""SimMIM pre-training as a Lightning module, of images and of clips."""

from __future__ import annotations

from torch import Tensor, nn
from torchmetrics import MeanMetric, SumMetric

from swinv2.data.labelled import Batch
from swinv2.data.loading import SampleKey
from swinv2.data.masking import Masking
from swinv2.model.simmim import SimMIM, Windows, check_window, masked_loss
from swinv2.tasks.base import Optimise, Task

EVERY_EPOCH = -1
"""Stands for the epoch in the masks of validation, which are the same in all of them."""


class SimMIMTask(Task):
    """Trains `model` to paint what is masked, and validates it; labels take no part.

    Args:
        model: Pixels `[B, C, *size]` from images or clips and masks of units.
        masking: Draws the masks; each sample's depends on the seed, the epoch and its row alone.
        target_window: Pixels over which targets are normalised; see `swinv2.model.simmim.normalised`.
        optimise: Makes the optimiser and its schedule.
        seed: Of the masks.
    """

    def __init__(
        self, model: SimMIM, masking: Masking, *, optimise: Optimise, target_window: Windows = 47, seed: int = 0
    ) -> None:
        super().__init__(model, ReconstructionMetrics(), optimise=optimise)
        if target_window is not None:
            check_window(target_window, model.config.ndim)
        self.masking = masking
        self.target_window = target_window
        self.seed = seed

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Loss of a batch under masks that are new in every epoch; None without readable images."""
        self.train_images.update(len(batch.images))
        if not len(batch.images):
            return self.nothing() if self.has_peers else None
        return self.count(self._loss(batch, batch.epoch), len(batch.images))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch in `metrics`."""
        images = len(batch.images)
        if not images and self.has_peers:
            self.nothing()
        self.metrics.update(self._loss(batch, EVERY_EPOCH) if images else None, images)

    def masks(self, images: Tensor, rows: list[int], epoch: int = EVERY_EPOCH) -> Tensor:
        """Masks `[B, *units]` of images `[B, C, *size]` that stand in these rows of their source."""
        keys = [SampleKey(self.seed, epoch, row) for row in rows]
        return self.masking.batch(images.shape[2:], keys).to(images.device)

    def nothing(self) -> Tensor:
        """See `Task`."""
        blank = self.blank(self.masking.pixels(self.model.config.ndim))
        return 0.0 * self.model(blank, self.masks(blank, [0])).sum()

    def _loss(self, batch: Batch, epoch: int) -> Tensor:
        mask = self.masks(batch.images, batch.indices.tolist(), epoch)
        return masked_loss(self.model(batch.images, mask), batch.images, mask, self.target_window)


class ReconstructionMetrics(nn.Module):
    """Mean loss of any number of batches."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = MeanMetric(nan_strategy="disable")
        self.count = SumMetric(nan_strategy="disable")

    def update(self, loss: Tensor | None, images: int) -> None:
        """Count the loss of a batch of so many images; a batch without any has none."""
        self.count.update(images)
        if loss is not None:
            self.loss.update(loss.expand(images))  # torchmetrics ignores weights where it ignores NaN

    def images(self) -> int:
        """How many images were counted so far."""
        return int(self.count.compute())

    def scalars(self) -> dict[str, float]:
        """The loss so far."""
        return {"loss": float(self.loss.compute())}

    def reset(self) -> None:
        """Forget all batches."""
        self.loss.reset()
        self.count.reset()
