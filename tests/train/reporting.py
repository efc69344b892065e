"""A training by torchrun, each of whose processes reports: `torchrun reporting.py RECIPE OUT` leaves OUT.RANK.

That holds the rows that the process validated last, how many images were counted by all, the figures, and the weights
that it keeps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from swinv2.tasks.base import Task
from swinv2.train import run
from swinv2.train.recipe import load_recipe
from swinv2.train.strategies import local


class Report(Callback):
    def __init__(self, out: Path) -> None:
        self.out = out
        self.rows: list[int] = []

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.rows = []

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.rows += batch.indices.tolist()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Task)
        report = {
            "rows": self.rows,
            "images": pl_module.metrics.images(),
            "figures": pl_module.figures(),
            "weights": {name: local(tensor).clone() for name, tensor in pl_module.model.state_dict().items()},
        }
        torch.save(report, f"{self.out}.{trainer.global_rank}")


if __name__ == "__main__":
    recipe, out = map(Path, sys.argv[1:])
    made = run._callbacks
    run._callbacks = lambda *arguments: [*made(*arguments), Report(out)]
    run.train(load_recipe(recipe), out)
