"""What every task does alike as a Lightning module: count its loss, refuse what is no number, clip, optimise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric, SumMetric

from swinv2.config import Axes
from swinv2.model import Native
from swinv2.storage import metadata

Optimise = Callable[[nn.Module], OptimizerLRScheduler]
"""Makes the optimiser and its schedule for a model."""


REMEDY = "lower optimizer.base_lr, or lengthen the schedule's warm-up."
"""What to try where training diverges."""


class Diverged(ValueError):  # noqa: N818 (it says what happened)
    """The loss is not finite any more, so that the weights are worth nothing."""


class Metrics(Protocol):
    """What a task counts over the batches of a validation."""

    def images(self) -> int:
        """How many images were counted so far."""

    def scalars(self) -> dict[str, float]:
        """Figures by name, the loss among them if there is one; of all processes, which must all ask."""

    def reset(self) -> None:
        """Forget all batches."""


class Task(L.LightningModule):
    """Base of the tasks, which add their two steps.

    Args:
        model: What to train.
        metrics: What validation counts; a module.
        optimise: Makes the optimiser and its schedule.

    Attributes:
        classes: Names of the classes that labels mean, if there are any.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, model: Native, metrics: Metrics, *, optimise: Optimise) -> None:
        super().__init__()
        self.model: Any = model
        self.metrics: Any = metrics
        self.optimise = optimise
        self.train_loss = MeanMetric()
        self.train_images = SumMetric(nan_strategy="disable")
        self._figures: dict[str, float] | None = None

    def count(self, loss: Tensor, images: int) -> Tensor:
        """Note a training batch's loss, and return it; refuse one that is not finite."""
        self.check(loss.detach())
        self.train_loss.update(loss.detach(), images)
        self.log("train_loss", loss, prog_bar=True, batch_size=images)
        return loss

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's loss."""
        self.train_loss.reset()
        self.train_images.reset()

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's counts; refuse an epoch that trained on nothing."""
        if self.train_images.update_called and not self.train_images.compute():
            raise ValueError("none of the training samples can be read: check the files of the data.")
        self.metrics.reset()
        self._figures = None

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's metrics, which are of all processes."""
        self.log_dict({f"val_{name}": value for name, value in self.figures().items()}, rank_zero_only=True)

    @property
    def validated(self) -> bool:
        """Whether there are figures of a whole validation."""
        return self._figures is not None

    def figures(self) -> dict[str, float]:
        """The figures of the last validation by name, computed once."""
        if self._figures is None:
            self._figures = dict(self.metrics.scalars())
        return self._figures

    def check(self, loss: Tensor | float) -> None:
        """Raise `Diverged` where a loss is not finite."""
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {float(loss)} at step {self.global_step}: {REMEDY}")

    @property
    def has_peers(self) -> bool:
        """Whether other processes train the same model, and wait for this one's part of every step."""
        return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1

    def nothing(self) -> Tensor:
        """A loss of 0 from a blank image, for a process without images among others that wait for its part."""
        raise NotImplementedError

    def blank(self, size: Axes) -> Tensor:
        """One black image ``[1, C, *size]``."""
        weight = next(self.model.parameters())
        return torch.zeros(1, self.model.config.in_channels, *size, dtype=weight.dtype, device=self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what rebuilds the model, and what the labels of a resumed run must mean."""
        model = self.model
        checkpoint["model"] = metadata(model.config, model.info, model.kind, model.head_config)
        if self.classes:
            checkpoint["classes"] = list(self.classes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other classes."""
        if self.classes:
            check_classes(tuple(checkpoint["classes"]), self.classes)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm; Lightning's own way refuses fused optimisers in bf16-mixed, where nothing is scaled."""
        if gradient_clip_val:
            nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser and schedule.

        Whoever makes them knows the number of steps: asking Lightning for its estimate would set up the loaders before
        a checkpoint is restored, and theirs would not be.
        """
        return self.optimise(self.model)


def check_classes(trained: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """ValueError where a checkpoint was trained on other classes than the data have."""
    if trained != classes:
        odd = ", ".join(sorted(set(trained) ^ set(classes))[:5]) or "their order"
        raise ValueError(f"the classes of the checkpoint and of the data differ in {odd}: resume with the same ones.")
