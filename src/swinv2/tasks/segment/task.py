"""Semantic segmentation as a Lightning module."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from typing_extensions import override

from swinv2.data.segmentation import SegmentationBatch, by_size
from swinv2.model.upernet import Segmenter
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.segment.inference import at_size
from swinv2.tasks.segment.loss import SegmentationLoss
from swinv2.tasks.segment.metrics import SegmentationMetrics
from swinv2.tasks.segment.options import LossOptions


class SegmentationTask(Task):
    """Trains UperNet and its auxiliary head on crops, and validates it on whole images by their own pixels.

    Args:
        model: Logits `[B, len(classes), H, W]` from images.
        classes: Their names.
        ignore_index: Label of the pixels that take no part.
        optimise: Makes the optimiser and its schedule.
        loss: Of both heads; by default plain cross entropy.
    """

    def __init__(
        self,
        model: Segmenter,
        classes: Sequence[str],
        ignore_index: int = 255,
        *,
        optimise: Optimise,
        loss: LossOptions | None = None,
    ) -> None:
        super().__init__(model, SegmentationMetrics(classes, ignore_index), optimise=optimise)
        self.classes = tuple(classes)
        self.criterion = SegmentationLoss(len(self.classes), ignore_index, loss)

    def training_step(self, batch: SegmentationBatch, batch_idx: int) -> Tensor | None:
        """Sum of both heads' losses, each of which is logged; None without readable images."""
        images = len(batch.images)
        self.train_images.update(images)
        if not images:
            return self.nothing() if self.has_peers else None
        losses = self.losses(batch.images, batch.labels)
        self.log_dict({name: loss.detach() for name, loss in losses.items()}, batch_size=images)
        return self.count(torch.stack(list(losses.values())).sum(), images)

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss of each head, the auxiliary one's with its weight."""
        if self.model.auxiliary_head is None:
            return {"pixel_loss": self.criterion(self.model(images), labels)}
        logits, auxiliary = self.model(images, with_auxiliary=True)
        weight = self.model.heads.auxiliary_weight
        return {
            "pixel_loss": self.criterion(logits, labels),
            "auxiliary_loss": weight * self.criterion(auxiliary, labels),
        }

    def validation_step(self, batch: SegmentationBatch, batch_idx: int) -> None:
        """Count a batch in `metrics`: the images of each size in a pass of their own, as padding would be seen."""
        parts = list(by_size(batch))
        for part in parts:
            logits = self.model(part.images).float()
            self.metrics.update(at_size(logits, part.labels.shape[1:]), part.labels)
        if not parts:
            self.metrics.update(batch.images, batch.labels)
        for _ in range(self._most(len(parts)) - len(parts)):
            self.nothing()

    def _most(self, passes: int) -> int:
        """The most passes that a process takes, so that all take as many: they may share the weights."""
        if not self.has_peers:
            return passes
        most = torch.tensor(passes, device=self.device)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        return int(most)

    @override
    def nothing(self) -> Tensor:
        """See `Task`."""
        image = self.blank(self.model.backbone.strides[-1])
        if not self.training:
            self.model(image)
            return image.new_zeros(())
        labels = torch.full(image[:, 0].shape, self.criterion.ignore_index, device=image.device)
        return torch.stack(list(self.losses(image, labels).values())).sum()

    @override
    def figures(self) -> dict[str, float]:
        """See `Task`; refuse those of no labelled pixel."""
        figures = super().figures()
        if math.isnan(figures["aacc"]):
            raise ValueError(
                "no pixel of the validation images has a label: check the label maps, and ignore_index of the data."
            )
        return figures
