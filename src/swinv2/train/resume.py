"""Stopping at any time, and going on from there as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint


class Interrupted(Exception):  # noqa: N818  # a request, not an error
    """Ctrl-C, raised where training can be resumed exactly."""


class Resumable(Checkpoint):
    """Keeps `last.ckpt`: after every epoch, at Ctrl-C and at any exception; with the state of all random generators.

    The first Ctrl-C ends training after the batch, or after the validation if that is running; a second one at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.requested = False
        self._training = False
        self._generators: dict[str, Any] | None = None

    @contextmanager
    def heeding_interrupts(self) -> Iterator[None]:
        """Take the first Ctrl-C as a request within the block; further ones end it as KeyboardInterrupt."""
        previous = signal.getsignal(signal.SIGINT)
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread:
            signal.signal(signal.SIGINT, self._request)
        try:
            yield
        except SystemExit as stop:  # what Lightning makes of it
            if isinstance(stop.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise
        finally:
            if in_main_thread:
                signal.signal(signal.SIGINT, previous)

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if multiprocessing.parent_process() is None:  # workers inherit this handler
            os.write(2, b"\nstopping as soon as all can be saved; Ctrl-C again stops at once\n")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on with the random numbers of the checkpoint."""
        self._training = True
        if self._generators:
            restore_generators(self._generators)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop if asked to, but let a last batch have its validation."""
        if self.requested and not trainer.is_last_batch:
            raise Interrupted

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save, and stop if asked to."""
        trainer.save_checkpoint(self.path)
        if self.requested:
            raise Interrupted

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save what training has reached; what fails before or after it must not touch the last checkpoint."""
        if self._training:
            self._training = False
            trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict[str, Any]:
        """States of the random generators."""
        return collect_generators()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until training starts."""
        self._generators = state_dict


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
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
