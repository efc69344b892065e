"""Trainings that are killed with signal 9: run as `python killing.py`, one line of JSON in for each, one line out.

Each training is a fork of this process, which has imported everything, so that many take little time. `at` says when it
dies: null never, ["step", n] at the begin of the n-th training step that it makes, ["write", n] in the middle of the
n-th checkpoint that it writes, ["rename", n] before that takes its place, ["seconds", s] after that time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from swinv2.tasks.classify import ClassificationTask
from swinv2.train.recipe import load_recipe
from swinv2.train.run import train


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def die_before(owner: Any, name: str, call: int, first: Callable[..., None] = lambda *_: None) -> None:
    """Die in the n-th call of a function, after `first` had its arguments."""
    original, calls = getattr(owner, name), []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(0)
        if len(calls) == call:
            first(*arguments)
            die()
        return original(*arguments, **options)

    setattr(owner, name, wrapped)


def half(checkpoint: object, file: Any) -> None:
    """Write the first half of a checkpoint."""
    import io

    buffer = io.BytesIO()
    SAVE(checkpoint, buffer)
    file.write(buffer.getvalue()[: buffer.tell() // 2])
    file.flush()


SAVE = torch.save


def arrange(at: list[Any] | None) -> None:
    if at is None:
        return
    kind, when = at
    if kind == "step":
        die_before(ClassificationTask, "training_step", when)
    elif kind == "write":
        die_before(torch, "save", when, half)
    elif kind == "rename":
        checkpoints = iter(range(1, when + 1))
        original = Path.replace

        def replace(self: Path, target: Any) -> Path:
            if Path(target).name == "last.ckpt" and next(checkpoints) == when:
                die()
            return original(self, target)

        Path.replace = replace  # type: ignore[method-assign]
    else:
        threading.Timer(when, die).start()


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.dup2(2, 1)
            try:
                arrange(order["at"])
                train(load_recipe(Path(order["recipe"])), Path(order["out"]), resume=order["resume"])
                os._exit(0)
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
