"""The run folder: what a training run leaves behind."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only

from swinv2.checkpoint import save as save_weights
from swinv2.files import folder_aside, written_aside
from swinv2.model import Native
from swinv2.train.plots import curves, save
from swinv2.train.scores import Row, Scores


class RunFolder:
    """Paths and files of a run; every file is complete at any time. Of several processes, only the first writes.

    Args:
        path: The folder.
        scores: What its metrics.csv and curves.png show; who only reads needs none.

    Attributes:
        rows: metrics.csv, one row a validation, oldest first.
    """

    def __init__(self, path: Path, scores: Scores | None = None) -> None:
        self.path = path
        self.scores = scores or Scores()
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.csv"
        self.curves_picture = path / "curves.png"
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
        """Put a row into metrics.csv, in place of an older one of the same epoch, and redraw the curves."""
        self.rows = sorted([*(r for r in self.rows if r["epoch"] != row["epoch"]), row], key=_epoch)
        self._write_metrics()

    @rank_zero_only
    def keep_best(self, model: Native) -> None:
        """Replace best.safetensors, which holds what the model's `info` says too."""
        save_weights(model, self.best)

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
            writer = csv.DictWriter(file, self.scores.columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(self.rows)
        save(curves(self.rows, self.scores.panels), self.curves_picture)


def _read(metrics: Path) -> list[Row]:
    with metrics.open(newline="") as file:
        return [{name: _number(cell) for name, cell in row.items()} for row in csv.DictReader(file)]


def _number(cell: str) -> float | None:
    return int(cell) if cell.isdigit() else float(cell) if cell else None


def _epoch(row: Row) -> float:
    return row["epoch"] or 0.0
