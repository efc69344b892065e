"""Stopping at any time, and going on from there as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from swinv2.data.loading import Loader
from swinv2.files import written_aside
from swinv2.tasks.base import REMEDY, Diverged
from swinv2.train.strategies import local

WORKER_EXIT = re.compile(r"DataLoader worker \(pid")


AFTERWARDS: Mapping[int, Callable[[int, FrameType | None], Any] | signal.Handlers] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_IGN,
}
"""What the second signal does: Ctrl-C stops at once, while a scheduler may well send its SIGTERM twice."""


class Interrupted(Exception):  # noqa: N818  # a request, not an error
    """Ctrl-C or SIGTERM, raised where training can be resumed exactly."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; Lightning's own way copies onto the live file where the
    temporary folder is on another disk.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write it whole, or leave what was there."""
        try:
            with written_aside(path) as aside, aside.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch makes the one of the other
            reason = str(error).partition("\n")[0]
            raise OSError(f"{path} cannot be written ({reason}) and is as it was: make room on its disk.") from error


def sweep(path: Path) -> None:
    """Remove what a process that was killed while it wrote a checkpoint has left beside it."""
    current = path.resolve()
    for left in path.parent.glob(f".{path.stem}.*"):
        if left.is_symlink() or left.is_file():
            left.unlink()
        elif left.resolve() != current:
            shutil.rmtree(left)


def check_progress(checkpoint: dict[str, Any], loader: Loader) -> None:
    """ValueError where the progress that a checkpoint tells is not one through these batches.

    Args:
        checkpoint: As `Resumable.on_save_checkpoint` left it.
        loader: What training is to go on with.
    """
    before, now = checkpoint["data"], loader.data
    if before != now:
        raise ValueError(
            f"the data have {now['images']} training samples, but the checkpoint was made with {before['images']}, or "
            "their labels differ: resume with the same data, or start a new run from its best.safetensors."
        )
    before = checkpoint.get("round", len(loader))
    if before != len(loader):
        raise ValueError(
            f"a validation comes every {len(loader)} batches, but the checkpoint was made with one every {before}: "
            "resume with the config.yaml of its run."
        )


@contextmanager
def interrupts_as_such() -> Iterator[None]:
    """KeyboardInterrupt where Lightning makes SystemExit of one."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


class Resumable(Checkpoint):
    """Keeps `last.ckpt`: after every epoch, when told to stop and at any exception; with the state of all generators.

    The first Ctrl-C ends training after the step, or after the validation if that is running; a second one at once.
    SIGTERM, with which schedulers stop a process, is the same from the first step on; before, it ends it as ever.

    Args:
        path: The checkpoint.
        seed: From which each of several processes draws its own random numbers.
        every: Steps between checkpoints within an epoch; None for none.

    Attributes:
        requested: What told training to stop, "Ctrl-C" or "SIGTERM"; "" for nothing.
        started: A step was made, so that there is something to keep.
    """

    def __init__(self, path: Path, seed: int = 0, every: int | None = None) -> None:
        self.path = path
        self.seed = seed
        self.every = every
        self.requested = ""
        self.started = False
        self._training = False
        self._generators: list[dict[str, Any]] = []

    @contextmanager
    def heeding_interrupts(self) -> Iterator[None]:
        """Take the first Ctrl-C as a request within the block; further ones end it as KeyboardInterrupt."""
        previous = signal.getsignal(signal.SIGINT)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread:
            signal.signal(signal.SIGINT, self._request)
        try:
            yield
        finally:
            if in_main_thread:
                signal.signal(signal.SIGINT, previous)

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.requested = "Ctrl-C" if signum == signal.SIGINT else signal.Signals(signum).name
        signal.signal(signum, AFTERWARDS[signum])
        if multiprocessing.parent_process() is None:  # workers inherit this handler
            os.write(2, b"\nstopping as soon as all can be saved; Ctrl-C again stops at once\n")

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store by what to know the data again, and the batches of a round, by which progress is counted."""
        assert isinstance(trainer.train_dataloader, Loader)
        checkpoint["data"] = trainer.train_dataloader.data
        checkpoint["round"] = len(trainer.train_dataloader)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the random numbers of the checkpoint, each process with its own."""
        self._training = True
        if threading.current_thread() is threading.main_thread():
            # Lightning's own handler, which it takes away again, stops between an epoch's last step and its validation
            signal.signal(signal.SIGTERM, self._request)
        if len(self._generators) == trainer.world_size:
            restore_generators(self._generators[trainer.global_rank])
        elif trainer.world_size > 1 or self._generators:  # other processes than before: nothing is there to go on with
            L.seed_everything(hash((self.seed, trainer.global_rank, trainer.global_step)) % 2**32, verbose=False)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save when it is time; stop after a whole step if asked to, but let a last batch have its validation."""
        self.started = trainer.global_step > 0
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not stepped or trainer.is_last_batch:
            return
        if self._asked(trainer):
            raise Interrupted
        if self.every and trainer.global_step % self.every == 0:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, and stop if asked to."""
        self._save(trainer)
        if self._asked(trainer):
            raise Interrupted

    def _asked(self, trainer: L.Trainer) -> bool:
        """Whether to stop, on which all processes agree: each hears of it at its own time, or not at all."""
        return trainer.strategy.reduce_boolean_decision(bool(self.requested), all=False)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save what training has reached; what fails before or after it must not touch the last checkpoint.

        Neither must weights that are worth nothing, nor an error of one process, while others wait for its gradients.
        """
        alone = trainer.world_size == 1 or isinstance(exception, Interrupted)
        if alone and self._training and self.started and not isinstance(exception, Diverged):
            self._training = False
            trainer.save_checkpoint(self.path)

    def _save(self, trainer: L.Trainer) -> None:
        finite = all(bool(local(p).isfinite().all()) for p in trainer.lightning_module.parameters())
        if not trainer.strategy.reduce_boolean_decision(finite):
            raise Diverged(f"weights are not finite after step {trainer.global_step}: {REMEDY}")
        try:
            trainer.save_checkpoint(self.path)
        except OSError:  # a full disk is not tried again
            self._training = False
            raise

    def caused(self, error: BaseException) -> bool:
        """Whether an error is our stop when told to, or that of the workers, which heard it as well."""
        exited = isinstance(error, RuntimeError) and WORKER_EXIT.search(str(error)) is not None
        return isinstance(error, Interrupted) or bool(self.requested and exited)

    def state_dict(self) -> dict[str, Any]:
        """States of the random generators of every process."""
        own = collect_generators()
        if not dist.is_initialized():
            return {"generators": [own]}
        every: list[dict[str, Any]] = [{}] * dist.get_world_size()
        dist.all_gather_object(every, own)
        return {"generators": every}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until training starts."""
        self._generators = state_dict["generators"]


def collect_generators() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's global generators, as torch.load(weights_only=True) accepts them."""
    numpy: Any = np.random.get_state(legacy=False)
    twister = {**numpy["state"], "key": numpy["state"]["key"].tolist()}
    return {
        "python": random.getstate(),
        "numpy": {**numpy, "state": twister},
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Undo what happened to the global generators since `collect_generators`."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    for device, generator in enumerate(states["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(generator, device)
