"""Classification of videos as a Lightning module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swinv2.data.labelled import Batch
from swinv2.model import SwinTransformer
from swinv2.tasks.classify import ClassificationTask
from swinv2.tasks.video_inference import average_views


class VideoTask(ClassificationTask):
    """Trains on clips `[B, C, T, H, W]`, and validates by the mean probability of the views `[B, V, C, T, H, W]`.

    Args:
        model: Logits `[B, len(classes)]` from clips.
        classes: Their names.
        views: V, which all processes go through one by one, those without readable videos too.
        options: See `ClassificationTask`.
    """

    def __init__(self, model: SwinTransformer, classes: Sequence[str], *, views: int = 1, **options: Any) -> None:
        super().__init__(model, classes, **options)
        self.views = views

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count a batch in `metrics`."""
        views = batch.images
        if len(views):
            views = average_views(self.model, views, at_once=len(views))
        elif self.has_peers:
            for _ in range(self.views):
                self.nothing()
        self.metrics.update(views, batch.labels)
