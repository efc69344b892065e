"""What happens around training: moving averages, metrics.csv, the best weights, skipped files.

Order matters: `BestWeights` before `Ema`, so that it saves the weights that were validated.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.callbacks import Callback, RichProgressBar, WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from swinv2.data.loading import Batch, Loader
from swinv2.tasks.base import Task
from swinv2.tasks.classify import ClassificationTask
from swinv2.train.folder import RunFolder
from swinv2.train.strategies import whole

Say = Callable[[str], None]


class Ema(WeightAveraging):
    """Moving average of the weights, which takes the model's place during validation and after training.

    Frozen weights stay as they are to the bit, which Lightning's own average (decay * a + (1 - decay) * b) rounds.
    """

    validating = False

    def __init__(self, decay: float) -> None:
        def average(kept: Tensor, new: Tensor, _: object) -> Tensor:
            return kept.lerp(new.to(kept.dtype), 1 - decay)

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
    """Keeps the weights with the highest validated top-1, if there is one (then the lowest loss), and a picture."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.score = (-1.0, 0.0)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compare, and save if better; refuse what was validated on nothing, or is no number."""
        assert isinstance(pl_module, Task)
        if not pl_module.metrics.images():
            raise ValueError("none of the validation images can be read: check the files of the data.")
        values = pl_module.metrics.scalars()
        pl_module.check(values["loss"])
        score = (values.get("top1", 0.0), -values["loss"])
        if score > self.score:
            self.score = score
            self.folder.keep_best(whole(pl_module.model))
            self.draw(pl_module, f"epoch {trainer.current_epoch + 1}")

    def draw(self, task: L.LightningModule, epoch: str) -> None:
        """Draw the confusion matrix of what was just kept."""
        assert isinstance(task, ClassificationTask)
        counts = task.metrics.matrix()
        if counts is not None:
            title = f"{epoch}, top-1 {task.metrics.scalars()['top1']:.2%}"
            self.folder.draw_confusion(counts, task.classes, title)

    def state_dict(self) -> dict[str, Any]:
        """The score to beat."""
        return {"score": self.score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The score to beat."""
        self.score = state_dict["score"]


class EpochRows(Callback):
    """Writes a row of metrics.csv and a line of the log for every epoch."""

    def __init__(self, folder: RunFolder, say: Say) -> None:
        self.folder = folder
        self.say = rank_zero_only(say)
        self._begin()

    def _begin(self, loader: Loader | None = None) -> None:
        self.started = self.trained = time.perf_counter()
        self.images, self.rate = 0, 0.0
        self.loader = loader
        if loader is not None:
            loader.reset_clock()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; an epoch that is resumed half-way does not start again."""
        self._begin(trainer.train_dataloader)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._begin(trainer.train_dataloader)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Count images."""
        self.images += len(batch.images) * trainer.world_size
        self.trained = time.perf_counter()
        self.rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record a complete epoch."""
        self._record(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record an epoch that was interrupted, and is validated on its own."""
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._record(trainer, pl_module)

    def _record(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        assert isinstance(task, Task)
        row = self._row(trainer, task)
        self.folder.record(row)
        self.say(describe(row, trainer.max_epochs or 0))

    def _row(self, trainer: L.Trainer, task: Task) -> dict[str, float | None]:
        validated = task.metrics.scalars() if task.metrics.loss.update_called else {}
        seconds = max(self.trained - self.started, 1e-9)
        data = self.loader.rate() * trainer.world_size if self.loader else 0.0
        waited = self.loader.waited / seconds if self.loader else 0.0
        return {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": self.rate,
            "train_loss": float(task.train_loss.compute()) if task.train_loss.update_called else None,
            **{f"val_{name}": validated.get(name) for name in ("loss", "top1", "top5")},
            "seconds": round(time.perf_counter() - self.started, 2),
            "images_per_second": round(self.images / seconds, 1),
            "data_images_per_second": round(data, 1),
            "waited": round(min(waited, 1.0), 3),
        }


def describe(row: dict[str, float | None], epochs: int) -> str:
    """One line of the log."""
    parts = [f"epoch {row['epoch']}/{epochs}"]
    formats = {"train_loss": "train loss {:.4f}", "val_loss": "val loss {:.4f}", "val_top1": "top-1 {:.2%}"}
    formats |= {"val_top5": "top-5 {:.2%}", "seconds": "{:.1f} s", "images_per_second": "{:.0f} images/s"}
    formats |= {"data_images_per_second": "data {:.0f} images/s", "waited": "waited {:.0%}"}
    parts += [text.format(row[name]) for name, text in formats.items() if row[name] is not None]
    return "  ".join(parts)


class Progress(RichProgressBar):
    """Lightning's bar on standard error, counting epochs from 1 as the rest of a run does, without a version that means
    nothing here.
    """

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})

    def _init_progress(self, trainer: L.Trainer) -> None:
        """Let the log go where standard output goes, rather than above the bar, if that is a file."""
        stdout = sys.stdout
        super()._init_progress(trainer)
        if not stdout.isatty():
            sys.stdout = stdout

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}/{self.trainer.max_epochs}"

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
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, *_: Any
    ) -> None:
        """Note what the batch lacks."""
        self._add(batch.skipped)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: Batch, *_: Any
    ) -> None:
        """Note what the batch lacks."""
        self._add(batch.skipped)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what other processes met."""
        if dist.is_initialized():
            everyones: list[list[str]] = [[] for _ in range(trainer.world_size)]
            dist.all_gather_object(everyones, list(self.lines))
            self._add(itertools.chain(*everyones))
