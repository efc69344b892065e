"""A task that nothing in the package knows: its own rows, batches, head, and a figure of which less is better.

The level of gray under noise is to be told; every seventh row cannot be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric, SumMetric

from swinv2.config import SwinConfig
from swinv2.data.image import UnreadableImage
from swinv2.data.loading import Samples
from swinv2.model import Native, SwinBackbone
from swinv2.tasks.base import Optimise, Task
from swinv2.train.folder import RunFolder
from swinv2.train.initial import Initial, described, fresh_config, own_info, prepared
from swinv2.train.job import Draw, Job
from swinv2.train.options import Recipe
from swinv2.train.scores import LOSSES, Metric, Panel, Scores

BROKEN = 7
ERROR = Metric(name="error", label="error", form="{:.4f}", highest=False)


@dataclass(frozen=True)
class Grays:
    """Rows of one level each."""

    count: int
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    def shards(self) -> Sequence[int]:
        raise ValueError("levels are no shards")

    def signature(self) -> bytes:
        return b"levels"

    def read(self, row: int) -> tuple[Tensor, float]:
        """An image under noise that is new in every epoch, and its level."""
        if row % BROKEN == BROKEN - 1:
            raise UnreadableImage(f"level {row}: broken.")
        level = (row * 37 % 100) / 100
        return level + 0.1 * torch.rand(3, 8, 8), level


class GrayBatch(NamedTuple):
    images: Tensor
    levels: Tensor
    indices: Tensor
    skipped: tuple[str, ...]
    seconds: float
    epoch: int


def flip(held: tuple[Tensor, float]) -> tuple[Tensor, float]:
    image, level = held
    return image.flip(-1) if torch.rand(()) < 0.5 else image, level


def collate(samples: Sequence[tuple[Tensor, float]], **common: Any) -> GrayBatch:
    images = torch.stack([image for image, _ in samples]) if samples else torch.empty(0)
    return GrayBatch(images, torch.tensor([level for _, level in samples]), **common)


def gray_samples(source: Grays) -> Samples:
    return Samples(source, read=source.read, transform=flip, collate=collate)


class Regressor(Native):
    """A backbone under a head of two layers, with the buffers of a BatchNorm."""

    kind = "regressor"

    def __init__(self, config: SwinConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.head_config = {"width": width}
        self.backbone = SwinBackbone(config, (0, -1))
        self.info = self.backbone.info
        self.first = nn.Linear(sum(self.backbone.channels), width)
        self.norm = nn.BatchNorm1d(width)
        self.last = nn.Linear(width, 1)

    def forward(self, images: Tensor) -> Tensor:
        pooled = [x.flatten(2).mean(-1) for x in self.backbone(images)]
        return self.last(self.norm(self.first(torch.cat(pooled, 1))).relu())[:, 0]


class Errors(nn.Module):
    """The mean error, and no loss."""

    def __init__(self) -> None:
        super().__init__()
        self.error = MeanMetric()
        self.count = SumMetric()

    def images(self) -> int:
        return int(self.count.compute())

    def scalars(self) -> dict[str, float]:
        return {"error": float(self.error.compute())}

    def reset(self) -> None:
        self.error.reset()
        self.count.reset()


class GrayTask(Task):
    def training_step(self, batch: GrayBatch, batch_idx: int) -> Tensor | None:
        self.train_images.update(len(batch.images))
        if not len(batch.images):
            return None
        return self.count(F.mse_loss(self.model(batch.images), batch.levels), len(batch.images))

    def validation_step(self, batch: GrayBatch, batch_idx: int) -> None:
        self.metrics.count.update(len(batch.images))
        self.metrics.error.update((self.model(batch.images) - batch.levels).abs())


class GrayJob(Job[Grays]):
    scores = Scores(metrics=(ERROR,), best=ERROR, panels=(Panel(unit="squared error", lines=LOSSES),))

    def open(self, recipe: Recipe) -> tuple[Grays, Grays]:
        return Grays(32, ("level 99: left out.",)), Grays(8)

    def initial(self, recipe: Recipe, training: Grays, last: Path | None) -> Initial:
        if last is not None:
            return prepared(described(last, recipe, Regressor.kind))
        recipe = recipe.completed()
        model = Regressor(fresh_config(recipe, num_classes=0), width=4)
        model.info = own_info(recipe, (), "swinv2")
        return prepared(Initial(model, recipe))

    def samples(self, recipe: Recipe, source: Grays, *, augmented: bool) -> Samples:
        return gray_samples(source)

    def task(self, start: Initial, training: Grays, validation: Grays, optimise: Optimise) -> Task:
        return GrayTask(start.model, Errors(), optimise=optimise)

    def drawing(self, start: Initial, folder: RunFolder, validation: Grays) -> Draw:
        return lambda task, reached: (folder.path / "best.txt").write_text(f"{reached}: {task.figures()['error']:.4f}")

    def remarks(self, folder: RunFolder) -> list[str]:
        return ["grays are told"]
