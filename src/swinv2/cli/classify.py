"""`swinv2 evaluate` and `swinv2 predict` for classifiers of images."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swinv2.cli.classifier import Classifier
from swinv2.cli.images import add_image_options, open_images, positive
from swinv2.cli.output import add_output_options, check_targets, emit, remark, table
from swinv2.cli.weights import add_weights_options, with_progress
from swinv2.data.options import DataOptions
from swinv2.train.recipe import parse

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from PIL import Image
    from torch import Tensor

    from swinv2.data.sources import ImageSource
    from swinv2.tasks.inference import Ranking
    from swinv2.tasks.metrics import ClassificationMetrics

DIVISION = ("val_fraction", "split_seed")
"""What training tells of how it held images out."""


def evaluate(arguments: Sequence[str]) -> None:
    """Measure a classifier on labelled images."""
    options = _evaluate_options(arguments, {})
    check_targets([options.output, options.confusion], options.overwrite)
    from swinv2.data.sources import open_split
    from swinv2.data.sources.base import Subset
    from swinv2.train.plots import confusion, save

    classifier = Classifier.load(options)
    options = _evaluate_options(arguments, classifier.extra)
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
    emit(json.dumps(results, indent=2) if options.format == "json" else _figures(results), options.output)
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


def _evaluate_options(arguments: Sequence[str], trained: Mapping[str, str]) -> Namespace:
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


def _figures(results: dict[str, Any]) -> str:
    from swinv2.train.initial import show_windows

    shown = {name: f"{value:.2%}" if name in ("top1", "top5") else value for name, value in results.items()}
    shown["image_size"] = "x".join(map(str, results["image_size"]))
    shown["window_size"] = show_windows(results["window_size"])
    shown["loss"] = f"{results['loss']:.4f}"
    return table(list(shown.items()))


def predict(arguments: Sequence[str]) -> None:
    """Name the likeliest classes of images."""
    options = _predict_parser().parse_args(arguments)
    check_targets([options.output, options.sheet], options.overwrite)
    source = open_images(options.images, options.strict)
    classifier = Classifier.load(options)
    rankings, unreadable = _rank(classifier, source, options)
    if not rankings:
        raise ValueError(f"none of the {len(source)} files is an image; the first is {unreadable[0]}")
    named = [(source.name(index), ranking) for index, ranking in rankings.items()]
    emit(FORMATS[options.format](named), options.output)
    if options.sheet:
        _draw_sheet(source, rankings, classifier.preprocessing.channels, options.sheet)
    skipped = [*source.skipped, *unreadable]
    for line in skipped:
        remark(f"skipped {line}")
    remark(f"{len(rankings)} images, {len(skipped)} files skipped")


def _predict_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="swinv2 predict", description="Name what is on images.")
    add_image_options(parser)
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="classes for each image (default: 5)")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw the images with their classes there")
    add_output_options(parser, tuple(FORMATS))
    return parser


def _rank(
    classifier: Classifier, source: ImageSource, options: argparse.Namespace
) -> tuple[dict[int, Ranking], list[str]]:
    """The ranking of every readable image by its index, and the reasons of the others."""
    from swinv2.tasks.inference import best_device, infer, rank

    loader = classifier.loader(source, batch_size=options.batch_size, workers=options.workers, strict=options.strict)
    rankings: dict[int, Ranking] = {}
    unreadable: list[str] = []
    for batch, logits in with_progress(infer(classifier.model, loader, best_device()), len(loader)):
        unreadable += batch.skipped
        if len(logits):
            rankings |= zip(batch.indices.tolist(), rank(logits, classifier.classes, options.top), strict=True)
    return rankings, unreadable


def _draw_sheet(source: ImageSource, rankings: dict[int, Ranking], channels: int, path: Path) -> None:
    from swinv2.cli.sheet import MOST, sheet
    from swinv2.train.plots import save

    shown = list(rankings)[:MOST]
    save(sheet([(_thumbnail(source.image(index, channels)), rankings[index]) for index in shown]), path)
    remark(f"wrote {path} with {len(shown)} of {len(rankings)} images")


def _thumbnail(image: Image.Image) -> Image.Image:
    from swinv2.cli.sheet import PIXELS

    image.thumbnail((PIXELS, PIXELS))
    return image


def _as_table(named: Sequence[tuple[str, Ranking]]) -> str:
    return table([(name, *(f"{label} {p:.1%}" for label, p in ranking)) for name, ranking in named])


def _as_json(named: Sequence[tuple[str, Ranking]]) -> str:
    entries = [
        {"file": name, "classes": [{"name": label, "probability": p} for label, p in ranking]}
        for name, ranking in named
    ]
    return json.dumps(entries, indent=2)


def _as_csv(named: Sequence[tuple[str, Ranking]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "rank", "class", "probability"))
    for name, ranking in named:
        writer.writerows((name, place, label, p) for place, (label, p) in enumerate(ranking, start=1))
    return text.getvalue()


FORMATS = {"table": _as_table, "json": _as_json, "csv": _as_csv}
