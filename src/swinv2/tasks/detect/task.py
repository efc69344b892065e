"""Detection and instance segmentation as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from swinv2.data.detection import DetectionBatch
from swinv2.data.sources.coco import CocoSource
from swinv2.model.detect.native import SwinDetector
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.detect.metrics import DetectionMetrics
from swinv2.tasks.detect.testing import originals


class DetectionTask(Task):
    """Trains a detector by the sum of its losses and validates it by COCO's average precision.

    Args:
        model: Losses or detections from images of any sizes.
        classes: Names of its classes.
        validation: The images that it is validated on, with their true objects.
        least: Height and width that training images are padded to at least.
        optimise: Makes the optimiser and its schedule.
    """

    def __init__(
        self,
        model: SwinDetector,
        classes: Sequence[str],
        validation: CocoSource,
        *,
        least: tuple[int, int] = (1, 1),
        optimise: Optimise,
    ) -> None:
        metrics = DetectionMetrics(validation, masks=model.settings.masks)
        super().__init__(model, metrics, optimise=optimise)
        self.classes = tuple(classes)
        self.least = least

    def training_step(self, batch: DetectionBatch, batch_idx: int) -> Tensor | None:
        """Sum of a batch's losses, each of which is logged; None without readable images."""
        images = len(batch.images)
        self.train_images.update(images)
        if not images:
            return self.nothing() if self.has_peers else None
        losses: dict[str, Tensor] = self.model(batch.images, batch.targets, least=self.least)
        self.log_dict({name: loss.detach() for name, loss in losses.items()}, batch_size=images)
        return self.count(torch.stack(list(losses.values())).sum(), images)

    def validation_step(self, batch: DetectionBatch, batch_idx: int) -> None:
        """Count a batch in `metrics`."""
        if batch.images:
            self.metrics.update(batch.indices.tolist(), originals(self.model(batch.images, paste=False), batch))
        elif self.has_peers:
            self.nothing()

    @override
    def nothing(self) -> Tensor:
        """See `Task`."""
        image = self.blank((self.model.last_stride, self.model.last_stride))[0]
        if not self.training:
            self.model([image], paste=False)
            return image.new_zeros(())
        empty = {
            "boxes": image.new_zeros(0, 4),
            "labels": torch.zeros(0, dtype=torch.long, device=image.device),
            "masks": torch.zeros(0, *image.shape[1:], dtype=torch.uint8, device=image.device),
            "semantic": torch.full(image.shape[1:], 255, device=image.device),
        }
        return 0.0 * torch.stack(list(self.model([image], [empty]).values())).sum()
