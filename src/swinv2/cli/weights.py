"""What the verbs that use weights have in common."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from swinv2.cli.output import remark
from swinv2.cli.windows import size, window
from swinv2.config import spread_image_size
from swinv2.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

    from swinv2.data.loading import Batch
    from swinv2.data.sources import ImageSource
    from swinv2.model import SwinTransformer

T = TypeVar("T")


def add_weights_options(parser: argparse.ArgumentParser) -> None:
    """Options by which weights are chosen, and made to run at another resolution or window."""
    add = parser.add_argument
    add("--weights", type=str, required=True, metavar="FILE|ID", help="file, folder or hub id, in any known format")
    add("--key", help="which weights to take where the file holds several")
    add("--classes", metavar="FILE", help="class names, one a line, instead of those in the weights")
    add("--image-size", metavar="S", help="another size of the input: 256, or 192x256 (height, width)")
    add("--window-size", metavar="W", help="another window: 16, or 16,16,16,8 (one a stage)")
    add("--trained-window-size", metavar="W", help="window of the first training, if the file is silent")


def _given(options: argparse.Namespace, name: str, read: Callable[[str], T]) -> T | None:
    """An option as `read` reads it; jsonargparse would apply a type of ours twice, and show it in its help."""
    text = getattr(options, name)
    try:
        return None if text is None else read(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--{name.replace('_', '-')}: {error}.") from None


@dataclass(frozen=True)
class Classifier:
    """A model that knows its classes and its input."""

    model: SwinTransformer
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    extra: Mapping[str, str]

    @classmethod
    def load(cls, options: argparse.Namespace) -> Classifier:
        """What the options of `add_weights_options` say.

        Raises:
            ValueError: The weights cannot be read, or neither they nor the options tell classes and input.
        """
        from swinv2 import checkpoint
        from swinv2.checkpoint.settle import MissingWindow

        with warnings.catch_warnings(record=True) as caught:
            try:
                model = checkpoint.load(
                    options.weights,
                    key=options.key,
                    window_size=_given(options, "window_size", window),
                    trained_window_size=_given(options, "trained_window_size", window),
                )
            except MissingWindow:
                raise ValueError(
                    f"{options.weights} does not tell the window that its position bias was trained at: give it with "
                    "--trained-window-size, such as 8 or 16,16,16,8."
                ) from None
        if model.config.ndim != 2:
            raise ValueError(f"{options.weights} is a model of videos: classification takes those of images.")
        classifier = cls(model, _classes(model, options), _preprocessing(model, options), model.info.extra)
        for warning in caught:
            remark(f"note: {warning.message}")
        return classifier

    def loader(self, source: ImageSource, *, batch_size: int, workers: int, strict: bool) -> DataLoader[Batch]:
        """Batches of a source as this model wants them."""
        from swinv2.data.loading import Samples, make_loader
        from swinv2.data.transforms import eval_transform

        samples = Samples(source, eval_transform(self.preprocessing), self.preprocessing.channels, strict)
        return make_loader(samples, batch_size=batch_size, shuffle=False, workers=workers)


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
    asked = _given(options, "image_size", size)
    known = known or IMAGENET
    return known if asked is None else replace(known, size=spread_image_size(model.config, asked))


def with_progress(batches: Iterable[T], total: int) -> Iterator[T]:
    """The batches, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(track(batches, total=total, console=console, disable=not sys.stderr.isatty(), transient=True))
