"""What happens around training: moving averages, metrics.csv, the best weights, skipped files.

Order matters: `BestWeights` before `Ema`, so that it saves the weights that were validated.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, RichProgressBar, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from swinv2.data.loading import AnyBatch, Loader
from swinv2.tasks.base import Task
from swinv2.train.engine_options import TrainerOptions
from swinv2.train.folder import RunFolder
from swinv2.train.job import Draw
from swinv2.train.scores import Row
from swinv2.train.strategies import whole

Say = Callable[[str], None]


class Ema(WeightAveraging):
    """Moving average of the weights, which takes the model's place during validation and after training.

    Frozen weights stay as they are to the bit, which Lightning's own average (decay * a + (1 - decay) * b) rounds. Of
    whole numbers, such as a BatchNorm's count of batches, there is no average.
    """

    validating = False

    def __init__(self, decay: float) -> None:
        def average(kept: Tensor, new: Tensor, _: object) -> Tensor:
            return kept.lerp(new.to(kept.dtype), 1 - decay) if kept.is_floating_point() else new

        super().__init__(avg_fn=average)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average in."""
        super().on_validation_epoch_start(trainer, pl_module)
        self.validating = True

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the model's own weights back."""
        self.validating = False
        super().on_validation_epoch_end(trainer, pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """The same, where validation breaks off: the checkpoint tells the two apart."""
        if self.validating:
            self.on_validation_epoch_end(trainer, pl_module)


class Start(Callback):
    """Writes the recipe into the run folder and the first lines of the log, once training really starts."""

    def __init__(self, folder: RunFolder, config: str, remarks: Iterable[str], what: str, say: Say) -> None:
        self.folder = folder
        self.config = config
        self.remarks = remarks
        self.what = what
        self.say = rank_zero_only(say)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what training starts from, what is trained on, and on what."""
        self.folder.begin(self.config)
        for remark in self.remarks:
            self.say(remark)
        where = pl_module.device.type if trainer.world_size == 1 else f"{trainer.world_size} x {pl_module.device.type}"
        self.say(f"{self.what}, on {where}")


class BestWeights(Callback):
    """Keeps the weights with the best validated figures, as the folder's scores rank them, and a picture of them."""

    def __init__(self, folder: RunFolder, options: TrainerOptions, draw: Draw | None = None) -> None:
        self.folder = folder
        self.options = options
        self.draw = draw
        self.score = (-inf, -inf)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare, and save if better; refuse what was validated on nothing, or is no number."""
        assert isinstance(pl_module, Task)
        if not pl_module.metrics.images():
            raise ValueError("none of the validation samples can be read: check the files of the data.")
        figures = pl_module.figures()
        pl_module.check(figures.get("loss", 0.0))
        score = self.folder.scores.rank(figures)
        if score > self.score:
            self.score = score
            self.folder.keep_best(whole(pl_module.model))
            if self.draw is not None:
                self.draw(pl_module, self.options.after(trainer.current_epoch + 1))

    def state_dict(self) -> dict[str, Any]:
        """The score to beat."""
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The score to beat."""
        self.score = state_dict["score"]


class EpochRows(Callback):
    """Writes a row of metrics.csv and a line of the log for every epoch, or other round."""

    def __init__(self, folder: RunFolder, options: TrainerOptions, say: Say) -> None:
        self.folder = folder
        self.options = options
        self.say = rank_zero_only(say)
        self._begin()

    def _begin(self, loader: Loader | None = None) -> None:
        self.started = self.trained = time.perf_counter()
        self.images, self.rate = 0, 0.0
        self.loader = loader
        if loader is not None:
            loader.reset_clock()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; an epoch that is resumed half-way does not start again, and its row comes at its end."""
        self._begin(trainer.train_dataloader)
        reached = self._epoch(trainer.current_epoch)
        self.folder.rows = [row for row in self.folder.rows if (row["epoch"] or 0) <= reached]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._begin(trainer.train_dataloader)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: AnyBatch, batch_idx: int
    ) -> None:
        """Count images."""
        self.images += len(batch.indices) * trainer.world_size
        self.trained = time.perf_counter()
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record a complete epoch."""
        self._record(trainer, pl_module, trainer.current_epoch + 1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the part of an epoch that an interrupt has left, and is validated on its own."""
        if trainer.state.fn == TrainerFn.VALIDATING and self.loader is not None:
            self._record(trainer, pl_module, trainer.current_epoch + self.loader.handed_out / len(self.loader))

    def _record(self, trainer: L.Trainer, task: L.LightningModule, rounds: float) -> None:
        assert isinstance(task, Task)
        row = self._row(trainer, task, rounds)
        self.folder.record(row)
        options = self.options
        self.say("  ".join([f"{options.unit} {row[options.unit]}/{options.total}", *self.folder.scores.describe(row)]))

    def _row(self, trainer: L.Trainer, task: Task, rounds: float) -> Row:
        figures = task.figures() if task.validated else {}
        seconds = max(self.trained - self.started, 1e-9)
        data = self.loader.rate() * trainer.world_size if self.loader else 0.0
        waited = self.loader.waited / seconds if self.loader else 0.0
        return {
            "epoch": self._epoch(rounds),
            "step": trainer.global_step,
            "lr": self.rate,
            "train_loss": float(task.train_loss.compute()) if task.train_loss.update_called else None,
            "val_loss": figures.get("loss"),
            **{metric.column: figures.get(metric.name) for metric in self.folder.scores.metrics},
            "seconds": round(time.perf_counter() - self.started, 2),
            "images_per_second": round(self.images / seconds, 1),
            "data_images_per_second": round(data, 1),
            "waited": round(min(waited, 1.0), 3),
        }

    def _epoch(self, rounds: float) -> float:
        """Passes over the data after so many rounds: a whole number after whole epochs."""
        passes = round(self.loader.epochs(rounds), 4) if self.loader else float(rounds)
        return int(passes) if passes.is_integer() else passes


class Progress(RichProgressBar):
    """Lightning's bar on standard error, counting epochs from 1 or steps, as the rest of a run does, without a version
    that means nothing here.
    """

    def __init__(self, options: TrainerOptions) -> None:
        super().__init__(console_kwargs={"stderr": True})
        self.options = options

    def _init_progress(self, trainer: L.Trainer) -> None:
        """Let the log go where standard output goes, rather than above the bar, if that is a file."""
        stdout = sys.stdout
        super()._init_progress(trainer)
        if not stdout.isatty():
            sys.stdout = stdout

    def _get_train_description(self, current_epoch: int) -> str:
        return f"{self.options.after(current_epoch + 1)}/{self.options.total}"

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What the bar shows at its end."""
        return {name: value for name, value in super().get_metrics(trainer, pl_module).items() if name != "v_num"}


class SkippedFiles(Callback):
    """Lists every file that could not be read in skipped.txt, as soon as this process or, by epoch, another met it."""

    def __init__(self, folder: RunFolder, known: Iterable[str]) -> None:
        self.folder = folder
        self.known = known
        self.lines = dict.fromkeys(folder.read_skipped())

    def _add(self, lines: Iterable[str]) -> None:
        before = len(self.lines)
        self.lines |= dict.fromkeys(lines)
        if len(self.lines) > before:
            self.folder.list_skipped(self.lines)

    def on_fit_start(self, *_: Any) -> None:
        """Begin with the files that were left out from the start."""
        self._add(self.known)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: AnyBatch, *_: Any
    ) -> None:
        """Note what the batch lacks."""
        self._add(batch.skipped)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: AnyBatch, *_: Any
    ) -> None:
        """Note what the batch lacks."""
        self._add(batch.skipped)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what other processes met."""
        if dist.is_initialized():
            everyones: list[list[str]] = [[] for _ in range(trainer.world_size)]
            dist.all_gather_object(everyones, list(self.lines))
            self._add(itertools.chain(*everyones))
