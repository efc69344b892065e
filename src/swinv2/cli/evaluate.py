"""`swinv2 evaluate`: weights on labelled images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swinv2.cli.output import add_output_options, check_targets, emit, remark, table
from swinv2.cli.weights import Classifier, add_weights_options, with_progress
from swinv2.data.options import DataOptions
from swinv2.train.recipe import parse

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from torch import Tensor

    from swinv2.data.sources import ImageSource
    from swinv2.tasks.metrics import ClassificationMetrics

DIVISION = ("val_fraction", "split_seed")
"""What training tells of how it held images out."""


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = _read(arguments, {})
    check_targets([options.output, options.confusion], options.overwrite)
    from swinv2.data.sources import open_split
    from swinv2.data.sources.base import Subset
    from swinv2.train.plots import confusion, save

    classifier = Classifier.load(options)
    options = _read(arguments, classifier.extra)
    source = open_split(options.data, options.split)
    labels = _labels(source, classifier, options)
    metrics, unreadable = _measure(classifier, source, labels, options)
    skipped = [*source.skipped, *unreadable]
    results = {
        "weights": options.weights,
        "data": options.data.path,
        "split": options.split,
        "image_size": classifier.preprocessing.size,
        "window_size": classifier.model.config.window_size,
        "images": metrics.images(),
        "skipped": len(skipped),
        **metrics.scalars(),
    }
    emit(json.dumps(results, indent=2) if options.format == "json" else _table(results), options.output)
    for line in skipped:
        remark(f"skipped {line}")
    if options.split == "val" and isinstance(source, Subset):
        share = f"{options.data.val_fraction:.0%} of {options.data.path} that training holds out"
        remark(f"these are the {share}: --split all measures all of it")
    if options.confusion:
        counts = metrics.matrix()
        if counts is None:
            raise ValueError(
                f"no {options.confusion} was drawn: {len(classifier.classes)} classes are too many to see."
            )
        save(confusion(counts, classifier.classes, f"top-1 {results['top1']:.2%}"), options.confusion)
        remark(f"wrote {options.confusion}")


def _read(arguments: Sequence[str], trained: Mapping[str, str]) -> Namespace:
    """The options; what training says of its split stands where none is given."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(prog="swinv2 evaluate", description="Measure weights.", exit_on_error=False)
    add_weights_options(parser)
    parser.add_argument("--split", choices=("val", "train", "all"), default="val", help="part of the data")
    parser.add_argument("--batch-size", type=int, default=64, help="images at once")
    parser.add_argument("--strict", action="store_true", help="the same as --data.strict true")
    parser.add_argument("--confusion", type=Path | None, metavar="PNG", help="draw the confusion matrix there")
    add_output_options(parser, ("table", "json"))
    parser.add_class_arguments(DataOptions, "data")
    parser.set_defaults({f"data.{name}": json.loads(trained[name]) for name in DIVISION if name in trained})
    options = parse(parser, arguments)
    if options.strict:
        options.data = replace(options.data, strict=True)
    return options


def _labels(source: ImageSource, classifier: Classifier, options: Namespace) -> Tensor:
    """The model's label of each of the data's labels, by class name, however its accents are encoded."""
    import torch

    from swinv2.data.classes import find_classes

    places = find_classes(source.classes, classifier.classes, numbered=True)
    if None in places:
        raise ValueError(
            f"{options.weights} does not know class {source.classes[places.index(None)]!r} of {options.data.path}: "
            f"it tells {len(classifier.classes)} classes apart, the first being {classifier.classes[0]!r}."
        )
    return torch.tensor(places)


def _measure(
    classifier: Classifier, source: ImageSource, labels: Tensor, options: Namespace
) -> tuple[ClassificationMetrics, list[str]]:
    from swinv2.tasks.inference import best_device, infer
    from swinv2.tasks.metrics import ClassificationMetrics

    loader = classifier.loader(
        source, batch_size=options.batch_size, workers=options.data.workers, strict=options.data.strict
    )
    metrics = ClassificationMetrics(len(classifier.classes))
    skipped: list[str] = []
    for batch, logits in with_progress(infer(classifier.model, loader, best_device()), len(loader)):
        skipped += batch.skipped
        if len(logits):
            metrics.update(logits, labels[batch.labels])
    if len(skipped) == len(source):
        raise ValueError(f"none of the {len(source)} images of {options.data.path} can be read: check the path.")
    return metrics, skipped


def _table(results: dict[str, Any]) -> str:
    from swinv2.train.initial import show_windows

    shown = {name: f"{value:.2%}" if name in ("top1", "top5") else value for name, value in results.items()}
    shown["image_size"] = "x".join(map(str, results["image_size"]))
    shown["window_size"] = show_windows(results["window_size"])
    shown["loss"] = f"{results['loss']:.4f}"
    return table(list(shown.items()))
