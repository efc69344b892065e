"""What the jobs on folders, shards and data sets of images have in common, with labels and without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from swinv2.data.labelled import labelled_images
from swinv2.data.loading import Samples
from swinv2.data.sources import ImageSource, open_split
from swinv2.data.transforms import eval_transform, train_transform
from swinv2.train.job import Job
from swinv2.train.options import Recipe

SHOWN_CLASSES = 5
"""So many classes are named at the start."""


def enumerated(classes: Sequence[str]) -> str:
    """How many classes there are, and the first of them."""
    more = ", ..." if len(classes) > SHOWN_CLASSES else ""
    return f"{len(classes)} classes ({', '.join(classes[:SHOWN_CLASSES])}{more})"


def shared_data(recipe: Recipe) -> dict[str, Any]:
    """The options of a recipe's data that those with a layout of their own heed too."""
    return {name: getattr(recipe.data, name) for name in ("path", "val_fraction", "split_seed", "workers", "strict")}


class ImageJob(Job[ImageSource]):
    """A job on images, each of which is one sample.

    Attributes:
        labelled: Whether classes are wanted.
    """

    labelled: ClassVar[bool] = True

    def open(self, recipe: Recipe) -> tuple[ImageSource, ImageSource]:
        """See `Job`."""
        training, validation = (open_split(recipe.data, split, labelled=self.labelled) for split in ("train", "val"))
        return training, validation

    def samples(self, recipe: Recipe, source: ImageSource, *, augmented: bool) -> Samples:
        """See `Job`."""
        transform = train_transform(recipe.augment, recipe.input) if augmented else eval_transform(recipe.input)
        return labelled_images(source, transform, recipe.input.channels, recipe.data.strict)

    def describe(self, training: ImageSource, validation: ImageSource) -> str:
        """Classes, if there are any, and images."""
        classes, images = training.classes, super().describe(training, validation)
        return f"{enumerated(classes)}, {images}" if classes else images
