"""A classifier from any weights, with its classes and its input, as the options of a verb ask for it."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from swinv2.cli.output import remark
from swinv2.cli.weights import given, with_progress
from swinv2.cli.windows import size, window
from swinv2.preprocessing import Preprocessing

if TYPE_CHECKING:
    from typing import Self

    from torch import Tensor

    from swinv2.checkpoint.reading import Raw
    from swinv2.data.labelled import Batch
    from swinv2.data.sources import ImageSource
    from swinv2.model import SwinTransformer


@dataclass(frozen=True)
class Classifier:
    """A model that knows its classes and its input.

    Attributes:
        word: What it looks at.
    """

    word: ClassVar[str] = "image"

    model: SwinTransformer
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    extra: Mapping[str, str]

    @classmethod
    def load(cls, options: argparse.Namespace, weights: Raw | None = None) -> Self:
        """What the options of `add_weights_options` say, of weights that may be read already.

        Raises:
            ValueError: The weights cannot be read, or neither they nor the options tell classes and input.
        """
        from swinv2 import checkpoint
        from swinv2.checkpoint.settle import MissingWindow

        with warnings.catch_warnings(record=True) as caught:
            try:
                model = checkpoint.load(
                    weights or options.weights,
                    key=options.key,
                    window_size=given(options, "window_size", window),
                    trained_window_size=given(options, "trained_window_size", window),
                )
            except MissingWindow:
                raise ValueError(
                    f"{options.weights} does not tell the window that its position bias was trained at: give it with "
                    "--trained-window-size, such as 8 or 16,16,16,8."
                ) from None
        classifier = cls(model, _classes(model, options), _preprocessing(model, options), model.info.extra)
        for warning in caught:
            remark(f"note: {warning.message}")
        return classifier

    @property
    def input(self) -> dict[str, Any]:
        """What the model is given, for people and JSON."""
        return {"image_size": self.preprocessing.size, "window_size": self.model.config.window_size}

    def look(
        self, source: ImageSource, *, batch_size: int, workers: int, strict: bool
    ) -> Iterator[tuple[Batch, Tensor]]:
        """Batches of a source with their logits, and a progress bar on a terminal."""
        from swinv2.data.labelled import labelled_images
        from swinv2.data.loading import make_loader
        from swinv2.data.transforms import eval_transform
        from swinv2.tasks.inference import best_device, infer

        samples = labelled_images(source, eval_transform(self.preprocessing), self.preprocessing.channels, strict)
        loader = make_loader(samples, batch_size=batch_size, shuffle=False, workers=workers)
        return with_progress(infer(self.model, loader, best_device()), len(loader))


def _classes(model: SwinTransformer, options: argparse.Namespace) -> tuple[str, ...]:
    from swinv2.data.classes import read_classes

    outputs = model.config.num_classes
    if not outputs:
        raise ValueError(f"{options.weights} has no head: give it one with swinv2 train --weights {options.weights}.")
    if not (options.classes or model.info.classes):
        raise ValueError(f"{options.weights} does not name its {outputs} classes: give them with --classes FILE.")
    classes = read_classes(Path(options.classes)) if options.classes else model.info.classes
    if len(classes) != outputs:
        raise ValueError(
            f"{options.classes} names {len(classes)} classes, but {options.weights} tells {outputs} apart."
        )
    return classes


def _preprocessing(model: SwinTransformer, options: argparse.Namespace) -> Preprocessing:
    """The weights' own, at the size that is asked for; ImageNet's where the weights tell none."""
    from swinv2.train.options import IMAGENET

    known = model.info.preprocessing
    if known is None:
        if model.config.in_channels != IMAGENET.channels:
            raise ValueError(
                f"{options.weights} does not tell mean and std of its {model.config.in_channels} channels: save it by "
                "swinv2.checkpoint.save with its preprocessing."
            )
        if options.image_size is None:
            raise ValueError(f"{options.weights} does not tell the size of its input: give it with --image-size.")
        remark(f"{options.weights} does not tell its mean and std: these are ImageNet's")
    asked = given(options, "image_size", size)
    known = known or IMAGENET
    if isinstance(asked, int):
        asked = (asked, asked)
    return known if asked is None else replace(known, size=asked)
