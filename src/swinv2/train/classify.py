"""What a run of classification has of its own: its model, its task, and the confusion matrix."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning.fabric.utilities.rank_zero import rank_zero_only
from torch import Tensor

from swinv2.checkpoint import load
from swinv2.data.classes import find_classes
from swinv2.data.sources import ImageSource
from swinv2.data.transforms import mixing
from swinv2.model import SwinTransformer
from swinv2.tasks.base import Optimise, Task
from swinv2.tasks.classify import ClassificationTask
from swinv2.train.folder import RunFolder
from swinv2.train.images import ImageJob
from swinv2.train.initial import (
    Initial,
    as_stored,
    asked,
    check_weights,
    described,
    fresh_config,
    own_info,
    prepared,
    what_changes,
)
from swinv2.train.job import Draw
from swinv2.train.options import Recipe
from swinv2.train.plots import confusion, save
from swinv2.train.scores import LOSSES, Metric, Panel, Scores

CONFUSION = "confusion.png"
TOP1, TOP5 = Metric(name="top1", label="top-1"), Metric(name="top5", label="top-5")
SCORES = Scores(
    metrics=(TOP1, TOP5),
    best=TOP1,
    panels=(
        Panel(unit="cross entropy", lines=LOSSES),
        Panel(unit="validation accuracy, %", lines={each.column: each.label for each in (TOP1, TOP5)}, scale=100),
    ),
)


class ClassifyJob(ImageJob):
    """Classification of images."""

    scores = SCORES

    def initial(self, recipe: Recipe, training: ImageSource, last: Path | None) -> Initial:
        """See `initial`."""
        return initial(recipe, training.classes, last)

    def task(self, start: Initial, training: ImageSource, validation: ImageSource, optimise: Optimise) -> Task:
        """See `Job`."""
        assert isinstance(start.model, SwinTransformer)
        classes, augment = training.classes, start.recipe.augment
        return ClassificationTask(
            start.model,
            classes,
            optimise=optimise,
            mixing=mixing(augment, len(classes)),
            label_smoothing=augment.label_smoothing,
        )

    def drawing(self, start: Initial, folder: RunFolder, validation: ImageSource) -> Draw:
        """See `draw_confusion`."""
        return partial(draw_confusion, folder)

    def remarks(self, folder: RunFolder) -> list[str]:
        """Why there is no confusion matrix."""
        there = (folder.path / CONFUSION).exists()
        return [] if there else [f"no {CONFUSION}: there are too many classes to see it"]


def draw_confusion(folder: RunFolder, task: Task, reached: str) -> None:
    """Draw the confusion matrix of the last validation, unless it has too many classes; all processes count it."""
    assert isinstance(task, ClassificationTask)
    counts = task.metrics.matrix()
    if counts is not None:
        title = f"{reached}, top-1 {task.figures()['top1']:.2%}"
        rank_zero_only(_save_confusion)(counts, task.classes, title, folder.path / CONFUSION)


def _save_confusion(counts: Tensor, classes: Sequence[str], title: str, path: Path) -> None:
    save(confusion(counts, classes, title), path)


def initial(recipe: Recipe, classes: Sequence[str], last: Path | None = None) -> Initial:
    """The model of a recipe for these classes, with its stages frozen.

    Args:
        recipe: What to train.
        classes: Names of the data's classes, in order.
        last: Checkpoint of a run that goes on: it tells the architecture, so that the recipe's weights are not read
            again; whoever goes on loads its parameters.

    Raises:
        ValueError: The recipe does not make a model, or the weights do not fit it; the message says why.
    """
    if last is not None:
        return prepared(described(last, recipe, SwinTransformer.kind))
    if recipe.model.weights:
        return prepared(_from_weights(recipe, recipe.model.weights, classes))
    return prepared(_fresh(recipe, classes))


def _fresh(recipe: Recipe, classes: Sequence[str]) -> Initial:
    recipe = recipe.completed()
    model = SwinTransformer(fresh_config(recipe, len(classes)))
    model.info = own_info(recipe, classes, model.info.source)
    return Initial(model, recipe)


def _from_weights(recipe: Recipe, weights: str, classes: Sequence[str]) -> Initial:
    """Opened twice: as the weights are, which decides what to ask of them, and as they shall be."""
    options = recipe.model
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stored = load(weights, dtype="keep", key=options.weights_key, **as_stored(options.overrides))
    check_weights(recipe, stored)
    whole = recipe.completed(stored.info.preprocessing)
    places = find_classes(classes, stored.info.classes)
    same = None not in places and len(places) == len(stored.info.classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # caught above
        model = load(
            weights,
            key=options.weights_key,
            in_channels=whole.input.channels,
            class_indices=[place for place in places if place is not None] if same else None,
            **asked(recipe, stored.config),
        )
    if not same:
        model.reset_head(len(classes))
    model.info = own_info(whole, classes, stored.info.source)
    head = f"new head for {len(classes)} classes"
    if same:
        head = "head kept" if places == list(range(len(places))) else "head kept, its classes in the order of the data"
    told = "; ".join([head, *what_changes(stored, model.config, recipe, whole)])
    warned = (f"note: {warning.message}" for warning in caught)
    return Initial(model, whole, (f"starting from {weights} ({stored.info.source}): {told}", *warned))
