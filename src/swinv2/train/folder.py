"""The run folder: what a training run leaves behind."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor

from swinv2.checkpoint import save as save_weights
from swinv2.files import folder_aside, written_aside
from swinv2.model import SimMIM, SwinTransformer
from swinv2.train.plots import Row, confusion, curves, save

COLUMNS = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "val_loss",
    "val_top1",
    "val_top5",
    "seconds",
    "images_per_second",
    "data_images_per_second",
    "waited",
)
"""Columns of metrics.csv. Epochs count from 1; seconds include validation. The last three are of training alone: images
a second, those that all data workers could make, and the share of the time that training waited for them.
"""


class RunFolder:
    """Paths and files of a run; every file is complete at any time. Of several processes, only the first writes.

    Attributes:
        rows: metrics.csv, one row an epoch, oldest first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.csv"
        self.curves_picture = path / "curves.png"
        self.confusion_picture = path / "confusion.png"
        self.reconstructions_picture = path / "reconstructions.png"
        self.best = path / "best.safetensors"
        self.last = path / "checkpoints" / "last.ckpt"
        self.skipped = path / "skipped.txt"
        self.tensorboard = path / "tensorboard"
        self.rows = _read(self.metrics) if self.metrics.exists() else []

    @rank_zero_only
    def create(self, config: str) -> None:
        """Make the folder with its recipe in it, without which a run that is killed at once could not go on."""
        with folder_aside(self.path) as draft:
            RunFolder(draft).write_config(config)

    @rank_zero_only
    def begin(self, config: str) -> None:
        """Write the recipe, which may be another one on resume, and the metrics so far."""
        self.write_config(config)
        self._write_metrics()

    def write_config(self, config: str) -> None:
        """Replace config.yaml."""
        with written_aside(self.config) as draft:
            draft.write_text(config, encoding="utf-8", errors="backslashreplace")

    @rank_zero_only
    def record(self, row: Row) -> None:
        """Put the row of an epoch into metrics.csv, in place of an older one of that epoch, and redraw the curves."""
        self.rows = sorted([*(r for r in self.rows if r["epoch"] != row["epoch"]), row], key=_epoch)
        self._write_metrics()

    @rank_zero_only
    def keep_best(self, model: SwinTransformer | SimMIM) -> None:
        """Replace best.safetensors, which holds what the model's `info` says too."""
        save_weights(model, self.best)

    @rank_zero_only
    def draw_confusion(self, counts: Tensor, classes: Sequence[str], title: str) -> None:
        """Replace the confusion matrix of the best weights."""
        save(confusion(counts, classes, title), self.confusion_picture)

    @rank_zero_only
    def remove(self) -> None:
        """Take away what a start that failed has left."""
        shutil.rmtree(self.path, ignore_errors=True)

    @rank_zero_only
    def list_skipped(self, lines: Iterable[str]) -> None:
        """Replace skipped.txt."""
        with written_aside(self.skipped) as draft:
            draft.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")

    def read_skipped(self) -> list[str]:
        """The lines of skipped.txt, if there is one."""
        return self.skipped.read_text(encoding="utf-8").splitlines() if self.skipped.exists() else []

    def contents(self) -> list[str]:
        """Names of what there is, for people."""
        return sorted(f"{p.name}/" if p.is_dir() else p.name for p in self.path.iterdir())

    def _write_metrics(self) -> None:
        with written_aside(self.metrics) as draft, draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        save(curves(self.rows), self.curves_picture)


def _read(metrics: Path) -> list[Row]:
    with metrics.open(newline="") as file:
        return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _number(cell: str) -> float | None:
    return int(cell) if cell.isdigit() else float(cell) if cell else None


def _epoch(row: Row) -> float:
    return row["epoch"] or 0.0
