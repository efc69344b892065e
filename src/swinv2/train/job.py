"""What a task brings to a training run: everything that `swinv2.train.run` does not know itself.

One module a task, named in `JOBS` and imported when a recipe asks for it. docs/extending.md shows how to add one.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from lightning.pytorch.callbacks import Callback

from swinv2.data.loading import Samples
from swinv2.data.sources.base import Source
from swinv2.tasks.base import Optimise, Task
from swinv2.train.folder import RunFolder
from swinv2.train.initial import Initial
from swinv2.train.options import Recipe
from swinv2.train.scores import Scores

S = TypeVar("S", bound=Source)

Draw = Callable[[Task, str], None]
"""Draws what the best weights do, told when they were reached. All processes call it; the first one writes."""

JOBS = {
    "classify": "swinv2.train.classify.ClassifyJob",
    "detect": "swinv2.train.detect.DetectJob",
    "segment": "swinv2.train.segment.SegmentJob",
    "simmim": "swinv2.train.simmim.SimMIMJob",
    "video": "swinv2.train.video.VideoJob",
}
"""The job of each task of a recipe."""


class Job(ABC, Generic[S]):
    """Base of the jobs, which hold no state: whatever they make is of the recipe that they are given.

    Attributes:
        scores: Metrics, curves, and what the best weights are best in.
    """

    scores: ClassVar[Scores]

    @abstractmethod
    def open(self, recipe: Recipe) -> tuple[S, S]:
        """The data to train on and to validate on."""

    @abstractmethod
    def initial(self, recipe: Recipe, training: S, last: Path | None) -> Initial:
        """The model before its first step: fresh, from weights, or as the checkpoint of a run that goes on tells."""

    @abstractmethod
    def samples(self, recipe: Recipe, source: S, *, augmented: bool) -> Samples:
        """How rows of the data become samples and batches, to train or to validate; the recipe is completed."""

    @abstractmethod
    def task(self, start: Initial, training: S, validation: S, optimise: Optimise) -> Task:
        """The Lightning module that trains the model."""

    def describe(self, training: S, validation: S) -> str:
        """The data in the first line of the log."""
        return f"{len(training)} + {len(validation)} images"

    def drawing(self, start: Initial, folder: RunFolder, validation: S) -> Draw | None:
        """What draws the best weights into the folder, if they can be drawn."""
        return None

    def callbacks(self, start: Initial, folder: RunFolder, validation: S) -> list[Callback]:
        """Further callbacks, after that of the best weights and before that of the moving average."""
        return []

    def remarks(self, folder: RunFolder) -> list[str]:
        """Further lines at the end of `swinv2 train`."""
        return []


def job_of(task: str) -> Job[Any]:
    """The job of a recipe's task."""
    module, name = JOBS[task].rsplit(".", 1)
    job: Job[Any] = getattr(importlib.import_module(module), name)()
    return job
