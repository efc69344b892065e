"""`swinv2 evaluate`: a weights file on labelled images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from swinv2.cli.output import add_output_options, emit, refuse_existing, remark, table
from swinv2.data.options import DataOptions
from swinv2.train.recipe import parse

if TYPE_CHECKING:
    from torch import Tensor

    from swinv2.cli.weights import Classifier
    from swinv2.data.sources import ImageSource
    from swinv2.tasks.metrics import ClassificationMetrics


def main(arguments: Sequence[str]) -> None:
    """Run the verb."""
    options = _read(arguments)
    refuse_existing([options.output, options.confusion], options.overwrite)
    from swinv2.cli.weights import Classifier
    from swinv2.data.sources import open_split
    from swinv2.train.plots import confusion, save

    classifier = Classifier.load(options.weights)
    source = open_split(options.data, options.split)
    labels = _labels(source, classifier, options)
    metrics, skipped = _measure(classifier, source, labels, options)
    results = {"weights": str(options.weights), "data": options.data.path, "split": options.split}
    results |= {"images": len(source) - len(skipped), "skipped": len(skipped), **metrics.scalars()}
    emit(json.dumps(results, indent=2) if options.format == "json" else _table(results), options.output)
    for line in (*source.skipped, *skipped):
        remark(f"skipped {line}")
    if options.confusion:
        save(confusion(metrics.matrix(), classifier.classes, f"top-1 {results['top1']:.2%}"), options.confusion)
        remark(f"wrote {options.confusion}")


def _read(arguments: Sequence[str]) -> Namespace:
    parser = ArgumentParser(prog="swinv2 evaluate", description="Measure a weights file.", exit_on_error=False)
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="file that training wrote")
    parser.add_argument("--split", choices=("val", "train"), default="val", help="part of the data")
    parser.add_argument("--batch-size", type=int, default=64, help="images at once")
    parser.add_argument("--confusion", type=Path | None, metavar="PNG", help="draw the confusion matrix there")
    add_output_options(parser, ("table", "json"))
    parser.add_class_arguments(DataOptions, "data")
    return parse(parser, arguments)


def _labels(source: ImageSource, classifier: Classifier, options: Namespace) -> Tensor:
    """The model's label of each of the data's labels, by class name."""
    import torch

    known = {name: label for label, name in enumerate(classifier.classes)}
    for name in source.classes:
        if name not in known:
            raise ValueError(
                f"{options.weights} does not know class {name!r} of {options.data.path}: "
                f"it tells {len(known)} classes apart, the first being {classifier.classes[0]!r}."
            )
    return torch.tensor([known[name] for name in source.classes])


def _measure(
    classifier: Classifier, source: ImageSource, labels: Tensor, options: Namespace
) -> tuple[ClassificationMetrics, list[str]]:
    from swinv2.cli.weights import with_progress
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
    shown = {name: f"{value:.2%}" if name in ("top1", "top5") else value for name, value in results.items()}
    shown["loss"] = f"{results['loss']:.4f}"
    return table(list(shown.items()))
